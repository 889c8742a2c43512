//! A line a second.

use crate::app::failure::Failure;
use crate::engine::status::{Counter, Status};
use crate::flow::record::Timestamp;
use std::io::Write;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Writes what happened, every second.
pub(super) struct Ticker {
    next: Duration,
    ages: Vec<u64>,
}

impl Ticker {
    pub(super) fn new(start: Duration, status: &Status) -> Self {
        Self { next: start + SECOND, ages: status.age_at_publication.snapshot() }
    }

    /// Writes a line if a second has passed: sums since the start, ages of the last second.
    pub(super) fn tick(
        &mut self,
        now: Timestamp,
        elapsed: Duration,
        fed: u64,
        status: &Status,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        if elapsed < self.next {
            return Ok(());
        }
        self.next += SECOND;
        let ages = &status.age_at_publication;
        let age = |quantile| match ages.quantile_ms(quantile, Some(&self.ages)) {
            Some(ms) => format!("{ms:.0} ms"),
            None => "-".into(),
        };
        let (p50, p99) = (age(0.5), age(0.99));
        let (records, announced) = (status.value(Counter::Records), status.value(Counter::Announced));
        writeln!(
            out,
            "  {}  in {}   rows updated {}   notified {} ({})   p50 {p50}  p99 {p99}",
            time_of_day(now),
            grouped(fed),
            grouped(status.value(Counter::RowChanges)),
            grouped(announced),
            share(announced, records),
        )?;
        out.flush()?;
        self.ages = ages.snapshot();
        Ok(())
    }
}

/// `part` of `whole` in per cent.
#[expect(clippy::cast_precision_loss, reason = "a percentage of one decimal")]
fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// The time of day in UTC: `12:00:07`.
pub(super) fn time_of_day(at: Timestamp) -> String {
    let seconds = at.0.div_euclid(1000).rem_euclid(24 * 3600);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A number with its thousands apart: `3,918`.
pub(super) fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        let texts = [0_u64, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(time_of_day(Timestamp(1_767_225_600_000 + 43_207_999)), "12:00:07");
        assert_eq!((share(702, 3_500).as_str(), share(0, 0).as_str()), ("20.1 %", "-"));
    }

    #[test]
    fn a_line_comes_once_a_second() {
        let status = Status::default();
        status.add(Counter::Records, 3_500);
        status.add(Counter::RowChanges, 3_500);
        status.add(Counter::Announced, 702);
        status.age_at_publication.add(Duration::from_millis(4));
        let mut ticker = Ticker { next: SECOND, ages: Vec::new() };
        let mut out = Vec::new();
        let now = Timestamp(1_767_225_600_000);
        for elapsed in [900, 1_000, 1_100, 2_000] {
            ticker.tick(now, Duration::from_millis(elapsed), 3_500, &status, &mut out).unwrap();
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  00:00:00  in 3,500   rows updated 3,500   notified 702 (20.1 %)   p50 4 ms  p99 4 ms\n  \
             00:00:00  in 3,500   rows updated 3,500   notified 702 (20.1 %)   p50 -  p99 -\n"
        );
    }
}
