//! Reports of other engines' users, tried here on several features at once: the same input must come to the same result
//! however it falls into batches, and whichever instance takes over in between.

use crate::pipeline::{Account, Change, Reading};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tidegate::engine::audit::audit;
use tidegate::engine::protocol::order::THROUGH_DATABASE;
use tidegate::flow::key::KeyType;
use tidegate::flow::row;
use tidegate::flow::{Algorithm, Context, Declared, OnViolation, Reject, Store, Table, TableTopic, Topology};
use tidegate::testing::{Sent, TestDriver};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends a record stamped `at_ms`.
fn at(driver: &mut TestDriver, topic: &str, key: &str, value: &Value, at_ms: i64) {
    let value = (!value.is_null()).then(|| value.to_string().into_bytes());
    let sent = Sent { key: Some(key.into()), value, timestamp_ms: Some(at_ms), ..Sent::default() };
    driver.send_record(topic, sent);
}

/// The field `field` of the messages about `key` in `topic`.
fn told(driver: &mut TestDriver, topic: &str, key: &str, field: &str) -> Vec<Option<i64>> {
    let found = driver.read_raw(topic).into_iter().filter(|found| found.key.as_deref() == Some(key.as_bytes()));
    let field = |value: Vec<u8>| serde_json::from_slice::<Value>(&value).unwrap()[field].as_i64();
    found.map(|found| field(found.value.unwrap())).collect()
}

fn codes(driver: &mut TestDriver, topic: &str) -> Vec<String> {
    let dead = driver.read_raw(topic);
    dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

fn is_clean(driver: &mut TestDriver, topology: &Topology) {
    let (mut rows, mut log) = (driver.database().history(topology.name()), driver.log().history(topology.name()));
    let report = audit(topology, &mut rows, &mut log).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// Between two records: nothing, so that they may share a batch; or ways in which the task goes on or begins again.
const BETWEEN: [fn(&mut TestDriver); 5] = [
    |_| {},
    |driver| driver.advance(Duration::from_secs(2)),
    |driver| {
        driver.run();
        driver.kill(0);
        driver.start(0);
    },
    |driver| {
        driver.run();
        driver.stop(0);
        driver.start(0);
    },
    |driver| {
        driver.run();
        driver.kill(0);
        driver.disk(0).lose();
        driver.start(0);
    },
];

#[derive(Serialize)]
struct Told {
    count: i64,
}

/// Counts the events of each key.
struct Count;

impl Algorithm for Count {
    type Event = Value;
    type Row = i64;
    type Notices = Option<Told>;

    fn apply(&self, _: Value, count: &mut i64, _: &mut Context<'_>) -> Result<Option<Told>, Reject> {
        *count += 1;
        Ok(Some(Told { count: *count }))
    }
}

fn counts(time_to_live: Option<Duration>) -> Topology {
    let store = Store::new("counts");
    let store = if let Some(time) = time_to_live { store.time_to_live(time) } else { store };
    let mut topology = Topology::new("counts");
    topology.source("events").aggregate(store, Count).to("told");
    topology
}

// === A time to live ===

/// The value was written before its store had a time to live. The late record adds to it, and must not end it: whether the
/// search for expired keys has met the value before the record comes is nobody's business.
#[test]
fn a_late_record_does_not_end_a_value_that_is_older_than_its_time_to_live() {
    let mut all = Vec::new();
    for between in BETWEEN {
        let mut driver = TestDriver::new(counts(None)).partitions(1);
        at(&mut driver, "events", "k", &json!({}), 50_000);
        driver.run();
        driver.stop(0);
        driver.release(counts(Some(MINUTE)));
        driver.start(0);
        at(&mut driver, "events", "other", &json!({}), 130_000);
        between(&mut driver);
        at(&mut driver, "events", "k", &json!({}), 65_000);
        driver.run();
        at(&mut driver, "events", "k", &json!({}), 131_000);
        all.push(told(&mut driver, "told", "k", "count"));
    }
    assert_eq!(all, vec![vec![Some(1), Some(2), Some(3)]; BETWEEN.len()], "in each way");
}

/// Adds to a row and counts in a store that forgets.
struct Tally {
    seen: Store<i64>,
}

impl Algorithm for Tally {
    type Event = Reading;
    type Row = Account;
    type Notices = Option<Told>;

    fn apply(
        &self,
        reading: Reading,
        account: &mut Account,
        context: &mut Context<'_>,
    ) -> Result<Option<Told>, Reject> {
        let key = context.key().to_string();
        account.score += reading.value;
        let mut seen = context.store(&self.seen)?;
        if reading.word == "forget" {
            seen.delete(&key);
            seen.delete("");
            return Ok(Some(Told { count: 0 }));
        }
        seen.add("", 1)?;
        Ok(Some(Told { count: seen.add(&key, 1)? }))
    }
}

fn tally(time_to_live: Duration) -> Topology {
    let seen = Store::new("seen").time_to_live(time_to_live);
    let mut topology = Topology::new("tally");
    topology.source("readings").update("accounts", Tally { seen: seen.clone() }).with_store(&seen).to("told");
    topology
}

fn refuse_above_100(driver: &mut TestDriver) {
    driver.database().check(&Table::new("accounts"), |values| match values {
        [row::Value::F64(score), ..] if *score > 100.0 => Err("score must not exceed 100".into()),
        _ => Ok(()),
    });
}

#[test]
fn a_record_that_the_database_refuses_moves_the_clock_however_it_is_batched() {
    for (number, between) in BETWEEN.iter().enumerate() {
        let mut driver = TestDriver::new(tally(Duration::from_secs(45))).partitions(1);
        for id in 0..2 {
            driver.row("accounts", id, Account { score: 0.0 });
        }
        refuse_above_100(&mut driver);
        driver.run();
        at(&mut driver, "readings", "0", &json!({"value": 1.0}), 0);
        between(&mut driver);
        at(&mut driver, "readings", "1", &json!({"value": 1e6}), 50_000);
        between(&mut driver);
        at(&mut driver, "readings", "0", &json!({"value": 1.0}), 30_000);
        between(&mut driver);
        at(&mut driver, "readings", "0", &json!({"value": 1.0}), 40_000);
        assert_eq!(told(&mut driver, "told", "0", "count"), [Some(1), Some(1), Some(2)], "way {number}");
        assert_eq!(codes(&mut driver, "readings-dlt"), ["constraint"]);
        assert_eq!(driver.row_of("accounts", 0).unwrap().version, 3);
        is_clean(&mut driver, &tally(Duration::from_secs(45)));
    }
}

/// Tombstones go through the outbox as such; the empty key is one like any other.
#[test]
fn what_a_step_with_rows_deletes_stays_deleted_whoever_publishes_it() {
    let mut driver = TestDriver::new(tally(MINUTE)).partitions(1);
    driver.row("accounts", 0, Account { score: 0.0 });
    driver.row("accounts", 1, Account { score: 0.0 });
    let words = [(0, ""), (0, ""), (1, ""), (0, "forget"), (1, ""), (1, ""), (0, "")];
    for (at_ms, (id, word)) in (0..).zip(words) {
        at(&mut driver, "readings", &i32::to_string(&id), &json!({"value": 1.0, "word": word}), at_ms);
        driver.run();
    }
    assert_eq!(told(&mut driver, "told", "0", "count"), [Some(1), Some(2), Some(0), Some(1)]);
    assert_eq!(driver.store("seen", ""), Some(json!(3)), "counted from nothing since");
    let changelog = driver.read_raw("tally-seen-changelog");
    assert_eq!(changelog.iter().filter(|found| found.value.is_none()).count(), 2);
    driver.crash_everywhere();
}

// === Tables ===

#[derive(Serialize, Deserialize)]
struct User {
    version: i64,
    #[serde(default)]
    about: String,
}

#[derive(Serialize)]
struct Met {
    n: i64,
    version: Option<i64>,
}

#[derive(Deserialize)]
struct Order {
    n: i64,
    #[serde(default)]
    needs: i64,
}

/// Tells which version an order met, and waits for the version that it needs.
struct Meet;

impl Algorithm for Meet {
    type Event = (Order, Option<User>);
    type Row = ();
    type Notices = Option<Met>;

    fn apply(
        &self,
        (order, user): (Order, Option<User>),
        (): &mut (),
        _: &mut Context<'_>,
    ) -> Result<Option<Met>, Reject> {
        let version = user.map(|user| user.version);
        if version.unwrap_or(0) < order.needs {
            return Err(Reject::retry("not-yet", "its user is too old"));
        }
        Ok(Some(Met { n: order.n, version }))
    }
}

fn shop(time_to_live: Option<Duration>) -> Topology {
    let store = Store::new("users");
    let store = if let Some(time) = time_to_live { store.time_to_live(time) } else { store };
    let mut topology = Topology::new("shop");
    topology.source("orders").left_join(TableTopic::new("users").kept_in(store)).process(Meet).to("met");
    topology
}

#[test]
fn a_table_value_that_is_older_than_the_tombstone_before_it_holds_by_its_offset_and_lives_by_its_time() {
    for (number, between) in BETWEEN.iter().enumerate() {
        let mut driver = TestDriver::new(shop(Some(MINUTE))).partitions(1);
        driver.run();
        at(&mut driver, "users", "k", &json!({"version": 1}), 100_000);
        between(&mut driver);
        at(&mut driver, "users", "k", &Value::Null, 110_000);
        between(&mut driver);
        at(&mut driver, "users", "k", &json!({"version": 2}), 95_000);
        driver.run();
        at(&mut driver, "orders", "k", &json!({"n": 1}), 120_000);
        between(&mut driver);
        at(&mut driver, "orders", "k", &json!({"n": 2}), 154_999);
        between(&mut driver);
        at(&mut driver, "orders", "k", &json!({"n": 3}), 155_000);
        assert_eq!(told(&mut driver, "met", "k", "version"), [Some(2), Some(2), None], "way {number}");
    }
}

#[test]
fn an_order_that_waits_for_its_user_keeps_its_place_and_holds_up_no_other_partition() {
    let mut driver = TestDriver::new(shop(None)).partitions(4);
    for user in ["a", "b", "c", "d"] {
        driver.send("users", user, json!({"version": 1}));
    }
    driver.run();
    driver.send("orders", "a", json!({"n": 1, "needs": 2}));
    driver.send("orders", "a", json!({"n": 2}));
    for user in ["b", "c", "d"] {
        driver.send("orders", user, json!({"n": 1}));
    }
    driver.step();
    driver.pass(Duration::from_millis(300));
    driver.step();
    driver.send("users", "a", json!({"version": 2}));
    driver.run();
    assert_eq!(told(&mut driver, "met", "a", "n"), [Some(1), Some(2)]);
    assert_eq!(told(&mut driver, "met", "a", "version"), [Some(2), Some(2)]);
    for user in ["b", "c", "d"] {
        assert_eq!(told(&mut driver, "met", user, "version"), [Some(1)]);
    }
    assert!(driver.read_raw("orders-dlt").is_empty());
    driver.crash_everywhere();
}

// === Values too large for a changelog ===

#[derive(Serialize, Deserialize, Default)]
struct Text(String);

/// Adds each word to the list that it has.
struct Collect;

impl Algorithm for Collect {
    type Event = String;
    type Row = Text;
    type Notices = Option<usize>;

    fn apply(&self, word: String, text: &mut Text, _: &mut Context<'_>) -> Result<Option<usize>, Reject> {
        text.0.push_str(&word);
        Ok(Some(text.0.len()))
    }
}

#[test]
fn a_value_too_large_for_its_changelog_is_its_records_dead_letter_and_changes_nothing() {
    let mut topology = Topology::new("texts");
    topology.source("words").aggregate("texts", Collect).to("lengths");
    topology.source("orders").left_join("users").process(Meet).to("met");
    let driver = TestDriver::new(topology).partitions(1).limit("texts-texts-changelog", 400);
    let mut driver = driver.limit("texts-users-changelog", 400);
    for length in [50, 50, 500, 20] {
        driver.send("words", "k", json!("x".repeat(length)));
    }
    for (version, length) in [(1, 10), (2, 500)] {
        driver.send("users", "k", json!({"version": version, "about": "x".repeat(length)}));
    }
    driver.run();
    driver.send("orders", "k", json!({"n": 1}));
    let lengths = driver.read_raw("lengths");
    let lengths: Vec<&[u8]> = lengths.iter().filter_map(|found| found.value.as_deref()).collect();
    assert_eq!(lengths, [b"50".as_slice(), b"100", b"120"]);
    assert_eq!(driver.store("texts", "k"), Some(json!("x".repeat(120))));
    assert_eq!(codes(&mut driver, "words-dlt"), ["too-large"]);
    assert_eq!(codes(&mut driver, "users-dlt"), ["too-large"]);
    assert_eq!(told(&mut driver, "met", "k", "version"), [Some(1)], "the key keeps the value that it had");
    driver.crash_everywhere();
}

// === A program that never says the same twice ===

/// Draws a number at each call: the row, the store and the notice are to have the same one.
struct Draw {
    calls: AtomicU32,
    drawn: Store<u32>,
}

#[derive(Serialize)]
struct Drawn {
    drawn: u32,
}

impl Algorithm for Draw {
    type Event = Reading;
    type Row = Account;
    type Notices = Option<Drawn>;

    fn apply(&self, _: Reading, account: &mut Account, context: &mut Context<'_>) -> Result<Option<Drawn>, Reject> {
        let drawn = self.calls.fetch_add(1, Ordering::Relaxed);
        account.score = f64::from(drawn);
        context.store(&self.drawn)?.put("last", &drawn)?;
        Ok(Some(Drawn { drawn }))
    }
}

#[test]
fn of_several_runs_of_one_record_row_store_and_notice_are_of_the_same_one() {
    let topology = || {
        let drawn = Store::new("drawn");
        let mut topology = Topology::new("draws");
        let draw = Draw { calls: AtomicU32::new(0), drawn: drawn.clone() };
        topology.source("readings").update("accounts", draw).with_store(&drawn).to("drawn");
        topology
    };
    for step in THROUGH_DATABASE {
        for nth in 1..4 {
            let mut driver = TestDriver::new(topology()).partitions(1);
            driver.row("accounts", 0, Account { score: 0.0 });
            driver.database().check(&Table::new("accounts"), |values| match values {
                [row::Value::F64(score), ..] if score.rem_euclid(5.0) > 3.5 => Err("not this one".into()),
                _ => Ok(()),
            });
            driver.crash_at(step, nth);
            for round in 0..4 {
                for _ in 0..5 {
                    driver.send("readings", 0, json!({"value": f64::from(round)}));
                }
                driver.run();
            }
            let told = told(&mut driver, "drawn", "0", "drawn");
            let dead = driver.read_raw("readings-dlt").len();
            let what = format!("a crash after {step:?} number {nth}");
            assert_eq!(told.len() + dead, 20, "{what}");
            let last = told.last().unwrap().unwrap();
            let row = driver.row_of("accounts", 0).unwrap();
            assert_eq!(row.version, i64::try_from(told.len()).unwrap(), "{what}");
            assert_eq!(row.values, vec![row::Value::F64(f64::from(i32::try_from(last).unwrap()))], "{what}");
            assert_eq!(driver.store("drawn", "last"), Some(json!(last)), "{what}");
            is_clean(&mut driver, &topology());
        }
    }
}

// === Dead letters as a source ===

/// Adds to an account; the word "reject" is taken by nobody but the second try.
struct Try {
    is_second: bool,
}

impl Algorithm for Try {
    type Event = Reading;
    type Row = Account;
    type Notices = Option<Change>;

    fn apply(&self, reading: Reading, account: &mut Account, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        if (reading.word == "reject" && !self.is_second) || reading.word == "never" {
            return Err(Reject::new("not this one"));
        }
        account.score += reading.value;
        Ok(Some(Change { magnitude: reading.value, score: account.score }))
    }
}

fn second_tries() -> Topology {
    let mut topology = Topology::new("tries");
    topology.source("readings").update("accounts", Try { is_second: false }).to("changes");
    topology.source("readings-dlt").update("accounts", Try { is_second: true }).to("late-changes");
    topology
}

/// A crash leaves aborted dead letters behind, so that the offsets in the ids differ: judged by the results alone.
#[test]
fn dead_letters_that_a_second_step_reads_change_their_row_once_and_those_it_rejects_go_on() {
    assert_eq!(second_tries().validate(), Ok(()));
    for (step, nth) in THROUGH_DATABASE.into_iter().flat_map(|step| (1..6).map(move |nth| (step, nth))) {
        let mut driver = TestDriver::new(second_tries()).partitions(2).instances(2);
        for id in 0..4 {
            driver.row("accounts", id, Account { score: 0.0 });
        }
        driver.crash_at(step, nth);
        for word in ["", "reject", "", "never"] {
            for id in 0..4 {
                driver.send("readings", id, json!({"value": 1.0, "word": word}));
            }
        }
        driver.send_raw("readings", Some(b"0"), Some(b"no json"));
        driver.send_raw("readings", None, Some(b"{}"));
        driver.run();
        let what = format!("a crash after {step:?} number {nth}");
        for id in 0..4 {
            let row = driver.row_of("accounts", id).unwrap();
            assert_eq!((row.version, row.values), (3, vec![row::Value::F64(3.0)]), "{what}");
        }
        assert_eq!((driver.read("changes").len(), driver.read("late-changes").len()), (8, 4), "{what}");
        let dead = driver.read_raw("readings-dlt-dlt");
        assert_eq!(dead.len(), 6, "{what}");
        assert!(dead.iter().all(|found| found.header("kafka_dlt-original-topic") == Some("readings-dlt")), "{what}");
        is_clean(&mut driver, &second_tries());
    }
}

#[test]
fn dead_letters_that_would_go_back_to_their_source_are_refused() {
    let mut topology = second_tries();
    topology.source("readings-dlt-dlt").update("accounts", Try { is_second: true }).to("readings");
    let errors = topology.validate().unwrap_err();
    assert!(
        errors.iter().any(|error| error.contains("readings -> readings-dlt -> readings-dlt-dlt -> readings")),
        "{errors:?}"
    );
}

// === Re-keying ===

#[test]
fn a_record_that_goes_to_one_key_twice_counts_twice_whatever_dies() {
    let mut topology = Topology::new("sides");
    topology
        .source("transfers")
        .keys_by("sides", |transfer: &(String, String)| [transfer.0.clone(), transfer.1.clone()])
        .aggregate("sides", Count)
        .to("told");
    let mut driver = TestDriver::new(topology).partitions(2).instances(2);
    for (from, to) in [("a", "b"), ("a", "a"), ("", "b")] {
        driver.send("transfers", "k", json!([from, to]));
    }
    driver.send_raw("transfers", Some(b"k"), None);
    assert_eq!(told(&mut driver, "told", "a", "count"), [Some(1), Some(2), Some(3)]);
    assert_eq!(told(&mut driver, "told", "b", "count"), [Some(1), Some(2)]);
    assert_eq!(told(&mut driver, "told", "", "count"), [Some(1)], "an empty key is a key");
    assert_eq!(codes(&mut driver, "transfers-dlt"), ["empty-value"], "a tombstone has no event to make a key of");
    driver.crash_everywhere();
}

// === Contradictory declarations ===

#[test]
fn each_step_that_writes_a_topic_must_spell_its_keys_as_the_topics_reader_does() {
    for is_first in [true, false] {
        let mut topology = Topology::new("merged");
        let (first, second) =
            if is_first { (KeyType::I64BigEndian, KeyType::Text) } else { (KeyType::Text, KeyType::I64BigEndian) };
        topology.source("a").aggregate("sums-a", Count).keys(first).to("merged");
        topology.source("b").aggregate("sums-b", Count).keys(second).to("merged");
        topology.source("merged").aggregate("all", Count).done();
        let errors = topology.validate().err().unwrap_or_default();
        let source = if is_first { "a" } else { "b" };
        let expected = format!("topic merged: the step that reads {source} writes its keys as");
        assert!(errors.iter().any(|error| error.contains(&expected)), "{errors:?}");
    }
}

#[test]
fn a_partitioner_declared_of_what_the_pipeline_writes_itself_must_be_the_one_it_writes_by() {
    let mut rekeyed = Topology::new("shop");
    rekeyed
        .source("events")
        .key_by("by-user", |event: &Value| event["user"].as_str().unwrap_or_default().to_owned())
        .declared(Declared::crc32(4).on_violation(OnViolation::Warn))
        .left_join(TableTopic::new("users").declared(Declared::crc32(4)))
        .process(Meet)
        .to("met");
    let mut chained = Topology::new("chain");
    chained.source("events").aggregate("first", Count).to("between");
    chained.source("between").declared(Declared::crc32(4)).aggregate("second", Count).done();
    for (topology, topic) in [(rekeyed, "shop-by-user-repartition"), (chained, "between")] {
        let errors = topology.validate().err().unwrap_or_default();
        assert!(errors.iter().any(|error| error.contains(topic) && error.contains("murmur2")), "{topic}: {errors:?}");
    }
}

#[test]
fn a_topic_joined_with_itself_is_refused_with_a_way_out() {
    let mut topology = Topology::new("self");
    topology.source("orders").left_join("orders").process(Meet).to("met");
    let errors = topology.validate().unwrap_err();
    assert!(
        errors.iter().any(|error| error.contains("topic orders: is a source twice") && error.contains("in a store")),
        "{errors:?}"
    );
}
