//! The changes that an operator makes to the models.

use super::database::{MemoryDatabase, StoredPosition};
use super::log::MemoryLog;
use crate::flow::record::{Timestamp, TopicPartition};
use crate::ports::Fault;
use crate::ports::repair::{NotedRepair, Offsets, Positions};
use crate::ports::rows::{Counts, Position};
use crate::ports::source::Committed;
use std::time::Duration;

/// The positions of one pipeline.
#[derive(Clone, Debug)]
pub struct MemoryPositions {
    database: MemoryDatabase,
    pipeline: String,
}

impl MemoryPositions {
    pub(super) fn new(database: MemoryDatabase, pipeline: &str) -> Self {
        Self { database, pipeline: pipeline.into() }
    }
}

impl MemoryDatabase {
    /// The positions of one pipeline, as an operator writes them.
    #[must_use]
    pub fn positions(&self, pipeline: &str) -> MemoryPositions {
        MemoryPositions::new(self.clone(), pipeline)
    }
}

impl Positions for MemoryPositions {
    fn read(&mut self, source: &TopicPartition) -> Result<Option<Position>, Fault> {
        drop(self.database.up()?);
        Ok(self.database.position(&self.pipeline, source))
    }

    fn fence(&mut self, source: &TopicPartition, who: &str) -> Result<Option<Position>, Fault> {
        let mut state = self.database.up()?;
        let key = (self.pipeline.clone(), source.clone());
        Ok(state.contents.positions.get_mut(&key).map(|stored| {
            stored.position.epoch += 1;
            who.clone_into(&mut stored.owner);
            stored.position.clone()
        }))
    }

    fn write(&mut self, position: &Position, is_new: bool, repair: &NotedRepair) -> Result<bool, Fault> {
        let mut state = self.database.up()?;
        let key = (self.pipeline.clone(), repair.source.clone());
        let before = state.contents.positions.get(&key);
        if before.map(|stored| stored.position.epoch) != (!is_new).then_some(position.epoch) {
            return Ok(false);
        }
        let counts = before.map_or_else(Counts::default, |stored| stored.counts);
        let stored = StoredPosition { position: position.clone(), generation: 0, owner: repair.who.clone(), counts };
        state.contents.positions.insert(key, stored);
        // The model has no clock of its own.
        state.contents.repairs.push((self.pipeline.clone(), Timestamp(0), repair.clone()));
        Ok(true)
    }
}

/// The offsets of one group, written by nobody of its members.
#[derive(Clone, Debug)]
pub struct MemoryOffsets {
    log: MemoryLog,
    group: String,
}

impl MemoryOffsets {
    pub(super) fn new(log: MemoryLog, group: &str) -> Self {
        Self { log, group: group.into() }
    }
}

impl MemoryLog {
    /// The offsets of a group, as an operator writes them.
    #[must_use]
    pub fn offsets(&self, group: &str) -> MemoryOffsets {
        MemoryOffsets::new(self.clone(), group)
    }
}

impl Offsets for MemoryOffsets {
    fn members(&self, _: Duration) -> Result<usize, Fault> {
        Ok(self.log.members(&self.group).len())
    }

    fn commit(&self, offsets: &[(TopicPartition, Committed)], _: Duration) -> Result<(), Fault> {
        let mut state = self.log.lock();
        if !state.groups.members(&self.group).is_empty() {
            return Err(Fault::fenced(format!("group {}: it has members, and this is none of them", self.group)));
        }
        state.commit_offsets(&self.group, offsets)?;
        state.touch();
        Ok(())
    }
}
