//! What was decided and may lack its announcement: read from the outbox, and held against the topics by id.

use crate::engine::message::{id_of, turn_of};
use crate::flow::identity::ID_HEADER;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::history::TopicHistory;
use crate::ports::rows::{OutboxRow, Rows};
use std::collections::{BTreeSet, HashSet};

/// Rows read from the outbox at once.
const PAGE: usize = 1_000;

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

/// Those of `rows` that their topics lack, by id; reads the whole topics. A changelog is compacted: a record that is not
/// there may have been, and must not come back behind a newer one of its key. So all of its records are kept, to be sent
/// again in their turns.
pub(crate) fn unannounced(
    pipeline: &str,
    rows: Vec<OutboxRow>,
    history: &mut dyn TopicHistory,
) -> Result<Vec<OutboxRow>, Fault> {
    let notices = rows.iter().filter(|row| turn_of(row).is_none());
    let topics: BTreeSet<TopicName> = notices.map(|row| row.destination.clone()).collect();
    let mut found: HashSet<String> = HashSet::new();
    for topic in topics {
        history.await_open(&topic)?; // what is hidden would be published twice
        history.each_message(&topic, &mut |message| found.extend(message.header(ID_HEADER).map(str::to_owned)))?;
    }
    let is_missing = |row: &OutboxRow| turn_of(row).is_some() || !found.contains(&id_of(pipeline, row));
    Ok(rows.into_iter().filter(is_missing).collect())
}
