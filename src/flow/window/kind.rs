//! The kinds of windows: which spans an event falls into, and when they are closed.

use crate::flow::window::{Merge, Windowed};
use std::time::Duration;

/// Spans of one length, one behind the other, from 1970 on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tumbling {
    size: Duration,
}

/// Spans of one length, of which one begins every so often: an event falls into several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hopping {
    size: Duration,
    every: Duration,
}

/// The length of [`Hopping`] windows, whose distance is still to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "hopping windows need a distance: every()"]
pub struct HoppingSize(Duration);

/// Spans of activity: events of one key that are no further apart than a gap are one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    gap: Duration,
}

/// A kind of windows with the time for which they wait for late events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WithGrace<K> {
    kind: K,
    grace: Duration,
}

impl Tumbling {
    /// Windows of `size`, of at least a millisecond: an event at `t` falls into the one that begins at `t - t % size`.
    #[must_use]
    pub const fn of(size: Duration) -> Self {
        Self { size }
    }

    /// The time behind its end for which a window waits for late events. There is no default: how late events come is known
    /// to whoever makes them.
    #[must_use]
    pub const fn grace(self, grace: Duration) -> WithGrace<Self> {
        WithGrace { kind: self, grace }
    }
}

impl Hopping {
    /// Windows of `size`.
    pub const fn of(size: Duration) -> HoppingSize {
        HoppingSize(size)
    }

    /// As [`Tumbling::grace`].
    #[must_use]
    pub const fn grace(self, grace: Duration) -> WithGrace<Self> {
        WithGrace { kind: self, grace }
    }
}

impl HoppingSize {
    /// One window begins every so often, at multiples of `every` since 1970.
    #[must_use]
    pub const fn every(self, every: Duration) -> Hopping {
        Hopping { size: self.0, every }
    }
}

impl Session {
    /// Sessions that end when `gap` has passed without an event. Two events exactly one gap apart are one session, as with
    /// Kafka Streams.
    #[must_use]
    pub const fn gap(gap: Duration) -> Self {
        Self { gap }
    }

    /// As [`Tumbling::grace`].
    #[must_use]
    pub const fn grace(self, grace: Duration) -> WithGrace<Self> {
        WithGrace { kind: self, grace }
    }
}

/// The shape of windows, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Aligned { size: i64, every: i64 },
    Session { gap: i64 },
}

/// Adds the value of a later window to that of an earlier one.
type Merged<W> = fn(&W, &mut <W as Windowed>::Value, <W as Windowed>::Value);

/// Windows as a step keeps them.
pub struct Spec<W: Windowed> {
    pub(crate) shape: Shape,
    pub(crate) grace: i64,
    pub(crate) merge: Option<Merged<W>>,
}

impl<W: Windowed> std::fmt::Debug for Spec<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec").field("shape", &self.shape).field("grace", &self.grace).finish_non_exhaustive()
    }
}

/// Most windows that one event may fall into.
const WINDOWS_MAX: i64 = 1_000;

impl<W: Windowed> Spec<W> {
    /// The kind in words: what an earlier release has kept is of the same one, or cannot go on.
    pub(crate) fn kind(&self) -> String {
        match self.shape {
            Shape::Aligned { size, every } if size == every => format!("tumbling {size} ms"),
            Shape::Aligned { size, every } => format!("hopping {size} ms every {every} ms"),
            Shape::Session { gap } => format!("session gap {gap} ms"),
        }
    }

    /// Why there can be no such windows.
    pub(crate) fn fault(&self) -> Option<String> {
        match self.shape {
            Shape::Session { gap } if gap < 1 => Some("a session's gap is at least 1 ms".into()),
            Shape::Aligned { size, every } if size < 1 || every < 1 => {
                Some("windows are at least 1 ms long, and at least 1 ms apart".into())
            }
            Shape::Aligned { size, every } if every > size => Some(format!(
                "windows of {size} ms every {every} ms leave gaps, whose events would belong nowhere: every() is at most the size"
            )),
            Shape::Aligned { size, every } if (size - 1) / every >= WINDOWS_MAX => Some(format!(
                "windows of {size} ms every {every} ms: an event would fall into {}, at most {WINDOWS_MAX} are allowed",
                (size - 1) / every + 1
            )),
            _ => None,
        }
    }
}

/// A kind of windows for the algorithm `W`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the windows of `{W}`",
    note = "windows need a grace, the time for which they wait for late events: `Tumbling::of(size).grace(time)`",
    note = "`Session` windows need an algorithm that implements `Merge`"
)]
pub trait WindowKind<W: Windowed> {
    /// The windows as a step keeps them.
    #[doc(hidden)]
    fn into_spec(self) -> Spec<W>;
}

impl<W: Windowed> WindowKind<W> for WithGrace<Tumbling> {
    fn into_spec(self) -> Spec<W> {
        let size = millis(self.kind.size);
        Spec { shape: Shape::Aligned { size, every: size }, grace: millis(self.grace), merge: None }
    }
}

impl<W: Windowed> WindowKind<W> for WithGrace<Hopping> {
    fn into_spec(self) -> Spec<W> {
        let (size, every) = (millis(self.kind.size), millis(self.kind.every));
        Spec { shape: Shape::Aligned { size, every }, grace: millis(self.grace), merge: None }
    }
}

impl<W: Merge> WindowKind<W> for WithGrace<Session> {
    fn into_spec(self) -> Spec<W> {
        let shape = Shape::Session { gap: millis(self.kind.gap) };
        Spec { shape, grace: millis(self.grace), merge: Some(W::merge) }
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
