//! The ages of records at the time when their messages are published.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A histogram of durations: buckets that grow by a tenth, from 0.1 ms to about 24 min.
#[derive(Debug)]
pub struct Ages {
    buckets: Vec<AtomicU64>,
}

const SMALLEST_MS: f64 = 0.1;

const GROWTH: f64 = 1.1;

const BUCKETS: usize = 174;

impl Default for Ages {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Ages {
    /// Adds one duration.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bucket number, clamped below")]
    pub fn add(&self, age: Duration) {
        let ms = age.as_secs_f64() * 1e3;
        let bucket = if ms <= SMALLEST_MS { 0 } else { ((ms / SMALLEST_MS).ln() / GROWTH.ln()).ceil() as usize };
        if let Some(bucket) = self.buckets.get(bucket.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The duration in ms that the share `quantile` (0 to 1) of all durations does not exceed, to within a tenth; `None`
    /// while there are none. Durations counted before `since` was taken are left out.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank")]
    pub fn quantile_ms(&self, quantile: f64, since: Option<&[u64]>) -> Option<f64> {
        let counts: Vec<u64> = self
            .snapshot()
            .iter()
            .enumerate()
            .map(|(index, count)| count - since.and_then(|since| since.get(index)).copied().unwrap_or(0))
            .collect();
        let total: u64 = counts.iter().sum();
        let rank = (total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            if total > 0 && seen >= rank {
                return Some(SMALLEST_MS * GROWTH.powi(i32::try_from(index).unwrap_or(0)));
            }
        }
        None
    }

    /// The buckets' counts, to measure from here on.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_true_to_a_tenth_and_can_start_anew() {
        let ages = Ages::default();
        assert_eq!(ages.quantile_ms(0.5, None), None);
        for ms in 1..=100 {
            ages.add(Duration::from_millis(ms));
        }
        let p50 = ages.quantile_ms(0.5, None).unwrap();
        let p99 = ages.quantile_ms(0.99, None).unwrap();
        assert!((50.0..56.0).contains(&p50), "{p50}");
        assert!((99.0..110.0).contains(&p99), "{p99}");
        let mark = ages.snapshot();
        ages.add(Duration::from_millis(500));
        assert!(ages.quantile_ms(0.5, Some(&mark)).unwrap() > 490.0);
    }

    #[test]
    fn the_longest_age_is_counted_too() {
        let ages = Ages::default();
        ages.add(Duration::from_hours(24));
        assert!(ages.quantile_ms(0.5, None).unwrap() > 1_000_000.0);
    }
}
