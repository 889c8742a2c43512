//! From an outbox row to a message: ids, CloudEvents headers and dead-letter headers, the same bytes on every attempt.

use crate::engine::outgoing::Origin;
use crate::flow::effect::{Emission, Reject};
use crate::flow::identity::{ID_HEADER, NoticeId, THRESHOLD_HEADER, VERSION_HEADER};
use crate::flow::record::{Header, Record, Timestamp, TopicName, TopicPartition};
use crate::flow::topology::Topology;
use crate::ports::rows::OutboxRow;
use crate::ports::sink::Message;
use std::collections::HashMap;

/// Marks a dead letter; Spring Kafka's prefix, so that its tools read ours.
const DEAD_LETTER_PREFIX: &str = "kafka_dlt-";

/// Marks an outbox row as a changelog record and holds its [turn](turn_of). It stays in the outbox: the record itself has
/// no headers.
const CHANGELOG_HEADER: &str = "tg_changelog";

/// Says how many bytes of a value were left out of a dead letter, because its topic would not take them.
pub const OMITTED_HEADER: &str = "tg_value_omitted_bytes";

/// The id of an outbox row's message.
#[must_use]
pub fn id_of(pipeline: &str, row: &OutboxRow) -> String {
    NoticeId {
        pipeline,
        source: &row.source,
        source_offset: row.source_offset,
        seq: row.seq,
        incarnation: row.incarnation,
    }
    .to_string()
}

/// The headers of the message: the row's own, then the id, and for a notice the CloudEvents attributes (Kafka binding,
/// binary mode).
#[must_use]
pub fn headers_of(pipeline: &str, row: &OutboxRow) -> Vec<Header> {
    let id = id_of(pipeline, row);
    let mut headers = Vec::with_capacity(row.headers.len() + 7);
    headers.extend_from_slice(&row.headers);
    if !is_dead_letter(row) {
        headers.push(Header::new("ce_specversion", *b"1.0"));
        headers.push(Header::new("ce_id", id.as_bytes()));
        headers.push(Header::new("ce_source", format!("/{pipeline}")));
        headers.push(Header::new("ce_type", row.destination.as_str().as_bytes()));
        headers.push(Header::new("ce_time", row.created_at.to_rfc3339()));
        headers.push(Header::new("content-type", *b"application/json"));
    }
    headers.push(Header::new(ID_HEADER, id));
    headers
}

/// Whether the row is a dead letter.
#[must_use]
pub fn is_dead_letter(row: &OutboxRow) -> bool {
    row.headers.iter().any(|header| header.name.starts_with(DEAD_LETTER_PREFIX))
}

/// The outbox row of a changelog record. Without a value it is a tombstone.
pub(crate) fn changelog_row(
    origin: Origin<'_>,
    incarnation: i32,
    seq: i32,
    turn: i64,
    message: &Message<'_>,
    now: Timestamp,
) -> OutboxRow {
    OutboxRow {
        source: origin.source.clone(),
        source_offset: origin.offset,
        seq,
        incarnation,
        destination: message.destination.clone(),
        key: message.key.map(<[u8]>::to_vec),
        value: message.value.map(<[u8]>::to_vec),
        headers: vec![Header::new(CHANGELOG_HEADER, turn.to_string())],
        created_at: now,
    }
}

/// The changelog record of such a row: it goes to the partition number of its task.
pub(crate) fn changelog_message(row: &OutboxRow) -> Message<'_> {
    Message {
        destination: &row.destination,
        partition: Some(row.source.partition),
        key: row.key.as_deref(),
        value: row.value.as_deref(),
        headers: &[],
        timestamp: None,
        is_tracked: true,
    }
}

/// The turn of a changelog record among those of its task, whatever input it came with: a key's last one is its value.
/// `None` for a row of any other kind.
#[must_use]
pub fn turn_of(row: &OutboxRow) -> Option<i64> {
    let header = row.headers.first().filter(|header| header.name == CHANGELOG_HEADER)?;
    if is_dead_letter(row) {
        return None; // its first headers are the rejected record's
    }
    std::str::from_utf8(header.value.as_deref()?).ok()?.parse().ok()
}

/// The headers of a dead letter: the record's own, then Spring's, which say where it came from and why.
#[must_use]
pub fn dead_letter_headers(
    group: &str,
    topic: &TopicName,
    partition: i32,
    record: &Record<'_>,
    reject: &Reject,
) -> Vec<Header> {
    let mut headers = record.headers.to_vec();
    let mut add = |name: &str, value: Vec<u8>| headers.push(Header::new(format!("{DEAD_LETTER_PREFIX}{name}"), value));
    add("original-topic", topic.as_str().into());
    add("original-partition", partition.to_be_bytes().into());
    add("original-offset", record.offset.0.to_be_bytes().into());
    add("original-timestamp", record.timestamp.0.to_be_bytes().into());
    add("original-timestamp-type", b"CreateTime".into());
    add("original-consumer-group", group.into());
    add("exception-fqcn", reject.code().into());
    // One line: a message may quote the payload's own line breaks.
    add("exception-message", reject.message().replace(['\n', '\r'], " ").into_bytes());
    headers
}

/// Bytes that a message takes in its topic, roughly: key, value, headers and 128 for the record's frame.
#[must_use]
pub fn bytes_of(pipeline: &str, row: &OutboxRow) -> usize {
    let optional = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let own: usize = row.headers.iter().map(|header| header.name.len() + optional(&header.value) + 4).sum();
    // Derived headers: their names and fixed values come to less than 160 bytes, the id stands in two of them.
    let derived = 160
        + 2 * (pipeline.len() + row.source.topic.as_str().len() + 48)
        + pipeline.len()
        + row.destination.as_str().len();
    128 + optional(&row.key) + optional(&row.value) + own + derived
}

/// The outbox row of one notice that passed the filter. `version`: the row's, where its table has one.
#[must_use]
pub fn notice(
    source: &TopicPartition,
    incarnation: i32,
    record: &Record<'_>,
    seq: usize,
    emission: Emission,
    version: Option<i64>,
    now: Timestamp,
) -> OutboxRow {
    let mut headers = Vec::new();
    if let Some(version) = version {
        headers.push(Header::new(VERSION_HEADER, version.to_string()));
    }
    if let Some(threshold) = emission.threshold {
        headers.push(Header::new(THRESHOLD_HEADER, threshold.to_string()));
    }
    OutboxRow {
        source: source.clone(),
        source_offset: record.offset,
        seq: i32::try_from(seq).unwrap_or(i32::MAX),
        incarnation,
        destination: emission.destination,
        key: record.key.map(<[u8]>::to_vec),
        value: Some(emission.value),
        headers,
        created_at: now,
    }
}

/// The outbox row of a dead letter. Its value stays behind where its topic, of at most `limits`, would not take it.
#[must_use]
#[expect(clippy::implicit_hasher, reason = "one map, made by the supervisor")]
pub fn dead_letter(
    pipeline: &str,
    limits: &HashMap<TopicName, usize>,
    source: &TopicPartition,
    incarnation: i32,
    record: &Record<'_>,
    reject: &Reject,
    now: Timestamp,
) -> OutboxRow {
    let mut row = OutboxRow {
        source: source.clone(),
        source_offset: record.offset,
        seq: 0,
        incarnation,
        destination: Topology::dead_letter_topic(&source.topic),
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: dead_letter_headers(pipeline, &source.topic, source.partition.0, record, reject),
        created_at: now,
    };
    // What the dead-letter topic would not take must not block the partition: the value stays behind, its place is told.
    if limits.get(&row.destination).is_some_and(|limit| bytes_of(pipeline, &row) > *limit) {
        let bytes = row.value.take().map_or(0, |value| value.len());
        row.headers.push(Header::new(OMITTED_HEADER, bytes.to_string()));
    }
    row
}

/// The outbox row of a dead letter in the place of `row`, which its topic refuses: under its id, with its key, value and
/// headers. Where it came from is told of the input; the timestamp is that of the decision.
pub(crate) fn letter_for(
    pipeline: &str,
    limits: &HashMap<TopicName, usize>,
    row: &OutboxRow,
    cause: &str,
) -> OutboxRow {
    let record = Record {
        offset: row.source_offset,
        timestamp: row.created_at,
        key: row.key.as_deref(),
        value: row.value.as_deref(),
        headers: &row.headers,
    };
    let reject = Reject::dead_letter("refused", format!("{}: {cause}", row.destination));
    let letter = dead_letter(pipeline, limits, &row.source, row.incarnation, &record, &reject, row.created_at);
    OutboxRow { seq: row.seq, ..letter }
}
