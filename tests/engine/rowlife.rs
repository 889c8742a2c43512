//! The life of a row: made by the first record of its key, deleted by its algorithm, made again.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidegate::engine::audit::audit;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Context, Reject, Table, Topology};
use tidegate::settings::MissingRow;
use tidegate::testing::TestDriver;

#[derive(Serialize, Deserialize, Clone, Default)]
struct Account {
    cents: i64,
    opened_ms: i64,
}

#[derive(Serialize)]
struct Told {
    cents: i64,
    opened_ms: i64,
}

#[derive(Deserialize)]
struct Booking {
    cents: i64,
    #[serde(default)]
    close: bool,
}

/// Adds up, and refuses what is negative.
struct Book;

impl Algorithm for Book {
    type Event = Booking;
    type Row = Account;
    type Notices = Option<Told>;

    fn apply(&self, booking: Booking, row: &mut Account, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        if booking.cents < 0 {
            return Err(Reject::new("negative"));
        }
        row.cents += booking.cents;
        Ok(Some(Told { cents: row.cents, opened_ms: row.opened_ms }))
    }
}

/// The same, and an account that is closed is deleted.
struct Close;

impl Algorithm for Close {
    type Event = Booking;
    type Row = Option<Account>;
    type Notices = Option<Told>;

    fn apply(&self, booking: Booking, row: &mut Option<Account>, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        let mut account = row.clone().unwrap_or_default();
        account.cents += booking.cents;
        let told = Told { cents: account.cents, opened_ms: account.opened_ms };
        *row = (!booking.close).then_some(account);
        Ok(Some(told))
    }
}

fn opened(context: &Context<'_>) -> Account {
    Account { cents: 0, opened_ms: context.event_time_ms() }
}

fn booking() -> Topology {
    let mut topology = Topology::new("booking");
    topology.source("bookings").update("accounts", Book).insert_missing(opened).to("balances");
    topology
}

fn closing() -> Topology {
    let mut topology = Topology::new("closing");
    topology.source("bookings").update("accounts", Close).insert_missing(|_| None).to("balances");
    topology
}

fn book(driver: &mut TestDriver, id: i64, cents: i64) {
    driver.send("bookings", id, json!({ "cents": cents }));
}

fn close(driver: &mut TestDriver, id: i64) {
    driver.send("bookings", id, json!({ "cents": 0, "close": true }));
}

/// Version and cents of a row.
fn row(driver: &mut TestDriver, id: i64) -> Option<(i64, Value)> {
    driver.row_of("accounts", id).map(|row| (row.version, row.values[0].clone()))
}

/// Keys, balances and versions as they were announced.
fn told(driver: &mut TestDriver) -> Vec<(i64, i64, String)> {
    let balances: Vec<_> = driver.read("balances");
    let raw = driver.read_raw("balances");
    let version = |at: usize| raw[at].header("tg_version").unwrap_or("none").to_owned();
    let all = balances.into_iter().enumerate();
    all.map(|(at, (id, told))| (id, told["cents"].as_i64().unwrap(), version(at))).collect()
}

fn codes(driver: &mut TestDriver) -> Vec<String> {
    let dead = driver.read_raw("bookings-dlt");
    dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

fn is_clean(driver: &mut TestDriver, topology: &Topology) {
    let (mut rows, mut log) = (driver.database().history(topology.name()), driver.log().history(topology.name()));
    let report = audit(topology, &mut rows, &mut log).unwrap();
    assert!(report.is_clean() && report.is_drained(), "{report:?}");
}

#[test]
fn the_first_record_of_a_key_makes_its_row_with_version_1_and_is_announced() {
    let mut driver = TestDriver::new(booking());
    book(&mut driver, 7, 5);
    assert_eq!(row(&mut driver, 7), Some((1, Value::I64(5))));
    assert_eq!(told(&mut driver), [(7, 5, "1".into())]);
    book(&mut driver, 7, 6);
    assert_eq!(row(&mut driver, 7), Some((2, Value::I64(11))));
    is_clean(&mut driver, &booking());
}

#[test]
fn the_row_of_a_record_that_is_rejected_is_not_made() {
    let mut driver = TestDriver::new(booking());
    book(&mut driver, 7, -5);
    assert_eq!((row(&mut driver, 7), codes(&mut driver)), (None, vec!["rejected".into()]));
    is_clean(&mut driver, &booking());
}

#[test]
fn several_records_of_a_new_key_in_one_batch_make_one_row() {
    let mut driver = TestDriver::new(booking());
    for cents in [1, 2, -1, 3] {
        book(&mut driver, 7, cents);
        book(&mut driver, 8, cents);
    }
    assert_eq!(row(&mut driver, 7), Some((3, Value::I64(6))));
    assert_eq!(row(&mut driver, 8), Some((3, Value::I64(6))));
    let of_7: Vec<_> = told(&mut driver).into_iter().filter(|(id, ..)| *id == 7).collect();
    assert_eq!(of_7, [(7, 1, "1".into()), (7, 3, "2".into()), (7, 6, "3".into())]);
    is_clean(&mut driver, &booking());
}

#[test]
fn a_row_that_another_program_inserts_first_is_the_one_that_the_record_is_decided_with() {
    let mut driver = TestDriver::new(booking());
    driver.row_first("accounts", 7, Account { cents: 100, opened_ms: 3 });
    book(&mut driver, 7, 5);
    book(&mut driver, 8, 1);
    assert_eq!(row(&mut driver, 7), Some((1, Value::I64(105))), "version 0 was the other program's");
    assert_eq!(row(&mut driver, 8), Some((1, Value::I64(1))));
    let mut told = told(&mut driver);
    told.sort();
    assert_eq!(told, [(7, 105, "1".into()), (8, 1, "1".into())]);
    assert!(codes(&mut driver).is_empty());
    is_clean(&mut driver, &booking());
}

#[test]
fn a_row_that_its_table_refuses_is_a_dead_letter_and_the_next_record_makes_it() {
    let mut driver = TestDriver::new(booking());
    driver.database().check(&Table::new("accounts"), |values| match values {
        [Value::I64(cents), ..] if *cents > 50 => Err("too much".into()),
        _ => Ok(()),
    });
    book(&mut driver, 7, 51);
    book(&mut driver, 7, 2);
    book(&mut driver, 8, 4);
    assert_eq!(codes(&mut driver), ["constraint"]);
    assert_eq!(row(&mut driver, 7), Some((1, Value::I64(2))));
    assert_eq!(row(&mut driver, 8), Some((1, Value::I64(4))));
    is_clean(&mut driver, &booking());
}

#[test]
fn a_row_that_its_algorithm_leaves_none_is_deleted_and_made_again() {
    let mut driver = TestDriver::new(closing());
    driver.row("accounts", 1, Account { cents: 10, opened_ms: 0 });
    book(&mut driver, 1, 5);
    close(&mut driver, 1);
    assert_eq!(row(&mut driver, 1), None);
    assert_eq!(told(&mut driver), [(1, 15, "1".into()), (1, 15, "2".into())]);
    book(&mut driver, 1, 3);
    assert_eq!(row(&mut driver, 1), Some((1, Value::I64(3))));
    is_clean(&mut driver, &closing());
}

#[test]
fn a_row_is_made_deleted_and_made_again_in_one_batch() {
    let mut driver = TestDriver::new(closing());
    for cents in [1, 2] {
        book(&mut driver, 7, cents);
        close(&mut driver, 7);
        close(&mut driver, 7); // there is nothing to close
        book(&mut driver, 7, 10 * cents);
    }
    assert_eq!(row(&mut driver, 7), Some((1, Value::I64(20))));
    let versions: Vec<String> = told(&mut driver).into_iter().map(|(_, _, version)| version).collect();
    assert_eq!(versions, ["1", "2", "0", "1", "2", "3", "0", "1"]);
    is_clean(&mut driver, &closing());
}

#[test]
fn the_record_of_a_deleted_row_follows_the_setting_where_the_step_makes_none() {
    let topology = || {
        let mut topology = Topology::new("closing");
        topology.source("bookings").update("accounts", Close).to("balances");
        topology
    };
    for (policy, codes_due) in [(MissingRow::Skip, vec![]), (MissingRow::DeadLetter, vec!["missing-row"])] {
        let mut driver = TestDriver::new(topology()).settings(|settings| settings.missing_row = policy);
        driver.row("accounts", 1, Account::default());
        close(&mut driver, 1);
        book(&mut driver, 1, 3);
        assert_eq!(
            (row(&mut driver, 1), codes(&mut driver)),
            (None, codes_due.iter().map(ToString::to_string).collect())
        );
        assert_eq!(told(&mut driver).len(), 1);
        is_clean(&mut driver, &topology());
    }
}

#[test]
fn a_row_that_another_program_deletes_is_made_again() {
    let mut driver = TestDriver::new(booking());
    book(&mut driver, 7, 5);
    driver.delete_row("accounts", 7);
    book(&mut driver, 7, 6);
    assert_eq!(row(&mut driver, 7), Some((1, Value::I64(6))));
}

#[test]
fn rows_are_made_and_deleted_once_through_a_crash_at_every_step() {
    let mut driver = TestDriver::new(closing()).partitions(2).instances(2);
    driver.row("accounts", 1, Account { cents: 10, opened_ms: 0 });
    for id in [1, 7, 8] {
        book(&mut driver, id, 5);
        close(&mut driver, id);
        book(&mut driver, id, id);
    }
    driver.run();
    close(&mut driver, 8);
    book(&mut driver, 9, 2);
    driver.run();
    driver.crash_everywhere();
}

/// A struct with the row's key and version.
#[derive(Serialize, Deserialize, Clone, Default)]
struct Numbered {
    version: i64,
    id: i64,
    cents: i64,
}

struct BookNumbered;

impl Algorithm for BookNumbered {
    type Event = Booking;
    type Row = Numbered;
    type Notices = Option<(i64, i64)>;

    fn apply(&self, booking: Booking, row: &mut Numbered, _: &mut Context<'_>) -> Result<Option<(i64, i64)>, Reject> {
        row.cents += booking.cents;
        Ok(Some((row.id, row.version)))
    }
}

#[test]
fn key_and_version_of_a_new_row_are_the_engines() {
    let mut topology = Topology::new("numbered");
    let new = |_: &Context<'_>| Numbered { version: 9, id: 9, cents: 0 };
    topology.source("bookings").update("accounts", BookNumbered).insert_missing(new).to("balances");
    let mut driver = TestDriver::new(topology);
    book(&mut driver, 7, 5);
    book(&mut driver, 7, 5);
    let told: Vec<_> = driver.read("balances").into_iter().map(|(_, told)| told).collect();
    assert_eq!(told, [json!([7, 0]), json!([7, 1])]);
    let row = driver.row_of("accounts", 7).unwrap();
    assert_eq!((row.version, row.values), (2, vec![Value::I64(10)]));
}

#[test]
fn a_step_makes_rows_of_a_table_of_which_another_step_shows_key_and_version() {
    let mut topology = Topology::new("both");
    topology.source("numbers").update("accounts", BookNumbered).to("numbered");
    topology.source("bookings").update("accounts", Book).insert_missing(opened).to("balances");
    assert_eq!(topology.validate(), Ok(()));
    let mut driver = TestDriver::new(topology);
    book(&mut driver, 7, 5);
    assert_eq!(driver.read("balances").len(), 1);
    driver.send("numbers", 7, json!({ "cents": 2 }));
    assert_eq!(driver.read("numbered").into_iter().map(|(_, told)| told).collect::<Vec<_>>(), [json!([7, 1])]);
    let row = driver.row_of("accounts", 7).unwrap();
    assert_eq!((row.version, row.values[0].clone(), row.values.len()), (2, Value::I64(7), 2));
}

#[test]
fn mistakes_about_missing_rows_are_told_before_anything_starts() {
    struct Count;
    impl Algorithm for Count {
        type Event = Booking;
        type Row = i64;
        type Notices = Option<i64>;
        fn apply(&self, _: Booking, row: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            *row += 1;
            Ok(None)
        }
    }
    let mut topology = Topology::new("counts");
    topology.source("bookings").aggregate("counts", Count).insert_missing(|_| 5).done();
    let told = topology.validate().unwrap_err().join("; ");
    assert!(told.contains("insert_missing(): only an update step has rows"), "{told}");

    // A row that one step makes has no value for what another one reads.
    let mut topology = Topology::new("two");
    topology.source("bookings").update("accounts", Book).to("balances");
    topology.source("opened").update("accounts", BookNumbered).insert_missing(|_| Numbered::default()).done();
    let told = topology.validate().unwrap_err().join("; ");
    assert!(told.contains("the step with insert_missing has no field opened_ms"), "{told}");

    // The setting demands what no step says.
    let mut topology = Topology::new("none");
    topology.source("bookings").update("accounts", Book).done();
    let mut driver = TestDriver::new(topology).settings(|settings| settings.missing_row = MissingRow::Insert);
    let refused = catch_unwind(AssertUnwindSafe(|| driver.run())).unwrap_err();
    let told = refused.downcast_ref::<String>().unwrap();
    assert!(
        told.contains("pipeline.missing_row: the step on table accounts does not say what a new row holds"),
        "{told}"
    );
}
