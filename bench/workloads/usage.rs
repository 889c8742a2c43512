//! One job: the sums by user, prepared, timed and judged, as W2 and W4 both need them.

use crate::Outcome;
use crate::child::{Child, Hops, Kept, KeyedRun, Shape};
use crate::judge::usage::{Case, Sums, judge};
use crate::judge::windows;
use crate::load::events::{Events, Usage};
use crate::meter::stretch::{Stretch, perf_file};
use crate::meter::traffic::{Bytes, Traffic};
use crate::options::keyed::Keyed;
use crate::ours::keyed::Internal;
use crate::report::run::{Flow, Run};
use crate::rig::topics::{self, PARTITIONS, Topic};
use crate::rig::{Rig, filling};

const SEED: u64 = 20_260_131;
/// Events of a user for each notice, as in the published runs of Kafka Streams.
const EVERY: u64 = 10;

/// A workload over keyed state under way.
pub struct UsageBench<'a> {
    pub rig: Rig,
    pub options: &'a Keyed,
    runs: usize,
}

impl<'a> UsageBench<'a> {
    pub fn new(rig: Rig, options: &'a Keyed) -> Self {
        Self { rig, options, runs: 0 }
    }

    pub fn parameters(options: &Keyed) -> serde_json::Value {
        serde_json::json!({
            "seed": SEED, "records": options.records, "users": options.users, "bytes": options.bytes,
            "commit_ms": options.commit_ms, "every": EVERY, "kept of ten": options.kept, "workers": options.common.workers,
            "store": options.keeping.store.name(), "flush_ms": options.keeping.flush_ms, "partitions": PARTITIONS,
            "layout": "a: all processes share all cores",
        })
    }

    /// Writes the events of one size, each once; `is_keyed` as a source that is partitioned by user.
    pub fn fill(&self, bytes: usize, is_keyed: bool) -> Outcome<Events> {
        self.fill_of(self.options.users, bytes, is_keyed)
    }

    /// The same of so many users.
    pub fn fill_of(&self, users: u64, bytes: usize, is_keyed: bool) -> Outcome<Events> {
        let topic = format!("events-{}-{bytes}-{users}", if is_keyed { "keyed" } else { "unkeyed" });
        let events = Events::new(&topic, SEED, self.options.records_of(bytes), users, bytes, is_keyed);
        topics::create(&self.rig.brokers, &[&topic, &format!("{topic}-dlt")])?;
        filling::events(&self.rig.brokers, &events)?;
        Ok(events)
    }

    /// A run with a group and topics of its own; `hops`: how often it counts each record.
    fn prepare(&mut self, name: &str, events: &Events, shape: Shape, keeps: Kept, hops: Hops) -> Outcome<KeyedRun> {
        self.runs += 1;
        // Topics and folders are named after it, and take no blanks.
        let group = format!("{}-{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), self.runs);
        let Keyed { commit_ms, keeping, kept, ref common, .. } = *self.options;
        let run = KeyedRun {
            brokers: self.rig.brokers.clone(),
            output: format!("{group}-out"),
            input: events.topic.clone(),
            shape,
            keeps,
            partitions: PARTITIONS,
            every: EVERY,
            kept,
            records: counted(events, kept, hops),
            commit_ms,
            workers: common.workers,
            store: keeping.store,
            flush_ms: keeping.flush_ms,
            folder: self.rig.folder().join(&group),
            group,
        };
        topics::create(&run.brokers, &[&run.output])?;
        Ok(run)
    }

    /// One run of ours over the whole input, judged.
    pub fn ours(&mut self, system: &'static str, events: &Events, shape: Shape) -> Outcome<Run> {
        self.kept(system, events, shape, Kept::Sum)
    }

    /// The same, with sums or windows kept of each user; windows over keyed events alone, whose order is that of time.
    pub fn kept(&mut self, system: &'static str, events: &Events, shape: Shape, keeps: Kept) -> Outcome<Run> {
        let hops = if shape == Shape::Shuffled { Hops::Both } else { Hops::One };
        let run = self.prepare(system, events, shape, keeps, hops)?;
        let internal = Internal::of(&run)?;
        internal.create(&run)?;
        let before = Traffic::read(&self.rig)?;
        let perf = perf_file(self.options.common.perf.as_deref(), &run.group)?;
        let stretch = Stretch::run(&self.rig, &Child::Keyed(run.clone()), per_event(events, &run), perf.as_deref())?;
        let traffic = Traffic::read(&self.rig)?;
        let sums =
            Sums { changelog: &internal.changelog, output: &run.output, every: EVERY, before: &|_| Usage::default() };
        let verdict = judge(&Case {
            brokers: &run.brokers,
            events,
            kept: run.kept,
            group: &run.group,
            keyed: &internal.keyed,
            is_keyed_read: true,
            sums: (keeps == Kept::Sum).then_some(sums),
            dead_letters: &internal.dead_letters,
        })?;
        let (messages, changelog_records) = match keeps {
            Kept::Sum => (verdict.messages, verdict.changelog_records),
            Kept::Windows => windows::judge(&run.brokers, events, EVERY, [&internal.changelog, &run.output])?,
        };
        let mut judged = stretch.judged(system, false, messages);
        judged.bytes = Some(events.bytes);
        judged.flow = Some(flow(events, &traffic, &before, &internal, changelog_records));
        Ok(judged)
    }

    /// One run of the reference over the whole input, judged.
    pub fn null(&mut self, system: &'static str, events: &Events, hops: Hops) -> Outcome<Run> {
        let run = self.prepare(system, events, Shape::Shuffled, Kept::Sum, hops)?;
        let before = Traffic::read(&self.rig)?;
        let stretch = Stretch::run(&self.rig, &Child::Null(run.clone(), hops), per_event(events, &run), None)?;
        let traffic = Traffic::read(&self.rig)?;
        let verdict = judge(&Case {
            brokers: &run.brokers,
            events,
            kept: run.kept,
            group: &run.group,
            keyed: &run.output,
            is_keyed_read: hops == Hops::Both,
            sums: None,
            dead_letters: &[],
        })?;
        let internal = Internal { keyed: run.output, changelog: String::new(), dead_letters: Vec::new() };
        let mut judged = stretch.judged(system, false, verdict.messages);
        judged.bytes = Some(events.bytes);
        judged.flow = Some(flow(events, &traffic, &before, &internal, 0));
        Ok(judged)
    }
}

/// Number of records that a system counts in all: every event, and those that are kept again where they arrive.
fn counted(events: &Events, kept: u64, hops: Hops) -> u64 {
    events.records + if hops == Hops::Both { events.count_below(kept) } else { 0 }
}

/// Times that a system counts an event, on average.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn per_event(events: &Events, run: &KeyedRun) -> f64 {
    run.records as f64 / events.records as f64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn flow(events: &Events, now: &Traffic, before: &Traffic, internal: &Internal, changelog_records: u64) -> Flow {
    let per_record = |bytes: f64| bytes / events.records as f64;
    let (all, input) = (now.of_all(before), now.of_topic(&events.topic, before));
    let is_shuffled = internal.keyed != events.topic;
    let keyed = if is_shuffled { now.of_topic(&internal.keyed, before) } else { Bytes::default() };
    Flow {
        taken: per_record(all.taken),
        given: per_record(all.given),
        input_given: per_record(input.given),
        repartition_given: per_record(keyed.given),
        repartition: per_record(keyed.taken),
        changelog: per_record(now.of_topic(&internal.changelog, before).taken),
        changelog_records: Some(per_record(changelog_records as f64)),
    }
}

impl Internal {
    /// Creates the topics of a run that nobody else has created: all but its input and its output.
    pub fn create(&self, run: &KeyedRun) -> Outcome {
        let of = |name| Topic { name, partitions: run.partitions, is_compacted: false };
        let keyed = (self.keyed != run.input).then(|| of(&self.keyed));
        let changelog = Topic { is_compacted: true, ..of(&self.changelog) };
        let is_new = |name: &&String| **name != format!("{}-dlt", run.input);
        let dead_letters = self.dead_letters.iter().filter(is_new).map(|name| of(name));
        topics::create_all(&run.brokers, keyed.into_iter().chain([changelog]).chain(dead_letters))
    }
}
