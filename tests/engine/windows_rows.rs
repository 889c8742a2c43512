//! Windows beside rows: what one gives out changes the row of its key, in the transaction of the record that it is given out behind.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::engine::status::Counter;
use tidegate::flow::row::Value;
use tidegate::flow::window::{
    Clock, Emit, Hopping, Merge, Pane, Session, Tumbling, Window, Windowed, Windows, Working,
};
use tidegate::flow::{Algorithm, At, Context, Reject, Store, Table, Topology};
use tidegate::ports::history::Found;
use tidegate::testing::{Sent, TestDriver};

#[derive(Deserialize)]
struct Reading {
    watts: i64,
}

/// Adds up the watts of a window. The first of its records with negative ones is offered once more.
#[derive(Default)]
struct Sums {
    has_asked: AtomicBool,
}

/// What a window gives out: its sum, negative where it is taken back.
#[derive(Serialize)]
struct Sum {
    watts: i64,
    is_early: bool,
}

impl Windowed for Sums {
    type Event = Reading;
    type Value = i64;
    type Notices = Option<Sum>;

    fn add(&self, reading: &Reading, sum: &mut i64, _: &mut Context<'_>) -> Result<(), Reject> {
        if reading.watts < 0 && !self.has_asked.swap(true, Ordering::Relaxed) {
            return Err(Reject::retry("told-to", "once more"));
        }
        *sum += reading.watts.abs();
        Ok(())
    }

    fn emit(&self, sum: &i64, window: &Window<'_>) -> Option<Sum> {
        assert_ne!(*sum, 13, "told to panic");
        if *sum == 99 {
            tidegate::testing::die();
        }
        let (watts, is_early) = match window.pane {
            Pane::Retraction => (-sum, false),
            pane => (*sum, pane == Pane::Early),
        };
        (watts != 0).then_some(Sum { watts, is_early })
    }
}

impl Merge for Sums {
    fn merge(&self, into: &mut i64, later: i64) {
        *into += later;
    }
}

/// The row of a device: what all of its windows gave out, and how many.
#[derive(Serialize, Deserialize, Default)]
struct Device {
    watts: i64,
    windows: i64,
}

struct Totals;

#[derive(Serialize, Deserialize)]
struct Total {
    watts: i64,
    at: i64,
}

impl Algorithm for Totals {
    type Event = Sum;
    type Row = Device;
    type Notices = Vec<Total>;

    fn apply(&self, sum: Sum, device: &mut Device, context: &mut Context<'_>) -> Result<Vec<Total>, Reject> {
        if sum.watts == 66 {
            return Err(Reject::new("told to"));
        }
        if !sum.is_early {
            device.watts += sum.watts;
            device.windows += 1;
        }
        Ok(vec![Total { watts: device.watts, at: context.event_time_ms() }])
    }
}

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn topology(clock: Clock) -> Topology {
    let mut topology = Topology::new("p");
    let source = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(5))).clock(clock);
    source.update("devices", "sums", Sums::default(), Totals).to("totals");
    topology
}

fn filled(mut driver: TestDriver, devices: i64) -> TestDriver {
    for id in 0..devices {
        driver.row("devices", id, Device::default());
    }
    driver
}

fn driver(clock: Clock, devices: i64) -> TestDriver {
    filled(TestDriver::new(topology(clock)), devices)
}

fn send(driver: &mut TestDriver, id: i64, at: i64, watts: i64) {
    let value = json!({ "watts": watts }).to_string().into_bytes();
    let key = Some(id.to_string().into_bytes());
    driver.send_record("readings", Sent { key, value: Some(value), timestamp_ms: Some(at), ..Sent::default() });
}

/// The watts and the number of windows of a row.
fn row(driver: &mut TestDriver, id: i64) -> (i64, i64) {
    match driver.row_of("devices", id).unwrap().values[..] {
        [Value::I64(watts), Value::I64(windows)] => (watts, windows),
        ref other => panic!("{other:?}"),
    }
}

fn header(found: &Found, name: &str) -> Option<String> {
    let header = found.headers.iter().rev().find(|header| header.name == name)?;
    header.value.clone().map(|value| String::from_utf8(value).unwrap())
}

/// The notices in their order: id, watts, time.
fn told(driver: &mut TestDriver) -> Vec<(String, i64, i64)> {
    let read = |found: Found| {
        let id = header(&found, "tg_id").unwrap();
        let Total { watts, at } = serde_json::from_slice(&found.value.unwrap()).unwrap();
        (id, watts, at)
    };
    driver.read_raw("totals").into_iter().map(read).collect()
}

/// The codes of the dead letters, and the timer that each is of.
fn letters(driver: &mut TestDriver) -> Vec<(String, Option<String>)> {
    let letters = driver.read_raw("readings-dlt");
    let read = |letter: &Found| (header(letter, "kafka_dlt-exception-fqcn").unwrap(), header(letter, "tg_timer"));
    letters.iter().map(read).collect()
}

/// The spans of the windows that the dead letters tell of.
fn spans(driver: &mut TestDriver) -> Vec<Option<String>> {
    driver.read_raw("readings-dlt").iter().map(|letter| header(letter, "tg_window")).collect()
}

fn span(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The entries of the store of panes that wait, by its changelog.
fn panes_that_wait(driver: &mut TestDriver) -> BTreeSet<Vec<u8>> {
    let mut waiting = BTreeSet::new();
    let changelog = driver.read_raw("p-sums-for-row-changelog");
    assert!(!changelog.is_empty());
    for found in changelog {
        let key = found.key.unwrap();
        if found.value.is_some() {
            waiting.insert(key)
        } else {
            waiting.remove(&key)
        };
    }
    waiting
}

fn devices() -> Table {
    Table::new("devices")
}

#[test]
fn a_window_changes_the_row_of_its_key_once_it_is_closed_by_the_clock_of_that_key() {
    let mut driver = driver(Clock::PerKey, 2);
    for (id, at, watts) in [(0, 1, 2), (0, 9, 3), (1, 100, 1), (0, 14, 4)] {
        send(&mut driver, id, at, watts);
    }
    assert_eq!(row(&mut driver, 0), (0, 0), "the grace is not over");
    send(&mut driver, 0, 15, 1);
    assert_eq!((row(&mut driver, 0), row(&mut driver, 1)), ((5, 1), (0, 0)));
    send(&mut driver, 0, 60, 7);
    assert_eq!(row(&mut driver, 0), (10, 2));
    assert_eq!(told(&mut driver), [("p/readings/0/4/0".to_owned(), 5, 9), ("p/readings/0/5/0".to_owned(), 10, 19)]);
    driver.crash_everywhere();
}

#[test]
fn the_clock_of_the_partition_closes_the_windows_of_all_keys_in_the_order_of_their_ends() {
    let mut driver = driver(Clock::PerPartition, 3);
    for (id, at, watts) in [(0, 1, 2), (1, 12, 3), (0, 14, 4), (2, 25, 9)] {
        send(&mut driver, id, at, watts);
    }
    assert_eq!([0, 1, 2].map(|id| row(&mut driver, id)), [(6, 2), (3, 1), (0, 0)]);
    let times: Vec<i64> = told(&mut driver).into_iter().map(|(_, _, at)| at).collect();
    assert_eq!(times, [9, 19, 19]);
    driver.crash_everywhere();
}

/// Several are closed by one event: each is run by itself.
#[test]
fn a_window_that_is_refused_is_a_dead_letter_of_its_own_and_is_not_tried_again() {
    let mut driver = driver(Clock::PerKey, 1);
    driver.database().check(&devices(), |values| match values {
        [Value::I64(7), _] => Err("no".into()),
        _ => Ok(()),
    });
    // A panic in emit, a refusal, a row that the database refuses, and one that is right.
    for (at, watts) in [(1, 13), (11, 66), (21, 7), (31, 4)] {
        send(&mut driver, 0, at, watts);
    }
    send(&mut driver, 0, 100, 1);
    send(&mut driver, 0, 101, 1);
    driver.run();
    assert_eq!(row(&mut driver, 0), (4, 1));
    let due = ["panic", "rejected", "constraint"].into_iter().enumerate();
    let due: Vec<_> = due.map(|(n, code)| (code.to_owned(), Some(format!("for-row-{n:020}-final")))).collect();
    assert_eq!(letters(&mut driver), due);
    assert_eq!(spans(&mut driver), ["0/10", "10/20", "20/30"].map(span));
    assert!(panes_that_wait(&mut driver).is_empty(), "one that failed is dropped, too");
}

#[test]
fn an_event_needs_no_row_and_a_window_without_one_is_a_dead_letter_or_makes_it() {
    let mut driver = driver(Clock::PerPartition, 1);
    send(&mut driver, 7, 1, 5);
    assert_eq!(letters(&mut driver), []);
    send(&mut driver, 0, 100, 1);
    driver.run();
    assert_eq!(letters(&mut driver), [("missing-row".to_owned(), Some("close".to_owned()))]);
    assert_eq!(spans(&mut driver), [span("0/10")]);
    let mut topology = Topology::new("p");
    let source = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(5))).clock(Clock::PerPartition);
    source.update("devices", "sums", Sums::default(), Totals).insert_missing(|_| Device::default()).to("totals");
    let mut driver = filled(TestDriver::new(topology), 1);
    send(&mut driver, 7, 1, 5);
    assert!(driver.row_of("devices", 7).is_none());
    send(&mut driver, 0, 100, 1);
    assert_eq!(row(&mut driver, 7), (5, 1));
    driver.crash_everywhere();
}

#[test]
fn a_session_that_a_late_event_opens_again_is_taken_back_from_its_row() {
    let mut topology = Topology::new("p");
    let source = topology.source("readings").window(Session::gap(ms(10)).grace(ms(0))).corrections_for(ms(1_000));
    source.update("devices", "sums", Sums::default(), Totals).to("totals");
    let mut driver = filled(TestDriver::new(topology), 1);
    send(&mut driver, 0, 100, 2);
    send(&mut driver, 0, 111, 3); // the first one is over, and the row has it
    assert_eq!(row(&mut driver, 0), (2, 1));
    send(&mut driver, 0, 108, 4); // one session with both, which is open: the first counts no more
    assert_eq!(row(&mut driver, 0), (0, 2));
    send(&mut driver, 0, 300, 1);
    assert_eq!(row(&mut driver, 0), (9, 3));
    assert_eq!(told(&mut driver).into_iter().map(|(_, watts, _)| watts).collect::<Vec<_>>(), [2, 0, 9]);
    driver.crash_everywhere();
}

#[test]
fn early_panes_are_told_with_each_event() {
    let mut topology = Topology::new("p");
    let source = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(5))).emit(Emit::OnUpdate);
    source.update("devices", "sums", Sums::default(), Totals).to("totals");
    let mut driver = filled(TestDriver::new(topology), 1);
    for (at, watts) in [(1, 2), (2, 3), (20, 1)] {
        send(&mut driver, 0, at, watts);
    }
    let told = told(&mut driver);
    assert_eq!(told.iter().map(|(_, watts, at)| (*watts, *at)).collect::<Vec<_>>(), [(0, 1), (0, 2), (5, 9), (5, 20)]);
    assert_eq!(row(&mut driver, 0), (5, 1));
    driver.crash_everywhere();
}

#[test]
fn a_late_record_is_counted_and_goes_where_it_is_said() {
    let late = |late_to: bool| {
        let mut topology = Topology::new("p");
        let source = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(5)));
        let source = if late_to { source.late_to("late") } else { source };
        source.update("devices", "sums", Sums::default(), Totals).to("totals");
        let mut driver = filled(TestDriver::new(topology), 1);
        send(&mut driver, 0, 100, 1);
        send(&mut driver, 0, 1, 8);
        driver.run();
        driver
    };
    let mut driver = late(false);
    assert_eq!(letters(&mut driver), [("late".to_owned(), None)]);
    assert_eq!(spans(&mut driver), [None], "the record's, of no window");
    assert_eq!(driver.status(0).value(Counter::Late), 1);
    driver.crash_everywhere();
    let mut driver = late(true);
    let found = driver.read_raw("late");
    assert_eq!((found.len(), letters(&mut driver)), (1, vec![]));
    assert_eq!(found[0].value.as_deref(), Some(br#"{"watts":8}"# as &[u8]));
    assert_eq!(driver.status(0).value(Counter::Late), 1);
    driver.crash_everywhere();
}

#[test]
fn windows_outlive_instances_and_disks() {
    let mut driver = filled(TestDriver::new(topology(Clock::PerKey)).partitions(2).instances(2), 10);
    for at in [1, 5, 12, 40] {
        (0..10).for_each(|id| send(&mut driver, id, at, id + 1));
    }
    driver.run();
    for id in 0..10 {
        assert_eq!(row(&mut driver, id), (3 * (id + 1), 2), "{id}");
    }
    driver.crash_everywhere();
}

#[test]
fn what_has_no_offset_beside_rows_is_refused_before_the_start() {
    let mut topology = Topology::new("p");
    let source = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(5))).idle_after(ms(10));
    source.update("devices", "sums", Sums::default(), Totals).with_timers("own").to("totals");
    let errors = topology.validate().unwrap_err().join("; ");
    assert!(errors.contains("store sums: idle_after() closes windows between two records"), "{errors}");
    assert!(errors.contains("timers own: windows and pairs set their own"), "{errors}");
}

/// A timer of its own for each pane: the note of the records in hand tells them apart.
#[test]
fn a_pane_that_kills_the_process_takes_no_other_one_of_its_key_with_it() {
    let mut driver = driver(Clock::PerKey, 1);
    for (at, watts) in [(1, 3), (11, 99), (21, 4)] {
        send(&mut driver, 0, at, watts);
    }
    send(&mut driver, 0, 100, 1);
    driver.run();
    assert_eq!(letters(&mut driver), [("kills-the-process".to_owned(), Some(format!("for-row-{:020}-final", 1)))]);
    assert_eq!(spans(&mut driver), [span("10/20")]);
    assert_eq!(row(&mut driver, 0), (7, 2));
    assert!(panes_that_wait(&mut driver).is_empty());
}

/// The other stream would move the clock meanwhile, within the batch as between two.
#[test]
fn a_record_that_is_offered_again_is_not_late_for_the_other_stream() {
    let mut topology = Topology::new("p");
    let source = topology.source("readings").with("more").window(Tumbling::of(ms(10)).grace(ms(0)));
    source.clock(Clock::PerPartition).update("devices", "sums", Sums::default(), Totals).to("totals");
    let mut driver = filled(TestDriver::new(topology).settings(|settings| settings.retry_attempts = 3), 2);
    send(&mut driver, 0, 5, -1);
    let value = Some(json!({"watts": 2}).to_string().into_bytes());
    driver.send_record("more", Sent { key: Some(b"1".to_vec()), value, timestamp_ms: Some(100), ..Sent::default() });
    driver.run();
    assert_eq!(letters(&mut driver), []);
    assert_eq!(row(&mut driver, 0), (1, 1));
}

/// Windows have timers of their own, which are nobody else's.
#[test]
fn an_algorithm_over_windows_that_sets_a_timer_halts_its_partition_with_the_reason() {
    struct Sets;

    impl Algorithm for Sets {
        type Event = Sum;
        type Row = Device;
        type Notices = Vec<Total>;

        fn apply(&self, _: Sum, _: &mut Device, context: &mut Context<'_>) -> Result<Vec<Total>, Reject> {
            context.set_timer("mine", At::Event(1))?;
            Ok(Vec::new())
        }
    }

    let mut topology = Topology::new("p");
    let source = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(5)));
    source.update("devices", "sums", Sums::default(), Sets).to("totals");
    let mut driver = filled(TestDriver::new(topology), 1);
    send(&mut driver, 0, 1, 2);
    send(&mut driver, 0, 100, 2);
    let halts = driver.halts();
    assert_eq!(halts.len(), 1);
    assert!(halts[0].detail.contains("whose windows or pairs set their own, has no others"), "{halts:?}");
    assert_eq!(letters(&mut driver), []);
}

/// The windows of others come first, a thousand behind each record: what waits is not overtaken by what is given out later.
#[test]
fn a_pane_that_waits_is_not_overtaken_by_a_later_one_of_its_key() {
    let mut topology = Topology::new("p");
    let source = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(0)));
    let source = source.clock(Clock::PerPartition).corrections_for(ms(1_000));
    source.update("devices", "sums", Sums::default(), Totals).to("totals");
    let mut driver = filled(TestDriver::new(topology).partitions(1), 2_001);
    (0..=2_000).for_each(|id| send(&mut driver, id, 1, 0));
    for (id, at, watts) in [(2_000, 100, 0), (0, 15, 1), (0, 12, 2), (2_000, 101, 0), (2_000, 102, 0)] {
        send(&mut driver, id, at, watts);
    }
    driver.run();
    let of_first = |found: &Found| found.key.as_deref() == Some(b"0");
    let told = driver.read_raw("totals").into_iter().filter(of_first);
    let told: Vec<Total> = told.map(|found| serde_json::from_slice(&found.value.unwrap()).unwrap()).collect();
    let told: Vec<(i64, i64)> = told.iter().map(|total| (total.watts, total.at)).collect();
    assert_eq!(told, [(1, 15), (4, 12)], "each with the time at which it was given out");
    assert_eq!(letters(&mut driver), []);
}

/// The same sums in another shape.
struct Watts;

#[derive(Serialize, Deserialize, Default)]
struct Value2 {
    watts: i64,
}

impl Windowed for Watts {
    type Event = Reading;
    type Value = Value2;
    type Notices = Option<Sum>;

    fn add(&self, reading: &Reading, value: &mut Value2, _: &mut Context<'_>) -> Result<(), Reject> {
        value.watts += reading.watts;
        Ok(())
    }

    fn emit(&self, value: &Value2, _: &Window<'_>) -> Option<Sum> {
        Some(Sum { watts: value.watts, is_early: false })
    }
}

/// Two thousand windows are closed by one record, behind which a thousand are run.
#[test]
fn panes_that_wait_are_upgraded_like_the_windows() {
    let hopping = || Hopping::of(ms(1_000)).every(ms(1)).grace(ms(1_000));
    let mut topology = Topology::new("p");
    topology.source("readings").window(hopping()).update("devices", "sums", Sums::default(), Totals).to("totals");
    let mut driver = filled(TestDriver::new(topology).partitions(1), 2);
    send(&mut driver, 0, 5_000, 1);
    send(&mut driver, 0, 6_000, 1);
    send(&mut driver, 0, 10_000, 2);
    assert_eq!(row(&mut driver, 0), (1_000, 1_000));
    driver.stop(0);
    let store: Store<Windows<Value2>> = Store::new("sums").version(2, |_, json| {
        let Windows { kind, clock_ms, windows, idle, closes_ms, for_row } =
            serde_json::from_slice::<Windows<i64>>(json).map_err(|error| error.to_string())?;
        let windows = windows.into_iter().map(|window| {
            let Working { start_ms, end_ms, value, emitted, is_changed, early } = window;
            Working { start_ms, end_ms, value: Value2 { watts: value }, emitted, is_changed, early }
        });
        Ok(Windows { kind, clock_ms, windows: windows.collect(), idle, closes_ms, for_row })
    });
    let mut topology = Topology::new("p");
    topology.source("readings").window(hopping()).update("devices", store, Watts, Totals).to("totals");
    driver.release(topology);
    driver.start(0);
    send(&mut driver, 1, 10_000, 1);
    assert_eq!(row(&mut driver, 0), (2_000, 2_000));
    assert_eq!(letters(&mut driver), []);
    assert!(panes_that_wait(&mut driver).is_empty());
}
