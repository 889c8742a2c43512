//! The readings of a device, minute by minute: the base of its roll-ups.

use crate::flow::rollup::bytes::{Damaged, Reader, write_number, write_unsigned};
use crate::flow::rollup::{Bucket, Metric, Point, Reading, Unmergeable};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// A minute, in milliseconds.
pub(super) const MINUTE_MS: i64 = 60_000;
/// A quarter of an hour, in milliseconds.
pub(super) const QUARTER_MS: i64 = 15 * MINUTE_MS;

/// An hour, in milliseconds.
pub(super) const HOUR_MS: i64 = 4 * QUARTER_MS;
/// A day, in milliseconds.
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// The readings of one device in one minute, in the order in which they came: what is there is not read to take one more, nor written
/// anew. Each one is the number of its metric, its milliseconds within the minute, and its value; the number that comes next has the
/// metric's name behind it, the first time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Minute(Vec<u8>);

/// The start of the span of so many milliseconds that a time falls into.
pub(super) const fn start_of(at_ms: i64, span_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(span_ms)
}

/// A reading of a minute: its metric's number, its time and value as they are kept, and both of them read.
struct Kept<'a> {
    metric: usize,
    bytes: &'a [u8],
    ms: u64,
    value: f64,
}

/// The readings of a minute, and the names of their metrics.
type Parts<'a> = (Vec<&'a str>, Vec<Kept<'a>>);

impl Minute {
    /// Takes readings of this minute, each once: one of the same metric, time and value may be there already. How many are new.
    ///
    /// # Errors
    /// If the bytes are none of ours.
    pub(super) fn take(&mut self, readings: &[Reading]) -> Result<usize, Damaged> {
        let mut added = Vec::new();
        let (names, kept) = self.parts()?;
        let mut new: Vec<&str> = Vec::new();
        let mut taken: Vec<(usize, Vec<u8>)> = Vec::new();
        for Reading { metric: name, point } in readings {
            let known = names.iter().copied().chain(new.iter().copied()).position(|known| known == name);
            let mut bytes = Vec::new();
            write_unsigned(&mut bytes, point.at_ms.rem_euclid(MINUTE_MS).unsigned_abs());
            write_number(&mut bytes, point.value);
            let number = known.unwrap_or(names.len() + new.len());
            let is_there = kept.iter().any(|kept| kept.metric == number && kept.bytes == bytes)
                || taken.iter().any(|(metric, own)| *metric == number && *own == bytes);
            if is_there {
                continue;
            }
            write_unsigned(&mut added, number as u64);
            if known.is_none() {
                write_unsigned(&mut added, name.len() as u64);
                added.extend_from_slice(name.as_bytes());
                new.push(name);
            }
            added.extend_from_slice(&bytes);
            taken.push((number, bytes));
        }
        self.0.extend_from_slice(&added);
        Ok(taken.len())
    }

    fn parts(&self) -> Result<Parts<'_>, Damaged> {
        let mut from = Reader::new(&self.0);
        let (mut names, mut kept) = (Vec::new(), Vec::new());
        while !from.is_empty() {
            let metric = usize::try_from(from.unsigned()?).map_err(|_| Damaged)?;
            if metric == names.len() {
                let length = usize::try_from(from.unsigned()?).map_err(|_| Damaged)?;
                names.push(std::str::from_utf8(from.slice(length)?).map_err(|_| Damaged)?);
            }
            let before = from.clone();
            let (ms, value) = (from.unsigned()?, from.number()?);
            if metric >= names.len() || ms >= MINUTE_MS.unsigned_abs() {
                return Err(Damaged);
            }
            kept.push(Kept { metric, bytes: before.until(&from), ms, value });
        }
        Ok((names, kept))
    }

    /// The readings by metric, in the order of time and value. `start_ms`: the minute's.
    fn readings(&self, start_ms: i64) -> Result<BTreeMap<&str, Vec<Point>>, Damaged> {
        let (names, kept) = self.parts()?;
        let mut all: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
        for Kept { metric, ms, value, .. } in kept {
            let name = names.get(metric).copied().ok_or(Damaged)?;
            all.entry(name).or_default().push(Point { at_ms: start_ms.saturating_add_unsigned(ms), value });
        }
        for points in all.values_mut() {
            points.sort_by(|one, other| one.at_ms.cmp(&other.at_ms).then(one.value.total_cmp(&other.value)));
        }
        Ok(all)
    }
}

/// Why the readings of some minutes have no buckets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Unfit {
    Damaged(Damaged),
    Unmergeable(Unmergeable),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(error) => error.fmt(f),
            Self::Unmergeable(error) => error.fmt(f),
        }
    }
}

/// The buckets of some minutes of a device, by metric. Minutes are given in the order of time; a metric that `metric` does not know is
/// left out.
pub(super) fn rolled_up<'a>(
    minutes: impl IntoIterator<Item = (i64, &'a Minute)>,
    metric: impl Fn(&str) -> Option<Metric>,
) -> Result<BTreeMap<String, Bucket>, Unfit> {
    let mut all: BTreeMap<String, Bucket> = BTreeMap::new();
    for (start_ms, minute) in minutes {
        for (name, points) in minute.readings(start_ms).map_err(Unfit::Damaged)? {
            let Some(metric) = metric(name) else { continue };
            // A reading that was taken may be none of its metric's any more.
            let buckets = points.into_iter().filter_map(|point| metric.bucket(point).ok());
            let merge = |one: Bucket, next: Bucket| metric.merge(&one, &next).map_err(Unfit::Unmergeable);
            let mut of_minute: Option<Bucket> = None;
            for next in buckets {
                of_minute = Some(match of_minute {
                    Some(one) => merge(one, next)?,
                    None => next,
                });
            }
            let Some(of_minute) = of_minute else { continue };
            let merged = match all.remove(name) {
                Some(one) => merge(one, of_minute)?,
                None => of_minute,
            };
            all.insert(name.to_owned(), merged);
        }
    }
    Ok(all)
}

impl Serialize for Minute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Minute;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the readings of a minute, in base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Minute, E> {
                STANDARD.decode(text).map(Minute).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(metric: &str, ms: i64, value: f64) -> Reading {
        Reading { metric: metric.into(), point: Point { at_ms: 7 * MINUTE_MS + ms, value } }
    }

    proptest! {
        #[test]
        fn readings_are_kept_once_by_metric_in_the_order_of_time(
            drawn in prop::collection::vec((0_usize..4, 0_i64..60_000, -50_i32..50), 0..60),
            cut in 0_usize..60,
        ) {
            let names = ["power", "energy", "", "größe"];
            let given: Vec<Reading> =
                drawn.iter().map(|(name, ms, value)| reading(names[*name], *ms % 50, f64::from(*value) / 10.0)).collect();
            let (front, rest) = given.split_at(cut.min(given.len()));
            let mut minute = Minute::default();
            minute.take(front).unwrap();
            let minute: Minute = serde_json::from_str(&serde_json::to_string(&minute).unwrap()).unwrap();
            let mut whole = minute.clone();
            whole.take(rest).unwrap();
            prop_assert_eq!(whole.clone().take(&given), Ok(0), "all of them are there");
            let mut due: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
            for Reading { metric, point } in &given {
                let points = due.entry(metric).or_default();
                if !points.contains(point) {
                    points.push(*point);
                }
            }
            for points in due.values_mut() {
                points.sort_by(|one, other| one.at_ms.cmp(&other.at_ms).then(one.value.total_cmp(&other.value)));
            }
            prop_assert_eq!(whole.readings(7 * MINUTE_MS), Ok(due));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Minute(bytes).readings(0);
        }
    }

    #[test]
    fn twelve_readings_of_ten_metrics_take_less_than_a_kilobyte() {
        let mut minute = Minute::default();
        for n in 0..12 {
            let readings: Vec<Reading> = (0..10)
                .map(|metric| reading(&format!("metric-{metric}"), n * 5_000, f64::from(metric) * 23.5))
                .collect();
            minute.take(&readings).unwrap();
        }
        assert!(minute.0.len() < 1_000, "{}", minute.0.len());
    }
}
