//! Each crash point of a step with rows: a kill, and a pause past the session, under load, the victim rotating over three
//! instances.

use super::arena::{Arena, Facts, SESSION, Stage, run, seconds};
use crate::rig::{Proof, Random, until};
use std::fmt::{Display, Formatter, Result};
use std::time::{Duration, Instant};

const VICTIMS: [&str; 3] = ["first", "second", "third"];
/// The points at which a process can be killed; from [`LEAVING`] on while it leaves.
const KILLS: [u32; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
/// The points at which it drops an outbox partition that is past the retention, which it looks for as it starts.
const DROPPING: [u32; 2] = [12, 13];
const LEAVING: u32 = 15;
const PAUSES: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14];
/// Past the session; past the transaction and the broker's look at it, mostly; past both with the successors long at work.
const LENGTHS: [u64; 3] = [8, 15, 25];
/// The shortest that is past the session.
const SHORTEST: u64 = 5;

#[derive(Clone, PartialEq, Eq)]
struct Kill {
    point: u32,
    victim: usize,
}

impl Display for Kill {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "K{} {}", self.point, VICTIMS[self.victim])
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Pause {
    point: u32,
    seconds: u64,
}

impl Display for Pause {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "K{} for {} s", self.point, self.seconds)
    }
}

/// Number of times that a process comes to the point, the last of which strikes.
pub fn hits(point: u32, random: &mut Random) -> u64 {
    match point {
        4 => 60 + random.below(8), // the first COMMITs are those of the start and of the claims
        12 | 13 | LEAVING.. => 1,  // there is one old partition, one revoke, one end
        _ => 1 + random.below(8),
    }
}

/// Each point with each victim; the sample is each point once.
fn kills(proof: &Proof, random: &mut Random) -> Vec<Kill> {
    let kill = |point, victim| Kill { point, victim };
    let all: Vec<Kill> = (0..3).flat_map(|turn| (0..).zip(KILLS).map(move |(n, p)| kill(p, (n + turn) % 3))).collect();
    let turn = usize::try_from(random.below(3)).unwrap();
    proof.plan_or_sample(&all, &all[turn * KILLS.len()..][..KILLS.len()])
}

/// Kills the victim at the point. Once it is dead, no partition may stand for longer than its session and 5 s more.
fn kill(arena: &mut Arena, cell: &Kill, session: Duration) -> Facts {
    let Kill { point, victim } = *cell;
    let wish = format!("K{point}=kill@{}", hits(point, &mut arena.random));
    let (before, told) = (arena.recovered(), arena.instances[victim].log().len());
    if DROPPING.contains(&point) {
        arena.world.sql(
            "CREATE TABLE tidegate.outbox_of_old (LIKE tidegate.outbox INCLUDING DEFAULTS);
             ALTER TABLE tidegate.outbox ATTACH PARTITION tidegate.outbox_of_old
                 FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')",
        );
    }
    arena.arm(victim, &wish);
    if point >= LEAVING {
        // Its predecessor's ownership may still be counted, and a process that has just begun does not hear signals.
        until("the successor has a partition", Duration::from_secs(30), || {
            let log = arena.instances[victim].log().split_off(told);
            if log.contains("partition taken over") { Ok(()) } else { Err(log) }
        });
        arena.world.wait_owners(3);
        arena.instances[victim].signal("TERM");
    }
    arena.instances[victim].wait_killed(Duration::from_secs(30));
    arena.standing.forget();
    let moved = arena.standing.wait_all_move();
    let stood = arena.standing.longest();
    assert!(moved <= session + Duration::from_secs(5), "{cell}, {wish}: all moved {moved:?} after its death");
    let rests = arena.recovered().saturating_sub(before);
    arena.replace(victim);
    arena.wait_whole();
    let old = "SELECT count(*) FROM pg_class WHERE relname = 'outbox_of_old'";
    assert_eq!(arena.world.number(old), 0, "{cell}: its successor drops what it did not");
    vec![("wish", wish.into()), ("moved_s", seconds(moved)), ("stood_s", seconds(stood)), ("rests", rests.into())]
}

#[test]
fn a_kill_at_each_crash_point_loses_nothing_and_repeats_nothing() {
    run("points", "kill", &Stage { is_alone: true, ..Stage::default() }, kills, |arena, cell| {
        kill(arena, cell, SESSION)
    });
}

/// The broker's, see tests/servers/kafka.sh.
const SESSION_OF_THE_BROKER: Duration = Duration::from_secs(6);

#[test]
fn a_kill_at_each_crash_point_does_the_same_where_the_broker_assigns() {
    let stage = Stage { does_broker_assign: true, is_alone: true };
    let plan = |proof: &Proof, random: &mut Random| {
        let one: Vec<Kill> = (0..).zip(KILLS).map(|(n, point)| Kill { point, victim: n % 3 }).collect();
        let any = usize::try_from(random.below(one.len() as u64)).unwrap();
        proof.plan_or_sample(&one, &one[any..][..1])
    };
    run("assigning", "protocol", &stage, plan, |arena, cell| kill(arena, cell, SESSION_OF_THE_BROKER));
}

/// Each point for each length; the sample is each point once.
fn pauses(proof: &Proof, _: &mut Random) -> Vec<Pause> {
    let of = |seconds| PAUSES.into_iter().map(move |point| Pause { point, seconds });
    let all: Vec<Pause> = LENGTHS.into_iter().flat_map(of).collect();
    proof.plan_or_sample(&all, &of(SHORTEST).collect::<Vec<_>>())
}

#[test]
fn a_pause_past_the_session_at_each_crash_point_does_no_harm() {
    let mut number = 0;
    run("pauses", "pause", &Stage::default(), pauses, |arena, cell| {
        let victim = number % 3;
        number += 1;
        let wish = format!("K{}=pause@{}", cell.point, hits(cell.point, &mut arena.random));
        let before = arena.recovered();
        arena.arm(victim, &wish);
        arena.instances[victim].wait_paused(Duration::from_secs(30));
        let began = Instant::now();
        arena.standing.forget();
        let moved = arena.standing.wait_all_move();
        let stood = arena.standing.longest();
        // Past the session in any case, with the successors at work.
        std::thread::sleep(Duration::from_secs(cell.seconds).saturating_sub(began.elapsed()));
        let paused = began.elapsed();
        arena.instances[victim].signal("CONT");
        arena.standing.wait_all_move();
        arena.wait_whole();
        vec![
            ("wish", wish.into()),
            ("victim", VICTIMS[victim].into()),
            ("paused_s", seconds(paused)),
            ("moved_s", seconds(moved)),
            ("stood_s", seconds(stood)),
            ("rests", arena.recovered().saturating_sub(before).into()),
        ]
    });
}
