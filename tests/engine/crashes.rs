//! Crashes at every commit step, rebalances, zombies: the same rows and the same messages as without.

use crate::pipeline::{Account, announced_ids, counted, driver, fill, make_a_zombie, topology};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::engine::protocol::order::{Step, THROUGH_DATABASE};
use tidegate::flow::Table;
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::flow::row::Value;
use tidegate::testing::TestDriver;

#[test]
fn a_notification_changes_its_row_and_a_large_change_is_announced() {
    let mut driver = TestDriver::new(topology()).partitions(4);
    driver.row("accounts", 7, Account { score: 0.0 });
    driver.send("readings", 7, json!({"value": 10.0}));
    assert_eq!(driver.read("large-changes"), [(7, json!({"magnitude": 2.0, "score": 2.0}))]);
    driver.send("readings", 7, json!({"value": 2.5}));
    assert_eq!(driver.read("large-changes").len(), 1, "a change of 0.1 is not announced");
    let row = driver.row_of("accounts", 7).unwrap();
    assert_eq!((row.version, row.values), (2, vec![Value::F64(2.1)]));
    driver.crash_everywhere();
}

#[test]
fn a_crash_at_any_step_changes_neither_rows_nor_messages_over_partitions_instances_and_topics() {
    let mut driver = fill(TestDriver::new(topology()).partitions(3).instances(2), 6);
    for round in 0..3 {
        for id in 0..6 {
            driver.send("readings", id, json!({"value": f64::from(id) * 3.0 + f64::from(round)}));
        }
        driver.send("corrections", round, json!({"value": 50.0}));
        driver.send("readings", 99, json!({"value": 1.0}));
        driver.run();
    }
    driver.crash_everywhere();
}

#[test]
fn the_same_id_many_times_in_a_batch_is_applied_in_order_with_each_notices_own_before_and_after() {
    let mut driver = driver(2);
    for _ in 0..3 {
        driver.send("readings", 1, json!({"value": 10.0}));
    }
    let scores: Vec<f64> =
        driver.read("large-changes").iter().map(|(_, change)| change["score"].as_f64().unwrap()).collect();
    assert_eq!(scores, [2.0, 3.6, 3.6 + 0.2 * (10.0 - 3.6)]);
    assert_eq!(driver.row_of("accounts", 1).unwrap().version, 3);
    let versions: Vec<String> =
        driver.read_raw("large-changes").iter().map(|found| found.header("tg_version").unwrap().to_owned()).collect();
    assert_eq!(versions, ["1", "2", "3"]);
}

#[test]
fn a_committed_record_is_never_run_again() {
    for step in
        [Step::CommitDatabase, Step::OpenKafka, Step::Produce, Step::Flush, Step::SendOffsets, Step::CommitKafka]
    {
        let calls = Arc::new(AtomicUsize::new(0));
        let mut driver = fill(TestDriver::new(counted(&calls)).partitions(1), 1);
        driver.run();
        driver.crash_at(step, 1);
        for _ in 0..20 {
            driver.send("readings", 0, json!({"value": 10.0}));
        }
        driver.run();
        assert_eq!(driver.crashes(), 1, "{step:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 20, "{step:?}: each offset runs once");
        announced_ids(&mut driver);
    }
}

#[test]
fn two_crashes_in_a_row_during_recovery_change_nothing() {
    for first in THROUGH_DATABASE {
        for second in [Step::Claim, Step::ReadCommitted, Step::PublishRemainder, Step::SendOffsets] {
            let mut driver = driver(3);
            driver.run();
            driver.crash_at(first, 1);
            for id in 0..3 {
                driver.send("readings", id, json!({"value": 10.0}));
            }
            while driver.crashes() == 0 {
                driver.step();
                driver.pass(Duration::from_millis(5));
            }
            driver.crash_at(second, 1);
            assert_eq!(driver.read("large-changes").len(), 3, "{first:?} then {second:?}");
            announced_ids(&mut driver);
            for id in 0..3 {
                assert_eq!(driver.row_of("accounts", id).unwrap().version, 1);
            }
        }
    }
}

#[test]
fn instances_may_join_leave_and_die_at_any_time() {
    let mut driver = fill(TestDriver::new(topology()).partitions(8).instances(1), 40);
    let mut sent = 0;
    let mut send = |driver: &mut TestDriver, count: i64| {
        for n in 0..count {
            driver.send("readings", n % 40, json!({"value": 1000.0}));
            sent += 1;
        }
        sent
    };
    send(&mut driver, 100);
    driver.start(1);
    send(&mut driver, 100);
    driver.start(2);
    driver.run();
    send(&mut driver, 100);
    driver.stop(0);
    send(&mut driver, 100);
    driver.run();
    driver.kill(1);
    send(&mut driver, 100);
    driver.run();
    driver.start(0);
    let total = send(&mut driver, 100);
    driver.run();
    let versions: i64 = (0..40).map(|id| driver.row_of("accounts", id).unwrap().version).sum();
    assert_eq!(versions, total);
    announced_ids(&mut driver);
}

#[test]
fn a_zombie_changes_nothing_and_the_stream_goes_on() {
    let mut driver = fill(TestDriver::new(topology()).partitions(2).instances(2), 8);
    driver.run();
    for id in 0..8 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    make_a_zombie(&mut driver);
    for id in 0..8 {
        assert_eq!(driver.row_of("accounts", id).unwrap().version, 1);
    }
    assert_eq!(announced_ids(&mut driver).len(), 8);
}

#[test]
fn an_unknown_commit_is_settled_whether_it_was_applied_or_not() {
    for is_applied in [true, false] {
        let mut driver = driver(4);
        driver.run();
        driver.database().fail_next_commit_unknown(is_applied);
        for id in 0..4 {
            driver.send("readings", id, json!({"value": 10.0}));
        }
        driver.run();
        for id in 0..4 {
            assert_eq!(driver.row_of("accounts", id).unwrap().version, 1);
        }
        assert_eq!(announced_ids(&mut driver).len(), 4);
    }
}

#[test]
fn a_commit_in_doubt_that_cannot_be_settled_is_told_as_what_its_partition_waits_for() {
    let mut driver = driver(1);
    driver.run();
    driver.database().fail_next_commit_unknown(true);
    driver.send("readings", 0, json!({"value": 10.0}));
    while driver.database().get(&Table::new("accounts"), 0).unwrap().version == 0 {
        driver.pass(Duration::from_millis(5));
        driver.step();
    }
    driver.database().set_down(true);
    for _ in 0..5 {
        driver.pass(Duration::from_millis(5));
        driver.step();
    }
    let told = driver.status(0).waits.all();
    assert_eq!(
        told.keys().map(|source| source.split('-').next().unwrap()).collect::<Vec<_>>(),
        ["readings"],
        "{told:?}"
    );
    driver.database().set_down(false);
    driver.run();
    assert!(driver.status(0).waits.all().is_empty());
}

#[test]
fn every_failure_of_the_producer_ends_in_each_message_once() {
    use tidegate::adapters::memory::SinkFault;
    let faults = [
        SinkFault::Begin,
        SinkFault::Send,
        SinkFault::Flush,
        SinkFault::Offsets,
        SinkFault::Commit { is_applied: false },
        SinkFault::Commit { is_applied: true },
        SinkFault::Taint,
    ];
    for fault in faults {
        let mut driver = driver(4);
        driver.run();
        driver.log().fail_next(fault);
        for id in 0..4 {
            driver.send("readings", id, json!({"value": 10.0}));
        }
        driver.run();
        assert_eq!(announced_ids(&mut driver).len(), 4, "{fault:?}");
        driver.send("readings", 0, json!({"value": 10.0}));
        driver.run();
        assert_eq!(announced_ids(&mut driver).len(), 5, "{fault:?}");
    }
}

/// An owner that loses a compare-and-set takes its partition over again while the log goes on delivering: records
/// fetched behind those that it dropped must not be taken for the ones that follow D.
#[test]
fn what_was_fetched_before_a_repeated_takeover_does_not_pass_for_what_comes_after_it() {
    let mut driver = fill(TestDriver::new(topology()).partitions(1).instances(1), 4);
    driver.run();
    let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(0));
    assert!(driver.database().edit_position("scoring", &source, |position| position.epoch += 1));
    driver.send("readings", 0, json!({"value": 2.0}));
    driver.step(); // fetched, and its batch waits for its age
    for _ in 0..20 {
        driver.pass(Duration::from_millis(50));
        assert!(driver.step_workers(0).is_none());
    }
    assert_eq!(driver.position("readings", 0).unwrap().next_offset, NextOffset(0), "nothing was committed");
    driver.send("readings", 1, json!({"value": 2.0}));
    driver.run();
    let versions: Vec<i64> = (0..4).map(|id| driver.row_of("accounts", id).unwrap().version).collect();
    assert_eq!(versions, [1, 1, 0, 0]);
}

/// Rows from P on are kept, and with them everything of their hour.
#[test]
fn an_input_that_is_idle_has_its_outbox_rows_let_go() {
    let mut driver = driver(1);
    driver.send("corrections", 0, json!({"value": 10.0}));
    driver.run();
    let partition = tidegate::flow::key::partition_for(b"0", 4);
    let position = driver.position("corrections", partition).unwrap();
    assert_eq!((position.next_offset.0, position.published.0), (1, 0));
    (0..65).for_each(|_| driver.advance(Duration::from_secs(1)));
    let position = driver.position("corrections", partition).unwrap();
    assert_eq!((position.next_offset.0, position.published.0), (1, 1));
    driver.crash_everywhere();
}
