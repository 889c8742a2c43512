//! A first start differs from a loss by any trace that is left of a past.

use crate::rowstate::{fill, send, tally};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::adapters::memory::SinkFault;
use tidegate::engine::protocol::decision::{HaltReason, StartPolicy};
use tidegate::engine::protocol::metadata::{Listed, committed, lists_store, marks, topic_id};
use tidegate::engine::protocol::order::Step;
use tidegate::engine::repair::plan::{Action, Outputs, Target};
use tidegate::engine::repair::{Repair, Tools, rebuild};
use tidegate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::ports::rows::NoRows;
use tidegate::settings::EngineSettings;
use tidegate::testing::TestDriver;

#[derive(Deserialize)]
struct Event {
    user: String,
}

struct Count;

impl Algorithm for Count {
    type Event = Event;
    type Row = i64;
    type Notices = Option<Value>;

    fn apply(&self, _: Event, count: &mut i64, _: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        *count += 1;
        Ok(Some(json!(*count)))
    }
}

/// Keyed already.
fn visits() -> Topology {
    let mut topology = Topology::new("visits");
    topology.source("clicks").aggregate("counts", Count).to("told");
    topology
}

/// Given a new key first.
fn usage() -> Topology {
    let mut topology = Topology::new("usage");
    topology.source("events").key_by("by-user", |event: &Event| event.user.clone()).aggregate("counts", Count).done();
    topology
}

/// Two inputs, one store.
fn pair() -> Topology {
    let mut topology = Topology::new("pair");
    topology.source("clicks").with("views").aggregate("counts", Count).done();
    topology
}

fn name(topic: &str) -> TopicName {
    TopicName::parse(topic).unwrap()
}

fn place(topic: &str) -> TopicPartition {
    TopicPartition::new(name(topic), Partition(0))
}

fn feed(driver: &mut TestDriver, topic: &str, count: usize) {
    (0..count).for_each(|_| driver.send(topic, "u", json!({"user": "u"})));
    driver.run();
}

/// A driver that has taken five of `topic` and lost its disk.
fn without_disk(topology: Topology, topic: &str) -> TestDriver {
    let mut driver = TestDriver::new(topology).partitions(1);
    feed(&mut driver, topic, 5);
    driver.stop(0);
    driver.disk(0).lose();
    driver
}

fn reasons(driver: &mut TestDriver) -> Vec<(String, HaltReason)> {
    driver.halts().iter().map(|halt| (halt.source.topic.to_string(), halt.reason)).collect()
}

fn commands(driver: &mut TestDriver) -> Vec<String> {
    driver.halts().iter().flat_map(|halt| halt.choices.iter().filter_map(|choice| choice.command.clone())).collect()
}

fn reset(driver: &mut TestDriver, topology: &Topology, topic: &str, to: Target, outputs: Option<Outputs>) {
    let log = driver.log().clone();
    let (offsets, history) = (log.offsets(topology.name()), log.history(topology.name()));
    let tools = Tools {
        positions: None,
        rows: Box::new(NoRows),
        group: log.group(topology.name()),
        offsets: Box::new(offsets),
        history: Box::new(history),
        sink: Box::new(move || Ok(Box::new(log.sink("repair")))),
    };
    let mut repair = Repair::new(topology.clone(), "ada@test".into(), tools);
    let action = Action::Reset { to, outputs };
    let plan = repair.plan(&place(topic), action).unwrap().unwrap();
    repair.carry_out(&place(topic), action, &plan, &mut |_| Ok(())).unwrap();
}

fn rebuild_stores(driver: &mut TestDriver, topology: &Topology, topic: &str) {
    let log = driver.log().clone();
    let (disk, group) = (driver.disk(0), log.group(topology.name()));
    rebuild(topology, &place(topic), &disk, &*group, &mut log.changelog(), Timestamp(0)).unwrap();
}

#[test]
fn lost_offsets_are_no_first_start_although_the_disk_is_fresh() {
    let mut driver = without_disk(visits(), "clicks");
    driver.log().set_committed("visits", &place("clicks"), None).unwrap();
    driver.start(0);
    assert_eq!(reasons(&mut driver), [("clicks".to_owned(), HaltReason::OffsetsLost)]);
    assert_eq!(commands(&mut driver), ["tidegate reset clicks-0 --to start", "tidegate reset clicks-0 --to end"]);
    driver.stop(0);
    reset(&mut driver, &visits(), "clicks", Target::End, None);
    driver.start(0);
    feed(&mut driver, "clicks", 1);
    assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(6))));
}

/// Both steps have lost their offsets: the first would key everything once more, and the second count it.
#[test]
fn a_step_without_state_does_not_begin_again_while_what_it_made_is_there() {
    let mut driver = without_disk(usage(), "events");
    for topic in ["events", "usage-by-user-repartition"] {
        driver.log().set_committed("usage", &place(topic), None).unwrap();
    }
    driver.start(0);
    let lost = ["events", "usage-by-user-repartition"].map(|topic| (topic.to_owned(), HaltReason::OffsetsLost));
    assert_eq!(reasons(&mut driver), lost);
    driver.stop(0);
    for topic in ["events", "usage-by-user-repartition"] {
        reset(&mut driver, &usage(), topic, Target::End, None);
    }
    driver.start(0);
    feed(&mut driver, "events", 1);
    assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(6))));
}

/// The store on the disk is some records behind its changelog, and the halt names where the disk stands.
#[test]
fn after_a_kill_a_lost_offset_costs_what_was_committed_since_the_store_was_last_written() {
    let mut driver = TestDriver::new(visits()).partitions(1);
    feed(&mut driver, "clicks", 5);
    driver.advance(Duration::from_secs(6)); // store_flush is 5 s
    feed(&mut driver, "clicks", 3);
    driver.kill(0);
    driver.log().set_committed("visits", &place("clicks"), None).unwrap();
    driver.start(0);
    assert_eq!(reasons(&mut driver), [("clicks".to_owned(), HaltReason::OffsetsLost)]);
    let told = commands(&mut driver);
    assert!(told.contains(&"tidegate reset clicks-0 --to 5".to_owned()), "{told:?}");
    driver.stop(0);
    reset(&mut driver, &visits(), "clicks", Target::Offset(NextOffset(5)), None);
    driver.start(0);
    feed(&mut driver, "clicks", 1);
    assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(9 + 3))));
}

#[test]
fn one_input_without_its_offset_is_not_new_where_another_remembers_it() {
    let mut driver = without_disk(pair(), "views");
    feed_both(&mut driver);
    let k = driver.log().committed("pair", &place("clicks")).unwrap();
    driver.log().set_committed("pair", &place("views"), None).unwrap();
    driver.start(0);
    assert_eq!(reasons(&mut driver), [("views".to_owned(), HaltReason::OffsetsLost)]);
    // A release without the store is recognised.
    driver.stop(0);
    let (pipeline, at) = ("pair", k.next_offset);
    let marks = k.metadata.split(' ').skip(4).filter(|mark| !mark.starts_with("i=")).collect::<Vec<_>>().join(" ");
    let of_before = committed(pipeline, 0, at, Some(&marks));
    driver.log().set_committed(pipeline, &place("clicks"), Some(of_before)).unwrap();
    driver.start(0);
    assert_eq!(reasons(&mut driver), []);
}

/// Five views were taken; clicks come now.
fn feed_both(driver: &mut TestDriver) {
    driver.start(0);
    feed(driver, "clicks", 2);
    driver.stop(0);
    driver.disk(0).lose();
}

#[test]
fn a_changelog_that_was_made_anew_halts_although_the_disk_is_fresh_until_somebody_has_said_so() {
    let mut driver = without_disk(visits(), "clicks");
    driver.log().delete_topic(&name("visits-counts-changelog"));
    driver.log().create_topic("visits-counts-changelog", 1).unwrap();
    driver.start(0);
    assert_eq!(reasons(&mut driver), [("clicks".to_owned(), HaltReason::ChangelogRecreated)]);
    assert_eq!(commands(&mut driver), ["tidegate state rebuild clicks-0"]);
    driver.stop(0);
    rebuild_stores(&mut driver, &visits(), "clicks");
    driver.start(0);
    driver.run();
    assert_eq!(reasons(&mut driver), []);
    // From any state that follows, before anything more was read.
    driver.stop(0);
    driver.disk(0).lose();
    driver.start(0);
    feed(&mut driver, "clicks", 1);
    assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(1))));
}

/// Traces of a store that inputs were taken without.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Nothing,
    Changelog,
    Disk,
}

/// The commit is that of a release that had no such store, or one of another name: before there was any, or after a
/// rollback.
#[test]
fn a_store_that_inputs_were_taken_without_halts_until_somebody_has_said_what_it_shall_know() {
    for (is_renamed, left) in
        [false, true].into_iter().flat_map(|is| [Left::Nothing, Left::Changelog, Left::Disk].map(|left| (is, left)))
    {
        let added = || {
            let mut driver = TestDriver::new(visits()).partitions(1);
            feed(&mut driver, "clicks", 5);
            driver.stop(0);
            let k = driver.log().committed("visits", &place("clicks")).unwrap();
            let other = if is_renamed { " c=01234567:elsewhere" } else { "" };
            let marks = format!("{} n=1{other}", topic_id(&k).unwrap());
            let of_before = committed("visits", 0, k.next_offset, Some(&marks));
            driver.log().set_committed("visits", &place("clicks"), Some(of_before)).unwrap();
            if left != Left::Disk {
                driver.disk(0).lose();
            }
            if left == Left::Nothing {
                driver.log().delete_topic(&name("visits-counts-changelog"));
                driver.log().create_topic("visits-counts-changelog", 1).unwrap();
            }
            driver.start(0);
            assert_eq!(reasons(&mut driver), [("clicks".to_owned(), HaltReason::StoreAdded)]);
            let expected = ["tidegate reset clicks-0 --to start --emit", "tidegate state rebuild clicks-0"];
            assert_eq!(commands(&mut driver), expected);
            driver.stop(0);
            driver
        };
        let before = if left == Left::Nothing { 0 } else { 5 };
        let mut driver = added();
        reset(&mut driver, &visits(), "clicks", Target::Start, Some(Outputs::Emit));
        driver.start(0);
        feed(&mut driver, "clicks", 1);
        assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(before + 6))));
        let mut driver = added();
        rebuild_stores(&mut driver, &visits(), "clicks");
        driver.start(0);
        feed(&mut driver, "clicks", 1);
        assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(before + 1))));
        let k = driver.log().committed("visits", &place("clicks")).unwrap();
        assert_eq!(lists_store(&k, "counts", ""), Listed::Same);
    }
}

/// Sets K of `topic` to `at`, as a restored group would have it, with the marks of now.
fn set_back(driver: &mut TestDriver, pipeline: &str, topic: &str, at: i64) {
    let k = driver.log().committed(pipeline, &place(topic)).unwrap();
    let earlier = committed(pipeline, 0, NextOffset(at), Some(marks(&k)));
    driver.log().set_committed(pipeline, &place(topic), Some(earlier)).unwrap();
}

#[test]
fn an_offset_that_went_back_behind_what_the_stores_have_seen_halts() {
    let mut driver = TestDriver::new(visits()).partitions(1);
    feed(&mut driver, "clicks", 5);
    driver.stop(0);
    set_back(&mut driver, "visits", "clicks", 2);
    driver.start(0);
    feed(&mut driver, "clicks", 1);
    assert_eq!(reasons(&mut driver), [("clicks".to_owned(), HaltReason::GroupWentBack)]);
    assert_eq!(commands(&mut driver), ["tidegate reset clicks-0 --to 2 --emit", "tidegate reset clicks-0 --to 5"]);
    driver.stop(0);
    reset(&mut driver, &visits(), "clicks", Target::Offset(NextOffset(5)), None);
    driver.start(0);
    feed(&mut driver, "clicks", 1);
    assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(7))));
}

/// The process knows how far it came, whether there are stores or not.
#[test]
fn an_offset_that_went_back_while_its_task_was_running_halts() {
    for (topology, topic) in [(visits as fn() -> Topology, "clicks"), (usage, "events")] {
        let mut driver = TestDriver::new(topology()).partitions(1);
        feed(&mut driver, topic, 5);
        let pipeline = topology().name().to_owned();
        set_back(&mut driver, &pipeline, topic, 2);
        driver.log().fail_next(SinkFault::Commit { is_applied: false });
        feed(&mut driver, topic, 1);
        assert_eq!(reasons(&mut driver), [(topic.to_owned(), HaltReason::GroupWentBack)]);
    }
}

/// Disks remember the offsets from before the reset, on whichever instance the task is next.
#[test]
fn an_offset_that_an_operator_set_back_halts_nowhere() {
    let mut driver = TestDriver::new(visits()).partitions(1).instances(2);
    feed(&mut driver, "clicks", 5);
    for instance in [0, 1] {
        driver.stop(instance);
    }
    reset(&mut driver, &visits(), "clicks", Target::Start, Some(Outputs::Emit));
    for instance in [0, 1, 0] {
        driver.start(instance);
        // It has said with which stores it goes on, and taken nothing yet.
        for _ in 0..200 {
            let k = driver.log().committed("visits", &place("clicks")).unwrap();
            if lists_store(&k, "counts", "other") == Listed::Other {
                break;
            }
            driver.step();
            driver.pass(Duration::from_millis(20));
        }
        let k = driver.log().committed("visits", &place("clicks")).unwrap();
        assert_eq!((k.next_offset, lists_store(&k, "counts", "other")), (NextOffset(0), Listed::Other));
        driver.kill(instance);
        driver.pass(Duration::from_secs(10));
    }
    driver.start(0);
    driver.start(1);
    feed(&mut driver, "clicks", 1);
    assert_eq!((reasons(&mut driver), driver.store("counts", "u")), (vec![], Some(json!(11))));
}

#[test]
fn rows_with_a_store_halt_likewise() {
    let driver = |keeps_offsets: bool| {
        let mut driver = fill(TestDriver::new(tally()).partitions(1), 2);
        let empty = driver.database().snapshot();
        for n in 0..6 {
            send(&mut driver, "readings", n % 2, 1.0, "");
        }
        driver.run();
        driver.stop(0);
        driver.disk(0).lose();
        if !keeps_offsets {
            driver.database().restore(&empty);
            for topic in ["readings", "corrections"] {
                driver.log().set_committed("tally", &place(topic), None).unwrap();
            }
        }
        driver
    };
    let mut lost = driver(false);
    lost.start(0);
    assert_eq!(reasons(&mut lost), [("readings".to_owned(), HaltReason::DatabaseLost)]);

    let mut anew = driver(true);
    anew.log().delete_topic(&name("tally-seen-changelog"));
    anew.log().create_topic("tally-seen-changelog", 1).unwrap();
    anew.start(0);
    assert_eq!(reasons(&mut anew), [("readings".to_owned(), HaltReason::ChangelogRecreated)]);
    anew.stop(0);
    rebuild_stores(&mut anew, &tally(), "readings");
    anew.start(0);
    send(&mut anew, "readings", 0, 1.0, "");
    anew.run();
    assert_eq!((reasons(&mut anew), anew.store("seen", "all")), (vec![], Some(json!(1))));
}

/// Records written before it was first taken over would otherwise be passed over for ever.
#[test]
fn a_partition_that_is_added_later_is_read_from_its_beginning() {
    let latest = |settings: &mut EngineSettings| settings.start = StartPolicy::Latest;
    let mut driver = TestDriver::new(visits()).settings(latest).partitions(1);
    driver.send("clicks", "u", json!({"user": "u"}));
    driver.run();
    feed(&mut driver, "clicks", 1);
    assert_eq!(driver.store("counts", "u"), Some(json!(1)), "the first one lay before the first start");
    driver.stop(0);
    for topic in ["clicks", "told", "clicks-dlt", "visits-counts-changelog"] {
        driver.log().add_partitions(&name(topic), 2);
    }
    let value = json!({"user": "new"}).to_string();
    driver.send_to("clicks", 1, Some(b"new"), Some(value.as_bytes()));
    driver.start(0);
    for _ in 0..100 {
        driver.step();
        driver.pass(Duration::from_millis(20));
    }
    let told = driver.log().read(&name("told"));
    assert_eq!(told.iter().filter(|found| found.partition == 1 || found.key.as_deref() == Some(b"new")).count(), 1);
}

/// The group was deleted before anything of a store was published: it looks empty, and its first records wait in the outbox.
#[test]
fn a_store_whose_first_records_wait_in_the_outbox_is_not_taken_for_one_that_was_added() {
    let mut driver = fill(TestDriver::new(tally()).partitions(1), 2);
    driver.run();
    driver.leave_dead();
    driver.crash_at(Step::OpenKafka, 1);
    for n in 0..4 {
        send(&mut driver, "readings", n % 2, 1.0, "");
    }
    driver.run();
    assert_eq!((driver.crashes(), driver.read_raw("tally-seen-changelog").len()), (1, 0));
    driver.disk(0).lose();
    driver.pass(Duration::from_secs(10));
    driver.log().delete_group("tally");
    driver.start(0);
    assert_eq!(reasons(&mut driver), []);
    assert_eq!((driver.read("large-changes").len(), driver.store("seen", "0")), (2, Some(json!(2))));
}
