//! Roll-ups: what is told of the readings of a meter or sensor over a span, so that nobody reads them again.
//!
//! A [`Bucket`] is made of one reading, or of two buckets of which one lies in front of the other. That is all: what is told of a
//! day is the merge of its hours, that of an hour the merge of its quarters, in the order of time, whatever order they came in. What
//! lies between two readings belongs to the bucket that has both, so nothing is counted twice, and a bucket's edges, where its
//! first reading has not come yet, are the business of whoever knows its neighbours.

mod bucket;
mod bytes;
mod counted;
mod counter;
mod gather;
mod kind;
mod metered;
mod metric;
mod minute;
mod point;
mod reading;
mod series;
mod sketch;
mod states;
mod tier;
mod told;
mod watch;

pub use bucket::{Bucket, Measure};
pub use bytes::Damaged;
pub use counted::Counts;
pub use counter::Rise;
pub(crate) use gather::{Gather, Given};
pub use gather::{Patience, RollUp};
pub use kind::{Between, Kind};
pub use metered::Metered;
pub use metric::{BadReading, Covered, Metric, Unmergeable};
pub use point::Point;
pub use reading::{Measured, Reading};
pub use series::{Column, Plan};
pub use sketch::{Mismatch, Sketch};
pub use states::States;
pub(crate) use tier::Write;
pub use tier::{Packed, Slot, Tier, TierRow};
pub use told::{SeriesKey, Told};
pub(crate) use watch::Watcher;
pub use watch::{Alert, Watch};
