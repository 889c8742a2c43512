//! Decided messages that may be unpublished: read from the outbox, and held against the topics by id.

use crate::engine::outbound::message::{bytes_of, id_of, sequence_of};
use crate::engine::outbound::size::Size;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::history::TopicHistory;
use crate::ports::rows::{OutboxRow, Rows};
use std::collections::{BTreeMap, HashSet};

/// Rows read from the outbox at once.
const PAGE: usize = 1_000;
/// The number for the first page, while nothing is known of their size; doubled while a page has less than
/// [`PAGE_BYTES`].
const PAGE_FIRST: usize = 16;
const PAGE_BYTES: usize = 1 << 20;

/// The outbox rows of `[from, to)`, in the order of their publication: never recomputed.
pub(crate) fn decided(
    rows: &mut dyn Rows,
    source: &TopicPartition,
    from: NextOffset,
    to: NextOffset,
) -> Result<Vec<OutboxRow>, Fault> {
    let mut out: Vec<OutboxRow> = Vec::new();
    let mut next = from;
    loop {
        let page = rows.outbox(source, next, to, PAGE)?;
        let Some(last) = page.last() else { return Ok(out) };
        next = last.source_offset.next();
        out.extend(page);
    }
}

/// The first of those rows, about as many as there is `room` for, and the offset where they end.
pub(crate) fn decided_first(
    rows: &mut dyn Rows,
    pipeline: &str,
    source: &TopicPartition,
    (from, to): (NextOffset, NextOffset),
    room: Size,
) -> Result<(Vec<OutboxRow>, NextOffset), Fault> {
    let (mut out, mut bytes): (Vec<OutboxRow>, usize) = (Vec::new(), 0);
    let (mut next, mut page_rows) = (from, PAGE_FIRST);
    while out.len() < room.messages && bytes < room.bytes {
        let page = rows.outbox(source, next, to, page_rows.min(room.messages - out.len()))?;
        let Some(last) = page.last() else { return Ok((out, to)) };
        next = last.source_offset.next();
        let page_bytes: usize = page.iter().map(|row| bytes_of(pipeline, row)).sum();
        bytes += page_bytes;
        page_rows = if page_bytes < PAGE_BYTES { PAGE.min(2 * page_rows) } else { PAGE_FIRST };
        out.extend(page);
    }
    Ok((out, next.min(to)))
}

/// The rows that their topics lack, by id; reads each of the topics once, and remembers no more than the rows. A
/// changelog is compacted: a record that is not there may have been, and must not come back behind a newer one of its
/// key. So all of its records are kept, to be sent again in the order of their sequences.
pub(crate) fn unpublished(
    pipeline: &str,
    rows: Vec<OutboxRow>,
    history: &mut dyn TopicHistory,
) -> Result<Vec<OutboxRow>, Fault> {
    let mut wanted: BTreeMap<TopicName, HashSet<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| sequence_of(row).is_none()) {
        wanted.entry(row.destination.clone()).or_default().insert(id_of(pipeline, row));
    }
    for (topic, missing) in &mut wanted {
        history.await_open(topic)?; // messages of an open transaction would be published twice
        history.each_message(topic, &mut |message| {
            if let Some(id) = message.id() {
                missing.remove(id);
            }
        })?;
    }
    let is_missing = |row: &OutboxRow| {
        let missing = || wanted.get(&row.destination).is_some_and(|missing| missing.contains(&id_of(pipeline, row)));
        sequence_of(row).is_some() || missing()
    };
    Ok(rows.into_iter().filter(is_missing).collect())
}
