//! The data that the audit reads: positions, row versions and outbox history on one side, a topic from end to end on the
//! other.

use crate::flow::identity::ID_HEADER;
use crate::flow::record::{Header, NextOffset, Timestamp, TopicName, TopicPartition};
use crate::flow::table::Table;
use crate::ports::fault::Fault;
use crate::ports::repair::NotedRepair;
use crate::ports::rows::{Counts, OutboxRow, Position};

/// The database side, read-only.
pub trait RowHistory: Send {
    /// Every position of the pipeline with its counters, ordered by topic and partition.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn positions(&mut self) -> Result<Vec<(TopicPartition, Position, Counts)>, Fault>;

    /// The sum of the table's row versions, less the noted base line; `None` without a version column, and where a database
    /// whose base line is noted beside the running pipeline has none yet.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn version_sum(&mut self, table: &Table) -> Result<Option<i64>, Fault>;

    /// Reads the retained outbox of the pipeline, ordered by source partition, `source_offset`, `seq`.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn each_outbox_row(&mut self, visit: &mut dyn FnMut(OutboxRow)) -> Result<(), Fault>;

    /// The ranges of time, half-open and in their order, whose outbox rows have been dropped while older ones are kept.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn gaps(&mut self) -> Result<Vec<(Timestamp, Timestamp)>, Fault> {
        Ok(Vec::new())
    }

    /// The repairs that operators made to the pipeline's positions, with their times, oldest first.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn repairs(&mut self) -> Result<Vec<(Timestamp, NotedRepair)>, Fault>;
}

/// A message as a committed reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its time, in milliseconds since 1970, UTC; -1 where it has none.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<Header>,
}

impl Found {
    /// The value of the last header called `name`, as text: where a name repeats, who sent it on last has added it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        text(self.headers.iter().rfind(|header| header.name == name)?)
    }

    /// The id under which a pipeline's message is looked up; `None` for a message of another origin. Only the very last
    /// header counts: a header of this name further in front came with a record that another program has sent on.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        text(self.headers.last().filter(|header| header.name == ID_HEADER)?)
    }
}

fn text(header: &Header) -> Option<&str> {
    std::str::from_utf8(header.value.as_deref()?).ok()
}

/// The log side, read-only and committed.
pub trait TopicHistory: Send {
    /// Waits until the transactions that are open in a topic now have ended. The open transaction of a killed process hides
    /// the commits of others behind it until its timeout: a committed reader finds them missing.
    ///
    /// # Errors
    /// `Retry` when one stays open for longer than any timeout of ours; `Corrupt` when there is no such topic.
    fn await_open(&mut self, topic: &TopicName) -> Result<(), Fault>;

    /// The start of each partition of a topic: above 0 once records were deleted from it.
    ///
    /// # Errors
    /// The same as [`TopicHistory::each_message`].
    fn starts(&mut self, topic: &TopicName) -> Result<Vec<NextOffset>, Fault>;

    /// Reads a whole topic, partition by partition in offset order, up to the ends at the time of the call.
    ///
    /// # Errors
    /// `Retry` when the log did not answer; `Corrupt` when there is no such topic.
    fn each_message(&mut self, topic: &TopicName, visit: &mut dyn FnMut(Found)) -> Result<(), Fault>;

    /// K of every source partition, stable; and its end offset.
    ///
    /// # Errors
    /// `Retry` when the log did not answer.
    fn progress(&mut self, sources: &[TopicPartition]) -> Result<Vec<(Option<NextOffset>, NextOffset)>, Fault>;
}
