//! A clock that stands still until a test moves it.

use crate::flow::record::Timestamp;
use crate::ports::Clock;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Time in a test's hand. Starts at 2026-01-01T00:00:00Z; the second clock starts at zero.
#[derive(Debug)]
pub struct ManualClock {
    times: Mutex<(Timestamp, Duration)>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self { times: Mutex::new((Timestamp(1_767_225_600_000), Duration::ZERO)) }
    }
}

impl ManualClock {
    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.0.0 = times.0.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        times.1 = times.1.saturating_add(by);
    }

    /// Sets the wall clock alone, which may jump either way.
    pub fn set(&self, now: Timestamp) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn elapsed(&self) -> Duration {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_moves_both_clocks_on_and_is_back_at_once() {
        let clock = ManualClock::default();
        let now = clock.now();
        clock.sleep(Duration::from_hours(1));
        assert_eq!((clock.now().0 - now.0, clock.elapsed()), (3_600_000, Duration::from_hours(1)));
    }
}
