//! Wrong input: a dead letter or the configured policy, with the cause in its headers, and the stream goes on.

use crate::pipeline::{Account, announced_ids, counted, driver, fill, topology};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::engine::audit::audit;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::protocol::order::{TAKEOVER, THROUGH_DATABASE};
use tidegate::engine::status::State;
use tidegate::flow::Table;
use tidegate::flow::record::{Header, Timestamp, TopicName};
use tidegate::flow::row::Value;
use tidegate::ports::history::Found;
use tidegate::settings::MissingRow;
use tidegate::testing::TestDriver;

fn code(found: &tidegate::ports::history::Found) -> String {
    found.header("kafka_dlt-exception-fqcn").expect("a code").to_owned()
}

#[test]
fn each_kind_of_poison_is_a_dead_letter_with_its_cause_and_the_stream_goes_on() {
    let mut driver = driver(2);
    let big = format!("{{\"value\": 1.0, \"word\": \"{}\"}}", "x".repeat(2 << 20));
    let cases: [(Option<&[u8]>, Option<&[u8]>, &str); 10] = [
        (Some(b"1"), Some(b"{\"value\": "), "bad-json"),
        (Some(b"1"), Some(b""), "empty-value"),
        (Some(b"1"), None, "empty-value"),
        (None, Some(b"{\"value\": 1.0}"), "null-key"),
        (Some(b"one"), Some(b"{\"value\": 1.0}"), "bad-key"),
        (Some(b"99"), Some(b"{\"value\": 1.0}"), "missing-row"),
        (Some(b"1"), Some(big.as_bytes()), "too-large"),
        (Some(b"1"), Some(b"{\"value\": 1.0, \"word\": \"nan\"}"), "not-finite"),
        (Some(b"1"), Some(b"{\"value\": 1.0, \"word\": \"panic\"}"), "panic"),
        (Some(b"1"), Some(b"{\"value\": 1.0, \"word\": \"reject\"}"), "rejected"),
    ];
    for (key, value, expected) in cases {
        driver.send_raw("readings", key, value);
        let dead = driver.read_raw("readings-dlt");
        let last = dead
            .iter()
            .rev()
            .find(|found| code(found) == expected && found.key.as_deref() == key)
            .unwrap_or_else(|| panic!("no dead letter {expected}"));
        assert_eq!(last.key.as_deref(), key);
        if expected == "too-large" {
            assert_eq!(
                (last.value.as_ref(), last.header("tg_value_omitted_bytes")),
                (None, Some(&*big.len().to_string()))
            );
        } else {
            assert_eq!(last.value.as_deref(), value, "{expected}: the payload is kept as it came");
        }
        assert_eq!(last.header("kafka_dlt-original-topic"), Some("readings"));
        assert!(!last.header("kafka_dlt-exception-message").unwrap().contains('\n'));
    }
    assert_eq!(driver.read_raw("readings-dlt").len(), cases.len());
    driver.send("readings", 1, json!({"value": 10.0}));
    assert_eq!(driver.read("large-changes").len(), 1, "the stream goes on");
    assert_eq!(driver.row_of("accounts", 1).unwrap().version, 1, "no poison has touched the row");
    driver.crash_everywhere();
}

#[test]
fn a_value_that_its_error_quotes_over_and_over_is_a_dead_letter_like_any_other() {
    let mut driver = driver(1);
    // Each of these bytes takes six in the sentence that quotes it.
    let value = format!("{{\"value\": \"{}\"}}", "\u{7f}".repeat(200_000));
    driver.send_raw("readings", Some(b"0"), Some(value.as_bytes()));
    driver.send("readings", 0, json!({"value": 10.0}));
    assert!(driver.halts().is_empty());
    let dead = driver.read_raw("readings-dlt");
    assert_eq!((code(&dead[0]).as_str(), dead[0].value.as_deref()), ("bad-json", Some(value.as_bytes())));
    assert_eq!(dead[0].header("kafka_dlt-exception-message").unwrap().len(), 1_024);
    let cut: usize = dead[0].header("tg_message_omitted_bytes").unwrap().parse().unwrap();
    assert!(cut > 1_000_000, "{cut}");
    assert_eq!(driver.row_of("accounts", 0).unwrap().version, 1, "the stream goes on");
}

#[test]
fn keys_and_headers_that_the_dead_letter_topic_would_not_take_halt_nothing() {
    let mut driver = driver(1);
    let topic = |name: &str| TopicName::parse(name).unwrap();
    driver.stop(0);
    driver.log().limit_messages(&topic("readings-dlt"), 50_000);
    driver.start(0);
    let key = vec![b'k'; 100_000];
    let headers = [Header::new("trace", vec![b't'; 100_000])];
    let now = Timestamp(1_767_225_600_000);
    driver.log().produce(&topic("readings"), Some(&key), Some(b"{}"), &headers, now).unwrap();
    driver.log().produce(&topic("readings"), Some(b"0"), Some(b"{}"), &headers, now).unwrap();
    assert!(driver.halts().is_empty());
    let mut dead = driver.read_raw("readings-dlt");
    dead.sort_by_key(|found| found.key.clone());
    let omitted = |found: &Found| {
        ["value", "headers", "key"]
            .map(|what| found.header(&format!("tg_{what}_omitted_bytes")).map(|bytes| bytes.parse::<usize>().unwrap()))
    };
    assert_eq!(omitted(&dead[0]), [Some(2), Some(100_005), Some(100_000)]);
    assert_eq!((dead[1].key.as_deref(), omitted(&dead[1])), (Some(&b"0"[..]), [Some(2), Some(100_005), None]));
}

/// A redriven dead letter, or a notice of another pipeline: their ids were given by another pipeline.
#[test]
fn a_record_that_bears_the_headers_of_a_message_of_ours_is_told_apart_from_it() {
    let mut driver = driver(1);
    let headers = [
        Header::new("trace", *b"t"),
        Header::new("kafka_dlt-exception-fqcn", *b"java.lang.IllegalStateException"),
        Header::new("kafka_dlt-exception-stacktrace", *b"at listener"),
        Header::new("tg_version", *b"7"),
        Header::new("tg_id", *b"scoring/readings/0/0/0"),
    ];
    let (topic, now) = (TopicName::parse("readings").unwrap(), Timestamp(1_767_225_600_000));
    for _ in 0..2 {
        driver.log().produce(&topic, Some(b"99"), Some(b"{}"), &headers, now).unwrap();
    }
    let dead = driver.read_raw("readings-dlt");
    for found in &dead {
        let names: Vec<&str> = found.headers.iter().map(|header| header.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[9]), (10, "trace", "tg_id"), "{names:?}");
        assert_eq!(code(found), "missing-row");
    }
    let (mut rows, mut log) = (driver.database().history("scoring"), driver.log().history("scoring"));
    let report = audit(&topology(), &mut rows, &mut log).unwrap();
    assert!(report.is_clean() && report.is_drained() && report.in_topics == 2, "{report:?}");
}

#[test]
fn a_dead_letter_topic_that_would_not_take_every_dead_letter_is_told_at_the_start() {
    let mut driver = driver(1);
    driver.stop(0);
    driver.log().limit_messages(&TopicName::parse("readings-dlt").unwrap(), 4_000);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.start(0)));
    let text = refused.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(
        text.contains("topic readings-dlt takes messages of 4000 bytes") && text.contains("max.message.bytes"),
        "{text}"
    );
}

#[test]
fn a_missing_row_follows_the_policy() {
    let policy = |missing_row| {
        let settings = move |settings: &mut tidegate::settings::EngineSettings| settings.missing_row = missing_row;
        TestDriver::new(topology()).settings(settings)
    };
    let mut skipping = policy(MissingRow::Skip);
    skipping.send("readings", 5, json!({"value": 10.0}));
    assert!(skipping.read_raw("readings-dlt").is_empty());

    let mut retrying = policy(MissingRow::Retry);
    retrying.send("readings", 5, json!({"value": 10.0}));
    for _ in 0..10 {
        retrying.step();
    }
    retrying.row("accounts", 5, Account { score: 0.0 });
    assert_eq!(retrying.read("large-changes").len(), 1, "the row came in time");
    retrying.send("readings", 6, json!({"value": 10.0}));
    retrying.send("readings", 5, json!({"value": 10.0}));
    let dead = retrying.read_raw("readings-dlt");
    assert_eq!(dead.iter().map(code).collect::<Vec<_>>(), ["missing-row"], "the bound was reached");
    assert_eq!(retrying.row_of("accounts", 5).unwrap().version, 2, "what waited behind it was done");
}

#[test]
fn a_retry_keeps_the_order_of_its_partition_and_leaves_the_others_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut driver = fill(TestDriver::new(counted(&calls)).settings(|s| s.retry_attempts = 3), 2);
    driver.send("readings", 0, json!({"value": 10.0}));
    driver.send("readings", 0, json!({"value": 1.0, "word": "retry"}));
    driver.send("readings", 0, json!({"value": 10.0}));
    assert_eq!(driver.read("large-changes").len(), 2);
    assert_eq!(calls.load(Ordering::Relaxed), 2 + 4, "one attempt and three repetitions of the one that asked");
    assert_eq!(driver.read_raw("readings-dlt").iter().map(code).collect::<Vec<_>>(), ["not-yet"]);
}

#[test]
fn each_record_that_asks_for_a_retry_has_all_its_repetitions() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut driver = fill(TestDriver::new(counted(&calls)).settings(|s| s.retry_attempts = 3), 2);
    driver.run();
    for _ in 0..3 {
        driver.send("readings", 0, json!({"value": 1.0, "word": "retry"}));
    }
    driver.send("readings", 0, json!({"value": 10.0}));
    assert_eq!(driver.read("large-changes").len(), 1);
    assert_eq!(driver.read_raw("readings-dlt").len(), 3);
    assert_eq!(calls.load(Ordering::Relaxed), 3 * 4 + 1);
}

#[test]
fn a_new_owner_counts_the_repetitions_of_a_record_anew() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut driver = fill(TestDriver::new(counted(&calls)).settings(|s| s.retry_attempts = 3), 2);
    driver.run();
    driver.send("readings", 0, json!({"value": 1.0, "word": "retry"}));
    while calls.load(Ordering::Relaxed) < 2 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    driver.kill(0);
    driver.start(0);
    assert_eq!(driver.read_raw("readings-dlt").iter().map(code).collect::<Vec<_>>(), ["not-yet"]);
    assert_eq!(calls.load(Ordering::Relaxed), 2 + 4, "its own attempt and three repetitions");
}

#[test]
fn a_skip_changes_nothing_and_announces_nothing() {
    let mut driver = driver(1);
    driver.send("readings", 0, json!({"value": 10.0, "word": "skip"}));
    driver.send("readings", 0, json!({"value": 10.0, "word": "nothing"}));
    assert!(driver.read("large-changes").is_empty());
    assert!(driver.read_raw("readings-dlt").is_empty());
    assert_eq!(driver.row_of("accounts", 0).unwrap().version, 0, "a row that is as before is not written");
}

#[test]
fn several_notices_of_one_record_carry_their_own_ids() {
    let mut driver = driver(1);
    driver.send("readings", 0, json!({"value": 10.0, "word": "twice"}));
    assert_eq!(announced_ids(&mut driver), ["scoring/readings/0/0/0", "scoring/readings/0/0/1"]);
    driver.crash_everywhere();
}

#[test]
fn one_row_that_the_database_refuses_costs_a_few_rollbacks_and_one_dead_letter() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut driver = fill(TestDriver::new(counted(&calls)).settings(|s| s.batch_rows = 1_000), 1_000);
    driver.database().check(&Table::new("accounts"), |values| match values {
        [Value::F64(score)] if *score > 100.0 => Err("score must not exceed 100".into()),
        _ => Ok(()),
    });
    for id in 0..1_000 {
        driver.send("readings", id, json!({"value": if id == 617 { 1e6 } else { 10.0 }}));
    }
    assert_eq!(driver.read("large-changes").len(), 999);
    assert_eq!(driver.read_raw("readings-dlt").len(), 1);
    let calls = calls.load(Ordering::Relaxed);
    assert!((1_001..=2_001).contains(&calls), "{calls}: the batch is decided once more");
    let rollbacks = driver.database().rollbacks_to_savepoint();
    // The whole, ten halvings, and the culprit's own row when the batch is decided again.
    assert!((2..=12).contains(&rollbacks), "{rollbacks} rollbacks to a savepoint");
    assert_eq!(driver.row_of("accounts", 617).unwrap().version, 0);
}

#[test]
fn of_several_records_of_one_id_only_the_refused_one_is_dead() {
    let mut driver = driver(1);
    driver.database().check(&Table::new("accounts"), |values| match values {
        [Value::F64(score)] if *score > 100.0 => Err("score must not exceed 100".into()),
        _ => Ok(()),
    });
    driver.run();
    for value in [10.0, 1e6, 10.0] {
        driver.send("readings", 0, json!({"value": value}));
    }
    let scores: Vec<f64> =
        driver.read("large-changes").iter().map(|(_, change)| change["score"].as_f64().unwrap()).collect();
    assert_eq!(scores, [2.0, 3.6], "the third record is applied to the row as the first left it");
    assert_eq!(driver.read_raw("readings-dlt").len(), 1);
    assert_eq!(driver.row_of("accounts", 0).unwrap().version, 2);
}

#[test]
fn a_threshold_may_change_while_running_and_stands_in_each_message() {
    let mut driver = driver(1);
    driver.send("readings", 0, json!({"value": 2.0})); // magnitude 0.4
    driver.threshold("large-change", 0.3);
    driver.send("readings", 0, json!({"value": 2.0})); // 0.32
    let found = driver.read_raw("large-changes");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].header("tg_threshold"), Some("0.3"));
}

/// A driver whose topic `large-changes` has begun to refuse messages that are decided already: three notices, which
/// wait to be published.
fn refusing(calls: &Arc<AtomicUsize>) -> TestDriver {
    let mut driver = fill(TestDriver::new(counted(calls)).partitions(2).instances(2), 4);
    for id in 0..4 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.run();
    driver.log().limit_messages(&TopicName::parse("large-changes").unwrap(), 100);
    driver
}

/// Everything was decided once and is published once, the last three as dead letters, and nothing stands still. Answers
/// how many of the three were decided before their topic refused them: their rows have changed.
fn is_whole(driver: &mut TestDriver, what: &str) -> usize {
    assert!(driver.halts().is_empty(), "{what}: {:?}", driver.halts());
    assert_eq!(announced_ids(driver).len(), 4, "{what}");
    let dead = driver.read_raw("readings-dlt");
    let mut rows = [1; 4];
    for found in &dead {
        let id: usize = String::from_utf8(found.key.clone().unwrap()).unwrap().parse().unwrap();
        rows[id] += if code(found) == "refused" { 11 } else { 10 };
    }
    let refused = dead.iter().filter(|found| code(found) == "refused").count();
    for (id, version) in (0..).zip(rows.map(|count| count % 10)) {
        assert_eq!(driver.row_of("accounts", id).unwrap().version, version, "{what}: row {id}");
    }
    assert_eq!(rows.map(|count| count / 10), [1, 1, 1, 0], "{what}: one dead letter each");
    let (mut rows, mut log) = (driver.database().history("scoring"), driver.log().history("scoring"));
    let report = audit(&topology(), &mut rows, &mut log).unwrap();
    assert!(report.is_clean() && report.is_drained(), "{what}: {report:?}");
    assert_eq!((report.announced, report.dead_letters), (7, 3), "{what}");
    refused
}

#[test]
fn what_its_topic_refuses_after_the_commit_is_a_dead_letter_and_the_stream_goes_on() {
    let calls = Arc::default();
    let mut driver = refusing(&calls);
    for id in 0..3 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.run();
    assert_eq!(is_whole(&mut driver, "no crash"), 3);
    assert_eq!(calls.load(Ordering::Relaxed), 7, "nothing was decided again");
    for found in driver.read_raw("readings-dlt") {
        assert_eq!((code(&found).as_str(), found.header("kafka_dlt-original-topic")), ("refused", Some("readings")));
        assert!(found.header("kafka_dlt-exception-message").unwrap().starts_with("large-changes: "), "{found:?}");
        assert!(String::from_utf8(found.value.unwrap()).unwrap().contains("magnitude"), "the notice itself is kept");
    }
    // The new limit is known from now on: such a notice is rejected with its record, before anything is committed.
    driver.send("readings", 0, json!({"value": 10.0}));
    let dead = driver.read_raw("readings-dlt");
    assert_eq!(dead.iter().filter(|found| code(found) == "too-large").count(), 1);
    assert_eq!(driver.row_of("accounts", 0).unwrap().version, 2);
}

/// An instance that dies between the refusal and the dead letter leaves a notice that its successor finds refused as
/// well. A record that was not committed is decided again, with the limit that holds by then.
#[test]
fn a_crash_at_any_step_of_it_leaves_one_dead_letter_for_each_refused_notice() {
    let steps = THROUGH_DATABASE.into_iter().chain(TAKEOVER);
    let (mut crashes, mut refused) = (0, 0);
    for (step, nth) in steps.flat_map(|step| (1..=5).map(move |nth| (step, nth))) {
        let mut driver = refusing(&Arc::default());
        driver.crash_at(step, nth);
        for id in 0..3 {
            driver.send("readings", id, json!({"value": 10.0}));
        }
        driver.run();
        refused += is_whole(&mut driver, &format!("a crash after {step:?} number {nth}"));
        crashes += driver.crashes();
    }
    assert!(crashes > 30 && refused > 60, "{crashes}, {refused}");
}

/// Batches handed over behind something unpublishable come back to a task that stands still already.
#[test]
fn a_halted_partition_stays_halted_whatever_comes_back_to_it() {
    let driver =
        TestDriver::new(topology()).settings(|settings| (settings.transaction_rows, settings.batch_rows) = (0, 1));
    let mut driver = fill(driver, 1);
    driver.run();
    driver.log().limit_messages(&TopicName::parse("readings-dlt").unwrap(), 10);
    for word in ["nothing", "reject", "", ""] {
        driver.send("readings", 0, json!({"value": 10.0, "word": word}));
    }
    let mut states = Vec::new();
    for _ in 0..200 {
        driver.step();
        driver.pass(Duration::from_millis(10));
        states.extend(driver.status(0).tasks().values().map(|task| task.state));
    }
    states.dedup();
    assert_eq!(states, [State::Running, State::Halted]);
    assert_eq!(driver.halts().iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::Unpublishable]);
}

#[test]
fn a_row_at_the_last_version_that_its_column_holds_takes_no_record_and_stops_nobody() {
    for batch_rows in [1, 100] {
        let mut driver = fill(TestDriver::new(topology()).settings(|settings| settings.batch_rows = batch_rows), 2);
        driver.run();
        driver.database().put(&Table::new("accounts"), 0, i64::MAX - 1, &[Value::F64(0.0)]);
        for id in [0, 0, 1] {
            driver.send("readings", id, json!({"value": 10.0}));
        }
        assert_eq!(driver.read("large-changes").len(), 2, "the one that still fits, and the other row's");
        assert_eq!(driver.read_raw("readings-dlt").iter().map(code).collect::<Vec<_>>(), ["bad-row"]);
        assert_eq!(driver.row_of("accounts", 0).unwrap().version, i64::MAX);
    }
}
