//! A panic in anything that a user wrote is the dead letter of its record: state and rows stay as they were, and the
//! process goes on.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use std::cell::Cell;
use std::sync::Arc;
use tidegate::flow::{Algorithm, Context, Declared, KeyHash, OnViolation, Reject, Store, Topology};
use tidegate::testing::TestDriver;

/// The place in which the record wants a panic.
#[derive(Clone, Serialize)]
struct Bomb(String);

impl Bomb {
    fn explode_in(&self, place: &str) {
        assert!(self.0 != place, "in {place}, as the record asked");
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bomb = Self(String::deserialize(deserializer)?);
        bomb.explode_in("event");
        Ok(bomb)
    }
}

#[derive(Deserialize)]
struct Event {
    at: Bomb,
}

struct Notice(Bomb);

impl Serialize for Notice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.explode_in("notice");
        self.0.serialize(serializer)
    }
}

thread_local! {
    static DEFAULT_IS_ARMED: Cell<bool> = const { Cell::new(false) };
}

/// A row and a state. A count of 100 cannot be written, one of 200 not be read.
#[derive(Serialize, Deserialize)]
struct Counted {
    #[serde(serialize_with = "write", deserialize_with = "read")]
    count: i64,
}

impl Default for Counted {
    fn default() -> Self {
        assert!(!DEFAULT_IS_ARMED.get(), "in the default, as the test asked");
        Self { count: 0 }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn write<S: Serializer>(count: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    assert!(*count != 100, "in the row's Serialize, as the record asked");
    serializer.serialize_i64(*count)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let count = i64::deserialize(deserializer)?;
    assert!(count != 200, "in the row's Deserialize, as the record asked");
    Ok(count)
}

/// Counts each record and publishes the count.
struct Count;

impl Algorithm for Count {
    type Event = Event;
    type Row = Counted;
    type Notices = Box<dyn Iterator<Item = Notice>>;

    fn apply(&self, event: Event, row: &mut Counted, _: &mut Context<'_>) -> Result<Self::Notices, Reject> {
        event.at.explode_in("apply");
        match event.at.0.as_str() {
            "write" => row.count = 100,
            "unreadable" => row.count = 200,
            _ => row.count += 1,
        }
        Ok(Box::new(std::iter::once_with(move || {
            event.at.explode_in("iterator");
            Notice(event.at)
        })))
    }
}

fn magnitude(notice: &Notice) -> f64 {
    notice.0.explode_in("magnitude");
    1.0
}

fn passes(notice: &Notice) -> bool {
    notice.0.explode_in("filter");
    true
}

const PLACES: [&str; 7] = ["event", "apply", "write", "iterator", "filter", "magnitude", "notice"];

fn send(driver: &mut TestDriver, at: &str) {
    driver.send("events", 7, json!({"at": at}));
}

/// The messages of the dead letters; each has the code `panic`.
fn panics(driver: &mut TestDriver) -> Vec<String> {
    let dead = driver.read_raw("events-dlt");
    let message = |found: &tidegate::ports::history::Found| {
        assert_eq!(found.header("kafka_dlt-exception-fqcn"), Some("panic"));
        found.header("kafka_dlt-exception-message").unwrap().to_owned()
    };
    dead.iter().map(message).collect()
}

#[test]
fn a_panic_at_any_place_of_a_step_with_rows_is_a_dead_letter() {
    let mut topology = Topology::new("net");
    topology.source("events").update("counted", Count).filter(passes).at_least("size", 0.5, magnitude).to("told");
    let mut driver = TestDriver::new(topology);
    driver.row("counted", 7, Counted { count: 0 });
    for place in PLACES {
        send(&mut driver, "nowhere");
        send(&mut driver, place);
    }
    assert_eq!(panics(&mut driver).len(), PLACES.len());
    assert_eq!(driver.read_raw("told").len(), PLACES.len(), "each record between them is told of");
    assert_eq!(driver.row_of("counted", 7).unwrap().version, 7, "and no other has touched the row");
    assert!(panics(&mut driver).iter().any(|message| message.contains("in filter, as the record asked")));
    assert_eq!(driver.halts(), []);
    driver.crash_everywhere();
    // A row that its own type cannot read.
    send(&mut driver, "unreadable");
    send(&mut driver, "nowhere");
    assert_eq!(panics(&mut driver).len(), PLACES.len() + 1);
    assert_eq!(driver.row_of("counted", 7).unwrap().version, 8);
}

#[test]
fn a_panic_at_any_place_of_an_aggregate_is_a_dead_letter() {
    let mut topology = Topology::new("net");
    topology.source("events").aggregate("counted", Count).filter(passes).at_least("size", 0.5, magnitude).to("told");
    let mut driver = TestDriver::new(topology);
    for place in PLACES {
        send(&mut driver, "nowhere");
        send(&mut driver, place);
    }
    assert_eq!(panics(&mut driver).len(), PLACES.len());
    assert_eq!(driver.read_raw("told").len(), PLACES.len());
    assert_eq!(driver.store("counted", "7").unwrap()["count"], 7);
    DEFAULT_IS_ARMED.set(true);
    driver.send("events", 8, json!({"at": "nowhere"}));
    send(&mut driver, "unreadable");
    send(&mut driver, "nowhere");
    assert_eq!(panics(&mut driver).len(), PLACES.len() + 2, "the default, and a state that its type cannot read");
    DEFAULT_IS_ARMED.set(false);
    driver.send("events", 8, json!({"at": "nowhere"}));
    assert_eq!(driver.store("counted", "8").unwrap()["count"], 1);
    assert_eq!(driver.halts(), []);
}

/// Counts in a store of its own, which the release before kept as version 1.
struct Upgraded(Store<i64>);

impl Algorithm for Upgraded {
    type Event = i64;
    type Row = ();
    type Notices = Option<i64>;

    fn apply(&self, event: i64, (): &mut (), context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        let key = context.key().to_string();
        let mut counts = context.store(&self.0)?;
        let mut rows = counts.prefix("", 10)?;
        let sum = counts.add(key, event)?;
        Ok(rows.pop().map(|_| sum))
    }
}

fn counting(store: Store<i64>) -> Topology {
    let mut topology = Topology::new("net");
    topology.source("events").process(Upgraded(store.clone())).with_store(&store).to("told");
    topology
}

#[test]
fn a_panic_in_an_upgrade_is_a_dead_letter_of_the_record_that_reads() {
    let store = Store::new("counts").version(2, |_, json| {
        assert!(json != b"1", "in the upgrade, as the test asked");
        serde_json::from_slice(json).map_err(|error| error.to_string())
    });
    let mut driver = TestDriver::new(counting(store));
    driver.run();
    // Values that the release before left in the changelog.
    let changelog = tidegate::flow::record::TopicName::parse("net-counts-changelog").unwrap();
    let place = tidegate::flow::record::TopicPartition::new(changelog, tidegate::flow::record::Partition(0));
    driver.stop(0);
    let time = tidegate::flow::record::Timestamp(0);
    for (key, value) in [(b"7", b"\x01\x011"), (b"8", b"\x01\x012")] {
        driver.log().produce_to(&place, Some(key), Some(value), &[], time).unwrap();
    }
    driver.disk(0).lose();
    driver.start(0);
    driver.send_raw("events", Some(b"7"), Some(b"1"));
    assert_eq!(panics(&mut driver), ["the pipeline's code panicked: in the upgrade, as the test asked"]);
    assert_eq!(driver.halts(), []);
}

#[test]
fn a_panic_in_a_key_an_event_or_a_hash_of_the_users_own_is_a_dead_letter() {
    let mut topology = Topology::new("net");
    topology
        .source("events")
        .keys_by("by-at", |event: &Event| {
            let at = event.at.clone();
            std::iter::once_with(move || {
                at.explode_in("key");
                7
            })
        })
        .aggregate("counted", Count)
        .done();
    let mut driver = TestDriver::new(topology);
    for at in ["nowhere", "key", "nowhere"] {
        driver.send_raw("events", None, Some(json!({"at": at}).to_string().as_bytes()));
    }
    assert_eq!(panics(&mut driver).len(), 1);
    assert_eq!(driver.store("counted", "7").unwrap()["count"], 2);

    let mut topology = Topology::new("net");
    let event = |event: Event| {
        event.at.explode_in("events");
        event
    };
    topology.source("events").events(event).and("others", event).aggregate("counted", Count).done();
    let mut driver = TestDriver::new(topology);
    for at in ["nowhere", "events", "nowhere"] {
        send(&mut driver, at);
    }
    assert_eq!(panics(&mut driver).len(), 1);
    assert_eq!(driver.store("counted", "7").unwrap()["count"], 2);

    let hash = KeyHash::Custom("ours", Arc::new(|key, _| if key == b"66" { panic!("in the hash") } else { 0 }));
    for policy in [OnViolation::Stop, OnViolation::Warn] {
        let declared = Declared::new(hash.clone(), 1).on_violation(policy);
        let mut keyed = Topology::new("net");
        keyed.source("events").declared(declared.clone()).aggregate("counted", Count).to("told");
        let mut rows = Topology::new("net");
        rows.source("events").declared(declared).update("counted", Count).to("told");
        for topology in [keyed, rows] {
            let has_rows = !topology.tables().is_empty();
            let mut driver = TestDriver::new(topology);
            if has_rows {
                driver.row("counted", 7, Counted { count: 0 });
                driver.row("counted", 66, Counted { count: 0 });
            }
            for key in [7, 66, 7] {
                driver.send("events", key, json!({"at": "nowhere"}));
            }
            assert_eq!(panics(&mut driver), ["the pipeline's code panicked: in the hash"]);
            assert_eq!(driver.read_raw("told").len(), 2);
        }
    }
}
