//! Scenarios for real servers, where nobody sees in which order the records of several partitions were decided.

use crate::pipeline::{Hash, Join, PipelineDraw, Policy, Spelling, StepDraw, SubDraw, Unread};
use crate::scenario::{self, Acts, Scenario};
use std::collections::BTreeSet;
use tidegate::testing::{Act, Random, Sending};

/// Turns that are time enough to read all that was sent.
pub const REST: u16 = 200;
/// Number of each topic's own keys, and of the keys that its records go on under.
const KEYS: u64 = 5;

impl Scenario {
    /// The scenario of a seed for real servers: the order in which records of different partitions are decided must not
    /// matter, since it cannot be seen there. So
    /// - a row, and the state under a key, is changed by the records of one source topic only: topics have keys of their own,
    ///   a key lies in the same partition each time, and two steps that would meet the same keys have different tables;
    /// - a store in which one key's value depends on the others (how many there are), and a time to live, which the clock of
    ///   the whole task ends, are only there where the task has a single stream;
    /// - table topics are written and read before the streams begin;
    /// - no record halts its partition: none lies where it would, and one that cannot be read is a dead letter or passed by.
    pub fn for_real_servers(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pipeline = scenario::pipeline(&mut random);
        let keys = restrict(&mut pipeline);
        let mut knobs = scenario::knobs(&mut random);
        knobs.instances = *random.choose(&[2, 2, 3]);
        // The service takes no smaller ones, and these two from nobody.
        knobs.unpublished_rows = knobs.unpublished_rows.max(knobs.batch_rows);
        knobs.queued_records = knobs.queued_records.max(knobs.batch_rows);
        (knobs.transaction_rows, knobs.log_messages) = (10_000, 50_000);
        (knobs.letter_bytes, knobs.statement_rows) = (0, 0); // no server is set so
        (knobs.unpublished_bytes, knobs.transaction_bytes, knobs.cache_bytes) = (0, 0, 0);
        (knobs.recommit_ms, knobs.rebuild_ms, knobs.starts_at_end, knobs.skips_gaps) = (0, 0, false, false);
        let (records, poison) = (*random.choose(&[80, 200, 300]), *random.choose(&[10, 30]));
        let mut drawn = Acts { random: &mut random, pipeline: &pipeline, knobs: &knobs, n: 0, acts: Vec::new() };
        (0..records).for_each(|_| drawn.record(poison));
        let sends = drawn.acts.into_iter().filter_map(|act| match act {
            Act::Send(sending) => Some(sending),
            _ => None,
        });
        let (mut tables, mut streams) = (Vec::new(), Vec::new());
        for (number, mut sending) in sends.enumerate() {
            let is_table = keyed(&mut sending, number, &pipeline, &keys);
            if is_table { &mut tables } else { &mut streams }.push(Act::Send(sending));
        }
        let mut acts = tables;
        acts.push(Act::Turns(REST));
        acts.extend(under_way(&mut random, streams, knobs.instances));
        let rows = 4 * KEYS * pipeline.subs.len() as u64;
        Self { pipeline, knobs, acts, rows: i64::try_from(rows).unwrap() }
    }
}

/// Which keys the records of a sub-topology's topics have: numbers of blocks of [`KEYS`] keys.
#[derive(Clone, Default)]
struct Keys {
    /// The keys that the step sees: they change a row, or the state of a task.
    seen: BTreeSet<u64>,
    /// The keys that the step's records go on under where a later step changes keys.
    carried: BTreeSet<u64>,
}

const fn block(sub: usize, of: u64) -> u64 {
    4 * sub as u64 + of
}
const LEAD: u64 = 0;
const LEAD_CARRIES: u64 = 1;
const COMPANION: u64 = 2;
const COMPANION_CARRIES: u64 = 3;

/// Takes out of a pipeline everything that the order of several partitions decides; see [`Scenario::for_real_servers`].
fn restrict(pipeline: &mut PipelineDraw) -> Vec<Keys> {
    let mut all: Vec<Keys> = Vec::new();
    (pipeline.spelling, pipeline.makes_column) = (Spelling::Plain, false);
    pipeline.rolled_up = None; // its quarters are over by the clock of a partition
    for number in 0..pipeline.subs.len() {
        let (earlier, rest) = pipeline.subs.split_at_mut(number);
        let Some(sub) = rest.first_mut() else { continue };
        plain(sub, number);
        // Behind which record a pane runs depends on time, too: those that are left after half a second wait for another one.
        sub.window = sub.window.filter(|_| !sub.has_rows());
        sub.window.iter_mut().for_each(|window| (window.by_partition, window.idle_ms) = (false, None));
        // The clock of a partition depends on the order of those in front of it.
        (sub.has_timers, sub.every_ms, sub.pairing) = (false, None, None);
        let writer = earlier.iter().position(|other| other.destinations().contains(&sub.lead));
        let lead = writer.and_then(|writer| all.get(writer)).cloned().unwrap_or_else(|| Keys {
            seen: [block(number, LEAD)].into(),
            carried: [block(number, LEAD_CARRIES)].into(),
        });
        let mut keys = Keys { seen: if sub.rekeys { lead.carried.clone() } else { lead.seen }, carried: lead.carried };
        if sub.companion.is_some() {
            keys.seen.insert(block(number, COMPANION));
            keys.carried.insert(block(number, COMPANION_CARRIES));
        }
        if sub.companion.is_some() || (!sub.rekeys && sub.declared == Some(Policy::Repartition)) {
            (sub.has_store, sub.has_last, sub.ttl_ms, sub.window) = (false, false, None, None);
        }
        let meets = |step: StepDraw| {
            let mut others = earlier.iter().zip(&all);
            others.any(|(other, of_other)| other.step == step && !of_other.seen.is_disjoint(&keys.seen))
        };
        if let StepDraw::Update(table) = sub.step {
            let steps = [sub.step, StepDraw::Update(1 - table)];
            sub.step = steps.into_iter().find(|step| !meets(*step)).unwrap_or(StepDraw::Process);
        }
        all.push(keys);
    }
    all
}

/// Takes out of a step everything that servers or their tables are not set up for, and further inputs whose keys would
/// meet others'.
fn plain(sub: &mut SubDraw, number: usize) {
    if sub.lead.ends_with("-dlt") {
        sub.lead = format!("in-{number}");
    }
    // Nobody sees how the copies of one chain stand to those of another.
    if sub.is_chain {
        (sub.is_chain, sub.lead) = (false, format!("in-{number}"));
    }
    sub.merges = sub.merges.map(|_| false);
    (sub.rekeys_twice, sub.is_slim, sub.is_typed, sub.hash) = (false, false, false, Hash::Murmur2);
    (sub.has_second_table, sub.table_declared, sub.table_ttl_ms) = (false, None, None);
    (sub.table_of, sub.companion_of) = (None, None);
    sub.has_last = sub.has_last && sub.has_store;
    (sub.inserts, sub.deletes) = (false, false);
    if sub.unread == Unread::Halt {
        sub.unread = Unread::Letter; // nobody mends a record there
    }
}

/// Gives a record keys of its topic's own, and a partition that its key decides. Whether it is one of a table topic.
fn keyed(sending: &mut Sending, number: usize, pipeline: &PipelineDraw, keys: &[Keys]) -> bool {
    let topic = &sending.topic;
    let is_of = |sub: &SubDraw| sub.lead == *topic || sub.companion_topic() == *topic || sub.table_topic() == *topic;
    let at = pipeline.subs.iter().position(is_of).unwrap();
    let (sub, of_sub) = (&pipeline.subs[at], &keys[at]);
    let of_block = |block: u64, raw: &str| match raw.parse::<u64>() {
        Ok(key) if key < KEYS && raw.len() == 1 => Some((KEYS * block + key).to_string()),
        _ => None,
    };
    sending.partition = None;
    if sub.join != Join::No && sub.table_topic() == *topic {
        let blocks: Vec<u64> = of_sub.seen.iter().copied().collect();
        if let Some(key) = sending.key.as_ref().and_then(|raw| of_block(blocks[number % blocks.len()], raw)) {
            sending.key = Some(key);
        }
        return true;
    }
    let is_lead = sub.lead == *topic;
    let (own, carried) = if is_lead { (LEAD, LEAD_CARRIES) } else { (COMPANION, COMPANION_CARRIES) };
    let key = sending.key.as_ref().and_then(|raw| of_block(block(at, own), raw));
    // An odd key is one of the lead's only: two topics that had it would have a key in common.
    let first = || (KEYS * block(at, own)).to_string();
    sending.key = key.or_else(|| if is_lead { sending.key.clone() } else { Some(first()) });
    if let Some(value) = &mut sending.value
        && let Ok(mut event) = serde_json::from_str::<serde_json::Value>(value)
        && let Some(keys) = event.get_mut("keys").and_then(serde_json::Value::as_array_mut)
    {
        for key in keys {
            if let Some(own) = key.as_str().and_then(|raw| of_block(block(at, carried), raw)) {
                *key = own.into();
            }
        }
        // In which order the notices of several partitions come to a key of their own, or to a time, nobody can see; nor how a
        // step behind reads a key that lies in several partitions.
        let is_read = |topic: &String| pipeline.subs.iter().any(|other| other.reads(topic));
        let is_passed_on = sub.destinations().iter().any(is_read);
        if let Some(own) = event.get_mut("own").and_then(serde_json::Value::as_object_mut) {
            own.retain(|name, _| name != "key" && name != "after_ms" && (name != "partition_by" || !is_passed_on));
        }
        *value = event.to_string();
    }
    let may_stray = is_lead && sub.declared != Some(Policy::Stop);
    let key: Option<i32> = sending.key.as_ref().and_then(|key| key.parse().ok());
    sending.partition = key.filter(|key| may_stray && key % 5 == 3).map(|key| key / 5 % pipeline.partitions);
    false
}

/// The records in bursts, and the acts meanwhile.
fn under_way(random: &mut Random, streams: Vec<Act>, instances: usize) -> Vec<Act> {
    let mut bursts: Vec<Vec<Act>> = Vec::new();
    let most = *random.choose(&[3_u64, 20, 60]);
    let mut left = streams.into_iter().peekable();
    while left.peek().is_some() {
        let size = if bursts.is_empty() { 5 } else { usize::try_from(1 + random.below(most)).unwrap() };
        bursts.push(left.by_ref().take(size).collect());
    }
    let mut faults: Vec<u64> = vec![KILL];
    faults.extend(random.happens(50).then_some(KILL));
    faults.extend(random.happens(30).then_some(STOP));
    faults.extend(random.happens(40).then_some(FREEZE));
    let mut faults: Vec<(usize, u64)> =
        faults.into_iter().map(|fault| (1 + at_random(random, bursts.len().saturating_sub(1)), fault)).collect();
    let (mut acts, mut down) = (Vec::new(), Vec::new());
    let count = bursts.len();
    for (number, burst) in bursts.into_iter().enumerate() {
        let is_last = number + 1 == count;
        acts.extend(burst);
        acts.extend(down.drain(..).map(Act::Start));
        let pause = Act::Pass(*random.choose(&[0, 20, 60, 150]));
        acts.extend(if number == 0 { [Act::Turns(REST), Act::Pass(1)] } else { [pause, Act::Turns(2)] });
        let is_due = |(at, _): &mut (usize, u64)| *at <= number || is_last;
        for (_, fault) in faults.extract_if(.., is_due).collect::<Vec<_>>() {
            let first = at_random(random, instances);
            let up = (first..first + instances).map(|number| number % instances).find(|up| !down.contains(up));
            let Some(instance) = up else { continue };
            match fault {
                KILL => {
                    acts.push(Act::Kill(instance));
                    acts.extend(random.happens(30).then_some(Act::LoseDisk(instance)));
                    down.push(instance);
                }
                STOP => {
                    acts.push(Act::Stop(instance));
                    down.push(instance);
                }
                _ => acts.extend([
                    Act::Freeze(instance),
                    Act::Turns(2),
                    Act::Pass(4_500),
                    Act::Turns(4),
                    Act::Thaw(instance),
                ]),
            }
        }
    }
    acts
}

const KILL: u64 = 0;
const STOP: u64 = 1;
const FREEZE: u64 = 2;

fn at_random(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap()
}
