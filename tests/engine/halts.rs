//! Halts for a person to decide: the partition halts with both numbers, the others go on.

use crate::pipeline::{driver, fill, make_a_zombie, topology};
use serde_json::json;
use std::time::Duration;
use tidegate::engine::protocol::decision::{DataLossPolicy, HaltReason};
use tidegate::engine::protocol::metadata::committed;
use tidegate::engine::protocol::order::Step;
use tidegate::engine::status::State;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::ports::rows::Position;
use tidegate::ports::source::Committed;
use tidegate::settings::EngineSettings;
use tidegate::testing::TestDriver;

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(partition))
}

/// Two rounds over all partitions; the instance is stopped in between, and one partition is disturbed by `operation`
/// meanwhile.
fn disturbed(operation: impl FnOnce(&mut TestDriver, i32)) -> (TestDriver, i32) {
    let mut driver = driver(16);
    let victim = partition_for(b"3", 4);
    for id in 0..16 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.run();
    driver.stop(0);
    operation(&mut driver, victim);
    for id in 0..16 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.start(0);
    driver.run();
    (driver, victim)
}

fn assert_halted(mut driver: TestDriver, victim: i32, reason: HaltReason) {
    let halts = driver.halts();
    assert_eq!(halts.len(), 1, "{halts:?}");
    assert_eq!((halts[0].source.clone(), halts[0].reason), (place(victim), reason));
    assert!(halts[0].next_offset.is_some() || reason == HaltReason::DatabaseLost);
    for id in 0..16_i64 {
        let is_victim = partition_for(id.to_string().as_bytes(), 4) == victim;
        let version = driver.row_of("accounts", id).unwrap().version;
        assert_eq!(
            version,
            if is_victim { 1 } else { 2 },
            "account {id}: the halted partition stands still, the others go on"
        );
    }
}

#[test]
fn a_group_that_was_reset_by_hand_halts_with_both_numbers() {
    let (driver, victim) = disturbed(|driver, victim| {
        let foreign = Committed { next_offset: NextOffset(0), metadata: String::new() };
        driver.log().set_committed("scoring", &place(victim), Some(foreign)).unwrap();
    });
    assert_halted(driver, victim, HaltReason::GroupReset);
}

/// The command that the halt prints (`adopt --from-database`) is in `repairs`; here people do it by hand instead.
#[test]
fn a_reset_offset_that_is_deleted_by_hand_is_looked_up_and_nothing_is_announced_twice() {
    for reset_to in [0, 1, 5] {
        let (mut driver, victim) = disturbed(|driver, victim| {
            let foreign = Committed { next_offset: NextOffset(reset_to), metadata: String::new() };
            driver.log().set_committed("scoring", &place(victim), Some(foreign)).unwrap();
        });
        driver.stop(0);
        driver.log().set_committed("scoring", &place(victim), None).unwrap();
        driver.start(0);
        driver.run();
        assert!(driver.halts().is_empty());
        assert_eq!(crate::pipeline::announced_ids(&mut driver).len(), 32, "reset to {reset_to}");
    }
}

#[test]
fn a_database_that_went_back_halts() {
    let (driver, victim) = disturbed(|driver, victim| {
        let edited =
            driver.database().edit_position("scoring", &place(victim), |position| position.next_offset = NextOffset(1));
        assert!(edited);
    });
    assert_halted(driver, victim, HaltReason::DatabaseWentBack);
}

#[test]
fn a_recreated_topic_halts_every_partition_of_it() {
    let mut driver = driver(4);
    driver.send("readings", 1, json!({"value": 10.0}));
    driver.run();
    driver.stop(0);
    let topic = TopicName::parse("readings").unwrap();
    assert!(driver.log().delete_topic(&topic));
    driver.log().create_topic("readings", 4).unwrap();
    for id in 0..4 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.start(0);
    let halts = driver.halts();
    assert_eq!(halts.len(), 4);
    assert!(halts.iter().all(|halt| halt.reason == HaltReason::TopicRecreated));
    assert_eq!(driver.row_of("accounts", 1).unwrap().version, 1);
}

/// A driver that has read one record when the next three of its six are deleted, between `leave` and `come_back`.
fn with_a_gap(
    policy: DataLossPolicy,
    leave: impl Fn(&mut TestDriver),
    come_back: impl Fn(&mut TestDriver),
) -> TestDriver {
    let mut driver = fill(TestDriver::new(topology()).settings(|s| s.on_data_loss = policy), 1);
    driver.send("readings", 0, json!({"value": 10.0}));
    driver.run();
    leave(&mut driver);
    for _ in 0..5 {
        driver.send("readings", 0, json!({"value": 10.0}));
    }
    driver.log().truncate_before(&place(0), NextOffset(4));
    come_back(&mut driver);
    driver.run();
    driver
}

#[test]
fn inputs_deleted_before_they_were_read_halt_or_are_skipped_as_the_settings_say() {
    for policy in [DataLossPolicy::Halt, DataLossPolicy::Skip] {
        let mut driver = with_a_gap(policy, |driver| driver.stop(0), |driver| driver.start(0));
        let version = driver.row_of("accounts", 0).unwrap().version;
        match policy {
            DataLossPolicy::Halt => {
                assert_eq!(driver.halts().first().map(|halt| halt.reason), Some(HaltReason::InputsDeleted));
                assert_eq!(version, 1);
            }
            DataLossPolicy::Skip => assert_eq!((driver.halts().len(), version), (0, 3)),
        }
    }
}

/// Records that the source has fetched already are still handed out, so the log goes on behind the gap.
#[test]
fn inputs_deleted_while_it_runs_halt_or_are_skipped_as_the_settings_say() {
    for policy in [DataLossPolicy::Halt, DataLossPolicy::Skip] {
        let mut driver = with_a_gap(policy, |driver| driver.freeze(0), |driver| driver.thaw(0));
        let version = driver.row_of("accounts", 0).unwrap().version;
        let halts = driver.halts();
        match policy {
            DataLossPolicy::Halt => {
                assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::InputsDeleted]);
                let command = halts[0].choices.last().and_then(|choice| choice.command.as_deref());
                assert_eq!((command, version), (Some("tidegate skip readings-0 --to start"), 1));
            }
            DataLossPolicy::Skip => assert_eq!((halts.len(), version), (0, 3)),
        }
    }
}

#[test]
fn a_log_that_is_cut_while_it_is_read_halts_as_cut_and_goes_on_at_its_end() {
    let mut driver = fill(TestDriver::new(topology()), 1);
    for _ in 0..10 {
        driver.send("readings", 0, json!({"value": 10.0}));
    }
    driver.run();
    driver.log().truncate_from(&place(0), NextOffset(4));
    for _ in 0..100 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
    let halts = driver.status(0).halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::InputsTruncated]);
    let command = halts[0].choices.last().and_then(|choice| choice.command.as_deref());
    assert_eq!(command, Some("tidegate reset readings-0 --to 4"));
}

/// Killed between the two commits, and then retention passes the later records.
#[test]
fn a_gap_that_is_skipped_costs_nothing_that_was_decided_before_it() {
    for is_expired in [false, true] {
        let skip = |settings: &mut EngineSettings| settings.on_data_loss = DataLossPolicy::Skip;
        let mut driver = fill(TestDriver::new(topology()).settings(skip), 1);
        driver.send("readings", 0, json!({"value": 10.0}));
        driver.run();
        driver.leave_dead();
        driver.crash_at(Step::CommitDatabase, 1);
        driver.send("readings", 0, json!({"value": 20.0}));
        driver.run();
        assert_eq!(driver.crashes(), 1);
        for _ in 0..3 {
            driver.send("readings", 0, json!({"value": 30.0}));
        }
        driver.log().truncate_before(&place(0), NextOffset(4));
        if is_expired {
            driver.log().set_committed("scoring", &place(0), None).unwrap();
        }
        driver.start(0);
        driver.run();
        assert_eq!(driver.halts(), []);
        assert_eq!(driver.row_of("accounts", 0).unwrap().version, 3);
        assert_eq!(crate::pipeline::announced_ids(&mut driver).len(), 3, "offsets 0, 1 and 4");
    }
}

#[test]
fn expired_offsets_are_looked_up_in_the_topics_and_nothing_is_announced_twice() {
    let mut driver = driver(16);
    for id in 0..16 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.run();
    driver.stop(0);
    for partition in 0..4 {
        driver.log().set_committed("scoring", &place(partition), None).unwrap();
    }
    driver.start(0);
    for id in 0..16 {
        driver.send("readings", id, json!({"value": 100.0}));
    }
    driver.run();
    assert!(driver.halts().is_empty());
    assert_eq!(crate::pipeline::announced_ids(&mut driver).len(), 32);
}

/// By retention or compaction. A task publishes in the order in which it decides, so every message before one that is
/// still there has been published.
#[test]
fn what_a_topic_has_dropped_is_not_announced_again_where_a_later_message_of_its_partition_is_there() {
    let mut driver = fill(TestDriver::new(topology()).partitions(1).instances(1), 1);
    for _ in 0..6 {
        driver.send("readings", 0, json!({"value": 10.0}));
    }
    driver.run();
    driver.stop(0);
    let changes = TopicPartition::new(TopicName::parse("large-changes").unwrap(), Partition(0));
    let end = driver.log().bounds(&changes).unwrap().end.0;
    let sent = crate::pipeline::announced_ids(&mut driver).len();
    driver.log().truncate_before(&changes, NextOffset(end - 2));
    let left = crate::pipeline::announced_ids(&mut driver).len();
    assert!(left < sent && left > 0, "{left} of {sent}");
    driver.log().set_committed("scoring", &place(0), None).unwrap();
    driver.start(0);
    driver.send("readings", 0, json!({"value": 100.0}));
    driver.run();
    assert_eq!(driver.halts(), []);
    assert_eq!(crate::pipeline::announced_ids(&mut driver).len(), left + 1);
}

#[test]
fn a_database_that_is_away_for_ten_minutes_costs_nothing_but_time() {
    let mut driver = driver(4);
    driver.run();
    driver.database().set_down(true);
    for id in 0..4 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    for _ in 0..600 {
        driver.step();
        driver.pass(Duration::from_secs(1));
    }
    driver.database().set_down(false);
    assert_eq!(driver.read("large-changes").len(), 4);
    assert!(driver.read_raw("readings-dlt").is_empty());
}

#[test]
fn idle_partitions_and_filtered_records_still_move_the_committed_offset() {
    let mut driver = driver(4);
    for id in 0..4 {
        driver.send("readings", id, json!({"value": 0.0, "word": "nothing"}));
    }
    driver.run(); // the driver's rest includes K = D for every partition
    assert!(driver.read("large-changes").is_empty());
}

/// The process claims, is stopped for long, and only then reads K: its D is an earlier one, while K has the commits of
/// a successor.
#[test]
fn an_owner_that_slept_between_its_claim_and_the_reading_of_k_does_not_halt() {
    let mut driver = fill(TestDriver::new(topology()).partitions(1).instances(1), 4);
    driver.send("readings", 0, json!({"value": 10.0}));
    driver.run();
    driver.stop(0);
    driver.start(0);
    let state = |driver: &mut TestDriver| driver.status(0).tasks().values().next().map(|task| task.state);
    while state(&mut driver) != Some(State::ReadingCommitted) {
        driver.step();
        driver.pass(Duration::from_millis(10));
    }
    driver.freeze(0);
    driver.start(1);
    driver.send("readings", 1, json!({"value": 10.0}));
    driver.run();
    assert_eq!(driver.position("readings", 0).unwrap().next_offset, NextOffset(2), "the successor has gone on");
    for _ in 0..20 {
        driver.step_workers(0);
        driver.pass(Duration::from_millis(10));
        assert_eq!(driver.halts(), [], "D is older than K");
    }
    driver.thaw(0);
    driver.run();
    assert_eq!(driver.halts(), []);
}

/// Records behind the end by the time D is reached are other ones than those that D counts.
#[test]
fn a_log_that_was_cut_halts_although_it_is_being_written_to() {
    let mut driver = fill(TestDriver::new(topology()).partitions(1).instances(1), 4);
    driver.send("readings", 0, json!({"value": 10.0}));
    driver.run();
    driver.stop(0);
    let cut = |position: &mut Position| (position.next_offset, position.published) = (NextOffset(9), NextOffset(9));
    assert!(driver.database().edit_position("scoring", &place(0), cut));
    driver.log().set_committed("scoring", &place(0), Some(committed("scoring", 1, NextOffset(9), None))).unwrap();
    driver.start(0);
    for id in 0..20 {
        driver.send("readings", id % 4, json!({"value": 10.0}));
        driver.step();
        driver.pass(Duration::from_millis(10));
    }
    let halts = driver.status(0).halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::InputsTruncated]);
    let command = halts[0].choices.last().and_then(|choice| choice.command.as_deref()).unwrap();
    let to: i64 = command.strip_prefix("tidegate reset readings-0 --to ").unwrap().parse().unwrap();
    assert!((1..9).contains(&to), "{command}");
}

/// Deleted, expired or switched between protocols, a group begins again to count its generations, below those that the
/// positions were claimed by.
#[test]
fn a_group_whose_generations_begin_again_is_served() {
    for keeps_offsets in [false, true] {
        let mut driver = driver(16);
        let send = |driver: &mut TestDriver| {
            (0..16).for_each(|id| driver.send("readings", id, json!({"value": 100.0})));
        };
        for _ in 0..4 {
            driver.start(0);
            send(&mut driver);
            driver.run();
            driver.stop(0);
        }
        let places: Vec<TopicPartition> = (0..4)
            .flat_map(|n| ["readings", "corrections"].map(|topic| (topic, n)))
            .map(|(topic, n)| TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(n)))
            .collect();
        let committed: Vec<_> = places.iter().map(|place| driver.log().committed("scoring", place)).collect();
        let before = driver.database().owner("scoring", &place(0)).unwrap().0;
        assert!(driver.log().delete_group("scoring"));
        if keeps_offsets {
            for (place, committed) in places.iter().zip(committed) {
                driver.log().set_committed("scoring", place, committed).unwrap();
            }
        }
        driver.start(0);
        send(&mut driver);
        driver.run();
        assert_eq!(driver.halts(), []);
        let after = driver.database().owner("scoring", &place(0)).unwrap().0;
        assert!(after < before, "generation {after} after {before}");
        for id in 0..16_i64 {
            assert_eq!(driver.row_of("accounts", id).unwrap().version, 5);
        }
        crate::pipeline::announced_ids(&mut driver);
        // An instance that is no member any more is fenced as ever.
        driver.start(1);
        send(&mut driver);
        make_a_zombie(&mut driver);
        for id in 0..16_i64 {
            assert_eq!(driver.row_of("accounts", id).unwrap().version, 6);
        }
        crate::pipeline::announced_ids(&mut driver);
    }
}

/// The primary dies with a COMMIT under way, and on its successor the commits before it are missing.
#[test]
fn a_commit_in_doubt_after_a_failover_that_went_back_halts_instead_of_asking_for_ever() {
    let mut driver = driver(16);
    for id in 0..16 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.run();
    let victim = partition_for(b"3", 4);
    let committed = driver.position("readings", victim).unwrap().next_offset;
    driver.database().fail_next_commit_unknown(true);
    driver.send("readings", 3, json!({"value": 10.0}));
    while driver.position("readings", victim).unwrap().next_offset == committed {
        driver.step();
        driver.pass(Duration::from_millis(1));
    }
    driver.database().edit_position("scoring", &place(victim), |position| position.next_offset = NextOffset(0));
    for id in 0..16 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    let halts = driver.halts();
    assert_eq!(halts.len(), 1, "{halts:?}");
    assert_eq!((&halts[0].source, halts[0].reason), (&place(victim), HaltReason::DatabaseWentBack));
    for id in 0..16_i64 {
        let is_victim = partition_for(id.to_string().as_bytes(), 4) == victim;
        let version = driver.row_of("accounts", id).unwrap().version;
        assert!(is_victim || version == 2, "account {id}: the others go on");
    }
}

/// The broker forgets an offset that nobody has written for long (docs/traps.md#offsets-expire).
#[test]
fn the_offset_of_an_idle_partition_is_written_again_before_it_expires() {
    let mut driver = fill(
        TestDriver::new(topology())
            .partitions(4)
            .settings(|settings| settings.recommit_every = Duration::from_secs(10)),
        16,
    );
    for id in 0..16 {
        driver.send("readings", id, json!({"value": 10.0}));
    }
    driver.run();
    let sources: Vec<TopicPartition> = (0..4).map(place).collect();
    let count = |driver: &mut TestDriver| -> usize {
        let wait = Duration::from_secs(1);
        driver.log().group("scoring").committed(&sources, wait).unwrap().iter().flatten().count()
    };
    assert_eq!(count(&mut driver), 4);
    for source in &sources {
        driver.log().set_committed("scoring", source, None).unwrap();
    }
    let idle = |driver: &mut TestDriver, steps: u32| {
        (0..steps).for_each(|_| {
            driver.pass(Duration::from_millis(100));
            driver.step();
        });
    };
    idle(&mut driver, 10);
    assert_eq!(count(&mut driver), 0, "it is not time yet");
    idle(&mut driver, 120);
    assert_eq!(count(&mut driver), 4);
    assert!(driver.halts().is_empty());
}
