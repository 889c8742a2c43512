//! Buckets on their way from tier to tier.

use crate::flow::effect::Reject;
use crate::flow::notice::Notice;
use crate::flow::rollup::Bucket;
use serde::{Deserialize, Serialize};

/// The bucket of one metric of a device over a span of a tier.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Told {
    /// Its start, in milliseconds since 1970, UTC.
    pub start_ms: i64,
    /// Its bucket.
    pub bucket: Bucket,
    /// Whether the bucket comes on top of what was given out before, instead of in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_addition: bool,
}

/// The row that a quarter belongs to.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SeriesKey {
    /// The device: the key of its records.
    pub device: String,
    /// The metric's name.
    pub metric: String,
    /// The start of the row's span, in milliseconds since 1970, UTC.
    pub start_ms: i64,
}

impl SeriesKey {
    /// A notice for the row of this key.
    ///
    /// # Errors
    /// If the key cannot be said in JSON.
    pub(super) fn tell<T>(&self, told: T) -> Result<Notice<T>, Reject> {
        let key = serde_json::to_string(self).map_err(|error| Reject::dead_letter("bad-key", error.to_string()))?;
        Ok(Notice::new(told).key(key))
    }
}
