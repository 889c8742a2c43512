//! A random mix of all families of faults, drawn again every 20 s, a quarter of them quiet, under the load; the oracle
//! judges. A run's seed repeats its choices, though not the algorithm's draws.

use super::cluster::wait_in_sync;
use crate::load::{history, told};
use crate::reader::{Told, Watch, now_ms};
use crate::rig::{Instance, Load, Proof, Random, World, say};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["first", "second", "third"];
const ROUND: Duration = Duration::from_secs(20);
const RECORDS_PER_SECOND: u64 = 300;
/// An output may stand for 30 s after the last fault (O11); the watcher sees the moment after that.
const WATCHED_ONCE_HEALED: Duration = Duration::from_secs(32);
/// Then everything is worked off (O12).
const WORKED_OFF_WITHIN_MS: i64 = 60_000;

/// A mix of so many seconds.
#[derive(Clone)]
struct Mix(u64);

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "random mix of {} s", self.0)
    }
}

/// The fault of a round.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Family {
    Quiet,
    Kill,
    Pause,
    Double,
    Terminate,
    BrokerKill,
    BrokerStop,
    BrokerFreeze,
    DatabaseKill,
    DatabaseStorm,
}

const FAULTS: [Family; 9] = [
    Family::Kill,
    Family::Pause,
    Family::Double,
    Family::Terminate,
    Family::BrokerKill,
    Family::BrokerStop,
    Family::BrokerFreeze,
    Family::DatabaseKill,
    Family::DatabaseStorm,
];

/// Draws the rounds. Each fault is over before the next is drawn, since all brokers at once is nobody's promise.
struct Mixer<'a> {
    world: &'a World,
    instances: [Instance; 3],
    random: Random,
    rounds: BTreeMap<Family, u64>,
}

impl Mixer<'_> {
    fn any(&mut self, end: u64) -> usize {
        usize::try_from(self.random.below(end)).unwrap()
    }

    /// Between `least` and `most` seconds go by.
    fn wait(&mut self, least: u64, most: u64) {
        std::thread::sleep(Duration::from_millis(1_000 * least + self.random.below(1_000 * (most - least))));
    }

    fn run(&mut self, during: Duration) {
        let end = Instant::now() + during;
        while Instant::now() + ROUND <= end {
            let began = Instant::now();
            let is_quiet = self.random.below(4) == 0;
            let family = if is_quiet { Family::Quiet } else { FAULTS[self.any(9)] };
            *self.rounds.entry(family).or_default() += 1;
            self.wait(0, 3);
            self.play(family);
            std::thread::sleep(ROUND.saturating_sub(began.elapsed()));
        }
    }

    fn play(&mut self, family: Family) {
        let (one, broker) = (self.any(3), (1 + self.any(3)).to_string());
        self.world.note(&format!("{family:?}: {} or broker {broker}", NAMES[one]));
        for instance in &mut self.instances {
            assert!(instance.is_running(), "{} ended by itself\n{}", instance.name, instance.log());
        }
        match family {
            Family::Quiet => {}
            Family::Kill => {
                self.instances[one].kill();
                self.wait(0, 9);
                self.replace(one);
            }
            Family::Pause => {
                self.instances[one].signal("STOP");
                self.wait(3, 12);
                self.instances[one].signal("CONT");
            }
            Family::Double => {
                let other = (one + 1) % 3;
                self.instances[one].kill();
                self.instances[other].signal("STOP");
                self.wait(2, 9);
                self.replace(one);
                self.instances[other].signal("CONT");
            }
            Family::Terminate => {
                let (status, took) = self.instances[one].terminate(Duration::from_secs(15));
                let log = || self.instances[one].log();
                assert!(status.success(), "{} ended with {status} after {took:?}\n{}", NAMES[one], log());
                self.wait(0, 4);
                self.replace(one);
            }
            Family::BrokerKill | Family::BrokerStop | Family::BrokerFreeze => self.play_broker(family, &broker),
            Family::DatabaseKill => {
                self.world.postgres.kill();
                self.wait(0, 4);
                self.world.postgres.restart();
            }
            Family::DatabaseStorm => {
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                for _ in 0..30 {
                    self.world.sql(all);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn play_broker(&mut self, family: Family, broker: &str) {
        wait_in_sync(self.world);
        let kafka = &self.world.kafka;
        match family {
            Family::BrokerFreeze => {
                kafka.act("pause", broker);
                self.wait(4, 9);
                kafka.act("resume", broker);
            }
            _ => {
                kafka.act(if family == Family::BrokerKill { "kill" } else { "end" }, broker);
                self.wait(0, 6);
                kafka.restart(broker);
            }
        }
    }

    fn replace(&mut self, index: usize) {
        self.instances[index] = self.world.instance(NAMES[index]);
    }
}

/// Plays one mix; answers the features of its rounds.
fn play(world: &World, mix: &Mix, seed: u64) -> String {
    let mut load = Load::new(world, seed);
    let instances = NAMES.map(|name| world.instance(name));
    world.wait_owners(3);
    let watch = Watch::start(&world.servers()).unwrap();
    let mut mixer = Mixer { world, instances, random: Random::new(seed ^ 0x313), rounds: BTreeMap::new() };
    let during = Duration::from_secs(mix.0);
    std::thread::scope(|scope| {
        scope.spawn(|| load.send(RECORDS_PER_SECOND * mix.0, during));
        mixer.run(during);
    });
    let (healed, healed_at_ms) = (Instant::now(), now_ms());
    std::thread::sleep(WATCHED_ONCE_HEALED.saturating_sub(healed.elapsed()));
    let samples = watch.end().unwrap();
    let history = history(world, &load, Told { samples, healed_at_ms: Some(healed_at_ms), ..Told::default() });
    let (anomalies, text) = told(&history);
    let rounds = format!("{:?}", mixer.rounds);
    assert!(anomalies.is_empty(), "seed {seed}, {rounds}: {anomalies:?}\n{text}");
    let watched_ms = history.samples.last().map(|last| last.at_ms - healed_at_ms);
    assert!(watched_ms > Some(30_000), "watched for {watched_ms:?} ms once healed");
    let read_ms = history.read_at_ms - healed_at_ms;
    assert!(read_ms < WORKED_OFF_WITHIN_MS, "worked off {read_ms} ms after the last fault");
    world.note(&format!("{rounds}; {text}"));
    rounds
}

/// The mixes of `kind`, each in a world of its own.
fn run(name: &'static str, kind: &'static str, does_broker_assign: bool, sample: &[Mix]) {
    let seed = Random::seed("TIDEGATE_MATRIX_SEED");
    let mixes = Proof::new(kind, seed).plan_or_sample(&[Mix(300)], sample);
    for (number, mix) in (0..).zip(mixes) {
        let seed = seed + number;
        let mut proof = Proof::new(kind, seed);
        if !proof.begin(&mix) {
            break;
        }
        let Some(mut world) = World::load_on_three_brokers(name) else { return };
        say(&format!("{name}: TIDEGATE_MATRIX_SEED={seed}, {mix}"));
        if does_broker_assign {
            world.let_broker_assign();
        }
        let rounds = play(&world, &mix, seed);
        proof.end(&[("rounds", rounds.into())]);
        proof.clean();
    }
}

#[test]
fn the_oracle_finds_nothing_in_a_random_mix_of_all_faults() {
    run("mix", "mix", false, &[Mix(100)]);
}

#[test]
fn the_oracle_finds_nothing_in_a_random_mix_where_the_broker_assigns() {
    run("mix-assigning", "protocol", true, &[Mix(60)]);
}
