//! Alerts of roll-ups, on the shipped pipeline `home`: devices that fall silent and come back, and values that leave their bounds, each
//! told once whatever dies meanwhile.

use crate::rolled::{self, Load};
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::engine::protocol::order::Step;
use tidegate::flow::rollup::{Between, Kind, Measured, Metered, Metric, Patience, Reading, Watch};
use tidegate::flow::{Context, Reject, Topology};
use tidegate::pipelines::home;
use tidegate::ports::Clock as _;
use tidegate::ports::history::Found;
use tidegate::testing::{Random, Sent, TestDriver};

const MINUTE: i64 = 60_000;
/// Behind it a device that has just been heard may be told to be silent: what is noted of it may be a minute old.
const SILENT: i64 = 31 * MINUTE;

/// The start of the driver's clock.
const START: i64 = 1_767_225_600_000;

/// All devices in one partition.
fn homes() -> TestDriver {
    TestDriver::new(home::topology()).partitions(1)
}

/// The same, some hours behind the start: what is sent with a time since then comes from the past.
fn later() -> TestDriver {
    let mut driver = homes();
    driver.advance(Duration::from_hours(10));
    driver
}

/// A record of a device, at so many milliseconds behind the start; its one reading is of that time, too.
fn send(driver: &mut TestDriver, device: &str, at: i64, metric: &str, value: f64) {
    send_measured(driver, device, at, &json!([{ "at_ms": START + at, "metrics": { metric: value } }]));
}

fn send_measured(driver: &mut TestDriver, device: &str, at: i64, measured: &Value) {
    let (key, value) = (Some(device.as_bytes().to_vec()), Some(measured.to_string().into_bytes()));
    driver.send_record("home-readings", Sent { key, value, timestamp_ms: Some(START + at), ..Sent::default() });
}

/// A sign of life.
fn beat(driver: &mut TestDriver, device: &str, at: i64) {
    send(driver, device, at, "power", 1.0);
}

/// The alerts in their order: device and value, times counted from the start.
fn alerts(driver: &mut TestDriver) -> Vec<(String, Value)> {
    let read = |Found { key, value, .. }: Found| {
        let mut alert: Value = serde_json::from_slice(&value.unwrap()).unwrap();
        for name in ["since_ms", "at_ms"] {
            if let Some(at_ms) = alert[name].as_i64() {
                alert[name] = json!(at_ms - START);
            }
        }
        (String::from_utf8(key.unwrap()).unwrap(), alert)
    };
    driver.read_raw("home-alerts").into_iter().map(read).collect()
}

fn silent(device: &str, since: i64) -> (String, Value) {
    (device.into(), json!({ "alert": "silent", "since_ms": since }))
}

fn back(device: &str, since: i64) -> (String, Value) {
    (device.into(), json!({ "alert": "back", "since_ms": since }))
}

/// The time by the wall clock, in milliseconds behind the start.
fn now(driver: &mut TestDriver) -> i64 {
    driver.clock().now().0 - START
}

/// Lets the wall clock go on, a few seconds at a time, until it is so late.
fn wait_until(driver: &mut TestDriver, at: i64) {
    while now(driver) < at {
        driver.advance(Duration::from_secs(5));
    }
}

#[test]
fn a_device_that_falls_silent_is_told_once_by_the_clock_of_its_partition_and_once_when_it_is_back() {
    let mut driver = later();
    beat(&mut driver, "boiler", 0);
    beat(&mut driver, "lamp", 0);
    beat(&mut driver, "lamp", SILENT - 1);
    assert!(alerts(&mut driver).is_empty(), "{:?}", alerts(&mut driver));
    beat(&mut driver, "lamp", SILENT);
    assert_eq!(alerts(&mut driver), [silent("boiler", 0)]);
    beat(&mut driver, "lamp", 2 * SILENT - 2 * MINUTE);
    beat(&mut driver, "boiler", 2 * SILENT - MINUTE);
    beat(&mut driver, "boiler", 2 * SILENT);
    beat(&mut driver, "lamp", 2 * SILENT);
    let told = [silent("boiler", 0), back("boiler", 0)];
    assert_eq!(alerts(&mut driver), told);
    // And it may fall silent again.
    beat(&mut driver, "lamp", 3 * SILENT - 2 * MINUTE);
    beat(&mut driver, "lamp", 3 * SILENT - MINUTE);
    assert_eq!(alerts(&mut driver), [&told[..], &[silent("boiler", 2 * SILENT - MINUTE)]].concat());
    driver.crash_everywhere();
}

/// A device that reports now and then is heard each time, and never told.
#[test]
fn a_device_is_heard_with_every_record_also_where_that_is_not_noted() {
    let mut driver = later();
    for minute in 0..120 {
        beat(&mut driver, "lamp", minute * MINUTE);
        if minute % 29 == 0 {
            beat(&mut driver, "boiler", minute * MINUTE);
            beat(&mut driver, "boiler", minute * MINUTE + MINUTE - 1); // too soon to be noted
        }
    }
    assert!(alerts(&mut driver).is_empty(), "{:?}", alerts(&mut driver));
    // Heard last in minute 116, of which the note is of its beginning.
    beat(&mut driver, "lamp", 116 * MINUTE + SILENT);
    assert_eq!(alerts(&mut driver), [silent("boiler", 116 * MINUTE)]);
}

#[test]
fn where_a_whole_partition_is_quiet_the_wall_clock_tells_it_once() {
    let mut driver = homes();
    beat(&mut driver, "boiler", 0);
    wait_until(&mut driver, 30 * MINUTE);
    assert!(alerts(&mut driver).is_empty());
    wait_until(&mut driver, 32 * MINUTE);
    assert_eq!(alerts(&mut driver), [silent("boiler", 0)]);
    wait_until(&mut driver, 150 * MINUTE);
    driver.kill(0);
    driver.start(0);
    wait_until(&mut driver, 200 * MINUTE);
    assert_eq!(alerts(&mut driver), [silent("boiler", 0)], "told once");
    let at = now(&mut driver);
    beat(&mut driver, "boiler", at);
    assert_eq!(alerts(&mut driver), [silent("boiler", 0), back("boiler", 0)]);
    wait_until(&mut driver, at + 34 * MINUTE);
    assert_eq!(alerts(&mut driver), [silent("boiler", 0), back("boiler", 0), silent("boiler", at)]);
}

/// The last two devices of a partition end within seconds: the clock of the partition goes no further, and both are told.
#[test]
fn devices_that_fall_silent_together_are_all_told() {
    let mut driver = homes();
    for n in 0..6 {
        wait_until(&mut driver, n * MINUTE / 2);
        for device in ["boiler", "lamp"] {
            let at = now(&mut driver);
            beat(&mut driver, device, at);
            driver.advance(Duration::from_secs(3));
        }
    }
    wait_until(&mut driver, 40 * MINUTE);
    let mut told: Vec<String> = alerts(&mut driver).into_iter().map(|(device, _)| device).collect();
    told.sort();
    assert_eq!(told, ["boiler", "lamp"], "{:?}", alerts(&mut driver));
}

/// Behind a downtime the timers of the wall clock are overdue. What devices sent meanwhile is read first; a device that has really gone
/// is told some minutes behind the start.
#[test]
fn a_downtime_makes_no_device_silent_that_has_sent_meanwhile() {
    let mut driver = homes();
    for device in ["boiler", "lamp", "gone"] {
        beat(&mut driver, device, 0);
    }
    driver.run();
    driver.stop(0);
    for minute in 1..180 {
        driver.pass(Duration::from_secs(60));
        for device in ["boiler", "lamp"] {
            beat(&mut driver, device, minute * MINUTE);
        }
    }
    driver.start(0);
    driver.run();
    assert_eq!(alerts(&mut driver), [silent("gone", 0)], "by what the others have sent");

    // The same in a partition in which nothing was sent, and nothing is.
    let mut driver = homes();
    beat(&mut driver, "boiler", 0);
    driver.run();
    driver.stop(0);
    driver.pass(Duration::from_hours(3));
    driver.start(0);
    driver.run();
    assert!(alerts(&mut driver).is_empty(), "nobody knows yet");
    wait_until(&mut driver, 185 * MINUTE);
    assert_eq!(alerts(&mut driver), [silent("boiler", 0)]);
}

/// What was told by the clock of the partition is told by a replay, too, however late and however fast that is.
#[test]
fn a_replay_tells_the_same() {
    let sent = |driver: &mut TestDriver, minute: i64| {
        beat(driver, "lamp", minute * MINUTE);
        if !(40..90).contains(&minute) && minute < 140 {
            beat(driver, "boiler", minute * MINUTE);
        }
    };
    let mut live = homes();
    for minute in 0..200 {
        sent(&mut live, minute);
        live.advance(Duration::from_secs(60));
    }
    let told = alerts(&mut live);
    let kinds: Vec<&str> = told.iter().map(|(_, alert)| alert["alert"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["silent", "back", "silent"]);
    let mut replay = homes();
    replay.pass(Duration::from_hours(10));
    for minute in 0..200 {
        sent(&mut replay, minute);
    }
    assert_eq!(alerts(&mut replay), told);
}

/// The turn in which the wall clock tells it is cut off behind each step of its transaction.
#[test]
fn what_the_wall_clock_tells_is_told_once_whichever_step_dies() {
    for step in [Step::OpenKafka, Step::Produce, Step::Flush, Step::SendOffsets, Step::CommitKafka] {
        let mut driver = homes();
        beat(&mut driver, "boiler", 0);
        wait_until(&mut driver, 30 * MINUTE);
        driver.crash_at(step, 1);
        wait_until(&mut driver, 40 * MINUTE);
        assert_eq!(driver.crashes(), 1, "{step:?}");
        assert_eq!(alerts(&mut driver), [silent("boiler", 0)], "{step:?}");
    }
}

fn crossed(device: &str, alert: &str, at: i64, value: f64) -> (String, Value) {
    (device.into(), json!({ "alert": alert, "metric": "voltage", "at_ms": at, "value": value }))
}

#[test]
fn a_value_above_its_bound_is_told_once_until_one_lies_below_the_lower_bound() {
    let mut driver = later();
    let values = [253.0, 253.1, 255.0, 252.0, 250.0, 253.5, 249.9, 240.0, 254.0];
    for (at, value) in (0..).map(|n| n * 1_000).zip(values) {
        send(&mut driver, "house", at, "voltage", value);
    }
    send(&mut driver, "house", 9_000, "power", 9_000.0);
    let told = [
        crossed("house", "above", 1_000, 253.1),
        crossed("house", "below", 6_000, 249.9),
        crossed("house", "above", 8_000, 254.0),
    ];
    assert_eq!(alerts(&mut driver), told);
    driver.crash_everywhere();
}

/// A device that was offline sends what it has kept: its readings are judged in the order of their times, and what is older than the
/// last alert, or was there already, tells nothing.
#[test]
fn late_readings_are_told_in_the_order_of_their_times_and_none_twice() {
    let mut driver = later();
    let at = |at: i64, value: f64| json!({ "at_ms": START + at, "metrics": { "voltage": value } });
    let kept = json!([at(3_000, 249.0), at(1_000, 260.0), at(2_000, 252.0), at(4_000, 256.0)]);
    let told = [
        crossed("house", "above", 1_000, 260.0),
        crossed("house", "below", 3_000, 249.0),
        crossed("house", "above", 4_000, 256.0),
    ];
    send_measured(&mut driver, "house", 10_000, &kept);
    assert_eq!(alerts(&mut driver), told);
    send_measured(&mut driver, "house", 11_000, &kept);
    send_measured(&mut driver, "house", 12_000, &json!([at(3_500, 240.0)]));
    assert_eq!(alerts(&mut driver), told);
}

/// A record that is a dead letter is no sign of life, and leaves no alert behind.
#[test]
fn a_record_that_is_not_taken_tells_nothing() {
    let mut driver = later();
    let wrong = json!([{ "at_ms": START, "metrics": { "voltage": 260.0, "pressure": 1.0 } }]);
    send_measured(&mut driver, "house", 0, &wrong);
    beat(&mut driver, "lamp", 0);
    // The first one behind its own silence tells both.
    beat(&mut driver, "lamp", 2 * SILENT);
    assert_eq!(alerts(&mut driver), [silent("lamp", 0), back("lamp", 0)]);
    assert_eq!(driver.read_raw("home-readings-dlt").len(), 1);
}

/// Records of two dozen devices over a day and a half, in three partitions, with deaths between, and one device that was offline.
#[test]
fn alerts_are_those_of_a_computation_beside_whatever_dies_between() {
    for seed in 0..4 {
        let mut driver = TestDriver::new(home::topology()).partitions(3).instances(2);
        driver.advance(Duration::from_secs(1));
        let (mut load, mut sent, mut random) =
            (Load::new(seed, START - 40 * 60 * MINUTE), Vec::new(), Random::new(seed));
        for portion in 0..18 {
            let records = if portion == 17 { load.end() } else { load.next() };
            for (n, record) in records.iter().enumerate() {
                let (key, value) = (Some(record.key.clone().into_bytes()), Some(record.value.clone().into_bytes()));
                let sent = Sent { key, value, timestamp_ms: Some(record.at), ..Sent::default() };
                driver.send_record("home-readings", sent);
                if n % 16 == 0 {
                    driver.run();
                }
            }
            sent.extend(records);
            if random.happens(50) {
                let instance = usize::from(random.happens(50));
                driver.kill(instance);
                driver.start(instance);
            }
        }
        let (due, told) = (rolled::alerts(&sent, 3), rolled::told(driver.read_raw("home-alerts")));
        let count = |kind: &str| due.values().flatten().filter(|alert| alert["alert"] == kind).count();
        for kind in ["silent", "back", "above", "below"] {
            assert!(count(kind) > 20, "seed {seed}: {} {kind}", count(kind));
        }
        assert_eq!(told, due, "seed {seed}");
    }
}

/// Says what to watch.
struct Watching(Watch);

impl Metered for Watching {
    type Event = Vec<Measured>;

    fn readings(&self, measured: Vec<Measured>, _: &Context<'_>) -> Result<Vec<Reading>, Reject> {
        Ok(Measured::readings(measured))
    }

    fn metric(&self, name: &str) -> Option<Metric> {
        (name == "power").then(|| Metric::new(Kind::Gauge(Between::Step)))
    }

    fn watch(&self) -> Watch {
        self.0.clone()
    }
}

#[test]
fn what_cannot_be_watched_is_refused_before_the_start() {
    let topology = |watch: Watch| {
        let mut topology = Topology::new("p");
        topology.source("readings").roll_up("home", Watching(watch), Patience::default());
        topology
    };
    let errors = |watch: Watch| topology(watch).validate().unwrap_err().join("; ");
    let short = errors(Watch::default().silent_after(Duration::from_secs(29)));
    assert!(short.contains("roll_up home: silent_after(): 29000 ms are less than 30 s"), "{short}");
    let unknown = errors(Watch::default().above("pressure", 2.0, 1.0));
    assert!(unknown.contains("there is no such metric"), "{unknown}");
    let inverse = errors(Watch::default().above("power", 1.0, 2.0));
    assert!(inverse.contains("the lower bound, 2, lies above the upper one, 1"), "{inverse}");
    let nothing = topology(Watch::default());
    assert!(nothing.outputs().iter().all(|topic| topic.as_str() != "home-alerts"), "no topic where nothing is watched");
    assert_eq!(topology(Watch::default().above("power", 2.0, 1.0)).validate(), Ok(()));
}
