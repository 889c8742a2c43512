//! One metric of a device: how its readings become a bucket, and two buckets one.

use crate::flow::rollup::{Between, Bucket, Kind, Measure, Mismatch, Point, Rise, Sketch, States};
use std::fmt;
use std::time::Duration;

/// The highest state.
const STATE_MAX: f64 = 15.0;

/// A metric: its kind, how long it may be silent, and whether its quantiles are told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Metric {
    kind: Kind,
    silence_ms: i64,
    around: Option<f64>,
}

/// Why a reading cannot be taken.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum BadReading {
    /// It is no number, or none that is finite.
    NotFinite(f64),
    /// It is no state.
    NoState(f64),
}

impl fmt::Display for BadReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite(value) => write!(f, "{value} is no finite number"),
            Self::NoState(value) => write!(f, "{value} is no state: a whole number from 0 to {STATE_MAX}"),
        }
    }
}

impl std::error::Error for BadReading {}

/// Why two buckets are not one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Unmergeable {
    /// The second one begins in front of the first one's end: time at which it begins, and at which the first one ends.
    OutOfOrder(i64, i64),
    /// They are of different kinds: the metric has become another one.
    OfAnotherKind,
    /// Their sketches lie around different values.
    Around(Mismatch),
}

impl fmt::Display for Unmergeable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder(begins, ends) => {
                write!(f, "a bucket that begins at {begins} is not behind one that ends at {ends}")
            }
            Self::OfAnotherKind => f.write_str("buckets of different kinds are of different metrics"),
            Self::Around(mismatch) => mismatch.fmt(f),
        }
    }
}

impl std::error::Error for Unmergeable {}

impl Metric {
    /// A metric that is known between two readings which are an hour apart at most.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self { kind, silence_ms: 3_600_000, around: None }
    }

    /// The longest time between two readings of which it is known what the metric did in between. What is longer is a gap.
    #[must_use]
    pub fn silence(mut self, time: Duration) -> Self {
        self.silence_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self
    }

    /// Keeps a sketch of the values, so that quantiles are told: 20 to 40 bytes an hour for most meters.
    #[must_use]
    pub const fn quantiles(self) -> Self {
        self.quantiles_around(0.0)
    }

    /// The same for values that lie close to `around`, which must be finite, as a voltage to 240.
    #[must_use]
    pub const fn quantiles_around(mut self, around: f64) -> Self {
        self.around = Some(around);
        self
    }

    /// The bucket of one reading.
    ///
    /// # Errors
    /// If its value is none that such a metric has.
    pub fn bucket(&self, point: Point) -> Result<Bucket, BadReading> {
        let value = point.value;
        if !value.is_finite() {
            return Err(BadReading::NotFinite(value));
        }
        let measure = match self.kind {
            Kind::Gauge(_) => Measure::Gauge { integral: 0.0 },
            Kind::Counter { .. } => Measure::Counter(Rise::default()),
            Kind::State if value.fract() != 0.0 || !(0.0..=STATE_MAX).contains(&value) => {
                return Err(BadReading::NoState(value));
            }
            Kind::State => Measure::State(States::default()),
            Kind::Event => Measure::Event,
        };
        let sketch = self.around.map(|around| {
            let mut sketch = Sketch::around(around);
            sketch.add(value);
            sketch
        });
        Ok(Bucket {
            n: 1,
            sum: value,
            min: value,
            max: value,
            first: point,
            last: point,
            covered_ms: 0,
            measure,
            sketch,
        })
    }

    /// The bucket of two, of which `next` begins where `one` ends, or later.
    ///
    /// # Errors
    /// If it begins earlier, or they are not of this metric.
    pub fn merge(&self, one: &Bucket, next: &Bucket) -> Result<Bucket, Unmergeable> {
        let (last, first) = (one.last, next.first);
        if first.at_ms < last.at_ms {
            return Err(Unmergeable::OutOfOrder(first.at_ms, last.at_ms));
        }
        let bridged_ms = self.bridged(last, first);
        let measure = match (&one.measure, &next.measure, self.kind) {
            (Measure::Gauge { integral }, Measure::Gauge { integral: more }, Kind::Gauge(between)) => {
                Measure::Gauge { integral: integral + area(between, last, first, bridged_ms) + more }
            }
            (Measure::Counter(one), Measure::Counter(next), Kind::Counter { outage }) => {
                let outage_ms = i64::try_from(outage.as_millis()).unwrap_or(i64::MAX);
                Measure::Counter(one.merge(next, (last, first), outage_ms))
            }
            (Measure::State(one), Measure::State(next), Kind::State) => {
                Measure::State(one.merge(next, (state(last), state(first)), bridged_ms))
            }
            (Measure::Event, Measure::Event, Kind::Event) => Measure::Event,
            _ => return Err(Unmergeable::OfAnotherKind),
        };
        let counts = counts(one, next)?;
        let covered_ms = one.covered_ms.saturating_add(bridged_ms).saturating_add(next.covered_ms);
        Ok(Bucket { first: one.first, last: next.last, covered_ms, measure, ..counts })
    }

    /// The bucket of two, whichever lies in front. Where one begins before the other one ends, its readings between the other's first
    /// and last are counted, and are told by smallest, largest and sum; what depends on their place among these is not known: areas,
    /// rises and times of states stay those of `one`, reaching on to the ends of `other`.
    ///
    /// # Errors
    /// If they are not of this metric.
    pub fn overlay(&self, one: &Bucket, other: &Bucket) -> Result<Bucket, Unmergeable> {
        if one.last.at_ms <= other.first.at_ms {
            return self.merge(one, other);
        }
        if other.last.at_ms <= one.first.at_ms {
            return self.merge(other, one);
        }
        let counts = counts(one, other)?;
        let mut all = one.clone();
        all.sketch = None;
        let alone = |point: Point| Some(Bucket { sketch: None, ..self.bucket(point).ok()? });
        if let Some(first) = alone(other.first).filter(|first| first.first.at_ms < all.first.at_ms) {
            all = self.merge(&first, &all)?;
        }
        if let Some(last) = alone(other.last).filter(|last| last.last.at_ms > all.last.at_ms) {
            all = self.merge(&all, &last)?;
        }
        let Bucket { first, last, covered_ms, measure, .. } = all;
        Ok(Bucket { first, last, covered_ms, measure, ..counts })
    }

    /// Whether a bucket is one of this metric's kind.
    #[must_use]
    pub const fn is_of(&self, bucket: &Bucket) -> bool {
        matches!(
            (&bucket.measure, self.kind),
            (Measure::Gauge { .. }, Kind::Gauge(_))
                | (Measure::Counter(_), Kind::Counter { .. })
                | (Measure::State(_), Kind::State)
                | (Measure::Event, Kind::Event)
        )
    }

    /// What a gauge was over a span: value by time, and the time for which it is known. `before` and `after` are its neighbours, the last
    /// reading in front of the span and the first one behind it; where there is none behind it, a value holds as long as a metric may
    /// be silent, and not beyond `now_ms`. `None` for other kinds.
    #[must_use]
    pub fn over(
        &self,
        (from_ms, to_ms): (i64, i64),
        bucket: Option<&Bucket>,
        (before, after): (Option<Point>, Option<Point>),
        now_ms: i64,
    ) -> Option<Covered> {
        let Kind::Gauge(between) = self.kind else { return None };
        let mut all = Covered::default();
        if let Some(Bucket { covered_ms, measure: Measure::Gauge { integral }, .. }) = bucket {
            all = Covered { integral: *integral, covered_ms: *covered_ms };
        }
        let (first, last) = (bucket.map(|bucket| bucket.first), bucket.map(|bucket| bucket.last));
        if let Some((before, first)) = before.zip(first.or(after)) {
            all.add(self.part(between, (before, Some(first)), (from_ms, to_ms)));
        }
        if let Some(last) = last.or(before.filter(|_| after.is_none())) {
            let until = to_ms.min(now_ms);
            all.add(self.part(between, (last, after), (from_ms, if after.is_some() { to_ms } else { until })));
        }
        Some(all)
    }

    /// The part of the way from one reading to the next one that lies in a span.
    fn part(&self, between: Between, (one, next): (Point, Option<Point>), (from_ms, to_ms): (i64, i64)) -> Covered {
        let end_ms = match next {
            Some(next) if self.bridged(one, next) == 0 => return Covered::default(),
            Some(next) => next.at_ms,
            None => one.at_ms.saturating_add(self.silence_ms),
        };
        let (from, to) = (one.at_ms.max(from_ms), end_ms.min(to_ms));
        if from >= to {
            return Covered::default();
        }
        let at = |at_ms: i64| match (between, next) {
            (Between::Linear, Some(next)) if next.at_ms > one.at_ms => {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
                let part = (at_ms - one.at_ms) as f64 / (next.at_ms - one.at_ms) as f64;
                one.value + (next.value - one.value) * part
            }
            _ => one.value,
        };
        let [one, next] = [from, to].map(|at_ms| Point { at_ms, value: at(at_ms) });
        Covered { integral: area(between, one, next, to - from), covered_ms: to - from }
    }

    /// The time between two readings for which the metric is known.
    const fn bridged(&self, last: Point, first: Point) -> i64 {
        let ms = first.at_ms.saturating_sub(last.at_ms);
        if ms <= self.silence_ms { ms } else { 0 }
    }
}

/// What a gauge was over a span.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Covered {
    /// Value by time, in units times milliseconds.
    pub integral: f64,
    /// The time for which it is known.
    pub covered_ms: i64,
}

impl Covered {
    /// The mean over the time for which it is known.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
        (self.covered_ms > 0).then(|| self.integral / self.covered_ms as f64)
    }

    fn add(&mut self, other: Self) {
        self.integral += other.integral;
        self.covered_ms += other.covered_ms;
    }
}

/// What two buckets have together, whichever lies in front: the rest is that of `one`.
fn counts(one: &Bucket, other: &Bucket) -> Result<Bucket, Unmergeable> {
    let sketch = match (&one.sketch, &other.sketch) {
        (Some(one), Some(other)) => {
            let mut sketch = one.clone();
            sketch.merge(other).map_err(Unmergeable::Around)?;
            Some(sketch)
        }
        _ => None, // one of them was made before quantiles were asked for
    };
    Ok(Bucket {
        n: one.n.saturating_add(other.n),
        sum: one.sum + other.sum,
        min: one.min.min(other.min),
        max: one.max.max(other.max),
        sketch,
        measure: one.measure.clone(),
        ..*one
    })
}

/// The area below a gauge's curve between two readings.
fn area(between: Between, one: Point, next: Point, ms: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
    let ms = ms as f64;
    match between {
        Between::Step => one.value * ms,
        Between::Linear => f64::midpoint(one.value, next.value) * ms,
    }
}

fn state(point: Point) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a state is a whole number from 0 to 15"
    )]
    let state = point.value as u8;
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::rollup::bytes::Reader;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;
    const GAUGE: Metric = Metric::new(Kind::Gauge(Between::Step));

    fn of(metric: &Metric, points: &[(i64, f64)]) -> Bucket {
        let buckets =
            points.iter().map(|(at_ms, value)| metric.bucket(Point { at_ms: *at_ms, value: *value }).unwrap());
        buckets.reduce(|one, next| metric.merge(&one, &next).unwrap()).unwrap()
    }

    fn rise(points: &[f64]) -> Rise {
        let points: Vec<(i64, f64)> = (0..).map(|n| n * 60_000).zip(points.iter().copied()).collect();
        match of(&Metric::new(Kind::counter()), &points).measure {
            Measure::Counter(rise) => rise,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_day_of_which_23_hours_were_off_is_no_mean_of_its_readings() {
        let metric = GAUGE.silence(Duration::from_hours(24));
        let day = of(&metric, &[(0, 0.0), (23 * HOUR_MS, 100.0)]);
        let whole = metric.over((0, 24 * HOUR_MS), Some(&day), (None, None), 48 * HOUR_MS).unwrap();
        assert_eq!(whole.covered_ms, 24 * HOUR_MS);
        assert!((whole.mean().unwrap() - 4.1667).abs() < 0.001, "{whole:?}");
        let so_far = metric.over((0, 24 * HOUR_MS), Some(&day), (None, None), 23 * HOUR_MS).unwrap();
        assert_eq!(so_far.mean(), Some(0.0), "what is to come is not known");
    }

    #[test]
    fn a_span_without_a_reading_has_the_value_of_the_one_in_front_as_long_as_it_holds() {
        let before = Point { at_ms: 0, value: 7.0 };
        let over = |span| GAUGE.over(span, None, (Some(before), None), i64::MAX).unwrap();
        assert_eq!(over((HOUR_MS / 4, HOUR_MS / 2)).mean(), Some(7.0));
        assert_eq!(over((HOUR_MS / 2, 2 * HOUR_MS)).covered_ms, HOUR_MS / 2);
        assert_eq!(over((2 * HOUR_MS, 3 * HOUR_MS)).mean(), None);
        let after = Point { at_ms: HOUR_MS, value: 9.0 };
        let linear = Metric::new(Kind::Gauge(Between::Linear));
        let half = linear.over((HOUR_MS / 2, HOUR_MS), None, (Some(before), Some(after)), i64::MAX).unwrap();
        assert_eq!(half.mean(), Some(8.5));
    }

    #[test]
    fn a_gap_is_not_covered() {
        let bucket = of(&GAUGE, &[(0, 5.0), (60_000, 5.0), (2 * HOUR_MS, 5.0), (2 * HOUR_MS + 30_000, 5.0)]);
        assert_eq!((bucket.covered_ms, bucket.mean()), (90_000, Some(5.0)));
    }

    #[test]
    fn a_counter_rises_over_resets_and_a_glitch_counts_for_nothing() {
        let reset = rise(&[100.0, 110.0, 0.0, 5.0]);
        assert_eq!((reset.increase, reset.resets, reset.glitches), (15.0, 1, 0));
        let glitch = rise(&[100.0, 110.0, 0.0, 111.0]);
        assert_eq!((glitch.increase, glitch.resets, glitch.glitches), (11.0, 0, 1));
        let slow = rise(&[100.0, 110.0, 0.0, 60.0, 100.0, 111.0]);
        assert_eq!((slow.increase, slow.resets, slow.glitches), (121.0, 1, 0), "it came back step by step");
        let twice = rise(&[110.0, 0.0, 50.0, 2.0, 111.0]);
        assert_eq!((twice.increase, twice.resets, twice.glitches), (1.0, 0, 1));
    }

    #[test]
    fn a_state_is_told_by_the_time_that_it_held() {
        let metric = Metric::new(Kind::State);
        let bucket = of(&metric, &[(0, 1.0), (10, 1.0), (30, 2.0), (60, 1.0), (60 + 2 * HOUR_MS, 3.0)]);
        let Measure::State(states) = bucket.measure else { panic!() };
        assert_eq!((states.held_ms, states.changes), ([(1, 30), (2, 30)].into(), 3));
        assert_eq!(metric.bucket(Point { at_ms: 0, value: 1.5 }), Err(BadReading::NoState(1.5)));
    }

    #[test]
    fn what_is_no_reading_and_what_is_no_neighbour_is_refused() {
        assert!(GAUGE.bucket(Point { at_ms: 0, value: f64::NAN }).is_err());
        let (one, next) = (of(&GAUGE, &[(5, 1.0)]), of(&GAUGE, &[(4, 1.0)]));
        assert_eq!(GAUGE.merge(&one, &next), Err(Unmergeable::OutOfOrder(4, 5)));
        let counter = of(&Metric::new(Kind::counter()), &[(9, 1.0)]);
        assert_eq!(GAUGE.merge(&one, &counter), Err(Unmergeable::OfAnotherKind));
    }

    #[test]
    fn what_comes_late_is_counted_and_reaches_on_to_its_ends() {
        let metric = GAUGE.quantiles();
        let one = of(&metric, &[(10_000, 1.0), (20_000, 3.0)]);
        let late = of(&metric, &[(5_000, 7.0), (15_000, 2.0), (30_000, 5.0)]);
        let all = metric.overlay(&one, &late).unwrap();
        assert_eq!((all.n, all.sum, all.min, all.max), (5, 18.0, 1.0, 7.0));
        assert_eq!((all.first.at_ms, all.last.at_ms, all.covered_ms), (5_000, 30_000, 25_000));
        assert_eq!(all.measure, Measure::Gauge { integral: 7.0 * 5_000.0 + 1.0 * 10_000.0 + 3.0 * 10_000.0 });
        assert_eq!(all.sketch.as_ref().map(Sketch::count), Some(5));
        let behind = of(&metric, &[(40_000, 1.0)]);
        assert_eq!(metric.overlay(&behind, &one), metric.merge(&one, &behind));
    }

    fn kinds() -> impl Strategy<Value = Metric> {
        prop_oneof![
            Just(GAUGE),
            Just(Metric::new(Kind::Gauge(Between::Linear)).quantiles()),
            Just(Metric::new(Kind::counter())),
            Just(Metric::new(Kind::State)),
            Just(Metric::new(Kind::Event).quantiles_around(3.0)),
        ]
    }

    proptest! {
        /// Whole numbers, whose sums are exact: then all orders of merging tell the same.
        #[test]
        fn a_bucket_is_that_of_its_readings_however_they_were_merged(
            metric in kinds(),
            readings in prop::collection::vec((0_i64..400_000, 0_u8..16), 2..40),
            cuts in prop::collection::vec(0_usize..40, 0..6),
        ) {
            let mut at_ms = 0;
            let points: Vec<(i64, f64)> = readings.iter().map(|(ms, value)| {
                at_ms += ms;
                (at_ms, f64::from(*value))
            }).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| 1 + cut % (points.len() - 1)).collect();
            cuts.extend([0, points.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let parts: Vec<Bucket> = cuts.windows(2).map(|cut| of(&metric, &points[cut[0]..cut[1]])).collect();
            let whole = of(&metric, &points);
            let merged = parts.into_iter().reduce(|one, next| metric.merge(&one, &next).unwrap()).unwrap();
            prop_assert_eq!(merged.n, whole.n);
            if !matches!(metric.kind, Kind::Counter { .. }) {
                prop_assert_eq!(&merged, &whole);
            }
            let mut bytes = Vec::new();
            whole.write(&mut bytes, 1_000);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Bucket::read(&mut reader, 1_000), Ok(whole));
            prop_assert!(reader.is_empty());
        }
    }
}
