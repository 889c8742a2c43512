//! Graphs of roll-ups: the columns of a device's metric over a span, of the tier that fits.
//!
//! | code | meaning |
//! |---|---|
//! | 200 | the columns, with the tier that they are made of and why |
//! | 400 | the question is none, or asks for more columns than there can be |
//! | 401 | a token is needed: [`access`](super::access) |
//! | 404 | no such roll-up or metric, or no such device in sight |
//! | 503 | the database does not answer |

mod asked;

#[cfg(test)]
pub(super) use asked::PARAMETERS;

use crate::flow::rollup::{Bucket, Column, Measure, Metric, Packed, Point, RollUp, Tier};
use crate::http::access::{Asker, challenge};
use crate::http::csv::as_csv;
use crate::http::open::Open;
use crate::http::refused::{Refused, body};
use crate::http::shared::Shared;
use crate::http::view::{View, with_tables};
use crate::ports::Clock as _;
use crate::ports::clock::SystemClock;
use crate::ports::rollups::{Device, WantedDevices};
use asked::{Asked, Of};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The time for which readings wait at most, with some to spare: a span that ends before it has nothing that is open.
const OPEN_MS: i64 = 3 * 3_600_000;
/// Devices that are added up; more are refused.
const DEVICES_MAX: u32 = 1_000;

/// `/api/series`.
pub(super) async fn series(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let asked = match Asked::read(query.as_deref().unwrap_or_default(), SystemClock::default().now().0) {
        Ok(asked) => asked,
        Err(refused) => return refused.into_response(),
    };
    let Some(permit) = shared.reads.turn(true, false).await else {
        return Refused::unavailable("too many reads at a time").into_response();
    };
    let answered = tokio::task::spawn_blocking(move || {
        let view = &*shared.view;
        let answer = chosen(view, asked.rollup.as_deref()).and_then(|rollup| {
            let asker = Asker::of(view, rollup, &headers)?;
            answer(view, rollup, &asker, &asked, SystemClock::default().now().0)
        });
        drop(permit);
        match answer {
            Ok(answer) if asked.is_csv => as_csv(&answer),
            Ok(answer) => body(StatusCode::OK, &answer),
            Err(refused) => challenge(refused),
        }
    });
    answered.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The roll-up of that name, or the first one.
pub(super) fn chosen<'a>(view: &'a dyn View, wanted: Option<&str>) -> Result<&'a RollUp, Refused> {
    let rollups = view.roll_ups();
    rollups.iter().find(|known| wanted.is_none_or(|name| *name == known.name)).ok_or_else(|| {
        let names: Vec<&str> = rollups.iter().map(|known| known.name.as_str()).collect();
        Refused::not_found(format!("no such roll-up; there are: {}", names.join(", ")))
    })
}

fn answer(view: &dyn View, rollup: &RollUp, asker: &Asker, asked: &Asked, now_ms: i64) -> Result<Value, Refused> {
    let Asked { of, metric, span_ms: (from_ms, to_ms), every, .. } = asked;
    let described =
        rollup.metric(metric).ok_or_else(|| Refused::not_found(format!("{} has no metric {metric}", rollup.name)))?;
    let devices = match of {
        Of::Device(device) => vec![asker.device(view, rollup, device)?],
        Of::All { home, room } => all_of(view, rollup, asker, (home, room))?,
    };
    let series = Series { view, rollup, asker, metric: &described, asked, devices: &devices };
    let mut tier = asked.tier()?;
    let mut edges = asked.edges(tier)?;
    let mut reason = None;
    let mut found = series.read(tier, &edges)?;
    // A span that a tier does not keep any more is told of the next one.
    while let Some(parent) = tier.parent() {
        let coarser = asked.edges(parent)?;
        let of_parent = series.read(parent, &coarser)?;
        let begins = found.begins(*from_ms);
        let earlier = of_parent.begins(*from_ms).map(|start| start.saturating_add(parent.bucket_ms()));
        if earlier.is_none_or(|end| begins.is_some_and(|begins| begins < end)) {
            break;
        }
        reason = Some(match begins {
            Some(begins) => format!("{} are kept from {begins} on", tier.word()),
            None => format!("{} are not kept of that span", tier.word()),
        });
        (tier, edges, found) = (parent, coarser, of_parent);
    }
    let mut open = None;
    if let (Of::Device(device), true) = (of, to_ms.saturating_add(OPEN_MS) > now_ms) {
        open = Some(series.open(device, tier, &mut found)?);
    }
    let mut told = json!({
        "rollup": rollup.name,
        "metric": metric,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "tier": tier.word(),
        "column_ms": if every.is_none() { edges.first().zip(edges.get(1)).map(|(start, end)| end - start) } else { None },
        "aggregate": every.as_ref().map(|(every, _)| every.word()),
        "zone": every.as_ref().map(|(_, zone)| zone),
        "reason": reason,
        "version": found.version,
        "last_reading_ms": found.last(*to_ms),
        "open": open.map(|open| open.told()),
    });
    let (whose, columns) = match of {
        Of::Device(device) => {
            let buckets = found.of.first().cloned().unwrap_or_default();
            let columns = described.columns(&edges, &buckets, now_ms).map_err(damaged)?;
            (json!({ "device": device }), columns.iter().map(told_of_one).collect())
        }
        Of::All { home, room } => {
            let of_each = found.of.iter().map(|buckets| described.columns(&edges, buckets, now_ms).map_err(damaged));
            let of_each = of_each.collect::<Result<Vec<_>, _>>()?;
            (json!({ "home": home, "room": room, "devices": devices.len() }), sums(&edges, &of_each))
        }
    };
    if let (Value::Object(told), Value::Object(whose)) = (&mut told, whose) {
        told.extend(whose);
        told.insert("columns".into(), Value::Array(columns));
    }
    Ok(told)
}

/// The devices of a home or room, as far as they are in sight.
fn all_of(
    view: &dyn View,
    rollup: &RollUp,
    asker: &Asker,
    (home, room): (&Option<String>, &Option<String>),
) -> Result<Vec<Device>, Refused> {
    let (home, room, limit) = (home.clone(), room.clone(), DEVICES_MAX + 1);
    let found = match asker.narrow(WantedDevices { home, room, limit, ..WantedDevices::default() }) {
        Some(wanted) => with_tables(view, |tables| tables.devices(&rollup.name, &wanted))?,
        None => Vec::new(),
    };
    if found.is_empty() {
        return Err(Refused::not_found("there is no such home or room with a device in sight"));
    }
    if found.len() > DEVICES_MAX as usize {
        return Err(Refused::bad(format!("more than {DEVICES_MAX} devices: ask for a room of the home")));
    }
    Ok(found)
}

#[expect(clippy::needless_pass_by_value, reason = "an error that is mapped")]
fn damaged(error: impl ToString) -> Refused {
    Refused { code: StatusCode::INTERNAL_SERVER_ERROR, error: error.to_string() }
}

/// What is read for an answer.
struct Series<'a> {
    view: &'a dyn View,
    rollup: &'a RollUp,
    asker: &'a Asker,
    metric: &'a Metric,
    asked: &'a Asked,
    devices: &'a [Device],
}

/// The buckets of a tier, by their starts, with those on both sides of the span, of each device; and the highest version of their
/// rows.
struct Found {
    of: Vec<BTreeMap<i64, Bucket>>,
    version: i64,
}

impl Found {
    /// The start of the first bucket from a time on.
    fn begins(&self, from_ms: i64) -> Option<i64> {
        self.of.iter().filter_map(|buckets| buckets.range(from_ms..).next().map(|(start, _)| *start)).min()
    }

    /// The time of the last reading in front of another.
    fn last(&self, to_ms: i64) -> Option<i64> {
        let last = |buckets: &BTreeMap<i64, Bucket>| Some(buckets.range(..to_ms).next_back()?.1.last.at_ms);
        self.of.iter().filter_map(last).max()
    }
}

impl Series<'_> {
    fn read(&self, tier: Tier, edges: &[i64]) -> Result<Found, Refused> {
        let mut found = Found { of: Vec::with_capacity(self.devices.len()), version: 0 };
        let (Some(begins), Some(ends)) = (edges.first(), edges.last()) else { return Ok(found) };
        // One row in front of the first column has the reading that holds in it, and one bucket behind the last one ends it.
        let first = begins.saturating_sub(tier.row_ms());
        let first = first - first.rem_euclid(tier.row_ms());
        let span = (first, ends.saturating_add(tier.bucket_ms()));
        for Device { device, described } in self.devices {
            let mut buckets = BTreeMap::new();
            for own in std::iter::once(device).chain(&described.formerly) {
                self.read_one((tier, own), span, &mut buckets, &mut found.version)?;
            }
            found.of.push(buckets);
        }
        Ok(found)
    }

    /// Adds what is not told yet to the buckets of the one device.
    fn open(&self, device: &str, tier: Tier, found: &mut Found) -> Result<Open, Refused> {
        let mut open = Open::read(self.view, self.rollup, self.asker, (device, &self.asked.metric));
        let Some(first) = open.quarters.as_ref().ok().and_then(|open| open.first_key_value().map(|(start, _)| *start))
        else {
            return Ok(open);
        };
        let mut told = BTreeMap::new();
        let row = first - first.rem_euclid(Tier::Quarters.row_ms());
        self.read_one((Tier::Quarters, device), (row, i64::MAX), &mut told, &mut 0)?;
        open.without(|start_ms| told.contains_key(&start_ms));
        if let (Ok(quarters), Some(buckets)) = (&open.quarters, found.of.first_mut()) {
            for (start_ms, quarter) in quarters {
                let start_ms = start_ms - start_ms.rem_euclid(tier.bucket_ms());
                let whole = match buckets.remove(&start_ms) {
                    Some(other) => self.metric.overlay(&other, quarter).map_err(damaged)?,
                    None => quarter.clone(),
                };
                buckets.insert(start_ms, whole);
            }
        }
        Ok(open)
    }

    fn read_one(
        &self,
        (tier, device): (Tier, &str),
        span_ms: (i64, i64),
        buckets: &mut BTreeMap<i64, Bucket>,
        version: &mut i64,
    ) -> Result<(), Refused> {
        let table = self.rollup.table(tier);
        let rows = with_tables(self.view, |tables| tables.rows(&table, (device, &self.asked.metric), span_ms))?;
        for row in rows {
            *version = row.version.max(*version);
            let slots = Packed::from(row.buckets).slots(row.start_ms, tier.bucket_ms()).map_err(damaged)?;
            for (number, slot) in slots {
                let Some(bucket) = slot.whole(self.metric).map_err(damaged)? else { continue };
                // A device and the one that it has replaced may both have a part of it.
                let start_ms = row.start_ms + i64::from(number) * tier.bucket_ms();
                let whole = match buckets.remove(&start_ms) {
                    Some(other) => self.metric.overlay(&other, &bucket).map_err(damaged)?,
                    None => bucket,
                };
                buckets.insert(start_ms, whole);
            }
        }
        Ok(())
    }
}

/// The columns of several devices as one: what they had together, a gauge by its mean in time, a counter by its rise.
fn sums(edges: &[i64], of_each: &[Vec<Column>]) -> Vec<Value> {
    let spans = edges.iter().zip(edges.iter().skip(1)).enumerate();
    let column = |(number, (start_ms, end_ms)): (usize, (&i64, &i64))| {
        let (mut total, mut devices, mut n) = (0.0, 0_u32, 0);
        for column in of_each.iter().filter_map(|columns| columns.get(number)) {
            let value = match column.bucket.as_ref().map(|bucket| &bucket.measure) {
                Some(Measure::Counter(rise)) => Some(rise.increase),
                Some(Measure::Event) => column.bucket.as_ref().map(|bucket| bucket.sum),
                Some(Measure::State(_)) => None,
                Some(Measure::Gauge { .. }) | None => column.over.and_then(|over| over.mean()),
            };
            n += column.bucket.as_ref().map_or(0, |bucket| bucket.n);
            if let Some(value) = value {
                total += value;
                devices += 1;
            }
        }
        let mut told = json!({ "start_ms": start_ms, "end_ms": end_ms });
        if let (Value::Object(told), true) = (&mut told, devices > 0) {
            let numbers = json!({ "n": n, "devices": devices, "total": total, "average": total / f64::from(devices) });
            told.extend(numbers.as_object().cloned().unwrap_or_default());
        }
        told
    };
    spans.map(column).collect()
}

/// A column as it is told. What is not known is left out.
fn told_of_one(column: &Column) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::status::Status;
    use crate::flow::rollup::{Between, Kind, Metered, Patience, Reading, Slot, Tier};
    use crate::flow::{Context, Reject, Topology};
    use crate::http::access::hash_of;
    use crate::http::view::About;
    use crate::ports::fault::Fault;
    use crate::ports::rollups::{BucketRow, Described, Grant, Keep, NewestRow, RollUpTables};
    use axum::http::HeaderValue;
    use axum::http::header::AUTHORIZATION;
    use std::sync::Mutex;

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

    /// A pipeline with a roll-up, and its tables.
    struct Home {
        status: Status,
        topology: Topology,
        tables: Mutex<Tables>,
        wants_tokens: bool,
    }

    /// Rows of `power` by table, the same for every device.
    #[derive(Default)]
    struct Tables {
        rows: BTreeMap<String, Vec<BucketRow>>,
        devices: Vec<Device>,
    }

    impl View for Home {
        fn status(&self) -> &Status {
            &self.status
        }

        fn about(&self) -> About {
            About { pipeline: "p".into(), place: "here".into() }
        }

        fn roll_ups(&self) -> &[RollUp] {
            self.topology.roll_ups()
        }

        fn roll_up_tables(
            &self,
            work: &mut dyn FnMut(&mut dyn RollUpTables) -> Result<(), Fault>,
        ) -> Result<(), String> {
            work(&mut *self.tables.lock().unwrap()).map_err(|fault| fault.to_string())
        }

        fn wants_tokens(&self) -> bool {
            self.wants_tokens
        }
    }

    impl RollUpTables for Tables {
        fn rows(&mut self, table: &str, _: (&str, &str), (from, to): (i64, i64)) -> Result<Vec<BucketRow>, Fault> {
            let rows = self.rows.get(table).into_iter().flatten();
            Ok(rows.filter(|row| (from..to).contains(&row.start_ms)).cloned().collect())
        }

        fn devices(&mut self, _: &str, wanted: &WantedDevices) -> Result<Vec<Device>, Fault> {
            let is_wanted = |device: &&Device| {
                wanted.home.is_none()
                    || device.described.home == wanted.home
                        && wanted.only.as_ref().is_none_or(|only| only.contains(&device.device))
            };
            Ok(self.devices.iter().filter(is_wanted).cloned().collect())
        }

        fn newest(&mut self, _: &str, _: &[String]) -> Result<Vec<NewestRow>, Fault> {
            Ok(Vec::new())
        }

        fn describe(&mut self, _: &str, device: &Device) -> Result<(), Fault> {
            self.devices.push(device.clone());
            Ok(())
        }

        fn delete(&mut self, _: &str, _: &str) -> Result<u64, Fault> {
            Ok(0)
        }

        fn grant(&mut self, _: &str, hash: &[u8]) -> Result<Option<Grant>, Fault> {
            let grant = Grant { name: "ada".into(), home: Some("h1".into()), ..Grant::default() };
            Ok((hash == hash_of("tg_1")).then_some(grant))
        }

        fn make_token(&mut self, _: &str, _: &[u8], _: &Grant) -> Result<(), Fault> {
            Ok(())
        }

        fn tokens(&mut self, _: &str) -> Result<Vec<Grant>, Fault> {
            Ok(Vec::new())
        }

        fn revoke(&mut self, _: &str, _: &str) -> Result<bool, Fault> {
            Ok(false)
        }

        fn create(&mut self, _: &str) -> Result<Vec<String>, Fault> {
            Ok(Vec::new())
        }

        fn maintain(&mut self, _: &str, _: Keep, _: i64) -> Result<(usize, usize), Fault> {
            Ok((0, 0))
        }
    }

    /// A value at the start of each bucket from `from_ms` on, which is the bucket's number.
    fn tables(kept: &[(Tier, i64)], until_ms: i64) -> Home {
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
        let tables = Mutex::new(Tables { rows, devices: Vec::new() });
        Home { status: Status::default(), topology, tables, wants_tokens: false }
    }

    fn asked(query: &str) -> Asked {
        Asked::read(&format!("device=a&metric=power&{query}"), 40 * DAY_MS).unwrap()
    }

    fn answer(view: &Home, asked: &Asked, headers: &HeaderMap) -> Result<Value, Refused> {
        let rollup = chosen(view, asked.rollup.as_deref())?;
        super::answer(view, rollup, &Asker::of(view, rollup, headers)?, asked, 40 * DAY_MS)
    }

    fn anybody() -> HeaderMap {
        HeaderMap::new()
    }

    #[test]
    fn a_graph_names_its_tier_and_what_is_not_kept_any_more_comes_from_the_next_one() {
        let view = tables(&[(Tier::Quarters, 39 * DAY_MS), (Tier::Hours, 10 * DAY_MS), (Tier::Days, 0)], 40 * DAY_MS);
        let told = |query: &str| {
            let answer = answer(&view, &asked(query), &anybody()).unwrap();
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
        let wrong = answer(&view, &Asked { metric: "pressure".into(), ..asked("") }, &anybody()).unwrap_err();
        assert_eq!((wrong.code, wrong.error.as_str()), (StatusCode::NOT_FOUND, "home has no metric pressure"));
        let wrong = answer(&view, &asked("rollup=house"), &anybody()).unwrap_err();
        assert_eq!(wrong.error, "no such roll-up; there are: home");
    }

    /// Sentence 9: of hours where the zone's days begin with one, of quarters where they do not, and of days of UTC where these are all
    /// that is kept, which is said.
    #[test]
    fn days_of_a_zone_are_made_of_the_tier_whose_buckets_they_begin_with_and_add_up() {
        let tiers = [(Tier::Quarters, 0), (Tier::Hours, 0), (Tier::Days, 0)];
        let view = tables(&tiers, 40 * DAY_MS);
        let ask = |view: &Home, query: &str| answer(view, &asked(query), &anybody()).unwrap();
        let n = |answer: &Value| {
            let columns = answer["columns"].as_array().unwrap();
            columns.iter().map(|column| column["n"].as_u64().unwrap_or(0)).collect::<Vec<u64>>()
        };
        let told = ask(&view, "from=now-3d&aggregate=day&zone=Europe/Berlin");
        assert_eq!(
            (&told["tier"], &told["zone"], n(&told)),
            (&json!("hours"), &json!("Europe/Berlin"), vec![24, 24, 24, 1])
        );
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

    fn of_home(device: &str, home: &str) -> Device {
        Device { device: device.into(), described: Described { home: Some(home.into()), ..Described::default() } }
    }

    #[test]
    fn a_home_has_the_sum_of_its_devices() {
        let view = tables(&[(Tier::Quarters, 0), (Tier::Hours, 0), (Tier::Days, 0)], 40 * DAY_MS);
        view.tables.lock().unwrap().devices = vec![of_home("a", "h1"), of_home("b", "h1"), of_home("c", "h2")];
        let asked =
            |home: &str| Asked::read(&format!("home={home}&metric=power&from=now-1d&to=now-23h"), 40 * DAY_MS).unwrap();
        let told = answer(&view, &asked("h1"), &anybody()).unwrap();
        let columns = told["columns"].as_array().unwrap();
        assert_eq!((&told["devices"], columns.len()), (&json!(2), 4));
        // The quarter's number within its day is its value.
        for (number, column) in (0_u32..).zip(columns) {
            let number = f64::from(number);
            assert_eq!(
                (&column["n"], &column["total"], &column["average"]),
                (&json!(2), &json!(2.0 * number), &json!(number))
            );
        }
        assert_eq!(answer(&view, &asked("h3"), &anybody()).unwrap_err().code, StatusCode::NOT_FOUND);
    }

    #[test]
    fn whoever_has_a_token_sees_what_it_is_for_and_nobody_else_sees_anything() {
        let mut view = tables(&[(Tier::Quarters, 0)], 40 * DAY_MS);
        view.wants_tokens = true;
        view.tables.lock().unwrap().devices = vec![of_home("a", "h1"), of_home("b", "h2")];
        let with = |token: &str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(token).unwrap())]);
        let of = |device: &str| Asked::read(&format!("device={device}&metric=power"), 40 * DAY_MS).unwrap();
        let code = |asked: &Asked, headers: &HeaderMap| {
            answer(&view, asked, headers).map_or_else(|refused| refused.code, |_| StatusCode::OK)
        };
        assert_eq!(code(&of("a"), &anybody()), StatusCode::UNAUTHORIZED);
        assert_eq!(code(&of("a"), &with("Bearer tg_2")), StatusCode::UNAUTHORIZED);
        assert_eq!(code(&of("a"), &with("Bearer tg_1")), StatusCode::OK);
        assert_eq!(code(&of("b"), &with("Bearer tg_1")), StatusCode::NOT_FOUND);
        assert_eq!(code(&of("nobody-knows-it"), &with("Bearer tg_1")), StatusCode::NOT_FOUND);
        let other = Asked::read("home=h2&metric=power", 40 * DAY_MS).unwrap();
        assert_eq!(code(&other, &with("Bearer tg_1")), StatusCode::NOT_FOUND);
    }
}
