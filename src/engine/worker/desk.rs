//! The desk of a worker: its tasks, the ports of its lanes, and the acts that lanes ask for because they cannot do them
//! themselves.

use crate::engine::protocol::halt::Halt;
use crate::engine::state::kept::Kept;
use crate::engine::status::{StoreStatus, TaskStatus};
use crate::engine::task::{Input, Task};
use crate::engine::worker::wiring::Wiring;
use crate::flow::record::TopicPartition;
use crate::ports::rows::Position;
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, VecDeque};

/// The tasks and ports that every lane of a worker works with.
pub(crate) struct Desk {
    pub(crate) wiring: Wiring,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// Acts that lanes asked for. They are carried out after each step of a lane, in this order.
    pub(crate) acts: VecDeque<Act>,
}

/// An act over a whole task, or over another lane's work: only the executor carries it out.
pub(crate) enum Act {
    /// The task stops until a person has decided.
    Halt { task: TaskId, halt: Halt },
    /// The task may belong to another instance, by the word of the database or the log.
    Doubt { task: TaskId },
    /// What the task has decided and not handed over is decided once more.
    BeginAnew { task: TaskId },
    /// The next offset of an input lies outside its log.
    AskBounds { task: TaskId, message: String },
    /// The open batch of steps without rows goes to the relay.
    HandOverLog,
}

impl Desk {
    pub(crate) const fn new(wiring: Wiring) -> Self {
        Self { wiring, tasks: BTreeMap::new(), acts: VecDeque::new() }
    }

    /// Asks for the doubt of a task: everything that it handed to the relay must have ended before it may prove itself,
    /// because the proof writes K.
    pub(crate) fn doubt(&mut self, task: TaskId) {
        self.acts.push_back(Act::Doubt { task });
    }

    /// The sources of a task, its lead topic's first.
    pub(crate) fn sources(&self, id: TaskId) -> Vec<TopicPartition> {
        self.tasks.get(&id).into_iter().flat_map(|task| &task.inputs).map(|input| input.source.clone()).collect()
    }

    /// The position of one input of a task, as claimed.
    pub(crate) fn position(&self, id: TaskId, source: &TopicPartition) -> Option<Position> {
        self.tasks.get(&id)?.inputs.iter().find(|input| input.source == *source)?.position.clone()
    }

    /// Puts the task's state where people can see it.
    pub(crate) fn show(&self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let input =
            |input: &Input| (input.source.to_string(), input.next_offset.0, input.published.map_or(-1, |k| k.0));
        let inputs = task.inputs.iter().map(input).collect();
        let halt = task.phase.halt().cloned();
        self.wiring.status.set_task(id, TaskStatus { state: task.state(), inputs, halt });
    }

    /// Puts the sizes of the task's stores where people can see them. A store that cannot tell its size is left out:
    /// its trouble shows where the store is used.
    pub(crate) fn show_stores(&self, id: TaskId) {
        let Some(keyed) = self.tasks.get(&id).and_then(|task| task.keyed.as_ref()) else { return };
        let store = |kept: &Kept| {
            Some(StoreStatus { store: kept.cache.spec().name.to_string(), size: kept.cache.size().ok()? })
        };
        self.wiring.status.set_stores(id, keyed.kept.iter().filter_map(store).collect());
    }
}
