//! The open batch: records that steps without rows have decided and not handed over yet.

use crate::engine::outbound::outgoing::Outgoing;
use crate::engine::outbound::publication::{Outbound, Part, Publication};
use crate::engine::outbound::size::Size;
use crate::ports::rows::Counts;
use crate::ports::source::TaskId;
use std::collections::BTreeSet;
use std::time::Duration;

/// Decided records that are not handed over yet.
#[derive(Default)]
pub(crate) struct OpenBatch {
    pub(crate) since: Option<Duration>,
    pub(crate) parts: Vec<Part>,
    pub(crate) rows: Vec<Outbound>,
    pub(crate) outgoing: Outgoing,
    pub(crate) tasks: BTreeSet<TaskId>,
    pub(crate) counts: Counts,
    /// Keys and values of the records that were decided.
    pub(crate) bytes: usize,
    /// Bytes of notices and dead letters, and of the changelog records that join the batch at its end.
    pub(crate) sent_bytes: usize,
}

impl OpenBatch {
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.outgoing.len()
    }

    /// Whether it has the size of a transaction, by its inputs or by its messages.
    pub(crate) fn is_full(&self, room: Size) -> bool {
        let sent_bytes = self.sent_bytes + self.outgoing.bytes();
        self.len() >= room.messages || self.bytes >= room.bytes || sent_bytes >= room.bytes
    }

    /// The time at which it is old enough to be handed over.
    pub(crate) fn due(&self, age: Duration) -> Option<Duration> {
        self.since.map(|since| since + age)
    }

    /// Forgets the part of a task that is gone.
    pub(crate) fn forget(&mut self, task: TaskId) {
        if !self.tasks.remove(&task) {
            return;
        }
        let (gone, kept): (Vec<Part>, Vec<Part>) =
            std::mem::take(&mut self.parts).into_iter().partition(|part| part.task == task);
        let parts = kept;
        let (rows, outgoing) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.outgoing));
        let mut rest = Publication { parts, rows, outgoing, ..Publication::default() };
        for part in gone {
            rest.remove(&part.source);
        }
        (self.parts, self.rows, self.outgoing) = (rest.parts, rest.rows, rest.outgoing);
        if self.parts.is_empty() {
            (self.since, self.bytes, self.sent_bytes) = (None, 0, 0);
        }
    }
}
