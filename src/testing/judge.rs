//! Holds what the engine left behind against what the naive interpreter makes of the same records.

use super::interpreter::{Expected, Interpreter, Kept, Kind, Refuses, Stores};
use super::observed::{Event, Ledger, Message, Observed, Progress, Row, Standstill};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::state::cache::CLOCK;

use crate::flow::identity::{ID_HEADER, VERSION_HEADER};
use crate::flow::key::Key;
use crate::flow::record::{Header, NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::flow::row::Value;
use crate::flow::store::StoreSpec;
use crate::flow::topology::{SubTopology, Topology};
use std::collections::{BTreeMap, BTreeSet};

/// How far ahead of the clock an event time may be by the interpreter: schedules keep clear of the engine's own bound.
const AHEAD_MS: i64 = 3_600_000;
/// What the frame of a message may take at most beside key, value and headers, as the engine counts it.
const FRAME: usize = 1_000;

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

impl<'a> Actual<'a> {
    /// The last header of the name: the engine's own stand behind the record's.
    fn header(&self, name: &str) -> Option<&'a str> {
        let header = self.input.headers.iter().rev().find(|header: &&Header| header.name == name)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    }
}

macro_rules! kinds {
    ($($kind:ident $word:literal)*) => {
        /// The kinds of findings.
        #[derive(Clone, Copy)]
        enum Wrong { $($kind),* }

        impl Wrong {
            const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word),* }
            }
        }

        /// The kind of every finding that [`Observed::judge`] can come to.
        pub const KINDS: &[&str] = &[$($word),*];
    };
}

kinds! {
    Order "order"
    WronglyKeyed "wrongly-keyed"
    Row "row"
    RowType "row-type"
    RowVersion "row-version"
    Topic "topic"
    NoticeMissing "notice-missing"
    DeadLetterMissing "dead-letter-missing"
    MessageTwice "message-twice"
    MessageUnexpected "message-unexpected"
    MessagePartition "message-partition"
    MessageKey "message-key"
    NoticeValue "notice-value"
    NoticeVersion "notice-version"
    NoticeTime "notice-time"
    NoticeHeader "notice-header"
    DeadLetterCode "dead-letter-code"
    DeadLetterValue "dead-letter-value"
    DeadLetterHeader "dead-letter-header"
    ForeignHeader "foreign-header"
    RecordMissing "record-missing"
    RecordOrder "record-order"
    RecordUnexpected "record-unexpected"
    MessageOrder "message-order"
    Store "store"
    StoreExpired "store-expired"
    StoreChangelog "store-changelog"
    Clock "clock"
    Progress "progress"
    Halt "halt"
    MustStand "must-stand"
    Ended "ended"
    Ledger "ledger"
    Outbox "outbox"
    OpenTransaction "open-transaction"
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, kind: Wrong, detail: impl Into<String>) {
        self.0.push(Finding { kind: kind.word(), detail: detail.into() });
    }
}

impl Observed {
    /// Compares rows, messages, stores, offsets and halts with what the interpreter makes of the same records. The topology's
    /// steps are those of the run, once nothing asks to be offered again any more. `refuses` gets a table and a row's values
    /// as they are written, makes of them what the table makes of them, and answers whether it refuses them then.
    #[must_use]
    pub fn judge(
        &self,
        topology: &Topology,
        refuses: &dyn Fn(&str, &mut BTreeMap<String, Value>) -> bool,
    ) -> Vec<Finding> {
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
            is_everlasting: false,
        };
        for (name, value) in &self.thresholds {
            set_threshold(topology, name, *value);
        }
        self.interpret(&mut interpreter, &mut findings);
        self.judge_rows(topology, &interpreter.rows, &mut findings);
        self.judge_more_rows(&interpreter.rows, &mut findings);
        self.judge_messages(topology, &interpreter.out, &mut findings);
        self.judge_stores(topology, &interpreter.stores, &mut findings);
        self.judge_progress(topology, &mut findings);
        self.judge_halts(&interpreter, &mut findings);
        self.judge_database(topology, &interpreter.out, &mut findings);
        for open in &self.open {
            findings.add(Wrong::OpenTransaction, open);
        }
        findings.0
    }

    /// Every decided record, one by one, in the order in which the engine decided.
    fn interpret(&self, interpreter: &mut Interpreter<'_>, findings: &mut Findings) {
        let mut last: BTreeMap<(TopicPartition, Option<Vec<u8>>), i64> = BTreeMap::new();
        let written = interpreter.topology.outputs();
        for event in &self.events {
            match event {
                Event::Written { table, key, column, value } => {
                    if let Some(row) = interpreter.rows.get_mut(&(table.clone(), key.clone())) {
                        row.values.insert(column.clone(), value.clone());
                    }
                }
                Event::Threshold { name, value } => set_threshold(interpreter.topology, name, *value),
                Event::EverLasting => interpreter.release_everlasting(),
                Event::Decided(place, offset, is_applied) => {
                    if self.is_struck(interpreter.topology, &place.topic) {
                        continue;
                    }
                    let find = |log: &BTreeMap<TopicPartition, Vec<Message>>| {
                        let inputs = log.get(place)?;
                        let at = inputs.binary_search_by_key(offset, |input| input.offset).ok()?;
                        inputs.get(at).cloned()
                    };
                    let Some(input) = find(&self.log).or_else(|| find(&self.gone)) else {
                        // Ends of transactions, and what came to nothing, take offsets where we write.
                        if !written.contains(&place.topic) {
                            findings
                                .add(Wrong::Progress, format!("{place}: {offset} was decided, and nothing lies there"));
                        }
                        continue;
                    };
                    let key = is_applied.then(|| (place.clone(), input.key.clone()));
                    let before = key.and_then(|key| last.insert(key, offset.0));
                    if before.is_some_and(|before| before >= offset.0) {
                        findings.add(
                            Wrong::Order,
                            format!("{place}: offset {offset} was decided behind {before:?} of its key"),
                        );
                    }
                    interpreter.take(place, &input);
                }
            }
        }
        for (place, offset) in &interpreter.halts {
            findings
                .add(Wrong::WronglyKeyed, format!("{place}: offset {offset} was decided, and ought to have halted"));
        }
    }

    fn judge_rows(&self, topology: &Topology, expected: &BTreeMap<(String, Key), Row>, findings: &mut Findings) {
        let struck: BTreeSet<&str> =
            self.struck_of(topology).filter_map(|sub| Some(&*sub.table()?.table.name)).collect();
        for (place, row) in expected.iter().filter(|((table, _), _)| !struck.contains(&**table)) {
            let (table, key) = place;
            match self.rows.get(place) {
                None => findings.add(Wrong::Row, format!("{table} {key}: is gone")),
                Some(found) => {
                    let version = found.version;
                    if version != row.version {
                        let detail = format!("{table} {key}: has version {version}, and {} changes", row.version);
                        findings.add(Wrong::RowVersion, detail);
                    }
                    let first = self.first_rows.get(place);
                    for name in row.values.keys().filter(|name| !found.values.contains_key(*name)) {
                        findings.add(Wrong::Row, format!("{table} {key}: has no {name}"));
                    }
                    for (name, value) in &found.values {
                        if first.and_then(|first| first.values.get(name)).is_some_and(|first| !is_like(first, value)) {
                            findings.add(Wrong::RowType, format!("{table} {key}: {name} is {value:?}"));
                        }
                        let expected = row.values.get(name);
                        if !expected.is_some_and(|expected| is_equal(expected, value)) {
                            findings.add(Wrong::Row, format!("{table} {key}: {name} is {value:?}, not {expected:?}"));
                        }
                    }
                }
            }
        }
    }

    fn judge_more_rows(&self, expected: &BTreeMap<(String, Key), Row>, findings: &mut Findings) {
        for (table, key) in self.rows.keys().filter(|place| !expected.contains_key(*place)) {
            findings.add(Wrong::Row, format!("{table} {key}: is there, and nobody put it there"));
        }
    }

    fn read<'a>(&'a self, topic: &'a TopicName) -> impl Iterator<Item = Actual<'a>> {
        let places = self.log.iter().filter(move |(place, _)| place.topic == *topic);
        places.flat_map(|(place, messages)| messages.iter().map(|input| Actual { partition: place.partition.0, input }))
    }

    fn judge_messages(&self, topology: &Topology, expected: &[Expected], findings: &mut Findings) {
        let changelogs = topology.changelogs();
        let written: BTreeSet<TopicName> = topology.outputs();
        let sources: BTreeSet<&TopicName> = topology.sub_topologies().iter().flat_map(SubTopology::sources).collect();
        let due: BTreeSet<&TopicName> = expected.iter().map(|message| &message.destination).collect();
        for topic in due.into_iter().filter(|topic| !written.contains(*topic)) {
            findings.add(Wrong::Topic, format!("{topic}: is written by a step, and named as an output nowhere"));
        }
        let found: BTreeSet<&TopicName> = self.log.keys().map(|place| &place.topic).collect();
        for topic in found.into_iter().filter(|topic| !written.contains(*topic) && !sources.contains(*topic)) {
            findings.add(Wrong::Topic, format!("{topic}: is there, and nobody reads or writes it"));
        }
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
            let limit = self.limits.get(topic.as_str()).copied();
            let at = Place { topic, pipeline: topology.name(), limit, now: Timestamp(self.now_ms) };
            judge_topic(&at, &due, &found, findings);
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
                    let is_timed = spec.time_to_live.is_some();
                    judge_rest_of_store(&name, stores, is_timed, self.inside.is_some(), &logged, findings);
                    let Some(inside) = &self.inside else { continue };
                    let kept = inside.kept.get(&(spec.name.to_string(), partition));
                    if kept != Some(&logged) {
                        let held = kept.map_or_else(|| "cannot be seen".into(), keys);
                        let detail = format!("{name}: the disk holds {held}, its changelog {}", keys(&logged));
                        findings.add(Wrong::StoreChangelog, detail);
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
                let Progress { decided, committed, published, end } =
                    self.progress.get(&place).copied().unwrap_or_default();
                let next = self.log.get(&place).and_then(|messages| messages.last()).map(|last| last.offset);
                let is_read = next.is_none_or(|last| decided.is_some_and(|at| !at.is_before(last)));
                if (!is_read || committed != decided) && !self.is_halted(sub, partition) {
                    let detail = format!("{place}: D is {decided:?}, K {committed:?}, and the last record {next:?}");
                    findings.add(Wrong::Progress, detail);
                }
                if end.is_some_and(|end| decided.is_some_and(|at| at > end)) || published > committed {
                    let detail =
                        format!("{place}: D is {decided:?}, P {published:?}, K {committed:?}, and the end {end:?}");
                    findings.add(Wrong::Progress, detail);
                }
            }
        }
    }

    fn struck_of<'a>(&'a self, topology: &'a Topology) -> impl Iterator<Item = &'a SubTopology> {
        self.struck.iter().filter_map(|number| topology.sub_topologies().get(*number))
    }

    /// Of a halt that has passed only the step can be told: its changelog was written since.
    fn looks_added(&self, topology: &Topology, halt: &Standstill, has_passed: bool) -> bool {
        let subs = self.forgotten.iter().filter_map(|number| topology.sub_topologies().get(*number));
        let is_empty = |store: &StoreSpec| {
            let place = |topic| TopicPartition::new(topic, halt.source.partition);
            let changelog = topology.changelog_topic(store).map(place);
            changelog.and_then(|place| self.log.get(&place)).is_none_or(Vec::is_empty)
        };
        let is_due = |sub: &SubTopology| {
            sub.sources().any(|topic| *topic == halt.source.topic) && (has_passed || sub.stores.iter().any(is_empty))
        };
        halt.reason == HaltReason::StoreAdded.label() && subs.into_iter().any(is_due)
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
        let seen = self.inside.iter().flat_map(|inside| &inside.seen).filter(|halt| !self.halts.contains(halt));
        let standing = self.halts.iter().map(|halt| (halt, false));
        for (halt, has_passed) in standing.chain(seen.map(|halt| (halt, true))) {
            let is_due = self.is_struck(interpreter.topology, &halt.source.topic)
                || self.looks_added(interpreter.topology, halt, has_passed)
                || halt.reason == HaltReason::WronglyKeyed.label()
                    && self.log.get(&halt.source).is_some_and(|inputs| {
                        let decided = self.progress.get(&halt.source).and_then(|progress| progress.decided);
                        let at = decided.unwrap_or(NextOffset(0));
                        // A group that begins again takes back what was decided before a halt that has passed.
                        let left = inputs.iter().filter(|input| at.is_before(input.offset));
                        let next = left.take(if has_passed { usize::MAX } else { 1 });
                        next.into_iter().any(|input| interpreter.halts_at(&halt.source, input))
                    });
            if !is_due {
                findings.add(Wrong::Halt, format!("{}: {} ({})", halt.source, halt.reason, halt.detail));
            }
        }
        for (number, partition) in &self.must_stand {
            let sub = interpreter.topology.sub_topologies().get(*number);
            if let Some(sub) = sub.filter(|sub| !self.is_halted(sub, *partition)) {
                let detail = format!("partition {partition} of {} goes on as if nothing was lost", sub.lead);
                findings.add(Wrong::MustStand, detail);
            }
        }
        for ended in self.inside.iter().flat_map(|inside| &inside.ended) {
            findings.add(Wrong::Ended, ended);
        }
    }

    /// What the database keeps beside the rows: each message in the outbox is told, and the ledger has a line for each
    /// decided record of a step with rows.
    fn judge_database(&self, topology: &Topology, expected: &[Expected], findings: &mut Findings) {
        let Some(inside) = &self.inside else { return };
        let mut told: BTreeSet<(&TopicName, &str)> = BTreeSet::new();
        for (place, input) in self.log.iter().flat_map(|(place, inputs)| inputs.iter().map(move |input| (place, input)))
        {
            let actual = Actual { partition: place.partition.0, input };
            told.extend(actual.header(ID_HEADER).map(|id| (&place.topic, id)));
        }
        let is_judged = |place: &TopicPartition| {
            let sub = topology.sub_topologies().iter().find(|sub| sub.sources().any(|topic| *topic == place.topic));
            sub.is_some_and(|sub| !self.is_struck(topology, &place.topic) && !self.is_halted(sub, place.partition.0))
        };
        for (_, destination, id) in inside.outbox.iter().filter(|(source, ..)| is_judged(source)) {
            if !told.contains(&(destination, id)) {
                findings.add(Wrong::Outbox, format!("{destination}: {id} is in the outbox, and was never told"));
            }
        }
        if self.settings.verdicts {
            self.judge_ledger(topology, &inside.ledger, expected, findings);
        }
    }

    fn judge_ledger(&self, topology: &Topology, ledger: &Ledger, expected: &[Expected], findings: &mut Findings) {
        let letters = expected.iter().filter_map(|message| match &message.kind {
            Kind::DeadLetter { code, .. } => Some(((message.source.clone(), message.source_offset), code)),
            Kind::Notice { .. } | Kind::SentOn => None,
        });
        let letters: BTreeMap<_, _> = letters.collect();
        let is_judged = |(source, _): &&(TopicPartition, Offset)| !self.is_struck(topology, &source.topic);
        let mut left: BTreeSet<_> = ledger.keys().filter(is_judged).collect();
        for sub in topology.sub_topologies().iter().filter(|sub| sub.table().is_some()) {
            for (place, inputs) in self.log.iter().filter(|(place, _)| sub.sources().any(|topic| *topic == place.topic))
            {
                if self.is_struck(topology, &place.topic) {
                    continue;
                }
                let decided = self.progress.get(place).and_then(|progress| progress.decided).unwrap_or(NextOffset(0));
                for input in inputs.iter().filter(|input| !decided.is_before(input.offset)) {
                    let line = (place.clone(), input.offset);
                    left.remove(&line);
                    let code =
                        ledger.get(&line).map(|(outcome, code)| code.as_ref().filter(|_| outcome == "dead-letter"));
                    if code != Some(letters.get(&line).copied()) {
                        let detail = format!("{place}@{}: the ledger says {:?}", input.offset, ledger.get(&line));
                        findings.add(Wrong::Ledger, detail);
                    }
                }
            }
        }
        for (place, offset) in left {
            findings.add(Wrong::Ledger, format!("{place}@{offset}: has a line in the ledger, and was not decided"));
        }
    }
}

fn set_threshold(topology: &Topology, name: &str, value: f64) {
    if let Some(threshold) = topology.thresholds().iter().find(|threshold| threshold.name() == name) {
        threshold.set(value);
    }
}

/// A topic whose messages are judged.
struct Place<'a> {
    topic: &'a TopicName,
    pipeline: &'a str,
    /// The largest message that it takes, where that is small.
    limit: Option<usize>,
    /// The latest time of a clock.
    now: Timestamp,
}

/// The messages of one topic: each expected one once and as it must be, nothing else, and in order.
fn judge_topic(at: &Place<'_>, due: &[&Expected], found: &[Actual<'_>], findings: &mut Findings) {
    let topic = at.topic;
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
                if matches!(message.kind, Kind::DeadLetter { .. }) {
                    Wrong::DeadLetterMissing
                } else {
                    Wrong::NoticeMissing
                },
                format!("{topic}: nothing of {place}@{offset}, which must be {:?}", message.kind),
            ),
            Some([actual]) => judge_message(at, message, actual, findings),
            Some(several) => {
                findings.add(Wrong::MessageTwice, format!("{topic}: {id} is there {} times", several.len()));
            }
        }
    }
    for (id, actual) in by_id {
        let code =
            actual.first().and_then(|actual| actual.header("kafka_dlt-exception-fqcn")).unwrap_or("no dead letter");
        let text = actual.first().and_then(|actual| actual.header("kafka_dlt-exception-message")).unwrap_or_default();
        findings.add(Wrong::MessageUnexpected, format!("{topic}: {id} ({code}: {text}) answers to no record"));
    }
    judge_sent_on(topic, due, &loose, findings);
    judge_order(topic, &ids, found, findings);
}

fn id_of(message: &Expected) -> Option<&str> {
    match &message.kind {
        Kind::Notice { id, .. } | Kind::DeadLetter { id, .. } => Some(id),
        Kind::SentOn => None,
    }
}

fn judge_message(at: &Place<'_>, message: &Expected, actual: &Actual<'_>, findings: &mut Findings) {
    let name = format!("{}: {}@{}", at.topic, message.source, message.source_offset);
    let Actual { partition, input } = actual;
    for (number, header) in input.headers.iter().enumerate().filter(|(_, header)| is_ours(header)) {
        if input.headers.iter().take(number).any(|before| before.name == header.name) {
            findings.add(Wrong::ForeignHeader, format!("{name}: has {} twice", header.name));
        }
    }
    if message.partition.is_some_and(|due| due != *partition) {
        findings.add(Wrong::MessagePartition, format!("{name}: lies in {partition}, not in {:?}", message.partition));
    }
    match &message.kind {
        Kind::Notice { id, version, threshold } => {
            if input.key != message.key {
                findings.add(Wrong::MessageKey, format!("{name}: has another key"));
            }
            if input.value != message.value {
                let text = |value: &Option<Vec<u8>>| {
                    value.as_deref().map(String::from_utf8_lossy).map(std::borrow::Cow::into_owned)
                };
                let (is, due) = (text(&input.value), text(&message.value));
                findings.add(Wrong::NoticeValue, format!("{name}: says {is:?}, not {due:?}"));
            }
            let found = actual.header(VERSION_HEADER).and_then(|version| version.parse().ok());
            if found != *version {
                findings.add(Wrong::NoticeVersion, format!("{name}: tells of version {found:?}, not {version:?}"));
            }
            if input.timestamp != message.timestamp {
                let (is, due) = (input.timestamp.0, message.timestamp.0);
                findings.add(Wrong::NoticeTime, format!("{name}: is of {is}, its record of {due}"));
            }
            let due = notice_headers(at, id, *version, threshold.as_deref());
            let is_same = |header: &Header, (own, value): &(&str, Option<String>)| {
                let found = header.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
                // An instant of a fixed width: as text it is in order.
                let is_past = |found: &str| found.len() == 24 && *found <= *at.now.to_rfc3339();
                header.name == *own
                    && found.is_some_and(|found| value.as_ref().map_or_else(|| is_past(found), |due| found == due))
            };
            if input.headers.len() != due.len()
                || !due.iter().all(|due| input.headers.iter().any(|header| is_same(header, due)))
            {
                findings.add(Wrong::NoticeHeader, format!("{name}: has {}, not {due:?}", header_text(&input.headers)));
            }
        }
        Kind::DeadLetter { code, .. } => {
            let found = actual.header("kafka_dlt-exception-fqcn");
            if found != Some(code) {
                findings.add(Wrong::DeadLetterCode, format!("{name}: is {found:?}, not {code}"));
            }
            judge_letter(at, &name, message, actual, findings);
        }
        Kind::SentOn => {}
    }
}

/// The headers of a notice; the value of `ce_time` is any instant so far.
fn notice_headers<'a>(
    at: &Place<'_>,
    id: &str,
    version: Option<i64>,
    threshold: Option<&str>,
) -> Vec<(&'a str, Option<String>)> {
    let always = [
        ("ce_specversion", Some("1.0".into())),
        ("ce_id", Some(id.into())),
        ("ce_source", Some(format!("/{}", at.pipeline))),
        ("ce_type", Some(at.topic.to_string())),
        ("ce_time", None),
        ("content-type", Some("application/json".into())),
        ("tg_id", Some(id.into())),
    ];
    let version = version.map(|version| ("tg_version", Some(version.to_string())));
    let threshold = threshold.map(|threshold| ("tg_threshold", Some(threshold.into())));
    always.into_iter().chain(version).chain(threshold).collect()
}

/// A dead letter is its record with all that came with it, and says where that lay. Only where the whole is larger than what
/// its topic takes may it lack the value, then the headers, then the key, and says how large they were.
fn judge_letter(at: &Place<'_>, name: &str, message: &Expected, actual: &Actual<'_>, findings: &mut Findings) {
    let input = actual.input;
    let due: [(&str, Vec<u8>); 6] = [
        ("kafka_dlt-original-topic", message.source.topic.as_str().into()),
        ("kafka_dlt-original-partition", message.source.partition.0.to_be_bytes().into()),
        ("kafka_dlt-original-offset", message.source_offset.0.to_be_bytes().into()),
        ("kafka_dlt-original-timestamp", message.timestamp.0.to_be_bytes().into()),
        ("kafka_dlt-original-timestamp-type", b"CreateTime".into()),
        ("kafka_dlt-original-consumer-group", at.pipeline.into()),
    ];
    let is_there = |name: &str| input.headers.iter().any(|header| header.name == name);
    for (own, value) in &due {
        let found = input.headers.iter().find(|header| header.name == *own);
        if found.and_then(|header| header.value.as_ref()) != Some(value) {
            findings.add(Wrong::DeadLetterHeader, format!("{name}: {own} is {found:?}, not {value:?}"));
        }
    }
    let others = ["kafka_dlt-exception-fqcn", "kafka_dlt-exception-message", "tg_id"];
    let omitted =
        ["tg_value_omitted_bytes", "tg_headers_omitted_bytes", "tg_key_omitted_bytes", "tg_message_omitted_bytes"];
    let is_known =
        |name: &str| others.contains(&name) || omitted.contains(&name) || due.iter().any(|(own, _)| *own == name);
    let unknown = input.headers.iter().find(|header| is_ours(header) && !is_known(&header.name));
    if unknown.is_some() || !others.iter().all(|name| is_there(name)) {
        findings.add(Wrong::DeadLetterHeader, format!("{name}: has {}", header_text(&input.headers)));
    }
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let sum = |headers: &mut dyn Iterator<Item = &Header>| -> usize {
        headers.map(|header| header.name.len() + bytes(&header.value)).sum()
    };
    let mine = sum(&mut input.headers.iter().filter(|header| is_ours(header)));
    let (key, value) = (bytes(&message.key), bytes(&message.value));
    let theirs = sum(&mut message.headers.iter().filter(|header| !is_ours(header)));
    let is_omitted = |header: &str, size: usize, whole: usize| {
        at.limit.is_some_and(|limit| mine + whole + FRAME > limit) && actual.header(header) == Some(&size.to_string())
    };
    let [value_header, headers_header, key_header, _] = omitted;
    if input.value != message.value && !(input.value.is_none() && is_omitted(value_header, value, key + theirs + value))
    {
        findings.add(Wrong::DeadLetterValue, format!("{name}: has another value than its record"));
    }
    let (found, due) = (theirs_of(&input.headers), theirs_of(&message.headers));
    if found != due && !(found.is_empty() && is_omitted(headers_header, theirs, key + theirs)) {
        findings.add(Wrong::DeadLetterHeader, format!("{name}: has other headers than its record: {found:?}"));
    }
    if input.key != message.key && !(input.key.is_none() && is_omitted(key_header, key, key)) {
        findings.add(Wrong::MessageKey, format!("{name}: has another key"));
    }
}

/// Headers as they came with a record, without those that mean something to Tidegate.
fn theirs_of(headers: &[Header]) -> Vec<(&str, Option<&[u8]>)> {
    let theirs = headers.iter().filter(|header| !is_ours(header));
    theirs.map(|header| (&*header.name, header.value.as_deref())).collect()
}

fn header_text(headers: &[Header]) -> String {
    let one = |header: &Header| {
        format!("{}={}", header.name, String::from_utf8_lossy(header.value.as_deref().unwrap_or_default()))
    };
    format!("{:?}", headers.iter().map(one).collect::<Vec<_>>())
}

/// Whether a header of this name means something to Tidegate, or to who reads its dead letters.
fn is_ours(header: &Header) -> bool {
    header.name.starts_with("tg_") || header.name.starts_with("kafka_dlt-")
}

/// What tells one record that was sent on from another: partition, key, value, event time, headers.
type Content<'a> = (i32, Option<&'a [u8]>, Option<&'a [u8]>, i64, Vec<(&'a str, Option<&'a [u8]>)>);

/// Records that went on under another key: each as often as it must, in the order of its source partition. Of records with
/// equal contents it cannot be told which came first.
fn judge_sent_on(topic: &TopicName, due: &[&Expected], found: &[&Actual<'_>], findings: &mut Findings) {
    let mut left: BTreeMap<Content<'_>, Vec<usize>> = BTreeMap::new();
    for (at, Actual { partition, input }) in found.iter().enumerate() {
        if let Some(header) = input.headers.iter().find(|header| is_ours(header)) {
            findings.add(Wrong::ForeignHeader, format!("{topic}: a record that was sent on has {}", header.name));
        }
        let content =
            (*partition, input.key.as_deref(), input.value.as_deref(), input.timestamp.0, theirs_of(&input.headers));
        left.entry(content).or_default().push(at);
    }
    let is_single: BTreeMap<Content<'_>, bool> =
        left.iter().map(|(content, places)| (content.clone(), places.len() == 1)).collect();
    let mut last: BTreeMap<(&TopicPartition, i32, Option<&[u8]>), usize> = BTreeMap::new();
    for message in due.iter().filter(|message| matches!(message.kind, Kind::SentOn)) {
        let partition = message.partition.unwrap_or_default();
        let (key, value, headers) = (message.key.as_deref(), message.value.as_deref(), theirs_of(&message.headers));
        let content = (partition, key, value, message.timestamp.0, headers);
        let place = format!("{topic}: {}@{}", message.source, message.source_offset);
        let Some(at) = left.get_mut(&content).and_then(Vec::pop) else {
            findings.add(Wrong::RecordMissing, format!("{place}: was not sent on"));
            continue;
        };
        if is_single.get(&content) != Some(&true) {
            continue;
        }
        let before = last.insert((&message.source, partition, message.key.as_deref()), at);
        if before.is_some_and(|before| before > at) {
            findings.add(Wrong::RecordOrder, format!("{place}: overtook an earlier record of its key"));
        }
    }
    let over: usize = left.values().map(Vec::len).sum();
    if over > 0 {
        findings.add(Wrong::RecordUnexpected, format!("{topic}: {over} records more than were sent on"));
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
            findings.add(Wrong::MessageOrder, format!("{topic}: {id} stands behind {before:?}"));
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
        // One that stands at the start says no more than none: offsets without records may have been passed.
        if clock.filter(|at| *at != i64::MIN) != due {
            findings.add(Wrong::Clock, format!("{name}: its clock stands at {clock:?}, not at {due:?}"));
        }
    }
    let is_live = |kept: &Kept| stores.is_none_or(|stores| stores.is_live(kept));
    for (key, kept) in kept.iter().filter(|(_, kept)| is_live(kept)) {
        let key_text = String::from_utf8_lossy(key);
        let Some(found) = logged.get(key) else {
            findings.add(Wrong::Store, format!("{name}: {key_text} is missing"));
            continue;
        };
        let (value, expires_at) = unwrapped(found);
        if (value, expires_at) != (&kept.value, kept.expires_at) {
            let (is, due) = (String::from_utf8_lossy(value), String::from_utf8_lossy(&kept.value));
            let detail =
                format!("{name}: {key_text} is {is} until {expires_at:?}, not {due} until {:?}", kept.expires_at);
            findings.add(Wrong::Store, detail);
        }
    }
    for (key, found) in logged.iter().filter(|(key, _)| *key != CLOCK) {
        let (value, expires_at) = unwrapped(found);
        let value = Kept { value: value.to_vec(), expires_at };
        if is_live(&value) && !kept.get(key).is_some_and(is_live) {
            let key = String::from_utf8_lossy(key);
            findings.add(Wrong::Store, format!("{name}: {key} is there, and nothing wrote it or it has expired"));
        }
    }
}

/// What must hold of a store besides where its task does not stand still: nothing that has expired is left, once there was
/// time to search for it, and the clock is kept where values expire.
fn judge_rest_of_store(
    name: &str,
    stores: Option<&Stores>,
    is_timed: bool,
    has_been_searched: bool,
    logged: &BTreeMap<Vec<u8>, Vec<u8>>,
    findings: &mut Findings,
) {
    let Some(stores) = stores else { return };
    // One that lost its time to live before its first record never had one.
    let is_timed = is_timed && (stores.is_clocked || !stores.is_everlasting);
    if is_timed && !logged.contains_key(CLOCK) {
        findings.add(Wrong::Clock, format!("{name}: has no clock"));
    }
    for (key, found) in logged.iter().filter(|_| has_been_searched) {
        let (value, expires_at) = unwrapped(found);
        if !stores.is_live(&Kept { value: value.to_vec(), expires_at }) {
            let (key, now) = (String::from_utf8_lossy(key), stores.stream_time);
            findings.add(Wrong::StoreExpired, format!("{name}: {key} expired at {expires_at:?}, and it is {now:?}"));
        }
    }
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
