//! Keyed state: re-keying, stores, restores, declared sources, with crashes and rebalances.

use crate::pipeline::make_a_zombie;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tidegate::adapters::memory::SinkFault;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::protocol::order::{Step, THROUGH_LOG};
use tidegate::engine::status::DeclaredSource;
use tidegate::engine::status::State;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{Header, NextOffset, Partition, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Declared, KeyHash, OnViolation, Reject, Store, Topology};
use tidegate::ports::history::Found;
use tidegate::ports::sink::{Message, Sink as _};
use tidegate::ports::source::{Committed, TaskId};
use tidegate::ports::store::StoreId;
use tidegate::testing::{Sent, TestDriver};

#[derive(Deserialize)]
struct Event {
    user: String,
    units: i64,
    #[serde(default)]
    word: String,
}

#[derive(Serialize, Deserialize, Default)]
struct Usage {
    count: i64,
    units: i64,
}

#[derive(Serialize)]
struct Update {
    user: String,
    count: i64,
    units: i64,
}

/// Counts, and publishes every third event. Words provoke trouble.
struct Count;

impl Algorithm for Count {
    type Event = Event;
    type Row = Option<Usage>;
    type Notices = Option<Update>;

    fn apply(
        &self,
        event: Event,
        usage: &mut Option<Usage>,
        context: &mut Context<'_>,
    ) -> Result<Option<Update>, Reject> {
        let mut next = usage.take().unwrap_or_default();
        next.count += 1;
        next.units += event.units;
        let update = (next.count % 3 == 0).then(|| Update {
            user: context.key().to_string(),
            count: next.count,
            units: next.units,
        });
        *usage = Some(next);
        match event.word.as_str() {
            "panic" => panic!("as the record asked"),
            "reject" => Err(Reject::new("asked to reject")),
            "skip" => Err(Reject::skip("asked-to-skip")),
            "forget" => {
                *usage = None;
                Ok(None)
            }
            _ => Ok(update),
        }
    }
}

fn usage() -> Topology {
    let mut topology = Topology::new("usage");
    topology
        .source("events")
        .key_by("by-user", |event: &Event| event.user.clone())
        .aggregate("usage", Count)
        .to("usage-updates");
    topology
}

fn event(user: &str, units: i64) -> serde_json::Value {
    json!({"user": user, "units": units})
}

/// Events of `users` users, whose keys say nothing of the user.
fn feed(driver: &mut TestDriver, users: i64, rounds: i64) {
    for round in 0..rounds {
        for user in 0..users {
            let key = format!("k{}", round * users + user);
            driver.send("events", key.as_str(), event(&format!("u{user}"), user + round));
        }
        driver.run();
    }
}

fn place(topic: &str, number: i32) -> TopicPartition {
    TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(number))
}

#[test]
fn records_of_one_user_meet_in_one_partition_and_are_counted_once() {
    let mut driver = TestDriver::new(usage()).partitions(4).instances(2);
    feed(&mut driver, 5, 4);
    let moved = driver.read_raw("usage-by-user-repartition");
    assert_eq!(moved.len(), 20);
    for found in &moved {
        let key = found.key.as_deref().unwrap();
        assert_eq!(found.partition, partition_for(key, 4), "where a Java producer would put it");
    }
    for user in 0..5 {
        let expected = json!({"count": 4, "units": 4 * user + 6});
        assert_eq!(driver.store("usage", &format!("u{user}")), Some(expected));
    }
    assert_eq!(driver.read_raw("usage-updates").len(), 5, "the third event of each user is told");
}

/// A transaction is full, by messages or by bytes, long before the first partition's backlog is worked off.
#[test]
fn a_partition_with_a_backlog_leaves_the_others_their_turn() {
    for (messages, bytes) in [(10, 1_000_000), (1_000_000, 200)] {
        let driver = TestDriver::new(usage()).partitions(4);
        let mut driver = driver.settings(|settings| (settings.log_messages, settings.log_bytes) = (messages, bytes));
        driver.run();
        let send = |driver: &mut TestDriver, partition: i32, user: &str| {
            let value = event(user, 1).to_string();
            driver.send_to("events", partition, None, Some(value.as_bytes()));
        };
        (0..500).for_each(|_| send(&mut driver, 0, "many"));
        driver.step();
        send(&mut driver, 2, "one"); // which the same worker has
        let topic = TopicName::parse("usage-by-user-repartition").unwrap();
        let mut moved = Vec::new();
        while !moved.iter().any(|user| user == "one") {
            driver.step();
            driver.pass(Duration::from_millis(1));
            let found = driver.log().read(&topic).into_iter();
            moved = found.map(|found| String::from_utf8(found.key.unwrap()).unwrap()).collect();
            assert!(moved.len() < 100, "its record waits for the whole backlog of the other");
        }
    }
}

/// Keeps much of each user.
struct Hoard;

impl Algorithm for Hoard {
    type Event = Event;
    type Row = Option<String>;
    type Notices = Option<Update>;

    fn apply(&self, _: Event, kept: &mut Option<String>, _: &mut Context<'_>) -> Result<Option<Update>, Reject> {
        *kept = Some("x".repeat(2_000));
        Ok(None)
    }
}

/// Small inputs, large state: the bytes that a transaction sends to the brokers count, not those of its inputs.
#[test]
fn a_transaction_has_no_more_bytes_than_it_may_whatever_its_inputs_had() {
    const LOG_BYTES: usize = 10_000;
    // Many users with 2 KB each, or many copies of each record: more than ten transactions, whichever it is.
    for (users, copies) in [(100, 1), (10, 100)] {
        let mut topology = Topology::new("hoard");
        let keys = move |event: &Event| (0..copies).map(|n| format!("{}-{n}", event.user)).collect::<Vec<_>>();
        topology.source("events").keys_by("by-user", keys).aggregate("hoard", Hoard).to("hoard-updates");
        let mut driver = TestDriver::new(topology).settings(|settings| settings.log_bytes = LOG_BYTES);
        driver.run();
        (0..users).for_each(|user| driver.send("events", "k", event(&format!("u{user}"), 1)));
        // The record that fills a transaction is the last in it.
        for (topic, of_one_record) in [("hoard-hoard-changelog", 2_100), ("hoard-by-user-repartition", 60 * copies)] {
            let sizes = transactions(&driver.read_raw(topic));
            assert!(sizes.iter().all(|size| *size < LOG_BYTES + of_one_record), "{topic}: {sizes:?}");
        }
        assert!(transactions(&driver.read_raw("hoard-hoard-changelog")).len() > 10);
    }
}

/// Bytes of keys and values of each transaction in a topic of one partition: its marker takes the offset behind it.
fn transactions(found: &[Found]) -> Vec<usize> {
    let bytes = |found: &Found| found.key.as_ref().map_or(0, Vec::len) + found.value.as_ref().map_or(0, Vec::len);
    let is_one = |before: &Found, next: &Found| next.offset == before.offset + 1;
    found.chunk_by(is_one).map(|chunk| chunk.iter().map(bytes).sum()).collect()
}

#[test]
fn a_crash_at_any_step_changes_neither_stores_nor_messages() {
    let mut driver = TestDriver::new(usage()).partitions(2).instances(2).settings(|settings| {
        settings.store_flush = Duration::ZERO; // so that stores are written between the crashes
    });
    feed(&mut driver, 3, 3);
    driver.send("events", "x", json!({"user": "u1", "units": 5, "word": "panic"}));
    driver.send("events", "x", json!({"user": "u2", "units": 5, "word": "forget"}));
    driver.send_raw("events", None, Some(b"not json"));
    driver.crash_everywhere();
}

#[test]
fn re_keyed_records_that_end_in_rows_are_as_exact() {
    // The re-keyed records end in rows: the same repartition topic in front of a database step.
    struct Tally;
    #[derive(Serialize, Deserialize)]
    struct Row {
        score: f64,
    }
    impl Algorithm for Tally {
        type Event = Event;
        type Row = Row;
        type Notices = Vec<Update>;
        fn apply(&self, event: Event, row: &mut Row, _: &mut Context<'_>) -> Result<Vec<Update>, Reject> {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let units = event.units as f64;
            row.score += units;
            Ok(vec![Update { user: event.user, count: 1, units: event.units }])
        }
    }
    let mut topology = Topology::new("tally");
    topology
        .source("events")
        .key_by("by-number", |event: &Event| event.user.trim_start_matches('u').parse::<i64>().unwrap_or(-1))
        .update("accounts", Tally)
        .to("tallied");
    let mut driver = TestDriver::new(topology).partitions(2).instances(2);
    for id in 0..3 {
        driver.row("accounts", id, Row { score: 0.0 });
    }
    for n in 0..9 {
        driver.send("events", format!("k{n}").as_str(), event(&format!("u{}", n % 3), n));
    }
    assert_eq!(driver.read("tallied").len(), 9);
    driver.crash_everywhere();
}

#[test]
fn a_record_goes_on_under_each_of_its_keys_or_under_none() {
    let mut topology = Topology::new("usage");
    topology
        .source("events")
        .keys_by("by-user", |event: &Event| match event.word.as_str() {
            "long" => vec![event.user.clone(), "x".repeat(2 << 20)],
            _ => event.user.split_terminator(',').map(str::to_owned).collect(),
        })
        .aggregate("usage", Count)
        .done();
    let mut driver = TestDriver::new(topology).partitions(4).instances(2);
    for (user, units, word) in [("", 1, ""), ("a,b,c", 2, ""), ("b", 4, "long"), ("a,a", 8, ""), ("c", 16, "")] {
        driver.send("events", "k", json!({"user": user, "units": units, "word": word}));
    }
    driver.run();
    let mut moved: Vec<_> =
        driver.read_raw("usage-by-user-repartition").into_iter().map(|found| found.key.unwrap()).collect();
    moved.sort();
    assert_eq!(moved, [b"a", b"a", b"a", b"b", b"c", b"c"]);
    for (user, count, units) in [("a", 3, 18), ("b", 1, 2), ("c", 2, 18)] {
        assert_eq!(driver.store("usage", user), Some(json!({"count": count, "units": units})), "of {user}");
    }
    let dead = driver.read_raw("events-dlt");
    let codes: Vec<_> = dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap()).collect();
    assert_eq!(codes, ["too-large"], "a record that cannot go to all of its keys goes to none");
    driver.crash_everywhere();
}

#[test]
fn the_headers_of_a_record_count_where_it_is_sent_on() {
    let mut topology = Topology::new("usage");
    topology
        .source("events")
        .keys_by("by-user", |event: &Event| event.user.split_terminator(',').map(str::to_owned).collect::<Vec<_>>())
        .aggregate("usage", Count)
        .done();
    let mut driver = TestDriver::new(topology).partitions(1).limit("usage-by-user-repartition", 100_000);
    for length in [150_000, 50] {
        let headers = vec![Header::new("baggage", "x".repeat(length))];
        let value = br#"{"user": "a,b", "units": 1, "word": ""}"#.to_vec();
        driver.send_record("events", Sent { key: Some(b"k".to_vec()), value: Some(value), headers, ..Sent::default() });
    }
    let sent = driver.read_raw("usage-by-user-repartition");
    assert_eq!(sent.iter().map(|found| found.key.as_deref().unwrap()).collect::<Vec<_>>(), [b"a", b"b"]);
    let dead = driver.read_raw("events-dlt");
    let told = |name: &str| dead.iter().map(|found| found.header(name).unwrap()).collect::<Vec<_>>();
    assert_eq!((told("kafka_dlt-exception-fqcn"), told("tg_id").len()), (vec!["too-large"], 1));
}

/// All of them go out in one transaction, whose memory and time have bounds.
#[test]
fn a_record_whose_copies_are_more_than_a_transaction_may_hold_goes_to_none() {
    let mut topology = Topology::new("usage");
    topology
        .source("events")
        .keys_by("by-user", |event: &Event| (0..event.units).map(|n| format!("u{n}")).collect::<Vec<_>>())
        .aggregate("usage", Count)
        .done();
    let mut driver = TestDriver::new(topology).partitions(1);
    for units in [3, 300] {
        driver.send("events", "k", json!({"user": "x".repeat(600_000), "units": units, "word": ""}));
    }
    assert_eq!(driver.read_raw("usage-by-user-repartition").len(), 3);
    let dead = driver.read_raw("events-dlt");
    let codes: Vec<_> = dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap()).collect();
    assert_eq!(codes, ["too-large"]);
}

#[test]
fn a_rejected_record_leaves_no_trace_in_the_store() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    for word in ["", "reject", "skip", "panic", ""] {
        driver.send("events", "k", json!({"user": "u", "units": 1, "word": word}));
    }
    assert_eq!(driver.store("usage", "u"), Some(json!({"count": 2, "units": 2})));
    let dead = driver.read_raw("usage-by-user-repartition-dlt");
    let codes: Vec<_> = dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap()).collect();
    assert_eq!(codes, ["rejected", "panic"]);
    driver.send("events", "k", json!({"user": "u", "units": 1, "word": "forget"}));
    assert_eq!(driver.store("usage", "u"), None, "a null deletes");
}

#[test]
fn after_a_polite_leave_nothing_is_read_again_and_after_a_kill_only_what_was_not_written() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 10, 1);
    driver.stop(0);
    driver.start(0);
    feed(&mut driver, 10, 1);
    assert_eq!(driver.records_restored(), 0, "the store was left as of the last record");

    driver.advance(Duration::from_secs(6)); // a flush is due
    driver.run();
    feed(&mut driver, 3, 1);
    driver.kill(0);
    driver.start(0);
    feed(&mut driver, 10, 1);
    let restored = driver.records_restored();
    assert!((1..=13).contains(&restored), "{restored} changelog records");
    for user in 0..10 {
        let count = if user < 3 { 4 } else { 3 };
        assert_eq!(driver.store("usage", &format!("u{user}")).unwrap()["count"], count);
    }
}

#[test]
fn a_lost_disk_is_rebuilt_from_the_changelog() {
    let mut driver = TestDriver::new(usage()).partitions(2);
    feed(&mut driver, 6, 3);
    driver.stop(0);
    let id = StoreId { name: "usage".into(), partition: Partition(0) };
    let before = driver.disk(0).contents(&id);
    assert!(!before.is_empty());
    driver.disk(0).lose();
    driver.start(0);
    driver.run();
    assert_eq!(driver.records_restored(), 18, "each user's value after each round");
    driver.stop(0);
    assert_eq!(driver.disk(0).contents(&id), before, "the same keys and values");
}

/// Twice the bytes that a restore gathers before it writes, in far fewer records than one of its slices has.
#[test]
fn a_store_of_large_values_is_restored_whole() {
    struct Hoard;
    impl Algorithm for Hoard {
        type Event = Event;
        type Row = Option<String>;
        type Notices = Option<Update>;
        fn apply(
            &self,
            event: Event,
            kept: &mut Option<String>,
            _: &mut Context<'_>,
        ) -> Result<Option<Update>, Reject> {
            *kept = Some(event.user.repeat(100_000));
            Ok(None)
        }
    }
    let mut topology = Topology::new("hoard");
    topology.source("events").aggregate("kept", Hoard).done();
    let mut driver = TestDriver::new(topology).partitions(1);
    let users: Vec<String> = (0..80).map(|n| format!("u{n:03}")).collect();
    for user in &users {
        driver.send("events", user.as_str(), event(user, 1));
    }
    driver.run();
    driver.stop(0);
    let id = StoreId { name: "kept".into(), partition: Partition(0) };
    let before = driver.disk(0).contents(&id);
    assert_eq!(before.len(), users.len());
    driver.disk(0).lose();
    driver.start(0);
    driver.run();
    assert_eq!(driver.records_restored(), 80, "none is read twice");
    driver.stop(0);
    assert!(driver.disk(0).contents(&id) == before, "the same keys and values");
}

/// Its end is as old as its beginning, and another owner has written since.
#[test]
fn a_restore_that_was_given_up_is_not_gone_on_with_when_its_partition_comes_back() {
    const USERS: i64 = 12_000; // more than a slice in each partition
    let mut topology = Topology::new("sessions");
    topology.source("clicks").aggregate("sessions", Count).done();
    let mut driver = TestDriver::new(topology).partitions(2);
    let click = |driver: &mut TestDriver, partitions: &[i32]| {
        for user in (0..USERS).map(|n| format!("u{n}")) {
            if partitions.contains(&partition_for(user.as_bytes(), 2)) {
                driver.send("clicks", user.as_str(), event("any", 1));
            }
        }
    };
    click(&mut driver, &[0, 1]);
    driver.run();
    driver.stop(0);
    driver.disk(0).lose();
    driver.start(0);
    for _ in 0..1_000 {
        if driver.status(0).restores().len() == 2 {
            break; // each worker is within a restore
        }
        driver.step();
    }
    driver.freeze(0);
    driver.start(1);
    driver.step(); // the second joins, so that the first hears of it before it reads on
    driver.thaw(0);
    for _ in 0..1_000 {
        if driver.status(1).tasks().values().any(|task| task.state == State::Running) {
            break;
        }
        driver.step();
        driver.pass(Duration::from_millis(10));
    }
    let taken: Vec<i32> = driver.status(1).tasks().keys().map(|task| task.partition.0).collect();
    click(&mut driver, &taken);
    for _ in 0..200 {
        driver.step();
        driver.pass(Duration::from_millis(10));
    }
    driver.stop(1);
    click(&mut driver, &[0, 1]);
    driver.run();
    let last: std::collections::BTreeMap<_, _> = driver
        .read_raw("sessions-sessions-changelog")
        .into_iter()
        .map(|found| (found.key.unwrap(), (found.partition, found.value.unwrap())))
        .collect();
    assert_eq!((taken.len(), last.len()), (1, 12_000));
    for (user, (partition, value)) in last {
        let kept: serde_json::Value = serde_json::from_slice(&value[2..]).unwrap();
        let count = if taken.contains(&partition) { 3 } else { 2 };
        assert_eq!(kept["count"], count, "{}", String::from_utf8_lossy(&user));
    }
}

#[test]
fn partitions_that_move_take_their_state_along() {
    let mut driver = TestDriver::new(usage()).partitions(6).instances(1);
    feed(&mut driver, 20, 2);
    driver.start(1);
    feed(&mut driver, 20, 2);
    driver.stop(0);
    feed(&mut driver, 20, 1);
    driver.start(0);
    driver.kill(1);
    feed(&mut driver, 20, 1);
    for user in 0..20 {
        assert_eq!(driver.store("usage", &format!("u{user}")).unwrap()["count"], 6, "u{user}");
    }
}

#[test]
fn two_crashes_in_a_row_change_nothing() {
    for first in THROUGH_LOG {
        for second in [Step::ReadCommitted, Step::Apply, Step::SendOffsets, Step::CommitKafka] {
            let mut driver = TestDriver::new(usage()).partitions(2);
            feed(&mut driver, 2, 1);
            driver.crash_at(first, 1);
            for n in 0..6 {
                driver.send("events", format!("k{n}").as_str(), event(&format!("u{}", n % 2), 1));
            }
            for _ in 0..2_000 {
                if driver.crashes() > 0 {
                    break;
                }
                driver.step();
                driver.pass(Duration::from_millis(50));
            }
            driver.crash_at(second, 1);
            driver.run();
            for user in ["u0", "u1"] {
                assert_eq!(driver.store("usage", user).unwrap()["count"], 4, "{first:?} then {second:?}");
            }
            assert_eq!(driver.read_raw("usage-updates").len(), 2, "{first:?} then {second:?}");
        }
    }
}

#[test]
fn a_zombie_adds_nothing() {
    let mut driver = TestDriver::new(usage()).partitions(2).instances(2);
    feed(&mut driver, 4, 1);
    for n in 0..8 {
        driver.send("events", format!("k{n}").as_str(), event(&format!("u{}", n % 4), 1));
    }
    make_a_zombie(&mut driver);
    for user in 0..4 {
        assert_eq!(driver.store("usage", &format!("u{user}")).unwrap()["count"], 3);
    }
}

/// The commit of the last batch is carried out, and its answer lost, while the partition moves.
#[test]
fn a_task_that_moves_while_its_last_commit_is_in_doubt_is_gone() {
    let mut topology = Topology::new("sessions");
    topology.source("clicks").aggregate("sessions", Count).done();
    let mut driver = TestDriver::new(topology).partitions(2);
    let click = |driver: &mut TestDriver| {
        (0..8).for_each(|n| driver.send("clicks", format!("u{n}").as_str(), event("any", 1)));
    };
    click(&mut driver);
    driver.run();
    click(&mut driver);
    driver.step(); // decided, and not handed over
    for _ in 0..2 {
        driver.log().fail_next(SinkFault::Commit { is_applied: true });
    }
    driver.start(1);
    driver.run();
    let [kept, moved] = [0, 1].map(|instance| driver.status(instance).tasks());
    assert_eq!((kept.len(), moved.len()), (1, 1), "{kept:?} {moved:?}");
    assert!(kept.keys().all(|task| !moved.contains_key(task)), "one task at two instances: {kept:?} {moved:?}");
    click(&mut driver);
    driver.run();
    for n in 0..8 {
        assert_eq!(driver.store("sessions", &format!("u{n}")).unwrap()["count"], 3);
    }
}

// === Declared sources ===

fn declared(policy: OnViolation) -> Topology {
    let mut topology = Topology::new("sessions");
    topology
        .source("clicks")
        .declared(Declared::murmur2(4).on_violation(policy))
        .aggregate("sessions", Count)
        .to("session-ends");
    topology
}

/// The source `clicks` as instance 0 has seen it.
fn clicks_as_declared(driver: &mut TestDriver) -> DeclaredSource {
    driver.status(0).declared.sources().remove(&TopicName::parse("clicks").unwrap()).unwrap()
}

/// Clicks of ten users where they belong, and one of `astray` in the wrong partition.
fn planted(policy: OnViolation) -> (TestDriver, i32) {
    let mut driver = TestDriver::new(declared(policy)).partitions(4);
    for user in 0..10 {
        driver.send("clicks", format!("u{user}").as_str(), event(&format!("u{user}"), 1));
    }
    driver.run();
    let wrong = (partition_for(b"astray", 4) + 1) % 4;
    let value = serde_json::to_vec(&event("astray", 1)).unwrap();
    driver.send_to("clicks", wrong, Some(b"astray"), Some(&value));
    for user in 0..10 {
        driver.send("clicks", format!("u{user}").as_str(), event(&format!("u{user}"), 1));
    }
    (driver, wrong)
}

#[test]
fn a_declared_source_is_read_without_a_shuffle() {
    let topology = declared(OnViolation::Stop);
    assert!(topology.internal_topics().is_empty(), "no repartition topic");
    let mut driver = TestDriver::new(topology).partitions(4);
    for user in 0..10 {
        driver.send("clicks", format!("u{user}").as_str(), event("any", 1));
    }
    driver.run();
    let bytes: usize =
        (0..10).map(|user| format!("u{user}").len() + serde_json::to_vec(&event("any", 1)).unwrap().len()).sum();
    let found = clicks_as_declared(&mut driver);
    assert_eq!((found.checked, found.bytes_not_shuffled), (10, bytes as u64));
    assert!(found.violations.is_empty() && driver.halts().is_empty());
}

#[test]
fn a_record_in_the_wrong_partition_stops_its_partition_before_it_has_an_effect() {
    let (mut driver, wrong) = planted(OnViolation::Stop);
    let halts = driver.halts();
    assert_eq!(halts.len(), 1);
    assert_eq!(halts[0].reason, HaltReason::WronglyKeyed);
    assert_eq!(halts[0].source, place("clicks", wrong));
    assert!(halts[0].detail.contains(&format!("partition {}", partition_for(b"astray", 4))), "{}", halts[0].detail);
    assert_eq!(driver.store("sessions", "astray"), None);
    for user in 0..10 {
        let user = format!("u{user}");
        let is_behind = partition_for(user.as_bytes(), 4) == wrong;
        let count = if is_behind { 1 } else { 2 };
        assert_eq!(driver.store("sessions", &user).unwrap()["count"], count, "{user}: the others go on");
    }
    let found = clicks_as_declared(&mut driver).violations[&Partition(wrong)];
    assert_eq!((found.count, found.expected_partition), (1, partition_for(b"astray", 4)));
    let clicks = driver.read_raw("clicks");
    let planted = clicks.iter().find(|click| click.key.as_deref() == Some(b"astray")).unwrap();
    assert_eq!((planted.partition, found.first_offset), (wrong, planted.offset));
}

#[test]
fn a_record_in_the_wrong_partition_is_counted_or_sent_where_it_belongs() {
    let (mut driver, wrong) = planted(OnViolation::Warn);
    assert_eq!(driver.store("sessions", "astray").unwrap()["count"], 1);
    let found = clicks_as_declared(&mut driver);
    assert_eq!((found.checked, found.violations[&Partition(wrong)].count), (21, 1));

    let (mut driver, _) = planted(OnViolation::Repartition);
    assert_eq!(driver.store("sessions", "astray").unwrap()["count"], 1);
    let moved = driver.read_raw("sessions-clicks-repartition");
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].partition, partition_for(b"astray", 4));
    let changelog = driver.read_raw("sessions-sessions-changelog");
    let kept = changelog.iter().find(|found| found.key.as_deref() == Some(b"astray")).unwrap();
    assert_eq!(kept.partition, partition_for(b"astray", 4), "its state lies where it belongs");
    driver.crash_everywhere();
}

#[test]
fn a_hash_that_names_a_partition_which_is_none_stops_the_partition_under_repartition_too() {
    let nowhere = KeyHash::Custom("nowhere", Arc::new(|_, count| count));
    let mut topology = Topology::new("sessions");
    let declared = Declared::new(nowhere, 4).on_violation(OnViolation::Repartition);
    topology.source("clicks").declared(declared).aggregate("sessions", Count).done();
    let mut driver = TestDriver::new(topology).partitions(4);
    driver.send_to("clicks", 1, Some(b"u1"), Some(&serde_json::to_vec(&event("any", 1)).unwrap()));
    driver.run();
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::WronglyKeyed]);
    assert!(halts[0].detail.contains("partition 4 by nowhere over 4 partitions"), "{}", halts[0].detail);
    assert!(driver.read_raw("sessions-clicks-repartition").is_empty());
}

// === Stores and their halts ===

#[test]
fn the_status_tells_what_each_store_holds_and_forgets_what_moved() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 5, 2);
    let id = TaskId { sub_topology: 1, partition: Partition(0) };
    assert_eq!(driver.status(0).stores()[&id][0].size.keys, 0, "nothing has been written since it was opened");
    driver.advance(Duration::from_secs(6));
    driver.run();
    let stores = driver.status(0).stores();
    assert_eq!((stores[&id][0].store.as_str(), stores[&id][0].size.keys), ("usage", 5));
    assert!(stores[&id][0].size.bytes > 5, "{stores:?}");
    driver.stop(0);
    driver.start(0);
    driver.run();
    assert_eq!(driver.status(0).stores()[&id][0].size.keys, 5, "as it was found");
    driver.status(0).forget_tasks();
    assert!(driver.status(0).stores().is_empty());
}

#[test]
fn a_changed_partition_count_halts_stateful_steps_with_both_counts() {
    let mut driver = TestDriver::new(usage()).partitions(2);
    feed(&mut driver, 4, 1);
    driver.log().add_partitions(&TopicName::parse("usage-by-user-repartition").unwrap(), 4);
    driver.pass(Duration::from_secs(6));
    for _ in 0..50 {
        driver.step();
        driver.pass(Duration::from_millis(100));
    }
    let halts = driver.status(0).halts();
    assert!(!halts.is_empty());
    for halt in halts {
        assert_eq!(halt.reason, HaltReason::PartitionCountChanged);
        assert!(halt.detail.contains('2') && halt.detail.contains('4'), "{}", halt.detail);
    }
}

#[test]
fn a_changelog_that_was_cut_halts() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 5, 2);
    driver.stop(0);
    driver.disk(0).lose();
    driver.log().truncate_before(&place("usage-usage-changelog", 0), NextOffset(4));
    driver.start(0);
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::ChangelogTruncated]);
}

#[test]
fn a_reset_group_halts_a_step_with_state_and_not_one_without() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 5, 2);
    driver.stop(0);
    for topic in ["events", "usage-by-user-repartition"] {
        let reset = Committed { next_offset: NextOffset(3), metadata: String::new() };
        driver.log().set_committed("usage", &place(topic, 0), Some(reset)).unwrap();
    }
    driver.start(0);
    let halts = driver.halts();
    assert_eq!(halts.len(), 1);
    assert_eq!((halts[0].reason, &halts[0].source), (HaltReason::GroupReset, &place("usage-by-user-repartition", 0)));
}

#[test]
fn a_value_of_a_later_release_halts_its_partition_and_names_both_versions() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 2, 1);
    driver.stop(0);
    let id = StoreId { name: "usage".into(), partition: Partition(0) };
    driver.disk(0).corrupt(&id, b"u1", b"\x01\x09{}");
    driver.start(0);
    driver.send("events", "k", event("u1", 1));
    let halts = driver.halts();
    assert_eq!(halts[0].reason, HaltReason::StoreUnreadable);
    assert!(halts[0].detail.contains("version 9") && halts[0].detail.contains("knows 1"), "{}", halts[0].detail);
}

#[test]
fn a_full_disk_halts_the_stateful_task_and_loses_nothing() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 3, 1);
    driver.disk(0).fill(true);
    driver.advance(Duration::from_secs(6));
    driver.send("events", "k", event("u1", 1));
    let halts = driver.halts();
    assert_eq!(halts[0].reason, HaltReason::StoreUnwritable);
    assert!(halts[0].detail.contains("no space"), "{}", halts[0].detail);
    driver.disk(0).fill(false);
    driver.kill(0);
    driver.start(0);
    feed(&mut driver, 3, 1);
    assert_eq!(driver.store("usage", "u1").unwrap()["count"], 3);
}

/// Nothing was decided, so nothing is lost, and the partition goes on by itself.
#[test]
fn a_disk_that_cannot_be_read_for_a_while_costs_nothing_but_time() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 3, 1);
    driver.stop(0);
    driver.start(0);
    driver.disk(0).block(true);
    driver.send("events", "k", event("u1", 1));
    for _ in 0..100 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    assert_eq!(driver.status(0).halts(), []);
    driver.disk(0).block(false);
    assert_eq!(driver.store("usage", "u1").unwrap()["count"], 2);
    assert_eq!(driver.halts(), []);
    assert!(driver.read_raw("usage-by-user-repartition-dlt").is_empty());
}

#[test]
fn a_store_of_a_later_release_halts_its_partition_as_what_it_is() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 2, 1);
    driver.stop(0);
    driver.disk(0).garble_checkpoint(&StoreId { name: "usage".into(), partition: Partition(0) });
    driver.start(0);
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::StoreUnreadable]);
    let command = halts[0].choices.last().and_then(|choice| choice.command.as_deref());
    assert_eq!(command, Some("tidegate state rebuild usage-by-user-repartition-0"));
    assert!(halts[0].detail.contains("later release"), "{}", halts[0].detail);
}

#[test]
fn a_changelog_that_is_gone_is_waited_for_and_takes_nobody_along() {
    let mut driver = TestDriver::new(usage()).partitions(1);
    feed(&mut driver, 2, 1);
    driver.stop(0);
    let changelog = TopicName::parse("usage-usage-changelog").unwrap();
    driver.start(0);
    assert!(driver.log().delete_topic(&changelog));
    for _ in 0..100 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    let tasks = driver.status(0).tasks();
    let states: Vec<State> = tasks.values().map(|task| task.state).collect();
    assert_eq!(states, [State::Running, State::Claiming], "the step without state goes on");
    driver.log().create_topic(changelog.as_str(), 1).unwrap();
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::ChangelogRecreated]);
}

/// A transaction of another program, open in one changelog, holds up that store and no other.
#[test]
fn an_open_transaction_in_one_changelog_does_not_hold_up_the_restores_of_others() {
    let mut topology = Topology::new("sessions");
    topology.source("clicks").aggregate("sessions", Count).done();
    let mut driver = TestDriver::new(topology).partitions(4); // two tasks a worker
    (0..40).for_each(|n| driver.send("clicks", format!("u{n}").as_str(), event("any", 1)));
    driver.run();
    driver.stop(0);
    driver.disk(0).lose();
    let changelog = TopicName::parse("sessions-sessions-changelog").unwrap();
    let mut stranger = driver.log().sink("stranger");
    stranger.begin().unwrap();
    for number in [0, 1] {
        let message = Message {
            destination: &changelog,
            partition: Some(Partition(number)),
            key: Some(b"x"),
            value: None,
            headers: &[],
            timestamp: None,
            is_tracked: false,
        };
        stranger.send(&message).unwrap();
    }
    driver.start(0);
    for _ in 0..50 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    assert_eq!(driver.log().open_transactions(), 1);
    let tasks = driver.status(0).tasks();
    let states: Vec<State> = tasks.values().map(|task| task.state).collect();
    assert_eq!(states, [State::Restoring, State::Restoring, State::Running, State::Running]);
    stranger.close();
    (0..40).for_each(|n| driver.send("clicks", format!("u{n}").as_str(), event("any", 1)));
    driver.run();
    for n in 0..40 {
        assert_eq!(driver.store("sessions", &format!("u{n}")).unwrap()["count"], 2);
    }
}

#[test]
fn a_shuffle_that_is_not_needed_is_reported() {
    let mut driver = TestDriver::new(usage()).partitions(4);
    for n in 0..4_000 {
        let user = format!("u{}", n % 50);
        driver.send("events", user.as_str(), event(&user, 1)); // keyed by the user already
    }
    driver.run();
    let needless = driver.status(0).shuffles.needless();
    let sampled = needless[&TopicName::parse("events").unwrap()];
    assert!((200..=300).contains(&sampled), "{sampled} of 4,000: one of sixteen");
    let mut driver = TestDriver::new(usage()).partitions(4);
    for n in 0..4_000 {
        driver.send("events", format!("k{n}").as_str(), event(&format!("u{}", n % 50), 1));
    }
    driver.run();
    assert!(driver.status(0).shuffles.needless().is_empty());
}

// === Stores of one's own ===

struct Visits {
    seen: Store<i64>,
}

impl Algorithm for Visits {
    type Event = Event;
    type Row = ();
    type Notices = Option<Update>;

    fn apply(&self, event: Event, (): &mut (), context: &mut Context<'_>) -> Result<Option<Update>, Reject> {
        let mut seen = context.store(&self.seen)?;
        let count = seen.add(format!("{}/{}", event.user, event.units), 1)?;
        if event.word == "reject" {
            return Err(Reject::new("after the write"));
        }
        let kinds = seen.prefix(format!("{}/", event.user), 100)?;
        let kinds = i64::try_from(kinds.len()).unwrap_or(0);
        Ok(Some(Update { user: event.user, count, units: kinds }))
    }
}

fn visits(time_to_live: Option<Duration>) -> Topology {
    let mut seen = Store::new("seen");
    if let Some(time) = time_to_live {
        seen = seen.time_to_live(time);
    }
    let mut topology = Topology::new("visits");
    topology.source("events").process(Visits { seen: seen.clone() }).with_store(&seen).to("visited");
    topology
}

#[test]
fn a_store_of_ones_own_counts_and_is_searched_by_prefix() {
    let mut driver = TestDriver::new(visits(None)).partitions(1);
    for (user, units, word) in [("a", 1, ""), ("a", 2, ""), ("ab", 1, ""), ("a", 1, "reject"), ("a", 1, "")] {
        driver.send("events", "k", json!({"user": user, "units": units, "word": word}));
    }
    let found = driver.read_raw("visited");
    let values: Vec<serde_json::Value> =
        found.iter().map(|found| serde_json::from_slice(found.value.as_deref().unwrap()).unwrap()).collect();
    let seen: Vec<_> = values.iter().map(|v| (v["count"].as_i64().unwrap(), v["units"].as_i64().unwrap())).collect();
    assert_eq!(seen, [(1, 1), (1, 2), (1, 1), (2, 2)], "count of the pair, kinds of the user");
    driver.crash_everywhere();
}

/// Otherwise a late record would have another result after a restart than in the same process.
#[test]
fn a_release_without_the_time_to_live_brings_nothing_back_that_has_expired() {
    for restarts in [false, true] {
        let mut driver = TestDriver::new(visits(Some(Duration::from_secs(60)))).partitions(1);
        let at = |driver: &mut TestDriver, user: &str, ms: i64| {
            let (key, value) = (Some(b"k".to_vec()), serde_json::to_vec(&event(user, 1)).ok());
            driver.send_record("events", Sent { key, value, timestamp_ms: Some(ms), ..Sent::default() });
            driver.run();
        };
        at(&mut driver, "a", 1_000);
        driver.stop(0);
        driver.release(visits(None));
        driver.start(0);
        at(&mut driver, "b", 100_000);
        if restarts {
            driver.stop(0);
            driver.start(0);
        }
        at(&mut driver, "a", 20_000);
        let last = driver.read_raw("visited").pop().unwrap();
        let value: serde_json::Value = serde_json::from_slice(last.value.as_deref().unwrap()).unwrap();
        assert_eq!(value["count"], 1, "counted from nothing, restarted or not: {restarts}");
    }
}

#[test]
fn an_expired_value_is_unreadable_at_once_and_its_tombstone_follows() {
    let mut driver = TestDriver::new(visits(Some(Duration::from_secs(60)))).partitions(1);
    driver.send("events", "k", event("a", 1));
    driver.advance(Duration::from_secs(10)); // written into the store
    driver.run();
    driver.advance(Duration::from_secs(60));
    driver.send("events", "k", event("a", 1));
    driver.run();
    let last = driver.read_raw("visited").pop().unwrap();
    let value: serde_json::Value = serde_json::from_slice(last.value.as_deref().unwrap()).unwrap();
    assert_eq!(value["count"], 1, "counted from nothing: the first count has expired");
    driver.send("events", "k", event("b", 1));
    driver.advance(Duration::from_secs(70));
    for _ in 0..8 {
        // Short steps: a member that does not poll for long is thrown out.
        driver.send("events", "k", event("c", 1));
        driver.advance(Duration::from_secs(1));
    }
    assert_eq!(driver.store("seen", "b/1"), None, "a tombstone is in the changelog although nobody read the key again");
}

#[test]
fn a_disk_that_does_not_answer_the_search_for_expired_keys_is_asked_again_and_halts_nothing() {
    let mut topology = Topology::new("usage");
    topology
        .source("events")
        .aggregate(Store::new("usage").time_to_live(Duration::from_secs(3600)), Count)
        .to("usage-updates");
    let mut driver = TestDriver::new(topology).partitions(1);
    for _ in 0..2 {
        driver.send("events", "u", event("u", 1));
    }
    driver.advance(Duration::from_secs(2)); // a search is due
    driver.disk(0).block(true);
    driver.send("events", "u", event("u", 1)); // whose value is cached
    assert!(driver.halts().is_empty());
    assert_eq!(driver.read_raw("usage-updates").len(), 1, "what was decided is published");
    driver.disk(0).block(false);
    driver.advance(Duration::from_secs(4000));
    driver.send("events", "v", event("v", 1));
    driver.advance(Duration::from_secs(2)); // idle: the search meets u
    assert_eq!(driver.store("usage", "u"), None);
    let tombstones = driver.read_raw("usage-usage-changelog").into_iter().filter(|found| found.value.is_none());
    assert_eq!(tombstones.map(|found| found.key.unwrap()).collect::<Vec<_>>().len(), 1);
}

#[test]
fn a_store_that_its_step_was_not_given_halts_the_partition_once_instead_of_losing_each_record() {
    let mut bare = Topology::new("visits");
    bare.source("events").process(Visits { seen: Store::new("seen") }).to("visited");
    let mut other = Topology::new("visits");
    other
        .source("events")
        .process(Visits { seen: Store::new("seen") })
        .with_store(&Store::<i64>::new("another"))
        .to("visited");
    for topology in [bare, other] {
        let mut driver = TestDriver::new(topology).partitions(1);
        for _ in 0..3 {
            driver.send("events", "k", event("a", 1));
        }
        let halts = driver.halts();
        assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::UnknownStore]);
        assert!(halts[0].detail.contains("the store seen") && halts[0].detail.contains("with_store"));
        assert!(driver.read_raw("events-dlt").is_empty() && driver.read_raw("visited").is_empty());
    }
}
