//! What is kept from one batch of steps with rows to the next.

use crate::engine::worker::rows::portion::Portion;
use crate::engine::worker::rows::prepared::Prepared;
use crate::flow::key::Key;
use std::collections::BTreeSet;
use std::time::Duration;

/// The batches of a worker's steps with rows.
#[derive(Default)]
pub(crate) struct RowsLane {
    /// How large batches may be.
    pub(super) portion: Portion,
    /// Rows, by table and key, that the database refused, until the batch that they were in is committed.
    pub(super) suspects: BTreeSet<(usize, Key)>,
    /// A batch whose COMMIT had no answer.
    pub(super) in_doubt: Option<Prepared>,
    /// How long the last batch was decided until its first statement.
    pub(super) decide_time: Duration,
    /// Whether the last batch was of a record that failed alone before.
    pub(super) was_set_aside: bool,
    /// How many batches were committed.
    pub(super) commits: u64,
}

impl RowsLane {
    /// Whether a COMMIT had no answer yet: the database is asked for nothing else until it is settled.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        self.in_doubt.is_some()
    }
}
