//! What a graph is asked for.

use crate::flow::rollup::{Plan, Tier};
use crate::http::calendar::{self, Every};
use crate::http::client::parameters;
use crate::http::refused::Refused;

/// Columns of a graph, unless the question says otherwise; and the most that may be asked for.
const POINTS: u32 = 800;
const POINTS_MAX: u32 = 5_000;
/// The longest span: a hundred years.
const SPAN_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// What a question may name.
pub(crate) const PARAMETERS: [&str; 11] =
    ["rollup", "device", "home", "room", "metric", "from", "to", "points", "aggregate", "zone", "format"];

/// Whose graph is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Of {
    /// A device's.
    Device(String),
    /// The sum of all devices of a home, of a room, or of a home's room.
    All { home: Option<String>, room: Option<String> },
}

/// A question for a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) rollup: Option<String>,
    pub(super) of: Of,
    pub(super) metric: String,
    pub(super) span_ms: (i64, i64),
    pub(super) points: u32,
    /// Whether the columns go by the calendar, and in which zone.
    pub(super) every: Option<(Every, String)>,
    pub(super) is_csv: bool,
}

impl Asked {
    /// Reads `name=value&…`. `now_ms`: the present time, from which relative ones are counted.
    pub(super) fn read(query: &str, now_ms: i64) -> Result<Self, Refused> {
        let mut found = parameters(query, &PARAMETERS).map_err(Refused::bad)?;
        let metric = found.remove("metric").ok_or_else(|| Refused::bad("metric: is missing"))?;
        let of = match (found.remove("device"), found.remove("home"), found.remove("room")) {
            (Some(device), None, None) => Of::Device(device),
            (None, home, room) if home.is_some() || room.is_some() => Of::All { home, room },
            (None, ..) => return Err(Refused::bad("device: is missing; or a home, a room, or both")),
            (Some(_), ..) => return Err(Refused::bad("device: is one, and not with a home or a room")),
        };
        let time = |name: &str, other: &str| {
            let text = found.get(name).map_or(other, String::as_str);
            instant(text, now_ms).ok_or_else(|| {
                Refused::bad(format!("{name}: expected milliseconds since 1970, a time as in 2026-11-30T08:00:00Z, now, or now-7d, and not {text:?}"))
            })
        };
        let span_ms = (time("from", "now-1d")?, time("to", "now")?);
        let length = span_ms.1.saturating_sub(span_ms.0);
        if !(1..=SPAN_MS_MAX).contains(&length) {
            return Err(Refused::bad("from is to lie before to, by a hundred years at most"));
        }
        let points = match found.get("points").map(|text| text.parse::<u32>()) {
            None => POINTS,
            Some(Ok(points)) if (2..=POINTS_MAX).contains(&points) => points,
            Some(_) => return Err(Refused::bad(format!("points: expected a whole number from 2 to {POINTS_MAX}"))),
        };
        let zone = found.remove("zone").filter(|zone| !zone.is_empty());
        if zone.as_deref().is_some_and(|zone| calendar::zone(zone).is_none()) {
            return Err(Refused::bad(format!("zone: expected a name as Europe/Berlin, and not {zone:?}")));
        }
        let every = match found.get("aggregate").map(String::as_str) {
            None | Some("auto") => None,
            Some(word) => {
                let every = Every::named(word).ok_or_else(|| {
                    Refused::bad(format!("aggregate: expected auto, day, week or month, and not {word:?}"))
                })?;
                Some((every, zone.unwrap_or_else(|| "UTC".into())))
            }
        };
        let is_csv = match found.get("format").map(String::as_str) {
            None | Some("json") => false,
            Some("csv") => true,
            Some(other) => return Err(Refused::bad(format!("format: expected json or csv, and not {other:?}"))),
        };
        Ok(Self { rollup: found.remove("rollup"), of, metric, span_ms, points, every, is_csv })
    }

    /// The edges of the columns that a tier's buckets make; by the calendar as near to its own as they lie.
    pub(super) fn edges(&self, tier: Tier) -> Result<Vec<i64>, Refused> {
        let Some((every, zone)) = &self.every else {
            return Ok(Plan::in_tier(tier, self.span_ms, self.points).edges(self.span_ms));
        };
        let mut edges = self.by_calendar(*every, zone)?;
        edges.iter_mut().for_each(|edge| *edge -= edge.rem_euclid(tier.bucket_ms()));
        edges.dedup();
        Ok(edges)
    }

    fn by_calendar(&self, every: Every, zone: &str) -> Result<Vec<i64>, Refused> {
        let zone = calendar::zone(zone).ok_or_else(|| Refused::bad("zone: unknown"))?;
        every.edges(self.span_ms, &zone, POINTS_MAX).ok_or_else(|| {
            Refused::bad(format!("aggregate: the span has more than {POINTS_MAX} of them; ask for a shorter one"))
        })
    }

    /// The coarsest tier that has a bucket for each column.
    pub(super) fn tier(&self) -> Result<Tier, Refused> {
        let Some((every, zone)) = &self.every else { return Ok(Plan::of(self.span_ms, self.points).tier) };
        let edges = self.by_calendar(*every, zone)?;
        let fits = |tier: &Tier| edges.iter().all(|edge| edge.rem_euclid(tier.bucket_ms()) == 0);
        Ok(Tier::ALL.into_iter().rev().find(fits).unwrap_or(Tier::Quarters))
    }
}

/// A time: milliseconds since 1970, a date and time, or `now` and so much before it.
fn instant(text: &str, now_ms: i64) -> Option<i64> {
    if let Some(back) = text.strip_prefix("now") {
        if back.is_empty() {
            return Some(now_ms);
        }
        let back = back.strip_prefix('-')?;
        let (number, unit) = back.split_at_checked(back.len().checked_sub(1)?)?;
        let unit_ms = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        return now_ms.checked_sub(number.parse::<u32>().ok().map(i64::from)?.checked_mul(unit_ms)?);
    }
    let of_date = || {
        let date = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        i64::try_from(date.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
    };
    text.parse().ok().or_else(of_date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn a_question_names_a_device_a_metric_and_a_span() {
        let read = |query: &str| Asked::read(query, 10 * DAY_MS);
        let asked = read("device=a%20b&metric=power&from=now-7d&to=1970-01-10T00:00:00Z&points=5").unwrap();
        assert_eq!((asked.of, asked.span_ms, asked.points), (Of::Device("a b".into()), (3 * DAY_MS, 9 * DAY_MS), 5));
        let asked = read("device=a&metric=b").unwrap();
        assert_eq!((asked.span_ms, asked.points), ((9 * DAY_MS, 10 * DAY_MS), POINTS));
        for wrong in [
            "metric=b",
            "device=a",
            "device=a&home=h&metric=b",
            "device=a&metric=b&from=now+1d",
            "device=a&metric=b&from=now-1x",
            "device=a&metric=b&from=now-",
            "device=a&metric=b&from=now-€",
            "device=a&metric=b&from=5&to=5",
            "device=a&metric=b&points=1",
            "device=a&metric=b&points=5001",
            "device=a&metric=b&point=1",
            "device=a&metric=b&aggregate=hour",
            "device=a&metric=b&zone=Berlin",
            "device=a&metric=b&format=xml",
            "device=%ff&metric=b",
        ] {
            assert_eq!(read(wrong).unwrap_err().code, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
