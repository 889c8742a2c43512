//! How a kill of the demo went, once the partitions were taken over again.

use std::time::Duration;

/// Told to whoever draws the page: how long each recovery took, and what came of it.
pub(super) type Recoveries = std::sync::Arc<std::sync::Mutex<Vec<Recovery>>>;

/// One crash and what came after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery {
    /// From the kill until every partition took records again.
    pub(super) took: Duration,
    pub(super) published: u64,
    pub(super) repeated: u64,
}
