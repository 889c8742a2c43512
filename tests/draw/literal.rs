//! Judgement of a run without a step: engine and interpreter run the same steps of `src/flow` over the same bytes, so
//! that a mistake in there is a mistake on both sides. The algorithm of `pipeline.rs` is written here once more, over
//! maps. It takes only two things of the run: the order in which records were decided, and which of them became dead
//! letters.

#[path = "literal/closing.rs"]
mod closing;
#[path = "literal/pairing.rs"]
mod pairing;
#[path = "literal/timers.rs"]
mod timers;

use crate::pipeline::{
    Does, Event, Join, Nothing, OWN_HEADER, PipelineDraw, Place as At, Policy, REFUSED, Routed, Spans, StepDraw,
    SubDraw, TABLES, Tables, Unread, Values, WindowDraw, breaks, shown_with,
};
use crate::scenario::{DOC, ROWS, Scenario, first_row};
use std::collections::{BTreeMap, BTreeSet};
use tidegate::flow::key::partition_for;
use tidegate::flow::row::Value;
use tidegate::flow::{Key, KeyType};
use tidegate::testing::{Act, Disaster, Event as Happened, Finding, Message, Observed, Row};

/// The content of a notice, read by hand.
struct Told {
    n: u64,
    amount: f64,
    count: i64,
    hash: i64,
    seen: i64,
    trace: u64,
    is_intact: bool,
    pad: usize,
}

impl Told {
    fn read(value: &[u8]) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(value).ok()?;
        Some(Self {
            n: json.get("n")?.as_u64()?,
            amount: json.get("amount")?.as_f64()?,
            count: json.get("count")?.as_i64()?,
            hash: json.get("hash")?.as_i64()?,
            seen: json.get("seen")?.as_i64()?,
            trace: json.get("trace")?.as_u64()?,
            is_intact: json.get("is_intact")?.as_bool()?,
            pad: json.get("pad")?.as_str()?.len(),
        })
    }
}

/// A record of a source, and its outcome.
#[derive(Default)]
struct Came<'a> {
    record: Option<&'a Message>,
    /// By their numbers.
    notices: BTreeMap<u64, &'a Message>,
    /// The topics in which those lie.
    topics: BTreeMap<u64, &'a str>,
    /// The partitions of the notices.
    partitions: BTreeMap<u64, i32>,
    is_dead_letter: bool,
    /// Notices and dead letters of the timers that fired behind it, by their numbers.
    rings: BTreeMap<u64, &'a Message>,
    /// Whether its dead letter says that it was too late for its windows.
    is_late: bool,
    /// The code of its dead letter.
    code: Option<String>,
}

/// A topic, a partition, an offset.
type Place = (String, i32, i64);

/// The content of a row, or of the value under a key.
#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    version: i64,
    count: i64,
    sum: f64,
    hash: i64,
    small: i64,
    last: Option<i64>,
}

/// The state of one partition of a step.
#[derive(Default)]
struct Task {
    seen: BTreeMap<String, i64>,
    last: BTreeMap<String, u64>,
    sums: BTreeMap<Vec<u8>, Sums>,
    windows: BTreeMap<Vec<u8>, Windows>,
    pairs: BTreeMap<Vec<u8>, pairing::Waiting>,
    joined: BTreeMap<Vec<u8>, pairing::Both>,
    tables: [BTreeMap<Vec<u8>, i64>; 2],
    clock: Option<i64>,
    /// Whether each timer goes by the wall clock, and its time; by key and name.
    timers: BTreeMap<(Vec<u8>, String), (bool, i64)>,
    /// The time of the next tick.
    tick: Option<i64>,
}

/// The partner that a record finds in the tables joined with its step.
enum Partner {
    /// The number that goes into the hash.
    Known(i64),
    Nobody,
    /// A table whose values expire.
    Unknown,
}

/// The role of a topic in a step.
enum Role {
    Stream,
    Table(usize),
}

struct Look<'a> {
    scenario: &'a Scenario,
    seen: &'a Observed,
    came: BTreeMap<Place, Came<'a>>,
    tasks: BTreeMap<(usize, i32), Task>,
    rows: BTreeMap<(u8, Vec<u8>), Sums>,
    /// Rows that met a table whose values expire: of which not even the sums are known, and of which the hash is not.
    blurred: [BTreeSet<(u8, Vec<u8>)>; 2],
    notes: BTreeMap<(String, String), Value>,
    /// The wall clock over the record.
    now: i64,
    /// What the record itself makes its windows or pairs give out, where those of other keys may follow.
    pending: Vec<Pane>,
    limits: BTreeMap<String, f64>,
    wrong: Vec<String>,
    judged: BTreeSet<&'static str>,
}

/// Looks at everything that a run left behind.
pub fn check(scenario: &Scenario, seen: &Observed) -> Vec<Finding> {
    look(scenario, seen).0
}

/// The same, with the rules that had something to judge.
pub fn look(scenario: &Scenario, seen: &Observed) -> (Vec<Finding>, BTreeSet<&'static str>) {
    let is_recreated =
        |act: &Act| matches!(act, Act::Disaster(Disaster::Recreated(_)) | Act::Living(Disaster::Recreated(_)));
    if scenario.acts.iter().any(is_recreated) {
        return Default::default(); // other records lie where the published ones lay
    }
    let numbered = scenario.pipeline.subs.iter().enumerate();
    let limits =
        numbered.filter_map(|(number, sub)| Some((format!("limit-{number}"), sub.threshold? as f64))).collect();
    let rows = scenario.pipeline.tables().into_iter().flat_map(|table| {
        let first = |id: i64| Sums { sum: first_row(id).sum, last: Some(0), ..Sums::default() };
        (0..scenario.rows).map(move |id| ((table, spelt(&scenario.pipeline, id)), first(id)))
    });
    let mut look = Look {
        scenario,
        seen,
        came: came(seen),
        tasks: BTreeMap::new(),
        rows: rows.collect(),
        blurred: Default::default(),
        notes: BTreeMap::new(),
        now: 0,
        pending: Vec::new(),
        limits,
        wrong: Vec::new(),
        judged: BTreeSet::new(),
    };
    look.judge_notices();
    look.judge_kept_rows();
    if seen.struck.is_empty() && seen.halts.is_empty() {
        look.run();
        look.judge_rows();
        look.judge_copies();
    }
    let Look { wrong, judged, .. } = look;
    (wrong.into_iter().map(|detail| Finding { kind: "literal", detail }).collect(), judged)
}

/// The outcome of each record, by the ids in the messages written.
fn came(seen: &Observed) -> BTreeMap<Place, Came<'_>> {
    let mut came: BTreeMap<Place, Came<'_>> = BTreeMap::new();
    for (place, message) in seen.log.iter().flat_map(|(place, all)| all.iter().map(move |message| (place, message))) {
        let at = (place.topic.to_string(), place.partition.0, message.offset.0);
        came.entry(at).or_default().record = Some(message);
        let Some((source, number)) = header(message, "tg_id").and_then(|id| origin(&id)) else { continue };
        let of = came.entry(source).or_default();
        // A record that was a timer's notice, and came too late, is none there.
        let is_of_window = timers::is_of_window(message);
        if timers::is_of_timer(message) && !is_of_window && !place.topic.as_str().starts_with("late-") {
            of.rings.insert(number, message);
            of.topics.insert(number, place.topic.as_str());
            continue;
        }
        match header(message, "kafka_dlt-original-topic") {
            None => {
                of.notices.insert(number, message);
                of.topics.insert(number, place.topic.as_str());
                of.partitions.insert(number, place.partition.0);
            }
            // It is the window's, and not its record's.
            Some(_) if header(message, "tg_window").is_some() || is_of_window => {
                of.notices.insert(number, message);
                of.topics.insert(number, place.topic.as_str());
            }
            Some(_) => {
                of.is_dead_letter = true;
                of.code = header(message, "kafka_dlt-exception-fqcn");
                of.is_late |= of.code.as_deref() == Some("late");
            }
        }
    }
    came
}

// === Whatever happened to the run ===

impl Look<'_> {
    /// Each notice is about its record, passes the filter in front of its topic and names no value that it did not
    /// meet.
    fn judge_notices(&mut self) {
        for (number, sub) in self.scenario.pipeline.subs.iter().enumerate() {
            let (limits, known) = (limits(self.scenario, number, sub), partners(self.seen, sub));
            for ((topic, partition, offset), came) in &self.came {
                let Some(Role::Stream) = role(sub, number, topic) else { continue };
                let Some(record) = came.record else { continue }; // a disaster took it
                if let Some(what) = wrong_code(sub, record, came.code.as_deref()) {
                    self.wrong.push(format!("{topic}-{partition}@{offset}: {what}"));
                }
                let late = late_topic(sub, number);
                if let Some(what) = wrong_late(late.as_deref(), record, came) {
                    self.wrong.push(format!("{topic}-{partition}@{offset}: {what}"));
                }
                for (number, notice) in &came.notices {
                    if late.as_deref() == came.topics.get(number).copied() && late.is_some() {
                        continue;
                    }
                    if header(notice, "tg_window").is_some() || timers::is_of_window(notice) {
                        continue; // it lies with the dead letters
                    }
                    self.judged.extend(sub.routed.map(|_| "route"));
                    let told = notice.value.as_deref().and_then(Told::read).map(|told| told.n);
                    if goes_to(sub, told).as_deref() != came.topics.get(number).copied() {
                        self.wrong.push(format!("{topic}-{partition}@{offset}: {told:?} lies in {:?}", came.topics));
                    }
                }
                if sub.tells_otherwise() {
                    continue; // of windows, of pairs, or of two tables
                }
                let mut say = |what: String| self.wrong.push(format!("{topic}-{partition}@{offset}: {what}"));
                let Some(event) = event_in(sub, record) else {
                    if !came.notices.is_empty() {
                        say("is no event, and was announced".into());
                    }
                    continue;
                };
                for notice in came.notices.values() {
                    self.judged.insert("notice");
                    if let Err(what) = judge_notice(sub, record, &event, notice, &limits, &known) {
                        say(what);
                    }
                }
                if let Some(text) = event.own.partition_by.as_ref().filter(|_| !came.partitions.is_empty()) {
                    self.judged.insert("partition by a text");
                    let home = partition_for(text.as_bytes(), self.seen.partitions);
                    if came.partitions.values().any(|partition| *partition != home) {
                        say(format!("its notices belong into {home} by {text:?}, and lie in {:?}", came.partitions));
                    }
                }
            }
        }
    }

    /// The columns of a row fit each other: each change counts one up, and other columns stay.
    fn judge_kept_rows(&mut self) {
        for ((table, key), row) in &self.seen.rows {
            let Some(number) = TABLES.iter().position(|name| name == table) else { continue };
            let number = u8::try_from(number).unwrap_or(0);
            let makes =
                self.scenario.pipeline.subs.iter().any(|sub| sub.step == StepDraw::Update(number) && sub.inserts);
            let is_placed = |happened: &Happened| matches!(happened, Happened::Placed { table: placed, key: of, .. } if placed == table && of == key);
            // A record that changes nothing makes a row; others make rows as they like.
            let is_new = makes || self.seen.events.iter().any(is_placed);
            let of = self.scenario.pipeline.subs.iter().filter(|sub| sub.step == StepDraw::Update(number));
            let (slim, full): (Vec<&SubDraw>, Vec<&SubDraw>) = of.partition(|sub| sub.is_slim);
            let (count, small) = (number_in(row, "count"), number_in(row, "small"));
            let is_counted = !self.scenario.pipeline.is_versioned
                || count == Some(row.version)
                || (makes && count == Some(row.version - 1));
            let is_small = match (slim.is_empty(), full.is_empty()) {
                (_, true) => small.is_none(),
                (true, false) => small == count,
                (false, false) => small.is_some() && small <= count,
            };
            let is_rounding = self.scenario.pipeline.tables == Tables::Round;
            let is_rounded = is_rounding && count != Some(0);
            let is_text = matches!((row.values.get("sum"), row.values.get("mirror")),
                (Some(Value::F64(sum)), Some(Value::Text(text)))
                    if (is_new && is_rounding && text.is_empty())
                        || (if is_rounded { text.is_empty() } else { format!("{sum:?}") == *text }));
            let is_left = full.is_empty()
                || match row.values.get("doc") {
                    Some(Value::Json(doc)) => doc == DOC,
                    doc => is_new && doc == Some(&Value::Null),
                };
            if !is_counted || !is_small || !is_text || !is_left {
                self.wrong.push(format!("{table} {key}: version {}, {:?}", row.version, row.values));
            }
        }
    }
}

fn judge_notice(
    sub: &SubDraw,
    record: &Message,
    event: &Event,
    notice: &Message,
    limits: &[f64],
    known: &[BTreeMap<Vec<u8>, BTreeSet<i64>>; 2],
) -> Result<(), String> {
    judge_own(record, event, notice)?;
    if event.own.is_tombstone {
        return if notice.value.is_none() { Ok(()) } else { Err("its notice is no tombstone".into()) };
    }
    let told = notice.value.as_deref().and_then(Told::read).ok_or("its notice cannot be read")?;
    let is_of_it = told.n / 10 == event.n && told.n % 10 < u64::from(event.notices);
    if !is_of_it || !told.is_intact || told.pad != pad(event) {
        return Err("its notice tells of something else".into());
    }
    let mut traces = record.headers.iter().filter(|header| header.name == "trace");
    let trace = traces.next_back().and_then(|header| header.value.as_ref()).map_or(0, Vec::len);
    if usize::try_from(told.trace) != Ok(trace) {
        return Err(format!("its notice tells of a header of {} bytes, not of {trace}", told.trace));
    }
    if sub.has_filter && told.n.is_multiple_of(3) {
        return Err("its notice does not pass the filter".into());
    }
    match header(notice, "tg_threshold").and_then(|text| text.parse::<f64>().ok()) {
        Some(threshold) if told.amount >= threshold && limits.contains(&threshold) => {}
        None if limits.is_empty() => {}
        threshold => return Err(format!("its notice of {} reaches no {threshold:?}", told.amount)),
    }
    if sub.step == StepDraw::Process && changes(event) {
        if told.count != 1 || told.amount.to_bits() != sum_after(0.0, event).to_bits() {
            return Err(format!("its notice counts {} and sums up {}", told.count, told.amount));
        }
        let joined = told.hash.wrapping_sub(signed(event.n));
        let of = |table: usize, may_lack: bool| {
            let found = known[table].get(record.key.as_deref().unwrap_or_default()).into_iter().flatten().copied();
            found.chain(may_lack.then_some(-1)).collect::<Vec<i64>>()
        };
        let one = if sub.is_joined() { of(0, sub.join == Join::Left) } else { vec![0] };
        let other = if sub.has_two_tables() { of(1, true) } else { Vec::new() };
        let is_met = |one: &i64| match sub.has_two_tables() {
            true => other.iter().any(|other| one * 1_000 + other == joined),
            false => *one == joined,
        };
        if !one.iter().any(is_met) {
            return Err(format!("met {joined} in its tables, which hold {one:?} and {other:?} in their time"));
        }
    }
    let (times, prefix, before) = (told.seen % 1_000, told.seen / 1_000 % 1_000, told.seen / 1_000_000_000);
    // A late record's own key has expired by then.
    let is_counted = (times >= 1) == (event.does != Does::Delete);
    let is_there = prefix >= 1 || sub.ttl_ms.is_some() || event.does == Does::Delete;
    let is_seen = if sub.has_store { is_counted && is_there } else { told.seen % 1_000_000_000 == 0 };
    if !is_seen || (before != 0 && !sub.has_last) {
        return Err(format!("its notice has seen {}", told.seen));
    }
    Ok(())
}

/// The topic of a step's late records.
fn late_topic(sub: &SubDraw, number: usize) -> Option<String> {
    let keeps_late =
        sub.window.is_some_and(|drawn| drawn.keeps_late) || sub.pairing.is_some_and(|drawn| drawn.keeps_late);
    keeps_late.then(|| format!("late-{number}"))
}

/// Whether the record lies in the topic of late ones.
fn went_late(late: Option<&str>, came: &Came<'_>) -> bool {
    late.is_some_and(|late| came.topics.values().any(|topic| *topic == late))
}

/// What is wrong with the record in the topic of late ones, where it lies there.
fn wrong_late(late: Option<&str>, record: &Message, came: &Came<'_>) -> Option<String> {
    if !went_late(late, came) {
        return None;
    }
    let theirs = |message: &Message| {
        let own = message.headers.iter().filter(|header| !is_a_name_of_ours(&header.name));
        own.map(|header| (header.name.clone(), header.value.clone())).collect::<Vec<_>>()
    };
    let is_it = |found: &&Message| {
        let at = record.timestamp.0.max(1); // 0 is the moment of sending for Kafka's client
        let same = (&found.key, &found.value, found.timestamp.0) == (&record.key, &record.value, at);
        same && theirs(found) == theirs(record)
    };
    let is_right = came.notices.len() == 1 && came.notices.values().all(is_it);
    (!is_right).then(|| format!("is not in {late:?} as it came, but as {:?}", came.notices))
}

/// The topic of a notice of that number; none for a tombstone.
fn goes_to(sub: &SubDraw, n: Option<u64>) -> Option<String> {
    let first = sub.destination.clone()?;
    match (sub.routed, n.map_or(0, |n| n % 4)) {
        (None, _) | (_, 0) => Some(first),
        (_, 1) => Some(format!("{first}-b")),
        (Some(Routed::BranchOnly), _) => None,
        _ => Some(format!("{first}-c")),
    }
}

/// What a notice has beside its value is its own, or its record's.
fn judge_own(record: &Message, event: &Event, notice: &Message) -> Result<(), String> {
    let own = &event.own;
    let key = own.key.as_ref().map(|key| key.clone().into_bytes()).or_else(|| record.key.clone());
    let at = (record.timestamp.0 + own.after_ms.unwrap_or(0)).max(1); // 0 is the moment of sending for Kafka's client
    let came = record.headers.iter().filter(|header| !own.is_nothing() && !is_a_name_of_ours(&header.name));
    let came = came.map(|header| (&*header.name, header.value.as_deref()));
    let due: Vec<(&str, Option<&[u8]>)> =
        came.chain(own.header.as_ref().map(|_| (OWN_HEADER, Some(&b"own"[..])))).collect();
    let theirs = notice.headers.iter().filter(|header| !is_a_name_of_ours(&header.name));
    let found: Vec<(&str, Option<&[u8]>)> = theirs.map(|header| (&*header.name, header.value.as_deref())).collect();
    if notice.key != key || notice.timestamp.0 != at || found != due {
        return Err(format!("its notice has {:?}, {:?} and {found:?} of its own", notice.key, notice.timestamp));
    }
    Ok(())
}

fn is_a_name_of_ours(name: &str) -> bool {
    let ours = ["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"];
    ours.contains(&name) || name.starts_with("tg_") || name.starts_with("kafka_dlt-")
}

// === Where nothing was lost and nothing stands still ===

impl Look<'_> {
    /// Every decided record, one by one.
    fn run(&mut self) {
        let mut turns = timers::turns(self.scenario, self.seen);
        for happened in &self.seen.events {
            match happened {
                Happened::Decided(place, offset, is_applied) => {
                    let topic = place.topic.as_str();
                    let numbered = self.scenario.pipeline.subs.iter().enumerate();
                    let found =
                        numbered.filter_map(|(number, sub)| Some((number, sub, role(sub, number, topic)?))).next();
                    let Some((number, sub, role)) = found else { continue };
                    let at = (topic.to_owned(), place.partition.0, offset.0);
                    let task = (number, at.1);
                    let turned = timers::in_front_of(&mut turns, task, input_of(sub, number, topic), offset.0);
                    for turn in turned {
                        self.close_idle(task, sub, turn);
                        self.due(task, sub, (true, Some(turn)));
                    }
                    // Ends of transactions take offsets where we write.
                    let Some(
                        came @ Came {
                            record: Some(record), notices, topics, is_dead_letter, is_late, rings, code, ..
                        },
                    ) = self.came.get(&at)
                    else {
                        continue;
                    };
                    let is_ahead = code.as_deref() == Some("event-time-ahead");
                    let rings =
                        rings.iter().map(|(seq, message)| (*seq, (*message, topics.get(seq).copied()))).collect();
                    let own = notices.len() + usize::from(*is_dead_letter);
                    let is_sent_on =
                        sub.declared_as() == Some(Policy::Repartition) && topic == sub.lead && !*is_applied;
                    let went_late = went_late(late_topic(sub, number).as_deref(), came);
                    let is_late = *is_late || went_late;
                    let (record, notices, is_dead_letter) = (*record, notices.clone(), *is_dead_letter || is_sent_on);
                    let is_dead_letter = is_dead_letter || is_skipped(&self.scenario.pipeline, sub, &role, record);
                    // A declaration cannot be held against a record without a key.
                    let lacks_key = sub.declared_as().is_some() && topic == sub.lead && record.key.is_none();
                    let is_dead_letter = is_dead_letter || (lacks_key && sub.unread == Unread::Skip);
                    let is_stream = matches!(role, Role::Stream);
                    let topics = topics.clone();
                    let by_partition = is_stream && sub.gives_out_by_partition();
                    let side = (record, !is_companion(sub, topic));
                    let all = notices;
                    let notices = if by_partition { BTreeMap::new() } else { all.clone() };
                    self.now = self.seen.handled.get(&(place.clone(), *offset)).copied().unwrap_or(record.timestamp.0);
                    let said = match (role, &sub.pairing) {
                        (Role::Table(table), _) if !is_dead_letter => self.keep((number, at.1), table, record),
                        (Role::Table(_), _) => Ok(()),
                        (Role::Stream, _) if is_late => self.too_late((number, at.1), sub, record, went_late),
                        (Role::Stream, Some(drawn)) => self.pair(task, sub, drawn, side, is_dead_letter),
                        (Role::Stream, None) if sub.joins_tables => {
                            self.join_tables(task, sub, side, &notices, is_dead_letter)
                        }
                        (Role::Stream, None) => self.take((number, at.1), sub, record, &notices, is_dead_letter),
                    };
                    // A record that is sent on moves another task's clock, and one of the future none.
                    let moves = (!is_ahead && !is_sent_on).then_some(record.timestamp.0);
                    let late = late_topic(sub, number);
                    let rung = if let Some(drawn) = sub.pairing.as_ref().filter(|_| is_stream) {
                        self.forget_behind(task, sub, drawn, moves, late.as_deref(), (&all, &topics))
                    } else if by_partition {
                        self.close_behind(task, sub, (record, moves), late.as_deref(), (&all, &topics))
                    } else if is_stream && sub.has_timers {
                        self.ring(task, sub, moves, own, &rings)
                    } else {
                        Ok(())
                    };
                    for what in [said, rung].into_iter().filter_map(Result::err) {
                        self.wrong.push(format!("{topic}-{}@{offset}: {what}", at.1));
                    }
                }
                Happened::Threshold { name, value } => drop(self.limits.insert(name.clone(), *value)),
                Happened::Written { table, key, column, value } if column == "note" => {
                    self.notes.insert((table.clone(), key.to_string()), value.clone());
                }
                Happened::Placed { table, key, row } => self.place(table, key, row.as_ref()),
                Happened::Written { .. } | Happened::EverLasting | Happened::Turned(..) => {}
            }
        }
    }

    /// The key of a row.
    fn key_of(&self, key: &[u8]) -> Option<Key> {
        self.scenario.pipeline.key_type().parse(Some(key)).ok()
    }

    /// Somebody else inserted or deleted a row.
    fn place(&mut self, table: &str, key: &Key, row: Option<&Row>) {
        let number = TABLES.iter().position(|name| *name == table).and_then(|number| u8::try_from(number).ok());
        let Some(number) = number else { return };
        let pipeline = &self.scenario.pipeline;
        let Some(id) = (0..ROWS).find(|id| pipeline.key(*id) == *key) else { return };
        let place = (number, spelt(pipeline, id));
        self.notes.remove(&(table.to_owned(), key.to_string()));
        match row {
            Some(row) => {
                let sum = if let Some(Value::F64(sum)) = row.values.get("sum") { *sum } else { 0.0 };
                self.rows.insert(place, Sums { sum, last: Some(0), ..Sums::default() });
            }
            None => drop(self.rows.remove(&place)),
        }
    }

    fn keep(&mut self, task: (usize, i32), table: usize, record: &Message) -> Result<(), String> {
        let kept = &mut self.tasks.entry(task).or_default().tables[table];
        let key = record.key.clone().ok_or("has no key, and is no dead letter")?;
        match &record.value {
            None => drop(kept.remove(&key)),
            Some(value) => drop(kept.insert(key, user_in(value).ok_or("is no user, and is no dead letter")?)),
        }
        Ok(())
    }

    /// A record of a stream.
    fn take(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        record: &Message,
        notices: &BTreeMap<u64, &Message>,
        is_out: bool,
    ) -> Result<(), String> {
        let key = record.key.clone().unwrap_or_default();
        let event = event_in(sub, record);
        let partner = partner(sub, self.tasks.entry(task).or_default(), &key);
        let is_known = !matches!(partner, Partner::Unknown) || sub.join == Join::Left;
        let has_row = match sub.step {
            _ if sub.window.is_some() => true,
            StepDraw::Update(table) => sub.inserts || self.rows.contains_key(&(table, key.clone())),
            _ => true,
        };
        let passes_by = match (&event, &partner) {
            _ if is_out => true,
            _ if !has_row && self.scenario.knobs.missing_row.is_multiple_of(3) => true,
            _ if !has_row => return Err("has no row, and is no dead letter".into()),
            (None, _) => return Err("is no event, and is no dead letter".into()),
            (_, Partner::Nobody) => true,
            (Some(event), _) => event.does == Does::Skip,
        };
        let Some(event) = event.filter(|_| !passes_by) else {
            return if notices.is_empty() { Ok(()) } else { Err("changed nothing, and was announced".into()) };
        };
        let row = match sub.step {
            _ if sub.window.is_some() => None,
            StepDraw::Update(table) => Some((table, key.clone())),
            _ => None,
        };
        if let (Some(row), Partner::Unknown) = (&row, &partner) {
            self.blurred[usize::from(is_known)].insert(row.clone());
        }
        let is_blurred = |look: &Self, which: usize| row.as_ref().is_some_and(|row| look.blurred[which].contains(row));
        if !is_known || is_blurred(self, 0) {
            if is_known {
                self.look_into_stores(task, sub, record, &event);
                self.set_timer(task, sub, record, &event);
            }
            return Ok(());
        }
        // Before the algorithm sees it.
        if let Some(drawn) = sub.window.as_ref().filter(|drawn| drawn.skips_late && !drawn.keeps_late) {
            if let (StepDraw::Update(table), true) = (sub.step, sub.is_joined()) {
                self.blurred[0].insert((table, key)); // its windows are not followed: the interpreter looks at what is late
                return Ok(());
            }
            let Task { windows, clock, .. } = self.tasks.entry(task).or_default();
            if windows.entry(key.clone()).or_default().is_late(drawn, closing::time(drawn, record, *clock)) {
                return if notices.is_empty() { Ok(()) } else { Err("was too late, and was announced".into()) };
            }
        }
        let refused = [Does::Reject, Does::RetryForEver, Does::Die];
        let panics = match event.does {
            Does::Panic(At::Notices) => sub.window.is_none(), // those of the record are not asked for
            does => matches!(does, Does::Panic(At::Apply | At::Decode)),
        };
        // A value that no constraint looks at may hold what a row may not.
        let is_of_row = sub.has_rows() && sub.window.is_none();
        let has_constraint = is_of_row && self.scenario.pipeline.tables != Tables::Keep;
        let asks = event.does == Does::RetryUnlessRefused && has_constraint;
        let stalls = event.does == Does::Stall && sub.has_rows();
        let is_refused = sub.window.is_none() && event.notices > 0 && event.own.is_refused(record.timestamp.0);
        let table_has_row = match sub.step {
            StepDraw::Update(table) if is_of_row => self.rows.contains_key(&(table, key.clone())),
            _ => false,
        };
        let touches = event.does == Does::Touch && self.scenario.pipeline.has_made_column(sub) && table_has_row;
        if refused.contains(&event.does) || panics || asks || stalls || touches || is_refused {
            return Err(format!("{:?} and {:?}, and it is no dead letter", event.does, event.own));
        }
        let joined = match partner {
            Partner::Known(joined) if !is_blurred(self, 1) => Some(joined),
            _ => None,
        };
        if let Some(drawn) = &sub.window {
            return self.judge_windows(task, sub, drawn, (record, &event, joined), notices);
        }
        let seen = self.look_into_stores(task, sub, record, &event);
        self.set_timer(task, sub, record, &event);
        let sums = self.change(task, sub, record, &event, joined.unwrap_or(0));
        self.judge_announced(task.0, sub, &event, notices, (seen, &sums, joined))
    }

    /// The number that the step reads from its own stores.
    fn look_into_stores(&mut self, task: (usize, i32), sub: &SubDraw, record: &Message, event: &Event) -> i64 {
        let key = shown(self.scenario.pipeline.read_keys(sub), record.key.as_deref().unwrap_or_default());
        let Task { seen: store, last, .. } = self.tasks.entry(task).or_default();
        let mut seen = 0;
        if sub.has_store {
            if event.does == Does::Delete {
                store.remove(&key);
            } else {
                let times = store.entry(key.clone()).or_insert(0);
                *times += 1;
                seen = *times;
            }
            let between = store.keys().filter(|key| ("1".."4").contains(&key.as_str())).count();
            seen += 1_000 * i64::try_from(store.len() + 1_000 * between).unwrap_or(0);
        }
        if sub.has_last {
            seen += 1_000_000_000 * signed(last.insert(key, event.n).unwrap_or(0));
        }
        seen
    }

    /// The content of the row, or of the value under the key, behind the record.
    fn change(&mut self, task: (usize, i32), sub: &SubDraw, record: &Message, event: &Event, joined: i64) -> Sums {
        let key = record.key.clone().unwrap_or_default();
        let mut passing = Sums::default();
        let place = if let StepDraw::Update(table) = sub.step { Some((table, key.clone())) } else { None };
        let is_new = place.as_ref().is_some_and(|place| !self.rows.contains_key(place));
        if let (true, Some((table, _)), Some(name)) = (is_new, &place, self.key_of(&key)) {
            self.notes.remove(&(TABLES[usize::from(*table)].to_owned(), name.to_string()));
        }
        let new = Sums { last: Some(0), ..Sums::default() };
        let kept = match sub.step {
            StepDraw::Update(table) => self.rows.entry((table, key.clone())).or_insert(new),
            StepDraw::Aggregate => self.tasks.entry(task).or_default().sums.entry(key.clone()).or_default(),
            StepDraw::Process => &mut passing,
        };
        let before = *kept;
        let mut sums = before;
        let joined =
            if self.scenario.pipeline.shows_version(sub) { shown_with(before.version, joined) } else { joined };
        if sub.is_slim && sub.has_rows() {
            sums.hash = 0;
        }
        // A row is new whatever its first record does, unless its step may leave it out.
        let is_made = is_new && !sub.deletes;
        // One that goes is told with a version of its own.
        let goes = sub.deletes && !is_new && event.does == Does::Delete;
        sums.version += i64::from(goes || (is_made && !changes(event)));
        if changes(event) {
            sums.version += 1;
            sums.count += 1;
            sums.sum = sum_after(before.sum, event);
            sums.hash = sums.hash.wrapping_mul(31).wrapping_add(signed(event.n)).wrapping_add(joined);
            sums.small += 1;
            sums.last = (!event.n.is_multiple_of(4)).then(|| record.timestamp.0 - 1_767_225_600_000);
        }
        *kept = sums;
        if self.scenario.pipeline.tables == Tables::Round && sub.has_rows() && (changes(event) || is_made) {
            kept.sum = (sums.sum * 4.0).floor() / 4.0;
        }
        if sub.is_slim && sub.has_rows() {
            (kept.hash, kept.small, kept.last) = (before.hash, before.small, before.last);
        }
        if event.does == Does::Delete && sub.step == StepDraw::Aggregate && !sub.is_joined() {
            self.tasks.entry(task).or_default().sums.remove(&key);
        }
        if let Some(place) = place.filter(|_| sub.deletes) {
            let is_left_out = is_new && event.does == Does::Nothing;
            if event.does == Does::Delete || is_left_out {
                self.rows.remove(&place);
            }
        }
        sums
    }

    /// The published notices are the due ones: as many, in that order, with these numbers.
    fn judge_announced(
        &mut self,
        number: usize,
        sub: &SubDraw,
        event: &Event,
        notices: &BTreeMap<u64, &Message>,
        (seen, sums, joined): (i64, &Sums, Option<i64>),
    ) -> Result<(), String> {
        let knows_sums = sub.step != StepDraw::Aggregate || sub.ttl_ms.is_none();
        let limit = sub.threshold.and_then(|_| self.limits.get(&format!("limit-{number}")).copied());
        if sub.destination.is_none() || (limit.is_some() && !knows_sums) {
            return Ok(());
        }
        let all = (0..u64::from(event.notices)).map(|nth| 10 * event.n + nth);
        let is_gone = event.own.is_tombstone;
        let passes = |n: &u64| {
            let is_filtered = sub.has_filter && n.is_multiple_of(3);
            let goes_on = !is_filtered && goes_to(sub, Some(*n)).is_some();
            is_gone || (goes_on && limit.is_none_or(|limit| sums.sum >= limit))
        };
        let due: Vec<u64> = all.filter(passes).collect();
        let mut told: Vec<(u64, Told)> = Vec::new();
        for (number, notice) in notices {
            if !is_gone {
                told.push((*number, notice.value.as_deref().and_then(Told::read).ok_or("its notice cannot be read")?));
            }
            let version = header(notice, "tg_version").and_then(|text| text.parse::<i64>().ok());
            let is_versioned = sub.has_rows() && self.scenario.pipeline.is_versioned;
            if version != is_versioned.then_some(sums.version) {
                return Err(format!("its notice is of version {version:?}, and the row {}", sums.version));
            }
            let threshold = header(notice, "tg_threshold").and_then(|text| text.parse::<f64>().ok());
            if threshold != limit {
                return Err(format!("its notice reached {threshold:?}, and {limit:?} was in force"));
            }
        }
        if is_gone {
            self.judged.extend((!due.is_empty()).then_some("tombstone"));
            return if notices.len() == due.len() { Ok(()) } else { Err(format!("{} tombstones", notices.len())) };
        }
        let found: Vec<(u64, u64)> = told.iter().map(|(number, told)| (*number, told.n)).collect();
        if found != (0..).zip(due).collect::<Vec<_>>() {
            return Err(format!("its notices are {found:?}"));
        }
        let (asks, tells) = (event.notices > 0, !told.is_empty());
        let is_judged = [
            ("announced", asks),
            ("filter", asks && sub.has_filter),
            ("threshold", asks && limit.is_some()),
            ("join", tells && sub.is_joined() && joined.is_some() && knows_sums),
            ("store", tells && sub.has_store && sub.ttl_ms.is_none()),
            ("second store", tells && sub.has_last),
        ];
        self.judged.extend(is_judged.into_iter().filter_map(|(rule, is_judged)| is_judged.then_some(rule)));
        for (_, told) in &told {
            let hash = joined.map_or(told.hash, |_| sums.hash);
            let is_sum = (told.count, told.amount.to_bits(), told.hash) == (sums.count, sums.sum.to_bits(), hash);
            if knows_sums && !is_sum {
                return Err(format!(
                    "its notice says {} {} {}, not {} {} {hash}",
                    told.count, told.amount, told.hash, sums.count, sums.sum
                ));
            }
            let is_timed = sub.has_store && sub.ttl_ms.is_some();
            let only = if is_timed { 1_000_000_000 } else { 1 };
            if told.seen / only != seen / only {
                return Err(format!("its notice has seen {}, not {seen}", told.seen));
            }
        }
        Ok(())
    }
}

/// The windows of one key, each with the sums of its records.
#[derive(Default)]
struct Windows {
    clock: Option<i64>,
    spans: Vec<Span>,
    /// When the last record was handled.
    handled: i64,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: i64,
    end: i64,
    sums: Sums,
    emitted: i64,
    is_due: bool,
    /// While it is open: when it was told last, or began, whether it ever was, and whether there is more to tell.
    early: Option<(i64, bool, bool)>,
}

/// A window that is given out: its start, its sums, and why.
type GivenOut = (i64, Sums, i64);

impl Span {
    /// Whether an open window is told.
    fn is_told(&mut self, drawn: &WindowDraw, is_changed: bool, clock: i64) -> bool {
        let Some(every) = drawn.every_ms.map(signed) else { return is_changed && drawn.is_early };
        let before = self.early.unwrap_or((clock, false, false));
        let (since, is_told, has_news) = (before.0, before.1, before.2 || is_changed);
        let is_due = has_news && since + every <= clock;
        self.early = Some(if is_due { (clock, true, false) } else { (since, is_told, has_news) });
        is_due
    }
}

impl Windows {
    fn clock_at(&self, at: (i64, Option<i64>)) -> i64 {
        self.clock.max(at.1).map_or(at.0, |clock| clock.max(at.0))
    }

    /// Whether no window takes an event any more.
    fn is_late(&self, drawn: &WindowDraw, (at, of_partition): (i64, Option<i64>)) -> bool {
        let clock = self.clock_at((at, of_partition));
        let kept_for = signed(drawn.grace_ms + drawn.corrections_ms);
        let end_last = match drawn.shape {
            Spans::Tumbling(size) => at - at % signed(size) + signed(size),
            Spans::Hopping(size, every) => at - at % signed(every) + signed(size),
            Spans::Session(gap) => {
                // The clock of the partition may have passed by what was kept since the key's last event.
                let touches =
                    |span: &Span| span.start - signed(gap) <= at && at < span.end && span.end + kept_for > clock;
                if self.spans.iter().any(touches) {
                    return false;
                }
                at + signed(gap) + 1
            }
        };
        end_last + kept_for <= clock
    }

    /// Takes an event, and answers what is given out over it.
    fn take(
        &mut self,
        drawn: &WindowDraw,
        (at, of_partition): (i64, Option<i64>),
        add: impl Fn(&mut Sums),
    ) -> Vec<GivenOut> {
        let (clock, grace) = (self.clock_at((at, of_partition)), signed(drawn.grace_ms));
        let kept_for = grace + signed(drawn.corrections_ms);
        let (mut out, mut changed) = (Vec::new(), BTreeSet::new());
        let (size, every) = match drawn.shape {
            Spans::Tumbling(size) => (signed(size), signed(size)),
            Spans::Hopping(size, every) => (signed(size), signed(every)),
            Spans::Session(gap) => {
                changed.insert(self.join_sessions(drawn, (signed(gap), at, clock), &mut out));
                (0, 1)
            }
        };
        for start in (at - size + 1..=at).filter(|start| start % every == 0) {
            if self.spans.iter().all(|span| span.start != start) && start + size + kept_for > clock {
                let sums = Sums::default();
                self.spans.push(Span { start, end: start + size, sums, emitted: 0, is_due: false, early: None });
            }
            let is_it = |span: &&Span| span.start == start && span.end + kept_for > clock;
            changed.extend(self.spans.iter().find(is_it).map(|span| span.start));
        }
        self.spans.sort_by_key(|span| span.start);
        for span in &mut self.spans {
            let is_changed = changed.contains(&span.start);
            if is_changed {
                add(&mut span.sums);
                span.is_due = true;
            }
            let closes = is_changed || !drawn.by_partition;
            if span.is_due && span.end + grace <= clock && closes {
                out.push((span.start, span.sums, if span.emitted == 0 { 2 } else { 10 + span.emitted }));
                (span.emitted, span.is_due, span.early) = (span.emitted + 1, false, None);
            } else if span.end + grace > clock && span.is_told(drawn, is_changed, clock) {
                out.push((span.start, span.sums, 1));
            }
        }
        self.spans.retain(|span| span.is_due || span.end + kept_for > clock);
        self.clock = Some(clock);
        out
    }

    /// The start of the session of an event, which takes in those that it touches.
    fn join_sessions(&mut self, drawn: &WindowDraw, (gap, at, clock): (i64, i64, i64), out: &mut Vec<GivenOut>) -> i64 {
        let kept_for = signed(drawn.grace_ms + drawn.corrections_ms);
        let touches = |span: &Span| span.start - gap <= at && at < span.end && span.end + kept_for > clock;
        let (touched, apart): (Vec<Span>, Vec<Span>) = self.spans.iter().copied().partition(touches);
        let start = touched.iter().map(|span| span.start).chain([at]).min().unwrap_or(at);
        let end = touched.iter().map(|span| span.end).chain([at + gap + 1]).max().unwrap_or(at);
        let is_open = end + signed(drawn.grace_ms) > clock;
        let is_early = drawn.is_early && drawn.every_ms.is_none();
        for span in &touched {
            if span.emitted > 0 && (span.start != start || is_open) {
                out.push((span.start, span.sums, 3));
            } else if (is_early || span.early.is_some_and(|(_, is_told, _)| is_told)) && span.start != start {
                out.push((span.start, span.sums, 4));
            }
        }
        let first = touched.first().copied().unwrap_or(Span {
            start,
            end,
            sums: Sums::default(),
            emitted: 0,
            is_due: false,
            early: None,
        });
        let since = touched.iter().filter_map(|span| Some(span.early?.0)).max();
        let is_told = first.start == start && first.early.is_some_and(|(_, is_told, _)| is_told);
        let early = since.map(|since| (since, is_told, true));
        let emitted = if first.start == start && !is_open { first.emitted } else { 0 };
        let sums = touched.iter().skip(1).fold(first.sums, |sums, later| Sums {
            count: sums.count + later.sums.count,
            sum: sums.sum + later.sums.sum,
            hash: sums.hash.wrapping_mul(31).wrapping_add(later.sums.hash),
            ..sums
        });
        self.spans = apart;
        self.spans.push(Span { start, end, sums, emitted, is_due: first.is_due, early });
        start
    }
}

/// The number of the pane of a window that cannot be told.
const LOST: i64 = -1;

/// What a notice says: its number, a count, the bits of an amount, a hash, and why it was given out.
type Content = (u64, i64, u64, i64, i64);

/// What is told of a window that did not change its row.
const FOR_ROW_LOST: Content = (0, 0, 0, 0, LOST);

/// What is given out of a window, or of a pair.
struct Pane {
    key: Vec<u8>,
    /// What filter and route go by.
    n: u64,
    amount: f64,
    is_lost: bool,
    content: Content,
}

/// What is given out of a window.
fn pane(drawn: &WindowDraw, key: Vec<u8>, (start, sums, pane): GivenOut) -> Pane {
    let (n, is_lost) = (start.unsigned_abs(), drawn.is_fragile && breaks(sums.count));
    let content = if is_lost { (n, 0, 0, 0, LOST) } else { (n, sums.count, sums.sum.to_bits(), sums.hash, pane) };
    Pane { key, n, amount: sums.sum, is_lost, content }
}

/// Whether a topic is the other stream of a step.
fn is_companion(sub: &SubDraw, topic: &str) -> bool {
    sub.companion.is_some() && sub.companion_topic() == topic
}

impl Look<'_> {
    /// A record whose dead letter says that it was too late was, and so was one in the topic of such records.
    fn too_late(&mut self, task: (usize, i32), sub: &SubDraw, record: &Message, went_late: bool) -> Result<(), String> {
        self.judged.insert(if went_late { "topic of late records" } else { "late" });
        if let Some(drawn) = &sub.pairing {
            self.judged.insert("late for a pair");
            let is_right = if went_late { drawn.keeps_late } else { !drawn.skips_late && !drawn.keeps_late };
            let is_late = self.is_late_for_pairs(task, drawn, record) && is_right;
            return if is_late { Ok(()) } else { Err("went out as too late for a pair".into()) };
        }
        let Some(drawn) = &sub.window else { return Err("was too late, and its step has no windows".into()) };
        if sub.has_rows() && sub.is_joined() {
            return Ok(());
        }
        let key = record.key.clone().unwrap_or_default();
        let Task { windows, clock, .. } = self.tasks.entry(task).or_default();
        let (windows, time) = (windows.entry(key).or_default(), closing::time(drawn, record, *clock));
        let is_right = if went_late { drawn.keeps_late } else { !drawn.skips_late && !drawn.keeps_late };
        let is_late = windows.is_late(drawn, time) && is_right;
        if is_late { Ok(()) } else { Err(format!("went out as too late, of windows {:?}", windows.spans)) }
    }

    /// The notices of a step in windows tell of those that its record closed or changed.
    fn judge_windows(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        drawn: &WindowDraw,
        (record, event, joined): (&Message, &Event, Option<i64>),
        notices: &BTreeMap<u64, &Message>,
    ) -> Result<(), String> {
        let key = record.key.clone().unwrap_or_default();
        if let (StepDraw::Update(table), true) = (sub.step, sub.is_joined()) {
            self.blurred[0].insert((table, key)); // the interpreter looks at it
            return Ok(());
        }
        let Task { windows, clock, .. } = self.tasks.entry(task).or_default();
        let (windows, time) = (windows.entry(key.clone()).or_default(), closing::time(drawn, record, *clock));
        if windows.is_late(drawn, time) {
            return Err(format!("is too late, and was taken, of windows {:?}", windows.spans));
        }
        windows.handled = self.now;
        let given_out = windows.take(drawn, time, |sums| {
            if changes(event) {
                sums.count += 1;
                sums.sum = sum_after(sums.sum, event);
                sums.hash = sums.hash.wrapping_mul(31).wrapping_add(signed(event.n)).wrapping_add(joined.unwrap_or(0));
            }
        });
        let given_out = given_out.into_iter().map(|given_out| pane(drawn, key.clone(), given_out)).collect();
        if drawn.by_partition {
            self.pending = given_out;
            return Ok(());
        }
        let given_out = if sub.has_rows() { self.change_rows(sub, given_out) } else { given_out };
        self.judge_panes(task, sub, given_out, notices)
    }

    /// The notices tell of the windows or pairs that are given out, each under its key.
    fn judge_panes(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        given_out: Vec<Pane>,
        notices: &BTreeMap<u64, &Message>,
    ) -> Result<(), String> {
        if sub.destination.is_none() {
            return Ok(());
        }
        let limit = sub.threshold.and_then(|_| self.limits.get(&format!("limit-{}", task.0)).copied());
        self.judged.extend((sub.window.is_some() && !given_out.is_empty()).then_some("window"));
        let passes = |pane: &Pane| {
            let is_filtered = sub.has_filter && pane.n.is_multiple_of(3);
            let goes_on = !is_filtered && goes_to(sub, Some(pane.n)).is_some();
            pane.is_lost || (goes_on && limit.is_none_or(|limit| pane.amount >= limit))
        };
        let due = given_out.into_iter().filter(passes).map(|Pane { key, content, .. }| (key, content));
        let due: Vec<(Vec<u8>, Content)> = due.collect();
        self.judged.extend(due.iter().any(|(_, (.., pane))| *pane == LOST).then_some("window that cannot be told"));
        self.judged.extend((sub.is_joined() && !due.is_empty()).then_some("join"));
        let mut found = Vec::new();
        for notice in notices.values() {
            let key = notice.key.clone().unwrap_or_default();
            if timers::is_of_window(notice) {
                found.push((key, FOR_ROW_LOST));
                continue;
            }
            if let Some(span) = header(notice, "tg_window") {
                let start = span.split('/').next().and_then(|start| start.parse::<i64>().ok()).ok_or("has no span")?;
                found.push((key, (start.unsigned_abs(), 0, 0, 0, LOST)));
                continue;
            }
            let told = notice.value.as_deref().and_then(Told::read).ok_or("its notice cannot be read")?;
            found.push((key, (told.n, told.count, told.amount.to_bits(), told.hash, told.seen)));
        }
        if found == due { Ok(()) } else { Err(format!("its windows are {found:?}, not {due:?}")) }
    }
}

impl Look<'_> {
    /// Each row holds the changes of its records, and those of others.
    fn judge_rows(&mut self) {
        for (at @ (table, spelt), sums) in &self.rows {
            let name = TABLES[usize::from(*table)];
            let Some(key) = self.key_of(spelt) else { continue };
            let Some(row) = self.seen.rows.get(&(name.to_owned(), key.clone())) else {
                self.wrong.push(format!("{name} {key}: is gone"));
                continue;
            };
            self.judged.extend((sums.count > 0).then_some("row"));
            let number = |name: &str| number_in(row, name);
            let is_sum = matches!(row.values.get("sum"), Some(Value::F64(sum)) if sum.to_bits() == sums.sum.to_bits());
            let is_full = row.values.contains_key("hash");
            let note = self.notes.get(&(name.to_owned(), key.to_string())).cloned();
            let others = (number("hash"), number("small"), number("last"), row.values.get("note").cloned());
            if self.blurred[0].contains(at) {
                continue;
            }
            let hash = if self.blurred[1].contains(at) { number("hash") } else { Some(sums.hash) };
            let due = (hash, Some(sums.small), sums.last, note.or(Some(Value::Text(String::new()))));
            let is_versioned = self.scenario.pipeline.is_versioned;
            let version = if is_versioned { sums.version } else { 0 };
            let twice = number("twice").filter(|_| self.scenario.pipeline.makes_column);
            let is_made = twice.is_none_or(|twice| twice == 2 * sums.count);
            let is_count = number("count") == Some(sums.count);
            if row.version != version || !is_count || !is_sum || !is_made || (is_full && others != due) {
                self.wrong.push(format!("{name} {key}: version {} and {:?}, not {sums:?}", row.version, row.values));
            }
        }
    }

    /// Each record went on under each of its keys, once for each change of keys.
    fn judge_copies(&mut self) {
        for (number, sub) in self.scenario.pipeline.subs.iter().enumerate() {
            if sub.is_chain {
                self.judge_chain(&sub.lead, &led(sub, number));
            }
            if sub.merges_rekeyed() {
                self.judge_copies_of(&sub.companion_topic(), &merged(number));
            }
            if sub.rekeys {
                self.judge_copies_of(&led(sub, number), &rekeyed(number, false));
            }
            if sub.rekeys && sub.rekeys_twice {
                self.judge_copies_of(&rekeyed(number, false), &rekeyed(number, true));
            }
        }
    }

    /// Each record went on once as it was.
    fn judge_chain(&mut self, from: &str, to: &str) {
        let content = |message: &Message| (message.key.clone(), message.value.clone(), message.timestamp);
        let of_lead = self.came.iter().filter(|((topic, ..), came)| topic == from && !came.is_dead_letter);
        let mut due: Vec<_> = of_lead.filter_map(|(_, came)| came.record.map(content)).collect();
        let mut found: Vec<_> = topic(self.seen, to).map(content).collect();
        due.sort();
        found.sort();
        self.judged.extend((!due.is_empty()).then_some("chain"));
        if due != found {
            self.wrong.push(format!("{to}: has {} copies, not {} of {from}", found.len(), due.len()));
        }
    }

    fn judge_copies_of(&mut self, from: &str, to: &str) {
        type Keys<'a> = BTreeMap<&'a [u8], Vec<String>>;
        let (mut copies, mut due): (Keys<'_>, Keys<'_>) = Default::default();
        for message in topic(self.seen, to) {
            let key = String::from_utf8_lossy(message.key.as_deref().unwrap_or_default()).into_owned();
            copies.entry(message.value.as_deref().unwrap_or_default()).or_default().push(key);
        }
        for (_, came) in self.came.iter().filter(|((topic, ..), _)| topic == from) {
            let value = came.record.and_then(|record| record.value.as_deref()).unwrap_or_default();
            let event = event_of(value).filter(|_| !came.is_dead_letter);
            due.entry(value).or_default().extend(event.into_iter().flat_map(|event| event.keys));
        }
        for (value, mut due) in due {
            let mut found = copies.remove(value).unwrap_or_default();
            found.sort();
            due.sort();
            self.judged.extend((!due.is_empty()).then_some("copies"));
            if found != due {
                let value = String::from_utf8_lossy(value);
                self.wrong.push(format!("{from}: {value} went on under {found:?}, not under {due:?}"));
            }
        }
        if let Some((value, keys)) = copies.pop_first() {
            self.wrong.push(format!("{to}: {} under {keys:?} came from nowhere", String::from_utf8_lossy(value)));
        }
    }
}

// === The contents of records and messages ===

/// Whether the algorithm changes its row for a record.
fn changes(event: &Event) -> bool {
    !matches!(event.does, Does::Nothing | Does::Delete)
}

fn sum_after(sum: f64, event: &Event) -> f64 {
    match event.does {
        Does::Refused => 2.0 * REFUSED,
        Does::Cure => 0.0,
        _ => sum + event.amount,
    }
}

/// Length of the pad of a record's notices.
fn pad(event: &Event) -> usize {
    if let Does::Large(kilobytes) = event.does { 1024 * usize::from(kilobytes) } else { 0 }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(0)
}

/// The role of a topic in a step, if it reads it.
fn role(sub: &SubDraw, number: usize, topic: &str) -> Option<Role> {
    let is_lead = if sub.rekeys { rekeyed(number, sub.rekeys_twice) == topic } else { led(sub, number) == topic };
    let is_astray =
        sub.declared_as() == Some(Policy::Repartition) && format!("drawn-{}-repartition", sub.lead) == topic;
    let companion = if sub.merges_rekeyed() { merged(number) } else { sub.companion_topic() };
    let is_companion = sub.companion.is_some() && companion == topic;
    if is_lead || is_astray || is_companion {
        return Some(Role::Stream);
    }
    let is_second = sub.has_two_tables() && sub.second_table_topic() == topic;
    sub.is_table(topic).then_some(Role::Table(usize::from(is_second)))
}

/// The topic that a step's steps begin with: its lead, or its copy of it.
fn led(sub: &SubDraw, number: usize) -> String {
    if sub.is_chain { format!("drawn-c-{number}-repartition") } else { sub.lead.clone() }
}

/// The topic for the records that a step merges under other keys.
fn merged(number: usize) -> String {
    format!("drawn-merged-{number}-repartition")
}

/// The number of a topic among the inputs of its step.
fn input_of(sub: &SubDraw, number: usize, topic: &str) -> usize {
    let lead = if sub.rekeys { rekeyed(number, sub.rekeys_twice) } else { led(sub, number) };
    let companion = if sub.merges_rekeyed() { merged(number) } else { sub.companion_topic() };
    let companion = sub.companion.map(|_| companion);
    let table = sub.is_joined().then(|| sub.table_topic());
    let second = sub.has_two_tables().then(|| sub.second_table_topic());
    let inputs = [Some(lead), companion, table, second].into_iter().flatten();
    // The last one is for records that lay in wrong partitions.
    inputs.clone().position(|input| input == topic).unwrap_or(inputs.count())
}

/// The topic for the records of a step that changes keys.
fn rekeyed(number: usize, is_second: bool) -> String {
    format!("drawn-by-{number}{}-repartition", if is_second { "-again" } else { "" })
}

/// The partner of a record in the tables of its step.
fn partner(sub: &SubDraw, task: &Task, key: &[u8]) -> Partner {
    let [one, other] = [0, 1].map(|table: usize| task.tables[table].get(key).copied());
    match (sub.join, one) {
        (Join::No, _) => Partner::Known(0),
        _ if sub.table_ttl_ms.is_some() => Partner::Unknown,
        (Join::Inner, None) => Partner::Nobody,
        (_, one) if sub.has_two_tables() => Partner::Known(one.unwrap_or(-1) * 1_000 + other.unwrap_or(-1)),
        (_, one) => Partner::Known(one.unwrap_or(-1)),
    }
}

/// A small number as the key of a record.
fn spelt(pipeline: &PipelineDraw, id: i64) -> Vec<u8> {
    pipeline.spell(id.unsigned_abs()).into_bytes()
}

/// A key as its step sees it.
fn shown(read: Option<KeyType>, key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key).into_owned();
    match read {
        Some(KeyType::I64) => text.parse::<i64>().map_or(text, |number| number.to_string()),
        None if key.contains(&0) => String::new(), // no text
        Some(KeyType::I64BigEndian) => key.try_into().map_or(text, |key| i64::from_be_bytes(key).to_string()),
        Some(KeyType::I32BigEndian) => key.try_into().map_or(text, |key| i32::from_be_bytes(key).to_string()),
        Some(KeyType::UuidBytes) => key.try_into().map_or(text, |key| uuid::Uuid::from_bytes(key).to_string()),
        Some(KeyType::Bytes) => key.iter().fold("0x".into(), |text, byte| format!("{text}{byte:02x}")),
        Some(KeyType::Field(_)) => text.trim_start_matches("{\"id\":").trim_end_matches('}').into(),
        Some(KeyType::Fields(_)) => text.replace("{\"tenant\":", "[").replace("\"code\":", "").replace('}', "]"),
        Some(KeyType::TextField(_)) => {
            text.rsplit_once(":\"").map_or(String::new(), |(_, id)| id.trim_end_matches("\"}}").into())
        }
        _ => text,
    }
}

/// Every value that the threshold of a step has at some time.
fn limits(scenario: &Scenario, number: usize, sub: &SubDraw) -> Vec<f64> {
    let Some(first) = sub.threshold else { return Vec::new() };
    let name = format!("limit-{number}");
    let later = scenario.acts.iter().filter_map(|act| match act {
        Act::Threshold(own, value) if *own == name => Some(*value),
        _ => None,
    });
    std::iter::once(first).chain(later).map(|value| value as f64).collect()
}

/// Every value that the tables of a step have at some time, by key.
fn partners(seen: &Observed, sub: &SubDraw) -> [BTreeMap<Vec<u8>, BTreeSet<i64>>; 2] {
    [sub.table_topic(), sub.second_table_topic()].map(|name| {
        let gone = seen.gone.iter().filter(|(place, _)| place.topic.as_str() == name);
        let mut known: BTreeMap<Vec<u8>, BTreeSet<i64>> = BTreeMap::new();
        for message in topic(seen, &name).chain(gone.flat_map(|(_, messages)| messages)) {
            if let Some(n) = message.value.as_deref().and_then(user_in) {
                known.entry(message.key.clone().unwrap_or_default()).or_default().insert(n);
            }
        }
        known
    })
}

fn user_in(value: &[u8]) -> Option<i64> {
    serde_json::from_slice::<serde_json::Value>(value).ok()?.get("n")?.as_i64()
}

fn number_in(row: &Row, column: &str) -> Option<i64> {
    match row.values.get(column)? {
        Value::I64(number) => Some(*number),
        Value::I16(number) => Some(i64::from(*number)),
        _ => None,
    }
}

fn topic<'a>(seen: &'a Observed, name: &'a str) -> impl Iterator<Item = &'a Message> {
    seen.log.iter().filter(move |(place, _)| place.topic.as_str() == name).flat_map(|(_, messages)| messages)
}

/// The last header of the name, where it is text.
fn header(message: &Message, name: &str) -> Option<String> {
    let header = message.headers.iter().rev().find(|header| header.name == name)?;
    String::from_utf8(header.value.clone()?).ok()
}

/// The place of the record of an id, and the number of the notice.
fn origin(id: &str) -> Option<(Place, u64)> {
    let parts: Vec<&str> = id.split('/').collect();
    let ["drawn", topic, partition, offset, number, ..] = parts[..] else { return None }; // others came with a record
    Some(((topic.into(), partition.parse().ok()?, offset.parse().ok()?), number.parse().ok()?))
}

/// What is wrong with the code of a dead letter that could not be read: it tells of the source's format.
fn wrong_code(sub: &SubDraw, record: &Message, code: Option<&str>) -> Option<String> {
    let unread = ["empty-value", "bad-json", "bad-text", "bad-bytes"];
    let code = code.filter(|code| unread.contains(code))?;
    let due = match (&record.value, sub.format) {
        (None, _) => "empty-value",
        (Some(value), Values::Json) if value.is_empty() => "empty-value",
        (Some(_), Values::Json) => "bad-json",
        (Some(_), Values::Text) => "bad-text",
        (Some(_), Values::Bytes) => "bad-bytes",
    };
    (code != due).then(|| format!("its dead letter says {code}, not {due}"))
}

/// The event of a stream's record.
fn event_in(sub: &SubDraw, record: &Message) -> Option<Event> {
    match &record.value {
        None => (sub.tombstones == Nothing::Event).then(Event::of_tombstone),
        Some(value) => event_of(value),
    }
}

/// Whether a record passes by without a trace: a tombstone, or a record that cannot be read, as its source says.
fn is_skipped(pipeline: &PipelineDraw, sub: &SubDraw, role: &Role, record: &Message) -> bool {
    let is_wrong_key = pipeline.read_keys(sub).is_some_and(|kind| kind.parse(record.key.as_deref()).is_err());
    let (is_tombstone, is_unread) = match role {
        Role::Stream => (record.value.is_none() && sub.tombstones == Nothing::Skip, event_in(sub, record).is_none()),
        Role::Table(_) => (false, record.value.as_deref().is_some_and(|value| user_in(value).is_none())),
    };
    is_tombstone || sub.unread == Unread::Skip && (is_wrong_key || is_unread)
}

/// A value as an event; the trap of one that panics while it is read is not sprung here.
fn event_of(value: &[u8]) -> Option<Event> {
    let text = std::str::from_utf8(value).ok()?.replace(r#""trap":true"#, r#""trap":false"#);
    serde_json::from_str(&text).ok()
}
