//! Timers of steps with rows: over the row of their key, in the transaction of the record that moved the clock.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, At, Context, Reject, Topology};
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

/// Counts the records and the timers of each row. A name tells what the timer does.
struct Alarm;

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
        if order.refused { Err(Reject::new("told to")) } else { Ok(Vec::new()) }
    }

    fn timer(&self, name: &str, account: &mut Account, context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        account.timers += 1;
        match name {
            "panic" => panic!("told to"),
            "refuse" => return Err(Reject::new("told to")),
            "again" if account.timers < 3 => context.set_timer("again", At::Event(context.event_time_ms() + 10))?,
            "wall" => context.set_timer("wall", At::Wall(0))?,
            _ => {}
        }
        Ok(vec![Fired { name: name.into(), timers: account.timers }])
    }
}

fn driver(accounts: i64) -> TestDriver {
    filled(TestDriver::new(topology()), accounts)
}

fn topology() -> Topology {
    let mut topology = Topology::new("p");
    topology.source("orders").update("accounts", Alarm).with_timers("alarms").to("fired");
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
