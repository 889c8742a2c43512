//! The trait that users implement: one pure, synchronous function over an event and a row.

use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{Offset, Partition, Timestamp, TopicName};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What to do when a notification arrives: change its row, and say what changed.
///
/// The function is pure and synchronous: no clock, no network, no database. It may be run again with the same arguments
/// until its effects are committed, and never after that. A panic is caught and becomes a dead letter.
///
/// Unit-test it as it stands; test it with crashes and rebalances through [`TestDriver`](crate::testing::TestDriver).
pub trait Algorithm: Send + Sync + 'static {
    /// The notification, decoded from the record's JSON value.
    type Event: DeserializeOwned;

    /// The columns that are read and written back: a plain serde struct whose fields are named like the columns.
    /// Neither the key column nor the version column is among them.
    type Row: Serialize + DeserializeOwned;

    /// What the next topic is told: `Option<Notice>` for none or one, `Vec<Notice>` for several.
    type Notices: IntoIterator<Item: Serialize>;

    /// Applies `event` to `row` in place and returns the notices.
    ///
    /// # Errors
    /// [`Reject`]: the row stays as it was and nothing is announced; see its variants for what happens to the record.
    fn apply(
        &self,
        event: Self::Event,
        row: &mut Self::Row,
        context: &mut Context<'_>,
    ) -> Result<Self::Notices, Reject>;
}

/// Where a record came from and when.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) timestamp: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) key: &'a Key,
}

impl<'a> Context<'a> {
    /// A context for a unit test that calls an algorithm directly: the first record of partition 0, in 1970.
    #[must_use]
    pub const fn example(topic: &'a TopicName, key: &'a Key) -> Self {
        let (partition, offset, epoch) = (Partition(0), Offset(0), Timestamp(0));
        Self { topic, partition, offset, timestamp: epoch, now: epoch, key }
    }
}

impl Context<'_> {
    /// The topic: the lead topic or one of its companions.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic.as_str()
    }

    /// The partition number, equal for the lead topic and its companions.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition.0
    }

    /// The record's offset in its partition.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.offset.0
    }

    /// The row's id.
    #[must_use]
    pub const fn key(&self) -> &Key {
        self.key
    }

    /// The record's own timestamp in milliseconds since 1970, UTC: the same on every attempt.
    #[must_use]
    pub const fn event_time_ms(&self) -> i64 {
        self.timestamp.0
    }

    /// The engine's clock in milliseconds since 1970, UTC, read once a batch: it may differ between attempts, of which
    /// exactly one is committed.
    #[must_use]
    pub const fn now_ms(&self) -> i64 {
        self.now.0
    }
}
