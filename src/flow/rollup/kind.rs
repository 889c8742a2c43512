//! The kinds of metrics: what lies between two readings.

use std::time::Duration;

/// What a metric's values do between two readings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Between {
    /// A value holds until the next reading.
    Step,
    /// Values go in a straight line from one reading to the next one.
    Linear,
}

/// What a metric measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A value of the moment, as power, temperature or humidity.
    Gauge(Between),
    /// A count that only rises, as energy or litres. A fall is a reset, behind which it has begun at 0; one that comes back to
    /// where it fell from within `outage`, in a step that more than doubles it, is a glitch and counts for nothing.
    Counter {
        /// The longest time between the last reading in front of a glitch and the first one behind it.
        outage: Duration,
    },
    /// One of the states 0 to 15, as a mode or a switch: how long each one held.
    State,
    /// Something that happens: how often.
    Event,
}

impl Kind {
    /// A counter whose falls are taken for glitches where they come back within an hour.
    #[must_use]
    pub const fn counter() -> Self {
        Self::Counter { outage: Duration::from_hours(1) }
    }
}
