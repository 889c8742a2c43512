//! The closing of tasks that move: their decided records are published, and their stores are left as of the published
//! offset.

use crate::engine::mailbox::ToRelay;
use crate::engine::state::stores::Keyed;
use crate::engine::task::State;
use crate::engine::worker::Executor;
use crate::ports::Fault;
use crate::ports::source::TaskId;
use crossbeam_channel::Sender;

impl Executor {
    /// Begins the closing of tasks that move. The open batch of the worker goes first.
    pub(super) fn leave(&mut self, tasks: Vec<TaskId>, ack: Sender<()>) -> Result<(), Fault> {
        self.log.hand_over(&mut self.desk)?;
        self.carry_out()?;
        let is_stateful = |id: &TaskId| self.desk.tasks.get(id).is_some_and(|task| task.keyed.is_some());
        if !tasks.iter().any(is_stateful) {
            self.forget(&tasks);
            // Behind everything handed over so far, so that it is published first.
            self.desk.wiring.send_to_relay(ToRelay::Drain { ack });
            return Ok(());
        }
        let now = self.desk.wiring.clock.elapsed();
        for id in &tasks {
            if let Some(task) = self.desk.tasks.get_mut(id) {
                task.leave(now);
            }
            self.desk.show(*id);
        }
        self.desk.wiring.send_to_relay(ToRelay::Close { tasks, ack });
        Ok(())
    }

    /// Ends the closing of tasks whose decided records are all published, or belong to another instance.
    pub(super) fn farewell(&mut self, tasks: &[TaskId], ack: &Sender<()>) -> Result<(), Fault> {
        // A task that came back meanwhile, because the revoke was not waited for, is another task under the same id.
        let is_leaving = |id: &&TaskId| self.desk.tasks.get(id).is_some_and(|task| task.state() == State::Leaving);
        let leaving: Vec<TaskId> = tasks.iter().filter(is_leaving).copied().collect();
        for id in &leaving {
            if self.desk.tasks.get(id).is_some_and(|task| task.keyed.as_ref().is_some_and(Keyed::is_dirty)) {
                self.desk.flush_task(*id)?;
            }
        }
        self.carry_out()?; // a store that cannot be written is reported while its task is here
        self.forget(&leaving);
        let _ = ack.send(());
        Ok(())
    }
}
