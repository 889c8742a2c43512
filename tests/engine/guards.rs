//! The guards bite: with one of them taken away, a run that is right with it goes wrong.

use crate::pipeline::{fill, topology};
use serde_json::json;
use std::time::Duration;
use tidegate::engine::protocol::order::Step;
use tidegate::testing::{Guard, TestDriver};

/// A zombie still holds a batch while its successor has done the same records. Answers whether each row changed once.
/// The changes stay below the threshold: a second outbox row of one input would be refused by the table's key.
fn zombie_run(without: Option<Guard>) -> bool {
    let driver = TestDriver::new(topology()).partitions(1).instances(2);
    let driver = without.into_iter().fold(driver, TestDriver::without);
    let mut driver = fill(driver, 4);
    driver.run();
    for id in 0..4 {
        driver.send("readings", id, json!({"value": 2.0}));
    }
    driver.step(); // the owner has fetched, its batch waits for its age
    let owner = usize::from(owner_is_second(&mut driver));
    driver.freeze(owner);
    driver.run();
    driver.step_workers(owner);
    driver.step_workers(owner);
    let table = tidegate::flow::Table::new("accounts");
    driver.database().all(&table).iter().all(|row| row.version == 1)
}

fn owner_is_second(driver: &mut TestDriver) -> bool {
    let name = tidegate::flow::record::TopicName::parse("readings").unwrap();
    let place = tidegate::flow::record::TopicPartition::new(name, tidegate::flow::record::Partition(0));
    driver.database().owner("scoring", &place).is_some_and(|(_, owner)| owner.ends_with('1'))
}

#[test]
fn the_compare_and_set_keeps_a_zombie_out() {
    assert!(zombie_run(None));
    assert!(!zombie_run(Some(Guard::CompareAndSet)), "without the compare-and-set a zombie must do harm");
}

/// The successor takes over, and while it has not done anything yet the zombie's batch commits: only the raised epoch
/// tells them apart, because both still have the same D.
fn epoch_run(without: Option<Guard>) -> bool {
    let driver = TestDriver::new(topology()).partitions(1).instances(2);
    let driver = without.into_iter().fold(driver, TestDriver::without);
    let mut driver = fill(driver, 4);
    driver.run();
    for id in 0..4 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.step();
    let owner = usize::from(owner_is_second(&mut driver));
    driver.freeze(owner);
    // The successor reads K and D and is about to go on from there; then the zombie commits behind its back.
    driver.leave_dead();
    driver.crash_at(Step::PublishRemainder, 1);
    while driver.crashes() == 0 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    let before =
        driver.database().all(&tidegate::flow::Table::new("accounts")).iter().map(|row| row.version).sum::<i64>();
    driver.step_workers(owner);
    let after =
        driver.database().all(&tidegate::flow::Table::new("accounts")).iter().map(|row| row.version).sum::<i64>();
    before == after
}

#[test]
fn the_claim_keeps_a_zombie_out_that_believes_the_same_position() {
    assert!(epoch_run(None));
    assert!(!epoch_run(Some(Guard::Claim)), "without the claim a zombie must commit after its successor took over");
}

/// The owner dies after its offsets were sent; its commit request is still on the way and arrives late. Answers how many
/// messages a committed reader finds for four notifications.
fn late_commit_run(without: Option<Guard>) -> usize {
    let driver = TestDriver::new(topology()).partitions(1).instances(2);
    let driver = without.into_iter().fold(driver, TestDriver::without);
    let mut driver = fill(driver, 4);
    driver.run();
    driver.leave_dead();
    driver.crash_at(Step::SendOffsets, 1);
    for id in 0..4 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    while driver.crashes() == 0 {
        driver.step();
        driver.pass(Duration::from_millis(5));
    }
    // The survivor takes over at once, as far as it can without time passing.
    for member in driver.log().members("scoring") {
        driver.log().expire_member("scoring", &member);
    }
    for _ in 0..20 {
        driver.step();
    }
    driver.log().deliver_commits();
    driver.read_raw("large-changes").len()
}

#[test]
fn the_stable_read_of_the_committed_offset_waits_for_a_commit_that_is_on_its_way() {
    assert_eq!(late_commit_run(None), 4);
    assert!(late_commit_run(Some(Guard::StableCommitted)) > 4, "without it messages must be announced twice");
}
