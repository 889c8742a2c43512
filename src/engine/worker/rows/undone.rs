//! A batch that was undone, or whose COMMIT has no answer.

use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::order::Step;
use crate::engine::status::Counter;
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::rows::draw::Draw;
use crate::engine::worker::rows::draw::{hold, input_of};
use crate::engine::worker::rows::lane::RowsLane;
use crate::engine::worker::rows::prepared::{Advance, Undone};
use crate::engine::worker::rows::terms::StoreTrouble;
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::rows::{Counts, Move};
use crate::ports::source::TaskId;
use std::collections::BTreeSet;
use std::time::Duration;

impl RowsLane {
    /// Settles a COMMIT without an answer: asks until the database answers.
    pub(crate) fn settle(&mut self, desk: &mut Desk, db: &mut Database) -> Result<(), Fault> {
        let Some(prepared) = self.in_doubt.take() else { return Ok(()) };
        // All moves are one transaction, so one that changes a position tells for all. Where none moves, nothing is lost by
        // offering the records again.
        let Some(told) = prepared.advances.iter().find(|advance| advance.from != advance.to) else { return Ok(()) };
        let moved = Move {
            source: told.source.clone(),
            epoch: told.epoch,
            from: told.from,
            to: told.to,
            published: told.from,
            counts: Counts::default(),
        };
        match db.rows.settle(&moved) {
            Ok(true) => {
                desk.wiring.hook.after(Step::CommitDatabase)?;
                self.finish(desk, db, prepared);
            }
            // Not committed, or claimed by another since: the next compare-and-set shows which.
            Ok(false) => undo_stores(desk, prepared.advances.iter().map(|advance| advance.task)),
            Err(fault) => match consequence::of(&fault, Moment::Settle) {
                Consequence::End => return Err(fault),
                Consequence::ClaimAnew => {
                    tracing::warn!(error = %fault, "a COMMIT in doubt cannot be settled; its partitions are claimed again");
                    let is_here = |advance: &&Advance| {
                        desk.tasks.get(&advance.task).is_some_and(|task| task.assignment == advance.assignment)
                    };
                    let tasks: BTreeSet<TaskId> =
                        prepared.advances.iter().filter(is_here).map(|advance| advance.task).collect();
                    undo_stores(desk, tasks.iter().copied());
                    for task in tasks {
                        desk.doubt(task);
                    }
                }
                _ => {
                    db.back_off(&*desk.wiring.clock, &fault);
                    for advance in &prepared.advances {
                        desk.wiring.status.waits.failed(&advance.source, &fault);
                    }
                    self.in_doubt = Some(prepared);
                }
            },
        }
        Ok(())
    }

    pub(super) fn undo(
        &mut self,
        desk: &mut Desk,
        db: &mut Database,
        undone: Undone,
        draws: &[Draw],
        began: Duration,
    ) -> Result<(), Fault> {
        undo_stores(desk, draws.iter().map(|draw| draw.task));
        db.rows.rollback();
        let (fault, moment) = match undone {
            Undone::Fenced(tasks) => {
                for task in tasks {
                    desk.doubt(task);
                }
                return Ok(());
            }
            Undone::Refused(suspects) => {
                self.suspects.extend(suspects);
                self.was_refused = true;
                return Ok(());
            }
            Undone::Store(StoreTrouble { task, trouble }) => return desk.store_unread(task, trouble),
            Undone::Locked(fault, wanted) => {
                if hold(desk, db, &fault, &wanted) {
                    desk.wiring.status.add(Counter::DatabaseRetries, 1);
                    return Ok(());
                }
                (fault, Moment::Batch)
            }
            Undone::Away(fault) => (fault, Moment::BeginBatch),
            Undone::Uncommitted(fault) => (fault, Moment::Commit),
            Undone::Fault(fault) => (fault, Moment::Batch),
        };
        match consequence::of(&fault, moment) {
            Consequence::End => return Err(fault),
            Consequence::ClaimAnew => {
                for draw in draws {
                    desk.doubt(draw.task);
                }
            }
            Consequence::Smaller => self.failed(desk, db, &fault, draws, began, moment == Moment::Commit),
            Consequence::Again | Consequence::Halt(_) | Consequence::AskBounds | Consequence::AwaitRevoke => {
                desk.wiring.status.add(Counter::DatabaseRetries, 1);
                db.back_off(&*desk.wiring.clock, &fault);
                if moment == Moment::BeginBatch {
                    all_wait(desk, &fault);
                }
                for input in draws.iter().filter_map(|draw| input_of(desk, draw.task, draw.input)) {
                    desk.wiring.status.waits.failed(&input.source, &fault);
                }
            }
        }
        Ok(())
    }
}

/// Tells the cause of every partition with records, drawn or not: where there is no transaction, all of them wait for the same,
/// and what one of them told before is over.
fn all_wait(desk: &Desk, fault: &Fault) {
    let tasks = desk.tasks.values().filter(|task| task.state().is_deciding() && task.commit() == CommitKind::Rows);
    for input in tasks.flat_map(|task| &task.inputs).filter(|input| input.queued() > 0) {
        desk.wiring.status.waits.failed(&input.source, fault);
    }
}

/// Undoes the writes of a batch in the stores of these tasks.
fn undo_stores(desk: &mut Desk, tasks: impl Iterator<Item = TaskId>) {
    for id in tasks {
        if let Some(keyed) = desk.tasks.get_mut(&id).and_then(|task| task.keyed.as_mut()) {
            keyed.undo();
        }
    }
}
