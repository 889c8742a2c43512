//! A prepared batch of steps with rows, whose transaction is ready to commit; and the reasons why a batch is undone.

use crate::engine::outbound::outgoing::Outgoing;
use crate::engine::outbound::publication::Outbound;
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::worker::rows::outcome::Reached;
use crate::engine::worker::rows::terms::StoreTrouble;
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::collections::BTreeSet;

/// A batch whose transaction is ready to commit, or in doubt.
pub(crate) struct Prepared {
    pub(crate) advances: Vec<Advance>,
    /// Notices and dead letters.
    pub(crate) rows: Vec<Outbound>,
    /// Changelog records, which are in the outbox too.
    pub(crate) outgoing: Outgoing,
    /// Whether it had enough before it had decided all records that were drawn.
    pub(crate) had_enough: bool,
}

/// The advance of one input with a batch.
pub(crate) struct Advance {
    pub(crate) task: TaskId,
    pub(crate) assignment: AssignmentId,
    pub(crate) input: usize,
    pub(crate) epoch: i64,
    pub(crate) source: TopicPartition,
    pub(crate) from: NextOffset,
    pub(crate) to: NextOffset,
    /// K as last proved; beyond `from` while the rows catch up with it.
    pub(crate) published: NextOffset,
    pub(crate) reached: Reached,
}

/// The rows that one input's part of a batch reads.
pub(crate) struct Wanted {
    pub(crate) task: TaskId,
    pub(crate) input: usize,
    pub(crate) table: usize,
    pub(crate) keys: Vec<Key>,
}

/// The reason why a batch was undone.
pub(crate) enum Undone {
    /// These compare-and-sets matched nothing.
    Fenced(Vec<TaskId>),
    /// The database refuses these rows, named by table and key: their records are decided one by one from now on.
    Refused(BTreeSet<(usize, Key)>),
    Store(StoreTrouble),
    /// There is no transaction: no record of the batch is to blame.
    Away(Fault),
    /// The COMMIT failed for certain.
    Uncommitted(Fault),
    /// Some of the rows are locked by other programs.
    Locked(Fault, Vec<Wanted>),
    Fault(Fault),
}

impl From<StoreTrouble> for Undone {
    fn from(trouble: StoreTrouble) -> Self {
        Self::Store(trouble)
    }
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
