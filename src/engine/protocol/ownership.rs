//! The ownership of tasks, as far as this process knows it: the proof of membership for each task, under one lock.
//!
//! A worker that was slow may hold a batch of a partition that has moved and come back. The broker would accept its
//! offsets, because the member is in good standing (docs/traps.md#membership-is-not-ownership); so each assignment has a
//! number, a batch carries it, and the membership to commit with is given out only for the current number.

use crate::ports::guard::{self, Guard};
use crate::ports::source::{Membership, TaskId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers one ownership period of one task in this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AssignmentId(pub u64);

/// The current assignments of this member.
#[derive(Debug, Default)]
pub struct Assignments {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    rebalances: u64,
    membership: Option<Membership>,
    current: HashMap<TaskId, AssignmentId>,
}

impl Assignments {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere cannot leave the map half changed: every change is one insertion or removal.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rebalance is complete: notes the membership, which serves the tasks kept as well, and numbers the new tasks.
    pub fn assign(&self, tasks: &[TaskId], membership: Membership) -> Vec<(TaskId, AssignmentId)> {
        let mut inner = self.lock();
        inner.membership = Some(membership);
        inner.rebalances += 1;
        tasks
            .iter()
            .map(|task| {
                inner.last += 1;
                let id = AssignmentId(inner.last);
                inner.current.insert(*task, id);
                (*task, id)
            })
            .collect()
    }

    /// Forgets tasks that this process no longer owns.
    pub fn remove(&self, tasks: &[TaskId]) {
        let mut inner = self.lock();
        for task in tasks {
            inner.current.remove(task);
        }
    }

    /// The membership to commit with, if this assignment of `task` is the current one.
    #[must_use]
    pub fn membership(&self, task: TaskId, assignment: AssignmentId) -> Option<Membership> {
        let inner = self.lock();
        let is_current = inner.current.get(&task) == Some(&assignment) || guard::is_off(Guard::CapturedMetadata);
        if is_current { inner.membership.clone() } else { None }
    }

    /// The number of rebalances seen.
    #[must_use]
    pub fn rebalances(&self) -> u64 {
        self.lock().rebalances
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;

    #[test]
    fn a_batch_of_an_earlier_assignment_gets_no_membership_even_when_the_partition_came_back() {
        let assignments = Assignments::default();
        let task = TaskId { sub_topology: 0, partition: Partition(3) };
        let membership = |generation| Membership::new("g", "m", generation, None).unwrap();
        let first = assignments.assign(&[task], membership(1))[0].1;
        assert_eq!(assignments.membership(task, first).unwrap().generation(), 1);
        assignments.assign(&[], membership(2));
        assert_eq!(
            assignments.membership(task, first).unwrap().generation(),
            2,
            "kept tasks commit with the new generation"
        );
        assignments.remove(&[task]);
        assert!(assignments.membership(task, first).is_none());
        let second = assignments.assign(&[task], membership(3))[0].1;
        assert!(assignments.membership(task, first).is_none());
        assert!(assignments.membership(task, second).is_some());
    }
}
