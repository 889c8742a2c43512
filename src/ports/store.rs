//! Keyed bytes of one task, beside the process, with the checkpoint of the changelog that they were made from.
//!
//! The changelog is the truth and the store its copy: data and checkpoint are written in one batch, and only values known to
//! be committed in the changelog are written. So a store is always the changelog up to its checkpoint, and perhaps a part of
//! the records behind it. Reading on from the checkpoint makes it whole.

use crate::flow::record::{NextOffset, Partition, Timestamp, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::source::LogIds;
use std::fmt;
use std::sync::Arc;

/// One partition of one store.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StoreId {
    /// The store's name, unique in the pipeline.
    pub name: Arc<str>,
    /// The partition number, equal to that of the changelog and of the task.
    pub partition: Partition,
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.partition)
    }
}

/// The place in the changelog up to which a store was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Every changelog record below it is in the store.
    pub next_offset: NextOffset,
    /// The changelog that the offset belongs to.
    pub log_ids: LogIds,
    /// When it was written. A store older than the changelog's `delete.retention.ms` may have missed tombstones
    /// (docs/traps.md#tombstones-go-too).
    pub at: Timestamp,
    /// The inputs that the store was made from: every record below these offsets has had its effect. Without an offset the
    /// store says nothing of its input: an operator let it begin anew.
    pub inputs: Vec<(TopicPartition, Option<NextOffset>)>,
}

impl Checkpoint {
    /// The checkpoint that an operator leaves to restart a store at `next_offset` of its changelog. `source` is an input of
    /// its task; the store's earlier content is given up.
    #[must_use]
    pub fn begun_anew(source: TopicPartition, next_offset: NextOffset, log_ids: LogIds, at: Timestamp) -> Self {
        Self { next_offset, log_ids, at, inputs: vec![(source, None)] }
    }

    /// Whether it is as [`Checkpoint::begun_anew`] left it.
    #[must_use]
    pub fn is_begun_anew(&self) -> bool {
        self.inputs.iter().any(|(_, at)| at.is_none())
    }
}

/// A key, and its value or, where it is deleted, `None`.
pub type Write<'a> = (&'a [u8], Option<&'a [u8]>);

/// The size of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreSize {
    /// Keys, possibly an estimate.
    pub keys: u64,
    /// Bytes of keys and values, possibly an estimate.
    pub bytes: u64,
}

/// One partition of one store. Owned by one thread; calls block.
pub trait KeyedStore: Send {
    /// Shows the value of `key`, or `None`.
    ///
    /// # Errors
    /// `Corrupt` when the data there cannot be true; `Retry` when the disk did not answer; `Fatal` when the place is damaged
    /// and must be opened again, which a restart of the process does.
    fn get(&self, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Fault>;

    /// Shows keys and values with `from <= key`, and `key < to` where it is given, in the keys' byte order until `visit`
    /// answers false.
    ///
    /// # Errors
    /// The same as [`KeyedStore::get`].
    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault>;

    /// The checkpoint; `None` for a store that was never written.
    ///
    /// # Errors
    /// The same as [`KeyedStore::get`].
    fn checkpoint(&self) -> Result<Option<Checkpoint>, Fault>;

    /// Writes all of `writes`, which ascend by key and name each key once, and the checkpoint: all or nothing.
    ///
    /// # Errors
    /// `Retry` when nothing was written, for instance because the disk is full; `Corrupt` and `Fatal` as above.
    fn write(&mut self, writes: &[Write<'_>], checkpoint: &Checkpoint) -> Result<(), Fault>;

    /// Empties the store, its checkpoint included.
    ///
    /// # Errors
    /// The same as [`KeyedStore::write`].
    fn clear(&mut self) -> Result<(), Fault>;

    /// Its keys and bytes.
    ///
    /// # Errors
    /// The same as [`KeyedStore::get`].
    fn size(&self) -> Result<StoreSize, Fault>;
}

/// The stores of one process.
pub trait Stores: Send + Sync {
    /// Opens one partition of one store, empty where it was never there. No two may be open at a time for one id.
    ///
    /// # Errors
    /// `Fatal` when the folder cannot be used; `Retry` while it is open elsewhere in this process.
    fn open(&self, id: &StoreId) -> Result<Box<dyn KeyedStore>, Fault>;
}
