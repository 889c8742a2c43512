//! Idle inputs: their P is written by itself, since no batch writes it along with its own changes.

use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::task::{Input, State};
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::rows::{Counts, Move};
use crate::ports::source::TaskId;
use std::time::Duration;

/// The idle time after which P is written by itself; a batch writes it along with its own changes.
const IDLE: Duration = Duration::from_mins(1);

/// The compare-and-set that leaves a position where it is, and writes P alone.
fn stays(input: &Input) -> Move {
    Move {
        source: input.source.clone(),
        epoch: input.epoch(),
        from: input.next_offset,
        to: input.next_offset,
        published: input.known(),
        counts: Counts::default(),
    }
}

/// Writes P of inputs that have been idle for a while, up to their K: outbox rows from P on are kept whatever their
/// age, and with them everything else in their partition of the outbox.
pub(crate) fn note_published(desk: &mut Desk, db: &mut Database) -> Result<(), Fault> {
    let now = desk.wiring.clock.elapsed();
    let is_due = |input: &&Input| {
        let lags = input.position.as_ref().is_some_and(|position| Some(position.published) < input.published);
        lags && input.published == Some(input.next_offset) && now.saturating_sub(input.published_at) >= IDLE
    };
    let tasks = desk.tasks.values().filter(|task| task.state() == State::Running && task.commit() == CommitKind::Rows);
    let idle: Vec<(TaskId, Move)> =
        tasks.flat_map(|task| task.inputs.iter().filter(is_due).map(|input| (task.id, stays(input)))).collect();
    if idle.is_empty() {
        return Ok(());
    }
    let moves: Vec<Move> = idle.iter().map(|(_, moved)| moved.clone()).collect();
    let matched = db.rows.begin().and_then(|()| db.rows.advance(&moves));
    if !matched.as_ref().is_ok_and(|matched| matched.iter().all(|matched| *matched)) {
        db.rows.rollback();
    }
    match matched {
        Ok(matched) if matched.iter().all(|matched| *matched) => {
            // If the answer is lost, or nothing was written, the next batch writes it.
            let _ = db.rows.commit().inspect_err(|fault| tracing::debug!(error = %fault, "P was not written"));
            for (id, moved) in idle {
                let inputs = desk.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
                for position in inputs.filter(|input| input.source == moved.source).filter_map(|i| i.position.as_mut())
                {
                    position.published = moved.published;
                }
            }
        }
        Ok(matched) => {
            for ((id, _), _) in idle.iter().zip(matched).filter(|(_, matched)| !matched) {
                desk.doubt(*id);
            }
        }
        Err(fault) if consequence::of(&fault, Moment::Idle) == Consequence::End => return Err(fault),
        Err(fault) => db.back_off(&*desk.wiring.clock, &fault),
    }
    Ok(())
}
