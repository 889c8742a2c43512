//! The halt of one task, until a person has decided.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::halt::Halt;
use crate::engine::protocol::remedy::{Place, choices};
use crate::engine::task::State;
use crate::engine::worker::Stage;
use crate::flow::record::NextOffset;
use crate::ports::Fault;
use crate::ports::source::{Committed, TaskId};

impl Stage {
    pub(crate) fn halt_of(&self, id: TaskId, topic: usize, reason: HaltReason, detail: String) -> Option<Halt> {
        self.halt_at(id, topic, reason, detail, None, None)
    }

    /// As [`Stage::halt_of`], with K where it was read, and the offset that the reason is about.
    pub(crate) fn halt_at(
        &self,
        id: TaskId,
        topic: usize,
        reason: HaltReason,
        detail: String,
        committed: Option<Committed>,
        at: Option<NextOffset>,
    ) -> Option<Halt> {
        let task = self.state.tasks.get(&id)?;
        let input = task.inputs.get(topic)?;
        let next_offset = input.position.as_ref().map(|_| input.next_offset);
        let choices = choices(
            reason,
            &Place {
                program: &self.settings.program,
                source: &input.source,
                commit: task.commit(),
                is_stateful: task.sub_topology.is_stateful(),
                next_offset,
                committed: committed.as_ref().map(|committed| committed.next_offset),
                at,
            },
        );
        Some(Halt { source: input.source.clone(), reason, next_offset, committed, detail, choices })
    }

    /// As [`Stage::halt`], over a fault that no input is known to be to blame for.
    pub(crate) fn halt_over(&mut self, id: TaskId, reason: HaltReason, fault: &Fault) {
        if let Some(halt) = self.halt_of(id, 0, reason, fault.to_string()) {
            self.halt(id, halt);
        }
    }

    /// Stops one task until a person has decided; the others go on. The first reason counts, and one that is leaving goes on
    /// leaving: its next owner will find the same.
    pub(crate) fn halt(&mut self, id: TaskId, halt: Halt) {
        if self.state.tasks.get(&id).is_none_or(|task| task.state() == State::Halted) {
            return;
        }
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
        let now = self.clock.elapsed();
        if let Some(task) = self.state.tasks.get_mut(&id) {
            task.halt(halt, now);
        }
        self.show(id);
    }
}
