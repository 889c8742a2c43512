//! The halt of one task, until a person has decided.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::halt::Halt;
use crate::engine::protocol::remedy::{Place, choices};
use crate::engine::task::State;
use crate::engine::worker::Stage;
use crate::flow::record::NextOffset;
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
                has_rows: task.has_rows(),
                is_stateful: task.sub_topology.is_stateful(),
                next_offset,
                committed: committed.as_ref().map(|committed| committed.next_offset),
                at,
            },
        );
        Some(Halt { source: input.source.clone(), reason, next_offset, committed, detail, choices })
    }

    /// Stops one task until a person has decided; the others go on. The first reason counts, and one that is leaving goes on
    /// leaving: its next owner will find the same.
    pub(crate) fn halt(&mut self, id: TaskId, halt: Halt) {
        let Some(state) = self.state.tasks.get(&id).map(|task| task.state).filter(|state| *state != State::Halted)
        else {
            return;
        };
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
        if state != State::Leaving {
            let is_of_a_record = matches!(
                halt.reason,
                HaltReason::WronglyKeyed
                    | HaltReason::UnknownStore
                    | HaltReason::SchemaChanged
                    | HaltReason::StoreUnreadable
                    | HaltReason::StoreUnwritable
            );
            if let Some(task) = self.state.tasks.get_mut(&id) {
                task.stands_before_a_record = is_of_a_record;
            }
            self.drop_records(id, State::Halted);
            self.show_halt(id, Some(halt));
        }
    }
}
