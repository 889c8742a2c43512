//! The two things that an operator changes by a command: a position in the database and the group's offset in the log.
//!
//! Fencing: [`Positions::fence`] raises the epoch of a position, so its holder loses the next compare-and-set, and
//! [`Positions::write`] writes only where that epoch still stands. The group takes [`Offsets::commit`], which names no
//! member, only while it has none: so no owner moves K at the same time.

use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::rows::Position;
use crate::ports::source::Committed;
use std::time::Duration;

/// The positions of one pipeline, outside any assignment. Every call is a transaction of its own.
pub trait Positions: Send {
    /// The position as committed.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn read(&mut self, source: &TopicPartition) -> Result<Option<Position>, Fault>;

    /// Raises the epoch, and answers the position under it; `None` where there is none.
    ///
    /// # Errors
    /// The same as [`Positions::read`].
    fn fence(&mut self, source: &TopicPartition, who: &str) -> Result<Option<Position>, Fault>;

    /// Writes the position where its epoch is still that of `position`, or creates it where `is_new`, lets any
    /// generation of the group claim it next, and notes the operation. False: another program was faster, and nothing
    /// was written.
    ///
    /// # Errors
    /// The same as [`Positions::read`]; the same write may be offered again.
    fn write(&mut self, position: &Position, is_new: bool, repair: &NotedRepair) -> Result<bool, Fault>;
}

/// The committed offsets of one group, as nobody of its members writes them.
pub trait Offsets: Send {
    /// The number of members of the group; 0 as well where the group's protocol does not report them.
    ///
    /// # Errors
    /// `Retry` when `wait` was not enough.
    fn members(&self, wait: Duration) -> Result<usize, Fault>;

    /// Commits offsets of a group that has no members.
    ///
    /// # Errors
    /// `Fenced` when it has some; `Retry` when `wait` was not enough: reading K shows whether it was committed.
    fn commit(&self, offsets: &[(TopicPartition, Committed)], wait: Duration) -> Result<(), Fault>;
}

/// A repair of one source partition, as it is recorded for later questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedRepair {
    /// The source partition.
    pub source: TopicPartition,
    /// The command's name and flags.
    pub command: String,
    /// The user and the machine that ran it.
    pub who: String,
    /// The incarnation before.
    pub incarnation: i32,
    /// D before, and after.
    pub next_offset: (Option<NextOffset>, NextOffset),
    /// K before, and after.
    pub committed: (Option<NextOffset>, NextOffset),
    /// Inputs, half-open and perhaps empty, whose published messages differ from the outbox by the operator's decision.
    pub excused: (NextOffset, NextOffset),
}
