//! Each crash point of a step with rows once: a kill, and a pause past the session, under load, the victim rotating over
//! three instances.

use crate::rig::{Feed, Instance, Random, World, say};
use std::time::{Duration, Instant};

const IDS: i64 = 1_000;
/// Seconds in which every partition has moved on after a death: the session's 4, and 5.
const AWAY_MAX: f64 = 9.0;
const NAMES: [&str; 3] = ["first", "second", "third"];

/// A world whose sessions and transactions end soon after a death.
fn world(name: &'static str) -> Option<World> {
    let mut world = World::new(name, IDS)?;
    world.settings.retain(|(name, _)| name != "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS");
    for (name, value) in [("SESSION", "4000"), ("TRANSACTION", "4000")] {
        world.settings.push((format!("TIDEGATE_KAFKA__{name}_TIMEOUT_MS"), value.into()));
    }
    Some(world)
}

/// Feeds until `act` has come to its end, and judges.
fn under_load(world: &World, seed: u64, act: impl FnOnce()) {
    let mut feed = Feed::new(world, IDS, seed);
    feed.during(act);
    world.judge(&feed, Duration::from_secs(60));
}

fn recovered(instances: &[Instance]) -> usize {
    instances.iter().map(|instance| instance.log().matches("publishing what an earlier owner decided").count()).sum()
}

/// Puts the victim's successor, armed, in its place.
fn arm(world: &World, victim: &mut Instance, wish: &str) {
    let (status, took) = victim.terminate(Duration::from_secs(15));
    assert!(status.success(), "{} ended with {status} after {took:?}", victim.name);
    *victim = world.armed_instance(&victim.name.clone(), wish, &[]);
}

/// How often the victim comes to the point before it strikes there.
fn hits(point: u32, random: &mut Random) -> u64 {
    match point {
        4 => 60 + random.below(8), // the first COMMITs are those of the start and of the claims
        15.. => 1,                 // there is one revoke, and one end
        _ => 1 + random.below(8),
    }
}

/// Three instances under load, and a cell for each point: `act` gets the instances, the victim's index, the point and how
/// often the victim must come there, and answers what to note.
fn each_point(
    name: &'static str,
    points: impl Iterator<Item = u32>,
    mut act: impl FnMut(&World, &mut [Instance; 3], usize, u32, u64) -> String,
) {
    let seed = Random::seed("TIDEGATE_POINTS_SEED");
    let Some(world) = world(name) else { return };
    say(&format!("{name}: TIDEGATE_POINTS_SEED={seed}"));
    let mut random = Random::new(seed);
    let mut instances = NAMES.map(|name| world.instance(name));
    world.wait_owners(3);
    under_load(&world, seed, || {
        for (cell, point) in points.enumerate() {
            let (index, before) = (cell % 3, recovered(&instances));
            let told = act(&world, &mut instances, index, point, hits(point, &mut random));
            let count = recovered(&instances).saturating_sub(before);
            world.note(&format!("K{point} {}: {told}, {count} rests published", NAMES[index]));
        }
    });
}

#[test]
fn a_kill_at_each_crash_point_loses_nothing_and_repeats_nothing() {
    each_point("points", (1..=11).chain([14, 15, 16, 17]), |world, instances, index, point, hit| {
        let wish = format!("K{point}=kill@{hit}");
        let began = Instant::now();
        let predecessors = instances[index].log().len();
        arm(world, &mut instances[index], &wish);
        if point >= 15 {
            // Its predecessor's ownership may still be counted, and a process that has just begun does not hear signals.
            crate::rig::until("the successor has a partition", Duration::from_secs(30), || {
                let log = instances[index].log().split_off(predecessors);
                if log.contains("partition taken over") { Ok(()) } else { Err(log) }
            });
            world.wait_owners(3);
            instances[index].signal("TERM");
        }
        instances[index].wait_killed(Duration::from_secs(30));
        let died = began.elapsed().as_secs_f64();
        world.wait_all_move();
        let took = began.elapsed().as_secs_f64() - died;
        assert!(took <= AWAY_MAX, "{wish}: all moved {took:.1} s after the death only");
        instances[index] = world.instance(NAMES[index]);
        world.wait_owners(3);
        format!("{wish}, dead after {died:.1} s, all move {took:.1} s later")
    });
}

#[test]
fn a_pause_past_the_session_at_each_crash_point_does_no_harm() {
    each_point("pauses", (1..=11).chain([14]), |world, instances, index, point, hit| {
        let wish = format!("K{point}=pause@{hit}");
        arm(world, &mut instances[index], &wish);
        instances[index].wait_paused(Duration::from_secs(30));
        let began = Instant::now();
        world.wait_all_move();
        let took = began.elapsed();
        // Past the session in any case, with the successors at work.
        std::thread::sleep(Duration::from_secs(5).saturating_sub(took));
        instances[index].signal("CONT");
        world.wait_all_move();
        assert!(instances[index].is_running(), "{wish}: it ended by itself\n{}", instances[index].log());
        format!("{wish}, all moved after {:.1} s", took.as_secs_f64())
    });
}
