//! The message of an outbox row: ids, CloudEvents headers and dead-letter headers, the same bytes on every attempt.

use crate::engine::outbound::limits::Limits;
use crate::engine::outbound::outgoing::Origin;
use crate::flow::codec::Format;
use crate::flow::effect::{Emission, Reject};
use crate::flow::identity::{
    CONTENT_TYPE_HEADER, DEAD_LETTER_PREFIX, EVENT_HEADERS, ID_HEADER, NoticeId, PARTITION_HEADER, THRESHOLD_HEADER,
    VERSION_HEADER, is_reserved,
};
use crate::flow::key::partition_for;
use crate::flow::notice::Envelope;
use crate::flow::record::{Header, NextOffset, Offset, Partition, Record, Timestamp, TopicName, TopicPartition};
use crate::flow::topology::Topology;
use crate::ports::Fault;
use crate::ports::rows::OutboxRow;
use crate::ports::sink::{Message, Sink};
use std::borrow::Cow;
use std::fmt::Write as _;

/// The rest of the names of the headers that hold a dead letter's code and its message for people.
const CODE: &str = "exception-fqcn";
const CAUSE: &str = "exception-message";

/// The code of a key that cannot be read ([`KeyType::parse`](crate::flow::KeyType::parse)).
const BAD_KEY: &str = "bad-key";
/// The names of the headers that tell of it once more, as Spring does.
const KEY_CODE: &str = "key-exception-fqcn";
const KEY_CAUSE: &str = "key-exception-message";

/// Marks an outbox row as a changelog record and holds its [sequence](sequence_of). It stays in the outbox: the record
/// itself has no headers.
const CHANGELOG_HEADER: &str = "tg_changelog";

/// The header of such a row behind that one: how far the batch had decided each input of its task, where there are several.
const INPUTS_HEADER: &str = "tg_inputs";

/// The number of bytes of a value that was left out of a dead letter, because its topic would not take them.
pub const OMITTED_HEADER: &str = "tg_value_omitted_bytes";
/// The number of bytes of the record's own headers, names and values, left out where leaving out the value was not
/// enough.
const HEADERS_OMITTED_HEADER: &str = "tg_headers_omitted_bytes";
/// The number of bytes of the key, the last to be left out.
const KEY_OMITTED_HEADER: &str = "tg_key_omitted_bytes";
/// The number of bytes of a message for people that were cut off.
const MESSAGE_OMITTED_HEADER: &str = "tg_message_omitted_bytes";

/// Most bytes of a dead letter's message for people: it may quote the whole value.
const MESSAGE_BYTES: usize = 1_024;
/// Most bytes of its code.
const CODE_BYTES: usize = 128;
/// Most bytes of a dead letter without value, key and headers of the record: two names of 249, the message, the code,
/// and the constant part of [`bytes_of`]. A dead-letter topic must take as much.
pub(crate) const DEAD_LETTER_BYTES: usize = 5 << 10;

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
    headers.extend(row.headers.iter().filter(|header| header.name != PARTITION_HEADER).cloned());
    if !is_dead_letter(row) {
        let [version, event, source, kind, time] = EVENT_HEADERS;
        headers.push(Header::new(version, *b"1.0"));
        headers.push(Header::new(event, id.as_bytes()));
        headers.push(Header::new(source, format!("/{pipeline}")));
        headers.push(Header::new(kind, row.destination.as_str().as_bytes()));
        headers.push(Header::new(time, row.created_at.to_rfc3339()));
        if row.value.is_some() && !row.headers.iter().any(|header| header.name == CONTENT_TYPE_HEADER) {
            headers.push(Header::new(CONTENT_TYPE_HEADER, Format::Json.content_type().as_bytes()));
        }
    }
    headers.push(Header::new(ID_HEADER, id));
    headers
}

/// The partition of a row's message in a topic of `count` partitions: a dead letter's is that of its source, as with Spring, so
/// that a null key has a place too; a notice's goes by what it was given for that, or by its key. `None` where it has neither,
/// or the count is not known.
pub(crate) fn partition_of(row: &OutboxRow, count: Option<i32>) -> Option<Partition> {
    if is_dead_letter(row) {
        return Some(row.source.partition);
    }
    let text = partition_text(row).or(row.key.as_deref());
    text.zip(count).map(|(text, count)| Partition(partition_for(text, count)))
}

/// What decides the partition of a row's message in place of its key, where it has that.
fn partition_text(row: &OutboxRow) -> Option<&[u8]> {
    row.headers.iter().find(|header| header.name == PARTITION_HEADER)?.value.as_deref()
}

/// Whether the row is a dead letter.
#[must_use]
pub fn is_dead_letter(row: &OutboxRow) -> bool {
    row.headers.iter().any(|header| header.name.starts_with(DEAD_LETTER_PREFIX))
}

/// Code and message of a dead letter; `None` for any other row.
pub(crate) fn cause_of(row: &OutboxRow) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let text = |name: &str| {
        // The last one is ours: a record's own header of that name would stand before it.
        let is_it = |header: &&Header| header.name.strip_prefix(DEAD_LETTER_PREFIX) == Some(name);
        row.headers.iter().rev().find(is_it)?.value.as_deref().map(String::from_utf8_lossy)
    };
    Some((text(CODE)?, text(CAUSE)?))
}

/// Where in the history of its task a changelog record was decided.
#[derive(Clone, Copy)]
pub(crate) struct Decided<'a> {
    /// The sum of the offsets up to which all inputs were decided at the end of its batch.
    pub(crate) sequence: i64,
    /// Those offsets, by [`spelt`]; none where there is one input.
    pub(crate) inputs: Option<&'a str>,
}

/// The offsets up to which the inputs of a task are decided, as the outbox row of a changelog record has them.
pub(crate) fn spelt<'a>(inputs: impl Iterator<Item = (&'a TopicName, NextOffset)>) -> String {
    let mut out = String::new();
    for (topic, at) in inputs {
        let comma = if out.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}{topic}:{}", at.0);
    }
    out
}

/// The outbox row of a changelog record. Without a value it is a tombstone.
pub(crate) fn changelog_row(
    origin: Origin<'_>,
    incarnation: i32,
    seq: i32,
    decided: Decided<'_>,
    message: &Message<'_>,
    now: Timestamp,
) -> OutboxRow {
    let sequence = Header::new(CHANGELOG_HEADER, decided.sequence.to_string());
    let inputs = decided.inputs.map(|inputs| Header::new(INPUTS_HEADER, inputs.to_owned()));
    OutboxRow {
        source: origin.source.clone(),
        source_offset: origin.offset,
        seq,
        incarnation,
        destination: message.destination.clone(),
        key: message.key.map(<[u8]>::to_vec),
        value: message.value.map(<[u8]>::to_vec),
        headers: std::iter::once(sequence).chain(inputs).collect(),
        created_at: now,
        timestamp: None,
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

/// The sequence of a changelog record among those of its task, whatever input it came with: a key's last one is its
/// value. `None` for a row of any other kind.
#[must_use]
pub fn sequence_of(row: &OutboxRow) -> Option<i64> {
    let header = row.headers.first().filter(|header| header.name == CHANGELOG_HEADER)?;
    if is_dead_letter(row) {
        return None; // an older release let the rejected record's headers be its first
    }
    std::str::from_utf8(header.value.as_deref()?).ok()?.parse().ok()
}

/// How far the batch of a changelog record had decided each input of its task: topics and offsets. None where there is one
/// input.
pub(crate) fn inputs_of(row: &OutboxRow) -> impl Iterator<Item = (&str, NextOffset)> {
    let header = row.headers.get(1).filter(|header| header.name == INPUTS_HEADER && sequence_of(row).is_some());
    let text = header.and_then(|header| std::str::from_utf8(header.value.as_deref()?).ok()).unwrap_or_default();
    text.split(',').filter_map(|input| {
        let (topic, at) = input.rsplit_once(':')?;
        Some((topic, NextOffset(at.parse().ok()?)))
    })
}

/// The headers of a record that may be sent on, so that no other program's header is ever read as ours: all but those
/// of [reserved](is_reserved) names. A notice that another pipeline published still names itself by `ce_id`.
pub(crate) fn sent_on(headers: &[Header]) -> Cow<'_, [Header]> {
    if headers.iter().any(|header| is_reserved(&header.name)) {
        return headers.iter().filter(|header| !is_reserved(&header.name)).cloned().collect();
    }
    Cow::Borrowed(headers)
}

/// The first bytes of a text, cut between two characters.
fn beginning(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Adds Spring's headers, with the source and the cause of a dead letter, to those of the record.
fn explain(
    headers: &mut Vec<Header>,
    group: &str,
    source: &TopicPartition,
    offset: Offset,
    timestamp: Timestamp,
    reject: &Reject,
) {
    let message = beginning(reject.message(), MESSAGE_BYTES);
    let mut add = |name: &str, value: Vec<u8>| headers.push(Header::new(format!("{DEAD_LETTER_PREFIX}{name}"), value));
    add("original-topic", source.topic.as_str().into());
    add("original-partition", source.partition.0.to_be_bytes().into());
    add("original-offset", offset.0.to_be_bytes().into());
    add("original-timestamp", timestamp.0.to_be_bytes().into());
    add("original-timestamp-type", b"CreateTime".into());
    add("original-consumer-group", group.into());
    add(CODE, beginning(reject.code(), CODE_BYTES).into());
    // One line: a message may quote the payload's own line breaks.
    let line = message.replace(['\n', '\r'], " ").into_bytes();
    if reject.code() == BAD_KEY {
        add(KEY_CODE, BAD_KEY.into());
        add(KEY_CAUSE, line.clone());
    }
    add(CAUSE, line);
    if message.len() < reject.message().len() {
        headers.push(Header::new(MESSAGE_OMITTED_HEADER, (reject.message().len() - message.len()).to_string()));
    }
}

/// Leaves out parts of a dead letter that its topic would not take, where its limit is known, so that it blocks no
/// partition: the value, then the record's own headers, then the key. A header says how many bytes each had.
fn fit(pipeline: &str, row: &mut OutboxRow, limits: &Limits) {
    let Some(limit) = limits.room(&row.destination, bytes_of(pipeline, row)) else { return };
    let omit = |row: &mut OutboxRow, name: &str, take: fn(&mut OutboxRow) -> Option<usize>| {
        if bytes_of(pipeline, row) > limit
            && let Some(bytes) = take(row)
        {
            row.headers.push(Header::new(name, bytes.to_string()));
        }
    };
    omit(row, OMITTED_HEADER, |row| Some(row.value.take()?.len()));
    omit(row, HEADERS_OMITTED_HEADER, |row| {
        let (own, foreign): (Vec<Header>, Vec<Header>) =
            row.headers.drain(..).partition(|header| is_reserved(&header.name));
        row.headers = own;
        let bytes = foreign.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Vec::len)).sum();
        (bytes > 0).then_some(bytes)
    });
    omit(row, KEY_OMITTED_HEADER, |row| Some(row.key.take()?.len()));
}

/// Bytes that a message takes in its topic, roughly: key, value, headers and 128 for the record's frame.
#[must_use]
pub fn bytes_of(pipeline: &str, row: &OutboxRow) -> usize {
    let optional = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let published = row.headers.iter().filter(|header| header.name != PARTITION_HEADER);
    let own: usize = published.map(|header| header.name.len() + optional(&header.value) + 4).sum();
    // Derived headers: their names and fixed values come to less than 160 bytes, the id stands in two of them.
    let derived = 160
        + 2 * (pipeline.len() + row.source.topic.as_str().len() + 48)
        + pipeline.len()
        + row.destination.as_str().len();
    128 + optional(&row.key) + optional(&row.value) + own + derived
}

/// The outbox row of one notice that passed the filter: with the record's key and time, where it has none of its own.
/// `version`: the row's, where its table has one.
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
    let Emission { destination, value, envelope, content_type, threshold } = emission;
    let envelope = envelope.map_or_else(Envelope::default, |envelope| *envelope);
    let Envelope { key, partition_by, timestamp, headers: own } = envelope;
    let mut headers = Vec::new();
    if let Some(version) = version {
        headers.push(Header::new(VERSION_HEADER, version.to_string()));
    }
    if let Some(threshold) = threshold {
        headers.push(Header::new(THRESHOLD_HEADER, threshold.to_string()));
    }
    if value.is_some() && content_type != Format::Json.content_type() {
        headers.push(Header::new(CONTENT_TYPE_HEADER, content_type));
    }
    headers.extend(partition_by.map(|text| Header::new(PARTITION_HEADER, text)));
    headers.extend(own);
    OutboxRow {
        source: source.clone(),
        source_offset: record.offset,
        seq: i32::try_from(seq).unwrap_or(i32::MAX),
        incarnation,
        destination,
        key: key.or_else(|| record.key.map(<[u8]>::to_vec)),
        value,
        headers,
        created_at: now,
        // A timestamp that no producer can send is left out: the message gets the time of sending.
        timestamp: timestamp.or(Some(record.timestamp)).filter(|at| at.0 >= 0),
    }
}

/// The outbox row of a dead letter, which always fits into its topic, of at most `limits`.
#[must_use]
pub fn dead_letter(
    pipeline: &str,
    limits: &Limits,
    source: &TopicPartition,
    incarnation: i32,
    record: &Record<'_>,
    reject: &Reject,
    now: Timestamp,
) -> OutboxRow {
    let mut headers = sent_on(record.headers).into_owned();
    explain(&mut headers, pipeline, source, record.offset, record.timestamp, reject);
    let mut row = OutboxRow {
        source: source.clone(),
        source_offset: record.offset,
        seq: 0,
        incarnation,
        destination: Topology::dead_letter_topic(&source.topic),
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers,
        created_at: now,
        timestamp: None, // a dead letter is kept from the moment it is written, however old its record
    };
    fit(pipeline, &mut row, limits);
    row
}

/// The outbox row of the dead letter of a timer, or of a window that cannot be told: under its key, with its name and its span in
/// headers, [`TIMER_HEADER`](crate::flow::identity::TIMER_HEADER) and
/// [`WINDOW_HEADER`](crate::flow::identity::WINDOW_HEADER), and without a value. `record`: the one that has led to it, or the timer as a
/// record at the place of the one that moved the clock. `seq`: the row's number among the messages of that record.
pub(crate) fn dead_letter_about(
    pipeline: &str,
    limits: &Limits,
    (source, incarnation): (&TopicPartition, i32),
    (record, about): (&Record<'_>, &[(&str, &str)]),
    reject: &Reject,
    seq: i32,
    now: Timestamp,
) -> OutboxRow {
    let of_its_own = Record { value: None, headers: &[], ..*record };
    let mut row = dead_letter(pipeline, limits, source, incarnation, &of_its_own, reject, now);
    row.seq = seq;
    row.headers.extend(about.iter().map(|(name, value)| Header::new(*name, value.as_bytes())));
    fit(pipeline, &mut row, limits);
    row
}

/// The outbox row of a dead letter in the place of `row`, which its topic refuses: under its id, with its key, value
/// and headers. Its origin is that of the input; its timestamp is that of the decision.
pub(crate) fn dead_letter_for(pipeline: &str, limits: &Limits, row: &OutboxRow, cause: &str) -> OutboxRow {
    let reject = Reject::dead_letter("refused", format!("{}: {cause}", row.destination));
    let destination = Topology::dead_letter_topic(&row.source.topic);
    let mut dead_letter = OutboxRow { destination, timestamp: None, ..row.clone() };
    dead_letter.headers.retain(|header| header.name != PARTITION_HEADER);
    explain(&mut dead_letter.headers, pipeline, &row.source, row.source_offset, row.created_at, &reject);
    fit(pipeline, &mut dead_letter, limits);
    dead_letter
}

/// Queues the message of one outbox row that is no changelog record.
pub(crate) fn send_row(sink: &mut dyn Sink, pipeline: &str, row: &OutboxRow) -> Result<(), Fault> {
    let headers = headers_of(pipeline, row);
    let (key, value) = (row.key.as_deref(), row.value.as_deref());
    let partition = if is_dead_letter(row) {
        Some(row.source.partition)
    } else if partition_text(row).is_some() {
        partition_of(row, Some(sink.partition_count(&row.destination)?))
    } else {
        None // the client chooses it by the key
    };
    let (destination, headers, timestamp, is_tracked) = (&row.destination, &headers, row.timestamp, false);
    sink.send(&Message { destination, partition, key, value, headers, timestamp, is_tracked })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::ManualClock;
    use crate::flow::record::{Partition, TopicName};
    use crate::ports::Clock;
    use crate::ports::sink::SizeLimit;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn limit_of(topic: TopicName, value: usize) -> Limits {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        Limits::new(&clock, HashMap::from([(topic, SizeLimit { value, framing: 0, is_own: false })]))
    }

    fn dead_letter_of(record: &Record<'_>, limit: usize, message: &str) -> OutboxRow {
        let source = TopicPartition::new(TopicName::parse("in").unwrap(), Partition(2));
        let limits = limit_of(TopicName::parse("in-dlt").unwrap(), limit);
        dead_letter("p", &limits, &source, 0, record, &Reject::new(message), Timestamp(0))
    }

    fn header(row: &OutboxRow, name: &str) -> Option<String> {
        let mut found = row.headers.iter().filter(|header| header.name == name);
        let value = found.next().map(|header| String::from_utf8(header.value.clone().unwrap()).unwrap());
        assert_eq!(found.next(), None, "{name} stands once");
        value
    }

    #[test]
    fn a_dead_letter_always_fits_and_tells_what_it_lacks() {
        let big = vec![b'x'; 100_000];
        let own = [Header::new("trace", big.clone())];
        let record = |key, value, headers| Record { offset: Offset(7), timestamp: Timestamp(1), key, value, headers };
        let omitted = |row: &OutboxRow| {
            ["value", "headers", "key", "message"].map(|what| header(row, &format!("tg_{what}_omitted_bytes")))
        };
        let number = |n: usize| Some(n.to_string());
        let cases = [
            (record(Some(b"k"), Some(&big), &[]), [number(100_000), None, None, None]),
            (record(Some(b"k"), Some(&big), &own), [number(100_000), number(100_005), None, None]),
            (record(Some(&big), Some(b"v"), &own), [number(1), number(100_005), number(100_000), None]),
            (record(Some(&big), None, &[]), [None, None, number(100_000), None]),
        ];
        for (record, expected) in cases {
            let row = dead_letter_of(&record, 50_000, "short");
            assert_eq!(omitted(&row), expected);
            assert!(bytes_of("p", &row) <= 50_000 && is_dead_letter(&row));
        }
        let quoted = dead_letter_of(&record(Some(b"k"), Some(b"v"), &[]), 50_000, &"\u{e9}\n".repeat(1_000));
        let message = header(&quoted, "kafka_dlt-exception-message").unwrap();
        assert_eq!((message.len(), omitted(&quoted)), (1_023, [None, None, None, number(3_000 - 1_023)]));
    }

    #[test]
    fn the_smallest_dead_letter_fits_into_what_every_dead_letter_topic_must_take() {
        let (long, name) = ("m".repeat(1 << 20), "n".repeat(245));
        let source = TopicPartition::new(TopicName::parse(&name).unwrap(), Partition(i32::MAX));
        let limits = limit_of(Topology::dead_letter_topic(&source.topic), DEAD_LETTER_BYTES);
        let record = Record {
            offset: Offset(i64::MAX),
            timestamp: Timestamp(0),
            key: Some(long.as_bytes()),
            value: Some(long.as_bytes()),
            headers: &[Header::new("h", long.as_bytes())],
        };
        for code in [long.clone(), BAD_KEY.into()] {
            let reject = Reject::dead_letter(code, long.clone());
            let row = dead_letter(&name, &limits, &source, i32::MAX, &record, &reject, Timestamp(i64::MAX));
            assert!(bytes_of(&name, &row) <= DEAD_LETTER_BYTES, "{}", bytes_of(&name, &row));
        }
    }

    /// As Spring's tools expect it: they tell a bad key from a bad value by these headers.
    #[test]
    fn a_key_that_cannot_be_read_is_told_by_headers_of_its_own() {
        let source = TopicPartition::new(TopicName::parse("in").unwrap(), Partition(2));
        let record =
            Record { offset: Offset(7), timestamp: Timestamp(1), key: Some(b"x"), value: Some(b"v"), headers: &[] };
        let told = |code: &'static str| {
            let reject = Reject::unreadable(code, "no id");
            let row = dead_letter(
                "p",
                &limit_of(Topology::dead_letter_topic(&source.topic), usize::MAX),
                &source,
                0,
                &record,
                &reject,
                Timestamp(0),
            );
            ["exception-fqcn", "exception-message", "key-exception-fqcn", "key-exception-message"]
                .map(|name| header(&row, &format!("kafka_dlt-{name}")))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(told("bad-json"), [text("bad-json"), text("no id"), None, None]);
        assert_eq!(told("bad-key"), [text("bad-key"), text("no id"), text("bad-key"), text("no id")]);
    }

    #[test]
    fn nothing_of_somebody_else_is_read_as_ours() {
        let headers =
            ["tg_id", "trace", "tg_changelog", "ce_id", "kafka_dlt-exception-fqcn", "kafka_dlt-exception-stacktrace"]
                .map(|name| Header::new(name, *b"theirs"));
        let record =
            Record { offset: Offset(7), timestamp: Timestamp(1), key: None, value: Some(b"v"), headers: &headers };
        let row = dead_letter_of(&record, 50_000, "why");
        let all = headers_of("p", &row);
        let names: Vec<&str> = all.iter().map(|header| header.name.as_str()).collect();
        assert_eq!(names[..3], ["trace", "ce_id", "kafka_dlt-original-topic"]);
        assert_eq!((names.last(), names.iter().filter(|name| **name == "tg_id").count()), (Some(&"tg_id"), 1));
        assert_eq!(header(&row, "kafka_dlt-exception-fqcn").as_deref(), Some("rejected"));
        assert!(!names.contains(&"kafka_dlt-exception-stacktrace"));
        assert_eq!(sequence_of(&row), None);
    }

    #[test]
    fn the_text_that_decides_a_notices_partition_stays_in_its_row_and_is_no_part_of_its_dead_letter() {
        let source = TopicPartition::new(TopicName::parse("in").unwrap(), Partition(2));
        let destination = TopicName::parse("out").unwrap();
        let record =
            Record { offset: Offset(7), timestamp: Timestamp(1), key: Some(b"7"), value: Some(b"v"), headers: &[] };
        let row = |partition_by: Option<&[u8]>| {
            let envelope = partition_by
                .map(|text| Box::new(Envelope { partition_by: Some(text.to_vec()), ..Envelope::default() }));
            let (destination, value, threshold) = (destination.clone(), Some(b"v".to_vec()), None);
            let content_type = Format::Json.content_type();
            let emission = Emission { destination, value, envelope, content_type, threshold };
            notice(&source, 0, &record, 0, emission, None, Timestamp(0))
        };
        let (plain, placed) = (row(None), row(Some(b"ada")));
        assert_eq!(headers_of("p", &placed), headers_of("p", &plain), "readers are told nothing of it");
        assert_eq!(bytes_of("p", &placed), bytes_of("p", &plain));
        let by = |text: &[u8]| Some(Partition(partition_for(text, 12)));
        assert_ne!(by(b"7"), by(b"ada"));
        assert_eq!((partition_of(&plain, Some(12)), partition_of(&placed, Some(12))), (by(b"7"), by(b"ada")));
        assert_eq!(partition_of(&OutboxRow { key: None, ..placed.clone() }, Some(12)), by(b"ada"));
        let limits = limit_of(Topology::dead_letter_topic(&source.topic), usize::MAX);
        let letter = dead_letter_for("p", &limits, &placed, "why");
        assert_eq!(letter, dead_letter_for("p", &limits, &plain, "why"), "it lies where its record does");
        assert_eq!(partition_of(&letter, None), Some(Partition(2)));
    }

    #[test]
    fn a_message_is_never_taken_for_smaller_than_it_is() {
        let source = TopicPartition::new(TopicName::parse(&"t".repeat(249)).unwrap(), Partition(2));
        let record = Record {
            offset: Offset(i64::MAX),
            timestamp: Timestamp(i64::MAX),
            key: Some(b"k"),
            value: Some(b"v"),
            headers: &[],
        };
        let pipeline = "p".repeat(200);
        let no_limits = limit_of(Topology::dead_letter_topic(&source.topic), usize::MAX);
        let dead_letter = dead_letter(&pipeline, &no_limits, &source, 0, &record, &Reject::new("short"), Timestamp(0));
        let notice = OutboxRow { headers: Vec::new(), destination: source.topic.clone(), ..dead_letter.clone() };
        for row in [dead_letter, notice] {
            let headers = headers_of(&pipeline, &row);
            let own: usize =
                headers.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Vec::len)).sum();
            let bytes = own + row.key.as_ref().map_or(0, Vec::len) + row.value.as_ref().map_or(0, Vec::len);
            let taken_for = bytes_of(&pipeline, &row);
            assert!((bytes..bytes + 2_000).contains(&taken_for), "{bytes}, {taken_for}");
        }
    }
}
