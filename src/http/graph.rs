//! Graphs of roll-ups: the columns of a device's metric over a span, of the tier that fits.
//!
//! | code | meaning |
//! |---|---|
//! | 200 | the columns, with the tier that they are made of and why |
//! | 400 | the question is none, or asks for more columns than there can be |
//! | 404 | no such roll-up or metric, with the names that there are |
//! | 503 | the database does not answer |

use super::calendar::{self, Every};
use super::client;
use super::shared::Shared;
use super::view::View;
use crate::flow::rollup::{Bucket, Column, Measure, Metric, Packed, Plan, Point, RollUp, Tier};
use crate::ports::Clock as _;
use crate::ports::buckets::BucketRow;
use crate::ports::clock::SystemClock;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Columns of a graph, unless the question says otherwise; and the most that may be asked for.
const POINTS: u32 = 800;
const POINTS_MAX: u32 = 5_000;
/// The longest span: a hundred years.
const SPAN_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// A question for a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Asked {
    rollup: Option<String>,
    device: String,
    metric: String,
    span_ms: (i64, i64),
    points: u32,
    /// Whether the columns go by the calendar, and in which zone.
    every: Option<(Every, String)>,
    is_csv: bool,
}

/// Why there is no graph.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Refused {
    code: StatusCode,
    error: String,
}

impl Refused {
    fn bad(error: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, error: error.into() }
    }
}

impl Asked {
    /// Reads `name=value&…`. `now_ms`: the present time, from which relative ones are counted.
    fn read(query: &str, now_ms: i64) -> Result<Self, Refused> {
        let known = ["rollup", "device", "metric", "from", "to", "points", "aggregate", "zone", "format"];
        let mut found: BTreeMap<&str, String> = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(Refused::bad(format!("{name}: unknown; there are {}", known.join(", "))));
            }
            let value =
                client::decode(value).ok_or_else(|| Refused::bad(format!("{name}: no UTF-8 text in % notation")))?;
            found.insert(name, value);
        }
        let mut wanted = |name: &str| found.remove(name).ok_or_else(|| Refused::bad(format!("{name}: is missing")));
        let (device, metric) = (wanted("device")?, wanted("metric")?);
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
        let zone = found.remove("zone");
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
        Ok(Self { rollup: found.remove("rollup"), device, metric, span_ms, points, every, is_csv })
    }

    /// The edges of the columns that a tier's buckets make; by the calendar as near to its own as they lie.
    fn edges(&self, tier: Tier) -> Result<Vec<i64>, Refused> {
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
    fn tier(&self) -> Result<Tier, Refused> {
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

/// `/api/series`.
pub(super) async fn series(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let asked = match Asked::read(query.as_deref().unwrap_or_default(), SystemClock::default().now().0) {
        Ok(asked) => asked,
        Err(refused) => return refused.into_response(),
    };
    let Some(permit) = shared.reads.turn(true, false).await else {
        return Refused { code: StatusCode::SERVICE_UNAVAILABLE, error: "too many reads at a time".into() }
            .into_response();
    };
    let answered = tokio::task::spawn_blocking(move || {
        let answer = answer(&*shared.view, &asked, SystemClock::default().now().0);
        drop(permit);
        answer.map(|answer| if asked.is_csv { csv::response(&answer) } else { body(StatusCode::OK, &answer) })
    });
    match answered.await {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn answer(view: &dyn View, asked: &Asked, now_ms: i64) -> Result<Value, Refused> {
    let Asked { rollup, device, metric, span_ms: (from_ms, to_ms), every, .. } = asked;
    let rollups = view.roll_ups();
    let chosen = rollups.iter().find(|known| rollup.as_ref().is_none_or(|name| *name == known.name));
    let not_found = |error| Refused { code: StatusCode::NOT_FOUND, error };
    let chosen = chosen.ok_or_else(|| {
        let names: Vec<&str> = rollups.iter().map(|known| known.name.as_str()).collect();
        not_found(format!("no such roll-up; there are: {}", names.join(", ")))
    })?;
    let described =
        chosen.metric(metric).ok_or_else(|| not_found(format!("{} has no metric {metric}", chosen.name)))?;
    let mut tier = asked.tier()?;
    let mut edges = asked.edges(tier)?;
    let mut reason = None;
    let (mut found, mut version) = read(view, chosen, &described, asked, (tier, &edges))?;
    // A span that a tier does not keep any more is told of the next one.
    while let Some(parent) = tier.parent() {
        let coarser = asked.edges(parent)?;
        let (of_parent, version_of_parent) = read(view, chosen, &described, asked, (parent, &coarser))?;
        let begins = found.range(from_ms..).next().map(|(start, _)| *start);
        let earlier = of_parent.range(from_ms..).next().map(|(start, _)| start.saturating_add(parent.bucket_ms()));
        let is_kept = earlier.is_none_or(|end| begins.is_some_and(|begins| begins < end));
        if is_kept {
            break;
        }
        reason = Some(match begins {
            Some(begins) => format!("{} are kept from {begins} on", tier.word()),
            None => format!("{} are not kept of that span", tier.word()),
        });
        (tier, edges, found, version) = (parent, coarser, of_parent, version_of_parent);
    }
    let columns = described.columns(&edges, &found, now_ms);
    let columns =
        columns.map_err(|error| Refused { code: StatusCode::INTERNAL_SERVER_ERROR, error: error.to_string() })?;
    let last = found.range(..*to_ms).next_back().map(|(_, bucket)| bucket.last.at_ms);
    Ok(json!({
        "rollup": chosen.name,
        "device": device,
        "metric": metric,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "tier": tier.word(),
        "column_ms": if every.is_none() { edges.first().zip(edges.get(1)).map(|(start, end)| end - start) } else { None },
        "aggregate": every.as_ref().map(|(every, _)| every.word()),
        "zone": every.as_ref().map(|(_, zone)| zone),
        "reason": reason,
        "version": version,
        "last_reading_ms": last,
        "columns": columns.iter().map(told).collect::<Vec<Value>>(),
    }))
}

/// The buckets of a tier, by their starts, with those on both sides of the span; and the highest version of their rows.
fn read(
    view: &dyn View,
    rollup: &RollUp,
    metric: &Metric,
    asked: &Asked,
    (tier, edges): (Tier, &[i64]),
) -> Result<(BTreeMap<i64, Bucket>, i64), Refused> {
    let (Some(begins), Some(ends)) = (edges.first(), edges.last()) else { return Ok((BTreeMap::new(), 0)) };
    // One row in front of the first column has the reading that holds in it, and one bucket behind the last one ends it.
    let first = begins.saturating_sub(tier.row_ms());
    let first = first - first.rem_euclid(tier.row_ms());
    let span = (first, ends.saturating_add(tier.bucket_ms()));
    let rows = view.buckets(&rollup.table(tier), (&asked.device, &asked.metric), span);
    let rows = rows.map_err(|error| Refused { code: StatusCode::SERVICE_UNAVAILABLE, error })?;
    let (mut found, mut newest) = (BTreeMap::new(), 0);
    let damaged = |error: String| Refused { code: StatusCode::INTERNAL_SERVER_ERROR, error };
    for BucketRow { start_ms, version, buckets } in rows {
        newest = version.max(newest);
        let slots =
            Packed::from(buckets).slots(start_ms, tier.bucket_ms()).map_err(|error| damaged(error.to_string()))?;
        for (number, slot) in slots {
            if let Some(bucket) = slot.whole(metric).map_err(|error| damaged(error.to_string()))? {
                found.insert(start_ms + i64::from(number) * tier.bucket_ms(), bucket);
            }
        }
    }
    Ok((found, newest))
}

/// A column as it is told. What is not known is left out.
fn told(column: &Column) -> Value {
    let Column { start_ms, end_ms, bucket, over } = column;
    let mut told = Map::new();
    let mut put = |name: &str, value: Value| drop(told.insert(name.into(), value));
    put("start_ms", json!(start_ms));
    put("end_ms", json!(end_ms));
    if let Some(mean) = over.and_then(|over| over.mean()) {
        put("mean", json!(mean));
        put("covered_ms", json!(over.map(|over| over.covered_ms)));
    }
    let Some(bucket) = bucket else { return Value::Object(told) };
    let point = |Point { at_ms, value }: Point| json!([at_ms, value]);
    put("n", json!(bucket.n));
    put("sum", json!(bucket.sum));
    put("min", json!(bucket.min));
    put("max", json!(bucket.max));
    put("first", point(bucket.first));
    put("last", point(bucket.last));
    match &bucket.measure {
        Measure::Counter(rise) => {
            put("increase", json!(rise.increase));
            put("resets", json!(rise.resets));
            put("glitches", json!(rise.glitches));
        }
        Measure::State(states) => {
            put("held_ms", json!(states.held_ms));
            put("changes", json!(states.changes));
        }
        Measure::Gauge { .. } | Measure::Event => {}
    }
    if bucket.sketch.is_some() {
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            put(name, json!(bucket.quantile(part)));
        }
    }
    Value::Object(told)
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        body(self.code, &json!({ "error": self.error }))
    }
}

fn body(code: StatusCode, value: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::status::Status;
    use crate::flow::rollup::{Between, Kind, Metered, Patience, Reading, Slot, Tier};
    use crate::flow::{Context, Reject, Topology};
    use crate::http::view::About;

    const DAY_MS: i64 = 86_400_000;

    struct Meters;

    impl Metered for Meters {
        type Event = ();

        fn readings(&self, (): (), _: &Context<'_>) -> Result<Vec<Reading>, Reject> {
            Ok(Vec::new())
        }

        fn metric(&self, name: &str) -> Option<Metric> {
            (name == "power").then(|| Metric::new(Kind::Gauge(Between::Step)))
        }
    }

    /// Rows of `power`, by table.
    struct Tables {
        status: Status,
        topology: Topology,
        rows: BTreeMap<String, Vec<BucketRow>>,
    }

    impl View for Tables {
        fn status(&self) -> &Status {
            &self.status
        }

        fn about(&self) -> About {
            About { pipeline: "p".into(), place: "here".into() }
        }

        fn roll_ups(&self) -> &[RollUp] {
            self.topology.roll_ups()
        }

        fn buckets(&self, table: &str, _: (&str, &str), (from, to): (i64, i64)) -> Result<Vec<BucketRow>, String> {
            let rows = self.rows.get(table).into_iter().flatten();
            Ok(rows.filter(|row| (from..to).contains(&row.start_ms)).cloned().collect())
        }
    }

    /// A value at the start of each bucket from `from_ms` on, which is the bucket's number.
    fn tables(kept: &[(Tier, i64)], until_ms: i64) -> Tables {
        let mut topology = Topology::new("p");
        topology.source("readings").roll_up("home", Meters, Patience::default());
        let (mut rows, metric) = (BTreeMap::new(), Meters.metric("power").unwrap());
        for (tier, from_ms) in kept {
            let mut packed: BTreeMap<i64, BTreeMap<u16, Slot>> = BTreeMap::new();
            for at_ms in (*from_ms..until_ms).step_by(usize::try_from(tier.bucket_ms()).unwrap()) {
                let row = at_ms - at_ms % tier.row_ms();
                let number = u16::try_from((at_ms - row) / tier.bucket_ms()).unwrap();
                let base = metric.bucket(Point { at_ms, value: f64::from(number) }).ok();
                packed.entry(row).or_default().insert(number, Slot { revision: 1, base, late: None });
            }
            let row = |(start_ms, slots): (i64, BTreeMap<u16, Slot>)| {
                let buckets = Packed::of(&slots, start_ms, tier.bucket_ms()).into();
                BucketRow { start_ms, version: 7, buckets }
            };
            rows.insert(tier.table("home"), packed.into_iter().map(row).collect());
        }
        Tables { status: Status::default(), topology, rows }
    }

    fn asked(query: &str) -> Asked {
        Asked::read(&format!("device=a&metric=power&{query}"), 40 * DAY_MS).unwrap()
    }

    #[test]
    fn a_graph_names_its_tier_and_what_is_not_kept_any_more_comes_from_the_next_one() {
        let view = tables(&[(Tier::Quarters, 39 * DAY_MS), (Tier::Hours, 10 * DAY_MS), (Tier::Days, 0)], 40 * DAY_MS);
        let told = |query: &str| {
            let answer = answer(&view, &asked(query), 40 * DAY_MS).unwrap();
            let columns = answer["columns"].as_array().unwrap().len();
            (answer["tier"].as_str().unwrap().to_owned(), columns, answer["reason"].as_str().map(str::to_owned))
        };
        assert_eq!(told("from=now-1d"), ("quarters".into(), 96, None));
        let begins = 39 * DAY_MS;
        let kept = format!("quarters are kept from {begins} on");
        assert_eq!(told("from=now-2d"), ("hours".into(), 48, Some(kept)));
        assert_eq!(told("from=now-10d&points=240"), ("hours".into(), 240, None));
        let (tier, columns, reason) = told("from=now-35d&points=800");
        assert_eq!((tier.as_str(), columns), ("days", 35));
        assert!(reason.unwrap().contains("hours are kept from"));
        let wrong = answer(&view, &Asked { metric: "pressure".into(), ..asked("") }, 0).unwrap_err();
        assert_eq!((wrong.code, wrong.error.as_str()), (StatusCode::NOT_FOUND, "home has no metric pressure"));
        let wrong = answer(&view, &asked("rollup=house"), 0).unwrap_err();
        assert_eq!(wrong.error, "no such roll-up; there are: home");
    }

    /// Sentence 9: of hours where the zone's days begin with one, of quarters where they do not, and of days of UTC where these are all
    /// that is kept, which is said.
    #[test]
    fn days_of_a_zone_are_made_of_the_tier_whose_buckets_they_begin_with_and_add_up() {
        let tiers = [(Tier::Quarters, 0), (Tier::Hours, 0), (Tier::Days, 0)];
        let view = tables(&tiers, 40 * DAY_MS);
        let ask = |view: &Tables, query: &str| answer(view, &asked(query), 40 * DAY_MS).unwrap();
        let n = |answer: &Value| {
            let columns = answer["columns"].as_array().unwrap();
            columns.iter().map(|column| column["n"].as_u64().unwrap_or(0)).collect::<Vec<u64>>()
        };
        let told = ask(&view, "from=now-3d&aggregate=day&zone=Europe/Berlin");
        assert_eq!((&told["tier"], &told["zone"], n(&told)), (&json!("hours"), &json!("Europe/Berlin"), vec![24, 24, 24, 1]));
        let told = ask(&view, "from=now-3d&aggregate=day&zone=Asia/Kolkata");
        assert_eq!((&told["tier"], n(&told)), (&json!("quarters"), vec![96, 96, 96, 22]));
        let told = ask(&view, "from=now-3d&aggregate=day");
        assert_eq!((&told["tier"], n(&told)), (&json!("days"), vec![1, 1, 1]));
        let told = ask(&view, "from=now-21d&aggregate=week&zone=Europe/Berlin");
        assert_eq!(n(&told).iter().sum::<u64>(), 22 * 24 + 1, "{told}");
        let view = tables(&[(Tier::Days, 0)], 40 * DAY_MS);
        let told = ask(&view, "from=now-3d&aggregate=day&zone=Europe/Berlin");
        assert_eq!((&told["tier"], n(&told)), (&json!("days"), vec![1, 1, 1, 1]));
        assert_eq!(told["reason"], "hours are not kept of that span");
    }

    #[test]
    fn a_question_names_a_device_a_metric_and_a_span() {
        let read = |query: &str| Asked::read(query, 10 * DAY_MS);
        let asked = read("device=a%20b&metric=power&from=now-7d&to=1970-01-10T00:00:00Z&points=5").unwrap();
        assert_eq!((asked.device.as_str(), asked.span_ms, asked.points), ("a b", (3 * DAY_MS, 9 * DAY_MS), 5));
        let asked = read("device=a&metric=b").unwrap();
        assert_eq!((asked.span_ms, asked.points), ((9 * DAY_MS, 10 * DAY_MS), POINTS));
        for wrong in [
            "metric=b",
            "device=a",
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
            "device=a&metric=b&from=now-99y&aggregate=day",
            "device=%ff&metric=b",
        ] {
            assert_eq!(read(wrong).unwrap_err().code, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
