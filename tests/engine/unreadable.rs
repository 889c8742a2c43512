//! Records that cannot be read, and tombstones, as their source declares.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::flow::{Algorithm, Context, Format, OnUnreadable, Reject, Store, TableTopic, Tombstones, Topology};
use tidegate::testing::{Sent, TestDriver};

#[derive(Serialize, Deserialize, Default)]
struct Total {
    total: i64,
}

/// Adds up; a tombstone sets the sum to nothing.
struct Sum;

impl Algorithm for Sum {
    type Event = Option<i64>;
    type Row = Total;
    type Notices = Option<i64>;

    fn apply(&self, n: Option<i64>, row: &mut Total, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        row.total = n.map_or(0, |n| row.total + n);
        Ok(Some(row.total))
    }
}

/// Numbers in lines of text, which it takes apart itself.
struct Lines;

impl Algorithm for Lines {
    type Event = String;
    type Row = Total;
    type Notices = Option<i64>;

    fn apply(&self, line: String, row: &mut Total, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        row.total += line.parse::<i64>().map_err(|error| Reject::unreadable("bad-number", error.to_string()))?;
        Ok(Some(row.total))
    }
}

/// Pairs an event with its table's value.
struct Pair;

impl Algorithm for Pair {
    type Event = (i64, i64);
    type Row = ();
    type Notices = Option<Value>;

    fn apply(&self, pair: (i64, i64), (): &mut (), _: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        Ok(Some(json!(pair)))
    }
}

/// The values of a topic.
fn values(driver: &mut TestDriver, topic: &str) -> Vec<Value> {
    driver.read_keyed(topic).into_iter().map(|(_, value)| value).collect()
}

/// A step with rows, and one without, whose sources say the same of records that cannot be read.
fn both(policy: OnUnreadable, tombstones: Tombstones) -> [Topology; 2] {
    let (mut rows, mut log) = (Topology::new("rows"), Topology::new("log"));
    rows.source("in").tombstones(tombstones).on_unreadable(policy).update("t", Sum).to("out");
    log.source("in").tombstones(tombstones).on_unreadable(policy).aggregate("t", Sum).to("out");
    [rows, log]
}

/// A driver with a row 7, or without rows.
fn driver(topology: Topology) -> TestDriver {
    let has_rows = !topology.tables().is_empty();
    let mut driver = TestDriver::new(topology);
    if has_rows {
        driver.row("t", 7, Total { total: 0 });
    }
    driver
}

/// Records that cannot be read: value, tombstone, no key.
const BAD: [(Option<&[u8]>, Option<&[u8]>, &str); 3] =
    [(Some(b"7"), Some(b"{"), "bad-json"), (Some(b"7"), None, "empty-value"), (None, Some(b"1"), "null-key")];

#[test]
fn a_record_that_cannot_be_read_is_skipped_and_counted_where_the_source_says_so() {
    for topology in both(OnUnreadable::Skip, Tombstones::Unreadable) {
        let mut driver = driver(topology);
        driver.send("in", 7, 1);
        BAD.iter().for_each(|(key, value, _)| driver.send_raw("in", *key, *value));
        driver.send("in", 7, 2);
        assert_eq!(values(&mut driver, "out"), [json!(1), json!(3)]);
        assert!(driver.read_raw("in-dlt").is_empty() && driver.halts().is_empty());
        assert_eq!(driver.unreadable(), [("bad-json".into(), 1), ("empty-value".into(), 1), ("null-key".into(), 1)]);
        driver.crash_everywhere();
    }
}

#[test]
fn a_record_that_cannot_be_read_is_a_dead_letter_where_nothing_is_said() {
    for topology in both(OnUnreadable::default(), Tombstones::default()) {
        let mut driver = driver(topology);
        BAD.iter().for_each(|(key, value, _)| driver.send_raw("in", *key, *value));
        driver.send("in", 7, 2);
        assert_eq!(values(&mut driver, "out"), [json!(2)]);
        let code = |headers: &[tidegate::flow::record::Header]| {
            let code = headers.iter().find(|header| header.name == "kafka_dlt-exception-fqcn").unwrap();
            String::from_utf8(code.value.clone().unwrap()).unwrap()
        };
        let codes: Vec<String> = driver.read_raw("in-dlt").iter().map(|found| code(&found.headers)).collect();
        assert_eq!(codes, BAD.map(|(_, _, code)| code.to_owned()));
        assert!(driver.unreadable().is_empty());
    }
}

#[test]
fn a_record_that_cannot_be_read_halts_its_partition_where_the_source_says_so() {
    for (key, value, code) in BAD {
        for topology in both(OnUnreadable::Halt, Tombstones::Unreadable) {
            let mut driver = driver(topology);
            driver.send("in", 7, 1);
            driver.send_raw("in", key, value);
            driver.send("in", 7, 2);
            driver.run();
            driver.advance(Duration::from_secs(1)); // a batch without rows gathers for a while
            assert_eq!(values(&mut driver, "out"), [json!(1)], "{code}: what is before it goes out");
            let halts = driver.halts();
            assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::Unreadable]);
            assert!(halts[0].detail.starts_with("offset 1: ") && halts[0].detail.contains(code), "{}", halts[0].detail);
            let commands: Vec<&String> = halts[0].choices.iter().filter_map(|choice| choice.command.as_ref()).collect();
            assert!(commands[0].ends_with("skip in-0 --to 2"), "{commands:?}");
            assert!(driver.read_raw("in-dlt").is_empty());
        }
    }
}

#[test]
fn tombstones_are_events_or_skipped_where_the_source_says_so() {
    for (tombstones, told) in [(Tombstones::Event, vec![3, 0, 2]), (Tombstones::Skip, vec![3, 5])] {
        for topology in both(OnUnreadable::Halt, tombstones) {
            let mut driver = driver(topology);
            driver.send("in", 7, 3);
            driver.send_raw("in", Some(b"7"), None);
            driver.send("in", 7, 2);
            let told: Vec<Value> = told.iter().map(|n| json!(n)).collect();
            assert_eq!(values(&mut driver, "out"), told, "{tombstones:?}");
            assert!(driver.halts().is_empty() && driver.unreadable().is_empty());
            driver.crash_everywhere();
        }
    }
}

#[test]
fn an_algorithm_that_takes_its_values_apart_itself_keeps_to_the_policy() {
    let mut topology = Topology::new("lines");
    let source = topology.source("in").format(Format::Text).on_unreadable(OnUnreadable::Skip);
    source.aggregate("sums", Lines).to("out");
    let mut driver = TestDriver::new(topology);
    for line in ["1", "one", "2"] {
        driver.send("in", 7, line);
    }
    assert_eq!(values(&mut driver, "out"), [json!(1), json!(3)]);
    assert_eq!(driver.unreadable(), [("bad-number".into(), 1)]);
}

#[test]
fn the_policy_and_the_tombstones_go_on_behind_a_change_of_keys_and_tables_have_their_own() {
    let mut topology = Topology::new("keyed");
    let source = topology.source("in").tombstones(Tombstones::Event).on_unreadable(OnUnreadable::Skip);
    let keyed =
        source.keys_by("by-all", |event: &Option<i64>| if event.is_some() { vec!["a"] } else { vec!["a", "b"] });
    keyed.aggregate("sums", Sum).to("out");
    let users = TableTopic::<i64>::new("users").on_unreadable(OnUnreadable::Skip);
    topology.source("orders").join(users).process(Pair).to("pairs");
    let mut driver = TestDriver::new(topology);
    driver.send("in", "x", 5);
    driver.send_raw("in", Some(b"x"), Some(b"{"));
    driver.run();
    driver.send_raw("in", Some(b"x"), None);
    driver.send("users", "u", 1);
    driver.send_raw("users", Some(b"u"), Some(b"{"));
    driver.run();
    driver.send("orders", "u", 2);
    driver.send_record("orders", Sent { key: Some(b"u".to_vec()), value: Some(b"{".to_vec()), ..Sent::default() });
    driver.advance(Duration::from_secs(1));
    assert_eq!(values(&mut driver, "out"), [json!(5), json!(0), json!(0)]);
    assert_eq!(values(&mut driver, "pairs"), [json!([2, 1])], "the table keeps the value that it had");
    assert_eq!(driver.read_raw("orders-dlt").len(), 1, "a dead letter, where nothing is said");
    assert!(driver.read_raw("in-dlt").is_empty() && driver.read_raw("users-dlt").is_empty());
}

#[test]
fn a_record_of_a_table_that_cannot_be_read_halts_its_partition_where_the_table_says_so() {
    for (key, value, code) in [(Some(&b"u"[..]), b"{", "bad-json"), (None, b"1", "null-key")] {
        let mut topology = Topology::new("shop");
        let users = TableTopic::<i64>::new("users").on_unreadable(OnUnreadable::Halt);
        topology.source("orders").join(users).process(Pair).to("pairs");
        let mut driver = TestDriver::new(topology).partitions(1);
        driver.send("users", "u", 1);
        driver.send("orders", "u", 2);
        driver.run();
        driver.send_raw("users", key, Some(value));
        driver.send("orders", "u", 3);
        driver.advance(Duration::from_secs(1));
        assert_eq!(values(&mut driver, "pairs"), [json!([2, 1])], "no order meets what is out of date");
        let halts = driver.halts();
        assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::Unreadable]);
        assert!(halts[0].detail.starts_with("offset 1: ") && halts[0].detail.contains(code), "{}", halts[0].detail);
        let commands: Vec<&String> = halts[0].choices.iter().filter_map(|choice| choice.command.as_ref()).collect();
        assert!(commands[0].ends_with("skip users-0 --to 2"), "{commands:?}");
        assert!(driver.read_raw("users-dlt").is_empty());
    }
}

/// What Kafka Streams does with them in an aggregate and an inner join.
#[test]
fn records_without_a_key_are_skipped_and_counted_in_a_join_too_where_its_source_says_so() {
    let mut topology = Topology::new("shop");
    topology.source("orders").on_unreadable(OnUnreadable::Skip).join("users").process(Pair).to("pairs");
    let mut driver = TestDriver::new(topology).partitions(1);
    driver.send("users", "u", 1);
    driver.send_raw("orders", None, Some(b"2"));
    driver.send_raw("orders", Some(b"u"), None);
    driver.send("orders", "u", 3);
    assert_eq!(values(&mut driver, "pairs"), [json!([3, 1])]);
    assert_eq!(driver.unreadable(), [("empty-value".into(), 1), ("null-key".into(), 1)]);
    assert!(driver.read_raw("orders-dlt").is_empty());
}

#[test]
fn an_event_that_no_tombstone_can_be_is_refused_at_the_start() {
    let mut topology = Topology::new("p");
    topology.source("in").format(Format::Text).tombstones(Tombstones::Event).aggregate("sums", Lines).done();
    let errors = topology.validate().unwrap_err();
    assert!(
        errors[0].starts_with("source in: its tombstones are events") && errors[0].contains("an Option"),
        "{errors:?}"
    );
}

/// A value of which serde leaves out what it does not take for a default: the number always, the words where there are none.
#[derive(Serialize, Deserialize, Default)]
struct Forgetful {
    #[serde(skip_serializing_if = "is_told_to_forget")]
    number: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    words: Vec<String>,
}

fn is_told_to_forget(number: &i64) -> bool {
    *number < 0
}

/// Keeps what it is told, under the record's key and in a store of its own.
struct Keep {
    own: Store<Forgetful>,
}

/// A number, words, and whether they are for the store of its own.
#[derive(Deserialize)]
struct Said(i64, Vec<String>, bool);

impl Algorithm for Keep {
    type Event = Said;
    type Row = Forgetful;
    type Notices = Option<i64>;

    fn apply(&self, said: Said, row: &mut Forgetful, context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        let Said(number, words, is_for_own) = said;
        let said = Forgetful { number, words };
        if is_for_own {
            let key = context.key().to_string();
            context.store(&self.own)?.put(key, &said)?;
            row.words = vec!["own".into()];
        } else {
            *row = said;
        }
        Ok(Some(row.number))
    }
}

/// The type can be read where it has some words. Every value is read back here, in a debug build.
#[test]
fn a_value_that_its_type_does_not_read_back_is_a_dead_letter_of_the_record_that_writes_it() {
    let mut topology = Topology::new("p");
    let own = Store::new("own");
    let keep = Keep { own: own.clone() };
    topology.source("said").aggregate("kept", keep).with_store(&own).to("told");
    let mut driver = TestDriver::new(topology);
    for said in [
        json!([1, ["a"], false]),
        json!([-1, ["a"], false]),
        json!([2, [], false]),
        json!([3, [], true]),
        json!([4, ["b"], false]),
    ] {
        driver.send("said", "k", said);
    }
    assert_eq!(values(&mut driver, "told"), [json!(1), json!(4)]);
    assert_eq!(driver.store("kept", "k"), Some(json!({"number": 4, "words": ["b"]})));
    let letters = driver.read_raw("said-dlt");
    let told: Vec<(&str, bool)> = letters
        .iter()
        .map(|letter| {
            let message = letter.header("kafka_dlt-exception-message").unwrap();
            let says = |words: &str| message.contains(words);
            let is_whole =
                says("Forgetful does not read the value that it wrote (missing field `") && says("#[serde(default)]");
            (
                letter.header("kafka_dlt-exception-fqcn").unwrap(),
                is_whole && (says("store kept: ") || says("store own: ")),
            )
        })
        .collect();
    assert_eq!(told, [("not-readable", true); 3]);
    assert!(driver.halts().is_empty());
    driver.crash_everywhere();
}
