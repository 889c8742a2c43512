//! Instances that leave in order under load: SIGTERM and back, and one after the other replaced.

use super::arena::{Arena, Facts, Stage, run, seconds};
use crate::rig::{Proof, Random};
use std::time::Duration;

const VICTIMS: [&str; 3] = ["first", "second", "third"];
/// Longest stand of a partition when its owner leaves in order.
const STOOD_MAX: Duration = Duration::from_secs(2);

/// Two seconds are counted, so that nothing else may be going on.
const ALONE: Stage = Stage { is_alone: true, does_broker_assign: false };

/// SIGTERM to one, until the others have its partitions.
fn leave(arena: &mut Arena, victim: usize) -> (Duration, Duration) {
    arena.standing.forget();
    let took = arena.terminate(victim);
    arena.standing.wait_all_move();
    let stood = arena.standing.longest();
    assert!(stood <= STOOD_MAX, "{} left: a partition stood still for {stood:?}", VICTIMS[victim]);
    (took, stood)
}

/// Back, with partitions of its own; the longest that one stood.
fn come_back(arena: &mut Arena, victim: usize) -> Duration {
    arena.standing.forget();
    arena.replace(victim);
    arena.wait_whole();
    arena.standing.wait_all_move();
    arena.standing.longest()
}

#[test]
fn an_instance_that_is_told_to_go_leaves_no_partition_standing() {
    let plan = |proof: &Proof, _: &mut Random| proof.plan(&VICTIMS);
    run("leaving", "sigterm", &ALONE, plan, |arena, victim| -> Facts {
        let victim = VICTIMS.iter().position(|name| name == victim).unwrap();
        let (took, stood) = leave(arena, victim);
        let joining = come_back(arena, victim);
        vec![("ended_s", seconds(took)), ("stood_s", seconds(stood)), ("stood_at_join_s", seconds(joining))]
    });
}

#[test]
fn a_rolling_restart_leaves_no_partition_standing() {
    let plan = |proof: &Proof, _: &mut Random| proof.plan(&["rolling restart"]);
    run("rolling", "rolling", &ALONE, plan, |arena, _| {
        let mut stood = Duration::ZERO;
        for victim in 0..3 {
            stood = stood.max(leave(arena, victim).1).max(come_back(arena, victim));
        }
        vec![("stood_s", seconds(stood))]
    });
}
