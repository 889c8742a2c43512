//! The events of one key that wait for those of the other stream: the value that the store keeps under the key.

use serde::{Deserialize, Serialize};

/// The events of one key that wait.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Waiting<L, R> {
    /// Those of the left stream, by their times.
    pub left: Vec<WaitingEvent<L>>,
    /// Those of the right stream, by their times.
    pub right: Vec<WaitingEvent<R>>,
    /// The time of the timer at which the next one has waited long enough.
    pub over_ms: Option<i64>,
}

/// An event that waits.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WaitingEvent<E> {
    /// Its time, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// The event.
    pub event: E,
    /// Whether another one was found for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_paired: bool,
}

impl<L, R> Default for Waiting<L, R> {
    fn default() -> Self {
        Self { left: Vec::new(), right: Vec::new(), over_ms: None }
    }
}

/// How far apart two events may lie and how late they may come, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reach {
    /// How long the right event may lie before the left one.
    pub(crate) before: i64,
    /// How long it may lie behind it.
    pub(crate) after: i64,
    pub(crate) grace: i64,
}

impl Reach {
    /// Whether two events belong together.
    pub(super) const fn pairs(&self, left_ms: i64, right_ms: i64) -> bool {
        left_ms.saturating_sub(self.before) <= right_ms && right_ms <= left_ms.saturating_add(self.after)
    }

    /// Whether an event comes too late: the clock is further past its time than late events are waited for. So all that it could
    /// be paired with still wait.
    pub(super) const fn is_late(&self, at_ms: i64, clock: i64) -> bool {
        at_ms.saturating_add(self.grace) < clock
    }

    /// The first time of the clock at which a left event of this time has waited long enough: a right one in reach would be too
    /// late from then on.
    pub(super) const fn left_over(&self, at_ms: i64) -> i64 {
        at_ms.saturating_add(self.after).saturating_add(self.grace).saturating_add(1)
    }

    /// The same for a right event.
    pub(super) const fn right_over(&self, at_ms: i64) -> i64 {
        at_ms.saturating_add(self.before).saturating_add(self.grace).saturating_add(1)
    }
}

/// Takes out the events that have waited long enough at this clock.
fn over<E>(events: &mut Vec<WaitingEvent<E>>, over_at: impl Fn(i64) -> i64, clock: i64) -> Vec<WaitingEvent<E>> {
    let count = events.partition_point(|waiting| over_at(waiting.at_ms) <= clock);
    events.drain(..count).collect()
}

/// Adds an event behind those of its time.
pub(super) fn keep<E>(events: &mut Vec<WaitingEvent<E>>, waiting: WaitingEvent<E>) {
    let place = events.partition_point(|other| other.at_ms <= waiting.at_ms);
    events.insert(place, waiting);
}

impl<L, R> Waiting<L, R> {
    /// Takes out what has waited long enough at this clock.
    pub(super) fn take_over(&mut self, reach: Reach, clock: i64) -> (Vec<WaitingEvent<L>>, Vec<WaitingEvent<R>>) {
        let left = over(&mut self.left, |at| reach.left_over(at), clock);
        (left, over(&mut self.right, |at| reach.right_over(at), clock))
    }

    /// The time of the clock at which the next one has waited long enough.
    pub(super) fn next_over(&self, reach: Reach) -> Option<i64> {
        let left = self.left.first().map(|waiting| reach.left_over(waiting.at_ms));
        let right = self.right.first().map(|waiting| reach.right_over(waiting.at_ms));
        left.into_iter().chain(right).min()
    }
}
