//! What was decided and may lack its announcement: read from the outbox, and held against the topics by id.

use crate::engine::message::{id_of, turn_of};
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::history::TopicHistory;
use crate::ports::rows::{OutboxRow, Rows};
use std::collections::{BTreeMap, HashSet};

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

/// Those of `rows` that their topics lack, by id; reads each of the topics once, and remembers no more than the rows. A changelog is compacted: a record that is not
/// there may have been, and must not come back behind a newer one of its key. So all of its records are kept, to be sent
/// again in their turns.
pub(crate) fn unannounced(
    pipeline: &str,
    rows: Vec<OutboxRow>,
    history: &mut dyn TopicHistory,
) -> Result<Vec<OutboxRow>, Fault> {
    let mut wanted: BTreeMap<TopicName, HashSet<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| turn_of(row).is_none()) {
        wanted.entry(row.destination.clone()).or_default().insert(id_of(pipeline, row));
    }
    for (topic, missing) in &mut wanted {
        history.await_open(topic)?; // what is hidden would be published twice
        history.each_message(topic, &mut |message| {
            if let Some(id) = message.id() {
                missing.remove(id);
            }
        })?;
    }
    let is_missing = |row: &OutboxRow| {
        let missing = || wanted.get(&row.destination).is_some_and(|missing| missing.contains(&id_of(pipeline, row)));
        turn_of(row).is_some() || missing()
    };
    Ok(rows.into_iter().filter(is_missing).collect())
}
