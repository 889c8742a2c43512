//! A record that kills the process becomes a dead letter after so many deaths, and nothing else comes to harm.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::engine::repair::plan::{Action, Outputs};
use tidegate::engine::repair::{Repair, Tools};
use tidegate::flow::record::{Partition, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Declared, KeyHash, OnViolation, Reject, Store, Topology};
use tidegate::testing::{TestDriver, die};

#[derive(Deserialize)]
struct Event {
    kills: bool,
}

#[derive(Serialize, Deserialize, Default)]
struct Count {
    n: i64,
}

/// Deaths that a record has caused, and the number that it shall cause.
#[derive(Clone)]
struct Deaths {
    count: Arc<AtomicUsize>,
    most: usize,
}

impl Deaths {
    fn new(most: usize) -> Self {
        Self { count: Arc::default(), most }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn maybe_die(&self) {
        if self.count() < self.most {
            self.count.fetch_add(1, Ordering::Relaxed);
            die();
        }
    }
}

struct Counting(Deaths);

impl Algorithm for Counting {
    type Event = Event;
    type Row = Count;
    type Notices = Option<i64>;

    fn apply(&self, event: Event, row: &mut Count, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        if event.kills {
            self.0.maybe_die();
        }
        row.n += 1;
        Ok(Some(row.n))
    }
}

const ALWAYS: usize = usize::MAX;

fn with_rows(deaths: &Deaths) -> Topology {
    let mut topology = Topology::new("counting");
    topology.source("events").update("counts", Counting(deaths.clone())).to("counted");
    topology
}

fn with_state(deaths: &Deaths) -> Topology {
    let mut topology = Topology::new("counting");
    topology.source("events").aggregate(Store::new("counts"), Counting(deaths.clone())).to("counted");
    topology
}

fn driver(topology: Topology, instances: usize) -> TestDriver {
    let has_rows = topology.sub_topologies()[0].table().is_some();
    let mut driver = TestDriver::new(topology).partitions(4).instances(instances);
    if has_rows {
        (0..8).for_each(|id| driver.row("counts", id, Count::default()));
    }
    driver
}

/// Three records a key; the second one of key 5 kills.
fn send(driver: &mut TestDriver) {
    (0..3).for_each(|turn| send_turn(driver, turn));
}

fn send_turn(driver: &mut TestDriver, turn: u32) {
    (0..8).for_each(|id| driver.send("events", id, json!({"kills": turn == 1 && id == 5})));
}

fn codes(driver: &mut TestDriver) -> Vec<String> {
    let dead = driver.read_raw("events-dlt");
    dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

/// Every record has its effect, but for the one that killed.
fn is_harmless(driver: &mut TestDriver, dead_letters: &[&str]) {
    assert_eq!(codes(driver), dead_letters);
    let mut counted = driver.read("counted");
    counted.sort_by_key(|(id, n)| (*id, n.as_i64()));
    let of = |id: i64| if id == 5 { 3 - dead_letters.len() } else { 3 };
    let expected: Vec<_> = (0..8).flat_map(|id| (1..=of(id)).map(move |n| (id, json!(n)))).collect();
    assert_eq!(counted, expected);
    assert!(driver.halts().is_empty());
}

#[test]
fn after_three_deaths_over_one_record_it_is_a_dead_letter_and_every_other_one_has_its_effect() {
    for topology in [with_rows, with_state] {
        let deaths = Deaths::new(ALWAYS);
        let mut driver = driver(topology(&deaths), 1);
        send(&mut driver);
        is_harmless(&mut driver, &["kills-the-process"]);
        assert_eq!(deaths.count(), 3);
        let dead_letter = &driver.read_raw("events-dlt")[0];
        let message = dead_letter.header("kafka_dlt-exception-message").unwrap();
        assert_eq!(message, "3 processes died while the pipeline's code had this record in hand");
        driver.crash_everywhere();
    }
}

/// A replay decides records below K once more: that K has passed one tells nothing of it then.
#[test]
fn a_record_that_kills_in_a_replay_is_a_dead_letter_after_three_deaths_too() {
    let deaths = Deaths::new(ALWAYS);
    let topology = with_rows(&deaths);
    let mut driver = driver(topology.clone(), 1);
    send_turn(&mut driver, 0);
    driver.run();
    let backup = driver.database().snapshot();
    (1..3).for_each(|turn| send_turn(&mut driver, turn));
    is_harmless(&mut driver, &["kills-the-process"]);
    driver.stop(0);
    driver.database().restore(&backup);
    let (name, log, database) = (topology.name().to_owned(), driver.log().clone(), driver.database().clone());
    let history = log.history(&name);
    let sink = log.clone();
    let mut repair = Repair::new(
        topology,
        "ada@test".into(),
        Tools {
            positions: Some(Box::new(database.positions(&name))),
            rows: Box::new(database.rows(&name)),
            group: log.group(&name),
            offsets: Box::new(log.offsets(&name)),
            history: Box::new(history),
            sink: Box::new(move || Ok(Box::new(sink.sink("repair")))),
        },
    );
    let action = Action::Replay { outputs: Outputs::Suppress };
    for partition in 0..4 {
        let source = TopicPartition::new(TopicName::parse("events").unwrap(), Partition(partition));
        let plan = repair.plan(&source, action).unwrap().unwrap();
        repair.carry_out(&source, action, &plan, &mut |_| Ok(())).unwrap();
    }
    driver.start(0);
    driver.run();
    assert_eq!(deaths.count(), 6);
    is_harmless(&mut driver, &["kills-the-process"]);
}

#[test]
fn each_instance_counts_for_itself_and_the_number_is_a_setting() {
    let deaths = Deaths::new(ALWAYS);
    let topology = with_rows(&deaths);
    let mut driver = TestDriver::new(topology).partitions(4).instances(3).settings(|settings| settings.deaths_max = 2);
    (0..8).for_each(|id| driver.row("counts", id, Count::default()));
    send(&mut driver);
    is_harmless(&mut driver, &["kills-the-process"]);
    assert!((2..=6).contains(&deaths.count()), "{}", deaths.count());
}

#[test]
fn a_record_that_was_in_hand_by_chance_is_decided_and_its_deaths_are_forgotten() {
    for topology in [with_rows, with_state] {
        let deaths = Deaths::new(2);
        let mut driver = driver(topology(&deaths), 1);
        send(&mut driver);
        is_harmless(&mut driver, &[]);
        assert_eq!(deaths.count(), 2);
        let left = tidegate::ports::note::Note::suspects(&driver.disk(0));
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn with_its_disk_an_instance_loses_count_and_begins_again() {
    let deaths = Deaths::new(ALWAYS);
    let mut driver = driver(with_rows(&deaths), 1);
    driver.leave_dead();
    send(&mut driver);
    for expected in 1..=2 {
        driver.run();
        assert_eq!(deaths.count(), expected);
        driver.start(0);
    }
    driver.kill(0);
    driver.disk(0).lose();
    for expected in 2..=5 {
        driver.start(0);
        driver.run();
        assert_eq!(deaths.count(), (expected + 1).min(5), "after the loss it takes three again");
    }
    is_harmless(&mut driver, &["kills-the-process"]);
}

#[test]
fn a_hash_of_the_pipelines_own_that_kills_is_counted_like_an_algorithm() {
    for has_rows in [true, false] {
        let deaths = Deaths::new(ALWAYS);
        let hash = {
            let deaths = deaths.clone();
            move |key: &[u8], count: i32| {
                if key == b"5" {
                    deaths.maybe_die();
                }
                KeyHash::Murmur2.partition(key, count)
            }
        };
        let declared = Declared::new(KeyHash::Custom("own", Arc::new(hash)), 4).on_violation(OnViolation::Warn);
        let (mut topology, counting) = (Topology::new("counting"), Counting(Deaths::new(0)));
        let source = topology.source("events").declared(declared);
        if has_rows {
            source.update("counts", counting).to("counted");
        } else {
            source.aggregate(Store::new("counts"), counting).to("counted");
        }
        let mut driver = driver(topology, 1);
        (0..8).for_each(|id| driver.send("events", id, json!({"kills": false})));
        assert_eq!(codes(&mut driver), ["kills-the-process"]);
        assert_eq!((driver.read("counted").len(), deaths.count()), (7, 3));
    }
}
