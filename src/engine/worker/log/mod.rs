//! Steps without rows: records in, one Kafka transaction of outputs, changelog records and offsets out.
//!
//! Records are decided as they come and gathered in an open batch over all such tasks of the worker. When its age is
//! reached, or it is full, it goes to the relay, and the next one is gathered while the transaction runs. The stores hold
//! proved values only, so a transaction that failed is simply sent again from memory, and a task that is taken away leaves
//! nothing to undo.

pub(crate) mod open_batch;

mod tally;

mod place;

mod slice;

mod firing;

use crate::engine::outbound::outgoing::Origin;
use crate::engine::outbound::publication::Publication;
use crate::engine::protocol::order::Step;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::log::open_batch::OpenBatch;
use crate::flow::record::Offset;
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::source::TaskId;
use std::time::Duration;

/// The steps without rows of a worker.
#[derive(Default)]
pub(crate) struct LogLane {
    /// Records that are decided and not handed over yet.
    open: OpenBatch,
    /// The task that had its turn last.
    decided_last: Option<TaskId>,
}

impl LogLane {
    /// The time at which the open batch is old enough to be handed over.
    pub(crate) fn due(&self, desk: &Desk) -> Option<Duration> {
        self.open.due(desk.wiring.settings.log_age)
    }

    /// Forgets the decided records of a task that is gone, or begins anew.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.open.forget(task);
    }

    /// Decides records that wait in front of steps without rows, and hands the open batch over when it is due. True
    /// when something was done.
    pub(crate) fn run(&mut self, desk: &mut Desk) -> Result<bool, Fault> {
        let now = desk.wiring.clock.elapsed();
        let mut ids: Vec<TaskId> = desk
            .tasks
            .values()
            .filter(|task| task.state().is_deciding() && task.commit() == CommitKind::Log)
            .filter(|task| task.inputs.iter().any(|input| input.queued() > 0 && input.blocked_until <= now))
            .map(|task| task.id)
            .collect();
        // Each task has its turn, however soon a transaction is full.
        let next = ids.partition_point(|id| Some(*id) <= self.decided_last);
        ids.rotate_left(next);
        let mut has_decided = false;
        for id in ids {
            if self.open.is_full(desk.wiring.log_room()) || self.is_log_due(desk) {
                break;
            }
            has_decided |= self.decide_slice(desk, id)?;
            self.decided_last = Some(id);
        }
        has_decided |= self.fire_by_wall(desk)?;
        if self.is_log_due(desk) {
            self.hand_over(desk)?;
            return Ok(true);
        }
        Ok(has_decided)
    }

    /// Whether the open batch is old enough or full, or timers have fired by the wall clock, and the relay is not too far behind.
    fn is_log_due(&self, desk: &mut Desk) -> bool {
        let is_due = || self.due(desk).is_some_and(|due| due <= desk.wiring.clock.elapsed());
        let is_full = self.open.is_full(desk.wiring.log_room()) || !self.open.turned.is_empty();
        desk.wiring.is_log_free() && (is_full || is_due())
    }

    /// Hands the open batch to the relay, with one changelog record for each key that it touched.
    pub(crate) fn hand_over(&mut self, desk: &mut Desk) -> Result<(), Fault> {
        let mut open = std::mem::take(&mut self.open);
        if open.parts.is_empty() {
            return Ok(());
        }
        desk.wiring.hook.after(Step::Apply)?;
        failpoint!(K23);
        let now = desk.wiring.clock.elapsed();
        let mut failed = Vec::new();
        for id in &open.tasks {
            let Some(task) = desk.tasks.get_mut(id) else { continue };
            let Some(keyed) = &mut task.keyed else { continue };
            let Some(part) = open.parts.iter().find(|part| part.task == *id) else { continue };
            // A turn of timers without a record in front of it belongs to the record that comes next.
            let offset = if part.from == part.to { part.to.0 } else { part.to.0 - 1 };
            let origin = Origin { source: &part.source, offset: Offset(offset) };
            if let Err(fault) = keyed.close(origin, now, &mut open.outgoing) {
                failed.push((*id, fault));
            }
            let batch = keyed.seal(task.inputs.iter().map(|input| input.next_offset).collect());
            open.parts.iter_mut().filter(|part| part.task == *id).for_each(|part| part.batch = batch);
        }
        let OpenBatch { parts, rows, outgoing, counts, .. } = open;
        desk.wiring.hand_over(Publication { parts, rows, outgoing, counts, ..Publication::default() });
        // The records that these tasks decided are published all the same.
        failed.into_iter().try_for_each(|(id, fault)| desk.store_unread(id, fault.into()))
    }
}
