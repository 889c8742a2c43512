//! The audit's reading of the models.

use super::database::MemoryDatabase;
use super::log::MemoryLog;
use super::schema::version_sum;
use crate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use crate::flow::table::Table;
use crate::ports::Fault;
use crate::ports::history::{Found, RowHistory, TopicHistory};
use crate::ports::repair::NotedRepair;
use crate::ports::rows::{Counts, OutboxRow, Position};
use std::time::Duration;

/// The log's side, with the offsets of one group.
#[derive(Clone, Debug)]
pub struct MemoryHistory {
    log: MemoryLog,
    group: String,
}

impl MemoryHistory {
    pub(super) fn new(log: MemoryLog, group: &str) -> Self {
        Self { log, group: group.into() }
    }
}

impl MemoryLog {
    /// The topics as the audit reads them, with the offsets of `group`.
    #[must_use]
    pub fn history(&self, group: &str) -> MemoryHistory {
        MemoryHistory::new(self.clone(), group)
    }
}

impl TopicHistory for MemoryHistory {
    fn await_open(&mut self, _: &TopicName) -> Result<(), Fault> {
        Ok(()) // nobody but this thread could end one
    }

    fn starts(&mut self, topic: &TopicName) -> Result<Vec<NextOffset>, Fault> {
        let count = self.log.partition_count(topic);
        let count = count.ok_or_else(|| Fault::corrupt(format!("topic {topic}: there is no such topic")))?;
        let start =
            |number| self.log.bounds(&TopicPartition::new(topic.clone(), Partition(number))).map(|found| found.start);
        Ok((0..count).filter_map(start).collect())
    }

    fn each_message(&mut self, topic: &TopicName, visit: &mut dyn FnMut(Found)) -> Result<(), Fault> {
        if self.log.partition_count(topic).is_none() {
            return Err(Fault::corrupt(format!("topic {topic}: there is no such topic")));
        }
        self.log.read(topic).into_iter().for_each(visit);
        Ok(())
    }

    fn progress(&mut self, sources: &[TopicPartition]) -> Result<Vec<(Option<NextOffset>, NextOffset)>, Fault> {
        let group = self.log.group(&self.group);
        let committed = group.committed(sources, Duration::ZERO)?;
        let one = |(source, committed): (&TopicPartition, Option<crate::ports::source::Committed>)| {
            let end = group.bounds(source, Duration::ZERO)?.end;
            Ok((committed.map(|committed| committed.next_offset), end))
        };
        sources.iter().zip(committed).map(one).collect()
    }
}

/// The database's side, for one pipeline.
#[derive(Clone, Debug)]
pub struct MemoryRowHistory {
    database: MemoryDatabase,
    pipeline: String,
}

impl MemoryRowHistory {
    pub(super) fn new(database: MemoryDatabase, pipeline: &str) -> Self {
        Self { database, pipeline: pipeline.into() }
    }
}

impl MemoryDatabase {
    /// The rows, positions and outbox of one pipeline as the audit reads them.
    #[must_use]
    pub fn history(&self, pipeline: &str) -> MemoryRowHistory {
        MemoryRowHistory::new(self.clone(), pipeline)
    }
}

impl RowHistory for MemoryRowHistory {
    fn positions(&mut self) -> Result<Vec<(TopicPartition, Position, Counts)>, Fault> {
        let state = self.database.up()?;
        let mine = state.contents.positions.iter().filter(|((pipeline, _), _)| *pipeline == self.pipeline);
        Ok(mine.map(|((_, source), stored)| (source.clone(), stored.position.clone(), stored.counts)).collect())
    }

    fn version_sum(&mut self, table: &Table) -> Result<Option<i64>, Fault> {
        let state = self.database.up()?;
        let key = (self.pipeline.clone(), table.name.clone());
        let baseline = state.contents.baselines.get(&key).copied().unwrap_or(0);
        Ok(version_sum(&state, table).map(|sum| sum - baseline))
    }

    fn each_outbox_row(&mut self, visit: &mut dyn FnMut(OutboxRow)) -> Result<(), Fault> {
        drop(self.database.up()?);
        self.database.outbox(&self.pipeline).into_iter().for_each(visit);
        Ok(())
    }

    fn repairs(&mut self) -> Result<Vec<(Timestamp, NotedRepair)>, Fault> {
        let state = self.database.up()?;
        let mine = state.contents.repairs.iter().filter(|(pipeline, _, _)| *pipeline == self.pipeline);
        Ok(mine.map(|(_, at, repair)| (*at, repair.clone())).collect())
    }
}
