//! One store of a task, behind its cache, with what is known of its contents.

use crate::engine::state::cache::WriteBack;
use crate::flow::record::{NextOffset, Timestamp, TopicPartition};
use crate::ports::source::LogIds;

/// The clock before the first record.
pub(crate) const START: Timestamp = Timestamp(i64::MIN);

/// One store of a task.
pub(crate) struct Kept {
    pub(crate) cache: WriteBack,
    /// Its changelog partition, and the ids of that log.
    pub(crate) changelog: TopicPartition,
    pub(crate) log_ids: LogIds,
    /// The bound of its changelog: a larger value is refused before anything is committed, since it would block the
    /// task.
    pub(crate) record_bytes_max: usize,
    /// The changelog up to here is proved to be in the cache or the store: the next checkpoint.
    pub(crate) proved_end: NextOffset,
    pub(crate) search: Search,
    /// Whether its values expire, or some may that were written while they did, or are timers: the clock is kept with it.
    pub(crate) is_timed: bool,
    /// What is known of its timers; `None` for a store that keeps none.
    pub(crate) timers: Option<Timers>,
}

/// What is known of the timers in a store without a look.
#[derive(Clone, Copy)]
pub(crate) struct Timers {
    pub(super) event: Earliest,
    pub(super) wall: Earliest,
}

/// What is known of the timers that go by one clock.
#[derive(Clone, Copy)]
pub(crate) struct Earliest {
    /// None is due before.
    pub(super) from: Timestamp,
    /// The earliest of those that were set since the last look.
    pub(super) set: Timestamp,
}

impl Timers {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self { event: Earliest::UNKNOWN, wall: Earliest::UNKNOWN };
}

impl Earliest {
    const UNKNOWN: Self = Self { from: START, set: START };
}

/// The progress of the search for expired keys, which goes round and round.
pub(crate) struct Search {
    /// The key to go on from.
    pub(super) cursor: Vec<u8>,
    /// The clock when this round began, and when the last whole one did: keys that had expired by then are gone.
    /// [`START`] where the store was written since.
    pub(super) began: Timestamp,
    pub(super) done: Timestamp,
}

impl Default for Search {
    fn default() -> Self {
        Self { cursor: Vec::new(), began: START, done: START }
    }
}
