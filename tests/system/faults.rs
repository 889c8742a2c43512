//! Each fault once, under load, with nobody to help: afterwards everything is as it must be.

use crate::rig::{Feed, Random, World};
use std::time::Duration;
use tidegate::adapters::kafka::KafkaAdmin;
use tidegate::flow::record::TopicName;

const IDS: i64 = 1_000;

/// Feeds for `seconds` while `act` does its worst, and judges.
fn under_load(world: &World, seconds: u64, records: i64, act: impl FnOnce()) {
    let mut feed = Feed::new(world, IDS, Random::seed("TIDEGATE_CHAOS_SEED"));
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed.send(records, Duration::from_secs(seconds)));
        act();
        feeding.join().unwrap();
    });
    world.judge(&feed, Duration::from_secs(60));
}

fn pause(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

#[test]
fn an_instance_that_was_stopped_past_its_session_does_no_harm_when_it_goes_on() {
    let Some(world) = World::new("stopped", IDS) else { return };
    let mut instances = [world.instance("first"), world.instance("second")];
    world.wait_owners(2);
    under_load(&world, 16, 20_000, || {
        pause(2.0);
        instances[0].signal("STOP");
        world.wait_owners(1);
        world.note("the stopped instance's partitions were taken over");
        pause(1.0);
        instances[0].signal("CONT");
        world.wait_owners(2);
        world.note("it is back");
    });
    assert!(instances.iter_mut().all(crate::rig::Instance::is_running));
}

#[test]
fn instances_join_and_leave_under_load_and_leave_nothing_open() {
    let Some(world) = World::new("joining", IDS) else { return };
    under_load(&world, 14, 30_000, || {
        let mut instances = vec![world.instance("first")];
        world.wait_owners(1);
        for name in ["second", "third"] {
            instances.push(world.instance(name));
            world.wait_owners(instances.len());
            world.note(&format!("the {name} has joined"));
        }
        for mut instance in instances.drain(..) {
            let (status, took) = instance.terminate(Duration::from_secs(10));
            assert_eq!(status.code(), Some(0), "{} after {took:?}\n{}", instance.name, instance.log());
            world.note(&format!("the {} has left within {:.1} s", instance.name, took.as_secs_f64()));
            pause(0.5);
        }
        // All have left in the middle of the load: every decided message is published, and no transaction is open.
        let audit = world.audit();
        let unpublished = |p: &serde_json::Value| p["committed_offset"] != p["next_offset"];
        let left: Vec<_> = audit.0["partitions"].as_array().unwrap().iter().filter(|p| unpublished(p)).collect();
        assert!(left.is_empty(), "decided and not published: {left:?}");
        let listed = world.kafka.tool("org.apache.kafka.tools.TransactionsCommand", &["list"]);
        // Empty is open to nobody: the spare producer of a worker that had too little to do for it.
        let is_open = |line: &&str| line.contains("scoring-") && (line.contains("Ongoing") || line.contains("Prepare"));
        let open: Vec<_> = listed.lines().filter(is_open).collect();
        assert!(listed.contains("scoring-0-0-0") && open.is_empty(), "open transactions: {open:?}\n{listed}");
        let mut last = world.instance("fourth");
        world.wait_owners(1);
        while world.taken() < 30_000 {
            assert!(last.is_running(), "{}", last.log());
            pause(0.2);
        }
        pause(2.0); // K of the last batches
    });
}

#[test]
fn a_database_that_is_killed_and_restarted_is_survived() {
    let Some(world) = World::new("database", IDS) else { return };
    let mut instances = [world.instance("first"), world.instance("second")];
    world.wait_owners(2);
    under_load(&world, 12, 20_000, || {
        for down in [0.0, 3.0] {
            pause(2.0);
            world.postgres.kill();
            pause(down);
            world.postgres.restart();
            world.note("the database is back");
        }
    });
    assert!(instances.iter_mut().all(crate::rig::Instance::is_running));
}

/// Three brokers, since Kafka 4.1 to 4.3.1 forgets the markers of a transaction whose partition has no leader at all when
/// its coordinator comes back (KAFKA-20734): on one broker that is every restart, and about one in thirty left a
/// transaction open for ever. docs/guarantees.md says so under "What is not promised".
#[test]
fn brokers_that_are_killed_and_restarted_are_survived() {
    let Some(world) = World::on_three_brokers("brokers", IDS) else { return };
    let mut instances = [world.instance("first"), world.instance("second")];
    world.wait_owners(2);
    under_load(&world, 24, 20_000, || {
        for (broker, down) in [("1", 0.0), ("2", 3.0), ("3", 1.0)] {
            pause(2.0);
            world.kafka.kill(broker);
            pause(down);
            world.kafka.restart(broker);
            world.note(&format!("broker {broker} is back"));
        }
    });
    assert!(instances.iter_mut().all(crate::rig::Instance::is_running));
}

/// librdkafka uses what it has freed, and aborts, where it ends a question by its timeout while the coordinator is away
/// (docs/traps.md#a-question-that-was-given-up-ends-the-process): this test would end with its process.
#[test]
fn a_question_to_a_coordinator_that_nobody_waits_for_any_more_ends_no_process() {
    let Some(world) = World::new("coordinator", 1) else { return };
    let topic = TopicName::parse("readings").unwrap();
    let connect = || {
        let admin = KafkaAdmin::connect(&world.kafka_settings()).unwrap();
        admin.cluster_id().unwrap(); // its connection is up, and it knows no coordinator
        admin
    };
    let [stays, ends] = [connect(), connect()];
    world.kafka.act("pause", "1");
    std::thread::scope(|scope| {
        scope.spawn(|| stays.is_denied_group("scoring", &topic));
        scope.spawn(|| ends.is_denied_group("scoring", &topic));
    });
    drop(ends);
    world.kafka.act("resume", "1");
    // The answer that comes late makes room for the next question.
    crate::rig::until("the coordinator answers", Duration::from_secs(60), || {
        let began = std::time::Instant::now();
        assert!(!stays.is_denied_group("scoring", &topic));
        let took = began.elapsed();
        if took < Duration::from_secs(5) { Ok(()) } else { Err(format!("{took:?}")) }
    });
}
