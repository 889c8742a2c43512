//! The outcome of a kill in the demo, once the partitions were taken over again.

use std::time::Duration;

/// Shared with the page, which shows how long each recovery took and its outcome.
pub(super) type Recoveries = std::sync::Arc<std::sync::Mutex<Vec<Recovery>>>;

/// One crash and what came after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery {
    /// From the kill until every partition took records again.
    pub(super) took: Duration,
    pub(super) published: u64,
    pub(super) repeated: u64,
}

impl Recovery {
    /// In milliseconds.
    pub(super) fn took_ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }
}
