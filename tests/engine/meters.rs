//! The pipeline of `examples/meters.rs`: the drawn load that `tests/system` sends through real servers, and a small one
//! by hand with a crash at every commit step.

use crate::waiting::service::{IDLE_MS, SILENT_MS, WAIT_MS, topology};
use crate::waiting::{IDS, Load, Outcome, PARTITIONS, Record, TABLES, whole_ms};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::engine::audit::audit;
use tidegate::flow::record::Timestamp;
use tidegate::flow::row::Value;
use tidegate::ports::history::Found;
use tidegate::testing::{Sent, TestDriver};

/// An hour before the driver begins.
const BEGAN_MS: i64 = 1_767_222_000_000;

#[derive(Serialize, Default)]
struct Account {
    open: i64,
    confirmed: i64,
    lapsed: i64,
}

#[derive(Serialize, Default)]
struct Meter {
    units: i64,
    windows: i64,
}

fn driver(partitions: i32, instances: usize) -> TestDriver {
    let mut driver = TestDriver::new(topology()).partitions(partitions).instances(instances);
    for id in 0..IDS {
        driver.row("accounts", id, Account::default());
        driver.row("meters", id, Meter::default());
    }
    driver
}

fn send(driver: &mut TestDriver, Record { topic, key, value, at }: Record) {
    let (key, value) = (Some(key.into_bytes()), value.map(String::into_bytes));
    driver.send_record(topic, Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
}

impl Outcome for TestDriver {
    fn read(&mut self, topic: &str) -> Vec<Found> {
        self.read_raw(topic)
    }

    fn rows(&mut self, table: &str, columns: &[&str]) -> BTreeMap<i64, Vec<i64>> {
        assert!(TABLES.contains(&(table, columns)), "they are read as the steps have them");
        let number = |value: &Value| match value {
            Value::I64(number) => *number,
            other => panic!("{other:?}"),
        };
        let mut row = |id| {
            let row = self.row_of(table, id).unwrap();
            std::iter::once(row.version).chain(row.values.iter().map(number)).collect()
        };
        (0..IDS).map(|id| (id, row(id))).collect()
    }
}

/// A portion within which keys fall idle, and devices silent.
const SLOW: i64 = 3;
const IDLE: Duration = Duration::from_millis(IDLE_MS.unsigned_abs());

/// The portions within which somebody dies; the second one's disk is lost.
const DEATHS: [i64; 3] = [2, 4, 6];

/// As on real servers, with two deaths each time: one between records of a key, for longer than a key is idle, and one at work.
fn played(seed: u64) -> (Load, TestDriver) {
    let portions = 8;
    let (mut load, mut driver) = (Load::new(seed, BEGAN_MS + 3_600_000 - whole_ms(portions)), driver(PARTITIONS, 2));
    for portion in 0..portions {
        let death = DEATHS.iter().position(|at| *at == portion);
        for (n, record) in load.next().into_iter().enumerate() {
            if let Some(death) = death.filter(|_| n == 20) {
                driver.run();
                driver.kill(death % 2);
                if death == 1 {
                    driver.disk(1).lose();
                }
                driver.pass(IDLE);
            }
            send(&mut driver, record);
            if portion == SLOW && n < 40 && n % 8 == 7 {
                driver.advance(IDLE);
            }
        }
        if portion == SLOW {
            load.was_slow();
        }
        match death.map(|death| death % 2) {
            Some(dead) => {
                driver.start(dead);
                (0..20).for_each(|_| driver.step());
                driver.kill(1 - dead);
                driver.start(1 - dead);
            }
            None => driver.run(),
        }
    }
    load.end().into_iter().for_each(|record| send(&mut driver, record));
    driver.run();
    // A task that is taken over begins the time anew.
    (0..3).for_each(|_| driver.advance(IDLE));
    (load, driver)
}

/// `TIDEGATE_METERS_SEEDS`: how many (2).
#[test]
fn everything_that_waits_is_told_once_through_deaths_and_a_lost_disk() {
    let seeds = std::env::var("TIDEGATE_METERS_SEEDS").map_or(2, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let (load, mut driver) = played(seed);
        load.judge(&mut driver).unwrap_or_else(|why| panic!("seed {seed}: {why}; of {}", load.sums()));
        assert!(driver.halts().is_empty());
        let (mut rows, mut log) = (driver.database().history("meters"), driver.log().history("meters"));
        let report = audit(&topology(), &mut rows, &mut log).unwrap();
        assert!(report.is_clean() && report.is_drained(), "seed {seed}: {report:?}");
    }
}

/// What the judge is told in place of what is there.
struct Falsified<'d> {
    driver: &'d mut TestDriver,
    topic: &'static str,
    /// Does what is wrong.
    change: fn(&mut Vec<Found>),
}

impl Outcome for Falsified<'_> {
    fn read(&mut self, topic: &str) -> Vec<Found> {
        let mut found = self.driver.read_raw(topic);
        if topic == self.topic {
            (self.change)(&mut found);
        }
        found
    }

    fn rows(&mut self, table: &str, columns: &[&str]) -> BTreeMap<i64, Vec<i64>> {
        let mut rows = self.driver.rows(table, columns);
        if table == self.topic {
            rows.values_mut().next().unwrap()[0] += 1; // its version: a change that left nothing else
        }
        rows
    }
}

#[test]
fn the_judge_of_what_waits_finds_a_message_that_is_missing_or_is_there_twice() {
    let (load, mut driver) = played(7);
    let topics = [
        "reading-sums",
        "clocked-sums",
        "clocked-late",
        "silent-devices",
        "lapsed-orders",
        "meter-totals",
        "usage-dlt",
        "paid-sums",
        "turnovers",
        "told-prices",
    ];
    let changes: [(&str, fn(&mut Vec<Found>)); 3] = [
        ("the last one is missing", |found| drop(found.pop())),
        ("the first one is missing", |found| drop(found.remove(0))),
        ("one is there twice", |found| found.insert(found.len() / 2, found[found.len() / 2].clone())),
    ];
    for topic in topics {
        for (what, change) in changes {
            let told = load.judge(&mut Falsified { driver: &mut driver, topic, change });
            let named = told.expect_err(&format!("{topic}: {what}, and nobody noticed"));
            assert!(named.starts_with(topic), "{topic}: {what}: {named}");
        }
    }
    for (table, _) in TABLES {
        let told = load.judge(&mut Falsified { driver: &mut driver, topic: table, change: |_| {} });
        assert!(told.as_ref().is_err_and(|named| named.starts_with(table)), "{table}: {told:?}");
    }
    let other = load.judge(&mut Falsified {
        driver: &mut driver,
        topic: "orders-dlt",
        change: |found| {
            found.push(Found {
                partition: 0,
                offset: 0,
                timestamp: Timestamp(0),
                key: None,
                value: None,
                headers: Vec::new(),
            })
        },
    });
    assert!(other.is_err_and(|named| named.starts_with("orders-dlt")));
}

fn values(driver: &mut TestDriver, topic: &str) -> Vec<(Option<String>, Json)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let value = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap();
    let found = driver.read_raw(topic).into_iter();
    found.map(|found| (found.key.map(text), found.value.map_or(Json::Null, value))).collect()
}

fn of(key: impl ToString, value: Json) -> (Option<String>, Json) {
    (Some(key.to_string()), value)
}

/// So many milliseconds behind the beginning; null is a tombstone.
fn say(driver: &mut TestDriver, topic: &'static str, key: &str, value: Json, at: i64) {
    let value = Some(value).filter(|value| !value.is_null()).map(|value| value.to_string());
    send(driver, Record { topic, key: key.into(), value, at: BEGAN_MS + at });
}

#[test]
fn each_step_that_waits_tells_what_its_records_say_and_a_crash_changes_none_of_it() {
    let mut driver = driver(1, 1);
    for topic in ["readings", "clocked"] {
        say(&mut driver, topic, "a", json!({"units": 1}), 0);
        say(&mut driver, topic, "a", json!({"units": 2}), 9_999);
        say(&mut driver, topic, "b", json!({"units": 3}), 12_000); // by its own clock a's window is open
    }
    say(&mut driver, "clocked", "c", json!({"units": 4}), 9_000);
    say(&mut driver, "heartbeats", "d", json!({"kind": "alive"}), 0);
    say(&mut driver, "heartbeats", "e", json!({"kind": "alive"}), 0);
    say(&mut driver, "heartbeats", "e", json!({"kind": "off"}), 0);
    say(&mut driver, "orders", "7", json!({"kind": "placed", "order": "o1", "cents": 5}), 0);
    say(&mut driver, "orders", "7", json!({"kind": "placed", "order": "o2", "cents": 6}), 0);
    say(&mut driver, "orders", "7", json!({"kind": "confirmed", "order": "o1"}), WAIT_MS - 1);
    say(&mut driver, "orders", "8", json!({"kind": "nothing"}), WAIT_MS);
    say(&mut driver, "usage", "7", json!({"units": 8}), 1);
    say(&mut driver, "usage", "7", json!({"units": 9}), 2);
    say(&mut driver, "usage", "7", json!({"units": 1}), 12_000);
    say(&mut driver, "card-payments", "k", json!({"payer": "p", "cents": 20}), 0);
    say(&mut driver, "transfers", "k", json!({"payer": "p", "cents": 20}), 0);
    say(&mut driver, "card-payments", "k", json!({"payer": "q", "cents": 1}), 30_000);
    say(&mut driver, "tariffs", "t", json!({"cents": 9}), 0);
    driver.run();
    say(&mut driver, "discounts", "t", json!({"percent": 3}), 1);
    driver.run();
    say(&mut driver, "tariffs", "t", Json::Null, 2);
    driver.advance(Duration::from_millis(SILENT_MS.unsigned_abs()));
    (0..2).for_each(|_| driver.advance(IDLE));

    let sum = |start: i64, readings: i64, units: i64| {
        let start_ms = BEGAN_MS + start;
        json!({"start_ms": start_ms, "readings": readings, "units": units, "correction": 0})
    };
    let all = [of("a", sum(0, 2, 3)), of("b", sum(10_000, 1, 3))];
    assert_eq!(values(&mut driver, "reading-sums"), all, "both by idleness");
    assert_eq!(values(&mut driver, "clocked-sums"), all[..1], "the other one is open");
    assert_eq!(values(&mut driver, "clocked-late"), [of("c", json!({"units": 4}))]);
    let silent = [of("e", json!({"beats": 1, "is_off": true})), of("d", json!({"beats": 1, "is_off": false}))];
    assert_eq!(values(&mut driver, "silent-devices"), silent);
    let lapsed = json!({"order": "o2", "cents": 6, "at_ms": BEGAN_MS + WAIT_MS});
    assert_eq!(values(&mut driver, "lapsed-orders"), [of(7, lapsed)]);
    assert_eq!(driver.rows(TABLES[0].0, TABLES[0].1)[&7], [4, 0, 5, 6]);
    let total = json!({"start_ms": BEGAN_MS, "units": 17, "windows": 1});
    assert_eq!(values(&mut driver, "meter-totals"), [of(7, total)]);
    assert_eq!(driver.rows(TABLES[1].0, TABLES[1].1)[&7], [1, 17, 1]);
    assert_eq!(values(&mut driver, "paid-sums"), [of("p", json!(20)), of("p", json!(40)), of("q", json!(1))]);
    let tick = json!({"partition": 0, "at_ms": BEGAN_MS + 10_000, "payments": 2, "cents": 21});
    assert_eq!(values(&mut driver, "turnovers"), [(None, tick)]);
    let prices = [json!({"cents": 9, "percent": null}), json!({"cents": 9, "percent": 3})];
    let prices = prices.into_iter().chain([json!({"cents": null, "percent": 3})]).map(|price| of("t", price));
    assert_eq!(values(&mut driver, "told-prices"), prices.collect::<Vec<_>>());
    driver.crash_everywhere();
}

/// The outbox tells of steps with rows alone.
#[test]
fn an_audit_counts_no_message_of_a_step_without_rows() {
    let mut driver = driver(1, 1);
    for (at, units) in [(0, 1), (12_000, 2)] {
        say(&mut driver, "readings", "a", json!({ "units": units }), at);
    }
    assert_eq!(values(&mut driver, "reading-sums").len(), 1);
    let (mut rows, mut log) = (driver.database().history("meters"), driver.log().history("meters"));
    let report = audit(&topology(), &mut rows, &mut log).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.in_topics, report.beyond_retention), (0, 0));
}
