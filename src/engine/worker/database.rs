//! The database of a worker: its connection, and the pause after a failure.

use crate::ports::rows::Rows;
use crate::ports::{Clock, Fault};
use std::time::Duration;

/// The pause after a failure of the database; doubled up to [`PAUSE_MAX`].
pub(crate) const PAUSE: Duration = Duration::from_millis(10);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The time for which the database must have failed before it is worth a line that it answers again.
const AWAY: Duration = Duration::from_secs(1);

/// One connection, shared by takeovers and by batches of steps with rows.
pub(crate) struct Database {
    pub(crate) rows: Box<dyn Rows>,
    /// The number of failures in a row.
    pub(crate) failures: u32,
    pub(crate) not_before: Duration,
    /// When the first of them was.
    failing_since: Duration,
}

impl Database {
    pub(crate) fn new(rows: Box<dyn Rows>) -> Self {
        Self { rows, failures: 0, not_before: Duration::ZERO, failing_since: Duration::ZERO }
    }

    /// Notes that a batch was committed, and says so where the database had failed for a while.
    pub(crate) fn answered(&mut self, clock: &dyn Clock) {
        let away = clock.elapsed().saturating_sub(self.failing_since);
        if self.failures > 0 && away >= AWAY {
            tracing::info!(
                failures = self.failures,
                away_s = away.as_secs(),
                "the database takes batches again; the stream goes on"
            );
        }
        self.failures = 0;
    }

    /// Waits before the next attempt; logs the first failure and then each doubling.
    pub(crate) fn back_off(&mut self, clock: &dyn Clock, fault: &Fault) {
        let pause = (PAUSE * 2_u32.pow(self.failures.min(10))).min(PAUSE_MAX);
        if self.failures == 0 {
            self.failing_since = clock.elapsed();
        }
        self.failures += 1;
        self.not_before = clock.elapsed() + pause;
        if self.failures.is_power_of_two() {
            tracing::warn!(error = %fault, failures = self.failures, "the database did not take a batch; it is offered again");
        }
    }
}
