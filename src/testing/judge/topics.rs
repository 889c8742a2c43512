//! The messages of each topic: each once, nothing else, and in order.

use crate::flow::identity::ID_HEADER;
use crate::flow::record::{Timestamp, TopicName, TopicPartition};
use crate::flow::topology::{SubTopology, Topology};
use crate::testing::interpreter::{Expected, Kind};
use crate::testing::judge::actual::{Actual, is_ours, theirs_of};
use crate::testing::judge::finding::{Findings, Wrong};
use crate::testing::judge::message::{Place, judge_message};
use crate::testing::observed::Observed;
use std::collections::{BTreeMap, BTreeSet};

impl Observed {
    fn read<'a>(&'a self, topic: &'a TopicName) -> impl Iterator<Item = Actual<'a>> {
        let places = self.log.iter().filter(move |(place, _)| place.topic == *topic);
        places.flat_map(|(place, messages)| messages.iter().map(|input| Actual { partition: place.partition.0, input }))
    }

    pub(super) fn judge_messages(&self, topology: &Topology, expected: &[Expected], findings: &mut Findings) {
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
                topology.astray_topic(sub).as_ref() == Some(topic) || sub.sent_on_to().contains(topic)
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

/// The content that distinguishes one record that was sent on from another: partition (any, without a key), key, value,
/// event time, headers.
type Content<'a> = (i32, Option<&'a [u8]>, Option<&'a [u8]>, i64, Vec<(&'a str, Option<&'a [u8]>)>);

/// Judges records that went on under another key: each as often as it must, in the order of its source partition. The
/// order of records with equal contents cannot be known.
fn judge_sent_on(topic: &TopicName, due: &[&Expected], found: &[&Actual<'_>], findings: &mut Findings) {
    let mut left: BTreeMap<Content<'_>, Vec<usize>> = BTreeMap::new();
    for (at, Actual { partition, input }) in found.iter().enumerate() {
        if let Some(header) = input.headers.iter().find(|header| is_ours(header)) {
            findings.add(Wrong::ForeignHeader, format!("{topic}: a record that was sent on has {}", header.name));
        }
        let partition = input.key.as_ref().map_or(0, |_| *partition);
        let content =
            (partition, input.key.as_deref(), input.value.as_deref(), input.timestamp.0, theirs_of(&input.headers));
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
        if is_single.get(&content) != Some(&true) || key.is_none() {
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
