//! The place where the in-process log keeps its committed entries, so that a demo's topics survive the process.

use crate::flow::record::{Header, NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::source::Committed;

/// A record as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Its partition.
    pub place: TopicPartition,
    /// Its offset; offsets of a partition rise but may have gaps.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<Header>,
}

/// One committed transaction, or one plain produce: kept whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JournalEntry {
    /// Records, in offset order within a partition.
    pub records: Vec<JournalRecord>,
    /// Group offsets.
    pub offsets: Vec<(String, TopicPartition, Committed)>,
    /// The ends of the partitions touched, control records included.
    pub ends: Vec<(TopicPartition, NextOffset)>,
}

/// Everything kept.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JournalContents {
    /// Topics with their ids and partition counts.
    pub topics: Vec<(TopicName, String, Partition)>,
    /// Records, ordered by partition and offset.
    pub records: Vec<JournalRecord>,
    /// Group offsets.
    pub offsets: Vec<(String, TopicPartition, Committed)>,
    /// Partition ends.
    pub ends: Vec<(TopicPartition, NextOffset)>,
}

/// Keeps the log's contents; called under the log's lock.
pub trait Journal: Send {
    /// Reads everything kept.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be read.
    fn load(&mut self) -> Result<JournalContents, Fault>;

    /// Keeps a new topic. `Partition` is its partition count.
    ///
    /// # Errors
    /// `Retry` when it could not be kept.
    fn topic(&mut self, topic: &TopicName, id: &str, count: Partition) -> Result<(), Fault>;

    /// Keeps one entry, atomically and durably.
    ///
    /// # Errors
    /// `Retry` when it could not be kept.
    fn append(&mut self, entry: &JournalEntry) -> Result<(), Fault>;
}
