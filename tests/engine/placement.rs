//! The places of records and of their keys: declarations in front of rows, and sources that declare nothing.

use crate::pipeline::{Account, Smooth};
use serde_json::json;
use std::sync::Arc;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::status::DeclaredSource;
use tidegate::flow::key::{crc32_partition_for, partition_for};
use tidegate::flow::record::{Partition, TopicName, TopicPartition};
use tidegate::flow::{Declared, OnViolation, Topology};
use tidegate::testing::TestDriver;

fn name(topic: &str) -> TopicName {
    TopicName::parse(topic).unwrap()
}

fn rows(policy: OnViolation) -> Topology {
    let mut topology = Topology::new("scoring");
    topology
        .source("readings")
        .with("corrections")
        .declared(Declared::murmur2(4).on_violation(policy))
        .update("accounts", Smooth { calls: Arc::default() })
        .to("large-changes");
    topology
}

/// Readings of ten accounts where they belong, and in between one of account 5 in the wrong partition.
fn planted(policy: OnViolation) -> (TestDriver, i32) {
    let mut driver = TestDriver::new(rows(policy)).partitions(4);
    for id in 0..10 {
        driver.row("accounts", id, Account { score: 0.0 });
    }
    let wrong = (partition_for(b"5", 4) + 1) % 4;
    for id in 0..10 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.send_to("readings", wrong, Some(b"5"), Some(b"{\"value\": 10.0}"));
    for id in 0..10 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    // Nothing is declared of this topic. Each record changes the row in whichever order its two partitions are decided.
    driver.send_to("corrections", wrong, Some(b"5"), Some(b"{\"value\": 20.0}"));
    driver.run();
    (driver, wrong)
}

fn readings_as_declared(driver: &mut TestDriver) -> DeclaredSource {
    driver.status(0).declared.sources().remove(&name("readings")).unwrap()
}

#[test]
fn a_record_in_the_wrong_partition_stops_it_before_a_row_is_touched() {
    let (mut driver, wrong) = planted(OnViolation::Stop);
    let halts = driver.halts();
    assert_eq!(halts.len(), 1);
    let place = TopicPartition::new(name("readings"), Partition(wrong));
    assert_eq!((halts[0].reason, &halts[0].source), (HaltReason::WronglyKeyed, &place));
    assert!(halts[0].detail.contains(&format!("partition {}", partition_for(b"5", 4))), "{}", halts[0].detail);
    let planted = driver
        .read_raw("readings")
        .into_iter()
        .find(|found| found.partition == wrong && found.key.as_deref() == Some(b"5"));
    let planted = planted.unwrap().offset;
    assert!(halts[0].choices.iter().any(|choice| choice.to_string().contains(&format!("--to {}", planted + 1))));
    let told = readings_as_declared(&mut driver);
    let found = told.violations[&Partition(wrong)];
    assert_eq!((found.count, found.first_offset, found.expected_partition), (1, planted, partition_for(b"5", 4)));
    for id in 0..10_i64 {
        let is_behind = partition_for(id.to_string().as_bytes(), 4) == wrong;
        let version = driver.row_of("accounts", id).unwrap().version;
        let corrections = i64::from(id == 5);
        assert!(version <= if is_behind { 1 } else { 2 + corrections }, "row {id} is at {version}");
        assert!(is_behind || version >= 2, "row {id}: the other partitions go on");
    }
    let position = driver.position("readings", wrong).unwrap().next_offset;
    assert_eq!(position.0, planted, "it stands in front of the record");
}

#[test]
fn a_record_in_the_wrong_partition_is_counted_and_handled_where_that_is_asked_for() {
    let (mut driver, wrong) = planted(OnViolation::Warn);
    assert_eq!(driver.halts(), []);
    assert_eq!(driver.row_of("accounts", 5).unwrap().version, 4);
    let told = readings_as_declared(&mut driver);
    assert_eq!((told.checked, told.violations[&Partition(wrong)].count), (21, 1));
    assert!(told.bytes_not_shuffled > 20 * 10);
    driver.crash_everywhere();
}

#[test]
fn sending_records_on_in_front_of_rows_is_refused_with_the_fix() {
    let errors = rows(OnViolation::Repartition).validate().unwrap_err();
    assert_eq!(
        errors,
        [
            "topic readings: an update step sends no record on; declare it with OnViolation::Stop or OnViolation::Warn, or let key_by() write a repartition topic"
        ]
    );
}

/// Orders join users by key; users lie by murmur2, orders by `place`.
fn orders(place: fn(&[u8], i32) -> i32) -> (TestDriver, usize) {
    let mut driver = TestDriver::new(tidegate::pipelines::orders::topology()).partitions(12);
    for user in 0..300 {
        let name = format!("user-{user}");
        driver.send("users", name.as_str(), json!({"name": name, "country": "CH"}));
    }
    driver.run();
    for user in 0..300 {
        let (key, order) = (format!("user-{user}"), json!({"item": "tea", "cents": 5}));
        driver.send_to("orders", place(key.as_bytes(), 12), Some(key.as_bytes()), Some(order.to_string().as_bytes()));
    }
    let met = driver.read_raw("addressed-orders").len();
    (driver, met)
}

#[test]
fn keys_of_a_join_that_another_partitioner_has_placed_are_counted_with_the_likely_client() {
    let (mut driver, _) = orders(partition_for);
    let told = driver.status(0).undeclared.sources();
    assert_eq!((told[&name("orders")].checked, told[&name("orders")].elsewhere), (300, 0));
    assert_eq!((told[&name("users")].checked, told[&name("users")].elsewhere), (300, 0));

    let (mut driver, met) = orders(crc32_partition_for);
    let told = driver.status(0).undeclared.sources();
    let found = told[&name("orders")];
    let apart = (0..300).map(|user| format!("user-{user}"));
    let apart =
        apart.filter(|key| partition_for(key.as_bytes(), 12) != crc32_partition_for(key.as_bytes(), 12)).count();
    assert_eq!((found.assumed, found.checked), ("murmur2", 300));
    assert_eq!((found.elsewhere, found.by_crc32), (apart as u64, apart as u64), "all of them as librdkafka does it");
    assert_eq!(driver.halts(), []);
    assert!(met < 300 && driver.read_raw("orders-dlt").is_empty(), "what is done with them has not changed");
}

#[test]
fn what_key_by_sends_on_lies_where_its_keys_belong() {
    let mut driver = TestDriver::new(tidegate::pipelines::usage::topology()).partitions(12);
    for n in 0..100 {
        let user = format!("u{n}");
        driver.send("events", user.as_str(), json!({"userId": user, "units": 1.0}));
    }
    driver.run();
    let told = driver.status(0).undeclared.sources();
    assert_eq!(
        told.keys().map(TopicName::as_str).collect::<Vec<_>>(),
        ["usage-by-user-repartition"],
        "nothing is kept by the first step"
    );
    assert_eq!(
        (told[&name("usage-by-user-repartition")].checked, told[&name("usage-by-user-repartition")].elsewhere),
        (100, 0)
    );
}
