//! The status of this instance, for people: counters, tasks, halts, ages. Written once a batch, read by pages and
//! tests.

mod ages;
mod declarations;
mod letters;
mod metrics;
mod obstacles;
mod publishing;
mod restores;
mod state;
mod streams;

pub use ages::Ages;
pub(crate) use declarations::Held;
pub use declarations::{Declarations, DeclaredSource, Looked, Shuffles, Undeclared, Violations};
pub use letters::{DeadLetters, LettersOfCode};
pub use metrics::{Counted, Counter, Kind, METRICS, Metric, Place};
pub use obstacles::{Obstacles, Waits};
pub use publishing::{Busy, Publishing};
pub use restores::RestoreStatus;
pub use state::State;
pub use streams::{Stream, Streams};

pub use crate::engine::protocol::halt::Halt;
use crate::flow::effect::Reject;
use crate::flow::record::{Offset, TopicPartition};
use crate::ports::obstacle::ObstacleKind;
use crate::ports::rows::Counts;
use crate::ports::source::TaskId;
use crate::ports::store::StoreSize;
use metrics::Counters;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The finder of obstacles that the member of the group is.
pub(crate) const SOURCE: &str = "source";

/// The instance as a whole.
#[derive(Debug, Default)]
pub struct Status {
    counters: Counters,
    /// The records of sources against their declared partitioning.
    pub declared: Declarations,
    /// The placement of records of sources that declare nothing, where a step keeps something by their keys.
    pub undeclared: Undeclared,
    /// Changes of key that may not be needed.
    pub shuffles: Shuffles,
    /// Dead letters published, by their cause.
    pub letters: DeadLetters,
    /// Records that could not be read and were skipped, by their cause.
    pub unreadable: DeadLetters,
    /// Records of each source, used and rejected.
    pub streams: Streams,
    /// What keeps this instance from its work although nothing is halted.
    pub obstacles: Obstacles,
    /// Why partitions wait.
    pub waits: Waits,
    /// What relays have in hand and cannot publish.
    pub publishing: Publishing,
    /// Age of records, from their timestamp to the commit of the Kafka transaction with their messages.
    pub age_at_publication: Ages,
    is_member: AtomicBool,
    lagging: Mutex<BTreeSet<TaskId>>,
    tasks: Mutex<BTreeMap<TaskId, TaskStatus>>,
    restores: Mutex<BTreeMap<TaskId, RestoreStatus>>,
    stores: Mutex<BTreeMap<TaskId, Vec<StoreStatus>>>,
}

/// The size of one store when it was last written, without later commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The store.
    pub store: String,
    /// Its size.
    pub size: StoreSize,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Its state.
    pub state: State,
    /// Source partition, D and K of each input.
    pub inputs: Vec<(String, i64, i64)>,
    /// The halt, where it is halted.
    pub halt: Option<Halt>,
}

impl Status {
    /// Adds `n` to a counter.
    pub fn add(&self, counter: Counter, n: u64) {
        self.counters.add(counter, n);
    }

    /// A counter's value since the process started.
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        self.counters.value(counter)
    }

    /// Every counter as it is now.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.counters.counted()
    }

    /// A record that cannot be read is skipped, as its source says.
    pub(crate) fn skip_unreadable(&self, source: &TopicPartition, offset: Offset, reject: &Reject) {
        self.add(Counter::Unreadable, 1);
        self.unreadable.published(source, offset, reject.code(), reject.message());
    }

    fn tasks_mut(&self) -> MutexGuard<'_, BTreeMap<TaskId, TaskStatus>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, counts: Counts) {
        let add = |counter, n: i64| self.add(counter, u64::try_from(n).unwrap_or(0));
        add(Counter::Records, counts.records);
        add(Counter::RowChanges, counts.row_changes);
        add(Counter::Announced, counts.announced);
        add(Counter::DeadLetters, counts.dead_letters);
        add(Counter::Skipped, counts.skipped);
        add(Counter::Late, counts.late);
    }

    pub(crate) fn set_task(&self, id: TaskId, status: TaskStatus) {
        let mut tasks = self.tasks_mut();
        let before = tasks.insert(id, status);
        let (Some(before), Some(now)) = (before, tasks.get(&id)) else { return };
        for ((source, was, _), (_, is, _)) in before.inputs.iter().zip(&now.inputs) {
            // K moves later, by what was decided before the partition came to wait.
            if was != is || before.state != now.state {
                self.waits.forget(source);
            }
        }
    }

    pub(crate) fn remove_task(&self, id: TaskId) {
        let removed = self.tasks_mut().remove(&id);
        for (source, ..) in removed.into_iter().flat_map(|task| task.inputs) {
            self.waits.forget(&source);
            self.publishing.forget(&source);
        }
        self.set_restore(id, None);
        self.stores_mut().remove(&id);
    }

    fn stores_mut(&self) -> MutexGuard<'_, BTreeMap<TaskId, Vec<StoreStatus>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_stores(&self, id: TaskId, stores: Vec<StoreStatus>) {
        self.stores_mut().insert(id, stores);
    }

    /// The stores that are whole, by task.
    #[must_use]
    pub fn stores(&self) -> BTreeMap<TaskId, Vec<StoreStatus>> {
        self.stores_mut().clone()
    }

    pub(crate) fn set_restore(&self, id: TaskId, restore: Option<RestoreStatus>) {
        let mut restores = self.restores.lock().unwrap_or_else(PoisonError::into_inner);
        match restore {
            Some(restore) => restores.insert(id, restore),
            None => restores.remove(&id),
        };
    }

    /// The restores under way, by task.
    #[must_use]
    pub fn restores(&self) -> BTreeMap<TaskId, RestoreStatus> {
        self.restores.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets every task: a member of this process was killed and gave nothing up.
    pub fn forget_tasks(&self) {
        self.tasks_mut().clear();
        self.restores.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.stores_mut().clear();
    }

    /// Every task of this instance.
    #[must_use]
    pub fn tasks(&self) -> BTreeMap<TaskId, TaskStatus> {
        self.tasks_mut().clone()
    }

    pub(crate) fn set_lagging(&self, tasks: BTreeSet<TaskId>) {
        *self.lagging.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    }

    /// The tasks with records that wait to be taken, as the polling thread last saw them.
    #[must_use]
    pub fn lagging(&self) -> BTreeSet<TaskId> {
        self.lagging.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The halted tasks.
    #[must_use]
    pub fn halts(&self) -> Vec<Halt> {
        self.tasks_mut().values().filter_map(|task| task.halt.clone()).collect()
    }

    /// Notes that the group has taken this instance in, or thrown it out.
    pub fn set_member(&self, is_member: bool) {
        self.is_member.store(is_member, Ordering::Relaxed);
        if is_member {
            self.obstacles.report(ObstacleKind::NotAdmitted, SOURCE, Vec::new());
        }
    }

    /// Whether the group has taken this instance in, though it may have given it nothing.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.is_member.load(Ordering::Relaxed)
    }

    /// Whether the group has taken this instance in and every task takes records (or is halted, which alerts but does
    /// not flip readiness).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_member() && self.tasks_mut().values().all(|task| task.halt.is_some() || task.state == State::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Partition, TopicName};
    use crate::ports::Fault;

    #[test]
    fn a_partition_that_waits_keeps_its_cause_while_what_it_decided_before_is_published() {
        let status = Status::default();
        let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(0));
        let id = TaskId { sub_topology: 0, partition: Partition(0) };
        let show = |d, k| {
            let inputs = vec![(source.to_string(), d, k)];
            status.set_task(id, TaskStatus { state: State::Running, inputs, halt: None });
            status.waits.all().len()
        };
        show(5, 3);
        status.waits.failed(&source, &Fault::retry("a lock"));
        assert_eq!([show(5, 3), show(5, 5), show(6, 5)], [1, 1, 0]);
    }
}
