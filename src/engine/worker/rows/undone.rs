//! A batch that came to nothing, or of which nobody knows whether it was committed.

use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::order::Step;
use crate::engine::status::Counter;
use crate::engine::worker::Stage;
use crate::engine::worker::rows::draw::Draw;
use crate::engine::worker::rows::prepared::{Advance, Undone};
use crate::engine::worker::rows::terms::StoreTrouble;
use crate::ports::Fault;
use crate::ports::rows::{Counts, Move};
use crate::ports::source::TaskId;
use std::collections::BTreeSet;
use std::time::Duration;

impl Stage {
    /// A COMMIT without an answer: ask until the database tells.
    pub(crate) fn settle(&mut self) -> Result<(), Fault> {
        let Some(prepared) = self.state.in_doubt.take() else { return Ok(()) };
        // One position that really moves tells about all: it is one transaction. Where none moves, nothing is lost by
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
        match self.rows.settle(&moved) {
            Ok(true) => {
                self.hook.after(Step::CommitDatabase)?;
                self.finish(prepared);
            }
            // Not committed, or claimed by another since: the next compare-and-set tells which.
            Ok(false) => self.undo_stores(prepared.advances.iter().map(|advance| advance.task)),
            Err(fault) => match consequence::of(&fault, Moment::Settle) {
                Consequence::End => return Err(fault),
                Consequence::ClaimAnew => {
                    tracing::warn!(error = %fault, "a COMMIT in doubt cannot be settled; its partitions are taken over anew");
                    let is_here = |advance: &&Advance| {
                        self.state.tasks.get(&advance.task).is_some_and(|task| task.assignment == advance.assignment)
                    };
                    let tasks: BTreeSet<TaskId> =
                        prepared.advances.iter().filter(is_here).map(|advance| advance.task).collect();
                    self.undo_stores(tasks.iter().copied());
                    for task in tasks {
                        self.doubt(task);
                    }
                }
                _ => {
                    self.back_off(&fault);
                    self.state.in_doubt = Some(prepared);
                }
            },
        }
        Ok(())
    }

    /// What a batch wrote into the stores of these tasks is as if it had never been.
    fn undo_stores(&mut self, tasks: impl Iterator<Item = TaskId>) {
        for id in tasks {
            if let Some(keyed) = self.state.tasks.get_mut(&id).and_then(|task| task.keyed.as_mut()) {
                keyed.undo();
            }
        }
    }

    pub(super) fn undo(&mut self, undone: Undone, draws: &[Draw], began: Duration) -> Result<(), Fault> {
        self.undo_stores(draws.iter().map(|draw| draw.task));
        self.rows.rollback();
        let (fault, moment) = match undone {
            Undone::Fenced(tasks) => {
                for task in tasks {
                    self.doubt(task);
                }
                return Ok(());
            }
            Undone::Refused(suspects) => {
                self.state.suspects.extend(suspects);
                return Ok(());
            }
            Undone::Store(StoreTrouble { task, trouble }) => return self.store_unread(task, trouble),
            Undone::Locked(fault, wanted) => {
                if self.hold(&fault, &wanted) {
                    self.status.add(Counter::DatabaseRetries, 1);
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
                    self.doubt(draw.task);
                }
            }
            Consequence::Smaller => self.failed(&fault, draws, began, moment == Moment::Commit),
            Consequence::Again | Consequence::Halt(_) | Consequence::AskBounds | Consequence::AwaitRevoke => {
                self.status.add(Counter::DatabaseRetries, 1);
                self.back_off(&fault);
            }
        }
        Ok(())
    }
}
