//! The readings of a device, minute by minute: the base of its roll-ups.

use crate::flow::rollup::{Bucket, Metric, Point, Unmergeable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A minute, in milliseconds.
pub(super) const MINUTE_MS: i64 = 60_000;
/// A quarter of an hour, in milliseconds.
pub(super) const QUARTER_MS: i64 = 15 * MINUTE_MS;

/// An hour, in milliseconds.
pub(super) const HOUR_MS: i64 = 4 * QUARTER_MS;
/// A day, in milliseconds.
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// The readings of one device in one minute: by metric, in the order of time and value.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub(crate) struct Minute(BTreeMap<String, Vec<(u16, f64)>>);

/// The start of the span of so many milliseconds that a time falls into.
pub(super) const fn start_of(at_ms: i64, span_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(span_ms)
}

impl Minute {
    /// Takes a reading. Whether it is a new one: one of the same time and value is there already.
    pub(super) fn take(&mut self, metric: &str, Point { at_ms, value }: Point) -> bool {
        let ms = u16::try_from(at_ms.rem_euclid(MINUTE_MS)).unwrap_or_default();
        let readings = match self.0.get_mut(metric) {
            Some(readings) => readings,
            None => self.0.entry(metric.to_owned()).or_default(),
        };
        let order = |(at, own): &(u16, f64)| at.cmp(&ms).then(own.total_cmp(&value));
        match readings.binary_search_by(order) {
            Ok(_) => false,
            Err(place) => {
                readings.insert(place, (ms, value));
                true
            }
        }
    }

    /// The readings by metric. `start_ms`: the minute's.
    pub(super) fn readings(&self, start_ms: i64) -> impl Iterator<Item = (&str, impl Iterator<Item = Point>)> {
        self.0.iter().map(move |(metric, readings)| {
            let point = move |(ms, value): &(u16, f64)| Point { at_ms: start_ms + i64::from(*ms), value: *value };
            (metric.as_str(), readings.iter().map(point))
        })
    }
}

/// The buckets of some minutes of a device, by metric. Minutes are given in the order of time; a metric that `metric` does not know is
/// left out.
pub(super) fn rolled_up<'a>(
    minutes: impl IntoIterator<Item = (i64, &'a Minute)>,
    metric: impl Fn(&str) -> Option<Metric>,
) -> Result<BTreeMap<String, Bucket>, Unmergeable> {
    let mut all: BTreeMap<String, Bucket> = BTreeMap::new();
    for (start_ms, minute) in minutes {
        for (name, points) in minute.readings(start_ms) {
            let Some(metric) = metric(name) else { continue };
            let mut of_minute: Option<Bucket> = None;
            // A reading that was taken may be none of its metric's any more.
            for next in points.filter_map(|point| metric.bucket(point).ok()) {
                of_minute = Some(match of_minute {
                    Some(one) => metric.merge(&one, &next)?,
                    None => next,
                });
            }
            let Some(of_minute) = of_minute else { continue };
            let merged = match all.get(name) {
                Some(one) => metric.merge(one, &of_minute)?,
                None => of_minute,
            };
            all.insert(name.to_owned(), merged);
        }
    }
    Ok(all)
}
