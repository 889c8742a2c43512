//! Holds what the engine left behind against what the naive interpreter makes of the same records.

use super::interpreter::{Expected, Interpreter, Kept, Kind, Refuses, Stores};
use super::observed::{Event, Message, Observed, Progress, Row, Standstill};
use crate::engine::cache::CLOCK;
use crate::engine::decision::HaltReason;
use crate::engine::message::OMITTED_HEADER;
use crate::engine::supervisor::outputs;
use crate::flow::identity::{ID_HEADER, VERSION_HEADER};
use crate::flow::key::Key;
use crate::flow::record::{Header, NextOffset, Partition, TopicName, TopicPartition};
use crate::flow::row::Value;
use crate::flow::topology::{SubTopology, Topology};
use std::collections::{BTreeMap, BTreeSet};

/// How far ahead of the clock an event time may be by the interpreter: schedules keep clear of the engine's own bound.
const AHEAD_MS: i64 = 3_600_000;

/// A difference between the engine and the interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable word, by which a schedule that is being shrunk is still the same finding.
    pub kind: &'static str,
    /// A sentence with the numbers.
    pub detail: String,
}

/// A message as it lies in its topic.
struct Actual<'a> {
    partition: i32,
    input: &'a Message,
}

impl Actual<'_> {
    /// The last header of the name: the engine's own stand behind the record's.
    fn header(&self, name: &str) -> Option<&str> {
        let header = self.input.headers.iter().rev().find(|header: &&Header| header.name == name)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, kind: &'static str, detail: impl Into<String>) {
        self.0.push(Finding { kind, detail: detail.into() });
    }
}

impl Observed {
    /// Compares rows, messages, stores, offsets and halts with what the interpreter makes of the same records. The topology's
    /// steps are those of the run, once nothing asks to be offered again any more. `refuses` says which rows the tables'
    /// constraints refuse.
    #[must_use]
    pub fn judge(&self, topology: &Topology, refuses: &dyn Fn(&str, &BTreeMap<String, Value>) -> bool) -> Vec<Finding> {
        let mut findings = Findings(Vec::new());
        let mut interpreter = Interpreter {
            topology,
            settings: &self.settings,
            partitions: self.partitions,
            limits: &self.limits,
            refuses: refuses as Refuses<'_>,
            latest_event_time: self.now_ms + AHEAD_MS,
            rows: self.first_rows.clone(),
            stores: BTreeMap::new(),
            out: Vec::new(),
            halts: Vec::new(),
        };
        for (name, value) in &self.thresholds {
            set_threshold(topology, name, *value);
        }
        self.interpret(&mut interpreter, &mut findings);
        self.judge_rows(topology, &interpreter.rows, &mut findings);
        self.judge_messages(topology, &interpreter.out, &mut findings);
        self.judge_stores(topology, &interpreter.stores, &mut findings);
        self.judge_progress(topology, &mut findings);
        self.judge_halts(&interpreter, &mut findings);
        for open in &self.open {
            findings.add("open-transaction", open);
        }
        findings.0
    }

    /// Every decided record, one by one, in the order in which the engine decided.
    fn interpret(&self, interpreter: &mut Interpreter<'_>, findings: &mut Findings) {
        let mut last: BTreeMap<(TopicPartition, Option<Vec<u8>>), i64> = BTreeMap::new();
        for event in &self.events {
            match event {
                Event::Written { table, key, column, value } => {
                    if let Some(row) = interpreter.rows.get_mut(&(table.clone(), key.clone())) {
                        row.values.insert(column.clone(), value.clone());
                    }
                }
                Event::Threshold { name, value } => set_threshold(interpreter.topology, name, *value),
                Event::Decided(place, offset, is_applied) => {
                    if self.is_struck(interpreter.topology, &place.topic) {
                        continue;
                    }
                    let find = |log: &BTreeMap<TopicPartition, Vec<Message>>| {
                        let inputs = log.get(place)?;
                        let at = inputs.binary_search_by_key(offset, |input| input.offset).ok()?;
                        inputs.get(at).cloned()
                    };
                    let Some(input) = find(&self.log).or_else(|| find(&self.gone)) else { continue };
                    let key = is_applied.then(|| (place.clone(), input.key.clone()));
                    let before = key.and_then(|key| last.insert(key, offset.0));
                    if before.is_some_and(|before| before >= offset.0) {
                        findings
                            .add("order", format!("{place}: offset {offset} was decided behind {before:?} of its key"));
                    }
                    interpreter.take(place, &input);
                }
            }
        }
        for (place, offset) in &interpreter.halts {
            findings.add("wrongly-keyed", format!("{place}: offset {offset} was decided, and ought to have halted"));
        }
    }

    fn judge_rows(&self, topology: &Topology, expected: &BTreeMap<(String, Key), Row>, findings: &mut Findings) {
        let struck: BTreeSet<&str> =
            self.struck_of(topology).filter_map(|sub| Some(&*sub.table()?.table.name)).collect();
        for (place, row) in expected.iter().filter(|((table, _), _)| !struck.contains(&**table)) {
            let (table, key) = place;
            match self.rows.get(place) {
                None => findings.add("row", format!("{table} {key}: is gone")),
                Some(found) => {
                    let version = found.version;
                    if version != row.version {
                        let detail = format!("{table} {key}: has version {version}, and {} changes", row.version);
                        findings.add("row-version", detail);
                    }
                    let first = self.first_rows.get(place);
                    for (name, value) in &found.values {
                        if first.and_then(|first| first.values.get(name)).is_some_and(|first| !is_like(first, value)) {
                            findings.add("row-type", format!("{table} {key}: {name} is {value:?}"));
                        }
                        let expected = row.values.get(name);
                        if !expected.is_some_and(|expected| is_equal(expected, value)) {
                            findings.add("row", format!("{table} {key}: {name} is {value:?}, not {expected:?}"));
                        }
                    }
                }
            }
        }
    }

    fn read<'a>(&'a self, topic: &'a TopicName) -> impl Iterator<Item = Actual<'a>> {
        let places = self.log.iter().filter(move |(place, _)| place.topic == *topic);
        places.flat_map(|(place, messages)| messages.iter().map(|input| Actual { partition: place.partition.0, input }))
    }

    fn judge_messages(&self, topology: &Topology, expected: &[Expected], findings: &mut Findings) {
        let changelogs = crate::engine::supervisor::changelogs(topology);
        let written: BTreeSet<TopicName> = outputs(topology);
        for topic in written.difference(&changelogs) {
            let due: Vec<&Expected> = expected.iter().filter(|message| message.destination == *topic).collect();
            let sends_on = |sub: &SubTopology| {
                topology.astray_topic(sub).as_ref() == Some(topic)
                    || (sub.rekeys.is_some() && sub.destination.as_ref() == Some(topic))
            };
            if self.struck_of(topology).any(sends_on) {
                continue; // records that were sent on say nothing of where they came from
            }
            let is_judged = |actual: &Actual<'_>| {
                let source = actual.header(ID_HEADER).and_then(|id| id.split('/').nth(1));
                !self.struck_of(topology).any(|sub| sub.sources().any(|topic| Some(topic.as_str()) == source))
            };
            let found: Vec<Actual<'_>> = self.read(topic).filter(is_judged).collect();
            judge_topic(topic, self.limits.contains_key(topic.as_str()), &due, &found, findings);
        }
    }

    /// Stores on disks, changelogs and interpreter agree on everything that can be read.
    fn judge_stores(&self, topology: &Topology, expected: &BTreeMap<(usize, i32), Stores>, findings: &mut Findings) {
        let subs = topology.sub_topologies().iter().enumerate();
        for (number, sub) in subs.filter(|(number, _)| !self.struck.contains(number)) {
            for (at, spec) in sub.stores.iter().enumerate() {
                let Some(changelog) = topology.changelog_topic(spec) else { continue };
                for partition in 0..self.partitions {
                    let stores = expected.get(&(number, partition));
                    let mut logged: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
                    let place = TopicPartition::new(changelog.clone(), Partition(partition));
                    for message in self.log.get(&place).into_iter().flatten() {
                        let key = message.key.clone().unwrap_or_default();
                        match &message.value {
                            Some(value) => logged.insert(key, value.clone()),
                            None => logged.remove(&key),
                        };
                    }
                    let name = format!("store {}-{partition}", spec.name);
                    judge_store(&name, stores, at, &logged, findings);
                    if self.is_halted(sub, partition) {
                        continue;
                    }
                    let Some(kept) = self.kept.get(&(spec.name.to_string(), partition)) else { continue };
                    let (kept, logged) = (readable(kept, stores), readable(&logged, stores));
                    if kept != logged {
                        let detail = format!("{name}: the disk holds {}, its changelog {}", keys(&kept), keys(&logged));
                        findings.add("store-changelog", detail);
                    }
                }
            }
        }
    }

    /// Every record is decided, and committed as far as it is decided.
    fn judge_progress(&self, topology: &Topology, findings: &mut Findings) {
        let subs = topology.sub_topologies().iter().enumerate();
        for (_, sub) in subs.filter(|(number, _)| !self.struck.contains(number)) {
            for (topic, partition) in sub.sources().flat_map(|topic| (0..self.partitions).map(move |n| (topic, n))) {
                let place = TopicPartition::new(topic.clone(), Partition(partition));
                let Progress { decided, committed } = self.progress.get(&place).copied().unwrap_or_default();
                let next = self.log.get(&place).and_then(|messages| messages.last()).map(|last| last.offset);
                let is_read = next.is_none_or(|last| decided.is_some_and(|at| !at.is_before(last)));
                if (!is_read || committed != decided) && !self.is_halted(sub, partition) {
                    let detail = format!("{place}: D is {decided:?}, K {committed:?}, and the last record {next:?}");
                    findings.add("progress", detail);
                }
            }
        }
    }

    fn struck_of<'a>(&'a self, topology: &'a Topology) -> impl Iterator<Item = &'a SubTopology> {
        self.struck.iter().filter_map(|number| topology.sub_topologies().get(*number))
    }

    fn looks_added(&self, topology: &Topology, halt: &Standstill) -> bool {
        let subs = self.forgotten.iter().filter_map(|number| topology.sub_topologies().get(*number));
        let reads = |sub: &SubTopology| sub.sources().any(|topic| *topic == halt.source.topic);
        halt.reason == HaltReason::StoreAdded.label() && subs.into_iter().any(reads)
    }

    fn is_struck(&self, topology: &Topology, source: &TopicName) -> bool {
        self.struck_of(topology).any(|sub| sub.sources().any(|topic| topic == source))
    }

    fn is_halted(&self, sub: &SubTopology, partition: i32) -> bool {
        let is_of =
            |place: &TopicPartition| place.partition.0 == partition && sub.sources().any(|topic| *topic == place.topic);
        self.halts.iter().any(|halt| is_of(&halt.source))
    }

    /// Only what the schedule did may halt a partition: here, records that lie in the wrong partition.
    fn judge_halts(&self, interpreter: &Interpreter<'_>, findings: &mut Findings) {
        for halt in &self.halts {
            let is_due = self.is_struck(interpreter.topology, &halt.source.topic)
                || self.looks_added(interpreter.topology, halt)
                || halt.reason == HaltReason::WronglyKeyed.label()
                    && self.log.get(&halt.source).is_some_and(|inputs| {
                        let decided = self.progress.get(&halt.source).and_then(|progress| progress.decided);
                        let at = decided.unwrap_or(NextOffset(0));
                        let next = inputs.iter().find(|input| at.is_before(input.offset));
                        next.is_some_and(|input| interpreter.halts_at(&halt.source, input))
                    });
            if !is_due {
                findings.add("halt", format!("{}: {} ({})", halt.source, halt.reason, halt.detail));
            }
        }
        for (number, partition) in &self.must_stand {
            let sub = interpreter.topology.sub_topologies().get(*number);
            if let Some(sub) = sub.filter(|sub| !self.is_halted(sub, *partition)) {
                let detail = format!("partition {partition} of {} goes on as if nothing was lost", sub.lead);
                findings.add("must-stand", detail);
            }
        }
    }
}

fn set_threshold(topology: &Topology, name: &str, value: f64) {
    if let Some(threshold) = topology.thresholds().iter().find(|threshold| threshold.name() == name) {
        threshold.set(value);
    }
}

/// The messages of one topic: each expected one once and as it must be, nothing else, and in order.
/// `is_limited`: it may have been too small for all of a dead letter.
fn judge_topic(topic: &TopicName, is_limited: bool, due: &[&Expected], found: &[Actual<'_>], findings: &mut Findings) {
    let mut by_id: BTreeMap<&str, Vec<&Actual<'_>>> = BTreeMap::new();
    let mut loose: Vec<&Actual<'_>> = Vec::new();
    let ids: BTreeSet<&str> = due.iter().filter_map(|message| id_of(message)).collect();
    for actual in found {
        match actual.header(ID_HEADER) {
            Some(id) if ids.contains(id) || due.iter().all(|message| id_of(message).is_some()) => {
                by_id.entry(id).or_default().push(actual);
            }
            _ => loose.push(actual),
        }
    }
    for message in due {
        let Some(id) = id_of(message) else { continue };
        let (place, offset) = (&message.source, message.source_offset);
        match by_id.remove(id).as_deref() {
            None => findings.add(
                if matches!(message.kind, Kind::DeadLetter { .. }) { "dead-letter-missing" } else { "notice-missing" },
                format!("{topic}: nothing of {place}@{offset}, which must be {:?}", message.kind),
            ),
            Some([actual]) => judge_message(topic, is_limited, message, actual, findings),
            Some(several) => findings.add("message-twice", format!("{topic}: {id} is there {} times", several.len())),
        }
    }
    for (id, actual) in by_id {
        let code =
            actual.first().and_then(|actual| actual.header("kafka_dlt-exception-fqcn")).unwrap_or("no dead letter");
        let text = actual.first().and_then(|actual| actual.header("kafka_dlt-exception-message")).unwrap_or_default();
        findings.add("message-unexpected", format!("{topic}: {id} ({code}: {text}) answers to no record"));
    }
    judge_sent_on(topic, due, &loose, findings);
    judge_order(topic, &ids, found, findings);
}

fn id_of(message: &Expected) -> Option<&str> {
    match &message.kind {
        Kind::Notice { id, .. } | Kind::DeadLetter { id, .. } => Some(id),
        Kind::SentOn(_) => None,
    }
}

fn judge_message(
    topic: &TopicName,
    is_limited: bool,
    message: &Expected,
    actual: &Actual<'_>,
    findings: &mut Findings,
) {
    let name = format!("{topic}: {}@{}", message.source, message.source_offset);
    let Actual { partition, input } = actual;
    for (at, header) in input.headers.iter().enumerate().filter(|(_, header)| is_ours(header)) {
        if input.headers.iter().take(at).any(|before| before.name == header.name) {
            findings.add("foreign-header", format!("{name}: has {} twice", header.name));
        }
    }
    if message.partition.is_some_and(|due| due != *partition) {
        findings.add("message-partition", format!("{name}: lies in {partition}, not in {:?}", message.partition));
    }
    if input.key != message.key {
        findings.add("message-key", format!("{name}: has another key"));
    }
    match &message.kind {
        Kind::Notice { version, .. } => {
            if input.value != message.value {
                let text = |value: &Option<Vec<u8>>| {
                    value.as_deref().map(String::from_utf8_lossy).map(std::borrow::Cow::into_owned)
                };
                let (is, due) = (text(&input.value), text(&message.value));
                findings.add("notice-value", format!("{name}: says {is:?}, not {due:?}"));
            }
            let found = actual.header(VERSION_HEADER).and_then(|version| version.parse().ok());
            if found != *version {
                findings.add("notice-version", format!("{name}: tells of version {found:?}, not {version:?}"));
            }
            if input.timestamp != message.timestamp {
                let (is, due) = (input.timestamp.0, message.timestamp.0);
                findings.add("notice-time", format!("{name}: is of {is}, its record of {due}"));
            }
        }
        Kind::DeadLetter { code, .. } => {
            let found = actual.header("kafka_dlt-exception-fqcn");
            if found != Some(code) {
                findings.add("dead-letter-code", format!("{name}: is {found:?}, not {code}"));
            }
            let omitted = actual.header(OMITTED_HEADER).filter(|_| is_limited && input.value.is_none());
            let is_omitted =
                omitted.is_some_and(|bytes| bytes == message.value.as_ref().map_or(0, Vec::len).to_string());
            if input.value != message.value && !is_omitted {
                findings.add("dead-letter-value", format!("{name}: has another value than its record"));
            }
        }
        Kind::SentOn(_) => {}
    }
}

/// Whether a header of this name means something to Tidegate, or to who reads its dead letters.
fn is_ours(header: &Header) -> bool {
    header.name.starts_with("tg_") || header.name.starts_with("kafka_dlt-")
}

/// What tells one record that was sent on from another: partition, key, value, event time.
type Content<'a> = (i32, Option<&'a [u8]>, Option<&'a [u8]>, i64);

/// Records that went on under another key: each as often as it must, in the order of its source partition. Of records with
/// equal contents it cannot be told which came first.
fn judge_sent_on(topic: &TopicName, due: &[&Expected], found: &[&Actual<'_>], findings: &mut Findings) {
    let mut left: BTreeMap<Content<'_>, Vec<usize>> = BTreeMap::new();
    for (at, Actual { partition, input }) in found.iter().enumerate() {
        if let Some(header) = input.headers.iter().find(|header| is_ours(header)) {
            findings.add("foreign-header", format!("{topic}: a record that was sent on has {}", header.name));
        }
        let content = (*partition, input.key.as_deref(), input.value.as_deref(), input.timestamp.0);
        left.entry(content).or_default().push(at);
    }
    let is_single: BTreeMap<Content<'_>, bool> =
        left.iter().map(|(content, places)| (*content, places.len() == 1)).collect();
    let mut last: BTreeMap<(&TopicPartition, i32, Option<&[u8]>), usize> = BTreeMap::new();
    for message in due.iter().filter(|message| matches!(message.kind, Kind::SentOn(_))) {
        let partition = message.partition.unwrap_or_default();
        let content = (partition, message.key.as_deref(), message.value.as_deref(), message.timestamp.0);
        let place = format!("{topic}: {}@{}", message.source, message.source_offset);
        let Some(at) = left.get_mut(&content).and_then(Vec::pop) else {
            findings.add("record-missing", format!("{place}: was not sent on"));
            continue;
        };
        if is_single.get(&content) != Some(&true) {
            continue;
        }
        let before = last.insert((&message.source, partition, message.key.as_deref()), at);
        if before.is_some_and(|before| before > at) {
            findings.add("record-order", format!("{place}: overtook an earlier record of its key"));
        }
    }
    let over: usize = left.values().map(Vec::len).sum();
    if over > 0 {
        findings.add("record-unexpected", format!("{topic}: {over} records more than were sent on"));
    }
}

/// Within each partition the messages of one source partition stand in the order of their records.
fn judge_order(topic: &TopicName, ids: &BTreeSet<&str>, found: &[Actual<'_>], findings: &mut Findings) {
    let mut last: BTreeMap<(i32, String), (i64, i64)> = BTreeMap::new();
    for actual in found {
        let Some(id) = actual.header(ID_HEADER).filter(|id| ids.contains(id)) else { continue };
        let mut parts = id.rsplitn(3, '/');
        let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok());
        let (Some(seq), Some(offset)) = (number(), number()) else { continue };
        let source = parts.next().unwrap_or_default().to_owned();
        let before = last.insert((actual.partition, source), (offset, seq));
        if before.is_some_and(|before| before >= (offset, seq)) {
            findings.add("message-order", format!("{topic}: {id} stands behind {before:?}"));
        }
    }
}

/// What the changelog says of one store, against the interpreter.
fn judge_store(
    name: &str,
    stores: Option<&Stores>,
    at: usize,
    logged: &BTreeMap<Vec<u8>, Vec<u8>>,
    findings: &mut Findings,
) {
    let nothing = BTreeMap::new();
    let kept = stores.and_then(|stores| stores.kept.get(at)).unwrap_or(&nothing);
    if let Some(found) = logged.get(CLOCK) {
        let clock = std::str::from_utf8(unwrapped(found).0.get(1..).unwrap_or_default())
            .ok()
            .and_then(|text| text.parse().ok());
        let due = stores.and_then(|stores| stores.stream_time);
        if clock != due {
            findings.add("clock", format!("{name}: its clock stands at {clock:?}, not at {due:?}"));
        }
    }
    let is_live = |kept: &Kept| stores.is_none_or(|stores| stores.is_live(kept));
    for (key, kept) in kept.iter().filter(|(_, kept)| is_live(kept)) {
        let key_text = String::from_utf8_lossy(key);
        let Some(found) = logged.get(key) else {
            findings.add("store", format!("{name}: {key_text} is missing"));
            continue;
        };
        let (value, expires_at) = unwrapped(found);
        if (value, expires_at) != (&kept.value, kept.expires_at) {
            let (is, due) = (String::from_utf8_lossy(value), String::from_utf8_lossy(&kept.value));
            let detail =
                format!("{name}: {key_text} is {is} until {expires_at:?}, not {due} until {:?}", kept.expires_at);
            findings.add("store", detail);
        }
    }
    for (key, found) in logged.iter().filter(|(key, _)| *key != CLOCK) {
        let (value, expires_at) = unwrapped(found);
        let value = Kept { value: value.to_vec(), expires_at };
        if is_live(&value) && !kept.contains_key(key) {
            findings.add("store", format!("{name}: {} is there, and nothing wrote it", String::from_utf8_lossy(key)));
        }
    }
}

/// What of a store's contents has not expired: the rest is swept from changelog and disk one after the other.
fn readable(contents: &BTreeMap<Vec<u8>, Vec<u8>>, stores: Option<&Stores>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let is_live = |kept: &[u8]| {
        let (value, expires_at) = unwrapped(kept);
        stores.is_none_or(|stores| stores.is_live(&Kept { value: value.to_vec(), expires_at }))
    };
    let live = contents.iter().filter(|(_, kept)| is_live(kept));
    live.map(|(key, kept)| (key.clone(), kept.clone())).collect()
}

/// A kept value without its envelope, and when it expires.
fn unwrapped(kept: &[u8]) -> (&[u8], Option<i64>) {
    match kept.split_first() {
        Some((2, rest)) => match rest.split_first_chunk::<8>() {
            Some((at, value)) => (value, Some(i64::from_be_bytes(*at))),
            None => (rest, None),
        },
        Some((_, value)) => (value, None),
        None => (kept, None),
    }
}

fn keys(kept: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let one = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
    };
    format!("{:?}", kept.iter().map(one).collect::<Vec<_>>())
}

/// Whether a column can hold both.
fn is_like(one: &Value, other: &Value) -> bool {
    let is_null = |value: &Value| *value == Value::Null;
    is_null(one) || is_null(other) || std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn is_equal(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::F64(expected), Value::F64(found)) => expected.to_bits() == found.to_bits(),
        _ => expected == found,
    }
}
