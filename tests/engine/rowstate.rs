//! State in a step with rows: rows, outbox and store agree, whatever dies in between.

use crate::pipeline::make_a_zombie;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::protocol::order::{Step, THROUGH_DATABASE};
use tidegate::engine::status::Counter;
use tidegate::flow::record::{Partition, Timestamp, TopicName, TopicPartition};
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Context, Reject, Store, Table, Topology};
use tidegate::ports::store::StoreId;
use tidegate::testing::TestDriver;

#[derive(Deserialize)]
struct Reading {
    value: f64,
    #[serde(default)]
    word: String,
}

#[derive(Serialize, Deserialize)]
struct Account {
    score: f64,
}

#[derive(Serialize)]
struct Change {
    score: f64,
    seen: i64,
}

/// Adds each reading to its account, counts the readings of the account and of the whole partition in a store, and
/// publishes every second one. The last value of a reading is kept under a key of its own, and deleted by the word
/// "forget".
struct Tally {
    seen: Store<i64>,
}

impl Algorithm for Tally {
    type Event = Reading;
    type Row = Account;
    type Notices = Option<Change>;

    fn apply(
        &self,
        reading: Reading,
        account: &mut Account,
        context: &mut Context<'_>,
    ) -> Result<Option<Change>, Reject> {
        let key = context.key().to_string();
        account.score += reading.value;
        let mut seen = context.store(&self.seen)?;
        let all = seen.add("all", 1)?;
        let own = seen.add(&key, 1)?;
        match reading.word.as_str() {
            "forget" => seen.delete(format!("last/{key}")),
            "large" => seen.put("x".repeat(2 << 20), &1)?,
            "reject" => return Err(Reject::new("after the writes")),
            "panic" => panic!("after the writes"),
            _ => seen.put(format!("last/{key}"), &all)?,
        }
        Ok((own % 2 == 0).then_some(Change { score: account.score, seen: all }))
    }
}

pub fn tally() -> Topology {
    let seen = Store::new("seen");
    let mut topology = Topology::new("tally");
    topology
        .source("readings")
        .with("corrections")
        .update("accounts", Tally { seen: seen.clone() })
        .with_store(&seen)
        .to("large-changes");
    topology
}

pub fn fill(mut driver: TestDriver, accounts: i64) -> TestDriver {
    for id in 0..accounts {
        driver.row("accounts", id, Account { score: 0.0 });
    }
    driver
}

pub fn send(driver: &mut TestDriver, topic: &str, id: i64, value: f64, word: &str) {
    driver.send(topic, id, json!({"value": value, "word": word}));
}

/// The committed offset of one input was lost, and a topic has dropped what it was told. The other input's offset proves the
/// batches before it, with what they told and what they kept, however the rest is cut.
#[test]
fn what_another_input_proves_to_be_published_is_not_sent_again() {
    let corrections = TopicPartition::new(TopicName::parse("corrections").unwrap(), Partition(0));
    let changes = TopicPartition::new(TopicName::parse("large-changes").unwrap(), Partition(0));
    for dies in [false, true] {
        let driver = TestDriver::new(tally()).partitions(1).settings(|settings| settings.transaction_rows = 1);
        let mut driver = fill(driver, 2);
        driver.run();
        for id in [0, 0, 1, 1] {
            send(&mut driver, "corrections", id, 1.0, "");
        }
        driver.run();
        send(&mut driver, "readings", 0, 1.0, "");
        driver.run();
        driver.stop(0);
        let end = driver.log().bounds(&changes).unwrap().end;
        driver.log().truncate_before(&changes, end);
        driver.log().set_committed("tally", &corrections, None).unwrap();
        if dies {
            driver.leave_dead();
            driver.crash_at(Step::CommitKafka, 1);
        }
        driver.start(0);
        driver.run();
        driver.start(0);
        driver.run();
        driver.disk(0).lose();
        driver.kill(0);
        driver.start(0);
        driver.run();
        assert_eq!(driver.halts(), []);
        assert_eq!(driver.read_raw("large-changes").len(), 0, "nothing is told again; dies: {dies}");
        assert_eq!(number(&mut driver, "all"), 5, "dies: {dies}");
    }
}

/// Values that a replay of the changelog from zero leaves in one partition.
fn replayed(driver: &mut TestDriver, partition: i32) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut kept = BTreeMap::new();
    for record in driver.read_raw("tally-seen-changelog") {
        if record.partition == partition {
            match record.value {
                Some(value) => kept.insert(record.key.unwrap(), value),
                None => kept.remove(&record.key.unwrap()),
            };
        }
    }
    kept
}

pub fn number(driver: &mut TestDriver, key: &str) -> i64 {
    driver.store("seen", key).map_or(0, |value| value.as_i64().unwrap())
}

#[test]
fn a_batch_changes_row_and_store_together_and_leaves_one_changelog_record_a_key() {
    let mut driver = fill(TestDriver::new(tally()).partitions(1), 2);
    driver.run();
    for n in 0..6 {
        send(&mut driver, "readings", n % 2, 1.0, "");
    }
    assert_eq!(driver.read("large-changes").len(), 2, "the second reading of each account is told");
    let changelog = driver.read_raw("tally-seen-changelog");
    assert_eq!(changelog.len(), 5, "six records, five keys, one batch");
    assert!(changelog.iter().all(|record| record.headers.is_empty()));
    assert_eq!((number(&mut driver, "all"), number(&mut driver, "0"), number(&mut driver, "last/1")), (6, 3, 6));
    assert_eq!(driver.row_of("accounts", 0).unwrap().values, vec![Value::F64(3.0)]);
    driver.stop(0);
    let id = StoreId { name: "seen".into(), partition: Partition(0) };
    let expected = replayed(&mut driver, 0);
    assert_eq!(driver.disk(0).contents(&id).into_iter().collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn a_crash_at_any_step_changes_neither_rows_nor_state_nor_messages() {
    let driver = TestDriver::new(tally()).partitions(2).instances(2).settings(|settings| {
        settings.store_flush = Duration::ZERO; // so that stores are written between the crashes
    });
    let mut driver = fill(driver, 4);
    for round in 0..2 {
        for id in 0..4 {
            send(&mut driver, "readings", id, f64::from(round), if id == 1 && round == 1 { "forget" } else { "" });
        }
        send(&mut driver, "readings", 2, 1.0, "reject");
        send(&mut driver, "readings", 3, 1.0, "panic");
        send(&mut driver, "readings", 99, 1.0, "");
        driver.run();
    }
    assert_eq!(driver.store("seen", "last/1"), None, "a tombstone went through the outbox");
    driver.crash_everywhere();
}

#[test]
fn a_poison_record_leaves_no_state_and_those_behind_it_see_none() {
    let mut driver = fill(TestDriver::new(tally()).partitions(1), 4);
    driver.database().check(&Table::new("accounts"), |values| match values {
        [Value::F64(score)] if *score > 100.0 => Err("score must not exceed 100".into()),
        _ => Ok(()),
    });
    driver.run();
    for (id, value, word) in [
        (0, 1.0, ""),
        (1, 1e6, ""),
        (2, 1.0, "large"),
        (1, 1.0, ""),
        (3, 1.0, ""),
        (0, 1e6, ""),
        (0, 1.0, "reject"),
        (0, 1.0, ""),
    ] {
        send(&mut driver, "readings", id, value, word);
    }
    let told: Vec<_> =
        driver.read("large-changes").into_iter().map(|(id, change)| (id, change["seen"].clone())).collect();
    assert_eq!(told, [(0, json!(4))], "the fourth that was not refused");
    let dead = driver.read_raw("readings-dlt");
    assert_eq!(dead.len(), 4);
    let codes: Vec<_> = dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap()).collect();
    assert_eq!((codes[1], codes[3]), ("too-large", "rejected"));
    let found: Vec<i64> = ["all", "0", "1", "2", "3"].into_iter().map(|key| number(&mut driver, key)).collect();
    assert_eq!(found, [4, 2, 1, 0, 1]);
    let versions: Vec<i64> = (0..4).map(|id| driver.row_of("accounts", id).unwrap().version).collect();
    assert_eq!(versions, [2, 1, 0, 1]);
}

#[test]
fn two_crashes_in_a_row_change_nothing() {
    for first in THROUGH_DATABASE {
        for second in [Step::Claim, Step::PublishRemainder, Step::SendOffsets, Step::CommitKafka, Step::Apply] {
            let mut driver = fill(TestDriver::new(tally()).partitions(2), 4);
            driver.run();
            driver.crash_at(first, 1);
            for n in 0..8 {
                send(&mut driver, if n % 4 == 3 { "corrections" } else { "readings" }, n % 4, 1.0, "");
            }
            while driver.crashes() == 0 {
                driver.step();
                driver.pass(Duration::from_millis(5));
            }
            driver.crash_at(second, 1);
            driver.run();
            for id in 0..4 {
                assert_eq!(number(&mut driver, &id.to_string()), 2, "{first:?} then {second:?}");
                assert_eq!(driver.row_of("accounts", id).unwrap().version, 2, "{first:?} then {second:?}");
            }
            assert_eq!(driver.read("large-changes").len(), 4, "{first:?} then {second:?}");
        }
    }
}

#[test]
fn a_zombie_adds_nothing_to_rows_or_state() {
    let mut driver = fill(TestDriver::new(tally()).partitions(2).instances(2), 8);
    driver.run();
    for id in 0..8 {
        send(&mut driver, "readings", id, 1.0, "");
    }
    make_a_zombie(&mut driver);
    for id in 0..8 {
        assert_eq!(number(&mut driver, &id.to_string()), 1);
        assert_eq!(driver.row_of("accounts", id).unwrap().version, 1);
    }
}

#[test]
fn an_unknown_commit_is_settled_in_the_store_too() {
    for is_applied in [true, false] {
        let mut driver = fill(TestDriver::new(tally()).partitions(1), 4);
        driver.run();
        driver.database().fail_next_commit_unknown(is_applied);
        for id in 0..4 {
            send(&mut driver, "readings", id, 1.0, "");
        }
        driver.run();
        send(&mut driver, "readings", 0, 1.0, "");
        driver.run();
        assert_eq!(number(&mut driver, "all"), 5, "applied: {is_applied}");
    }
}

#[test]
fn the_audit_finds_nothing_to_say_of_changelog_rows() {
    let mut driver = fill(TestDriver::new(tally()).partitions(2), 4);
    for n in 0..8 {
        send(&mut driver, "readings", n % 4, 1.0, "");
    }
    driver.run();
    let mut rows = driver.database().history("tally");
    let mut log = driver.log().history("tally");
    let report = tidegate::engine::audit::audit(&tally(), &mut rows, &mut log).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.records, report.outbox_rows, report.published), (8, 4, 4));
}

#[test]
fn a_lost_disk_and_moving_partitions_keep_their_state() {
    let mut driver = fill(TestDriver::new(tally()).partitions(4).instances(1), 8);
    let round = |driver: &mut TestDriver| {
        for id in 0..8 {
            send(driver, "readings", id, 1.0, "");
        }
        driver.run();
    };
    round(&mut driver);
    driver.start(1);
    round(&mut driver);
    driver.stop(0);
    driver.disk(0).lose();
    round(&mut driver);
    driver.start(0);
    driver.kill(1);
    round(&mut driver);
    for id in 0..8 {
        assert_eq!(number(&mut driver, &id.to_string()), 4, "account {id}");
    }
}

#[test]
fn a_step_with_rows_halts_too_where_it_was_not_given_the_store() {
    let mut topology = Topology::new("tally");
    topology
        .source("readings")
        .with("corrections")
        .update("accounts", Tally { seen: Store::new("seen") })
        .to("large-changes");
    let mut driver = fill(TestDriver::new(topology), 1);
    driver.send("readings", 0, json!({"value": 1.0}));
    driver.send("readings", 0, json!({"value": 1.0}));
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::UnknownStore]);
    assert!(driver.read_raw("readings-dlt").is_empty());
    assert_eq!(driver.row_of("accounts", 0).unwrap().version, 0);
}

#[test]
fn a_record_from_the_future_is_a_dead_letter_of_a_step_with_rows_and_ages_no_state() {
    let seen = Store::new("seen").time_to_live(Duration::from_secs(600));
    let mut topology = Topology::new("tally");
    topology.source("readings").update("accounts", Tally { seen: seen.clone() }).with_store(&seen).to("large-changes");
    for anew in [false, true] {
        let mut driver = fill(TestDriver::new(topology.clone()), 1);
        driver.send("readings", 0, json!({"value": 1.0}));
        driver.run();
        let topic = TopicName::parse("readings").unwrap();
        let at = |ahead_ms: i64| Timestamp(1_767_225_600_000 + ahead_ms);
        for ahead_ms in [3_600_000, 200_000] {
            let sent = driver.log().produce(&topic, Some(b"0"), Some(br#"{"value": 1.0}"#), &[], at(ahead_ms));
            sent.unwrap();
        }
        driver.run();
        if anew {
            driver.kill(0);
            driver.disk(0).lose();
            driver.start(0);
        }
        driver.send("readings", 0, json!({"value": 1.0}));
        assert_eq!(driver.store("seen", "0"), Some(json!(3)));
        assert_eq!(driver.store("seen", "\0tidegate\0clock"), Some(json!(at(200_000).0)));
        assert_eq!(driver.row_of("accounts", 0).unwrap().version, 3);
        let dead = driver.read_raw("readings-dlt");
        let codes: Vec<_> = dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap()).collect();
        assert_eq!(codes, ["event-time-ahead"]);
    }
}

/// Keeps a large value under a key of each record's own.
struct Hoard {
    kept: Store<String>,
}

impl Algorithm for Hoard {
    type Event = i64;
    type Row = Account;
    type Notices = Option<()>;

    fn apply(&self, n: i64, account: &mut Account, context: &mut Context<'_>) -> Result<Option<()>, Reject> {
        account.score += 1.0;
        context.store(&self.kept)?.put(n.to_string(), &"x".repeat(900_000))?;
        Ok(None)
    }
}

/// They are rows of the outbox, and once they are committed they are published in one transaction.
#[test]
fn a_batch_has_a_bound_of_bytes_that_counts_what_it_writes_into_stores() {
    let kept = Store::new("kept");
    let mut topology = Topology::new("hoard");
    topology.source("numbers").update("accounts", Hoard { kept: kept.clone() }).with_store(&kept).done();
    let mut driver = TestDriver::new(topology).workers(1);
    driver.row("accounts", 0, Account { score: 0.0 });
    driver.run();
    for n in 0..60 {
        driver.send("numbers", 0, n);
    }
    driver.run();
    assert_eq!(driver.row_of("accounts", 0).unwrap().version, 60);
    assert_eq!(driver.status(0).value(Counter::DatabaseCommits), 2, "32 MiB at most");
}
