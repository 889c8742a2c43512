//! Topics that change while an instance runs: their limits, by which records are rejected, and whether they are there at all.

use crate::pipeline::{announced_ids, driver, fill, topology};
use serde_json::json;
use std::time::Duration;
use tidegate::flow::record::TopicName;
use tidegate::ports::history::Found;
use tidegate::ports::obstacle::ObstacleKind;
use tidegate::testing::TestDriver;

/// Longer than a known limit is believed.
const LATER: Duration = Duration::from_secs(10);

fn limit(driver: &mut TestDriver, topic: &str, bytes: usize) {
    driver.log().limit_messages(&TopicName::parse(topic).unwrap(), bytes);
}

/// Lets time pass while no partition may come to rest.
fn pass(driver: &mut TestDriver) {
    driver.pass(LATER);
    (0..10).for_each(|_| driver.step());
}

fn causes(driver: &mut TestDriver) -> Vec<String> {
    let cause = |found: Found| found.header("kafka_dlt-exception-message").unwrap().to_owned();
    driver.read_raw("readings-dlt").into_iter().map(cause).collect()
}

#[test]
fn a_limit_that_is_raised_again_rejects_no_record_any_more() {
    let mut driver = driver(2);
    limit(&mut driver, "large-changes", 100);
    driver.send("readings", 1, json!({"value": 10.0}));
    driver.run();
    driver.send("readings", 1, json!({"value": 10.0}));
    let causes_before = causes(&mut driver);
    assert_eq!(causes_before.len(), 2, "one was decided before the limit was known, one is rejected with its record");
    let told = &causes_before[1];
    assert!(told.starts_with("a notice of ") && told.contains(" bytes for large-changes"), "{told}");
    assert!(told.contains("max.message.bytes of large-changes is 100: raise it to at least "), "{told}");
    limit(&mut driver, "large-changes", 1_000_000);
    driver.advance(LATER);
    driver.send("readings", 1, json!({"value": 20.0}));
    driver.send("readings", 1, json!({"value": 10.0}));
    driver.run();
    assert_eq!(causes(&mut driver).len(), 2, "none since");
    assert_eq!(announced_ids(&mut driver).len(), 2);
}

/// The record waits for the answer, and no other partition with it.
#[test]
fn a_record_that_is_too_large_is_rejected_once_the_limit_was_read_anew_and_others_go_on_meanwhile() {
    let mut driver = fill(TestDriver::new(topology()).partitions(2), 20);
    limit(&mut driver, "large-changes", 100);
    driver.send("readings", 1, json!({"value": 10.0}));
    driver.run();
    let before = causes(&mut driver).len();
    driver.advance(LATER);
    for id in 0..20 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.run();
    assert_eq!((causes(&mut driver).len() - before, announced_ids(&mut driver).len()), (20, 0));
    assert!(driver.halts().is_empty());
}

#[test]
fn a_topic_that_takes_no_message_at_all_is_told_at_the_start() {
    let mut driver = driver(1);
    driver.stop(0);
    limit(&mut driver, "large-changes", 0);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.start(0)));
    let text = refused.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(text.contains("max.message.bytes of large-changes is 0: raise it to at least "), "{text}");
}

/// The group takes the partitions of a topic away that is deleted, and nobody else says why.
#[test]
fn a_source_topic_that_is_deleted_is_an_obstacle_until_it_is_there_again() {
    let mut driver = driver(2);
    driver.send("readings", 1, json!({"value": 10.0}));
    driver.run();
    let status = driver.status(0);
    assert!(status.obstacles.first(ObstacleKind::SourceGone).is_none());
    driver.log().delete_topic(&TopicName::parse("readings").unwrap());
    pass(&mut driver);
    let found = status.obstacles.first(ObstacleKind::SourceGone).expect("an obstacle");
    assert_eq!(found.about, "topic readings");
    assert!(found.reason.next.contains("topics apply"), "{found:?}");
    driver.log().create_topic("readings", 4).unwrap();
    pass(&mut driver);
    assert!(status.obstacles.first(ObstacleKind::SourceGone).is_none());
}
