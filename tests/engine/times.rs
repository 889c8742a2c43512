//! Event time: the bound on how far ahead it may be, and the task's clock, which nothing but records moves: no restart,
//! no table.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::memory::SinkFault;
use tidegate::engine::protocol::order::{Step, THROUGH_LOG};
use tidegate::flow::record::{NextOffset, Partition, Record, Timestamp, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Reject, Store, Topology};
use tidegate::ports::changelog::ChangelogReader as _;
use tidegate::ports::store::StoreId;
use tidegate::testing::TestDriver;

/// The driver's clock when it starts.
const START_MS: i64 = 1_767_225_600_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    word: String,
}

#[derive(Serialize)]
struct Told {
    count: i64,
}

/// Counts the events of each key. Words provoke trouble.
struct Count;

impl Algorithm for Count {
    type Event = Event;
    type Row = i64;
    type Notices = Option<Told>;

    fn apply(&self, event: Event, count: &mut i64, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        *count += 1;
        match event.word.as_str() {
            "skip" => Err(Reject::skip("asked-to-skip")),
            "reject" => Err(Reject::new("asked to reject")),
            "later" => Err(Reject::retry("asked-for-later", "not yet")),
            _ => Ok(Some(Told { count: *count })),
        }
    }
}

fn counts(time_to_live: Duration) -> Topology {
    let mut topology = Topology::new("counts");
    topology.source("events").aggregate(Store::new("counts").time_to_live(time_to_live), Count).to("told");
    topology
}

fn name(topic: &str) -> TopicName {
    TopicName::parse(topic).unwrap()
}

fn send_word(driver: &mut TestDriver, topic: &str, key: &str, word: &str, at_ms: i64) {
    let value = json!({ "word": word }).to_string();
    let at = Timestamp(START_MS + at_ms);
    driver.log().produce(&name(topic), Some(key.as_bytes()), Some(value.as_bytes()), &[], at).unwrap();
    driver.run();
}

/// An event stamped `at_ms` after the driver's start.
fn send(driver: &mut TestDriver, key: &str, at_ms: i64) {
    send_word(driver, "events", key, "", at_ms);
}

/// The counts that were published for `key`.
fn told(driver: &mut TestDriver, key: &str) -> Vec<i64> {
    let found = driver.read_raw("told").into_iter().filter(|found| found.key.as_deref() == Some(key.as_bytes()));
    let count = |value: Vec<u8>| serde_json::from_slice::<Value>(&value).unwrap()["count"].as_i64().unwrap();
    found.map(|found| count(found.value.unwrap())).collect()
}

fn dead(driver: &mut TestDriver, topic: &str) -> Vec<String> {
    let found = driver.read_raw(topic);
    found.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

/// Ways in which a task begins again.
const ANEW: [fn(&mut TestDriver); 4] = [
    |_| {},
    |driver| {
        driver.kill(0);
        driver.start(0);
    },
    |driver| {
        driver.stop(0);
        driver.start(0);
    },
    |driver| {
        driver.kill(0);
        driver.disk(0).lose();
        driver.start(0);
    },
];

#[test]
fn a_late_record_never_shortens_the_life_of_what_it_adds_to() {
    let mut driver = TestDriver::new(counts(Duration::from_secs(60))).partitions(1);
    for at_ms in [100_000, 10_000, 101_000] {
        send(&mut driver, "k", at_ms);
    }
    assert_eq!(told(&mut driver, "k"), [1, 2, 3]);
    send(&mut driver, "k", 161_000);
    assert_eq!(told(&mut driver, "k"), [1, 2, 3, 1], "a minute after its last write by event time");
}

#[test]
fn a_late_blind_write_does_not_shorten_a_life_either() {
    /// Writes without reading; reads on the word "skip" alone.
    struct Blind(Store<i64>);
    impl Algorithm for Blind {
        type Event = Event;
        type Row = ();
        type Notices = Option<Told>;
        fn apply(&self, event: Event, (): &mut (), context: &mut Context<'_>) -> Result<Option<Told>, Reject> {
            let key = context.key().to_string();
            let mut store = context.store(&self.0)?;
            if event.word == "read" {
                return Ok(Some(Told { count: store.get(&key)?.unwrap_or(0) }));
            }
            store.put(&key, &1)?;
            Ok(None)
        }
    }
    for anew in ANEW {
        let store = Store::new("blind").time_to_live(Duration::from_secs(60));
        let mut topology = Topology::new("blind");
        topology.source("events").process(Blind(store.clone())).with_store(&store).to("told");
        let mut driver = TestDriver::new(topology).partitions(1);
        send(&mut driver, "k", 100_000);
        anew(&mut driver);
        send(&mut driver, "k", 10_000);
        send_word(&mut driver, "events", "k", "read", 120_000);
        assert_eq!(told(&mut driver, "k"), [1]);
    }
}

#[test]
fn a_record_from_the_future_is_a_dead_letter_and_moves_no_clock() {
    let mut driver = TestDriver::new(counts(Duration::from_secs(600))).partitions(1);
    for n in 0..100 {
        send(&mut driver, &format!("k{n}"), 0);
    }
    send(&mut driver, "future", HOUR_MS);
    send(&mut driver, "soon", 4 * MINUTE_MS);
    for n in 0..100 {
        send(&mut driver, &format!("k{n}"), 1);
        assert_eq!(told(&mut driver, &format!("k{n}")), [1, 2]);
    }
    assert_eq!(dead(&mut driver, "events-dlt"), ["event-time-ahead"]);
    assert_eq!((told(&mut driver, "future"), told(&mut driver, "soon")), (vec![], vec![1]));
    driver.pass(Duration::from_secs(3600));
    send(&mut driver, "future", HOUR_MS);
    assert_eq!(told(&mut driver, "future"), [1], "by now it is the present");
}

/// Old brokers, and producers that set none, leave -1: by it a value would expire at once.
#[test]
fn a_record_without_a_time_is_a_dead_letter_where_values_expire_by_time() {
    let mut driver = TestDriver::new(counts(Duration::from_secs(600))).partitions(1);
    send(&mut driver, "k", -START_MS - 1);
    for n in 0..3 {
        send(&mut driver, "k", n);
        send(&mut driver, "k", -START_MS - 1);
    }
    assert_eq!(told(&mut driver, "k"), [1, 2, 3]);
    assert_eq!(dead(&mut driver, "events-dlt"), ["event-time-missing"; 4]);

    let mut topology = Topology::new("counts");
    topology.source("events").aggregate(Store::new("counts"), Count).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    send(&mut driver, "k", -START_MS - 1);
    send(&mut driver, "k", 0);
    assert_eq!(told(&mut driver, "k"), [1, 2], "elsewhere it is a record like any other");
}

/// Every record seems to be from the future where the instance's own clock is slow.
#[test]
fn a_record_from_the_future_is_decided_like_any_other_where_event_time_decides_nothing() {
    let mut topology = Topology::new("counts");
    topology.source("events").aggregate(Store::new("counts"), Count).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    for at_ms in [0, HOUR_MS, 1] {
        send(&mut driver, "k", at_ms);
    }
    assert_eq!((told(&mut driver, "k"), dead(&mut driver, "events-dlt")), (vec![1, 2, 3], vec![]));
    driver.stop(0);
    driver.start(0);
    assert_ne!(
        driver.store("counts", "\0tidegate\0clock"),
        Some(json!(START_MS + HOUR_MS)),
        "nor does it move a clock"
    );

    let mut driver = crate::pipeline::driver(1);
    let at = Timestamp(START_MS + HOUR_MS);
    driver.log().produce(&name("readings"), Some(b"0"), Some(br#"{"value": 10.0}"#), &[], at).unwrap();
    assert_eq!(driver.read("large-changes").len(), 1);
}

#[test]
fn a_task_that_begins_anew_has_the_clock_that_it_had() {
    for anew in ANEW {
        let mut driver = TestDriver::new(counts(Duration::from_secs(60))).partitions(1);
        send(&mut driver, "k", 0);
        send(&mut driver, "other", 100_000);
        anew(&mut driver);
        send(&mut driver, "k", 30_000);
        assert_eq!(told(&mut driver, "k"), [1, 1], "what had expired stays so");
    }
}

#[test]
fn skipped_and_rejected_records_move_the_clock_and_one_that_waits_does_not() {
    for word in ["skip", "reject"] {
        for anew in ANEW {
            let mut driver = TestDriver::new(counts(Duration::from_secs(60))).partitions(1);
            send(&mut driver, "k", 0);
            send_word(&mut driver, "events", "other", word, 100_000);
            anew(&mut driver);
            send(&mut driver, "k", 30_000);
            assert_eq!(told(&mut driver, "k"), [1, 1], "{word}");
        }
    }
    let mut topology = Topology::new("counts");
    let source = topology.source("events").with("others");
    source.aggregate(Store::new("counts").time_to_live(Duration::from_secs(60)), Count).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    send(&mut driver, "k", 0);
    let value = json!({"word": "later"}).to_string();
    let at = Timestamp(START_MS + 100_000);
    driver.log().produce(&name("others"), Some(b"x"), Some(value.as_bytes()), &[], at).unwrap();
    for _ in 0..4 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    let at = Timestamp(START_MS + 30_000);
    driver.log().produce(&name("events"), Some(b"k"), Some(b"{}"), &[], at).unwrap();
    for _ in 0..10 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    let found = driver.log().read(&name("told"));
    assert_eq!(found.len(), 2);
    assert!(found[1].value.as_deref() == Some(br#"{"count":2}"#), "while the other waits");
}

#[derive(Serialize, Deserialize)]
struct User {}

/// Counts the events of each key that has a user.
struct CountKnown;

impl Algorithm for CountKnown {
    type Event = (Event, User);
    type Row = i64;
    type Notices = Option<Told>;

    fn apply(&self, _: (Event, User), count: &mut i64, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        *count += 1;
        Ok(Some(Told { count: *count }))
    }
}

#[test]
fn a_table_that_is_ahead_does_not_age_the_streams_backlog() {
    let mut topology = Topology::new("shop");
    let counts = Store::new("counts").time_to_live(Duration::from_secs(3600));
    topology.source("events").join("users").aggregate(counts, CountKnown).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    let user = |driver: &mut TestDriver, at_ms: i64| {
        let at = Timestamp(START_MS + at_ms);
        driver.log().produce(&name("users"), Some(b"k"), Some(b"{}"), &[], at).unwrap();
    };
    user(&mut driver, 0);
    for n in 0..3 {
        let at = Timestamp(START_MS - 48 * HOUR_MS + n * MINUTE_MS);
        driver.log().produce(&name("events"), Some(b"k"), Some(b"{}"), &[], at).unwrap();
    }
    driver.run();
    user(&mut driver, 1); // and while it runs
    user(&mut driver, 24 * HOUR_MS);
    send(&mut driver, "k", -48 * HOUR_MS + 4 * MINUTE_MS);
    assert_eq!(told(&mut driver, "k"), [1, 2, 3, 4]);
    assert!(dead(&mut driver, "users-dlt").is_empty(), "a table's record moves no clock, whenever it is");
}

#[test]
fn a_crash_at_any_step_changes_no_life() {
    let run = |crash: Option<(Step, usize)>| {
        let mut driver =
            TestDriver::new(counts(Duration::from_secs(60))).partitions(2).instances(2).settings(|settings| {
                settings.store_flush = Duration::ZERO;
            });
        driver.run();
        if let Some((step, nth)) = crash {
            driver.crash_at(step, nth);
        }
        for n in 0..12 {
            send(&mut driver, &format!("k{}", n % 3), n * 25_000 - (n % 4) * 30_000);
        }
        let told: Vec<_> = (0..3).map(|n| told(&mut driver, &format!("k{n}"))).collect();
        (told, driver.crashes())
    };
    let (expected, _) = run(None);
    assert_eq!(expected.iter().flatten().max(), Some(&2), "some live on and some expire");
    let mut points = 0;
    for step in THROUGH_LOG {
        for nth in 1.. {
            let (found, crashes) = run(Some((step, nth)));
            assert_eq!(found, expected, "{step:?} {nth}");
            if crashes == 0 {
                assert!(nth > 1, "{step:?} was not reached");
                break; // nor is it reached so often
            }
            points += 1;
        }
    }
    assert!(points >= 40, "{points} crash points");
}

#[test]
fn the_disk_holds_the_clock_beside_the_values_and_shows_it_to_nobody() {
    let mut driver = TestDriver::new(counts(Duration::from_secs(60))).partitions(1);
    send(&mut driver, "k", 5_000);
    driver.stop(0);
    driver.start(0);
    send(&mut driver, "k", 5_000);
    let stores = driver.status(0).stores();
    assert_eq!(stores.values().map(|stores| stores[0].size.keys).collect::<Vec<_>>(), [1]);
    driver.stop(0);
    let kept = driver.disk(0).contents(&StoreId { name: "counts".into(), partition: Partition(0) });
    let keys: Vec<&[u8]> = kept.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(keys, [b"\0tidegate\0clock".as_slice(), b"k"]);
    assert_eq!(kept[0].1, [&[1, 1], (START_MS + 5_000).to_string().as_bytes()].concat());
}

// === Messages carry the time of the record that they are about ===

/// The timestamps of a topic's records in partition 0, as milliseconds after the driver's start.
fn stamps(driver: &mut TestDriver, topic: &str) -> Vec<i64> {
    driver.run();
    let mut reader = driver.log().changelog();
    let place = TopicPartition::new(name(topic), Partition(0));
    reader.begin(&place, NextOffset(0)).unwrap();
    let mut found = Vec::new();
    let mut visit = |record: &Record<'_>| {
        found.push(record.timestamp.0 - START_MS);
        true
    };
    reader.read(Duration::ZERO, 1_000, &mut visit).unwrap();
    found
}

#[test]
fn event_time_goes_on_from_topic_to_topic() {
    struct Pass;
    impl Algorithm for Pass {
        type Event = Event;
        type Row = ();
        type Notices = Vec<Value>;
        fn apply(&self, event: Event, (): &mut (), _: &mut Context<'_>) -> Result<Vec<Value>, Reject> {
            if event.word == "reject" {
                return Err(Reject::new("asked to reject"));
            }
            Ok(vec![json!({}), json!({})])
        }
    }
    let mut topology = Topology::new("chain");
    topology.source("events").process(Pass).to("passed");
    let counts = Store::new("counts").time_to_live(Duration::from_secs(60));
    topology.source("passed").aggregate(counts, Count).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    for at_ms in [-48 * HOUR_MS, -48 * HOUR_MS + 30_000, -48 * HOUR_MS + 90_000] {
        send(&mut driver, "k", at_ms);
    }
    send_word(&mut driver, "events", "k", "reject", -HOUR_MS);
    assert_eq!(told(&mut driver, "k"), [1, 2, 3, 4, 1, 2], "each minute of event time by itself");
    let offsets: Vec<i64> = stamps(&mut driver, "told").iter().map(|at_ms| at_ms + 48 * HOUR_MS).collect();
    assert_eq!(offsets, [0, 0, 30_000, 30_000, 90_000, 90_000]);
    assert!(stamps(&mut driver, "events-dlt")[0] >= 0, "a letter is as old as it is");
}

/// A table's record may lie far ahead; the event time of the next step does not go with it.
#[test]
fn a_notice_of_a_join_has_the_time_of_its_streams_record() {
    let mut topology = Topology::new("shop");
    topology.source("events").join("users").aggregate("counts", CountKnown).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    let at = Timestamp(START_MS + 24 * HOUR_MS);
    driver.log().produce(&name("users"), Some(b"k"), Some(b"{}"), &[], at).unwrap();
    for at_ms in [5_000, 3_000] {
        send(&mut driver, "k", at_ms);
    }
    assert_eq!(stamps(&mut driver, "told"), [5_000, 3_000]);
}

#[test]
fn a_notice_that_a_takeover_publishes_is_stamped_as_if_nobody_had_died() {
    for step in [None, Some(Step::CommitDatabase), Some(Step::Produce), Some(Step::CommitKafka)] {
        let mut driver = crate::rowstate::fill(TestDriver::new(crate::rowstate::tally()).partitions(1), 1);
        driver.run();
        if let Some(step) = step {
            driver.crash_at(step, 1);
        }
        for n in 0..4 {
            let at = Timestamp(START_MS - 48 * HOUR_MS + n);
            driver.log().produce(&name("readings"), Some(b"0"), Some(br#"{"value": 1.0}"#), &[], at).unwrap();
        }
        driver.run();
        assert_eq!(driver.crashes(), usize::from(step.is_some()));
        assert_eq!(stamps(&mut driver, "large-changes"), [-48 * HOUR_MS + 1, -48 * HOUR_MS + 3], "{step:?}");
    }
}

// === The traces of time ===

#[test]
fn what_has_expired_is_deleted_also_where_nothing_comes_any_more() {
    let age = Duration::from_secs(60);
    let id = StoreId { name: "counts".into(), partition: Partition(0) };
    for has_rows in [false, true] {
        for fault in [None, Some(SinkFault::Flush), Some(SinkFault::Commit { is_applied: true })] {
            let topology = if has_rows { counts_beside(age) } else { counts(age) };
            let mut driver = TestDriver::new(topology).partitions(1);
            for key in 0..1_000 {
                if has_rows {
                    driver.row("rows", key, Row { n: 0 });
                }
                let (key, at) = (key.to_string(), Timestamp(START_MS));
                driver.log().produce(&name("events"), Some(key.as_bytes()), Some(b"{}"), &[], at).unwrap();
            }
            driver.run();
            send(&mut driver, "7", 100_000);
            if let Some(fault) = fault {
                driver.log().fail_next(fault);
            }
            for _ in 0..40 {
                driver.advance(Duration::from_millis(500)); // short steps: a member that does not poll for long is thrown out
            }
            assert_eq!(driver.disk(0).contents(&id).len(), 2, "the last key and the clock");
            driver.kill(0);
            driver.disk(0).lose();
            driver.start(0);
            send(&mut driver, "7", 100_001);
            assert_eq!(told(&mut driver, "7"), [1, 1, 2]);
            driver.stop(0);
            assert_eq!(driver.disk(0).contents(&id).len(), 2, "and in the changelog");
        }
    }
}

#[test]
fn a_store_that_does_not_change_is_not_rebuilt_for_its_age() {
    let mut topology = Topology::new("counts");
    topology.source("events").aggregate("counts", Count).to("told");
    let mut driver = TestDriver::new(topology).partitions(1).settings(|settings| {
        settings.store_rebuild_after = Duration::from_secs(8);
        settings.store_flush = Duration::from_millis(500);
    });
    for n in 0..10 {
        send(&mut driver, &format!("k{n}"), 0);
    }
    for _ in 0..3 {
        for _ in 0..60 {
            driver.advance(Duration::from_millis(500));
        }
        driver.kill(0);
        driver.start(0);
        driver.run();
        assert_eq!(driver.records_restored(), 0, "its owner has met every tombstone there was");
    }
    driver.stop(0);
    driver.pass(Duration::from_secs(9));
    driver.start(0);
    driver.run();
    assert_eq!(driver.records_restored(), 10, "nobody looked for tombstones meanwhile");
}

#[test]
fn a_restore_under_way_is_as_old_as_its_beginning() {
    struct Large;
    impl Algorithm for Large {
        type Event = Event;
        type Row = Option<String>;
        type Notices = Option<Told>;
        fn apply(&self, _: Event, kept: &mut Option<String>, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
            *kept = Some("x".repeat(400_000));
            Ok(None)
        }
    }
    let mut topology = Topology::new("large");
    topology.source("events").aggregate("kept", Large).done();
    let mut driver = TestDriver::new(topology).partitions(1);
    for n in 0..100 {
        let at = Timestamp(START_MS);
        driver.log().produce(&name("events"), Some(format!("k{n}").as_bytes()), Some(b"{}"), &[], at).unwrap();
    }
    driver.run();
    driver.stop(0);
    driver.disk(0).lose();
    driver.start(0);
    let id = StoreId { name: "kept".into(), partition: Partition(0) };
    let mut ages = Vec::new();
    for _ in 0..1_000 {
        driver.step();
        driver.pass(Duration::from_millis(10));
        let found = driver.disk(0).checkpoint(&id).map(|checkpoint| (checkpoint.next_offset, checkpoint.at));
        ages.extend(found.filter(|found| ages.last() != Some(found)));
    }
    assert!(ages.len() >= 3, "in several pieces: {ages:?}");
    assert!(ages.iter().all(|(_, at)| *at == ages[0].1), "{ages:?}");
}

// === Against a naive program ===

/// Counts in a store of its own, beside a row.
struct CountBeside(Store<i64>);

#[derive(Serialize, Deserialize)]
struct Row {
    n: i64,
}

impl Algorithm for CountBeside {
    type Event = Event;
    type Row = Row;
    type Notices = Option<Told>;

    fn apply(&self, event: Event, row: &mut Row, context: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        let key = context.key().to_string();
        let mut count = context.store(&self.0)?.get(&key)?.unwrap_or_default();
        row.n += 1;
        let told = Count.apply(event, &mut count, context)?;
        context.store(&self.0)?.put(&key, &count)?;
        Ok(told)
    }
}

fn counts_beside(time_to_live: Duration) -> Topology {
    let counts = Store::new("counts").time_to_live(time_to_live);
    let mut topology = Topology::new("counts");
    topology.source("events").update("rows", CountBeside(counts.clone())).with_store(&counts).to("told");
    topology
}

#[derive(Clone, Debug)]
enum Operation {
    /// Key, word, and when it is stamped, in seconds.
    Event(u8, &'static str, i64),
    Anew(usize),
    Fault(SinkFault),
    Wait,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let word = prop_oneof![6 => Just(""), 1 => Just("skip"), 1 => Just("reject")];
    let fault = prop_oneof![
        Just(SinkFault::Commit { is_applied: true }),
        Just(SinkFault::Commit { is_applied: false }),
        Just(SinkFault::Flush),
        Just(SinkFault::Taint)
    ];
    let operation = prop_oneof![
        8 => (0..3_u8, word, 0..250_i64).prop_map(|(key, word, at)| Operation::Event(key, word, at)),
        2 => (0..ANEW.len()).prop_map(Operation::Anew),
        1 => fault.prop_map(Operation::Fault),
        1 => Just(Operation::Wait),
    ];
    proptest::collection::vec(operation, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// With deaths, failures and losses in between, and with published values written at once or late.
    #[test]
    fn what_lives_and_what_has_expired_is_that_of_a_naive_program(operations in operations(), has_rows: bool, is_late: bool) {
        const AGE: i64 = 60;
        let age = Duration::from_secs(60);
        let topology = if has_rows { counts_beside(age) } else { counts(age) };
        let mut driver = TestDriver::new(topology).partitions(1).settings(|settings| {
            settings.store_flush = if is_late { Duration::from_secs(5) } else { Duration::ZERO };
        });
        for key in (0..3).filter(|_| has_rows) {
            driver.row("rows", key, Row { n: 0 });
        }
        let (mut clock, mut kept, mut due) = (i64::MIN, BTreeMap::<u8, (i64, i64)>::new(), vec![Vec::new(); 3]);
        for operation in operations {
            match operation {
                Operation::Event(key, word, at) => {
                    send_word(&mut driver, "events", &key.to_string(), word, at * 1_000);
                    clock = clock.max(at);
                    if word.is_empty() {
                        let before = kept.get(&key).copied();
                        let count = before.filter(|(_, until)| *until > clock).map_or(1, |(count, _)| count + 1);
                        let until = before.map_or(at + AGE, |(_, until)| until.max(at + AGE));
                        kept.insert(key, (count, until));
                        due[usize::from(key)].push(count);
                    }
                }
                Operation::Anew(how) => ANEW[how](&mut driver),
                Operation::Fault(fault) => driver.log().fail_next(fault),
                Operation::Wait => driver.advance(Duration::from_millis(1_500)),
            }
        }
        let found: Vec<Vec<i64>> = (0..3).map(|key| told(&mut driver, &key.to_string())).collect();
        prop_assert_eq!(found, due);
        let clock = (clock > i64::MIN).then(|| json!(START_MS + clock * 1_000));
        prop_assert_eq!(driver.store("counts", "\0tidegate\0clock"), clock);
    }
}
