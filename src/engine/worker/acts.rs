//! The acts that lanes ask for, carried out: the only place where a task is halted or begins anew.

use crate::engine::mailbox::ToRelay;
use crate::engine::protocol::halt::Halt;
use crate::engine::status::Counter;
use crate::engine::task::{State, Task};
use crate::engine::worker::Executor;
use crate::engine::worker::desk::Act;
use crate::ports::Fault;
use crate::ports::source::TaskId;

impl Executor {
    /// Carries out the acts of the lanes, in their order.
    ///
    /// # Errors
    /// `Fatal` ends the worker.
    pub(super) fn carry_out(&mut self) -> Result<(), Fault> {
        while let Some(act) = self.desk.acts.pop_front() {
            match act {
                Act::Halt { task, halt } => self.halt(task, halt),
                Act::Doubt { task } => self.doubt(task),
                Act::BeginAnew { task } => self.begin_anew(task),
                Act::AskBounds { task, message } => self.ask_bounds(task, &message)?,
                Act::HandOverLog => {
                    // A store that fails meanwhile is the first reason.
                    let later = std::mem::take(&mut self.desk.acts);
                    self.log.hand_over(&mut self.desk)?;
                    self.desk.acts.extend(later);
                }
            }
        }
        Ok(())
    }

    /// Halts one task until a person has decided; the others go on. The first reason counts. A task that is leaving
    /// goes on leaving: its next owner will find the same trouble. The log has one line for each cause; the line of all
    /// partitions that are halted (`app/watch`) names those that follow.
    fn halt(&mut self, id: TaskId, halt: Halt) {
        if self.desk.tasks.get(&id).is_none_or(|task| task.state() == State::Halted) {
            return;
        }
        if !self.desk.wiring.status.halts().iter().any(|told| told.says_as_much_as(&halt)) {
            tracing::error!(
                partition = %halt.source,
                reason = halt.reason.label(),
                next_offset = halt.next_offset.map(|d| d.0),
                committed_offset = halt.committed.as_ref().map(|k| k.next_offset.0),
                detail = halt.detail,
                "halted: {}; most likely {}; choices: {}",
                halt.reason,
                halt.reason.cause(),
                halt.choices.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
            );
        }
        let now = self.desk.wiring.clock.elapsed();
        if let Some(task) = self.desk.tasks.get_mut(&id) {
            task.halt(halt, now);
        }
        self.desk.show(id);
    }

    /// Makes the task prove its ownership before it claims again, because it may belong to another instance.
    fn doubt(&mut self, id: TaskId) {
        let is_fenced = |task: &Task| task.state() != State::Halted && task.phase.may_begin_anew();
        if self.desk.tasks.get(&id).is_some_and(is_fenced) {
            self.desk.wiring.status.add(Counter::Fencings, 1);
            tracing::info!(task = ?id, "in doubt; it proves that it is still a member, and is taken over again");
        }
        self.begin_anew(id);
    }

    /// Puts the task back to its takeover, since the next offset of an input lies outside the log. The takeover decides
    /// on which side it lies and what follows.
    pub(super) fn ask_bounds(&mut self, id: TaskId, message: &str) -> Result<(), Fault> {
        if self.desk.tasks.get(&id).is_none_or(|task| !task.state().is_deciding()) {
            return Ok(());
        }
        tracing::warn!(task = ?id, error = message, "an input cannot be read on; it is begun again, and the log's bounds decide what becomes of it");
        // The decided records go out first: their inputs can perhaps not be read again.
        self.log.hand_over(&mut self.desk)?;
        self.carry_out()?;
        self.begin_anew(id);
        Ok(())
    }

    /// Begins again with K, once the relay holds nothing of the task any more.
    pub(super) fn begin_anew(&mut self, id: TaskId) {
        let now = self.desk.wiring.clock.elapsed();
        let Some(task) = self.desk.tasks.get_mut(&id) else { return };
        if !task.drain(now) {
            return;
        }
        let assignment = task.assignment;
        // Records that it decided and did not publish are decided again from K; its stores are opened anew, as of the
        // proved values.
        task.keyed = None;
        self.log.forget(id);
        self.desk.show(id);
        self.desk.wiring.send_to_relay(ToRelay::Barrier { task: id, assignment });
    }

    /// Forgets tasks that have moved.
    pub(super) fn forget(&mut self, tasks: &[TaskId]) {
        for id in tasks {
            self.log.forget(*id);
            self.desk.tasks.remove(id);
            self.desk.wiring.status.remove_task(*id);
        }
    }
}
