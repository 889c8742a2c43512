//! The timers that have fired in a batch: where it fails, one of them may be the cause.

use crate::flow::timer::Timer;
use std::time::Duration;

/// The timers that have fired in a batch, among which the cause of its failure may be.
#[derive(Default)]
pub(crate) struct Fired {
    pub(crate) count: usize,
    pub(crate) last: Option<Timer>,
    /// Those that the database could not read the row of.
    pub(crate) unread: Vec<Timer>,
    /// How many might have fired.
    pub(crate) foreseen: usize,
    /// The longest time without a statement until the last record was decided, before its timers fired.
    pub(crate) own: Duration,
    /// The one whose run took longest.
    pub(crate) slowest: Option<(Duration, Timer)>,
}

impl Fired {
    /// Whether timers have, or might have, a part in a failure.
    pub(super) const fn is_any(&self) -> bool {
        self.count > 0 || self.foreseen > 0
    }

    /// Notes one that has fired.
    pub(super) fn note(&mut self, timer: &Timer, took: Duration) {
        self.count += 1;
        self.last = Some(timer.clone());
        if self.slowest.as_ref().is_none_or(|(longest, _)| *longest < took) {
            self.slowest = Some((took, timer.clone()));
        }
    }
}
