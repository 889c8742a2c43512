//! Two faults at once: the second meets work that the first has left half-way.

use super::arena::{Arena, Facts, Stage, run, seconds};
use super::cluster::wait_in_sync;
use super::points::hits;
use crate::rig::{Proof, Random};
use std::time::Duration;

/// The points of a step and of a takeover.
const POINTS: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14];

#[derive(Clone, Copy)]
enum Pair {
    /// Two instances, each at a point of its own.
    TwoPoints,
    PointAndBroker,
    PointAndDatabase,
    /// All instances and the database (K19).
    AllAndDatabase,
    /// All instances and all brokers (K20).
    AllAndBrokers,
}

const PAIRS: [Pair; 5] =
    [Pair::TwoPoints, Pair::PointAndBroker, Pair::PointAndDatabase, Pair::AllAndDatabase, Pair::AllAndBrokers];
const BROKERS: [&str; 3] = ["1", "2", "3"];

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TwoPoints => "two instances",
            Self::PointAndBroker => "an instance and a broker",
            Self::PointAndDatabase => "an instance and the database",
            Self::AllAndDatabase => "all instances and the database",
            Self::AllAndBrokers => "all instances and all brokers",
        })
    }
}

/// Has an instance killed at a point by chance; its name and the point.
fn kill_somewhere(arena: &mut Arena, victim: usize) -> String {
    let point = POINTS[arena.any(POINTS.len())];
    let wish = format!("K{point}=kill@{}", hits(point, &mut arena.random));
    arena.arm(victim, &wish);
    wish
}

fn wait_killed(arena: &mut Arena, victim: usize) {
    arena.instances[victim].wait_killed(Duration::from_secs(30));
}

fn act(arena: &mut Arena, pair: &Pair) -> Facts {
    wait_in_sync(&arena.world);
    let one = arena.any(3);
    let (other, broker) = ((one + 1) % 3, (1 + arena.any(3)).to_string());
    let (ended, what) = match pair {
        Pair::TwoPoints => {
            let wishes = [one, other].map(|victim| kill_somewhere(arena, victim));
            // The first may die while the second is being made.
            [one, other].into_iter().for_each(|victim| wait_killed(arena, victim));
            (vec![one, other], wishes.join(", "))
        }
        Pair::PointAndBroker => {
            let wish = kill_somewhere(arena, one);
            wait_killed(arena, one);
            arena.world.kafka.kill(&broker);
            arena.standing.wait_all_move();
            arena.world.kafka.restart(&broker);
            (vec![one], format!("{wish}, broker {broker}"))
        }
        Pair::PointAndDatabase => {
            let wish = kill_somewhere(arena, one);
            wait_killed(arena, one);
            arena.world.postgres.kill();
            arena.world.postgres.restart();
            (vec![one], format!("{wish}, PostgreSQL"))
        }
        Pair::AllAndDatabase => {
            arena.instances.iter_mut().for_each(crate::rig::Instance::kill);
            arena.world.postgres.kill();
            arena.world.postgres.restart();
            (vec![0, 1, 2], "PostgreSQL".into())
        }
        Pair::AllAndBrokers => {
            arena.instances.iter_mut().for_each(crate::rig::Instance::kill);
            let kafka = &arena.world.kafka;
            BROKERS.into_iter().for_each(|broker| kafka.kill(broker));
            // At once: one alone finds no quorum, and waits for it.
            std::thread::scope(|scope| {
                for broker in BROKERS {
                    scope.spawn(|| kafka.restart(broker));
                }
            });
            (vec![0, 1, 2], "all brokers".into())
        }
    };
    for index in ended {
        arena.replace(index);
    }
    let moved = arena.standing.wait_all_move();
    let stood = arena.standing.longest();
    arena.wait_whole();
    vec![("faults", what.into()), ("moved_s", seconds(moved)), ("stood_s", seconds(stood))]
}

#[test]
fn two_faults_at_once_lose_nothing_and_repeat_nothing() {
    let plan = |proof: &Proof, _: &mut Random| proof.plan(&PAIRS);
    run("doubles", "double", &Stage::default(), plan, act);
}
