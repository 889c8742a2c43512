//! Halted partitions, with what a person needs to decide.

use crate::engine::protocol::remedy::Choice;
use serde::Serialize;

/// One of them, as programs get it.
#[derive(Serialize)]
pub(super) struct Halted {
    pub(super) source: String,
    pub(super) reason: &'static str,
    pub(super) next_offset: Option<i64>,
    pub(super) committed_offset: Option<i64>,
    pub(super) committed_metadata: Option<String>,
    /// The metadata that our own commit of the position would carry.
    pub(super) position_metadata: Option<String>,
    pub(super) log_start: i64,
    pub(super) log_end: i64,
    /// The other inputs of the task, which stand still with it.
    pub(super) companions: Vec<String>,
    pub(super) cause: &'static str,
    /// Detail from the instance that saw the halt, or the difference of a table; null where the offsets explain it.
    pub(super) detail: Option<String>,
    pub(super) choices: Vec<Choice>,
}

impl Halted {
    /// Whether another one has the same cause and the same ways on, but for numbers.
    pub(super) fn has_cause_of(one: &&Self, other: &&Self) -> bool {
        let ways = |halted: &Self| -> Vec<(bool, &'static str)> {
            halted.choices.iter().map(|choice| (choice.command.is_some(), choice.effect)).collect()
        };
        (one.reason, &one.detail, ways(one)) == (other.reason, &other.detail, ways(other))
    }

    /// Whether a later look found the same halt, and nothing had moved in between.
    pub(super) fn stands_as(&self, later: &Self) -> bool {
        let key = |halted: &Self| (halted.reason, halted.next_offset, halted.committed_offset);
        self.source == later.source && key(self) == key(later)
    }
}
