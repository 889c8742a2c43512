//! A batch that cannot be committed as it is gets smaller; a record that cannot be committed alone is its own
//! partition's trouble.

use crate::pipeline::{Account, Smooth, driver};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::status::Counter;
use tidegate::flow::key::{Key, partition_for};
use tidegate::flow::record::TopicName;
use tidegate::flow::{Table, Topology};
use tidegate::ports::rows::Rows;
use tidegate::testing::TestDriver;

const IDS: i64 = 300;

fn send_to_all(driver: &mut TestDriver, topic: &str) {
    for id in 0..IDS {
        driver.send(topic, id, json!({"value": 10.0}));
    }
}

/// Lets the service work for a while, settled or not.
fn work(driver: &mut TestDriver, by: Duration) {
    let step = Duration::from_millis(10);
    for _ in 0..by.as_millis() / step.as_millis() {
        driver.step();
        driver.pass(step);
    }
}

fn version(driver: &mut TestDriver, table: &str, id: i64) -> i64 {
    driver.database().get(&Table::new(table), id).unwrap().version
}

fn partition_of(id: i64) -> i32 {
    partition_for(id.to_string().as_bytes(), 4)
}

/// Two steps with a table each, in batches of `batch_rows`.
fn two(batch_rows: usize) -> TestDriver {
    let mut topology = Topology::new("two");
    let smooth = || Smooth { calls: Arc::default() };
    topology.source("readings").update("accounts", smooth()).to("account-changes");
    topology.source("visits").update("shops", smooth()).to("shop-changes");
    let driver = TestDriver::new(topology).partitions(4);
    let mut driver = driver.settings(|settings| settings.batch_rows = batch_rows);
    for id in 0..IDS {
        driver.row("accounts", id, Account { score: 0.0 });
        driver.row("shops", id, Account { score: 0.0 });
    }
    driver
}

#[test]
fn a_batch_that_is_too_large_gets_smaller_until_it_is_taken_and_grows_again() {
    let mut driver = driver(IDS);
    driver.run();
    driver.database().limit_statements(&Table::new("accounts"), Some(3));
    send_to_all(&mut driver, "readings");
    driver.run();
    assert!(driver.halts().is_empty());
    for id in 0..IDS {
        assert_eq!(version(&mut driver, "accounts", id), 1, "account {id}");
    }
    driver.database().limit_statements(&Table::new("accounts"), None);
    send_to_all(&mut driver, "readings");
    driver.run();
    let before = driver.status(0).value(Counter::DatabaseCommits);
    send_to_all(&mut driver, "readings");
    driver.run();
    let commits = driver.status(0).value(Counter::DatabaseCommits) - before;
    assert!(commits < 30, "{commits} transactions for {IDS} records");
    assert_eq!(driver.read("large-changes").len(), 3 * usize::try_from(IDS).unwrap());
}

#[test]
fn a_table_that_takes_nothing_holds_up_the_partitions_of_its_step_only() {
    let mut driver = two(100);
    driver.run();
    driver.database().limit_statements(&Table::new("accounts"), Some(0));
    send_to_all(&mut driver, "readings");
    send_to_all(&mut driver, "visits");
    work(&mut driver, Duration::from_secs(5));
    for id in 0..IDS {
        assert_eq!(version(&mut driver, "shops", id), 1, "shop {id}");
        assert_eq!(version(&mut driver, "accounts", id), 0, "account {id}");
    }
    driver.database().limit_statements(&Table::new("accounts"), None);
    assert!(driver.halts().is_empty());
    assert_eq!(driver.read("account-changes").len(), usize::try_from(IDS).unwrap());

    // Not for ever, where everything else is taken.
    driver.database().limit_statements(&Table::new("accounts"), Some(0));
    send_to_all(&mut driver, "readings");
    for _ in 0..40 {
        send_to_all(&mut driver, "visits");
        work(&mut driver, Duration::from_secs(1));
    }
    let halts = driver.halts();
    assert_eq!(halts.len(), 4, "{halts:?}");
    assert!(halts.iter().all(|halt| halt.source.topic.as_str() == "readings" && halt.detail.contains("took too long")));
    assert_eq!(version(&mut driver, "shops", 7), 41);
}

/// As where a record writes a unique value that another session has written, which waits for it and then is refused.
#[test]
fn a_record_that_was_set_aside_and_is_refused_then_is_a_dead_letter_however_much_the_others_have_to_do() {
    let accounts = Table::new("accounts");
    let mut driver = two(1);
    driver.run();
    driver.database().limit_statements(&accounts, Some(0));
    driver.send("readings", 7, json!({"value": 10.0}));
    work(&mut driver, Duration::from_secs(1));
    driver.database().limit_statements(&accounts, None);
    driver.database().check(&accounts, |_| Err("no".into()));
    for _ in 0..50 {
        send_to_all(&mut driver, "visits");
        work(&mut driver, Duration::from_millis(100));
    }
    // Read as it is: the others' records are not worked off, which would leave the worker to the one set aside.
    let dead = driver.log().read(&TopicName::parse("readings-dlt").unwrap());
    let behind = IDS * 50 - driver.database().all(&Table::new("shops")).iter().map(|row| row.version).sum::<i64>();
    assert!(behind > IDS, "{behind}: the others have records all the time");
    assert_eq!(dead.len(), 1);
    assert!(driver.status(0).waits.all().is_empty(), "{:?}", driver.status(0).waits.all());
}

#[test]
fn a_database_that_takes_nothing_halts_nothing_however_long() {
    let mut driver = driver(IDS);
    driver.run();
    driver.database().limit_statements(&Table::new("accounts"), Some(0));
    send_to_all(&mut driver, "readings");
    work(&mut driver, Duration::from_secs(120));
    driver.database().limit_statements(&Table::new("accounts"), None);
    assert!(driver.halts().is_empty());
    assert_eq!(driver.read("large-changes").len(), usize::try_from(IDS).unwrap());
}

/// Few partitions are in a batch that has become small.
#[test]
fn where_the_database_is_away_every_partition_with_records_tells_that_and_nothing_older() {
    let mut driver = driver(IDS);
    driver.run();
    driver.database().limit_statements(&Table::new("accounts"), Some(0));
    send_to_all(&mut driver, "readings");
    work(&mut driver, Duration::from_secs(2));
    driver.database().set_down(true);
    work(&mut driver, Duration::from_secs(10));
    let waits = driver.status(0).waits.all();
    let causes: BTreeSet<&str> = waits.values().map(|reason| &*reason.cause).collect();
    assert_eq!((waits.len(), causes.len()), (4, 1), "{waits:?}");
    driver.database().limit_statements(&Table::new("accounts"), None);
    driver.database().set_down(false);
    driver.run();
    assert!(driver.status(0).waits.all().is_empty());
}

#[test]
fn a_row_that_cannot_be_read_halts_its_own_partition_and_the_others_go_on() {
    let mut driver = driver(IDS);
    driver.run();
    driver.database().damage(&Table::new("accounts"), 7);
    send_to_all(&mut driver, "readings");
    let halts = driver.halts();
    assert_eq!(halts.len(), 1, "{halts:?}");
    assert_eq!((halts[0].source.partition.0, halts[0].reason), (partition_of(7), HaltReason::SchemaChanged));
    for id in 0..IDS {
        let expected = i64::from(partition_of(id) != partition_of(7) || id < 7);
        assert_eq!(version(&mut driver, "accounts", id), expected, "account {id}");
    }
}

#[test]
fn a_row_that_somebody_else_has_locked_holds_up_its_own_partition_and_the_others_go_on() {
    let mut driver = driver(IDS);
    driver.run();
    let mut other = driver.database().rows("other");
    let spec = crate::pipeline::topology().tables();
    other.bind(&spec).unwrap();
    other.begin().unwrap();
    assert_eq!(other.read(0, &[Key::I64(7)]).unwrap().len(), 1);
    send_to_all(&mut driver, "readings");
    work(&mut driver, Duration::from_secs(3));
    for id in 0..IDS {
        if partition_of(id) != partition_of(7) {
            assert_eq!(version(&mut driver, "accounts", id), 1, "account {id}");
        }
    }
    assert_eq!(version(&mut driver, "accounts", 7), 0);
    let retries = driver.status(0).value(Counter::DatabaseRetries);
    assert!(retries < 5, "{retries}: it is looked at, not waited for, whether the row is still locked");
    let waits: Vec<String> = driver.status(0).waits.all().into_keys().collect();
    assert_eq!(waits, [format!("readings-{}", partition_of(7))], "the watch tells it, and its cause");
    other.rollback();
    driver.run();
    assert!(driver.status(0).waits.all().is_empty());
    let streams = driver.status(0).streams.by_topic();
    assert_eq!(streams.values().map(|stream| (stream.used, stream.rejected)).collect::<Vec<_>>(), [(IDS as u64, 0)]);
    assert_eq!(driver.read("large-changes").len(), usize::try_from(IDS).unwrap());
}

#[test]
fn a_key_that_the_database_cannot_hold_is_a_dead_letter_and_its_partition_goes_on() {
    let mut driver = driver(IDS);
    driver.run();
    driver.database().refuse_key(&Table::new("accounts"), 7);
    send_to_all(&mut driver, "readings");
    driver.run();
    let rejected: u64 = driver.status(0).streams.by_topic().values().map(|stream| stream.rejected).sum();
    assert_eq!((rejected, driver.status(0).waits.all().len()), (1, 0));
    assert!(driver.halts().is_empty(), "{:?}", driver.halts());
    for id in 0..IDS {
        assert_eq!(version(&mut driver, "accounts", id), i64::from(id != 7), "account {id}");
    }
    let dead = driver.read_raw("readings-dlt");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("kafka_dlt-exception-fqcn"), Some("bad-value"));
    assert_eq!(dead[0].key.as_deref(), Some(b"7".as_slice()));
}
