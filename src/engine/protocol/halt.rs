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
    /// Whether the line of the log about this one says all that another's would say, but for the partition: a cause that is not
    /// one of its numbers, and steps by hand alone. A command names its partition, and is told for each.
    pub(crate) fn says_as_much_as(&self, other: &Self) -> bool {
        let is_told = (self.reason, &self.detail, &self.choices) == (other.reason, &other.detail, &other.choices);
        is_told && !self.detail.is_empty() && self.choices.iter().all(|choice| choice.command.is_none())
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Partition, TopicName};

    #[test]
    fn a_halt_that_a_line_was_written_for_already_is_one_of_another_partition_without_a_command_of_its_own() {
        let halt = |partition, reason, detail: &str, command: Option<&str>| Halt {
            source: TopicPartition::new(TopicName::derived("in"), Partition(partition)),
            reason,
            next_offset: Some(NextOffset(partition.into())),
            committed: None,
            detail: detail.into(),
            choices: vec![Choice { command: command.map(str::to_owned), effect: "mend it" }],
        };
        let first = halt(0, HaltReason::SchemaChanged, "no column", None);
        assert!(first.says_as_much_as(&halt(7, HaltReason::SchemaChanged, "no column", None)));
        for other in [
            halt(7, HaltReason::SchemaChanged, "no table", None),
            halt(7, HaltReason::StoreUnwritable, "no column", None),
            halt(7, HaltReason::SchemaChanged, "no column", Some("skip in-7")),
        ] {
            assert!(!first.says_as_much_as(&other), "{other:?}");
        }
        let numbers = |partition| halt(partition, HaltReason::GroupWentBack, "", None);
        assert!(!numbers(0).says_as_much_as(&numbers(7)), "each has its own numbers");
        let rebuilt = |partition| halt(partition, HaltReason::ChangelogRecreated, "anew", Some("state rebuild in-0"));
        assert!(!rebuilt(0).says_as_much_as(&rebuilt(0)), "a command is told for each");
    }
}
