//! Changes by an operator while it runs: thresholds, instances.

use crate::rig::{Feed, Instance, Random, World};
use std::time::Duration;

#[test]
fn a_threshold_changed_in_the_settings_file_takes_effect_while_running() {
    let Some(world) = World::new("threshold", 100) else { return };
    let file = world.folder().join("tidegate.yaml");
    let write = |threshold: &str| {
        std::fs::write(&file, format!("pipeline:\n  thresholds:\n    large-change: {threshold}\n")).unwrap();
    };
    write("0.5");
    let mut feed = Feed::new(&world, 100, 3);
    let mut instance = world.instance_with("only", &["--config", file.to_str().unwrap()]);
    feed.send(500, Duration::ZERO);
    world.judge(&feed, Duration::from_secs(30));
    let before = world.messages("large-changes").len();

    write("nonsense"); // a mistake changes nothing and is reported
    instance.wait_log("the thresholds stay as they are", Duration::from_secs(5));
    write("1.25");
    instance.wait_log("threshold changed", Duration::from_secs(5));
    feed.reference.threshold = 1.25;
    feed.send(500, Duration::ZERO);
    world.judge(&feed, Duration::from_secs(30));
    let messages = world.messages("large-changes");
    let with =
        |threshold: &str| messages.iter().filter(|found| found.header("tg_threshold") == Some(threshold)).count();
    assert_eq!((with("0.5"), with("1.25")), (before, messages.len() - before));
    assert!(messages.len() > before);
}

fn slot(instance: &mut Instance) -> u32 {
    instance.wait_log(" slot ", Duration::from_secs(30));
    let log = instance.log();
    log.lines().rev().find_map(|line| line.split_once(" slot ")?.1.parse().ok()).unwrap_or_else(|| panic!("{log}"))
}

#[test]
fn instances_lease_slots_of_their_own_and_give_them_back_at_the_end() {
    let Some(world) = World::new("slots", 100) else { return };
    let mut instances = [world.instance("first"), world.instance("second")];
    let mut slots: Vec<u32> = instances.iter_mut().map(slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1]);
    let freed = slot(&mut instances[0]);
    assert!(instances[0].terminate(Duration::from_secs(10)).0.success());
    assert_eq!(slot(&mut world.instance("third")), freed);

    // A killed instance keeps its slot until the lease ends, and its successor takes another one meanwhile.
    let kept = slot(&mut instances[1]);
    instances[1].kill();
    let mut fourth = world.instance("fourth");
    assert_ne!(slot(&mut fourth), kept);
}

/// Its lease runs out while it is stopped, and its slot goes to the other. Both under one name they would fence each other
/// until one of them gave up.
#[test]
fn an_instance_whose_slot_went_to_another_while_it_was_stopped_takes_another_slot() {
    let Some(world) = World::new("slot-lost", 1_000) else { return };
    let mut instances = vec![world.instance("first")];
    world.wait_owners(1);
    let mut feed = Feed::new(&world, 1_000, Random::seed("TIDEGATE_CHAOS_SEED"));
    feed.during(|| {
        instances[0].signal("STOP");
        std::thread::sleep(Duration::from_secs(16)); // the term is 15 s
        instances.push(world.instance("second"));
        assert_eq!(slot(&mut instances[1]), 0, "the slot of the stopped one is free");
        world.wait_owners(1);
        instances[1].wait_log("partition taken over", Duration::from_secs(20));
        instances[0].signal("CONT");
        world.wait_owners(2);
        instances[0].wait_log("ran out and went to another instance", Duration::from_secs(10));
        std::thread::sleep(Duration::from_secs(5)); // both at work
    });
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself\n{}", instance.name, instance.log());
    }
    let is_fencing =
        |line: &&str| line.contains("the producer is replaced and K") && !line.contains("IllegalGeneration");
    let fencings = [0, 1].map(|index: usize| instances[index].log().lines().filter(is_fencing).count());
    world.note(&format!("fencings: {fencings:?}"));
    // Once each of two producers of two workers, and the transactions that they had open when they were stopped.
    assert!(fencings[0] <= 8 && fencings[1] == 0, "fencings: {fencings:?}");
    world.judge(&feed, Duration::from_secs(60));
}

#[test]
fn a_slot_that_is_set_is_the_successors_once_the_lease_of_the_killed_one_is_over_and_nobodys_beside_a_living_one() {
    let Some(world) = World::new("slot-set", 100) else { return };
    let with_slot = |name: &str| world.instance_with(name, &["--set", "instance.slot=3"]);
    let mut first = with_slot("first");
    assert_eq!(slot(&mut first), 3);
    first.kill();
    let mut second = with_slot("second");
    assert_eq!(slot(&mut second), 3);
    second.wait_log("waiting for the end of a predecessor's lease", Duration::from_secs(1));
    let mut third = with_slot("third");
    assert_eq!(third.end(Duration::from_secs(60)).code(), Some(1));
    let told = "instance.slot 3 was not free within 40s: slot 3 of pipeline scoring is leased by another instance";
    assert!(third.log().contains(told), "{}", third.log());
    assert!(second.is_running());
}

/// Positions and committed offsets move while they are looked at. None of that is a halt.
#[test]
fn halted_finds_nothing_while_an_instance_starts_and_works() {
    let Some(world) = World::new("halted-at-work", 1_000) else { return };
    let mut feed = Feed::new(&world, 1_000, 5);
    let mut instance = world.instance("only");
    feed.during(|| {
        for _ in 0..12 {
            let said = world.ok(&["halted"]);
            assert!(said.starts_with("no partition is halted, by database"), "{said}");
        }
    });
    assert!(instance.is_running(), "{}", instance.log());
}
