//! The bounds on event time: a record's time may lie only so far ahead of this machine's clock, and not before 1970.
//!
//! One record from the future would expire everything that the whole partition keeps, and for good: a clock does not go
//! back. One without a time (-1) would expire itself.

use crate::flow::effect::Reject;
use crate::flow::record::Timestamp;
use std::time::Duration;

/// The bound, for one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Horizon {
    now: Timestamp,
    latest: Timestamp,
}

impl Horizon {
    /// The bound as seen from `now`.
    pub(crate) fn new(now: Timestamp, ahead: Duration) -> Self {
        let ahead = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
        Self { now, latest: Timestamp(now.0.saturating_add(ahead)) }
    }

    /// The latest event time that is taken.
    pub(crate) const fn latest(&self) -> Timestamp {
        self.latest
    }

    pub(crate) const fn allows(&self, at: Timestamp) -> bool {
        at.0 >= 0 && at.0 <= self.latest.0
    }

    /// # Errors
    /// A dead letter where `at` lies beyond, or before 1970.
    pub(crate) fn check(&self, at: Timestamp) -> Result<(), Reject> {
        if self.allows(at) {
            return Ok(());
        }
        if at.0 < 0 {
            let message = format!("its timestamp is {}, before 1970: its producer or its broker has set none", at.0);
            return Err(Reject::dead_letter("event-time-missing", message));
        }
        let (ahead, limit) = (at.0.saturating_sub(self.now.0), self.latest.0.saturating_sub(self.now.0));
        let message = format!(
            "its timestamp {} lies {ahead} ms ahead, more than engine.event_time_ahead_ms = {limit}",
            at.to_rfc3339()
        );
        Err(Reject::dead_letter("event-time-ahead", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_allowed_and_what_lies_beyond_is_told_by_how_much() {
        let horizon = Horizon::new(Timestamp(1_000), Duration::from_millis(50));
        assert!(horizon.check(Timestamp(0)).is_ok() && horizon.check(Timestamp(1_050)).is_ok());
        let reject = horizon.check(Timestamp(1_051)).unwrap_err();
        assert_eq!(reject.code(), "event-time-ahead");
        assert!(reject.message().contains("1970-01-01T00:00:01.051Z lies 51 ms ahead"), "{}", reject.message());
        let reject = horizon.check(Timestamp(-1)).unwrap_err();
        assert_eq!((reject.code(), reject.message().contains("is -1, before 1970")), ("event-time-missing", true));
        assert!(Horizon::new(Timestamp(1), Duration::MAX).allows(Timestamp(i64::MAX)));
    }
}
