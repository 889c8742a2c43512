//! The shipped pipeline `sessions`: a source that is keyed already, held against its declaration.

use serde_json::{Value, json};
use std::time::Duration;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::protocol::order::THROUGH_LOG;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{Partition, TopicName, TopicPartition};
use tidegate::pipelines::sessions::topology;
use tidegate::testing::TestDriver;

const MINUTE: Duration = Duration::from_mins(1);

fn driver() -> TestDriver {
    TestDriver::new(topology()).partitions(12)
}

fn ends(driver: &mut TestDriver) -> Vec<Value> {
    let found = driver.read_raw("session-ends");
    found.iter().map(|found| serde_json::from_slice(found.value.as_deref().unwrap()).unwrap()).collect()
}

#[test]
fn a_session_is_announced_by_the_first_click_after_it() {
    let mut driver = driver();
    for pause in [0, 10, 29, 31] {
        driver.advance(MINUTE * pause);
        driver.send("clicks", "ada", json!({"page": "/"}));
    }
    let ended = ends(&mut driver);
    assert_eq!(ended.len(), 1);
    assert_eq!((&ended[0]["user"], &ended[0]["clicks"]), (&json!("ada"), &json!(3)));
    let lasted = ended[0]["ended_ms"].as_i64().unwrap() - ended[0]["started_ms"].as_i64().unwrap();
    assert!((39 * 60_000..40 * 60_000).contains(&lasted), "{lasted} ms");
    assert_eq!(driver.store("sessions", "ada").unwrap()["clicks"], 1);
}

#[test]
fn a_user_who_stays_away_for_a_day_is_forgotten() {
    let mut driver = driver();
    driver.send("clicks", "ada", json!({}));
    driver.advance(Duration::from_hours(25));
    driver.send("clicks", "ada", json!({}));
    assert_eq!(ends(&mut driver), Vec::<Value>::new());
    assert_eq!(driver.store("sessions", "ada").unwrap()["clicks"], 1);
}

#[test]
fn nothing_is_shuffled_and_every_record_is_checked() {
    let mut driver = driver();
    for n in 0..50 {
        driver.send("clicks", format!("user-{n}").as_str(), json!({}));
    }
    driver.run();
    let status = driver.status(0);
    let found = &status.declared.sources()[&TopicName::parse("clicks").unwrap()];
    assert_eq!((found.checked, found.violations.len()), (50, 0));
    assert!(topology().internal_topics().is_empty());
}

#[test]
fn a_record_in_the_wrong_partition_stops_its_partition_before_it_has_an_effect() {
    let mut driver = driver();
    driver.send("clicks", "ada", json!({}));
    driver.run();
    let clicks = TopicName::parse("clicks").unwrap();
    let right = partition_for(b"ada", 12);
    let wrong = (right + 1) % 12;
    let place = TopicPartition::new(clicks, Partition(wrong));
    driver.log().produce_to(&place, Some(b"ada"), Some(b"{}"), &[], tidegate::flow::record::Timestamp(0)).unwrap();
    driver.run();
    let halts = driver.halts();
    assert_eq!(halts.len(), 1);
    assert_eq!((halts[0].reason, &halts[0].source), (HaltReason::WronglyKeyed, &place));
    assert!(halts[0].detail.contains(&format!("belongs into partition {right}")), "{}", halts[0].detail);
    assert_eq!(driver.store("sessions", "ada").unwrap()["clicks"], 1, "it was not counted");
    driver.send("clicks", "ada", json!({}));
    assert_eq!(driver.store("sessions", "ada").unwrap()["clicks"], 2, "the other partitions go on");
}

/// Times differ after a crash, since it takes time to be noticed; sessions and their ends do not.
#[test]
fn a_crash_at_any_step_changes_neither_sessions_nor_their_ends() {
    for (step, nth) in THROUGH_LOG.into_iter().flat_map(|step| (1..=3).map(move |nth| (step, nth))) {
        let mut driver = driver().instances(2).settings(|settings| settings.store_flush = Duration::ZERO);
        driver.crash_at(step, nth);
        for pause in [0, 10, 60] {
            driver.advance(MINUTE * pause);
            for user in ["ada", "bob", "eve"] {
                driver.send("clicks", user, json!({}));
            }
        }
        let mut told: Vec<String> =
            ends(&mut driver).iter().map(|end| format!("{} {}", end["user"], end["clicks"])).collect();
        told.sort();
        assert_eq!(told, ["\"ada\" 2", "\"bob\" 2", "\"eve\" 2"], "a crash after {step:?} number {nth}");
        for user in ["ada", "bob", "eve"] {
            assert_eq!(driver.store("sessions", user).unwrap()["clicks"], 1, "{user}, a crash after {step:?} {nth}");
        }
        assert_eq!(driver.crashes(), 1, "{step:?} number {nth}");
    }
}
