//! The router of records and events of the group: to the workers that have the tasks. Lives on the polling thread.

use crate::engine::mailbox::{Inboxes, ToExecutor, ToSource};
use crate::engine::protocol::ownership::Assignments;
use crate::engine::status::{SOURCE, Status};
use crate::flow::record::{Chunk, Record, TopicName, TopicPartition};
use crate::ports::failpoint::failpoint;
use crate::ports::guard::{self, Guard};
use crate::ports::obstacle::{ObstacleKind, Reason};
use crate::ports::source::{Listener, Membership, Source, TaskId};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that may wait in front of one task, roughly, so that large records do not take the memory that
/// `queued_records` of them would. Every waiting record of an input counts as large as its largest, since small ones come
/// beside large ones.
pub(super) const QUEUED_BYTES: usize = 32 << 20;

/// Starts that are not done yet, one a task.
pub(super) type Starts = BTreeMap<TaskId, ToSource>;

/// The router of records and group events. Lives on the polling thread.
pub(super) struct Router {
    pub(super) assignments: Arc<Assignments>,
    pub(super) inboxes: Inboxes,
    pub(super) executors: Vec<ExecutorHandle>,
    pub(super) sources: Vec<Vec<TopicName>>, // by sub-topology
    pub(super) placed: BTreeMap<TaskId, Placed>,
    pub(super) filling: BTreeMap<(TaskId, usize), Chunk>,
    pub(super) queued_max: usize,
    pub(super) status: Arc<Status>,
}

pub(super) struct ExecutorHandle {
    pub(super) inbox: Sender<ToExecutor>,
    pub(super) tasks: usize,
}

pub(super) struct Placed {
    pub(super) executor: usize,
    /// Lead topic first, then the companions.
    pub(super) inputs: Vec<InFront>,
    /// The number of the start to which the next records belong; 0 before the first.
    pub(super) delivery: u64,
}

/// The records in front of one input. Each input has a share of the task's bound: where one is held back, the others still
/// come, so that the task can go on in the order of time.
#[derive(Default)]
pub(super) struct InFront {
    pub(super) records: Arc<AtomicUsize>,
    /// Bytes of a record, by the chunk with the largest average among the waiting ones.
    pub(super) record_bytes: usize,
    pub(super) is_held: bool,
}

impl InFront {
    fn records(&self) -> usize {
        self.records.load(Ordering::Acquire)
    }
}

impl Router {
    pub(super) fn assigned(&mut self, tasks: &[TaskId], membership: Membership) {
        self.status.set_member(true);
        for (task, assignment) in self.assignments.assign(tasks, membership) {
            // The worker with the fewest tasks takes it; a task never moves between workers.
            let Some((number, executor)) =
                self.executors.iter_mut().enumerate().min_by_key(|(_, executor)| executor.tasks)
            else {
                return;
            };
            executor.tasks += 1;
            let count = self.sources.get(task.sub_topology).map_or(1, Vec::len);
            let inputs: Vec<InFront> = std::iter::repeat_with(InFront::default).take(count).collect();
            self.inboxes.place(task, executor.inbox.clone());
            let in_front = inputs.iter().map(|input| Arc::clone(&input.records)).collect();
            let message = ToExecutor::Assigned { task, assignment, in_front };
            let _ = executor.inbox.send(message); // an executor that has ended takes the member with it
            self.placed.insert(task, Placed { executor: number, inputs, delivery: 0 });
        }
    }

    /// Takes the tasks from their workers, waits (by `wait`) until their committed batches are published, and only then
    /// lets go of the membership.
    pub(super) fn revoked(&mut self, tasks: &[TaskId], wait: impl FnOnce(&Receiver<()>, usize)) {
        failpoint!(K15, if !tasks.is_empty());
        self.flush();
        let by_executor = self.remove(tasks);
        let (ack, acks) = bounded(by_executor.len().max(1));
        let count = by_executor.len();
        for (number, tasks) in by_executor {
            if let Some(executor) = self.executors.get(number) {
                let _ = executor.inbox.send(ToExecutor::Revoked { tasks, ack: ack.clone() });
            }
        }
        drop(ack);
        if count > 0 && !guard::is_off(Guard::RevokeWaits) {
            wait(&acks, count);
        }
        self.assignments.remove(tasks);
    }

    pub(super) fn lost(&mut self, tasks: &[TaskId]) {
        self.status.set_member(false);
        self.assignments.remove(tasks);
        for (number, tasks) in self.remove(tasks) {
            if let Some(executor) = self.executors.get(number) {
                let _ = executor.inbox.send(ToExecutor::Lost { tasks });
            }
        }
    }

    pub(super) fn remove(&mut self, tasks: &[TaskId]) -> BTreeMap<usize, Vec<TaskId>> {
        let mut by_executor: BTreeMap<usize, Vec<TaskId>> = BTreeMap::new();
        for task in tasks {
            self.filling.retain(|(filling, _), _| filling != task);
            self.inboxes.remove(*task);
            if let Some(placed) = self.placed.remove(task) {
                if let Some(executor) = self.executors.get_mut(placed.executor) {
                    executor.tasks -= 1;
                }
                by_executor.entry(placed.executor).or_default().push(*task);
            }
        }
        by_executor
    }

    pub(super) fn send(&self, task: TaskId, message: ToExecutor) {
        if let Some(executor) = self.placed.get(&task).and_then(|placed| self.executors.get(placed.executor)) {
            let _ = executor.inbox.send(message);
        }
    }

    /// Begins the new starts and those that failed before. Only the last one of each task counts: if an earlier one was
    /// tried again, its records would belong to no start. True when something was started.
    pub(super) fn start(
        &mut self,
        source: &mut dyn Source,
        waiting: &mut Starts,
        told: impl Iterator<Item = ToSource>,
    ) -> bool {
        for start in told {
            let ToSource::Start { task, assignment, .. } = &start;
            // A start of an assignment that is gone counts for nothing, however late it comes.
            if self.assignments.membership(*task, *assignment).is_some() {
                waiting.insert(*task, start);
            }
        }
        let mut has_started = false;
        waiting.retain(|task, ToSource::Start { assignment, delivery, positions, .. }| {
            if self.assignments.membership(*task, *assignment).is_none() {
                return false; // it moved while it was being taken over
            }
            match source.start(positions) {
                Ok(()) => {
                    has_started = true;
                    self.delivers(*task, *delivery);
                    false
                }
                Err(fault) => {
                    tracing::debug!(error = %fault, "delivery could not start yet");
                    true
                }
            }
        });
        has_started
    }

    /// Gives the records of `task` the start number `delivery` from here on; earlier ones are flushed. A start releases
    /// held inputs.
    pub(super) fn delivers(&mut self, task: TaskId, delivery: u64) {
        if let Some(placed) = self.placed.get_mut(&task) {
            placed.delivery = delivery;
            placed.inputs.iter_mut().for_each(|input| input.is_held = false);
        }
    }

    /// Hands the records of this poll to their workers, one message an input.
    pub(super) fn flush(&mut self) {
        let filling = std::mem::take(&mut self.filling);
        for ((task, topic), chunk) in filling {
            if let Some(placed) = self.placed.get_mut(&task)
                && let Some(input) = placed.inputs.get_mut(topic)
            {
                let waiting = input.records.fetch_add(chunk.len(), Ordering::AcqRel);
                let record_bytes = chunk.bytes() / chunk.len().max(1);
                input.record_bytes = if waiting == 0 { record_bytes } else { input.record_bytes.max(record_bytes) };
                let delivery = placed.delivery;
                self.send(task, ToExecutor::Records { task, topic, delivery, chunk });
            }
        }
    }

    /// Holds back the inputs that have too much waiting, in records or in bytes, until half of it is gone.
    pub(super) fn apply_backpressure(&mut self, source: &mut dyn Source) {
        for (task, placed) in &mut self.placed {
            let topics = self.sources.get(task.sub_topology).into_iter().flatten();
            let share = placed.inputs.len().max(1);
            for (input, topic) in placed.inputs.iter_mut().zip(topics) {
                let most = self.queued_max.min(QUEUED_BYTES / input.record_bytes.max(1)) / share;
                let is_too_much = input.records() > if input.is_held { most / 2 } else { most };
                if is_too_much == input.is_held {
                    continue;
                }
                let partitions = [TopicPartition::new(topic.clone(), task.partition)];
                let result = if is_too_much { source.hold(&partitions) } else { source.release(&partitions) };
                if result.is_ok() {
                    input.is_held = is_too_much;
                }
            }
        }
    }
}

/// The router as a listener, with the way to wait for a revoke.
pub(super) struct Guided<'a, W> {
    pub(super) router: &'a mut Router,
    pub(super) wait: W,
}

impl<W: FnMut(&Receiver<()>, usize)> Listener for Guided<'_, W> {
    fn assigned(&mut self, tasks: &[TaskId], membership: Membership) {
        self.router.assigned(tasks, membership);
    }

    fn revoked(&mut self, tasks: &[TaskId]) {
        self.router.revoked(tasks, &mut self.wait);
    }

    fn lost(&mut self, tasks: &[TaskId]) {
        self.router.lost(tasks);
    }

    fn record(&mut self, task: TaskId, topic: usize, record: Record<'_>) {
        self.router.filling.entry((task, topic)).or_default().push(&record);
    }

    fn out_of_range(&mut self, task: TaskId, topic: usize, message: &str) {
        self.router.send(task, ToExecutor::OutOfRange { task, topic, message: message.into() });
    }

    fn obstacles(&mut self, kind: ObstacleKind, found: Vec<(String, Reason)>) {
        self.router.status.obstacles.report(kind, SOURCE, found);
    }

    fn lagging(&mut self, tasks: Vec<TaskId>) {
        let has_queued =
            |(task, placed): (&TaskId, &Placed)| placed.inputs.iter().any(|input| input.records() > 0).then_some(*task);
        let queued = self.router.placed.iter().filter_map(has_queued);
        self.router.status.set_lagging(tasks.into_iter().chain(queued).collect());
    }
}
