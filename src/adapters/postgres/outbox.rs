//! Outbox rows as table rows: the order of columns, the headers' bytes, and reading a range without splitting an offset.

use super::arrays::{self, Array};
use super::connection::{raw, unreadable};
use crate::flow::identity::PARTITION_HEADER;
use crate::flow::record::{Header, NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::rows::OutboxRow;
use sqlx::postgres::PgRow;
use std::collections::HashMap;

/// Inserts rows by arrays. `$1` is the pipeline; the arrays follow in the order of [`arrays_of`].
pub(super) const INSERT: &str = "INSERT INTO {schema}.outbox (pipeline, topic, partition, source_offset, seq, incarnation, \
     created_at, destination, key, headers, value, event_time_ms) SELECT $1, u.* FROM unnest($2::text[], $3::integer[], \
     $4::bigint[], $5::integer[], $6::integer[], $7::timestamptz[], $8::text[], $9::bytea[], $10::bytea[], $11::bytea[], \
     $12::bigint[]) AS u";

/// Sends rows elsewhere, bound as for [`INSERT`].
pub(super) const REDIRECT: &str = "UPDATE {schema}.outbox AS o SET destination = u.destination, key = u.key, \
     headers = u.headers, value = u.value, event_time_ms = u.event_time_ms FROM unnest($2::text[], $3::integer[], \
     $4::bigint[], $5::integer[], $6::integer[], $7::timestamptz[], $8::text[], $9::bytea[], $10::bytea[], $11::bytea[], \
     $12::bigint[]) AS u(topic, partition, source_offset, seq, incarnation, created_at, destination, key, headers, value, \
     event_time_ms) WHERE o.pipeline = $1 \
     AND o.topic = u.topic AND o.partition = u.partition AND o.source_offset = u.source_offset AND o.seq = u.seq \
     AND o.incarnation = u.incarnation AND o.created_at = u.created_at AND o.destination <> u.destination";

/// The columns that [`Reader`] reads, in its order.
pub(super) const COLUMNS: &str =
    "topic, partition, source_offset, seq, incarnation, created_at, destination, key, headers, value, event_time_ms";

/// The version of the headers' encoding, its first byte. An older release refuses a newer one instead of guessing
/// (docs/traps.md#two-releases-at-once).
const HEADERS_VERSION: u8 = 1;
/// That of headers with what decides the partition in place of the key.
const PLACED_VERSION: u8 = 2;

/// The bind parameters after the pipeline.
pub(super) fn arrays_of(rows: &[OutboxRow]) -> [Array; 11] {
    let mut headers = Array::new(arrays::BYTEA, rows.len(), 64);
    let mut scratch = Vec::new();
    for row in rows {
        scratch.clear();
        encode_headers(&row.headers, &mut scratch);
        headers.push(if row.headers.is_empty() { None } else { Some(&scratch) });
    }
    [
        Array::of_text(rows.iter().map(|row| Some(row.source.topic.as_str()))),
        Array::of_i32(rows.iter().map(|row| row.source.partition.0)),
        Array::of_i64(rows.iter().map(|row| row.source_offset.0)),
        Array::of_i32(rows.iter().map(|row| row.seq)),
        Array::of_i32(rows.iter().map(|row| row.incarnation)),
        Array::of_timestamp(rows.iter().map(|row| row.created_at)),
        Array::of_text(rows.iter().map(|row| Some(row.destination.as_str()))),
        Array::of_bytes(rows.iter().map(|row| row.key.as_deref())),
        headers,
        Array::of_bytes(rows.iter().map(|row| row.value.as_deref())),
        Array::of_optional_i64(rows.iter().map(|row| row.timestamp.map(|at| at.0))),
    ]
}

/// Reads outbox rows; the few topic names among them are shared.
#[derive(Debug, Default)]
pub(super) struct Reader {
    topics: HashMap<Vec<u8>, TopicName>,
}

impl Reader {
    /// One row of [`COLUMNS`].
    pub(super) fn row(&mut self, row: &PgRow) -> Result<OutboxRow, sqlx::Error> {
        Ok(OutboxRow {
            source: TopicPartition::new(self.topic(row, 0)?, Partition(i32::from_be_bytes(fixed(row, 1)?))),
            source_offset: Offset(i64::from_be_bytes(fixed(row, 2)?)),
            seq: i32::from_be_bytes(fixed(row, 3)?),
            incarnation: i32::from_be_bytes(fixed(row, 4)?),
            created_at: arrays::timestamp_of(i64::from_be_bytes(fixed(row, 5)?)),
            destination: self.topic(row, 6)?,
            key: raw(row, 7)?.map(<[u8]>::to_vec),
            headers: raw(row, 8)?.map_or_else(|| Ok(Vec::new()), decode_headers).map_err(unreadable)?,
            value: raw(row, 9)?.map(<[u8]>::to_vec),
            timestamp: raw(row, 10)?.map(|_| fixed(row, 10)).transpose()?.map(|at| Timestamp(i64::from_be_bytes(at))),
        })
    }

    fn topic(&mut self, row: &PgRow, index: usize) -> Result<TopicName, sqlx::Error> {
        let bytes = raw(row, index)?.unwrap_or_default();
        if let Some(topic) = self.topics.get(bytes) {
            return Ok(topic.clone());
        }
        let text = std::str::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
        let topic = TopicName::parse(text).map_err(unreadable)?;
        self.topics.insert(bytes.to_vec(), topic.clone());
        Ok(topic)
    }
}

/// The creation time of a row of [`COLUMNS`] in microseconds since 2000.
pub(super) fn created_at_micros(row: &PgRow) -> Result<i64, sqlx::Error> {
    fixed(row, 5).map(i64::from_be_bytes)
}

fn fixed<const N: usize>(row: &PgRow, index: usize) -> Result<[u8; N], sqlx::Error> {
    let bytes = raw(row, index)?.ok_or_else(|| unreadable("unexpected null"))?;
    bytes.try_into().map_err(|_| unreadable(format!("column {index}: expected {N} bytes, found {}", bytes.len())))
}

/// The cut to make in `rows`, of which at most `rows_max + 1` were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// They are whole.
    Whole,
    /// Keep this many: the next offset may have rows beyond those read.
    Keep(usize),
    /// One offset alone has more than `rows_max` rows: read it whole.
    Offset(Offset),
}

/// Where to cut so that no offset is split.
pub(super) fn cut(rows: &[OutboxRow], rows_max: usize) -> Cut {
    let Some(beyond) = rows.get(rows_max) else { return Cut::Whole };
    let keep = rows.iter().take(rows_max).take_while(|row| row.source_offset != beyond.source_offset).count();
    if keep == 0 { Cut::Offset(beyond.source_offset) } else { Cut::Keep(keep) }
}

/// The end of the range that holds one offset.
pub(super) const fn range_of(offset: Offset) -> (NextOffset, NextOffset) {
    (NextOffset(offset.0), offset.next())
}

/// Version, then for each header: length of the name, name, length of the value plus one (0: no value), value. Lengths in
/// seven-bit groups, low ones first, as in Protocol Buffers.
fn encode_headers(headers: &[Header], out: &mut Vec<u8>) {
    let is_placed = headers.iter().any(|header| header.name == PARTITION_HEADER);
    out.push(if is_placed { PLACED_VERSION } else { HEADERS_VERSION });
    for header in headers {
        push_length(header.name.len(), out);
        out.extend_from_slice(header.name.as_bytes());
        push_length(header.value.as_ref().map_or(0, |value| value.len() + 1), out);
        out.extend_from_slice(header.value.as_deref().unwrap_or_default());
    }
}

fn decode_headers(bytes: &[u8]) -> Result<Vec<Header>, String> {
    let [HEADERS_VERSION | PLACED_VERSION, rest @ ..] = bytes else {
        return Err("headers of an outbox row: written by a newer release".into());
    };
    let mut rest = rest;
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let header = take_length(&mut rest).and_then(|length| take(&mut rest, length)).and_then(|name| {
            let name = std::str::from_utf8(name).ok()?.to_owned();
            let value = match take_length(&mut rest)? {
                0 => None,
                length => Some(take(&mut rest, length - 1)?.to_vec()),
            };
            Some(Header { name, value })
        });
        headers.push(header.ok_or("headers of an outbox row: damaged")?);
    }
    Ok(headers)
}

fn push_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 128")]
    out.push(length as u8);
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Timestamp;
    use proptest::prelude::*;

    fn row(offset: i64, seq: i32) -> OutboxRow {
        let topic = TopicName::parse("t").unwrap();
        OutboxRow {
            source: TopicPartition::new(topic.clone(), Partition(0)),
            source_offset: Offset(offset),
            seq,
            incarnation: 0,
            destination: topic,
            key: None,
            value: None,
            headers: Vec::new(),
            created_at: Timestamp(0),
            timestamp: None,
        }
    }

    #[test]
    fn a_cut_never_splits_an_offset() {
        let rows = [row(1, 0), row(1, 1), row(2, 0), row(2, 1), row(2, 2)];
        assert_eq!(cut(&rows, 5), Cut::Whole);
        assert_eq!(cut(&rows, 4), Cut::Keep(2));
        assert_eq!(cut(&rows[..4], 3), Cut::Keep(2));
        assert_eq!(cut(&rows[..3], 2), Cut::Keep(2));
        assert_eq!(cut(&rows[..2], 1), Cut::Offset(Offset(1)));
    }

    #[test]
    fn a_release_that_knows_nothing_of_a_partition_rule_refuses_its_row() {
        let version = |name: &str| {
            let mut bytes = Vec::new();
            encode_headers(&[Header::new(name, *b"x")], &mut bytes);
            bytes[0]
        };
        assert_eq!((version("trace"), version(PARTITION_HEADER)), (1, 2));
    }

    proptest! {
        #[test]
        fn headers_read_back(headers in prop::collection::vec((".{0,200}", prop::option::of(prop::collection::vec(any::<u8>(), 0..300))), 0..6)) {
            let headers: Vec<_> = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
            let mut bytes = Vec::new();
            encode_headers(&headers, &mut bytes);
            prop_assert_eq!(decode_headers(&bytes), Ok(headers));
        }

        #[test]
        fn damaged_headers_are_an_error_or_other_headers_but_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_headers(&bytes);
        }
    }
}
