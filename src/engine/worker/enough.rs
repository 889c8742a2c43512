//! The measure of a batch or a slice: when it has decided enough, by time or by bytes.

use crate::ports::Clock;
use std::time::Duration;

/// Records between two looks at the clock, at most. A batch that has just begun looks sooner.
const LOOK: usize = 50;

/// The measure of one batch. Its other records wait for the next one: a transaction must end long before the database
/// ends it, and its outbox is one statement.
pub(crate) struct Enough<'a> {
    clock: &'a dyn Clock,
    until: Duration,
    bytes_left: usize,
    step: usize,
    look_in: usize,
}

impl<'a> Enough<'a> {
    /// The measure that ends after `within` from now, or once the outbox's rows have `bytes`.
    pub(crate) fn new(clock: &'a dyn Clock, within: Duration, bytes: usize) -> Self {
        Self { clock, until: clock.elapsed() + within, bytes_left: bytes, step: 1, look_in: 1 }
    }

    /// The time now, on the monotonic clock.
    pub(crate) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Looks at the clock with the next record, which may have taken long.
    pub(crate) const fn look(&mut self) {
        self.look_in = 1;
    }

    /// Whether the batch has enough with one more record, which has `bytes` for the outbox.
    pub(crate) fn with(&mut self, bytes: usize) -> bool {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.look_in = self.look_in.saturating_sub(1);
        if self.look_in > 0 {
            return self.bytes_left == 0;
        }
        self.step = (2 * self.step).min(LOOK);
        self.look_in = self.step;
        self.bytes_left == 0 || self.clock.elapsed() >= self.until
    }
}
