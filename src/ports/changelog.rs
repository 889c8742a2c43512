//! A changelog as a restore reads it: one partition, from a checkpoint to the end that it had when the restore began.
//!
//! The end must not be the last stable offset. When K was just read back as committed, the marker of the same transaction
//! may still be on its way into the changelog's partition, and the last stable offset then lies below records that belong
//! to K. So the end is that of the log, open transactions included, and the committed reader waits until they have ended.

use crate::flow::record::{NextOffset, Record, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::source::Bounds;
use std::time::Duration;

/// Reads one partition at a time, of a changelog or of a table topic, as a committed reader. Owned by one thread.
pub trait ChangelogReader: Send {
    /// The log's start, and one past its last record, open transactions included.
    ///
    /// # Errors
    /// `Retry` when the log did not answer; `Corrupt` when there is no such topic.
    fn bounds(&mut self, place: &TopicPartition) -> Result<Bounds, Fault>;

    /// Begins to read `place` from `from`, which is not before its start. An earlier reading under way is given up.
    ///
    /// # Errors
    /// The same as [`ChangelogReader::bounds`].
    fn begin(&mut self, place: &TopicPartition, from: NextOffset) -> Result<(), Fault>;

    /// Shows committed records in offset order, all that are at hand but at most `records_max`, until `visit` answers false,
    /// waiting at most `wait` for the first. Answers how far the reader has come: one past the last offset seen, records of
    /// aborted transactions and markers included.
    ///
    /// # Errors
    /// `Retry` when the log did not answer; `Corrupt` when its start has passed the reader.
    fn read(
        &mut self,
        wait: Duration,
        records_max: usize,
        visit: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Result<NextOffset, Fault>;

    /// Gives up the reading under way.
    fn end(&mut self);
}
