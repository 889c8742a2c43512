//! The rows of roll-ups, for graphs.

use crate::ports::fault::Fault;

/// A row of a tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketRow {
    /// The start of its span, in milliseconds since 1970, UTC.
    pub start_ms: i64,
    /// How often it was written.
    pub version: i64,
    /// Its buckets, packed.
    pub buckets: Vec<u8>,
}

/// Reads rows of roll-ups. Calls block.
pub trait Buckets: Send {
    /// The rows of a device's metric that begin from `from_ms` on and before `to_ms`, in the order of their starts.
    ///
    /// # Errors
    /// `Retry` when the database did not answer; `Fatal` when there is no such table.
    fn rows(
        &mut self,
        table: &str,
        device_and_metric: (&str, &str),
        span_ms: (i64, i64),
    ) -> Result<Vec<BucketRow>, Fault>;
}
