//! The halt of one task, as lanes ask for it: with the reason, the facts and the remedies.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::halt::Halt;
use crate::engine::protocol::remedy::{Place, choices};
use crate::engine::worker::desk::{Act, Desk};
use crate::flow::record::NextOffset;
use crate::ports::Fault;
use crate::ports::source::{Committed, TaskId};

impl Desk {
    pub(crate) fn halt_of(&self, id: TaskId, topic: usize, reason: HaltReason, detail: String) -> Option<Halt> {
        self.halt_at(id, topic, reason, detail, None, None)
    }

    /// The halt of [`Desk::halt_of`], with K where it was read, and the offset that the reason is about.
    pub(crate) fn halt_at(
        &self,
        id: TaskId,
        topic: usize,
        reason: HaltReason,
        detail: String,
        committed: Option<Committed>,
        at: Option<NextOffset>,
    ) -> Option<Halt> {
        let task = self.tasks.get(&id)?;
        let input = task.inputs.get(topic)?;
        let next_offset = input.position.as_ref().map(|_| input.next_offset);
        let choices = choices(
            reason,
            &Place {
                program: &self.wiring.settings.program,
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

    /// Asks for the halt of one task over a fault for which no single input is known to be to blame.
    pub(crate) fn halt_over(&mut self, id: TaskId, reason: HaltReason, fault: &Fault) {
        if let Some(halt) = self.halt_of(id, 0, reason, fault.to_string()) {
            self.halt(id, halt);
        }
    }

    /// Asks for the halt of one task; the others go on.
    pub(crate) fn halt(&mut self, task: TaskId, halt: Halt) {
        self.acts.push_back(Act::Halt { task, halt });
    }
}
