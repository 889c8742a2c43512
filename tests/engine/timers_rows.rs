//! Timers of steps with rows: over the row of their key, in the transaction of the record that moved the clock.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidegate::adapters::memory::ManualClock;
use tidegate::adapters::memory::database::MemoryDatabase;
use tidegate::engine::status::Counter;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, At, Context, Reject, Table, TableTopic, Topology};
use tidegate::ports::history::Found;
use tidegate::testing::{Sent, TestDriver};

#[derive(Deserialize)]
struct Order {
    #[serde(default)]
    timer: Option<String>,
    /// The time that it is set for; none takes it back.
    #[serde(default)]
    at: Option<i64>,
    #[serde(default)]
    refused: bool,
    /// It takes 300 ms.
    #[serde(default)]
    lasts: bool,
}

#[derive(Serialize, Deserialize)]
struct Account {
    records: i64,
    timers: i64,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Fired {
    name: String,
    timers: i64,
}

/// The clock, and a database that ends a transaction which sends no statement for `IDLE_MAX`.
struct World {
    clock: Arc<ManualClock>,
    database: MemoryDatabase,
}

const IDLE_MAX: Duration = Duration::from_millis(400);

impl World {
    /// Takes time without a statement, behind what the run before took.
    fn idle(&self, since: Duration, time: Duration) {
        self.clock.advance(time);
        if since + time > IDLE_MAX {
            self.database.set_down(true);
            self.database.set_down(false);
        }
    }
}

/// Counts the records and the timers of each row. A name tells what the timer does.
#[derive(Default)]
struct Alarm {
    world: Arc<OnceLock<World>>,
    /// What the last record and the timers behind it have taken, in milliseconds.
    lasted_ms: AtomicU64,
}

impl Alarm {
    /// Takes time behind what the record and the timers before took.
    fn last(&self, ms: u64) {
        let since = self.lasted_ms.fetch_add(ms, Ordering::Relaxed);
        self.world.get().unwrap().idle(Duration::from_millis(since), Duration::from_millis(ms));
    }
}

impl Algorithm for Alarm {
    type Event = Order;
    type Row = Account;
    type Notices = Vec<Fired>;

    fn apply(&self, order: Order, account: &mut Account, context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        account.records += 1;
        match (&order.timer, order.at) {
            (Some(name), Some(at)) => context.set_timer(name, At::Event(at))?,
            (Some(name), None) => context.cancel_timer(name)?,
            (None, _) => {}
        }
        self.lasted_ms.store(0, Ordering::Relaxed);
        if order.lasts {
            self.last(300);
        }
        if order.refused { Err(Reject::new("told to")) } else { Ok(Vec::new()) }
    }

    fn timer(&self, name: &str, account: &mut Account, context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        account.timers += 1;
        match name {
            "panic" => panic!("told to"),
            "refuse" => return Err(Reject::new("told to")),
            "again" if account.timers < 3 => context.set_timer("again", At::Event(context.event_time_ms() + 10))?,
            "wide" => return Ok(vec![Fired { name: "x".repeat(3_000), timers: 0 }]),
            "slow" => self.world.get().unwrap().idle(Duration::ZERO, Duration::from_millis(500)),
            "lasts" => self.last(200),
            "halves" => self.last(250),
            "wall" => context.set_timer("wall", At::Wall(0))?,
            "itself" => context.set_timer("itself", At::Event(0))?,
            _ => {}
        }
        Ok(vec![Fired { name: name.into(), timers: account.timers }])
    }
}

/// An [`Alarm`] beside a table.
struct Joined;

impl Algorithm for Joined {
    type Event = (Order, Option<serde_json::Value>);
    type Row = Account;
    type Notices = Vec<Fired>;

    fn apply(
        &self,
        (order, _): Self::Event,
        account: &mut Account,
        context: &mut Context<'_>,
    ) -> Result<Vec<Fired>, Reject> {
        Alarm::default().apply(order, account, context)
    }
}

fn driver(accounts: i64) -> TestDriver {
    filled(TestDriver::new(topology()), accounts)
}

fn topology() -> Topology {
    let mut topology = Topology::new("p");
    topology.source("orders").update("accounts", Alarm::default()).with_timers("alarms").to("fired");
    topology
}

fn filled(mut driver: TestDriver, accounts: i64) -> TestDriver {
    for id in 0..accounts {
        driver.row("accounts", id, Account { records: 0, timers: 0 });
    }
    driver
}

fn send(driver: &mut TestDriver, id: i64, at: i64, value: &serde_json::Value) {
    let (key, value) = (Some(id.to_string().into_bytes()), Some(value.to_string().into_bytes()));
    driver.send_record("orders", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
}

fn set(driver: &mut TestDriver, id: i64, at: i64, name: &str, due: i64) {
    send(driver, id, at, &json!({"timer": name, "at": due}));
}

fn header(found: &Found, name: &str) -> Option<String> {
    let header = found.headers.iter().rev().find(|header| header.name == name)?;
    header.value.clone().map(|value| String::from_utf8(value).unwrap())
}

/// The notices in their order: key, name, how many timers of the row had fired.
fn fired(driver: &mut TestDriver) -> Vec<(i64, String, i64)> {
    let read = |Found { key, value, .. }: Found| {
        let fired: Fired = serde_json::from_slice(&value.unwrap()).unwrap();
        (String::from_utf8(key.unwrap()).unwrap().parse().unwrap(), fired.name, fired.timers)
    };
    driver.read_raw("fired").into_iter().map(read).collect()
}

/// The records and the timers that a row has counted.
fn row(driver: &mut TestDriver, id: i64) -> (i64, i64) {
    let row = driver.row_of("accounts", id).unwrap();
    match row.values[..] {
        [Value::I64(records), Value::I64(timers)] => (records, timers),
        ref other => panic!("{other:?}"),
    }
}

fn all(names: &[(i64, &str, i64)]) -> Vec<(i64, String, i64)> {
    names.iter().map(|(key, name, timers)| (*key, (*name).to_owned(), *timers)).collect()
}

#[test]
fn a_timer_that_sets_itself_for_a_time_that_has_passed_fires_once_more_when_the_clock_goes_on() {
    let mut driver = driver(3);
    set(&mut driver, 0, 50, "itself", 100);
    set(&mut driver, 1, 50, "x", 200);
    for at in [300, 300, 400] {
        send(&mut driver, 2, at, &json!({}));
    }
    let due = [(0, "itself", 1), (1, "x", 1), (0, "itself", 2)].map(|(id, name, timers)| (id, name.to_owned(), timers));
    assert_eq!(fired(&mut driver), due);
    driver.crash_everywhere();
}

#[test]
fn a_timer_changes_the_row_of_its_key_with_the_record_that_moves_the_clock_whichever_key_that_has() {
    let mut driver = driver(3);
    set(&mut driver, 0, 1_000, "silent", 2_000);
    set(&mut driver, 1, 1_000, "back", 2_000);
    send(&mut driver, 1, 1_500, &json!({"timer": "back"}));
    send(&mut driver, 2, 1_999, &json!({}));
    assert_eq!(row(&mut driver, 0), (1, 0));
    send(&mut driver, 2, 2_000, &json!({}));
    send(&mut driver, 2, 9_000, &json!({}));
    assert_eq!(fired(&mut driver), all(&[(0, "silent", 1)]));
    assert_eq!([0, 1, 2].map(|id| row(&mut driver, id)), [(1, 1), (2, 0), (3, 0)]);
    let found = driver.read_raw("fired");
    assert_eq!(header(&found[0], "tg_id").as_deref(), Some("p/orders/0/4/0"));
    driver.crash_everywhere();
}

#[test]
fn timers_and_records_of_one_row_in_a_batch_see_each_other() {
    let mut driver = driver(2);
    set(&mut driver, 0, 1, "again", 5);
    for at in [4, 5, 30, 31] {
        send(&mut driver, 0, at, &json!({}));
    }
    send(&mut driver, 1, 100, &json!({"refused": true}));
    assert_eq!(fired(&mut driver), all(&[(0, "again", 1), (0, "again", 2), (0, "again", 3)]));
    assert_eq!([0, 1].map(|id| row(&mut driver, id)), [(5, 3), (0, 0)]);
    driver.crash_everywhere();
}

#[test]
fn a_timer_that_fails_is_a_dead_letter_of_its_own_and_leaves_its_row() {
    let mut driver = driver(3);
    for (name, due) in [("panic", 2), ("refuse", 3), ("x", 4)] {
        set(&mut driver, 0, 1, name, due);
    }
    send(&mut driver, 1, 5, &json!({"refused": true}));
    assert_eq!(fired(&mut driver), all(&[(0, "x", 1)]));
    assert_eq!([0, 1].map(|id| row(&mut driver, id)), [(3, 1), (0, 0)]);
    let letters = driver.read_raw("orders-dlt");
    let told: Vec<_> = letters.iter().map(|letter| (header(letter, "tg_timer"), header(letter, "tg_id"))).collect();
    let timer = |name: &str, seq: i32| (Some(name.to_owned()), Some(format!("p/orders/0/3/{seq}")));
    assert_eq!(told, [(None, Some("p/orders/0/3/0".into())), timer("panic", 1), timer("refuse", 2)]);
    assert_eq!(header(&driver.read_raw("fired")[0], "tg_id").as_deref(), Some("p/orders/0/3/3"));
    driver.crash_everywhere();
}

#[test]
fn at_most_a_thousand_fire_behind_one_record_over_rows_that_are_all_read_before() {
    let mut driver = driver(2_501);
    for id in 0..2_500 {
        set(&mut driver, id, 1, "x", 5);
    }
    for n in 1..=3 {
        send(&mut driver, 2_500, 10, &json!({}));
        assert_eq!(fired(&mut driver).len(), (1_000 * n).min(2_500));
    }
    let rows: BTreeSet<_> = (0..2_500).map(|id| row(&mut driver, id)).collect();
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), [(1, 1)]);
}

#[test]
fn a_batch_ends_in_front_of_a_record_whose_timers_have_rows_that_were_not_read() {
    let mut driver = driver(1_701);
    for id in 0..1_700 {
        set(&mut driver, id, 1, "x", 5 + id / 900);
    }
    // In one batch: the first one's timers are read with it, the second one's are too many.
    for at in [5, 10, 10, 10] {
        send(&mut driver, 1_700, at, &json!({}));
    }
    assert_eq!(fired(&mut driver).len(), 1_700);
}

#[test]
fn timers_of_rows_outlive_instances_and_disks() {
    let mut driver = filled(TestDriver::new(topology()).partitions(2).instances(2), 20);
    for id in 0..20 {
        set(&mut driver, id, 1_000, "x", 2_000 + id);
    }
    for id in 0..20 {
        send(&mut driver, id, 2_010, &json!({}));
    }
    let due: BTreeSet<_> = fired(&mut driver).into_iter().collect();
    assert_eq!(due.len(), 11);
    driver.crash_everywhere();
}

#[test]
fn a_timer_by_the_wall_clock_halts_a_step_with_rows() {
    let mut driver = driver(1);
    set(&mut driver, 0, 1, "wall", 2);
    send(&mut driver, 0, 5, &json!({}));
    let halts = driver.halts();
    assert!(halts.len() == 1 && halts[0].detail.contains("`with_wall_timers`"), "{halts:?}");
}

fn accounts() -> Table {
    Table::new("accounts")
}

fn codes(driver: &mut TestDriver) -> Vec<(String, Option<String>)> {
    let letters = driver.read_raw("orders-dlt");
    letters
        .iter()
        .map(|letter| (header(letter, "kafka_dlt-exception-fqcn").unwrap(), header(letter, "tg_timer")))
        .collect()
}

/// Sets a timer for each row, and lets all of them become due behind one record of another.
fn ten_due(driver: &mut TestDriver) {
    for id in 0..10 {
        set(driver, id, 1, "x", 5);
    }
    driver.run();
}

#[test]
fn a_timer_whose_row_the_database_refuses_is_a_dead_letter_and_no_other_timer_or_record_is() {
    let mut driver = driver(11);
    ten_due(&mut driver);
    // A row takes no timer behind its only record.
    driver.database().check(&accounts(), |values| match values {
        [Value::I64(1), Value::I64(1)] => Err("no".into()),
        _ => Ok(()),
    });
    send(&mut driver, 3, 2, &json!({}));
    send(&mut driver, 10, 5, &json!({}));
    driver.run();
    assert_eq!(fired(&mut driver), all(&[(3, "x", 1)]), "it had a second record");
    assert_eq!(codes(&mut driver), vec![("constraint".to_owned(), Some("x".to_owned())); 9]);
    assert_eq!((row(&mut driver, 10), row(&mut driver, 3), row(&mut driver, 4)), ((1, 0), (2, 1), (1, 0)));
}

#[test]
fn a_timer_whose_row_cannot_be_read_is_a_dead_letter_and_no_other_timer_or_record_is() {
    let mut driver = driver(11);
    ten_due(&mut driver);
    driver.database().refuse_key(&accounts(), 4);
    send(&mut driver, 10, 5, &json!({}));
    driver.run();
    assert_eq!(fired(&mut driver).len(), 9);
    let codes = codes(&mut driver);
    assert!(codes.len() == 1 && codes[0].1.as_deref() == Some("x"), "{codes:?}");
    assert!(driver.halts().is_empty());
    assert_eq!(row(&mut driver, 10), (1, 0));
}

/// A driver whose database ends a transaction that sends no statement for 400 ms.
fn impatient(accounts: i64) -> TestDriver {
    let world = Arc::default();
    let mut topology = Topology::new("p");
    let alarm = Alarm { world: Arc::clone(&world), ..Alarm::default() };
    topology.source("orders").update("accounts", alarm).with_timers("alarms").to("fired");
    let mut driver = filled(TestDriver::new(topology), accounts);
    driver.database().limit_idle(Some(IDLE_MAX));
    assert!(world.set(World { clock: driver.clock(), database: driver.database().clone() }).is_ok());
    driver
}

/// As a record that takes longer than the database lets a transaction idle.
#[test]
fn a_timer_that_takes_too_long_is_a_dead_letter_and_no_other_timer_or_record_is() {
    let mut driver = impatient(11);
    for id in 0..10 {
        set(&mut driver, id, 1, if id == 6 { "slow" } else { "x" }, 5);
    }
    driver.run();
    send(&mut driver, 10, 5, &json!({}));
    driver.run();
    assert_eq!(fired(&mut driver).len(), 9);
    assert_eq!(codes(&mut driver), [("too-slow".to_owned(), Some("slow".to_owned()))]);
    assert_eq!((row(&mut driver, 10), row(&mut driver, 6)), ((1, 0), (1, 0)));
}

/// A row is written before its next run where the table does not keep it as it is; the time behind that statement counts, too.
#[test]
fn a_timer_that_takes_too_long_behind_a_row_that_was_written_is_a_dead_letter() {
    let mut driver = impatient(7);
    driver.database().round(&accounts(), |_| {});
    set(&mut driver, 6, 1, "slow", 5);
    set(&mut driver, 6, 1, "x", 4);
    driver.run();
    send(&mut driver, 6, 5, &json!({}));
    driver.run();
    assert_eq!(codes(&mut driver), [("too-slow".to_owned(), Some("slow".to_owned()))]);
    assert_eq!((fired(&mut driver), row(&mut driver, 6)), (all(&[(6, "x", 1)]), (3, 1)));
    assert!(driver.halts().is_empty());
}

/// The record is decided without its timer, which waits for the next one.
#[test]
fn a_record_and_its_timer_that_together_take_too_long_are_no_dead_letters() {
    let mut driver = impatient(2);
    set(&mut driver, 0, 1, "lasts", 5);
    driver.run();
    send(&mut driver, 1, 5, &json!({"lasts": true}));
    driver.run();
    assert_eq!((codes(&mut driver), row(&mut driver, 1)), (vec![], (1, 0)));
    send(&mut driver, 1, 6, &json!({}));
    assert_eq!((fired(&mut driver), codes(&mut driver)), (all(&[(0, "lasts", 1)]), vec![]));
}

/// None of them is to blame: each fires behind a record in the end.
#[test]
fn timers_that_take_too_long_only_together_fire_behind_several_records() {
    let mut driver = impatient(4);
    for id in 0..3 {
        set(&mut driver, id, 1, "halves", 5);
    }
    driver.run();
    for at in 5..8 {
        send(&mut driver, 3, at, &json!({}));
        driver.run();
    }
    assert_eq!(fired(&mut driver), all(&[(0, "halves", 1), (1, "halves", 1), (2, "halves", 1)]));
    assert_eq!((codes(&mut driver), row(&mut driver, 3)), (vec![], (3, 0)));
}

/// The times of a table's records move no clock, so the rows of timers that lie in between are not read.
#[test]
fn records_of_a_table_read_no_row_of_a_timer() {
    let mut topology = Topology::new("p");
    let orders = topology.source("orders").left_join(TableTopic::<serde_json::Value>::new("users"));
    orders.update("accounts", Joined).with_timers("alarms").to("fired");
    let mut driver = filled(TestDriver::new(topology), 2);
    set(&mut driver, 0, 1, "x", 50);
    driver.run();
    driver.database().refuse_key(&accounts(), 0);
    for at in [100, 101, 102] {
        let (key, value) = (Some(b"1".to_vec()), Some(b"{}".to_vec()));
        driver.send_record("users", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
    }
    driver.run();
    assert_eq!(driver.status(0).value(Counter::DatabaseRetries), 0);
}

#[test]
fn a_timer_without_a_row_is_a_dead_letter_or_makes_one_as_a_record_does() {
    let mut driver = driver(2);
    set(&mut driver, 0, 1, "x", 5);
    driver.run();
    driver.delete_row("accounts", 0);
    send(&mut driver, 1, 5, &json!({}));
    driver.run();
    assert_eq!(codes(&mut driver), [("missing-row".to_owned(), Some("x".to_owned()))]);
    let mut topology = Topology::new("p");
    let made = topology.source("orders").update("accounts", Alarm::default()).with_timers("alarms");
    made.insert_missing(|_| Account { records: 0, timers: 0 }).to("fired");
    let mut driver = TestDriver::new(topology);
    set(&mut driver, 0, 1, "x", 5);
    driver.run();
    driver.delete_row("accounts", 0);
    send(&mut driver, 1, 5, &json!({}));
    driver.run();
    assert_eq!((row(&mut driver, 0), row(&mut driver, 1)), ((0, 1), (1, 0)));
    driver.crash_everywhere();
}

/// The limit of a topic is asked for before a notice is too large for it; the record waits for it, and decides once more.
#[test]
fn a_timer_whose_notice_is_too_large_is_a_dead_letter_once_the_limit_was_read_anew() {
    let mut driver = filled(TestDriver::new(topology()).limit("fired", 2_000), 11);
    for id in 0..10 {
        set(&mut driver, id, 1, if id == 6 { "wide" } else { "x" }, 5);
    }
    driver.run();
    driver.advance(Duration::from_secs(10));
    send(&mut driver, 10, 5, &json!({}));
    driver.run();
    assert_eq!(fired(&mut driver).len(), 9);
    assert_eq!(codes(&mut driver), [("too-large".to_owned(), Some("wide".to_owned()))]);
    assert_eq!((row(&mut driver, 10), row(&mut driver, 6)), ((1, 0), (1, 0)));
}
