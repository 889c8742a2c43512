//! The progress of a restore.

use std::time::Duration;

/// The progress of the restore of one store.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreStatus {
    /// The store.
    pub store: String,
    /// The changelog offset it began at.
    pub from: i64,
    /// The next one to read.
    pub position: i64,
    /// The one it ends before.
    pub end: i64,
    /// Records read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The time when it began, on the monotonic clock.
    pub began_at: Duration,
    /// Its duration so far.
    pub seconds: f64,
}

impl RestoreStatus {
    /// The share that is done, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub fn share(&self) -> f64 {
        let whole = (self.end - self.from).max(1) as f64;
        ((self.position - self.from) as f64 / whole).clamp(0.0, 1.0)
    }

    /// Seconds to go at the speed so far; `None` while nothing has been read.
    #[must_use]
    pub fn seconds_left(&self) -> Option<f64> {
        let share = self.share();
        (share > 0.0).then(|| self.seconds * (1.0 - share) / share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_tells_how_long_it_takes_at_the_speed_so_far() {
        let (store, began_at) = (String::new(), Duration::ZERO);
        let begun =
            RestoreStatus { store, from: 100, position: 100, end: 200, records: 0, bytes: 0, began_at, seconds: 6.0 };
        let at = |position| RestoreStatus { position, ..begun.clone() };
        let left = [100, 125, 150, 200].map(|position| at(position).seconds_left());
        assert_eq!(left, [None, Some(18.0), Some(6.0), Some(0.0)]);
    }
}
