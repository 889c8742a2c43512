//! Histories in which everything is as it must be, at random: how a pipeline with the load's algorithm may have come to
//! where it stands.

use crate::laws::chain::{chained, magnitude_of};
use crate::laws::history::Values;
use crate::laws::{
    Expect, Fate, History, Input, Link, Output, Position, Row, Sample, Source, SourceSample, States, Verdict,
};
use crate::random::Random;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tidegate::engine::audit::comparison::origin_of;
use tidegate::engine::outbound::limits::Limits;
use tidegate::engine::outbound::message::{dead_letter, headers_of, is_dead_letter, notice};
use tidegate::flow::effect::{Emission, Reject};
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{NextOffset, Offset, Partition, Record, Timestamp, TopicName, TopicPartition};
use tidegate::ports::Clock;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::history::Found;
use tidegate::ports::rows::OutboxRow;

pub const PIPELINE: &str = "load";
pub const OUTPUT: &str = "out";
const SOURCES: [&str; 2] = ["in-a", "in-b"];
const BEGAN_AT_MS: i64 = 1_790_000_000_000;

/// A clean history. Every other one is drained, some keep their outbox for a short time only, some contain a fault.
pub fn clean(random: &mut Random) -> History {
    let mut world = World::new(random);
    world.feed();
    world.decide();
    world.publish();
    world.watch();
    world.forget();
    world.history
}

pub fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

/// The message of an outbox row, in its partition, at no offset yet.
pub fn message(history: &History, row: &OutboxRow) -> Found {
    let count = history.output_partitions[&row.destination];
    let partition =
        if is_dead_letter(row) { row.source.partition.0 } else { partition_for(row.key.as_deref().unwrap(), count) };
    let headers = headers_of(PIPELINE, row);
    let timestamp = row.timestamp.unwrap_or(row.created_at);
    Found { partition, offset: 0, timestamp, key: row.key.clone(), value: row.value.clone(), headers }
}

/// The outbox row of the notice of one change.
pub fn notice_of(input: &Input, link: &Link, threshold: f64, at_ms: i64) -> OutboxRow {
    let key = link.id.to_string();
    let (nonce, magnitude) = (link.nonce, magnitude_of(link.nonce));
    let value = format!(r#"{{"nonce":{nonce},"magnitude":{magnitude}}}"#).into_bytes();
    let emission = Emission {
        destination: topic(OUTPUT),
        value: Some(value),
        envelope: None,
        content_type: "application/json",
        threshold: Some(threshold),
    };
    let record = record(input.offset, Some(key.as_bytes()));
    notice(&input.place, 0, &record, 0, emission, Some(link.number), Timestamp(at_ms))
}

/// The outbox row of a dead letter.
pub fn letter_of(input: &Input, at_ms: i64) -> OutboxRow {
    let record = Record { value: Some(b"{"), ..record(input.offset, None) };
    let reject = Reject::dead_letter("bad-json", "not JSON");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let no_limits = Limits::new(&clock, HashMap::new());
    dead_letter(PIPELINE, &no_limits, &input.place, 0, &record, &reject, Timestamp(at_ms))
}

const fn record(offset: Offset, key: Option<&[u8]>) -> Record<'_> {
    Record { offset, timestamp: Timestamp(BEGAN_AT_MS), key, value: None, headers: &[] }
}

struct World<'r> {
    random: &'r mut Random,
    history: History,
    partitions: i32,
    ids: i64,
    /// Inputs in the order they were decided.
    decided: Vec<usize>,
    now_ms: i64,
    ends: BTreeMap<(TopicName, i32), i64>,
}

impl<'r> World<'r> {
    fn new(random: &'r mut Random) -> Self {
        let partitions = 1 + number(random, 3);
        let mut output_partitions = BTreeMap::from([(topic(OUTPUT), i32::try_from(2 + number(random, 4)).unwrap())]);
        let partitions = i32::try_from(partitions).unwrap();
        let mut sources = Vec::new();
        for name in SOURCES {
            output_partitions.insert(topic(&format!("{name}-dlt")), partitions);
            for partition in 0..partitions {
                let start = NextOffset(number(random, 2) * number(random, 100));
                let position = Position { epoch: 1 + number(random, 9), decided: start, published: start };
                let place = TopicPartition::new(topic(name), Partition(partition));
                sources.push(Source { place, start, end: start, committed: Some(start), position: Some(position) });
            }
        }
        let history = History {
            pipeline: PIPELINE.into(),
            read_at_ms: 0,
            outbox_kept_ms: 86_400_000,
            is_drained: random.below(2) == 0,
            sources,
            inputs: Vec::new(),
            rows: Vec::new(),
            links: Vec::new(),
            verdicts: Vec::new(),
            outbox: Vec::new(),
            outputs: Vec::new(),
            output_partitions,
            states: States::default(),
            samples: Vec::new(),
            healed_at_ms: None,
            accepted: Vec::new(),
        };
        let ids = 2 + number(random, 12);
        Self { random, history, partitions, ids, decided: Vec::new(), now_ms: BEGAN_AT_MS, ends: BTreeMap::new() }
    }

    fn is(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn feed(&mut self) {
        for receipt in 0..number(self.random, 80) {
            let id = 1 + number(self.random, self.ids);
            let expect = if self.is(10) { Expect::DeadLetter } else { Expect::Change(id) };
            let partition = match expect {
                Expect::Change(id) => partition_for(id.to_string().as_bytes(), self.partitions),
                Expect::DeadLetter => i32::try_from(number(self.random, self.partitions.into())).unwrap(),
            };
            let gap = i64::from(self.is(5)); // a marker of a producer's transaction
            let index = usize::try_from(number(self.random, 2)).unwrap();
            let place = TopicPartition::new(topic(SOURCES[index]), Partition(partition));
            let source = self.history.sources.iter_mut().find(|source| source.place == place).unwrap();
            let offset = Offset(source.end.0 + gap);
            source.end = offset.next();
            self.history.inputs.push(Input { place, offset, expect, receipt: Some(receipt.unsigned_abs()) });
        }
        self.history.accepted = self.history.inputs.iter().filter_map(|input| input.receipt).collect();
        // Compaction and markers may leave an end behind the last record.
        if !self.history.is_drained && self.is(50) {
            self.history.accepted.truncate(self.history.inputs.len() / 2);
        }
    }

    /// Takes inputs in offset order, the partitions mixed. Not drained, each partition stops somewhere.
    fn decide(&mut self) {
        let mut threshold = 0.7;
        let (inputs, drained) = (self.history.inputs.clone(), self.history.is_drained);
        let mut stopped: Vec<TopicPartition> = Vec::new();
        let mut rows: BTreeMap<i64, Row> =
            (1..=self.ids).map(|id| (id, Row { id, version: 0, nonce: 0, chain: 0 })).collect();
        for (index, input) in inputs.iter().enumerate() {
            if stopped.contains(&input.place) {
                continue;
            }
            if !drained && self.is(3) {
                stopped.push(input.place.clone());
                continue;
            }
            if self.is(3) {
                threshold = if threshold == 0.7 { 0.4 } else { 0.7 };
            }
            self.now_ms += number(self.random, 20);
            self.decided.push(index);
            let mut verdict = Verdict {
                place: input.place.clone(),
                offset: input.offset,
                is_change: false,
                magnitude: None,
                threshold: None,
                decided_at_ms: self.now_ms,
            };
            match input.expect {
                Expect::DeadLetter => self.history.outbox.push(letter_of(input, self.now_ms)),
                Expect::Change(id) => {
                    let row = rows.get_mut(&id).unwrap();
                    let link = next_link(row, input, self.random.next().cast_signed());
                    let magnitude = magnitude_of(link.nonce);
                    (verdict.magnitude, verdict.threshold) = (Some(magnitude), Some(threshold));
                    verdict.is_change = true;
                    if magnitude >= threshold {
                        self.history.outbox.push(notice_of(input, &link, threshold, self.now_ms));
                    }
                    self.history.links.push(link);
                }
            }
            self.history.verdicts.push(verdict);
            let source = self.history.sources.iter_mut().find(|source| source.place == input.place).unwrap();
            source.position.as_mut().unwrap().decided = input.offset.next();
        }
        self.history.rows = rows.into_values().collect();
    }

    /// One transaction after the other over what was decided, some aborted at first. Not drained, the last may be open or
    /// not begun.
    fn publish(&mut self) {
        let mut decided = std::mem::take(&mut self.decided);
        if !self.history.is_drained {
            let left = usize::try_from(number(self.random, 10)).unwrap();
            let kept = decided.split_off(decided.len().saturating_sub(left));
            if self.is(50) {
                self.send(&kept, Fate::Open);
            }
        }
        let mut rest = decided.as_slice();
        while !rest.is_empty() {
            let count = 1 + usize::try_from(number(self.random, 12)).unwrap();
            let (part, others) = rest.split_at(count.min(rest.len()));
            while self.is(15) {
                self.send(part, Fate::Aborted);
            }
            self.send(part, Fate::Committed);
            rest = others;
        }
        for index in 0..self.history.sources.len() {
            let published = self.random.below(3);
            let source = &mut self.history.sources[index];
            let (start, k) = (source.start, source.committed.unwrap());
            let p = if published == 0 { start } else { k };
            source.position.as_mut().unwrap().published = p;
        }
        self.history.outputs.sort_by_key(|output| (output.topic.clone(), output.found.partition, output.found.offset));
    }

    fn send(&mut self, inputs: &[usize], fate: Fate) {
        let history = &mut self.history;
        let transaction =
            history.outputs.iter().filter_map(|output| output.transaction).max().map_or(0, |last| last + 1);
        for input in inputs.iter().map(|index| &history.inputs[*index]) {
            let is_of_it = |row: &&OutboxRow| row.source == input.place && row.source_offset == input.offset;
            for row in history.outbox.iter().filter(is_of_it) {
                let mut found = message(history, row);
                let end = self.ends.entry((row.destination.clone(), found.partition)).or_default();
                found.offset = *end;
                *end += 1;
                history.outputs.push(Output {
                    topic: row.destination.clone(),
                    found,
                    transaction: Some(transaction),
                    fate,
                    is_visible: fate == Fate::Committed,
                });
            }
            if fate == Fate::Committed {
                let source = history.sources.iter_mut().find(|source| source.place == input.place).unwrap();
                source.committed = Some(source.committed.unwrap().max(input.offset.next()));
            }
        }
        self.ends.values_mut().for_each(|end| *end += 1); // markers
    }

    /// Samples on the way here, with a fault healed at the first, and keyed state.
    fn watch(&mut self) {
        let history = &mut self.history;
        let count = 2 + number(self.random, 3);
        for step in 0..=count {
            let part = |start: NextOffset, end: NextOffset| NextOffset(start.0 + (end.0 - start.0) * step / count);
            let sample = |source: &Source| {
                let position = source.position.unwrap();
                SourceSample {
                    place: source.place.clone(),
                    end: source.end,
                    committed: Some(part(source.start, source.committed.unwrap())),
                    position: Some((1 + (position.epoch - 1) * step / count, part(source.start, position.decided))),
                }
            };
            let outputs = self.ends.iter().map(|((topic, partition), end)| {
                (TopicPartition::new(topic.clone(), Partition(*partition)), end * step / count, *end)
            });
            history.samples.push(Sample {
                at_ms: self.now_ms + step * 61_000,
                sources: history.sources.iter().map(sample).collect(),
                outputs: outputs.collect(),
                idle_ms: number(self.random, 10_001),
                lock_wait_ms: number(self.random, 5_001),
            });
        }
        self.now_ms += count * 61_000;
        history.read_at_ms = self.now_ms;
        // Not drained, or watched for one step only, there is less to say.
        if history.is_drained {
            history.healed_at_ms = history.samples.iter().rev().nth(1).map(|sample| sample.at_ms);
        }
        let value = |n: i64| ((String::from("sums"), format!("k{n}")), (n * n).to_string());
        let values: Values = (0..number(self.random, 5)).map(value).collect();
        let stores = (self.random.below(2) == 0).then(|| values.clone());
        history.states = States { replayed: values.clone(), changelog: values, stores };
    }

    /// Drops published outbox rows older than they are kept.
    fn forget(&mut self) {
        if !self.is(30) {
            return;
        }
        let history = &mut self.history;
        let span = history.outbox.last().map_or(0, |last| last.created_at.0 - BEGAN_AT_MS);
        let oldest = BEGAN_AT_MS + number(self.random, span + 1);
        history.outbox_kept_ms = history.read_at_ms - oldest;
        let published: BTreeMap<_, _> =
            history.sources.iter().map(|s| (&s.place, s.position.unwrap().published)).collect();
        history.outbox.retain(|row| row.created_at.0 >= oldest || published[&row.source].is_before(row.source_offset));
    }
}

/// Below `end`, which is at least 1.
fn number(random: &mut Random, end: i64) -> i64 {
    random.below(end.unsigned_abs()).cast_signed()
}

/// Changes a row by one input.
pub fn next_link(row: &mut Row, input: &Input, nonce: i64) -> Link {
    let place = (input.place.topic.as_str(), input.place.partition.0, input.offset.0);
    row.version += 1;
    row.nonce = nonce;
    row.chain = chained(row.chain, row.id, place, nonce);
    let (place, offset) = (input.place.clone(), input.offset);
    Link { id: row.id, number: row.version, place, offset, nonce, chain: row.chain }
}

/// The input that a message names.
pub fn origin(output: &Output) -> (TopicPartition, Offset) {
    let id = output.found.id().unwrap();
    let origin = origin_of(PIPELINE, id).unwrap();
    (origin.source, origin.offset)
}
