//! Roll-ups: readings of devices become quarters, hours and days in tables, exact whatever came late, twice or between two crashes.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tidegate::flow::rollup::{
    Between, Bucket, Counts, Kind, Measure, Metered, Metric, Patience, Point, Reading, SeriesKey, Slot, Tier, TierRow,
};
use tidegate::flow::row::from_values;
use tidegate::flow::{Context, Key, Reject, Topology};
use tidegate::testing::{Sent, TestDriver};

const MINUTE: i64 = 60_000;
const QUARTER: i64 = 15 * MINUTE;
const HOUR: i64 = 4 * QUARTER;
const DAY: i64 = 24 * HOUR;
/// A day at which a row of each tier begins: the times of the tests are counted from it.
const START: i64 = 384 * DAY * 50;

/// Readings, each with its time: a device sends several at once.
#[derive(Serialize, Deserialize)]
struct Upload(Vec<(String, i64, f64)>);

struct Home;

impl Metered for Home {
    type Event = Upload;

    fn readings(&self, Upload(readings): Upload, _: &Context<'_>) -> Result<Vec<Reading>, Reject> {
        let reading = |(metric, at_ms, value)| Reading { metric, point: Point { at_ms: START + at_ms, value } };
        Ok(readings.into_iter().map(reading).collect())
    }

    fn metric(&self, name: &str) -> Option<Metric> {
        match name {
            "power" => Some(Metric::new(Kind::Gauge(Between::Step)).quantiles()),
            "slow" => Some(Metric::new(Kind::Gauge(Between::Step)).silence(Duration::from_hours(24))),
            "energy" => Some(Metric::new(Kind::counter())),
            "mode" => Some(Metric::new(Kind::State)),
            "door" => Some(Metric::new(Kind::Event)),
            _ => None,
        }
    }
}

fn topology() -> Topology {
    let mut topology = Topology::new("p");
    topology.source("readings").roll_up("home", Home, Patience::default());
    topology
}

/// Sends readings of a device at a time of its own.
fn send(driver: &mut TestDriver, device: &str, at: i64, readings: &[(&str, i64, f64)]) {
    let value = json!(readings).to_string().into_bytes();
    let (key, timestamp_ms) = (Some(device.as_bytes().to_vec()), Some(START + at));
    driver.send_record("readings", Sent { key, value: Some(value), timestamp_ms, ..Sent::default() });
}

/// The buckets of a tier, by their start.
fn buckets(driver: &mut TestDriver, tier: Tier, device: &str, metric: &str, row_ms: i64) -> BTreeMap<i64, Slot> {
    let start_ms = START + row_ms;
    let key = SeriesKey { device: device.into(), metric: metric.into(), start_ms };
    let Some(row) = driver.row_of(&format!("home_{}", tier.word()), Key::of(&key).unwrap()) else {
        return BTreeMap::new();
    };
    let row: TierRow = from_values(&row.values).unwrap();
    let slots = row.buckets.slots(start_ms, tier.bucket_ms()).unwrap();
    slots.into_iter().map(|(number, slot)| (row_ms + i64::from(number) * tier.bucket_ms(), slot)).collect()
}

fn whole(slot: &Slot, metric: &str) -> Bucket {
    slot.whole(&Home.metric(metric).unwrap()).unwrap().unwrap()
}

/// The bucket of readings in the order of their times.
fn of(metric: &str, points: &[Point]) -> Bucket {
    let metric = Home.metric(metric).unwrap();
    let buckets = points.iter().map(|point| metric.bucket(*point).unwrap());
    buckets.reduce(|one, next| metric.merge(&one, &next).unwrap()).unwrap()
}

fn point(at: i64, value: f64) -> Point {
    Point { at_ms: START + at, value }
}

#[test]
fn a_reading_is_in_its_quarter_its_hour_and_its_day_once_the_quarter_is_over() {
    let mut driver = TestDriver::new(topology());
    send(&mut driver, "boiler", 0, &[("power", 0, 0.0), ("power", 30_000, 100.0)]);
    driver.run();
    assert!(buckets(&mut driver, Tier::Quarters, "boiler", "power", 0).is_empty(), "it is not over");
    send(&mut driver, "boiler", QUARTER + 29_999, &[]);
    driver.run();
    assert!(buckets(&mut driver, Tier::Quarters, "boiler", "power", 0).is_empty(), "its grace is not over");
    send(&mut driver, "boiler", QUARTER + 30_000, &[("power", QUARTER + 30_000, 7.0)]);
    driver.run();
    let expected = of("power", &[point(0, 0.0), point(30_000, 100.0)]);
    for tier in Tier::ALL {
        let found = buckets(&mut driver, tier, "boiler", "power", 0);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&0], "{tier:?}");
        assert_eq!(found[&0], Slot { revision: 1, base: Some(expected.clone()), late: None }, "{tier:?}");
    }
    driver.crash_everywhere();
}

/// Sentence 2 of what users of other systems complain about: a mean of readings is none of the time.
#[test]
fn a_day_of_which_23_hours_were_off_has_the_mean_of_its_time() {
    let mut driver = TestDriver::new(topology());
    send(&mut driver, "boiler", 0, &[("slow", 0, 0.0)]);
    send(&mut driver, "boiler", 23 * HOUR, &[("slow", 23 * HOUR, 100.0)]);
    send(&mut driver, "boiler", 25 * HOUR, &[]);
    driver.run();
    let day = whole(&buckets(&mut driver, Tier::Days, "boiler", "slow", 0)[&0], "slow");
    let metric = Home.metric("slow").unwrap();
    let over = metric.over((START, START + DAY), Some(&day), (None, None), START + 2 * DAY).unwrap();
    assert!((over.mean().unwrap() - 100.0 / 24.0).abs() < 0.01, "{over:?}");
}

/// Sentence 3: a reset adds what is behind it, a glitch nothing.
#[test]
fn a_counter_rises_over_resets_and_glitches_also_where_they_lie_in_two_quarters() {
    let mut driver = TestDriver::new(topology());
    let readings = |values: [f64; 4]| (0..).map(|n| n * 10 * MINUTE).zip(values);
    for (device, values) in [("reset", [100.0, 110.0, 0.0, 5.0]), ("glitch", [100.0, 110.0, 0.0, 111.0])] {
        for (at, value) in readings(values) {
            send(&mut driver, device, at, &[("energy", at, value)]);
        }
    }
    send(&mut driver, "reset", 2 * HOUR, &[]);
    driver.run();
    let mut rise = |device| match whole(&buckets(&mut driver, Tier::Hours, device, "energy", 0)[&0], "energy").measure {
        Measure::Counter(rise) => (rise.increase, rise.resets, rise.glitches),
        other => panic!("{other:?}"),
    };
    assert_eq!((rise("reset"), rise("glitch")), ((15.0, 1, 0), (11.0, 0, 1)));
}

/// Sentence 6: what is twenty days late changes one bucket of each tier, and no other row.
#[test]
fn a_reading_that_is_twenty_days_late_changes_one_bucket_of_each_tier() {
    let mut driver = TestDriver::new(topology());
    for at in [0, QUARTER, 2 * QUARTER, 20 * DAY] {
        send(&mut driver, "boiler", at, &[("power", at + 1, 5.0)]);
    }
    send(&mut driver, "boiler", 20 * DAY + HOUR, &[]);
    driver.run();
    let before: Vec<_> = Tier::ALL.map(|tier| buckets(&mut driver, tier, "boiler", "power", 0)).into();
    send(&mut driver, "boiler", 20 * DAY + HOUR, &[("power", QUARTER + 5, 50.0)]);
    send(&mut driver, "other", 20 * DAY + HOUR + MINUTE, &[]);
    driver.run();
    for (tier, before) in Tier::ALL.into_iter().zip(before) {
        let after = buckets(&mut driver, tier, "boiler", "power", 0);
        let changed: Vec<i64> =
            after.iter().filter(|(start, slot)| before.get(start) != Some(slot)).map(|(at, _)| *at).collect();
        let start = QUARTER - QUARTER % tier.bucket_ms();
        assert_eq!(changed, [start], "{tier:?}");
        let (before, after) = (&before[&start], &after[&start]);
        assert_eq!(after.revision, before.revision + 1);
        let (before, after) = (whole(before, "power"), whole(after, "power"));
        assert_eq!((after.n, after.max), (before.n + 1, 50.0));
    }
}

/// Sentence 11: a hub that announces everything once more changes nothing.
#[test]
fn a_reading_that_is_told_again_changes_no_bucket() {
    let mut driver = TestDriver::new(topology());
    for _ in 0..3 {
        send(&mut driver, "boiler", 5, &[("power", 5, 1.0), ("mode", 5, 2.0)]);
    }
    send(&mut driver, "boiler", HOUR, &[]);
    send(&mut driver, "boiler", HOUR, &[("power", 5, 1.0)]);
    send(&mut driver, "boiler", HOUR + MINUTE, &[]);
    driver.run();
    let slot = &buckets(&mut driver, Tier::Quarters, "boiler", "power", 0)[&0];
    assert_eq!((slot.revision, whole(slot, "power").n), (1, 1));
}

#[test]
fn a_metric_that_nobody_knows_and_a_value_that_is_none_are_dead_letters() {
    let mut driver = TestDriver::new(topology());
    send(&mut driver, "boiler", 0, &[("power", 0, 1.0), ("pressure", 0, 1.0)]);
    send(&mut driver, "boiler", 0, &[("mode", 0, 1.5)]);
    send(&mut driver, "boi\0ler", 0, &[("power", 0, 1.0)]);
    let (key, value) = (Some(b"boiler\xff".to_vec()), Some(br#"[["power", 0, 1.0]]"#.to_vec()));
    driver.send_record("readings", Sent { key, value, timestamp_ms: Some(START), ..Sent::default() });
    send(&mut driver, "boiler", 0, &[("power", 0, 2.0)]);
    send(&mut driver, "boiler", HOUR, &[]);
    driver.run();
    let letters = driver.read_raw("readings-dlt");
    let code = |name: &str, headers: &[tidegate::flow::record::Header]| {
        let header = headers.iter().find(|header| header.name == name).and_then(|header| header.value.clone());
        String::from_utf8(header.unwrap()).unwrap()
    };
    let codes: Vec<String> = letters.iter().map(|letter| code("kafka_dlt-exception-fqcn", &letter.headers)).collect();
    assert_eq!(codes, ["unknown-metric", "bad-reading", "bad-key", "bad-key"]);
    assert_eq!(whole(&buckets(&mut driver, Tier::Days, "boiler", "power", 0)[&0], "power").sum, 2.0);
}

#[test]
fn a_roll_up_counts_what_it_took_what_was_there_and_what_came_late() {
    let topology = topology();
    let rollup = topology.roll_ups()[0].clone();
    let mut driver = TestDriver::new(topology);
    send(&mut driver, "boiler", 5, &[("power", 5, 1.0), ("mode", 5, 2.0)]);
    send(&mut driver, "boiler", 6, &[("power", 5, 1.0), ("power", 6, 1.0)]);
    send(&mut driver, "boiler", HOUR, &[]); // tells two quarters
    send(&mut driver, "boiler", HOUR, &[("power", 7, 1.0)]);
    send(&mut driver, "boiler", HOUR + MINUTE, &[]); // tells one of them again
    send(&mut driver, "boiler", DAY, &[]);
    send(&mut driver, "boiler", DAY, &[("power", 8, 1.0)]); // behind what is kept
    send(&mut driver, "boiler", DAY + MINUTE, &[]);
    driver.run();
    let counts = Counts { readings: 5, repeated: 1, late: 1, quarters: 4, quarters_again: 2, refused: 0 };
    assert_eq!(rollup.counts(), counts);
}

/// A small generator of numbers, the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Sentences 1 and 4: whatever order readings came in, and whatever came twice, each bucket is that of its readings, and each parent
/// the merge of its children.
#[test]
fn every_bucket_is_that_of_its_readings_whatever_came_late_or_twice() {
    for seed in 0..8 {
        let mut numbers = Numbers(seed);
        let mut driver = TestDriver::new(topology()).partitions(2);
        let (devices, metrics) = (["a", "ab", "c"], ["power", "energy", "mode", "door"]);
        let mut given: BTreeMap<(&str, &str), BTreeMap<i64, f64>> = BTreeMap::new();
        let mut clock = 0;
        for _ in 0..150 {
            clock += i64::try_from(numbers.below(6 * 60_000)).unwrap();
            let device = devices[usize::try_from(numbers.below(3)).unwrap()];
            let mut upload = Vec::new();
            for _ in 0..numbers.below(4) {
                let metric = metrics[usize::try_from(numbers.below(4)).unwrap()];
                // As late as an hour and a half, all of which is within what is kept.
                let late = if numbers.below(3) == 0 { numbers.below(90 * 60_000) } else { numbers.below(20_000) };
                let at = (clock - i64::try_from(late).unwrap()).max(0);
                let readings = given.entry((device, metric)).or_default();
                let value = *readings.entry(at).or_insert(f64::from(u8::try_from(numbers.below(16)).unwrap()));
                upload.push((metric, at, value));
            }
            send(&mut driver, device, clock, &upload);
            if numbers.below(4) == 0 {
                send(&mut driver, device, clock, &upload);
            }
            if numbers.below(20) == 0 {
                driver.kill(0);
                driver.start(0);
            }
        }
        for device in devices {
            send(&mut driver, device, clock + 2 * HOUR, &[]);
        }
        // Both partitions come to their ends.
        for n in 0..8 {
            send(&mut driver, &format!("end-{n}"), clock + 2 * HOUR, &[]);
        }
        driver.run();
        assert!(driver.halts().is_empty());
        for ((device, metric), readings) in &given {
            let metric_of = Home.metric(metric).unwrap();
            let mut children: BTreeMap<i64, Bucket> = BTreeMap::new();
            let starts: BTreeSet<i64> = readings.keys().map(|at| at - at % QUARTER).collect();
            for start in starts {
                let points: Vec<Point> =
                    readings.range(start..start + QUARTER).map(|(at, value)| point(*at, *value)).collect();
                // A minute's readings are merged first.
                let minutes = points.chunk_by(|one, next| one.at_ms / MINUTE == next.at_ms / MINUTE);
                let merged =
                    minutes.map(|minute| of(metric, minute)).reduce(|one, next| metric_of.merge(&one, &next).unwrap());
                children.insert(start, merged.unwrap());
            }
            for tier in Tier::ALL {
                let found = buckets(&mut driver, tier, device, metric, 0);
                let found: BTreeMap<i64, Bucket> =
                    found.iter().map(|(start, slot)| (*start, whole(slot, metric))).collect();
                if tier != Tier::Quarters {
                    let mut parents: BTreeMap<i64, Bucket> = BTreeMap::new();
                    for (start, child) in &children {
                        let parent = parents.remove(&(start - start % tier.bucket_ms()));
                        let merged =
                            parent.map_or_else(|| child.clone(), |parent| metric_of.merge(&parent, child).unwrap());
                        parents.insert(start - start % tier.bucket_ms(), merged);
                    }
                    children = parents;
                }
                assert_eq!(found, children, "seed {seed}, {device:?}, {metric}, {tier:?}");
            }
        }
    }
}
