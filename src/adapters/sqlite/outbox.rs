//! Outbox rows and headers in and out of their table.

use super::connection::{Query, Trouble};
use crate::flow::record::{Header, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::rows::OutboxRow;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// The columns of an outbox row in the order that [`outbox_row`] reads.
macro_rules! outbox_columns {
    () => {
        "topic, partition, source_offset, seq, incarnation, destination, key, value, headers, created_at, event_time_ms"
    };
}
pub(super) use outbox_columns;

pub(super) fn insert<'q>(pipeline: &str, row: &OutboxRow) -> Query<'q> {
    let insert = concat!(
        "INSERT INTO tidegate_outbox (pipeline, ",
        outbox_columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
    );
    bound(insert, pipeline, row)
}

/// Sends a row elsewhere.
pub(super) fn redirect<'q>(pipeline: &str, row: &OutboxRow) -> Query<'q> {
    let update = concat!(
        "UPDATE tidegate_outbox SET destination = ?7, key = ?8, value = ?9, headers = ?10, event_time_ms = ?12 WHERE pipeline = ?1 ",
        "AND topic = ?2 AND partition = ?3 AND source_offset = ?4 AND seq = ?5 AND incarnation = ?6 ",
        "AND created_at = ?11 AND destination <> ?7"
    );
    bound(update, pipeline, row)
}

/// The row as the parameters ?1 to ?12 of a statement.
fn bound<'q>(statement: &'static str, pipeline: &str, row: &OutboxRow) -> Query<'q> {
    sqlx::query(statement)
        .bind(pipeline.to_owned())
        .bind(row.source.topic.to_string())
        .bind(row.source.partition.0)
        .bind(row.source_offset.0)
        .bind(row.seq)
        .bind(row.incarnation)
        .bind(row.destination.to_string())
        .bind(row.key.clone())
        .bind(row.value.clone())
        .bind(encode_headers(&row.headers))
        .bind(row.created_at.0)
        .bind(row.timestamp.map(|at| at.0))
}

pub(super) fn outbox_row(row: &SqliteRow) -> Result<OutboxRow, Trouble> {
    Ok(OutboxRow {
        source: TopicPartition::new(topic(row, 0)?, Partition(row.try_get(1)?)),
        source_offset: Offset(row.try_get(2)?),
        seq: row.try_get(3)?,
        incarnation: row.try_get(4)?,
        destination: topic(row, 5)?,
        key: row.try_get(6)?,
        value: row.try_get(7)?,
        headers: decode_headers(row.try_get(8)?)?,
        created_at: Timestamp(row.try_get(9)?),
        timestamp: row.try_get::<Option<i64>, _>(10)?.map(Timestamp),
    })
}

/// Reads a topic name.
pub(super) fn topic(row: &SqliteRow, index: usize) -> Result<TopicName, Trouble> {
    let name: String = row.try_get(index)?;
    Ok(TopicName::parse(&name).map_err(Fault::corrupt)?)
}

/// Headers as JSON pairs: `["name", "text"]`, `["name", [bytes]]` where they are no text, `["name", null]`.
pub(super) fn encode_headers(headers: &[Header]) -> String {
    let value = |bytes: &Vec<u8>| match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::Value::from(text),
        Err(_) => serde_json::Value::from(bytes.as_slice()),
    };
    let pair = |header: &Header| serde_json::json!([header.name, header.value.as_ref().map(value)]);
    headers.iter().map(pair).collect::<serde_json::Value>().to_string()
}

/// The inverse of [`encode_headers`].
pub(super) fn decode_headers(text: &str) -> Result<Vec<Header>, Fault> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes(Vec<u8>),
    }
    let pairs: Vec<(String, Option<Stored>)> =
        serde_json::from_str(text).map_err(|error| Fault::corrupt("headers cannot be read").because(error))?;
    let header = |(name, value): (String, Option<Stored>)| Header {
        name,
        value: value.map(|value| match value {
            Stored::Text(text) => text.into_bytes(),
            Stored::Bytes(bytes) => bytes,
        }),
    };
    Ok(pairs.into_iter().map(header).collect())
}
