//! The facts of a takeover: K, the log and the positions, from which the table decides how an input goes on.

use crate::engine::protocol::decision::{Decision, Facts, HaltReason, LogFacts, decide, decide_log};
use crate::engine::protocol::halt::Contradiction;
use crate::engine::protocol::metadata;
use crate::engine::task::{State, Task};
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::restore::remembered;
use crate::engine::worker::takeover::lane::Takeovers;
use crate::engine::worker::takeover::pace::{AGAIN, PAUSE_FACTOR};
use crate::engine::worker::takeover::traces::start_policy;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::source::{Committed, TaskId};

impl Takeovers {
    pub(super) fn decide(
        &mut self,
        desk: &Desk,
        db: &mut Database,
        id: TaskId,
        index: usize,
        source: &TopicPartition,
        all: &[Option<Committed>],
    ) -> Result<Decision, Fault> {
        let committed = all.get(index).and_then(Option::as_ref);
        let was_read = committed.is_none() && self.was_read(desk, id, source, all)?;
        let start = start_policy(desk, id, index, committed)?;
        let bounds = desk.wiring.group.bounds(source, desk.wiring.settings.ask_wait)?;
        let log_ids = self.ids.of(&desk.wiring, &source.topic)?;
        let Some(task) = desk.tasks.get(&id) else { return Err(Fault::retry("the task is gone")) };
        let (is_stateful, on_data_loss) = (task.keyed.is_some(), desk.wiring.settings.on_data_loss);
        let pipeline = desk.wiring.topology.name();
        match task.commit() {
            CommitKind::Log => {
                let (topic_id, remembered) = (&*log_ids.topic_id, seen(desk, id, source)?);
                let facts = LogFacts {
                    pipeline,
                    committed,
                    bounds,
                    topic_id,
                    remembered,
                    was_read,
                    is_stateful,
                    start,
                    on_data_loss,
                };
                Ok(decide_log(&facts))
            }
            CommitKind::Rows => {
                let position = task.inputs.get(index).and_then(|input| input.position.clone());
                let has_outbox_from_published = match (&position, committed) {
                    (Some(position), None) => {
                        !db.rows.outbox(source, position.published, position.next_offset, 1)?.is_empty()
                    }
                    _ => false,
                };
                Ok(decide(&Facts {
                    pipeline: desk.wiring.topology.name(),
                    position: position.as_ref(),
                    committed,
                    bounds,
                    log_ids: &log_ids,
                    has_outbox_from_published,
                    remembered: remembered(desk, id, source)?,
                    was_read,
                    start,
                    on_data_loss,
                }))
            }
        }
    }
}

/// K of all inputs; `None` where it is pending. The tasks that wait for theirs share one part of the worker's time, so
/// that the others have the rest, however many wait and for how long. They are all asked for at once when one of them
/// is there.
pub(super) fn read_committed(
    desk: &mut Desk,
    id: TaskId,
    sources: &[TopicPartition],
) -> Result<Option<Vec<Option<Committed>>>, Fault> {
    let asked_at = desk.wiring.clock.elapsed();
    let committed = desk.wiring.group.committed(sources, desk.wiring.settings.ask_wait);
    let now = desk.wiring.clock.elapsed();
    let Some(task) = desk.tasks.get_mut(&id) else { return Ok(None) };
    let (has_waited, next) = match &committed {
        Ok(_) => (task.patience.has_begun(), now),
        Err(Fault::Retry(_)) => (true, now + AGAIN.max(PAUSE_FACTOR * now.saturating_sub(asked_at))),
        Err(_) => (false, now),
    };
    match &committed {
        Ok(_) => task.patience.end(),
        Err(fault) => {
            task.patience.failed(now);
            for source in sources {
                desk.wiring.status.waits.unread(source, fault);
            }
            task.phase.again_at(next);
            tracing::debug!(task = ?id, error = %fault, "the committed offset is asked for again");
            if let Some(fencer) = desk.wiring.fencer.as_ref().filter(|_| task.patience.is_at_an_end(now)) {
                fencer.fence_dead();
            }
        }
    }
    let waits = |task: &&mut Task| task.state() == State::ReadingCommitted && task.patience.has_begun();
    for other in desk.tasks.values_mut().filter(waits).filter(|_| has_waited) {
        other.phase.again_at(next);
    }
    match committed {
        Ok(committed) => Ok(Some(committed.into_iter().map(metadata::known).collect())),
        Err(Fault::Retry(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Whether D, claimed anew, and K still contradict each other as before. A step without rows has no D to claim.
pub(super) fn is_seen_twice(desk: &mut Desk, id: TaskId, found: Contradiction) -> bool {
    let Some(task) = desk.tasks.get_mut(&id) else { return false };
    let is_same = task.suspected.as_ref() == Some(&found);
    task.suspected = Some(found);
    match task.commit() {
        CommitKind::Rows => is_same,
        CommitKind::Log => true,
    }
}

/// The offset up to which an input is known to have been committed: by its stores, or because this process published
/// it.
fn seen(desk: &Desk, id: TaskId, source: &TopicPartition) -> Result<Option<NextOffset>, Fault> {
    let inputs = desk.tasks.get(&id).into_iter().flat_map(|task| &task.inputs);
    let published = inputs.filter(|input| input.source == *source).filter_map(|input| input.published);
    Ok(remembered(desk, id, source)?.max(published.filter(|at| at.0 > 0).max()))
}

/// The offset that a halt is about, where it is neither D nor K.
pub(super) fn blamed(
    desk: &Desk,
    id: TaskId,
    source: &TopicPartition,
    reason: HaltReason,
) -> Result<Option<NextOffset>, Fault> {
    match reason {
        // An offset beyond the end means that the stores remember another topic of that name.
        HaltReason::OffsetsLost | HaltReason::GroupReset | HaltReason::GroupWentBack => {
            let end = desk.wiring.group.bounds(source, desk.wiring.settings.ask_wait)?.end;
            Ok(seen(desk, id, source)?.filter(|at| *at <= end))
        }
        HaltReason::InputsTruncated => Ok(Some(desk.wiring.group.bounds(source, desk.wiring.settings.ask_wait)?.end)),
        _ => Ok(None),
    }
}
