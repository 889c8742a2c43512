//! The open batch: records that steps without rows have decided and not handed over yet.

use crate::engine::outbound::outgoing::Outgoing;
use crate::engine::outbound::publication::{Outbound, Part, Publication, Through};
use crate::engine::outbound::size::Size;
use crate::engine::protocol::ownership::AssignmentId;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::rows::Counts;
use crate::ports::source::TaskId;
use std::collections::BTreeSet;
use std::sync::Arc;
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
    /// Tasks in which timers have fired by the wall clock: a batch keeps one turn of each.
    pub(crate) turned: BTreeSet<TaskId>,
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

    /// Notes that a task has decided the records of an input between two offsets.
    pub(crate) fn reach(
        &mut self,
        (task, assignment): (TaskId, AssignmentId),
        source: &TopicPartition,
        marks: Option<&Arc<str>>,
        (from, to): (NextOffset, NextOffset),
    ) {
        // Mostly the last one: a slice is of one task, and the records of an input come in runs.
        if let Some(part) = self.parts.iter_mut().rev().find(|part| part.task == task && part.source == *source) {
            part.to = to;
            return;
        }
        let (source, marks) = (source.clone(), marks.cloned());
        self.parts.push(Part { task, assignment, source, through: Through::Log, from, to, marks, batch: 0 });
    }

    /// Forgets the part of a task that is gone.
    pub(crate) fn forget(&mut self, task: TaskId) {
        if !self.tasks.remove(&task) {
            return;
        }
        self.turned.remove(&task);
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
