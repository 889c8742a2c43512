//! Graphs of a metric: the columns of a span, made of the buckets of one tier.

use crate::flow::rollup::minute::start_of;
use crate::flow::rollup::{Bucket, Covered, Metric, Point, Tier, Unmergeable};
use std::collections::BTreeMap;

/// The tier that a graph is made of, and the width of its columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The coarsest tier of which no column has less than one bucket; the finest one where each has.
    pub tier: Tier,
    /// A multiple of the tier's buckets, in milliseconds.
    pub column_ms: i64,
}

/// A column of a graph.
#[derive(Clone, PartialEq, Debug)]
pub struct Column {
    /// Its start, in milliseconds since 1970, UTC.
    pub start_ms: i64,
    /// Its end.
    pub end_ms: i64,
    /// What was read in it; nothing where nothing was.
    pub bucket: Option<Bucket>,
    /// What a gauge was in it; also where nothing was read, as long as the reading in front of it holds. `None` for other kinds.
    pub over: Option<Covered>,
}

impl Plan {
    /// For a span that is to have `points` columns at most, of which there are two at least.
    #[must_use]
    pub fn of(span_ms: (i64, i64), points: u32) -> Self {
        let finest = Self::in_tier(Tier::Quarters, span_ms, points);
        let fits = |tier: &Tier| tier.bucket_ms() <= finest.column_ms;
        let tier = Tier::ALL.into_iter().rev().find(fits).unwrap_or(Tier::Quarters);
        Self::in_tier(tier, span_ms, points)
    }

    /// The same, of a tier that is given.
    #[must_use]
    pub fn in_tier(tier: Tier, span_ms: (i64, i64), points: u32) -> Self {
        let (bucket_ms, points) = (tier.bucket_ms(), i64::from(points.max(2)));
        let length = span_ms.1.saturating_sub(span_ms.0).max(0);
        let mut each = (length / bucket_ms / points).max(1);
        // A span that begins within a column has a part of one more.
        while Self::count(each * bucket_ms, span_ms) > points {
            each += 1;
        }
        Self { tier, column_ms: each * bucket_ms }
    }

    const fn count(column_ms: i64, (from_ms, to_ms): (i64, i64)) -> i64 {
        let length = to_ms.saturating_sub(start_of(from_ms, column_ms));
        length.saturating_add(column_ms - 1).div_euclid(column_ms)
    }

    /// The edges of the columns of a span: multiples of their width.
    #[must_use]
    pub fn edges(&self, (from_ms, to_ms): (i64, i64)) -> Vec<i64> {
        let first = start_of(from_ms, self.column_ms);
        let mut edges = vec![first];
        let mut next = first;
        while next < to_ms {
            next = next.saturating_add(self.column_ms);
            edges.push(next);
        }
        edges
    }
}

impl Metric {
    /// The columns between edges, which lie at the edges of buckets. `buckets`: by their starts, in milliseconds since 1970, UTC; those
    /// in front of the first edge and behind the last one say what was in between. `now_ms`: what is later is not known.
    ///
    /// # Errors
    /// If the buckets are none of this metric.
    pub fn columns(
        &self,
        edges: &[i64],
        buckets: &BTreeMap<i64, Bucket>,
        now_ms: i64,
    ) -> Result<Vec<Column>, Unmergeable> {
        let mut columns = Vec::with_capacity(edges.len());
        for (start_ms, end_ms) in edges.iter().copied().zip(edges.iter().skip(1).copied()) {
            let mut bucket: Option<Bucket> = None;
            for (_, next) in buckets.range(start_ms..end_ms.max(start_ms)) {
                bucket = Some(match bucket {
                    Some(one) => self.overlay(&one, next)?,
                    None => next.clone(),
                });
            }
            let before = buckets.range(..start_ms).next_back().map(|(_, bucket)| bucket.last);
            let after = buckets.range(end_ms..).next().map(|(_, bucket)| bucket.first);
            let neighbours: (Option<Point>, Option<Point>) = (before, after);
            let over = self.over((start_ms, end_ms), bucket.as_ref(), neighbours, now_ms);
            columns.push(Column { start_ms, end_ms, bucket, over });
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::rollup::{Between, Kind};
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;

    #[test]
    fn a_week_has_quarters_a_month_and_a_year_hours_and_ten_years_days() {
        let tier = |days: i64, points| Plan::of((0, days * DAY_MS), points).tier;
        assert_eq!(
            [tier(1, 800), tier(7, 800), tier(31, 800), tier(365, 800), tier(3650, 800), tier(365, 300)],
            [Tier::Quarters, Tier::Quarters, Tier::Hours, Tier::Hours, Tier::Days, Tier::Days]
        );
    }

    proptest! {
        #[test]
        fn there_are_no_more_columns_than_were_asked_for(
            from in 0_i64..4_000_000_000_000,
            span in 1_i64..400 * DAY_MS,
            points in 2_u32..2_000,
        ) {
            let plan = Plan::of((from, from + span), points);
            let edges = plan.edges((from, from + span));
            prop_assert!(edges.len() - 1 <= points as usize, "{} of {points}: {plan:?}", edges.len() - 1);
            prop_assert!(edges[0] <= from && *edges.last().unwrap() >= from + span);
        }
    }

    /// Sentence 7: a year at 800 points keeps the smallest and the largest value.
    #[test]
    fn a_year_has_the_smallest_and_the_largest_value_of_all_readings() {
        let metric = Metric::new(Kind::Gauge(Between::Step));
        let mut buckets = BTreeMap::new();
        let value = |hour: i64| f64::from(i32::try_from((hour * 7_919) % 10_007).unwrap());
        for hour in 0..365 * 24 {
            let point = Point { at_ms: hour * HOUR_MS + 1, value: value(hour) };
            buckets.insert(hour * HOUR_MS, metric.bucket(point).unwrap());
        }
        let plan = Plan::of((0, 365 * DAY_MS), 800);
        let columns = metric.columns(&plan.edges((0, 365 * DAY_MS)), &buckets, i64::MAX).unwrap();
        assert!(columns.len() <= 800);
        let told = || columns.iter().filter_map(|column| column.bucket.as_ref());
        let all = || (0..365 * 24).map(value);
        assert_eq!(told().map(|bucket| bucket.min).reduce(f64::min), all().reduce(f64::min));
        assert_eq!(told().map(|bucket| bucket.max).reduce(f64::max), all().reduce(f64::max));
        assert_eq!(told().map(|bucket| bucket.n).sum::<u64>(), 365 * 24);
    }

    #[test]
    fn a_column_without_a_reading_has_the_value_in_front_as_long_as_it_holds() {
        let metric = Metric::new(Kind::Gauge(Between::Step));
        let bucket = metric.bucket(Point { at_ms: 0, value: 5.0 }).unwrap();
        let edges: Vec<i64> = (0..=8).map(|n| n * HOUR_MS / 4).collect();
        let columns = metric.columns(&edges, &[(0, bucket)].into(), i64::MAX).unwrap();
        let means: Vec<Option<f64>> = columns.iter().map(|column| column.over.and_then(|over| over.mean())).collect();
        assert_eq!(means, [Some(5.0), Some(5.0), Some(5.0), Some(5.0), None, None, None, None]);
    }
}
