//! Windows, timers and joined tables as users of Kafka Streams, Flink, ksqlDB and Debezium ask about them.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use tidegate::flow::row::Value;
use tidegate::flow::window::{Clock, Merge, Pane, Session, Tumbling, Window, Windowed};
use tidegate::flow::{
    Algorithm, At, Context, EVERY, Key, KeyType, Notice, Reject, Table, TableJoin, Tombstones, Topology,
};
use tidegate::ports::history::Found;
use tidegate::testing::{Sent, TestDriver};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The time at which a test driver's clock begins.
const START_MS: i64 = 1_767_225_600_000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn send(driver: &mut TestDriver, topic: &str, key: &str, at: i64, value: impl Serialize) {
    let (key, value) = (Some(key.as_bytes().to_vec()), Some(serde_json::to_vec(&value).unwrap()));
    driver.send_record(topic, Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
}

#[derive(Serialize, Deserialize)]
struct Reading {
    watts: i64,
}

fn read(driver: &mut TestDriver, key: &str, at: i64, watts: i64) {
    send(driver, "readings", key, at, Reading { watts });
}

#[derive(Serialize, Deserialize)]
struct Total {
    start_ms: i64,
    watts: i64,
}

/// Start and watts of each window that was told.
fn totals(driver: &mut TestDriver, topic: &str) -> Vec<(i64, i64)> {
    let read = |found: Found| {
        let Total { start_ms, watts } = serde_json::from_slice(&found.value.unwrap()).unwrap();
        (start_ms, watts)
    };
    driver.read_raw(topic).into_iter().map(read).collect()
}

fn numbers(driver: &mut TestDriver, topic: &str) -> Vec<i64> {
    let found = driver.read_raw(topic).into_iter();
    found.map(|found| serde_json::from_slice(&found.value.unwrap()).unwrap()).collect()
}

fn codes(driver: &mut TestDriver, topic: &str) -> Vec<String> {
    let found = driver.read_raw(topic);
    found.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

/// Adds up the watts of a window. Where it stamps what it tells, that has the window's last millisecond.
struct Add {
    stamps: bool,
}

impl Windowed for Add {
    type Event = Reading;
    type Value = i64;
    type Notices = Option<Notice<Total>>;

    fn add(&self, reading: &Reading, watts: &mut i64, _: &mut Context<'_>) -> Result<(), Reject> {
        *watts += reading.watts;
        Ok(())
    }

    fn emit(&self, watts: &i64, window: &Window<'_>) -> Option<Notice<Total>> {
        let notice = Notice::new(Total { start_ms: window.start_ms, watts: *watts });
        Some(if self.stamps { notice.at(window.end_ms - 1) } else { notice })
    }
}

/// Adds minutes up to hours, and answers the hours that are told: the first two.
fn hours(clock: Clock, stamps: bool) -> Vec<(i64, i64)> {
    let mut topology = Topology::new("p");
    let minutes = topology.source("readings").window(Tumbling::of(ms(60_000)).grace(ms(0))).clock(clock);
    minutes.aggregate("minutes", Add { stamps }).to("minutes-told");
    let hours = topology.source("minutes-told").window(Tumbling::of(ms(3_600_000)).grace(ms(0)));
    hours.aggregate("hours", Add { stamps: false }).to("hours-told");
    let mut driver = TestDriver::new(topology);
    for (at, watts) in [(3_599_000, 5), (3_601_000, 7), (3_660_500, 1), (7_300_000, 1), (7_400_000, 1)] {
        read(&mut driver, "a", at, watts);
    }
    totals(&mut driver, "hours-told")
}

/// KAFKA-6453, KAFKA-6455, RADAR-Backend 87. The sum of the last minute of an hour is none of the next one's, whichever
/// record or clock has closed that minute.
#[test]
fn a_sum_of_a_window_falls_into_the_longer_window_that_it_is_a_part_of() {
    for clock in [Clock::PerKey, Clock::PerPartition] {
        assert_eq!(hours(clock, false), [(0, 5), (HOUR_MS, 8)], "{clock:?}");
    }
}

/// The same where the algorithm says so by itself.
#[test]
fn a_sum_that_has_the_time_of_its_windows_end_falls_into_the_longer_window_of_that_time() {
    for clock in [Clock::PerKey, Clock::PerPartition] {
        assert_eq!(hours(clock, true), [(0, 5), (HOUR_MS, 8)], "{clock:?}");
    }
}

/// Tells of its ticks. A beat that is quiet is skipped.
struct Beats;

impl Algorithm for Beats {
    type Event = bool;
    type Row = ();
    type Notices = Option<i64>;

    fn apply(&self, is_quiet: bool, (): &mut (), _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        if is_quiet { Err(Reject::skip("quiet")) } else { Ok(None) }
    }

    fn timer(&self, name: &str, (): &mut (), context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        assert_eq!(name, EVERY);
        Ok(Some(context.event_time_ms()))
    }
}

/// KIP-138 (KAFKA-5233). What a step filters out moves the clock, and the clock ticks, from the first record on.
#[test]
fn a_step_ticks_although_its_first_records_are_skipped() {
    for first_is_quiet in [false, true] {
        let mut topology = Topology::new("p");
        topology.source("beats").process(Beats).with_timers("ticks").every(ms(100)).to("ticked");
        let mut driver = TestDriver::new(topology);
        send(&mut driver, "beats", "a", 50, first_is_quiet);
        send(&mut driver, "beats", "a", 150, true);
        send(&mut driver, "beats", "a", 250, true);
        assert_eq!(numbers(&mut driver, "ticked"), [100, 200], "the first one is quiet: {first_is_quiet}");
    }
}

/// FLINK-5716, FLINK-40503, where it is otherwise: a record that is a dead letter changes nothing, and so keeps no window open.
#[test]
fn a_key_whose_records_all_come_too_late_is_idle_all_the_same() {
    let mut topology = Topology::new("p");
    let windows = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(0))).idle_after(ms(60_000));
    windows.aggregate("sums", Add { stamps: false }).to("told");
    let mut driver = TestDriver::new(topology);
    read(&mut driver, "a", 15, 5);
    driver.advance(ms(40_000));
    read(&mut driver, "a", 3, 7);
    assert_eq!(codes(&mut driver, "readings-dlt"), ["late"]);
    driver.advance(ms(15_000));
    assert!(totals(&mut driver, "told").is_empty());
    driver.advance(ms(10_000));
    assert_eq!(totals(&mut driver, "told"), [(10, 5)]);
}

/// Counts the events of a session, under a key of the session's own. One that has become part of another is gone.
struct Visits;

#[derive(Serialize, Deserialize)]
struct Visit {
    events: i64,
    end_ms: i64,
}

impl Windowed for Visits {
    type Event = Reading;
    type Value = i64;
    type Notices = Option<Notice<Visit>>;

    fn add(&self, _: &Reading, events: &mut i64, _: &mut Context<'_>) -> Result<(), Reject> {
        *events += 1;
        Ok(())
    }

    fn emit(&self, events: &i64, window: &Window<'_>) -> Option<Notice<Visit>> {
        let notice = match window.pane {
            Pane::Retraction | Pane::Withdrawal => Notice::tombstone(),
            _ => Notice::new(Visit { events: *events, end_ms: window.end_ms }),
        };
        Some(notice.key(format!("{}@{}", window.key, window.start_ms)))
    }
}

impl Merge for Visits {
    fn merge(&self, into: &mut i64, later: i64) {
        *into += later;
    }
}

/// Keeps each session in a row of its own.
struct Keep;

impl Algorithm for Keep {
    type Event = Option<Visit>;
    type Row = Option<Visit>;
    type Notices = Option<i64>;

    fn apply(&self, visit: Option<Visit>, row: &mut Option<Visit>, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        *row = visit;
        Ok(None)
    }
}

/// The events and the end of a session that has a row.
fn visit(driver: &mut TestDriver, key: &str) -> Option<(i64, i64)> {
    let row = driver.row_of("visits", key)?;
    match row.values[..] {
        [Value::I64(events), Value::I64(end_ms)] => Some((events, end_ms)),
        ref other => panic!("{other:?}"),
    }
}

/// ksql 6637. No row of a session is left behind that is part of another one.
#[test]
fn a_session_that_a_late_event_makes_part_of_another_one_loses_its_row() {
    let mut topology = Topology::new("p");
    let sessions = topology.source("readings").window(Session::gap(ms(10)).grace(ms(0))).corrections_for(ms(1_000));
    sessions.aggregate("spans", Visits).to("visited");
    let rows = topology.source("visited").tombstones(Tombstones::Event);
    rows.update(Table::new("visits").key("id", KeyType::Text), Keep).insert_missing(|_| None).done();
    let mut driver = TestDriver::new(topology);
    for at in [100, 120, 300] {
        read(&mut driver, "a", at, 1);
    }
    assert_eq!((visit(&mut driver, "a@100"), visit(&mut driver, "a@120")), (Some((1, 111)), Some((1, 131))));
    read(&mut driver, "a", 110, 1);
    assert_eq!((visit(&mut driver, "a@100"), visit(&mut driver, "a@120")), (Some((3, 131)), None));
    assert!(codes(&mut driver, "visited-dlt").is_empty());
    driver.crash_everywhere();
}

/// Kafka Streams examples 441, KIP-94. Closed by the wall clock, and gone on with: told as one session in the end.
#[test]
fn a_session_that_was_closed_for_idleness_goes_on_with_the_next_event_within_its_gap() {
    let mut topology = Topology::new("p");
    let sessions = topology.source("readings").window(Session::gap(ms(10)).grace(ms(0))).idle_after(ms(60_000));
    sessions.corrections_for(ms(1_000)).aggregate("spans", Visits).to("visited");
    let mut driver = TestDriver::new(topology);
    for at in [100, 105] {
        read(&mut driver, "a", at, 1);
        driver.advance(ms(120_000));
    }
    let told = |found: Found| {
        assert_eq!(found.key.as_deref(), Some(&b"a@100"[..]));
        let visit = found.value.map(|value| serde_json::from_slice::<Visit>(&value).unwrap());
        visit.map(|visit| (visit.events, visit.end_ms))
    };
    let told: Vec<_> = driver.read_raw("visited").into_iter().map(told).collect();
    assert_eq!(told, [Some((1, 111)), None, Some((2, 116))]);
}

/// Adds up the watts of days that begin at midnight two hours east of Greenwich.
struct Days;

/// A day less two hours: a time that is moved ahead would be one of the future.
const WEST_MS: i64 = DAY_MS - 2 * HOUR_MS;

impl Windowed for Days {
    type Event = Reading;
    type Value = i64;
    type Notices = Option<Total>;

    fn event_time_ms(&self, _: &Reading, context: &Context<'_>) -> i64 {
        context.event_time_ms() - WEST_MS
    }

    fn add(&self, reading: &Reading, watts: &mut i64, _: &mut Context<'_>) -> Result<(), Reject> {
        *watts += reading.watts;
        Ok(())
    }

    fn emit(&self, watts: &i64, window: &Window<'_>) -> Option<Total> {
        Some(Total { start_ms: window.start_ms + WEST_MS, watts: *watts })
    }
}

/// Kafka Streams examples 141, KAFKA-7911, SERVER-80908.
#[test]
fn days_begin_at_a_local_midnight_where_their_times_are_moved_back() {
    let mut topology = Topology::new("p");
    topology.source("readings").window(Tumbling::of(ms(86_400_000)).grace(ms(0))).aggregate("days", Days).to("told");
    let mut driver = TestDriver::new(topology);
    let midnight = START_MS - DAY_MS - 2 * HOUR_MS;
    for (at, watts) in [(midnight - 1, 5), (midnight, 7), (START_MS - 2 * HOUR_MS - 1, 2), (START_MS, 1)] {
        read(&mut driver, "a", at, watts);
    }
    assert_eq!(totals(&mut driver, "told"), [(midnight - DAY_MS, 5), (midnight, 9)]);
    assert!(codes(&mut driver, "readings-dlt").is_empty(), "and what comes now is none of the future");
}

/// Joins what is even on the left.
struct Evens;

impl TableJoin for Evens {
    type Left = i64;
    type Right = i64;
    type Value = i64;

    fn join(&self, left: Option<&i64>, right: Option<&i64>, _: &Key) -> Option<i64> {
        let (left, right) = (left?, right?);
        (left % 2 == 0).then_some(left + right)
    }
}

/// Confluent's forum, 10695. Both tables have a value, and the join makes none of them any more.
#[test]
fn a_value_that_a_join_makes_nothing_of_is_forgotten_with_one_tombstone() {
    let mut topology = Topology::new("p");
    topology.source("users").join_tables("limits").aggregate("both", Evens).to("joined");
    let mut driver = TestDriver::new(topology);
    let changes: [(&str, Option<&str>); 8] = [
        ("users", Some("2")),
        ("limits", Some("1")),
        ("users", Some("3")),
        ("users", Some("5")),
        ("limits", Some("4")),
        ("users", None),
        ("limits", None),
        ("users", Some("4")),
    ];
    for (topic, value) in changes {
        driver.send_raw(topic, Some(b"a"), value.map(str::as_bytes));
        driver.run();
    }
    let told: Vec<Option<Vec<u8>>> = driver.read_raw("joined").into_iter().map(|found| found.value).collect();
    assert_eq!(told, [Some(b"3".to_vec()), None]);
    assert!(codes(&mut driver, "users-dlt").is_empty() && codes(&mut driver, "limits-dlt").is_empty());
    driver.crash_everywhere();
}

/// Counts its records, and sets the same timer for the same time again and again.
struct Stuck;

impl Algorithm for Stuck {
    type Event = Option<i64>;
    type Row = u64;
    type Notices = Option<u64>;

    fn apply(&self, at: Option<i64>, records: &mut u64, context: &mut Context<'_>) -> Result<Option<u64>, Reject> {
        *records += 1;
        if let Some(at) = at {
            context.set_timer("stuck", At::Event(at))?;
        }
        Ok(None)
    }

    fn timer(&self, name: &str, records: &mut u64, context: &mut Context<'_>) -> Result<Option<u64>, Reject> {
        context.set_timer(name, At::Event(context.event_time_ms()))?;
        Ok(Some(*records))
    }
}

/// FLINK-19475. A mistake of one algorithm that would hold its task for ever elsewhere: here the timer fires once for each record
/// that takes the clock on.
#[test]
fn a_timer_that_sets_itself_for_its_own_time_lets_the_records_of_its_partition_go_on() {
    let mut topology = Topology::new("p");
    topology.source("orders").aggregate("counts", Stuck).with_timers("alarms").to("fired");
    let mut driver = TestDriver::new(topology);
    send(&mut driver, "orders", "a", 1, Some(5));
    for n in 1..=3_usize {
        send(&mut driver, "orders", "b", if n == 1 { 10 } else { 20 }, None::<i64>);
        assert_eq!(numbers(&mut driver, "fired").len(), n.min(2));
        assert_eq!(driver.store("counts", "b"), Some(json!(n)));
    }
    assert!(driver.halts().is_empty());
}

/// Tells the watts of a window, for a row.
struct Watts;

impl Windowed for Watts {
    type Event = Reading;
    type Value = i64;
    type Notices = Option<i64>;

    fn add(&self, reading: &Reading, watts: &mut i64, _: &mut Context<'_>) -> Result<(), Reject> {
        *watts += reading.watts;
        Ok(())
    }

    fn emit(&self, watts: &i64, _: &Window<'_>) -> Option<i64> {
        Some(*watts)
    }
}

#[derive(Serialize, Deserialize, Default)]
struct Device {
    watts: i64,
    windows: i64,
}

/// Adds windows up in the row of their device.
struct Book;

impl Algorithm for Book {
    type Event = i64;
    type Row = Device;
    type Notices = Option<i64>;

    fn apply(&self, watts: i64, device: &mut Device, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        device.watts += watts;
        device.windows += 1;
        Ok(Some(device.watts))
    }
}

/// Paimon 2701 and 9495: a connector whose converter was told to leave the schema out, or to write it.
#[test]
fn readings_under_a_key_of_debezium_with_a_schema_and_without_are_in_one_window_and_one_row() {
    let (bare, wrapped) = (r#"{"id":7}"#, r#"{"schema":{"type":"struct"},"payload":{"id":7}}"#);
    for clock in [Clock::PerKey, Clock::PerPartition] {
        let mut topology = Topology::new("p");
        let windows = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(5))).clock(clock);
        let devices = Table::new("devices").key("id", KeyType::Field("id"));
        windows.update(devices, "sums", Watts, Book).to("told");
        let mut driver = TestDriver::new(topology);
        driver.row("devices", 7, Device::default());
        for (key, at, watts) in [(bare, 1, 2), (wrapped, 2, 3), (wrapped, 12, 4), (wrapped, 100, 1)] {
            read(&mut driver, key, at, watts);
        }
        assert_eq!(driver.row_of("devices", 7).unwrap().values, [Value::I64(9), Value::I64(2)], "{clock:?}");
        assert_eq!(numbers(&mut driver, "told"), [5, 9], "{clock:?}");
        assert!(codes(&mut driver, "readings-dlt").is_empty());
        driver.crash_everywhere();
    }
}

/// The same; a window without watts deletes the row.
struct Retire;

impl Algorithm for Retire {
    type Event = i64;
    type Row = Option<Device>;
    type Notices = Option<i64>;

    fn apply(&self, watts: i64, row: &mut Option<Device>, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        let mut device = row.take().unwrap_or_default();
        if watts > 0 {
            device.watts += watts;
            device.windows += 1;
            *row = Some(device);
        }
        Ok(row.as_ref().map(|device| device.watts))
    }
}

/// Kafka Connect's JDBC sink 127 and 641. All three windows are closed by one record.
#[test]
fn a_window_deletes_the_row_of_its_key_and_the_next_one_makes_it_again() {
    for has_row in [false, true] {
        let mut topology = Topology::new("p");
        let windows = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(100)));
        windows.update("devices", "sums", Watts, Retire).insert_missing(|_| None).to("told");
        let mut driver = TestDriver::new(topology);
        if has_row {
            driver.row("devices", 7, Device { watts: 100, windows: 3 });
        }
        for (at, watts) in [(1, 5), (11, 0), (21, 7), (1_000, 1)] {
            read(&mut driver, "7", at, watts);
        }
        assert_eq!(driver.row_of("devices", 7).unwrap().values, [Value::I64(7), Value::I64(1)], "{has_row}");
        assert_eq!(numbers(&mut driver, "told"), if has_row { [105, 7] } else { [5, 7] });
        assert!(codes(&mut driver, "readings-dlt").is_empty());
        driver.crash_everywhere();
    }
}
