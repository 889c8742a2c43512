//! The facts of a takeover: K, the log and the positions, by which the table decides what an input goes on with.

use crate::engine::protocol::decision::{Decision, Facts, HaltReason, LogFacts, decide, decide_log};
use crate::engine::protocol::halt::Contradiction;
use crate::engine::protocol::metadata;
use crate::engine::task::{State, Task};
use crate::engine::worker::Stage;
use crate::engine::worker::restore::waited_for;
use crate::engine::worker::takeover::pace::{AGAIN, REST};
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::rows::Position;
use crate::ports::source::{Committed, LogIds, TaskId};
use std::time::Duration;

impl Stage {
    pub(crate) fn log_ids(&mut self, topic: &TopicName) -> Result<LogIds, Fault> {
        let now = self.clock.elapsed();
        if let Some((at, ids)) = self.state.log_ids.get(topic)
            && now.saturating_sub(*at) < Duration::from_secs(1)
        {
            return Ok(ids.clone());
        }
        let ids = self.group.log_ids(topic, 4 * self.settings.ask_wait).map_err(waited_for)?;
        self.state.log_ids.insert(topic.clone(), (now, ids.clone()));
        Ok(ids)
    }

    /// K of all inputs; `None` where it is pending. The tasks that wait for theirs share one part of the worker's time, so that
    /// the others have the rest, however many wait and for how long; and are asked for at once when one of them is there.
    pub(super) fn read_committed(
        &mut self,
        id: TaskId,
        sources: &[TopicPartition],
    ) -> Result<Option<Vec<Option<Committed>>>, Fault> {
        let asked_at = self.clock.elapsed();
        let committed = self.group.committed(sources, self.settings.ask_wait);
        let now = self.clock.elapsed();
        let Some(task) = self.state.tasks.get_mut(&id) else { return Ok(None) };
        let (has_waited, next) = match &committed {
            Ok(_) => (task.patience.has_begun(), now),
            Err(Fault::Retry(_)) => (true, now + AGAIN.max(REST * now.saturating_sub(asked_at))),
            Err(_) => (false, now),
        };
        match &committed {
            Ok(_) => task.patience.end(),
            Err(fault) => {
                task.patience.in_vain(now, sources, fault);
                task.phase.again_at(next);
                tracing::debug!(task = ?id, error = %fault, "the committed offset is asked for again");
                if let Some(fencer) = self.fencer.as_ref().filter(|_| task.patience.is_at_an_end(now)) {
                    fencer.fence_dead();
                }
            }
        }
        let waits = |task: &&mut Task| task.state() == State::ReadingCommitted && task.patience.has_begun();
        for other in self.state.tasks.values_mut().filter(waits).filter(|_| has_waited) {
            other.phase.again_at(next);
        }
        match committed {
            Ok(committed) => Ok(Some(committed.into_iter().map(metadata::known).collect())),
            Err(Fault::Retry(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whether D, claimed anew, and K still contradict each other as before. A step without rows has no D to claim.
    pub(super) fn is_seen_twice(&mut self, id: TaskId, found: Contradiction) -> bool {
        let Some(task) = self.state.tasks.get_mut(&id) else { return false };
        let is_same = task.suspected.as_ref() == Some(&found);
        task.suspected = Some(found);
        match task.commit() {
            CommitKind::Rows => is_same,
            CommitKind::Log => true,
        }
    }

    /// The offset that a halt is about, where it is neither D nor K.
    pub(super) fn blamed(
        &self,
        id: TaskId,
        source: &TopicPartition,
        reason: HaltReason,
    ) -> Result<Option<NextOffset>, Fault> {
        match reason {
            // Beyond the end the stores remember another topic of that name.
            HaltReason::OffsetsLost | HaltReason::GroupReset | HaltReason::GroupWentBack => {
                let end = self.group.bounds(source, self.settings.ask_wait)?.end;
                Ok(self.seen(id, source)?.filter(|at| *at <= end))
            }
            HaltReason::InputsTruncated => Ok(Some(self.group.bounds(source, self.settings.ask_wait)?.end)),
            _ => Ok(None),
        }
    }

    /// How far an input is known to have been committed: its stores were made of so much, or this process has published it.
    fn seen(&self, id: TaskId, source: &TopicPartition) -> Result<Option<NextOffset>, Fault> {
        let inputs = self.state.tasks.get(&id).into_iter().flat_map(|task| &task.inputs);
        let published = inputs.filter(|input| input.source == *source).filter_map(|input| input.published);
        Ok(self.remembered(id, source)?.max(published.filter(|at| at.0 > 0).max()))
    }

    pub(super) fn position(&self, id: TaskId, source: &TopicPartition) -> Option<Position> {
        self.state.tasks.get(&id)?.inputs.iter().find(|input| input.source == *source)?.position.clone()
    }

    pub(super) fn decide(
        &mut self,
        id: TaskId,
        index: usize,
        source: &TopicPartition,
        all: &[Option<Committed>],
    ) -> Result<Decision, Fault> {
        let committed = all.get(index).and_then(Option::as_ref);
        let was_read = committed.is_none() && self.was_read(id, source, all)?;
        let start = self.start_policy(id, index, committed)?;
        let bounds = self.group.bounds(source, self.settings.ask_wait)?;
        let log_ids = self.log_ids(&source.topic)?;
        let Some(task) = self.state.tasks.get(&id) else { return Err(Fault::retry("the task is gone")) };
        let (is_stateful, on_data_loss) = (task.keyed.is_some(), self.settings.on_data_loss);
        let pipeline = self.topology.name();
        match task.commit() {
            CommitKind::Log => {
                let (topic_id, remembered) = (&*log_ids.topic_id, self.seen(id, source)?);
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
                        !self.rows.outbox(source, position.published, position.next_offset, 1)?.is_empty()
                    }
                    _ => false,
                };
                Ok(decide(&Facts {
                    pipeline: self.topology.name(),
                    position: position.as_ref(),
                    committed,
                    bounds,
                    log_ids: &log_ids,
                    has_outbox_from_published,
                    remembered: self.remembered(id, source)?,
                    was_read,
                    start,
                    on_data_loss,
                }))
            }
        }
    }
}
