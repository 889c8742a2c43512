//! Several records of one batch about one row: each finds the row as the database stored it after the record before, as
//! in a batch of its own. So it is with several rows of which the database demands something together.

use proptest::collection::vec;
use proptest::prelude::ProptestConfig;
use proptest::{prop_assert, prop_assert_eq, proptest};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use tidegate::adapters::memory::MemoryDatabase;
use tidegate::flow::key::partition_for;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Context, Reject, Store, Table, Topology};
use tidegate::ports::history::Found;
use tidegate::ports::rows::RowRead;
use tidegate::testing::{Sent, TestDriver};

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

/// A row whose code no other row of its table may have.
#[derive(Serialize, Deserialize)]
struct Seat {
    code: i64,
}

/// Gives a row its record's code, or deletes it.
struct Sit {
    count: Option<Store<i64>>,
}

impl Algorithm for Sit {
    type Event = Option<i64>;
    type Row = Option<Seat>;
    type Notices = Option<Json>;

    fn apply(
        &self,
        code: Option<i64>,
        row: &mut Option<Seat>,
        context: &mut Context<'_>,
    ) -> Result<Option<Json>, Reject> {
        if let Some(count) = &self.count {
            context.store(count)?.add("all", 1)?;
        }
        *row = code.map(|code| Seat { code });
        Ok(Some(json!(code)))
    }
}

/// The rows, and the keys of the dead letters, after these records in batches of `batch_rows`. Each of the rows 1 and 2
/// has its number for a code in the beginning.
fn seated(batch_rows: usize, has_store: bool, records: &[(i64, Option<i64>)]) -> (Vec<(i64, i64, i64)>, Vec<i64>) {
    let mut topology = Topology::new("sitting");
    let count = has_store.then(|| Store::new("count"));
    let step = topology.source("sitters").update("seats", Sit { count: count.clone() }).insert_missing(|_| None);
    match &count {
        Some(count) => step.with_store(count).to("seated"),
        None => step.to("seated"),
    };
    let mut driver = TestDriver::new(topology).partitions(1).settings(|settings| settings.batch_rows = batch_rows);
    for id in [1, 2] {
        driver.row("seats", id, Seat { code: id });
    }
    driver.run();
    driver.database().unique(&Table::new("seats"), "code");
    for (id, code) in records {
        driver.send("sitters", *id, code);
    }
    driver.run();
    assert!(driver.halts().is_empty());
    let code = |row: &RowRead| match row.values[..] {
        [Value::I64(code)] => code,
        _ => panic!("{row:?}"),
    };
    let mut row = |id: i64| driver.row_of("seats", id).map(|row| (id, row.version, code(&row)));
    let rows = (0..6).filter_map(&mut row).collect();
    let dead = driver.read_raw("sitters-dlt");
    let key = |found: &Found| String::from_utf8(found.key.clone().unwrap()).unwrap().parse().unwrap();
    (rows, dead.iter().map(key).collect())
}

#[test]
fn a_value_that_an_earlier_record_of_the_batch_sets_free_is_free_for_the_next_one() {
    for has_store in [false, true] {
        for records in [
            &[(1, Some(8)), (3, Some(1)), (3, Some(1))][..], // a new row with a next record
            &[(1, Some(8)), (2, Some(1)), (1, Some(2))],     // two that swap
            &[(1, Some(8)), (1, None), (3, Some(1)), (1, Some(8)), (3, Some(9))],
        ] {
            let alone = seated(1, has_store, records);
            assert_eq!(alone.1, [0; 0], "each is valid where it comes");
            assert_eq!(seated(100, has_store, records), alone, "{records:?}");
        }
    }
}

#[test]
fn a_value_that_an_earlier_record_of_the_batch_has_taken_is_refused_to_the_later_one() {
    for has_store in [false, true] {
        for records in [
            &[(1, Some(8)), (3, Some(8)), (3, Some(9))][..], // the later one is written first
            &[(2, Some(8)), (1, Some(8))],                   // and by its key
            &[(4, Some(8)), (3, Some(8))],
        ] {
            let alone = seated(1, has_store, records);
            assert_eq!(alone.1, [records[1].0]);
            assert_eq!(seated(100, has_store, records), alone, "{records:?}");
        }
    }
}

/// Those of the records that find no other row with their code, each after those before it.
fn valid(records: Vec<(i64, Option<i64>)>) -> Vec<(i64, Option<i64>)> {
    let mut rows: BTreeMap<i64, i64> = [(1, 1), (2, 2)].into();
    let mut out = Vec::new();
    for (id, code) in records {
        match code {
            None => drop(rows.remove(&id)),
            Some(code) if rows.iter().any(|(other, taken)| *other != id && *taken == code) => continue,
            Some(code) => drop(rows.insert(id, code)),
        }
        out.push((id, code));
    }
    out
}

/// Tasks are decided one behind the other, the one with fewer records first: the record that sets the value free lies in the
/// longer queue here.
#[test]
fn a_value_that_an_older_record_of_another_partition_sets_free_in_the_same_batch_is_free() {
    let mut topology = Topology::new("sitting");
    topology.source("sitters").update("seats", Sit { count: None }).insert_missing(|_| None).to("seated");
    let driver = TestDriver::new(topology).partitions(2).workers(1);
    let mut driver = driver.settings(|settings| settings.batch_rows = 100);
    let partition = |id: i64| partition_for(id.to_string().as_bytes(), 2);
    let ids = |of: i32| (1..100).filter(move |id| partition(*id) == of).take(4).collect::<Vec<_>>();
    let (longer, shorter) = (ids(1 - partition(1)), ids(partition(1)));
    for id in [longer[0], shorter[0]] {
        driver.row("seats", id, Seat { code: id });
    }
    driver.run();
    driver.database().unique(&Table::new("seats"), "code");
    let mut send = |id: i64, at: i64, code: i64| {
        let (key, value) = (Some(id.to_string().into_bytes()), Some(code.to_string().into_bytes()));
        driver.send_record("sitters", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
    };
    (1_000..).zip(&longer).for_each(|(n, id)| send(*id, n, n));
    // Refused where nothing is written before it: rows are written in the order of their keys.
    send(shorter[0], 2_000, longer[0]);
    driver.run();
    assert_eq!(driver.read_raw("sitters-dlt").len(), 0);
    let code = |id: i64| driver.row_of("seats", id).map(|row| row.values);
    assert_eq!([longer[0], shorter[0]].map(code), [1_000, longer[0]].map(|code| Some(vec![Value::I64(code)])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn records_that_the_database_takes_one_by_one_it_takes_in_a_batch(
        records in vec((1..5_i64, proptest::option::weighted(0.8, 1..6_i64)), 1..10),
        has_store: bool,
    ) {
        let records = valid(records);
        let alone = seated(1, has_store, &records);
        prop_assert!(alone.1.is_empty());
        prop_assert_eq!(seated(100, has_store, &records), alone);
    }
}
