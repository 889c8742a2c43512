//! Several tables and several steps in one batch: the trouble of one row, record or step does not reach another.

use crate::pipeline::{Account, Change, Reading, Smooth};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tidegate::engine::audit::audit;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Context, Reject, Table, Topology};
use tidegate::testing::TestDriver;

fn two_tables() -> Topology {
    let mut topology = Topology::new("two");
    let smooth = || Smooth { calls: Arc::default() };
    topology.source("readings").update("accounts", smooth()).to("account-changes");
    topology.source("visits").update("shops", smooth()).to("shop-changes");
    topology
}

fn refuse_above_100(driver: &mut TestDriver, table: &str) {
    driver.database().check(&Table::new(table), |values| match values {
        [Value::F64(score), ..] if *score > 100.0 => Err("score must not exceed 100".into()),
        _ => Ok(()),
    });
}

fn codes(driver: &mut TestDriver, topic: &str) -> Vec<String> {
    let dead = driver.read_raw(topic);
    dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

fn is_clean(driver: &mut TestDriver, topology: &Topology) {
    let (mut rows, mut log) = (driver.database().history(topology.name()), driver.log().history(topology.name()));
    let report = audit(topology, &mut rows, &mut log).unwrap();
    assert!(report.is_clean() && report.is_drained(), "{report:?}");
}

#[test]
fn a_row_refused_in_one_table_leaves_alone_what_the_batch_wrote_into_another() {
    for (refused, fine) in [("accounts", "shops"), ("shops", "accounts")] {
        let mut driver = TestDriver::new(two_tables()).partitions(2);
        for table in ["accounts", "shops"] {
            driver.row(table, 7, Account { score: 0.0 });
            driver.row(table, 8, Account { score: 0.0 });
        }
        refuse_above_100(&mut driver, refused);
        let source = |table| if table == "accounts" { "readings" } else { "visits" };
        driver.send(source(refused), 7, json!({"value": 1e6}));
        driver.send(source(refused), 8, json!({"value": 10.0}));
        driver.send(source(fine), 7, json!({"value": 10.0}));
        driver.run();
        assert_eq!(driver.row_of(fine, 7).unwrap().version, 1, "{fine}: it is announced, so it is written");
        assert_eq!(driver.row_of(refused, 7).unwrap().version, 0);
        assert_eq!(driver.row_of(refused, 8).unwrap().version, 1);
        assert_eq!(driver.read("account-changes").len() + driver.read("shop-changes").len(), 2);
        assert_eq!(codes(&mut driver, &format!("{}-dlt", source(refused))), ["constraint"]);
        is_clean(&mut driver, &two_tables());
    }
}

/// A record with the word "needs" asks to be offered again until its account has a score of 50.
struct Needs;

impl Algorithm for Needs {
    type Event = Reading;
    type Row = Account;
    type Notices = Option<Change>;

    fn apply(&self, reading: Reading, account: &mut Account, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        if reading.word == "needs" && account.score < 50.0 {
            return Err(Reject::retry("not-yet", "the score is too low"));
        }
        account.score += reading.value;
        Ok(Some(Change { magnitude: reading.value, score: account.score }))
    }
}

#[test]
fn a_record_that_asks_for_a_retry_once_the_one_before_it_is_refused_holds_up_those_behind_it() {
    let mut topology = Topology::new("needs");
    topology.source("readings").update("accounts", Needs).to("changes");
    let mut driver = TestDriver::new(topology.clone()).settings(|settings| settings.retry_attempts = 2);
    driver.row("accounts", 0, Account { score: 0.0 });
    driver.row("accounts", 1, Account { score: 0.0 });
    refuse_above_100(&mut driver, "accounts");
    driver.run();
    driver.send("readings", 0, json!({"value": 1e6}));
    driver.send("readings", 0, json!({"value": 1.0, "word": "needs"}));
    driver.send("readings", 1, json!({"value": 10.0}));
    driver.send("readings", 0, json!({"value": 60.0}));
    for _ in 0..50 {
        driver.step();
        driver.pass(Duration::from_secs(1)); // so that an outbox row written twice has a key of its own
    }
    assert_eq!(codes(&mut driver, "readings-dlt"), ["constraint", "not-yet"]);
    assert_eq!(driver.row_of("accounts", 1).unwrap().version, 1, "what was decided behind it was decided once");
    assert_eq!(driver.row_of("accounts", 0).unwrap().version, 1);
    let told: Vec<i64> = driver.read("changes").into_iter().map(|(id, _)| id).collect();
    assert_eq!(told, [1, 0]);
    is_clean(&mut driver, &topology);
}

/// Over a record with the word "fickle" it writes too much the first time, asks to be offered again the second time, and
/// changes the row as the record says from then on.
#[derive(Default)]
struct Fickle(AtomicU32);

impl Algorithm for Fickle {
    type Event = Reading;
    type Row = Account;
    type Notices = Option<Change>;

    fn apply(&self, reading: Reading, account: &mut Account, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        let call = if reading.word == "fickle" { self.0.fetch_add(1, Ordering::Relaxed) } else { 2 };
        match call {
            0 => account.score = 1e6,
            1 => return Err(Reject::retry("not-yet", "it has changed its mind")),
            _ => account.score += reading.value,
        }
        Ok(Some(Change { magnitude: reading.value, score: account.score }))
    }
}

#[test]
fn a_record_that_asks_for_a_retry_once_its_own_row_is_refused_takes_nothing_of_those_behind_it_along() {
    let mut topology = Topology::new("fickle");
    topology.source("readings").update("accounts", Fickle::default()).to("changes");
    let mut driver = TestDriver::new(topology.clone()).partitions(1);
    driver.row("accounts", 0, Account { score: 0.0 });
    driver.row("accounts", 1, Account { score: 0.0 });
    refuse_above_100(&mut driver, "accounts");
    driver.run();
    driver.send("readings", 0, json!({"value": 1.0, "word": "fickle"}));
    driver.send("readings", 1, json!({"value": 10.0}));
    for _ in 0..50 {
        driver.step();
        driver.pass(Duration::from_secs(1));
    }
    assert_eq!(codes(&mut driver, "readings-dlt"), [""; 0]);
    for id in [0, 1] {
        assert_eq!(driver.row_of("accounts", id).unwrap().version, 1, "{id} was changed once");
    }
    is_clean(&mut driver, &topology);
}

#[derive(Deserialize)]
struct Amount {
    cents: i64,
}

#[derive(Serialize, Deserialize)]
struct Balance {
    balance: i64,
}

/// The columns of the other step's rows, and more.
#[derive(Serialize, Deserialize)]
struct Ledger {
    refunds: i64,
    balance: i64,
}

/// The row as the database has it: the columns of the first step, then those that the second adds.
#[derive(Serialize)]
struct Whole {
    balance: i64,
    refunds: i64,
}

#[derive(Serialize)]
struct Told {
    balance: i64,
}

struct Pay;
struct Refund;

impl Algorithm for Pay {
    type Event = Amount;
    type Row = Balance;
    type Notices = Option<Told>;

    fn apply(&self, amount: Amount, row: &mut Balance, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        row.balance += amount.cents;
        Ok(Some(Told { balance: row.balance }))
    }
}

impl Algorithm for Refund {
    type Event = Amount;
    type Row = Ledger;
    type Notices = Option<Told>;

    fn apply(&self, amount: Amount, row: &mut Ledger, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        row.balance -= amount.cents;
        row.refunds += 1;
        Ok(Some(Told { balance: row.balance }))
    }
}

fn two_steps(table: &Table) -> Topology {
    let mut topology = Topology::new("ledger");
    topology.source("payments").update(table.clone(), Pay).to("paid");
    topology.source("refunds").update(table.clone(), Refund).to("refunded");
    topology
}

#[test]
fn two_steps_on_one_table_change_one_row_after_each_other_whatever_columns_each_has() {
    for table in [Table::new("accounts"), Table::new("accounts").unversioned()] {
        let mut driver = TestDriver::new(two_steps(&table)).partitions(2).instances(2);
        for id in 0..8 {
            driver.row("accounts", id, Whole { balance: 0, refunds: 0 });
        }
        driver.run();
        for round in 0..3 {
            for id in 0..8 {
                driver.send("payments", id, json!({"cents": 10}));
                driver.send("refunds", id, json!({"cents": 1 + round}));
            }
            driver.run();
        }
        assert!(driver.halts().is_empty(), "{:?}", driver.halts());
        for id in 0..8 {
            let row = driver.row_of("accounts", id).unwrap();
            assert_eq!(row.values, [Value::I64(30 - 1 - 2 - 3), Value::I64(3)], "row {id}: no update is lost");
        }
        let mut balances: Vec<i64> = Vec::new();
        for topic in ["paid", "refunded"] {
            let told = driver.read(topic);
            balances.extend(told.iter().filter(|(id, _)| *id == 3).map(|(_, told)| told["balance"].as_i64().unwrap()));
        }
        assert_eq!(balances.len(), 6);
        assert!(balances.contains(&24), "the last one saw what all others did: {balances:?}");
        if table == Table::new("accounts") {
            assert_eq!(driver.row_of("accounts", 3).unwrap().version, 6);
            let topology = two_steps(&table);
            is_clean(&mut driver, &topology);
        }
    }
}

#[test]
fn two_steps_that_disagree_about_their_table_are_refused_in_one_sentence_each() {
    let mut topology = Topology::new("ledger");
    topology.source("payments").update(Table::new("accounts"), Pay).to("paid");
    topology.source("refunds").update(Table::new("accounts").version("revision"), Refund).to("refunded");
    topology.source("moves").update(Table::new("accounts").key("name", tidegate::flow::KeyType::Text), Pay).done();
    let errors = topology.validate().unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("table accounts") && errors[0].contains("revision"), "{errors:?}");
    assert!(errors[1].contains("table accounts") && errors[1].contains("name"), "{errors:?}");

    #[derive(Serialize, Deserialize)]
    struct Text {
        balance: String,
        refunds: Option<i64>,
    }
    struct Other;
    impl Algorithm for Other {
        type Event = Amount;
        type Row = Text;
        type Notices = Option<Told>;

        fn apply(&self, _: Amount, _: &mut Text, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
            Ok(None)
        }
    }
    let mut topology = two_steps(&Table::new("accounts"));
    topology.source("others").update("accounts", Other).done();
    let errors = topology.validate().unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("table accounts, column balance"), "{errors:?}");
    assert!(errors[1].contains("table accounts, column refunds"), "{errors:?}");
}

#[derive(Serialize, Deserialize)]
struct Spelt {
    score: f64,
    amount: String,
    extra: serde_json::Value,
}

/// Adds to the score, and to the extra where the record has a word.
struct Spell;

impl Algorithm for Spell {
    type Event = Reading;
    type Row = Spelt;
    type Notices = Option<Change>;

    fn apply(&self, reading: Reading, row: &mut Spelt, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        row.score += reading.value;
        if !reading.word.is_empty() {
            row.extra["word"] = reading.word.into();
        }
        Ok(None)
    }
}

#[test]
fn a_column_that_the_algorithm_leaves_alone_keeps_its_value_bit_for_bit() {
    let mut topology = Topology::new("spelt");
    topology.source("readings").update("accounts", Spell).done();
    let mut driver = TestDriver::new(topology);
    let large = r#"{"v": 1.10, "id": 12345678901234567890123, "price": 0.1234567890123456789012}"#;
    let values = |score: f64| [Value::F64(score), Value::Text("1.50".into()), Value::Json(large.into())];
    assert!(driver.database().put(&Table::new("accounts"), 1, 0, &values(0.0)));
    driver.send("readings", 1, json!({"value": 1.0}));
    driver.send("readings", 1, json!({"value": 1.0}));
    assert_eq!(driver.row_of("accounts", 1).unwrap().values, values(2.0));
    driver.send("readings", 1, json!({"value": 1.0, "word": "new"}));
    let row = driver.row_of("accounts", 1).unwrap();
    assert_eq!(row.values[..2], values(3.0)[..2]);
    assert!(matches!(&row.values[2], Value::Json(text) if text.contains("new")), "{row:?}");
}

/// Skips and rejects with codes that no text column of a database holds.
struct Odd;

impl Algorithm for Odd {
    type Event = Reading;
    type Row = Account;
    type Notices = Option<Change>;

    fn apply(&self, reading: Reading, _: &mut Account, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        Err(if reading.word == "skip" { Reject::skip("a\0b") } else { Reject::dead_letter("c\0d", "odd") })
    }
}

#[test]
fn a_code_with_a_nul_character_is_kept_in_the_ledger_without_it() {
    let mut topology = Topology::new("odd");
    topology.source("readings").update("accounts", Odd).done();
    let mut driver = TestDriver::new(topology).settings(|settings| settings.verdicts = true);
    driver.row("accounts", 0, Account { score: 0.0 });
    driver.send("readings", 0, json!({"value": 1.0, "word": "skip"}));
    driver.send("readings", 0, json!({"value": 1.0}));
    driver.run();
    let notes: Vec<String> = driver.database().verdicts("odd").into_iter().filter_map(|verdict| verdict.note).collect();
    assert_eq!(notes, ["a\u{fffd}b", "c\u{fffd}d"]);
}
