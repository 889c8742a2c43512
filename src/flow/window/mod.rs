//! Windows: values by key and span of event time, each given out once when its span is over.
//!
//! A windowed aggregate keeps the open windows of a key, and the key's clock, as one value of a store. Both are in the
//! changelog, so that no rebalance sets a clock back. The clock of a key is the latest event time among its records that
//! were taken; only it closes the key's windows, so that one device which sends a whole day at once, or lives in 2106,
//! closes nobody else's. A window is closed once the clock has come to its end and the grace behind it.

mod algorithm;
mod closing;
mod kept;
mod kind;
mod rows;

pub use algorithm::{Clock, Emit, InWindows, Late, Panes};
pub(crate) use algorithm::{LATE, Terms};
pub(crate) use kept::windows_within;
pub use kept::{Early, Idle, Windows, Working};
pub(crate) use kind::millis;
pub use kind::{Hopping, HoppingSize, Session, Tumbling, WindowKind, WithGrace};
pub(crate) use rows::UpdateByWindows;

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::notice::Announce;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The code that runs over windows: it adds events to a window's value, and makes notices of a value that is given out.
///
/// Pure and synchronous, as an [`Algorithm`](crate::flow::Algorithm).
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
/// use tidegate::flow::window::{Tumbling, Window, Windowed};
/// use tidegate::flow::{Context, Reject, Topology};
///
/// #[derive(Deserialize)] struct Reading { watts: f64 }
/// #[derive(Serialize)]   struct Minute { start_ms: i64, readings: u64, watts: f64 }
///
/// struct Minutes;
///
/// impl Windowed for Minutes {
///     type Event = Reading;
///     type Value = (u64, f64);
///     type Notices = Option<Minute>;
///
///     fn add(&self, reading: &Reading, (n, sum): &mut (u64, f64), _: &mut Context<'_>) -> Result<(), Reject> {
///         *n += 1;
///         *sum += reading.watts;
///         Ok(())
///     }
///
///     fn emit(&self, (n, sum): &(u64, f64), window: &Window<'_>) -> Option<Minute> {
///         Some(Minute { start_ms: window.start_ms, readings: *n, watts: *sum / *n as f64 })
///     }
/// }
///
/// let mut topology = Topology::new("meters");
/// topology
///     .source("readings")
///     .window(Tumbling::of(Duration::from_secs(60)).grace(Duration::from_secs(30)))
///     .aggregate("minutes", Minutes)
///     .to("minutes");
/// assert_eq!(topology.validate(), Ok(()));
/// ```
pub trait Windowed: Send + Sync + 'static {
    /// The notification, as for an [`Algorithm`](crate::flow::Algorithm): decoded from the record's value, a pair behind a join.
    type Event;

    /// The value of one window; its default is that of a window without events.
    type Value: Default + Serialize + DeserializeOwned;

    /// The notices of one window, as for an [`Algorithm`](crate::flow::Algorithm): an `Option` for none or one, a `Vec` for
    /// several.
    type Notices: IntoIterator<Item: Announce>;

    /// The time of an event, in milliseconds since 1970, UTC. The record's own timestamp unless the algorithm says otherwise.
    /// A negative one makes the record a dead letter (`event-time-missing`), and so does one that lies further ahead of this
    /// machine's clock than `engine.event_time_ahead_ms` (`event-time-ahead`).
    fn event_time_ms(&self, _event: &Self::Event, context: &Context<'_>) -> i64 {
        context.event_time_ms()
    }

    /// Adds an event to the value of a window that it falls into. [`Context::event_time_ms`] is the event's own time there.
    ///
    /// # Errors
    /// [`Reject`]: no window is changed, and its variants decide the record's fate.
    fn add(&self, event: &Self::Event, value: &mut Self::Value, context: &mut Context<'_>) -> Result<(), Reject>;

    /// Makes the notices of a window that is given out. It cannot refuse: whatever is wrong with an event is said by
    /// [`Windowed::add`], while the record that brought it is still there to blame. Where it panics, or one of its notices cannot
    /// be told, a dead letter tells of the window with that, and the windows of its key go on.
    fn emit(&self, value: &Self::Value, window: &Window<'_>) -> Self::Notices;
}

/// Two windows become one: what [`Session`] windows ask for, since a late event may bridge two of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how two of its windows become one",
    label = "cannot be gathered in sessions",
    note = "sessions grow together where an event comes between them: `impl Merge for {Self}`"
)]
pub trait Merge: Windowed {
    /// Adds the value of a later window to that of an earlier one.
    fn merge(&self, into: &mut Self::Value, later: Self::Value);
}

/// The window that is given out.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// The key whose window it is.
    pub key: &'a Key,
    /// Its first millisecond, since 1970, UTC.
    pub start_ms: i64,
    /// The millisecond behind its last one.
    pub end_ms: i64,
    /// Why it is given out.
    pub pane: Pane,
}

/// Why a window is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Pane {
    /// It is open, and an event has changed it ([`Emit::OnUpdate`]).
    Early,
    /// It is closed. A session that a late event opens again is closed, and given out so, once more.
    Final,
    /// A late event has changed it after it was closed, for the n-th time: the whole value, in place of the one before.
    Correction(u32),
    /// A late event has made it part of another session, or has opened it again: the value that it had, which counts no more.
    Retraction,
    /// An event has made it part of another session while it was open: the early value that it had, in the place of which
    /// that of the other session is told ([`Emit::OnUpdate`]).
    Withdrawal,
}
