//! Several records of one batch about one row: each finds the row as the database stored it after the record before, as
//! in a batch of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tidegate::adapters::memory::MemoryDatabase;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Context, Reject, Store, Table, Topology};
use tidegate::testing::TestDriver;

/// The key and the version are read as any other column.
#[derive(Serialize, Deserialize)]
struct Account {
    id: i64,
    total: f64,
    version: i64,
}

struct Add {
    count: Option<Store<i64>>,
}

impl Algorithm for Add {
    type Event = f64;
    type Row = Account;
    type Notices = Option<Json>;

    fn apply(&self, amount: f64, row: &mut Account, context: &mut Context<'_>) -> Result<Option<Json>, Reject> {
        let before = (row.id, row.version, row.total);
        let count = match &self.count {
            Some(count) => context.store(count)?.add("all", 1)?,
            None => 0,
        };
        row.total += amount;
        row.id += 1; // which is nobody's to write
        Ok(Some(json!([before, row.total, count])))
    }
}

/// The outcome of the amounts in batches of `batch_rows`: the row, the notices, the number of dead letters.
fn outcome(
    batch_rows: usize,
    has_store: bool,
    amounts: &[f64],
    furnish: impl Fn(&MemoryDatabase, &Table),
) -> (i64, Vec<Value>, Vec<Json>, usize) {
    let mut topology = Topology::new("adding");
    let count = has_store.then(|| Store::new("count"));
    let step = topology.source("amounts").update("accounts", Add { count: count.clone() });
    match &count {
        Some(count) => step.with_store(count).to("totals"),
        None => step.to("totals"),
    };
    let mut driver = TestDriver::new(topology).settings(|settings| settings.batch_rows = batch_rows);
    for id in [1, 2] {
        driver.row("accounts", id, Account { id, total: 0.0, version: 0 });
    }
    driver.run();
    furnish(driver.database(), &Table::new("accounts"));
    for amount in amounts {
        driver.send("amounts", 1, amount);
        driver.send("amounts", 2, amount);
    }
    let told = driver.read("totals").into_iter().filter_map(|(id, told)| (id == 1).then_some(told)).collect();
    let dead_letters = driver.read_raw("amounts-dlt").len();
    let row = driver.row_of("accounts", 1).unwrap();
    assert_eq!(driver.row_of("accounts", 2).unwrap().values, row.values);
    (row.version, row.values, told, dead_letters)
}

#[test]
fn a_state_that_the_database_refuses_is_its_own_records_dead_letter_whatever_comes_behind_it() {
    let refuse = |database: &MemoryDatabase, table: &Table| {
        database.check(table, |values| match values {
            [Value::F64(total)] if *total > 100.0 => Err("total must not exceed 100".into()),
            _ => Ok(()),
        });
    };
    for has_store in [false, true] {
        let amounts = [1.0, 1e6, -1e6, 2.0];
        let alone = outcome(1, has_store, &amounts, refuse);
        assert_eq!((alone.0, alone.3, alone.2.len()), (3, 2, 3), "a dead letter for each row");
        assert_eq!(alone.1, [Value::F64(1.0 - 1e6 + 2.0)]);
        assert_eq!(outcome(100, has_store, &amounts, refuse), alone);
    }
}

#[test]
fn each_record_finds_the_row_as_the_database_keeps_it() {
    let round = |database: &MemoryDatabase, table: &Table| {
        database.round(table, |values| {
            if let [Value::F64(total)] = values {
                *total = (*total * 10.0).round() / 10.0;
            }
        });
    };
    for has_store in [false, true] {
        let amounts = [0.33; 10];
        let alone = outcome(1, has_store, &amounts, round);
        assert_eq!((alone.0, &alone.1, alone.3), (10, &vec![Value::F64(3.0)], 0));
        assert_eq!(outcome(100, has_store, &amounts, round), alone);
    }
}

#[test]
fn a_struct_that_has_the_key_and_the_version_finds_them_as_they_are_by_then() {
    let (version, values, told, _) = outcome(1, false, &[1.0, 2.0, 3.0], |_, _| {});
    assert_eq!((version, values), (3, vec![Value::F64(6.0)]));
    assert_eq!(told, [json!([[1, 0, 0.0], 1.0, 0]), json!([[1, 1, 1.0], 3.0, 0]), json!([[1, 2, 3.0], 6.0, 0])]);
    let check = |database: &MemoryDatabase, table: &Table| database.check(table, |_| Ok(()));
    for has_store in [false, true] {
        let alone = outcome(1, has_store, &[1.0, 2.0, 3.0], |_, _| {});
        assert_eq!(outcome(100, has_store, &[1.0, 2.0, 3.0], |_, _| {}), alone, "written once");
        assert_eq!(outcome(100, has_store, &[1.0, 2.0, 3.0], check), alone, "written each time");
    }
}
