//! The state of the lane of steps with rows, kept from one batch to the next.

use crate::engine::worker::rows::fired::Fired;
use crate::engine::worker::rows::portion::Portion;
use crate::engine::worker::rows::prepared::Prepared;
use crate::flow::key::Key;
use crate::flow::timer::TURN;
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The batches of a worker's steps with rows.
#[derive(Default)]
pub(crate) struct RowsLane {
    /// The bound on the records of a batch.
    pub(super) portion: Portion,
    /// The bounds on the timers behind one record, of tasks for which a transaction was too large.
    pub(super) turns: BTreeMap<TaskId, Portion>,
    /// Rows, by table and key, that the database refused, until the next commit, whichever batch it is of: so none stays whose
    /// record has left or is decided otherwise. Their own batch comes first, by `was_refused`.
    pub(super) suspects: BTreeSet<(usize, Key)>,
    /// A batch whose COMMIT had no answer.
    pub(super) in_doubt: Option<Prepared>,
    /// The time from the beginning of the last batch to its first statement.
    pub(super) decide_time: Duration,
    /// The timers that fired in the last batch.
    pub(super) fired: Fired,
    /// Whether the last batch was of a record that failed alone before.
    pub(super) was_set_aside: bool,
    /// Whether the last batch was undone because the database refused rows of it.
    pub(super) was_refused: bool,
    /// The number of committed batches.
    pub(super) commits: u64,
}

impl RowsLane {
    /// Whether a COMMIT has no answer yet: the database is asked for nothing else until it is settled.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        self.in_doubt.is_some()
    }

    /// Most timers that fire behind one record of a task.
    pub(super) fn turn(&self, task: TaskId) -> usize {
        self.turns.get(&task).map_or(TURN, |turn| turn.most(TURN))
    }

    /// Lowers the bound of a task whose transaction failed, though it was of one record alone. It goes down from the highest, however
    /// few have fired: a failure that is chance leaves no few timers behind.
    pub(super) fn turn_failed(&mut self, task: TaskId) {
        let most = self.turn(task);
        self.turns.entry(task).or_default().failed(most);
    }

    /// Raises the bound of a task with a batch in which timers have fired.
    pub(super) fn turn_committed(&mut self, task: TaskId) {
        let Some(turn) = self.turns.get_mut(&task) else { return };
        turn.committed(TURN);
        if turn.most(TURN) == TURN {
            self.turns.remove(&task);
        }
    }
}
