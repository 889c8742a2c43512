//! Every message between the threads of a member: to a worker, to its relay, to the polling thread.

use crate::engine::outbound::publication::Publication;
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::state::question::Question;
use crate::flow::record::{Chunk, NextOffset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::rows::OutboxRow;
use crate::ports::sink::SizeLimit;
use crate::ports::source::TaskId;
use crossbeam_channel::Sender;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A message to an executor.
pub(crate) enum ToExecutor {
    /// A task is ours: take it over. With the number of records in front of each of its inputs, which the router adds to.
    Assigned { task: TaskId, assignment: AssignmentId, in_front: Vec<Arc<AtomicUsize>> },
    /// Records of one input, in offset order, with the number of their delivery.
    Records { task: TaskId, topic: usize, delivery: u64, chunk: Chunk },
    /// The tasks move: take no more input, let the relay publish every committed batch, then acknowledge.
    Revoked { tasks: Vec<TaskId>, ack: Sender<()> },
    /// The tasks are gone already.
    Lost { tasks: Vec<TaskId> },
    /// An input cannot be read on.
    OutOfRange { task: TaskId, topic: usize, message: String },
    /// K of a source partition is committed.
    Published {
        task: TaskId,
        assignment: AssignmentId,
        source: TopicPartition,
        next_offset: NextOffset,
        /// The last batch of the task's stores that is published with it, with all of its inputs; 0 for none.
        batch: u64,
        /// The ends of the task's changelogs after it.
        ends: Vec<(TopicPartition, NextOffset)>,
    },
    /// Something that was handed over is settled: there is room for more.
    Settled,
    /// Decided rows were not published.
    Unpublished { task: TaskId, assignment: AssignmentId, left: Left, detail: String },
    /// The limits of topics, asked for anew, and why others are not known.
    Limits { known: HashMap<TopicName, SizeLimit>, unknown: Option<Fault> },
    /// The relay holds nothing of this assignment any more.
    Drained { task: TaskId, assignment: AssignmentId },
    /// The answer whether the group counts us as a member: `Fenced` is no, any other error is no answer.
    Proved { task: TaskId, assignment: AssignmentId, outcome: Result<(), Fault> },
    /// The relay holds nothing of these tasks any more: write their stores, forget them, acknowledge.
    Close { tasks: Vec<TaskId>, ack: Sender<()> },
    /// A question about a store.
    Query(Question),
}

/// The next step for decided rows that were not published.
#[derive(Debug)]
pub(crate) enum Left {
    /// They belong to another instance, or to us once we have proved it: the next takeover publishes them.
    ToTakeover,
    /// They cannot be published yet, or not in one transaction: a takeover that begins at that time publishes them.
    Later { until: Duration },
    /// Their topics will never take some of them: the takeover puts these dead letters in their places first.
    Replaced(Vec<OutboxRow>),
    /// They can never be published, and nothing can replace them: the task halts.
    ForGood,
}

/// A message to a relay.
pub(crate) enum ToRelay {
    /// Publish this.
    Publish(Box<Publication>),
    /// Everything before this message concerns `task` for the last time: answer with [`ToExecutor::Drained`].
    Barrier { task: TaskId, assignment: AssignmentId },
    /// Prove that the group counts us in as the owner of these sources: answer with [`ToExecutor::Proved`].
    Prove { task: TaskId, assignment: AssignmentId, sources: Vec<TopicPartition> },
    /// Ask for the limits of these topics: answer with [`ToExecutor::Limits`].
    AskLimits(Vec<TopicName>),
    /// Publish everything before this message, then acknowledge.
    Drain { ack: Sender<()> },
    /// Like [`ToRelay::Drain`], but tell the executor, which has stores to write before it acknowledges.
    Close { tasks: Vec<TaskId>, ack: Sender<()> },
}

/// A message to the polling thread.
pub(crate) enum ToSource {
    /// A task was taken over: deliver from these positions on, under the number `delivery`.
    Start { task: TaskId, assignment: AssignmentId, delivery: u64, positions: Vec<(TopicPartition, NextOffset)> },
}

/// The worker of each task: kept by the router, which gives tasks to workers.
#[derive(Clone, Default)]
pub(crate) struct Inboxes(Arc<Mutex<BTreeMap<TaskId, Sender<ToExecutor>>>>);

impl Inboxes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Sender<ToExecutor>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn place(&self, task: TaskId, inbox: Sender<ToExecutor>) {
        self.lock().insert(task, inbox);
    }

    pub(crate) fn remove(&self, task: TaskId) {
        self.lock().remove(&task);
    }

    pub(crate) fn of(&self, task: TaskId) -> Option<Sender<ToExecutor>> {
        self.lock().get(&task).cloned()
    }
}
