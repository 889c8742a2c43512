//! What a roll-up has done since the process began: for whoever looks after it. Nothing is decided by it, and nothing of it is kept.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a roll-up has done since the process began. What is decided once more behind a failure counts once more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Readings that were taken.
    pub readings: u64,
    /// Readings that were there already.
    pub repeated: u64,
    /// Of those that were taken, readings that came when the minutes of their quarter were forgotten.
    pub late: u64,
    /// Quarters of an hour that were written into the table.
    pub quarters: u64,
    /// Of these, quarters that had been written before.
    pub quarters_again: u64,
    /// Requests with readings that were told to come again, since too much was under way.
    pub refused: u64,
}

/// The same, which several threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    readings: AtomicU64,
    repeated: AtomicU64,
    late: AtomicU64,
    quarters: AtomicU64,
    quarters_again: AtomicU64,
    refused: AtomicU64,
}

impl Counted {
    pub(super) fn add(&self, counts: Counts) {
        let Counts { readings, repeated, late, quarters, quarters_again, refused } = counts;
        let all = [
            (&self.readings, readings),
            (&self.repeated, repeated),
            (&self.late, late),
            (&self.quarters, quarters),
            (&self.quarters_again, quarters_again),
            (&self.refused, refused),
        ];
        for (count, n) in all.into_iter().filter(|(_, n)| *n > 0) {
            count.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            readings: of(&self.readings),
            repeated: of(&self.repeated),
            late: of(&self.late),
            quarters: of(&self.quarters),
            quarters_again: of(&self.quarters_again),
            refused: of(&self.refused),
        }
    }
}
