//! An entry of the cache, and its value before a batch or a record wrote it.

use crate::engine::state::cache::value::Value;

/// The memory that an entry takes beside its bytes, roughly: its slot and number, the two allocations' headers.
pub(super) const ENTRY_BYTES: usize = 112;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    /// The last batch that wrote it; 0 for none.
    pub(super) batch: u64,
    /// Read or written since the last sweep.
    pub(super) is_used: bool,
}

impl Entry {
    /// The content of a place without an entry.
    pub(super) const fn empty() -> Self {
        Self { value: Value::Unread, batch: 0, is_used: false }
    }
}

/// An entry that a batch wrote, with its value before.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) number: usize,
    pub(super) value: Value,
    pub(super) batch: u64,
}

/// The change of a record under decision to a key.
pub(super) enum Undo {
    /// It is the batch's first write of the last entry in `open`.
    First,
    /// The entry was written in this batch before.
    Again(usize, Value),
}
