//! The halt of a task, for people, and the facts that a halt rests on.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::remedy::Choice;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::source::Committed;

/// A halted task: the reason, with the numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Halt {
    /// The source partition that is to blame; the whole task stands still.
    pub source: TopicPartition,
    /// The reason.
    pub reason: HaltReason,
    /// D.
    pub next_offset: Option<NextOffset>,
    /// K and its metadata.
    pub committed: Option<Committed>,
    /// Further facts, in one line; may be empty.
    pub detail: String,
    /// The ways on, never empty.
    pub choices: Vec<Choice>,
}

impl Halt {
    /// Whether an undecided record is to blame, or a row or store that the record needs.
    pub(crate) const fn is_of_a_record(&self) -> bool {
        matches!(
            self.reason,
            HaltReason::WronglyKeyed
                | HaltReason::Unreadable
                | HaltReason::UnknownStore
                | HaltReason::SchemaChanged
                | HaltReason::StoreUnreadable
                | HaltReason::StoreUnwritable
        )
    }
}

/// The facts that a halt rests on: D and K as they were found. The log's end is not among them: it moves while others
/// write.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Contradiction {
    pub(crate) source: TopicPartition,
    pub(crate) reason: HaltReason,
    pub(crate) next_offset: Option<NextOffset>,
    pub(crate) committed: Option<Committed>,
}
