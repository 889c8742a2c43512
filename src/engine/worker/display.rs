//! The display of tasks and their stores, where people can see them.

use crate::engine::state::stores::Kept;
use crate::engine::status::{StoreStatus, TaskStatus};
use crate::engine::task::Input;
use crate::engine::worker::Stage;
use crate::ports::source::TaskId;

impl Stage {
    /// Puts the task's state where people can see it.
    pub(crate) fn show(&self, id: TaskId) {
        let Some(task) = self.state.tasks.get(&id) else { return };
        let input =
            |input: &Input| (input.source.to_string(), input.next_offset.0, input.published.map_or(-1, |k| k.0));
        let inputs = task.inputs.iter().map(input).collect();
        let halt = task.phase.halt().cloned();
        self.status.set_task(id, TaskStatus { state: task.state(), inputs, halt });
    }

    /// Puts the sizes of the task's stores where people can see them. One that cannot tell its size is left out: what ails
    /// it shows where it is used.
    pub(crate) fn show_stores(&self, id: TaskId) {
        let Some(keyed) = self.state.tasks.get(&id).and_then(|task| task.keyed.as_ref()) else { return };
        let store = |kept: &Kept| {
            Some(StoreStatus { store: kept.cache.spec().name.to_string(), size: kept.cache.size().ok()? })
        };
        self.status.set_stores(id, keyed.kept.iter().filter_map(store).collect());
    }
}
