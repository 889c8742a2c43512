//! A scenario: everything that a seed decides, as data that can be printed, shrunk and run again.

use crate::literal;
use crate::pipeline::{
    Account, Asked, BOOM, Does, Event, Hash, Join, Nothing, OWN_HEADER, Own, PairingDraw, PipelineDraw, Place, Policy,
    Routed, Spans, Spelling, StepDraw, SubDraw, TABLES, TIMERS, Tables, TimerDraw, Unread, User, Values, WindowDraw,
    make_twice,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidegate::adapters::memory::MemoryDatabase;
use tidegate::engine::protocol::decision::{DataLossPolicy, StartPolicy};
use tidegate::flow::row::Value;
use tidegate::flow::{Key, Table};
use tidegate::settings::{EngineSettings, MissingRow};
use tidegate::testing::{
    Act, COMMIT_STEPS, Disaster, FAILURES, Failure, Finding, Observed, Random, Sending, Shape, Simulation,
};

/// The engine's settings that are drawn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Knobs {
    pub instances: usize,
    pub workers: usize,
    pub batch_rows: usize,
    pub batch_age_ms: u64,
    pub log_age_ms: u64,
    pub log_messages: usize,
    pub transaction_rows: usize,
    pub unpublished_rows: usize,
    pub flush_ms: u64,
    pub retry_attempts: u32,
    pub missing_row: u8,
    pub verdicts: bool,
    pub queued_records: usize,
    /// Largest message of every output; 0 for the default.
    pub message_bytes: usize,
    /// The largest input that is taken; 0 for the default.
    #[serde(default)]
    pub record_bytes: usize,
    /// Largest message of the dead-letter topics; 0 for the default.
    #[serde(default)]
    pub letter_bytes: usize,
    /// Over how many rows of a table one statement may go; 0 for any number.
    #[serde(default)]
    pub statement_rows: usize,
    /// Bytes that a worker may be ahead of its relay; 0 for the default, as below.
    #[serde(default)]
    pub unpublished_bytes: usize,
    /// Bytes of one Kafka transaction, with rows and without.
    #[serde(default)]
    pub transaction_bytes: usize,
    /// Bytes of all caches of a worker's stores.
    #[serde(default)]
    pub cache_bytes: usize,
    /// Interval at which the offsets of idle inputs are committed again.
    #[serde(default)]
    pub recommit_ms: u64,
    /// A store not written for longer is rebuilt.
    #[serde(default)]
    pub rebuild_ms: u64,
    /// A first start begins at the log's end.
    #[serde(default)]
    pub starts_at_end: bool,
    /// Inputs that were deleted are passed over.
    #[serde(default)]
    pub skips_gaps: bool,
    /// After how many deaths a record that kills is a dead letter.
    #[serde(default = "three")]
    pub deaths: u32,
    /// Turns of an instance for each turn of its relays.
    #[serde(default)]
    pub lag: usize,
    /// The sub-topology whose lead topic gets no record that can be used, where there is one.
    #[serde(default)]
    pub rejected: Option<usize>,
}

const fn three() -> u32 {
    3
}

/// Everything that a seed decides.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scenario {
    pub pipeline: PipelineDraw,
    pub knobs: Knobs,
    pub acts: Vec<Act>,
    /// Each table has the rows 0 to this, less one.
    #[serde(default = "five")]
    pub rows: i64,
}

const fn five() -> i64 {
    ROWS
}

/// The result of a run.
pub struct Run {
    pub findings: Vec<Finding>,
    pub trace: String,
    /// The commit steps at which instances died.
    pub crashed: Vec<String>,
    /// Failures that no call has met.
    pub unmet: Vec<Act>,
}

/// The result of a simulation, before it is judged.
pub struct Simulated {
    pub outcome: Result<Observed, Finding>,
    pub trace: String,
    pub crashed: Vec<String>,
    pub unmet: Vec<Act>,
}

pub const DOC: &str = r#"{"id":12345678901234567890123,"price":0.1234567890123456789012,"v":1.10}"#;
/// The mark in a record that changes something.
const CHANGES: &str = r#""does":"Change""#;
/// Rows of a table.
pub const ROWS: i64 = 5;
/// The number of a record that was drawn before the others: beyond theirs.
pub const WISHED: u64 = 100_000;

impl Scenario {
    /// The keys of each table's rows.
    pub fn row_keys(&self) -> Vec<Key> {
        (0..self.rows).map(|id| self.pipeline.key(id)).collect()
    }

    pub fn shape(&self) -> Shape {
        let Knobs { instances, workers, .. } = self.knobs;
        let knobs = &self.knobs;
        let ms = Duration::from_millis;
        let or = |bytes: usize, default: usize| if bytes > 0 { bytes } else { default };
        let or_ms = |millis: u64, default: Duration| if millis > 0 { ms(millis) } else { default };
        let usual = EngineSettings::default();
        let settings = EngineSettings {
            unpublished_bytes: or(knobs.unpublished_bytes, usual.unpublished_bytes),
            transaction_bytes: or(knobs.transaction_bytes, usual.transaction_bytes),
            log_bytes: or(knobs.transaction_bytes, usual.log_bytes),
            cache_bytes: or(knobs.cache_bytes, usual.cache_bytes),
            recommit_every: or_ms(knobs.recommit_ms, usual.recommit_every),
            store_rebuild_after: or_ms(knobs.rebuild_ms, usual.store_rebuild_after),
            start: if knobs.starts_at_end { StartPolicy::Latest } else { StartPolicy::Earliest },
            on_data_loss: if knobs.skips_gaps { DataLossPolicy::Skip } else { DataLossPolicy::Halt },
            batch_rows: knobs.batch_rows,
            batch_age: ms(knobs.batch_age_ms),
            log_age: ms(knobs.log_age_ms),
            log_messages: knobs.log_messages,
            transaction_rows: knobs.transaction_rows,
            unpublished_rows: knobs.unpublished_rows,
            store_flush: ms(knobs.flush_ms),
            retry_attempts: knobs.retry_attempts,
            retry_backoff: ms(20),
            deaths_max: knobs.deaths,
            missing_row: [MissingRow::Skip, MissingRow::DeadLetter, MissingRow::Retry]
                [usize::from(knobs.missing_row % 3)],
            verdicts: knobs.verdicts,
            queued_records: knobs.queued_records,
            record_bytes_max: if knobs.record_bytes > 0 { knobs.record_bytes } else { 1 << 20 },
            ..usual
        };
        let mut limits: Vec<(String, usize)> = Vec::new();
        if knobs.message_bytes > 0 {
            let outputs = self.pipeline.subs.iter().flat_map(SubDraw::destinations);
            limits.extend(outputs.map(|topic| (topic, knobs.message_bytes)));
        }
        if knobs.letter_bytes > 0 {
            let leads = self.pipeline.subs.iter().map(|sub| format!("{}-dlt", sub.lead));
            limits.extend(leads.map(|topic| (topic, knobs.letter_bytes)));
        }
        Shape { partitions: self.pipeline.partitions, instances, workers, settings, limits, lag: knobs.lag }
    }

    /// Runs it in the simulation and judges the result.
    pub fn run(&self, is_traced: bool) -> Run {
        self.run_of(self.simulated(is_traced))
    }

    /// Judges a simulation.
    pub fn run_of(&self, simulated: Simulated) -> Run {
        let Simulated { outcome, trace, crashed, unmet } = simulated;
        let both = |observed: &Observed| [self.judge(observed), literal::check(self, observed)].concat();
        let findings = outcome.map_or_else(|finding| vec![finding], |observed| both(&observed));
        Run { findings, trace, crashed, unmet }
    }

    /// Judges the traces of a run.
    pub fn judge(&self, observed: &Observed) -> Vec<Finding> {
        let asked = Asked::spent();
        let (tables, makes_column) = (self.pipeline.tables, self.pipeline.makes_column);
        let mut findings = observed.judge(&self.pipeline.topology(&asked), &|_, values| {
            tables.round(values);
            if makes_column {
                make_twice(values);
            }
            tables.refuse(values)
        });
        if asked.has_seen_damage() {
            findings.push(Finding { kind: "number", detail: "a sum was read otherwise than it was written".into() });
        }
        findings
    }

    /// The acts among its own that nothing has met: of the COMMITs that were to fail the last ones.
    fn unmet(&self, (failures, commits): (Vec<Failure>, usize)) -> Vec<Act> {
        let is_of_a_commit = |act: &&Act| matches!(act, Act::CommitFails | Act::CommitAnswerLost(_));
        let commits = self.acts.iter().rev().filter(is_of_a_commit).take(commits).cloned();
        failures.into_iter().map(Act::Fail).chain(commits).collect()
    }

    /// Runs it in the simulation.
    pub fn simulated(&self, is_traced: bool) -> Simulated {
        let topology = self.pipeline.topology(&Asked::default());
        if let Err(errors) = topology.validate() {
            let outcome = Err(Finding { kind: "invalid", detail: errors.join("; ") });
            return Simulated { outcome, trace: String::new(), crashed: Vec::new(), unmet: Vec::new() };
        }
        let mut simulation = Simulation::new(topology.clone(), self.shape());
        if is_traced {
            simulation = simulation.traced();
        }
        let mut digits = Vec::new();
        for table in self.pipeline.tables() {
            for id in 0..self.rows {
                let (name, key) = (TABLES[usize::from(table)], self.pipeline.key(id));
                let text = key.to_string();
                if let Ok(serde_json::Value::Object(row)) = serde_json::to_value(first_row(id)) {
                    simulation.row_by_name(name, key, &row);
                }
                // More digits than the struct has, which is no reason to write the column.
                let name = name.to_owned();
                digits.push(Act::Write(name, text, "doc".into(), DOC.into()));
            }
            let spec = self.pipeline.table(table);
            let rows = Some(self.knobs.statement_rows).filter(|rows| *rows > 0);
            simulation.driver().database().limit_statements(&spec, rows);
            let names: Vec<String> = topology
                .tables()
                .into_iter()
                .find(|found| found.table == spec)
                .map(|found| found.columns.into_iter().map(|column| column.name).collect())
                .unwrap_or_default();
            let names: Vec<String> = names.into_iter().filter(|name| name != "version").collect();
            if self.pipeline.makes_column {
                let names = names.clone();
                simulation.driver().database().generate(&spec, "twice", move |values| {
                    let mut named = names.iter().cloned().zip(values.iter().cloned()).collect();
                    make_twice(&mut named);
                    named.remove("twice").unwrap_or(Value::Null)
                });
            }
            set_up(simulation.driver().database(), &spec, self.pipeline.tables, names);
        }
        let mut outcome = digits.iter().chain(&self.acts).try_for_each(|act| simulation.act(act));
        outcome = outcome.and_then(|()| simulation.finish());
        let kind = |detail: &str| if detail.contains("panicked") { "panic" } else { "no-rest" };
        let outcome = outcome.map_err(|detail| Finding { kind: kind(&detail), detail });
        let (trace, crashed) = (simulation.trace().to_owned(), simulation.crashed());
        let unmet = self.unmet(simulation.unmet());
        Simulated { outcome: outcome.map(|()| simulation.observed()), trace, crashed, unmet }
    }
}

/// A row before the first record.
pub fn first_row(id: i64) -> Account {
    Account { doc: serde_json::from_str(DOC).ok(), ..Account::new(0.1 * id as f64) }
}

/// Makes a table behave as drawn tables do. `names`: those of its value columns.
fn set_up(database: &MemoryDatabase, table: &Table, tables: Tables, names: Vec<String>) {
    let names = Arc::new(names);
    let by_name = |names: &[String], values: &[Value]| names.iter().cloned().zip(values.iter().cloned()).collect();
    if tables == Tables::Round {
        let names = Arc::clone(&names);
        database.round(table, move |values| {
            let mut rounded: BTreeMap<String, Value> = by_name(&names, values);
            tables.round(&mut rounded);
            for (name, value) in names.iter().zip(values) {
                if let Some(rounded) = rounded.remove(name) {
                    *value = rounded;
                }
            }
        });
    }
    if tables != Tables::Keep {
        database.check(table, move |values| {
            if tables.refuse(&by_name(&names, values)) { Err("the sum is too large".into()) } else { Ok(()) }
        });
    }
}

pub fn pipeline(random: &mut Random) -> PipelineDraw {
    let partitions = *random.choose(&[1, 1, 2, 3, 4]);
    let spellings = [
        Spelling::Uuid,
        Spelling::BigEndian,
        Spelling::Small,
        Spelling::UuidBytes,
        Spelling::Raw,
        Spelling::Field,
        Spelling::TextField,
    ];
    let spelling = if random.happens(35) { *random.choose(&spellings) } else { Spelling::Plain };
    let mut subs: Vec<SubDraw> = Vec::new();
    for number in 0..*random.choose(&[1_usize, 1, 1, 2, 2, 3, 4]) {
        let sub = sub(random, number, &subs, spelling);
        subs.push(sub);
    }
    let has_text_keys = spelling == Spelling::Plain && random.happens(30);
    let is_versioned = random.happens(75);
    // Drawn from another sequence, so that earlier draws of a seed stay as they were.
    let mut aside = Random::new(!random.clone().next());
    subs.iter_mut().for_each(|sub| sub.has_version = sub.is_slim && is_versioned && aside.happens(50));
    let tables = *aside.choose(&[Tables::Check, Tables::Check, Tables::Check, Tables::Keep, Tables::Round]);
    for sub in subs.iter_mut().filter(|sub| sub.step == StepDraw::Aggregate && sub.table_ttl_ms.is_none()) {
        sub.window = aside.happens(40).then(|| window(&mut aside));
    }
    let formats = [Values::Text, Values::Bytes, Values::Json, Values::Json, Values::Json, Values::Json];
    subs.iter_mut().for_each(|sub| sub.format = *aside.choose(&formats));
    let routes = [Routed::Route, Routed::Branch, Routed::BranchOnly];
    for sub in subs.iter_mut().filter(|sub| sub.destination.is_some()) {
        sub.routed = aside.happens(25).then(|| *aside.choose(&routes));
    }
    // A later step reads another topic of the same step.
    for number in 1..subs.len() {
        let (earlier, rest) = subs.split_at_mut(number);
        let Some(sub) = rest.first_mut().filter(|sub| sub.hash == Hash::Murmur2) else { continue };
        let routed = earlier.iter().find(|of| of.routed.is_some() && of.destination.as_ref() == Some(&sub.lead));
        if let Some(of) = routed.filter(|of| of.destination.as_deref() != Some("out") && aside.happens(50)) {
            sub.lead = of.more_topic();
        }
    }
    draw_chains(&mut aside, &mut subs);
    for sub in subs.iter_mut().filter(|sub| sub.companion == Some(false)) {
        let may_rekey = spelling.is_text() || (sub.step == StepDraw::Process && sub.join == Join::No);
        sub.merges = aside.happens(50).then(|| may_rekey && aside.happens(50));
    }
    for sub in &mut subs {
        sub.unread = match aside.below(12) {
            0 => Unread::Halt,
            1..4 => Unread::Skip,
            _ => Unread::Letter,
        };
        sub.tombstones = *aside.choose(&[
            Nothing::Unreadable,
            Nothing::Unreadable,
            Nothing::Unreadable,
            Nothing::Skip,
            Nothing::Event,
        ]);
    }
    for number in 0..subs.len() {
        let is_free = |topic: &&String| *topic != "out" && subs.iter().all(|sub| !sub.reads(topic));
        let announced = subs.iter().take(number).filter_map(|sub| sub.destination.as_ref()).find(is_free).cloned();
        let (earlier, rest) = subs.split_at_mut(number);
        let Some(sub) = rest.first_mut().filter(|sub| sub.has_rows()) else { continue };
        let has_lead_alone = earlier.iter().all(|other| other.lead != sub.lead);
        join_rows(&mut aside, sub, has_lead_alone, announced);
    }
    // A declaration of keys of which the id is a part is refused, where the step reads them.
    for sub in subs.iter_mut().filter(|sub| spelling.is_field() && (sub.step != StepDraw::Process || sub.is_joined())) {
        (sub.declared, sub.table_declared, sub.hash) = (None, None, Hash::Murmur2);
    }
    draw_lives(&mut aside, &mut subs);
    let makes_column = aside.happens(20);
    let is_compound = spelling == Spelling::Field && aside.happens(50);
    let spelling = if is_compound { Spelling::Compound } else { spelling };
    // Not where a table's values expire: whether the algorithm was run over a record that sets one cannot be known then.
    for sub in subs.iter_mut().filter(|sub| sub.window.is_none() && sub.table_ttl_ms.is_none()) {
        sub.has_timers = aside.happens(40);
    }
    draw_pairs(&mut aside, &mut subs);
    // From another sequence, so that earlier draws of a seed stay as they were.
    let mut beside = Random::new(!aside.clone().next());
    let is_plain = |sub: &&mut SubDraw| !sub.deletes && !sub.is_slim && sub.table_ttl_ms.is_none();
    for sub in subs.iter_mut().filter(|sub| sub.has_rows()).filter(is_plain) {
        if beside.happens(20) {
            let windows = window(&mut beside);
            (sub.window, sub.has_timers) = (Some(WindowDraw { idle_ms: None, ..windows }), false);
        }
    }
    // Messages without a key are rejected by most steps behind.
    for number in 0..subs.len() {
        let topics = subs.get(number).map(SubDraw::destinations).unwrap_or_default();
        let reads = |sub: &SubDraw| {
            let sources = [sub.lead.clone(), sub.companion_topic(), sub.table_topic(), sub.second_table_topic()];
            sources.iter().any(|source| topics.contains(source))
        };
        let is_read = subs.iter().any(reads);
        let Some(sub) = subs.get_mut(number).filter(|sub| sub.step == StepDraw::Process && sub.has_timers) else {
            continue;
        };
        sub.every_ms = (!is_read && aside.happens(50)).then(|| *aside.choose(&[10, 100, 1_000, 60_000]));
    }
    PipelineDraw { partitions, tables, is_versioned, has_text_keys, spelling, makes_column, subs }
}

fn sub(random: &mut Random, number: usize, subs: &[SubDraw], spelling: Spelling) -> SubDraw {
    let step = *random.choose(&[
        StepDraw::Update(0),
        StepDraw::Update(0),
        StepDraw::Update(1),
        StepDraw::Aggregate,
        StepDraw::Aggregate,
        StepDraw::Process,
    ]);
    let is_update = matches!(step, StepDraw::Update(_));
    // A step may read the output or the dead letters of an earlier one. The topic `out`, which several may write, ends
    // there.
    let announced = subs.iter().filter_map(|sub: &SubDraw| sub.destination.clone());
    let mut announced: Vec<String> = announced.filter(|topic| topic != "out").collect();
    announced.retain(|topic| subs.iter().all(|sub| !sub.reads(topic)));
    let mut dead_letters: Vec<String> = subs.iter().map(|sub| format!("{}-dlt", sub.lead)).collect();
    dead_letters.retain(|topic| subs.iter().all(|sub| !sub.reads(topic)));
    let mut take = |random: &mut Random, percent: u64| match announced.is_empty() || !random.happens(percent) {
        true => None,
        false => Some(announced.remove(usize::try_from(random.below(announced.len() as u64)).unwrap_or(0))),
    };
    let lead = match dead_letters.is_empty() || !random.happens(12) {
        true => take(random, 50).unwrap_or_else(|| format!("in-{number}")),
        false => random.choose(&dead_letters).clone(),
    };
    let join = if is_update { Join::No } else { *random.choose(&[Join::No, Join::No, Join::Inner, Join::Left]) };
    // A change of keys writes text.
    let may_rekey = spelling.is_text() || (step == StepDraw::Process && join == Join::No);
    let rekeys = may_rekey && random.happens(25);
    let has_destination = random.happens(85);
    let companion = random.happens(25).then(|| !is_update && random.happens(50));
    // A step with rows sends no record on.
    let declared = random.happens(30).then(|| {
        let policies = [Policy::Warn, Policy::Stop, Policy::Repartition, Policy::Repartition];
        *random.choose(if is_update { &policies[..2] } else { &policies })
    });
    // Topics that the pipeline writes itself are partitioned by murmur2.
    let is_own = lead.starts_with("in-") && !lead.ends_with("-dlt");
    let hash = if is_own && random.happens(40) { *random.choose(&[Hash::Crc32, Hash::Own]) } else { Hash::Murmur2 };
    let is_hashed_otherwise = hash != Hash::Murmur2;
    SubDraw {
        step,
        join,
        declared,
        rekeys,
        has_store: random.happens(35),
        ttl_ms: random.happens(35).then(|| *random.choose(&[50, 500, 60_000])),
        has_filter: random.happens(30),
        threshold: random.happens(30).then(|| *random.choose(&[0, 3, 1_000])),
        destination: has_destination.then(|| if random.happens(20) { "out".into() } else { format!("out-{number}") }),
        rekeys_twice: rekeys && random.happens(20),
        is_slim: is_update && random.happens(25),
        has_version: false,
        has_last: random.happens(15),
        is_typed: !is_update && (!spelling.is_text() || random.happens(25)),
        hash,
        has_second_table: join != Join::No && random.happens(25),
        table_declared: (join != Join::No && random.happens(30)).then(|| *random.choose(&[Policy::Warn, Policy::Stop])),
        table_ttl_ms: (join != Join::No && random.happens(25)).then(|| *random.choose(&[50, 500, 60_000])),
        table_of: if join == Join::No || is_hashed_otherwise { None } else { take(random, 30) },
        companion_of: if companion.is_none() || is_hashed_otherwise { None } else { take(random, 30) },
        window: None,
        pairing: None,
        joins_tables: false,
        format: Values::Json,
        routed: None,
        is_chain: false,
        merges: None,
        unread: Unread::Letter,
        tombstones: Nothing::Unreadable,
        has_timers: false,
        inserts: false,
        deletes: false,
        every_ms: None,
        companion,
        lead,
    }
}

/// Lets some steps with rows be joined with tables, and read their companion as another type. `announced`: the output of an
/// earlier step that nothing reads.
fn join_rows(aside: &mut Random, sub: &mut SubDraw, has_lead_alone: bool, announced: Option<String>) {
    if sub.companion == Some(false) && sub.merges.is_none() && aside.happens(40) {
        sub.companion = Some(true);
    }
    // The further topics of two chains of one source would have the same names.
    if !has_lead_alone || !aside.happens(35) {
        return;
    }
    sub.join = *aside.choose(&[Join::Inner, Join::Left, Join::Left]);
    sub.has_second_table = aside.happens(25);
    sub.table_declared = aside.happens(30).then(|| *aside.choose(&[Policy::Warn, Policy::Stop]));
    sub.table_ttl_ms = aside.happens(25).then(|| *aside.choose(&[50, 500, 60_000]));
    sub.table_of = announced.filter(|_| sub.hash == Hash::Murmur2 && aside.happens(30));
}

/// Lets some sources feed a chain, and some of these another one.
fn draw_chains(aside: &mut Random, subs: &mut [SubDraw]) {
    for number in 0..subs.len() {
        let (earlier, rest) = subs.split_at_mut(number);
        let Some((sub, later)) = rest.split_first_mut() else { continue };
        if earlier.iter().any(|other| other.lead == sub.lead) || !aside.happens(15) {
            continue;
        }
        let is_free = |other: &&mut SubDraw| other.lead.starts_with("in-") && !other.lead.ends_with("-dlt");
        let other = later.iter_mut().find(is_free).filter(|_| aside.happens(70));
        for chain in [Some(&mut *sub), other].into_iter().flatten() {
            (chain.is_chain, chain.declared, chain.hash) = (true, None, Hash::Murmur2);
        }
        let (lead, format) = (sub.lead.clone(), sub.format);
        for other in later.iter_mut().filter(|other| other.is_chain && is_free(other)) {
            (other.lead, other.format) = (lead.clone(), format);
            // Its further topics would have the names of the first chain's.
            (other.companion, other.companion_of, other.join, other.table_of) = (None, None, Join::No, None);
            (other.has_second_table, other.table_declared, other.table_ttl_ms) = (false, None, None);
        }
    }
}

/// Which steps make and delete rows. A new row has a value for each column that a step of its table has.
fn draw_lives(random: &mut Random, subs: &mut [SubDraw]) {
    let slim: Vec<StepDraw> = subs.iter().filter(|sub| !sub.is_slim).map(|sub| sub.step).collect();
    // Not where a table's values expire: whether a record found its partner, and so whether its row is there, cannot be known then.
    if subs.iter().any(|sub| sub.has_rows() && sub.table_ttl_ms.is_some()) {
        return;
    }
    // Nor where two steps have the table: which of them found the row, and which found none, is not to be seen.
    let steps: Vec<StepDraw> = subs.iter().map(|sub| sub.step).collect();
    let is_alone = |step: StepDraw| steps.iter().filter(|other| **other == step).count() == 1;
    for sub in subs.iter_mut().filter(|sub| sub.has_rows() && is_alone(sub.step)) {
        let is_whole = !sub.is_slim || !slim.contains(&sub.step);
        sub.inserts = is_whole && random.happens(35);
        sub.deletes = random.happens(25);
    }
}

/// Lets some aggregates pair the events of their lead topic with those of a companion, or keep both as tables.
fn draw_pairs(random: &mut Random, subs: &mut [SubDraw]) {
    let leads: Vec<String> = subs.iter().map(|sub| sub.lead.clone()).collect();
    let is_free =
        |sub: &SubDraw| sub.step == StepDraw::Aggregate && !sub.is_joined() && !sub.gives_out() && !sub.has_timers;
    for sub in subs.iter_mut().filter(|sub| is_free(sub)) {
        // The further topics of two chains of one source would have the same names.
        let has_lead_alone = leads.iter().filter(|lead| **lead == sub.lead).count() == 1;
        if !random.happens(80) || (sub.companion.is_none() && !has_lead_alone) {
            continue;
        }
        (sub.companion, sub.merges) = (Some(true), None);
        (sub.has_store, sub.has_last, sub.ttl_ms) = (false, false, None);
        if random.happens(35) {
            (sub.joins_tables, sub.tombstones) = (true, Nothing::Event);
            continue;
        }
        // Some as short as the pauses between records.
        let times = [0, 1, 20, 20, 100, 100, 400, 2_000];
        sub.pairing = Some(PairingDraw {
            before_ms: *random.choose(&times),
            after_ms: *random.choose(&times),
            grace_ms: *random.choose(&[0, 0, 50, 1_000]),
            skips_late: random.happens(30),
            keeps_late: random.happens(25),
            is_fragile: random.happens(30),
        });
    }
}

/// Windows, some as short as the pauses between records.
fn window(random: &mut Random) -> WindowDraw {
    let size: u64 = *random.choose(&[1, 20, 100, 2_000, 60_000]);
    let shape = match random.below(3) {
        0 => Spans::Tumbling(size),
        1 => Spans::Hopping(size, size.div_ceil(*random.choose(&[1, 2, 3]))),
        _ => Spans::Session(size),
    };
    let drawn = WindowDraw {
        shape,
        grace_ms: *random.choose(&[0, 0, 50, 1_000]),
        corrections_ms: *random.choose(&[0, 0, 500, 60_000]),
        is_early: random.happens(30),
        skips_late: random.happens(30),
        every_ms: None,
        keeps_late: false,
        by_partition: false,
        idle_ms: None,
        is_fragile: false,
        is_deadly: false,
    };
    // Drawn from another sequence, so that earlier draws of a seed stay as they were.
    let mut aside = Random::new(!random.clone().next());
    let every_ms = aside.happens(25).then(|| *aside.choose(&[1, 30, 500, 10_000]));
    let keeps_late = aside.happens(25);
    let idle_ms = aside.happens(30).then(|| *aside.choose(&[1, 50, 300, 2_000, 60_000]));
    let by_partition = aside.happens(30);
    // Short ones: a record of another key is to close them.
    let short = *aside.choose(&[1, 20, 100, 400]);
    let shape = match drawn.shape {
        _ if !by_partition || aside.happens(25) => drawn.shape,
        Spans::Tumbling(_) => Spans::Tumbling(short),
        Spans::Hopping(..) => Spans::Hopping(short, short.div_ceil(2)),
        Spans::Session(_) => Spans::Session(short),
    };
    let is_fragile = aside.happens(30);
    let is_deadly = aside.happens(30);
    WindowDraw { shape, every_ms, keeps_late, idle_ms, by_partition, is_fragile, is_deadly, ..drawn }
}

pub fn knobs(random: &mut Random) -> Knobs {
    Knobs {
        instances: *random.choose(&[1, 1, 2, 2, 3]),
        workers: *random.choose(&[1, 2, 2, 3]),
        batch_rows: *random.choose(&[1, 2, 3, 5, 10, 50]),
        batch_age_ms: *random.choose(&[0, 5, 100]),
        log_age_ms: *random.choose(&[0, 100, 300]),
        log_messages: *random.choose(&[1, 3, 20, 50_000]),
        transaction_rows: *random.choose(&[1, 3, 10_000]),
        unpublished_rows: *random.choose(&[1, 5, 10_000]),
        flush_ms: *random.choose(&[0, 200, 5_000]),
        retry_attempts: *random.choose(&[1, 2, 4]),
        missing_row: u8::try_from(random.below(3)).unwrap_or(0),
        verdicts: random.happens(20),
        queued_records: *random.choose(&[2, 20_000]),
        message_bytes: *random.choose(&[0, 0, 4_000]),
        record_bytes: *random.choose(&[0, 0, 2_000]),
        letter_bytes: *random.choose(&[0, 0, 6_000]),
        statement_rows: *random.choose(&[0, 0, 0, 1, 3]),
        unpublished_bytes: *random.choose(&[0, 0, 0, 1, 2_000]),
        transaction_bytes: *random.choose(&[0, 0, 0, 1, 2_000]),
        cache_bytes: *random.choose(&[0, 0, 0, 1, 500]),
        recommit_ms: *random.choose(&[0, 0, 0, 100, 3_000]),
        rebuild_ms: *random.choose(&[0, 0, 0, 100, 3_000]),
        starts_at_end: random.happens(12),
        skips_gaps: random.happens(20),
        deaths: three(),
        lag: *random.choose(&[1, 1, 2, 5]),
        rejected: None,
    }
}

/// Draws the acts.
pub struct Acts<'a> {
    pub random: &'a mut Random,
    pub pipeline: &'a PipelineDraw,
    pub knobs: &'a Knobs,
    pub n: u64,
    pub acts: Vec<Act>,
}

/// The acts in which a group that starts at the end starts, before anything is sent.
pub const STARTS: [Act; 3] = [Act::Turns(10), Act::Pass(100), Act::Turns(10)];

impl Acts<'_> {
    /// All of them. `wish`: a record and a fault that shall be among them.
    pub fn draw(mut self, wish: Option<(Act, Vec<Act>)>) -> Vec<Act> {
        let records = *self.random.choose(&[3_u64, 8, 15, 30, 60]);
        let faults = *self.random.choose(&[0_u64, 0, 1, 2, 4]);
        let (mut record, mut wished) = wish.unzip();
        let (record_at, fault_at) = (self.random.below(records), self.random.below(records));
        let poison = *self.random.choose(&[0_u64, 10, 30, 60]);
        let burst = *self.random.choose(&[1_u64, 3, 8, 60]);
        let mut left = records;
        let mut faults_left = faults;
        // A group that starts at the end has to start before anything is sent.
        if self.knobs.starts_at_end {
            self.acts.extend(STARTS);
        } else if self.random.happens(50) {
            self.acts.push(Act::Turns(3));
        }
        while left > 0 {
            for _ in 0..burst.min(left) {
                self.record(poison);
                left -= 1;
                if left <= record_at {
                    self.acts.extend(record.take());
                }
            }
            if left <= fault_at {
                self.acts.extend(wished.take().into_iter().flatten());
            }
            if faults_left > 0 && self.random.below(left.div_ceil(burst) + 1) < faults_left {
                self.fault();
                faults_left -= 1;
            }
            match self.random.below(5) {
                0 => {}
                1 => self.acts.push(Act::Turns(1)),
                2 => self.acts.push(Act::Turns(2)),
                3 => self.turns_and_time(),
                _ => {
                    let turns = u16::try_from(3 + self.random.below(8)).unwrap_or(3);
                    self.acts.push(Act::Turns(turns));
                }
            }
        }
        for _ in 0..faults_left {
            self.fault();
            self.turns_and_time();
        }
        if !self.is_timed() && self.random.happens(16) {
            (0..*self.random.choose(&[1, 1, 2])).for_each(|_| self.disturber());
        }
        self.acts
    }

    /// A record that changes something kills the process instead, or outlasts its transaction. Not where a join decides whether
    /// the algorithm is run over it: that may be otherwise the next time it is offered.
    fn disturber(&mut self) {
        let is_joined = |topic: &String| {
            let mut joined = self.pipeline.subs.iter().filter(|sub| sub.join == Join::Inner);
            // Or over its dead letter.
            let reads_letters =
                |sub: &SubDraw| sub.lead.strip_suffix("-dlt").is_some_and(|of| of.starts_with(&**topic));
            joined.any(|sub| sub.lead == *topic || sub.companion_topic() == *topic || reads_letters(sub))
        };
        let changes = |act: &Act| match act {
            Act::Send(Sending { topic, value: Some(value), .. }) => value.contains(CHANGES) && !is_joined(topic),
            _ => false,
        };
        let found: Vec<usize> =
            (0..).zip(&self.acts).filter(|(_, act)| changes(act)).map(|(number, _)| number).collect();
        if found.is_empty() {
            return;
        }
        let number = *self.random.choose(&found);
        if let Some(Act::Send(Sending { value: Some(value), .. })) = self.acts.get_mut(number) {
            let does = self.random.choose(&[r#""does":"Die""#, r#""does":"Stall""#]);
            *value = value.replace(CHANGES, does);
        }
    }

    fn turns_and_time(&mut self) {
        let ms = *self.random.choose(&[1, 10, 60, 400]);
        let turns = u16::try_from(1 + self.random.below(6)).unwrap_or(1);
        self.acts.extend([Act::Pass(ms), Act::Turns(turns)]);
    }

    /// One record, at a source that nobody in the pipeline writes.
    pub fn record(&mut self, poison: u64) {
        let subs = &self.pipeline.subs;
        let mut topics: Vec<(String, bool, &SubDraw)> = Vec::new();
        for sub in subs {
            topics.extend([(sub.lead.clone(), false, sub), (sub.lead.clone(), false, sub)]);
            if sub.companion.is_some() {
                topics.push((sub.companion_topic(), false, sub));
            }
            if sub.is_joined() {
                topics.push((sub.table_topic(), true, sub));
            }
            if sub.has_two_tables() {
                topics.push((sub.second_table_topic(), true, sub));
            }
        }
        topics.retain(|(topic, ..)| !self.pipeline.is_written(topic));
        if topics.is_empty() {
            return;
        }
        let (topic, is_table, sub) = self.random.choose(&topics).clone();
        self.n += 1;
        let after_ms = match self.random.below(20) {
            0 => -1_000,
            1 => -100_000,
            2 => 20,
            3 => 2_000,
            4 if poison > 0 && self.random.happens(30) => 365 * 86_400_000,
            _ => 0,
        };
        let key = self.key(sub, poison);
        let mut sending = Sending { topic, key, after_ms, ..Sending::default() };
        // Only where it matters.
        let strays = match sub.declared_as() {
            Some(Policy::Repartition) => 20,
            Some(_) => 10,
            None => 4,
        };
        if self.random.happens(strays) {
            sending.partition = Some(i32::try_from(self.random.below(4)).unwrap_or(0));
        } else if sub.hash_said() != Hash::Murmur2 {
            let key = sending.key.as_ref().filter(|key| *key != BOOM);
            sending.partition = key.map(|key| self.pipeline.home(sub, key));
        }
        if self.random.happens(10) {
            let name = *self.random.choose(&["trace", "tg_id", "ce_id", "kafka_dlt-exception-fqcn", "tg_changelog"]);
            sending.headers.push((name.to_owned(), Some("foreign/in-0/0/0/0".into())));
        }
        if poison > 0 && self.random.happens(5) {
            sending.headers.push(("baggage".into(), Some("x".repeat(8_000))));
        }
        sending.value = if is_table { self.user(poison) } else { self.event(sub, poison) };
        let rejected = self.knobs.rejected.and_then(|number| subs.get(number));
        if rejected.is_some_and(|sub| sub.lead == sending.topic) {
            sending.value = self.unusable();
        }
        self.acts.push(Act::Send(sending));
    }

    fn key(&mut self, sub: &SubDraw, poison: u64) -> Option<String> {
        if poison > 0 && !self.is_timed() && self.random.happens(6) {
            let unknown = self.pipeline.spell(99);
            let odd = [None, Some("abc"), Some("007"), Some(&unknown), Some("")];
            return self.random.choose(&odd).map(str::to_owned);
        }
        if poison > 0 && !self.is_timed() && sub.hash_said() == Hash::Own && self.random.happens(15) {
            return Some(BOOM.into());
        }
        // A hot key, and others.
        let id = if self.random.happens(40) { 1 } else { self.random.below(5) };
        Some(self.pipeline.spell(id))
    }

    /// A record that no step is run over has no place in the order of several topics, or of several partitions whose rows are
    /// the same, and still moves the clock.
    fn is_timed(&self) -> bool {
        let has_companion = |sub: &SubDraw| {
            sub.companion.is_some() || sub.declared_as() == Some(Policy::Repartition) // where records are sent on
        };
        let is_timed = |sub: &SubDraw| sub.ttl_ms.is_some() || sub.table_ttl_ms.is_some() || sub.keeps_timers();
        self.pipeline.subs.iter().any(|sub| is_timed(sub) && has_companion(sub)) || self.has_timed_rows()
    }

    fn has_timed_rows(&self) -> bool {
        self.pipeline.subs.iter().any(|sub| sub.keeps_timers() && sub.has_rows())
    }

    fn user(&mut self, poison: u64) -> Option<String> {
        if self.random.happens(15) {
            return None;
        }
        if poison > 0 && self.random.happens(10) {
            return Some("{".into());
        }
        serde_json::to_string(&User { n: i64::try_from(self.n).unwrap_or(0) }).ok()
    }

    fn does(&mut self, sub: &SubDraw, retries: u32) -> Does {
        let mut choices = vec![
            Does::Nothing,
            Does::Skip,
            Does::Reject,
            Does::Retry(retries),
            Does::Retry(retries),
            Does::RetryForEver,
            Does::Panic(Place::Decode),
            Does::Panic(Place::Apply),
            Does::Panic(Place::Notices),
            Does::Panic(Place::EncodeNotice),
            Does::NotFinite,
            Does::Delete,
            Does::Large(1),
            Does::Large(8),
        ];
        if sub.has_rows() {
            choices.extend([Does::Refused, Does::Refused, Does::RetryUnlessRefused, Does::RetryUnlessRefused]);
            choices.extend([Does::Cure, Does::Cure]);
            choices.extend(self.pipeline.makes_column.then_some(Does::Touch));
        }
        let places = [
            (sub.has_filter, Place::Filter),
            (sub.threshold.is_some(), Place::Magnitude),
            (sub.step != StepDraw::Process, Place::EncodeRow),
            (sub.rekeys, Place::Key),
            (sub.routed.is_some(), Place::Route),
        ];
        choices.extend(places.into_iter().filter(|(is_there, _)| *is_there).map(|(_, place)| Does::Panic(place)));
        *self.random.choose(&choices)
    }

    fn event(&mut self, sub: &SubDraw, poison: u64) -> Option<String> {
        if !self.random.happens(poison) {
            return self.json(Does::Change);
        }
        match self.random.below(16) {
            0 => None,
            1 => Some(String::new()),
            2 => Some("{".into()),
            3 => Some(r#"{"n": "seven"}"#.into()),
            4 if !self.is_timed() => {
                serde_json::to_string(&Event { pad: "x".repeat(3_000), ..Event::new(self.n, Does::Change) }).ok()
            }
            _ => {
                let retries = u32::try_from(1 + self.random.below(u64::from(self.knobs.retry_attempts))).unwrap_or(1);
                let does = self.does(sub, retries);
                self.json(does)
            }
        }
    }

    /// One of the ways in which every record of a source becomes a dead letter.
    fn unusable(&self) -> Option<String> {
        let does = match self.n % 3 {
            0 => return Some("{".into()),
            1 => Does::Reject,
            _ => Does::Panic(Place::Apply),
        };
        serde_json::to_string(&Event::new(self.n, does)).ok()
    }

    /// What the notices of a record have of their own. Drawn from another sequence, so that a seed's other draws stay.
    fn own(&mut self) -> Own {
        let mut aside = Random::new(!self.random.clone().next());
        if !aside.happens(30) {
            return Own::default();
        }
        Own {
            key: aside.happens(50).then(|| self.pipeline.spell(aside.below(5))),
            after_ms: aside
                .happens(40)
                .then(|| *aside.choose(&[-1_000, 0, 1, 1, 5_000, 5_000, -1_800_000_000_000 - 365 * 86_400_000])),
            header: aside.happens(40).then(|| {
                let names = [OWN_HEADER, OWN_HEADER, OWN_HEADER, OWN_HEADER, "tg_changelog", "kafka_dlt-x", "ce_id"];
                (*aside.choose(&names)).to_owned()
            }),
            is_tombstone: aside.happens(30),
            partition_by: aside.happens(30).then(|| self.pipeline.spell(aside.below(5))),
        }
    }

    fn json(&mut self, does: Does) -> Option<String> {
        // A large notice is a large record of the step behind.
        let is_large = matches!(does, Does::Large(_)) && self.is_timed();
        let does = if is_large { Does::Change } else { does };
        let amount =
            *self.random.choose(&[1.0, 0.1, -0.3, 130.653_316_326_530_61, 9_007_199_254_740_991.0 / 1e9, 1e-7]);
        let notices = u8::try_from(*self.random.choose(&[0_u64, 1, 1, 1, 2, 3])).unwrap_or(1);
        let keys =
            (0..*self.random.choose(&[0_u64, 1, 1, 1, 2])).map(|_| self.pipeline.spell(self.random.below(5))).collect();
        let own = self.own();
        let timer = self.timer();
        serde_json::to_string(&Event { amount, notices, keys, own, timer, ..Event::new(self.n, does) }).ok()
    }

    /// What a record does to timers, drawn from another sequence.
    fn timer(&mut self) -> Option<TimerDraw> {
        let mut aside = Random::new(!self.random.clone().next());
        if !self.pipeline.subs.iter().any(|sub| sub.has_timers) || aside.happens(25) {
            return None;
        }
        let may_die = (!self.is_timed() || self.has_timed_rows()) && aside.happens(10);
        let name = *aside.choose(if may_die { &TIMERS } else { &TIMERS[..7] });
        let after = *aside.choose(&[-1_000, 0, 1, 20, 50, 400, 2_000, 60_000]);
        let (after_ms, is_by_wall) = (aside.happens(85).then_some(after), aside.happens(35));
        Some(TimerDraw { name: name.into(), after_ms, is_by_wall })
    }

    fn instance(&mut self) -> usize {
        usize::try_from(self.random.below(self.knobs.instances as u64)).unwrap_or(0)
    }

    /// One fault, of those that can strike this pipeline.
    pub fn fault(&mut self) {
        let (has_rows, is_stateful) = (!self.pipeline.tables().is_empty(), self.pipeline.store_count() > 0);
        let instance = self.instance();
        match self.random.below(30) {
            29 if has_rows => {
                // A dead owner's rows are read at the takeover, one transaction's worth after another.
                let nth = usize::try_from(1 + self.random.below(6)).unwrap_or(1);
                self.acts.extend([Act::OutboxReadFails(nth), Act::Crash("CommitDatabase".into(), 1)]);
            }
            0..=3 => self.crash(),
            4 => {
                self.acts.push(Act::Kill(instance));
                let ms = *self.random.choose(&[10, 1_000, 5_000]);
                self.acts.extend([Act::Turns(2), Act::Pass(ms), Act::Turns(3)]);
                if self.random.happens(40) {
                    self.acts.push(Act::LoseDisk(instance));
                }
                self.acts.push(Act::Start(instance));
            }
            5 => self.acts.extend([Act::Stop(instance), Act::Turns(2), Act::Start(instance)]),
            6 => self.freeze(instance),
            7 | 8 if has_rows => {
                let commits = [Act::CommitFails, Act::CommitAnswerLost(true), Act::CommitAnswerLost(false)];
                let fails = self.random.choose(&commits).clone();
                self.acts.push(fails);
            }
            9 if has_rows => {
                let ms = *self.random.choose(&[10, 3_000]);
                self.acts.extend([
                    Act::DatabaseDown(true),
                    Act::Turns(3),
                    Act::Pass(ms),
                    Act::Turns(2),
                    Act::DatabaseDown(false),
                ]);
            }
            10..=13 => {
                let failure = *self.random.choose(&FAILURES);
                if failure == Failure::Renew {
                    // A producer is replaced where it may not be used again.
                    let doubt = *self.random.choose(&[Failure::Taint, Failure::Commit, Failure::CommitAnswer]);
                    self.acts.push(Act::Fail(doubt));
                }
                self.acts.push(Act::Fail(failure));
                // Twice in a row tasks are parted.
                self.acts.extend(self.random.happens(30).then_some(Act::Fail(failure)));
            }
            14 => self.acts.push(Act::Start(self.knobs.instances)),
            15 => {
                self.acts.extend([Act::Kill(instance), Act::LateCommits, Act::Turns(1), Act::Start(instance)]);
            }
            16 => self.other_writer(),
            17 => {
                let nth = usize::try_from(self.random.below(3)).unwrap_or(0);
                self.acts.push(Act::Expire(nth));
            }
            18 if is_stateful => self.acts.extend([
                Act::DiskFull(instance, true),
                Act::Turns(4),
                Act::Pass(300),
                Act::Turns(2),
                Act::DiskFull(instance, false),
            ]),
            19 if is_stateful => self.acts.extend([
                Act::DiskBlocked(instance, true),
                Act::Turns(4),
                Act::Pass(100),
                Act::Turns(2),
                Act::DiskBlocked(instance, false),
            ]),
            20 => self.threshold(),
            21..=23 => self.disaster(),
            24 | 25 => self.disaster_among_the_living(instance),
            26 => self.starts_fail(),
            27 if self.pipeline.subs.iter().any(|sub| sub.ttl_ms.is_some()) => self.acts.push(Act::EverLasting),
            28 if is_stateful => self.disaster_that_a_disk_proves(),
            _ => self.crash(),
        }
    }

    /// Starts that fail, failures in a row, which part tasks, and several batches that go out together.
    fn starts_fail(&mut self) {
        let count = *self.random.choose(&[1, 5, 30]);
        self.acts.extend([Act::StartsFail(count), Act::Fail(Failure::Commit), Act::Fail(Failure::Commit)]);
        for _ in 0..4 {
            self.record(0);
            self.acts.extend([Act::Pass(100), Act::Turns(1)]);
        }
    }

    /// A disaster that only a store's checkpoint can show.
    fn disaster_that_a_disk_proves(&mut self) {
        let leads: Vec<String> = self.pipeline.subs.iter().map(|sub| sub.lead.clone()).collect();
        let topic = self.random.choose(&leads).clone();
        let partition = i32::try_from(self.random.below(4)).unwrap_or(0);
        let nth = usize::try_from(self.random.below(self.pipeline.store_count() as u64)).unwrap_or(0);
        let offsets = 1 + i64::try_from(self.random.below(6)).unwrap_or(0);
        let disaster = match self.random.happens(50) {
            true => Disaster::OffsetBack(topic, partition),
            false => Disaster::ChangelogCut(nth, partition, offsets),
        };
        self.acts.push(Act::Disaster(disaster));
        self.acts.extend((0..self.knobs.instances).map(Act::Start));
    }

    fn crash(&mut self) {
        let (step, nth) = (*self.random.choose(&COMMIT_STEPS), *self.random.choose(&[1, 1, 2, 3]));
        self.crash_after(step, nth);
    }

    /// A crash, where the pipeline takes that step, and time to reach it in.
    pub fn crash_after(&mut self, step: &str, nth: usize) {
        let (has_rows, is_stateful) = (!self.pipeline.tables().is_empty(), self.pipeline.store_count() > 0);
        let of_rows = ["Claim", "OpenDatabase", "MovePosition", "WriteRows", "WriteOutbox", "CommitDatabase"];
        if (of_rows.contains(&step) && !has_rows) || (step == "WriteStore" && !is_stateful) {
            return;
        }
        let crash = Act::Crash(step.into(), nth);
        match step {
            // Only where there is a takeover.
            "Claim" | "ReadCommitted" | "PublishRemainder" => {
                let instance = self.instance();
                let leaves = self.random.choose(&[Act::Kill(instance), Act::Stop(instance), Act::Expire(0)]).clone();
                self.acts.extend([leaves, crash, Act::Pass(2_500), Act::Start(instance), Act::Turns(6)]);
            }
            "WriteStore" => {
                let flush = Act::Pass(self.knobs.flush_ms);
                self.acts.extend([crash, Act::Turns(6), flush, Act::Turns(4)]);
            }
            _ => {
                self.acts.push(crash);
                if self.random.happens(40) {
                    self.acts.push(Act::Turns(6));
                }
            }
        }
    }

    fn freeze(&mut self, instance: usize) {
        let ms = *self.random.choose(&[100, 2_500, 6_000]);
        self.acts.extend([
            Act::Freeze(instance),
            Act::Turns(2),
            Act::Pass(ms),
            Act::Turns(4),
            Act::Pass(60),
            Act::Turns(4),
        ]);
        if self.random.happens(50) {
            self.acts.push(Act::Zombie(instance, 2));
        }
        self.acts.push(Act::Thaw(instance));
    }

    fn threshold(&mut self) {
        let numbers: Vec<usize> = (0..)
            .zip(&self.pipeline.subs)
            .filter(|(_, sub)| sub.threshold.is_some())
            .map(|(number, _)| number)
            .collect();
        if !numbers.is_empty() {
            let name = format!("limit-{}", self.random.choose(&numbers));
            let value = *self.random.choose(&[0, 3, 1_000]);
            self.acts.push(Act::Threshold(name, value));
        }
    }

    /// Sources that no step of the pipeline writes: the output of a step is an output as well.
    fn inputs(&self) -> Vec<String> {
        let subs = &self.pipeline.subs;
        let mut topics: Vec<String> = subs.iter().map(|sub| sub.lead.clone()).collect();
        topics.extend(subs.iter().filter(|sub| sub.companion.is_some()).map(SubDraw::companion_topic));
        topics.extend(subs.iter().filter(|sub| sub.is_joined()).map(SubDraw::table_topic));
        topics.extend(subs.iter().filter(|sub| sub.has_two_tables()).map(SubDraw::second_table_topic));
        // Several inputs of one state have most to lose.
        for sub in subs.iter().filter(|sub| sub.companion.is_some() && sub.has_store) {
            topics.extend([sub.lead.clone(), sub.companion_topic(), sub.lead.clone(), sub.companion_topic()]);
        }
        topics.retain(|topic| !self.pipeline.is_written(topic));
        topics
    }

    /// A disaster of one source partition, one store, or the database.
    fn local_disaster(&mut self) -> Option<Disaster> {
        let topics = self.inputs();
        if topics.is_empty() {
            return None;
        }
        let topic = self.random.choose(&topics).clone();
        let partition = i32::try_from(self.random.below(4)).unwrap_or(0);
        let offset = i64::try_from(self.random.below(6)).unwrap_or(0);
        let (stores, has_rows) = (self.pipeline.store_count() as u64, !self.pipeline.tables().is_empty());
        Some(match self.random.below(8) {
            0 | 1 => Disaster::OffsetLost(topic, partition),
            2 => Disaster::OffsetReset(topic, partition, offset),
            3 => Disaster::InputsDeleted(topic, partition, offset),
            4 => Disaster::Recreated(topic),
            5 if stores > 0 => Disaster::ChangelogLost(usize::try_from(self.random.below(stores)).unwrap_or(0)),
            6 | 7 if has_rows => Disaster::Restored,
            _ => Disaster::OffsetLost(topic, partition),
        })
    }

    fn disaster(&mut self) {
        let chosen = match self.random.below(10) {
            0 | 1 => Some(Disaster::GroupDeleted),
            2 => Some(Disaster::GroupBegunAgain),
            _ => self.local_disaster(),
        };
        let Some(disaster) = chosen else { return };
        self.before(&disaster);
        // With no instance up, and perhaps with no disk that remembers, a loss must be seen all the same.
        if self.random.happens(60) {
            let instances = 0..self.knobs.instances;
            self.acts.extend(instances.clone().map(Act::Kill));
            self.acts.push(Act::Pass(10_000));
            if self.random.happens(60) {
                self.acts.extend(instances.map(Act::LoseDisk));
            }
        }
        self.acts.push(Act::Disaster(disaster));
        self.acts.extend((0..self.knobs.instances).map(Act::Start));
    }

    /// Nobody dies of it, or one does.
    fn disaster_among_the_living(&mut self, instance: usize) {
        let Some(disaster) = self.local_disaster() else { return };
        self.before(&disaster);
        self.acts.push(Act::Living(disaster));
        match self.random.below(3) {
            0 => {}
            1 => self.acts.push(Act::Turns(6)),
            _ => self.acts.extend([
                Act::Turns(2),
                Act::Kill(instance),
                Act::Pass(2_500),
                Act::Turns(4),
                Act::Start(instance),
            ]),
        }
    }

    /// The state that a database is set back to, and the records that it loses.
    fn before(&mut self, disaster: &Disaster) {
        if *disaster != Disaster::Restored {
            return;
        }
        self.acts.extend([Act::Disaster(Disaster::Backup), Act::Turns(4)]);
        self.record(0);
        self.record(0);
        self.acts.push(Act::Turns(4));
        // A failover that goes back, with a COMMIT that nobody answers any more.
        if self.random.happens(40) {
            let is_applied = self.random.happens(50);
            self.acts.push(Act::CommitAnswerLost(is_applied));
            self.record(0);
            let turns = u16::try_from(self.random.below(3)).unwrap_or(0);
            self.acts.extend([Act::Turns(turns), Act::DatabaseDown(true), Act::Turns(2), Act::DatabaseDown(false)]);
        }
    }

    fn other_writer(&mut self) {
        let tables = self.pipeline.tables();
        if tables.is_empty() {
            return;
        }
        let table = TABLES[usize::from(*self.random.choose(&tables))].to_owned();
        let id = i64::try_from(self.random.below(5)).unwrap_or(0);
        let key = self.pipeline.key(id).to_string();
        let row = || serde_json::to_string(&Account { doc: None, ..first_row(id) }).unwrap_or_default();
        let steps = self
            .pipeline
            .subs
            .iter()
            .filter(|sub| matches!(sub.step, StepDraw::Update(own) if TABLES[usize::from(own)] == table));
        let kinds = if steps.count() > 1 { 3 } else { 6 }; // of a table of two steps no row comes or goes
        match self.random.below(kinds) {
            0..3 => self.acts.push(Act::Write(table, key, "note".into(), format!("\"note {}\"", self.n))),
            3 => self.acts.push(Act::Delete(table, key)),
            // A row that nobody deletes is there.
            4 => self.acts.extend([Act::Delete(table.clone(), key.clone()), Act::Insert(table, key, row())]),
            _ => self.acts.extend([Act::Delete(table.clone(), key.clone()), Act::InsertFirst(table, key, row())]),
        }
    }
}
