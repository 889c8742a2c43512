//! When a line about one thing is due again: after pauses that double.

use std::time::Duration;

/// The pause after the first line about one thing. Each further one doubles it, up to the longest; what was
/// quiet for a whole pause begins again.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// When one thing was told, and how many of it.
#[derive(Debug)]
pub(crate) struct Telling {
    told: u64,
    next: Duration,
    pause: Duration,
}

impl Default for Telling {
    fn default() -> Self {
        Self { told: 0, next: Duration::ZERO, pause: FIRST_PAUSE }
    }
}

impl Telling {
    /// The number of new ones, where it is to be told now.
    pub(crate) fn due(&mut self, count: u64, now: Duration) -> Option<u64> {
        if count == self.told || now < self.next {
            return None;
        }
        if now >= self.next + self.pause {
            self.pause = FIRST_PAUSE; // quiet for long
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.rest(count)
    }

    /// Whether something that still stands is to be told now.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        self.due(self.told + 1, now).is_some()
    }

    /// Whether it was not told for so long that it would begin again.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        now >= self.next + self.pause
    }

    /// The number of new ones, if any.
    pub(crate) fn rest(&mut self, count: u64) -> Option<u64> {
        let new = count.checked_sub(self.told).filter(|new| *new > 0)?;
        self.told = count;
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_told_at_the_first_then_after_pauses_that_double() {
        let mut telling = Telling::default();
        let mut at = |seconds, count| telling.due(count, Duration::from_secs(seconds));
        assert_eq!(at(0, 1), Some(1), "the first at once");
        assert_eq!([at(1, 500), at(9, 900)], [None, None]);
        assert_eq!(at(10, 1_000), Some(999));
        assert_eq!([at(20, 2_000), at(29, 3_000), at(30, 4_000)], [None, None, Some(3_000)]);
        assert_eq!([at(69, 5_000), at(70, 6_000)], [None, Some(2_000)]);
        assert_eq!(at(1_000, 6_000), None, "nothing new");
        assert_eq!(at(1_001, 6_001), Some(1), "at once after a long silence");
        assert_eq!([at(1_010, 6_002), at(1_011, 6_002)], [None, Some(1)], "and the pauses begin again");
        assert_eq!([telling.rest(6_010), telling.rest(6_010)], [Some(8), None]);
    }

    #[test]
    fn a_day_of_dead_letters_a_thousand_a_second_makes_some_thirty_lines() {
        let mut telling = Telling::default();
        let lines = (0..86_400_u64).filter_map(|second| telling.due((second + 1) * 1_000, Duration::from_secs(second)));
        assert!((25..40).contains(&lines.count()));
    }

    #[test]
    fn what_stands_is_told_again_after_pauses_that_double() {
        let mut telling = Telling::default();
        let told: Vec<u64> = (0..100).filter(|second| telling.is_due(Duration::from_secs(*second))).collect();
        assert_eq!(told, [0, 10, 30, 70]);
    }
}
