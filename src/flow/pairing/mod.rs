//! Pairs of events of two streams that have the same key and lie close together in time.
//!
//! The events of each key wait, in a store beside the partition, for those of the other stream. The task's clock, which is the
//! highest event time of its streams' records, says when an event has waited long enough: it is forgotten then, and the
//! algorithm may tell of it if it has found no other.

mod algorithm;
mod waiting;

pub use algorithm::{InPairs, Side};
pub(crate) use waiting::Reach;
pub use waiting::{Waiting, WaitingEvent};

use crate::flow::key::Key;
use crate::flow::notice::Announce;
use crate::flow::window::millis;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The code that runs over pairs of events: it makes the notices of two that belong together, and of one that stayed alone.
///
/// Pure and synchronous, as an [`Algorithm`](crate::flow::Algorithm).
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
/// use tidegate::flow::Topology;
/// use tidegate::flow::pairing::{Pair, Paired, Within};
///
/// #[derive(Serialize, Deserialize)] struct Order { cents: i64 }
/// #[derive(Serialize, Deserialize)] struct Payment { cents: i64 }
/// #[derive(Serialize)]              struct Settled { open_cents: i64 }
///
/// struct Settle;
///
/// impl Paired for Settle {
///     type Left = Order;
///     type Right = Payment;
///     type Notices = Option<Settled>;
///
///     fn pair(&self, order: &Order, payment: &Payment, _: &Pair<'_>) -> Option<Settled> {
///         Some(Settled { open_cents: order.cents - payment.cents })
///     }
///
///     fn left_alone(&self, order: &Order, _: &Pair<'_>) -> Option<Settled> {
///         Some(Settled { open_cents: order.cents })
///     }
/// }
///
/// let mut topology = Topology::new("shop");
/// topology
///     .source("orders")
///     .join_within("payments", Within::of(Duration::from_secs(600)).grace(Duration::from_secs(60)))
///     .aggregate("waiting", Settle)
///     .to("settled");
/// assert_eq!(topology.validate(), Ok(()));
/// ```
pub trait Paired: Send + Sync + 'static {
    /// The event of the stream that the source names.
    type Left: Serialize + DeserializeOwned;

    /// The event of the other stream.
    type Right: Serialize + DeserializeOwned;

    /// The notices of a pair, or of an event that stayed alone: an `Option` for none or one, a `Vec` for several.
    type Notices: IntoIterator<Item: Announce> + Default;

    /// Makes the notices of two events that lie close enough together: once for each such pair, with the record that comes later.
    /// Where it panics a dead letter tells of the pair, and the others go on.
    fn pair(&self, left: &Self::Left, right: &Self::Right, pair: &Pair<'_>) -> Self::Notices;

    /// Makes the notices of a left event that no right one came for: once its time and the grace behind it are over. None by
    /// default, which is an inner join; this makes it a left one.
    fn left_alone(&self, _left: &Self::Left, _pair: &Pair<'_>) -> Self::Notices {
        Self::Notices::default()
    }

    /// The same for a right event that no left one came for: with both it is an outer join.
    fn right_alone(&self, _right: &Self::Right, _pair: &Pair<'_>) -> Self::Notices {
        Self::Notices::default()
    }
}

/// The key and the times of two events, or of one.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Their key.
    pub key: &'a Key,
    /// The time of the left event, in milliseconds since 1970, UTC.
    pub left_ms: Option<i64>,
    /// The time of the right event, in milliseconds since 1970, UTC.
    pub right_ms: Option<i64>,
}

/// How far apart two events of a pair may lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a pair needs a grace: grace()"]
pub struct Within {
    before: Duration,
    after: Duration,
}

/// The same with the time for which late events are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WithinAndGrace {
    within: Within,
    grace: Duration,
}

impl Within {
    /// The right event lies so long before the left one or behind it, at most: both ends are included.
    pub const fn of(time: Duration) -> Self {
        Self { before: time, after: time }
    }

    /// The right event lies so long before the left one at most, or so long behind it.
    pub const fn between(before: Duration, after: Duration) -> Self {
        Self { before, after }
    }

    /// The time for which late events are waited for: a record is too late once the task's clock is further past its time. There is
    /// no default: how late events come is known to whoever makes them.
    #[must_use]
    pub const fn grace(self, grace: Duration) -> WithinAndGrace {
        WithinAndGrace { within: self, grace }
    }
}

impl WithinAndGrace {
    pub(crate) fn reach(self) -> Reach {
        let Self { within: Within { before, after }, grace } = self;
        Reach { before: millis(before), after: millis(after), grace: millis(grace) }
    }
}
