//! Changelogs of the in-process log, as a restore reads them.

use super::log::MemoryLog;
use super::topics::no_such_topic;
use crate::flow::record::{NextOffset, Record, TopicPartition};
use crate::ports::changelog::ChangelogReader;
use crate::ports::fault::Fault;
use crate::ports::source::Bounds;
use std::time::Duration;

/// A committed reader of one partition at a time.
#[derive(Debug)]
pub struct MemoryChangelog {
    log: MemoryLog,
    reading: Option<(TopicPartition, NextOffset)>,
}

impl MemoryChangelog {
    pub(super) const fn new(log: MemoryLog) -> Self {
        Self { log, reading: None }
    }
}

impl MemoryLog {
    /// A reader of changelogs.
    #[must_use]
    pub fn changelog(&self) -> MemoryChangelog {
        MemoryChangelog::new(self.clone())
    }
}

impl ChangelogReader for MemoryChangelog {
    fn bounds(&mut self, place: &TopicPartition) -> Result<Bounds, Fault> {
        let state = self.log.lock();
        let partition = state.topics.get(place).ok_or_else(|| no_such_topic(&place.topic))?;
        Ok(Bounds { start: NextOffset(partition.start()), end: NextOffset(partition.end()) })
    }

    fn begin(&mut self, place: &TopicPartition, from: NextOffset) -> Result<(), Fault> {
        self.reading = Some((place.clone(), from));
        Ok(())
    }

    fn read(
        &mut self,
        _: Duration,
        records_max: usize,
        visit: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Result<NextOffset, Fault> {
        let Some((place, position)) = &mut self.reading else {
            return Err(Fault::retry("no changelog is being read"));
        };
        let state = self.log.lock();
        let partition = state.topics.get(place).ok_or_else(|| no_such_topic(&place.topic))?;
        if position.0 < partition.start() {
            return Err(Fault::corrupt(format!(
                "{place}: records from {position} on were deleted while they were read"
            )));
        }
        let mut shown = 0;
        for record in partition.read(position.0, records_max) {
            *position = record.offset.next();
            shown += 1;
            if !visit(&record.as_record()) {
                return Ok(*position);
            }
        }
        if shown < records_max {
            *position = NextOffset(position.0.max(partition.stable_end()));
        }
        Ok(*position)
    }

    fn end(&mut self) {
        self.reading = None;
    }
}
