//! Faults of the database, under load and with nobody to help: its end in four ways, its sessions ended in a storm, locks
//! that nobody gives back, a server and an instance that stand still.

use crate::rig::{Feed, Instance, Proof, Random, World, say, sql, until};
use std::fmt;
use std::time::{Duration, Instant};

const IDS: i64 = 1_000;
const NAMES: [&str; 3] = ["first", "second", "third"];
/// Each world is judged once, at its end.
const CELLS_MAX: usize = 40;
/// In which every partition has moved once the fault is over.
const MOVE_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Killed,
    KilledForLong,
    Aborted,
    Stopped,
    /// `pg_terminate_backend` ten times a second.
    Storm,
    /// Somebody holds locks for longer than we wait for one.
    RowsLocked,
    PositionsLocked,
    TableLocked,
    /// An instance stands still with a transaction open: shorter than its session lasts, and longer.
    InstanceFrozen,
    InstanceFrozenForLong,
    /// The server stands still for longer than a statement may take, and than a client waits.
    ServerFrozen,
    ServerFrozenForLong,
}

const FAULTS: [Fault; 12] = [
    Fault::Killed,
    Fault::KilledForLong,
    Fault::Aborted,
    Fault::Stopped,
    Fault::Storm,
    Fault::RowsLocked,
    Fault::PositionsLocked,
    Fault::TableLocked,
    Fault::InstanceFrozen,
    Fault::InstanceFrozenForLong,
    Fault::ServerFrozen,
    Fault::ServerFrozenForLong,
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "SIGKILL",
            Self::KilledForLong => "SIGKILL, down for 3 s",
            Self::Aborted => "immediate stop",
            Self::Stopped => "fast stop",
            Self::Storm => "ten sessions a second terminated, for 5 s",
            Self::RowsLocked => "rows locked for 3 s",
            Self::PositionsLocked => "positions locked for 3 s",
            Self::TableLocked => "table locked for 3 s",
            Self::InstanceFrozen => "instance frozen in a transaction, within its session",
            Self::InstanceFrozenForLong => "instance frozen in a transaction, past its session",
            Self::ServerFrozen => "server frozen for 3 s",
            Self::ServerFrozenForLong => "server frozen for 9 s",
        })
    }
}

impl Fault {
    /// The line that the server's log has more often after the fault.
    const fn trace(self) -> Option<&'static str> {
        match self {
            Self::Killed | Self::KilledForLong => Some("database system was not properly shut down"),
            Self::Aborted => Some("received immediate shutdown request"),
            Self::Stopped => Some("received fast shutdown request"),
            Self::Storm => Some("terminating connection due to administrator command"),
            Self::RowsLocked | Self::PositionsLocked | Self::TableLocked => {
                Some("canceling statement due to lock timeout")
            }
            Self::InstanceFrozen | Self::InstanceFrozenForLong => {
                Some("terminating connection due to idle-in-transaction timeout")
            }
            Self::ServerFrozen | Self::ServerFrozenForLong => None, // it could not write
        }
    }
}

/// Three instances, and short limits, so that a cell is short.
struct Stage {
    instances: [Instance; 3],
    random: Random,
    /// Cells so far: the victim rotates.
    count: usize,
    world: World, // last: the others need its servers
}

impl Stage {
    fn new(name: &'static str, seed: u64) -> Option<Self> {
        let mut world = World::new(name, IDS)?;
        let settings = [
            ("KAFKA__SESSION_TIMEOUT_MS", "4000"),
            ("KAFKA__TRANSACTION_TIMEOUT_MS", "4000"),
            ("DATABASE__STATEMENT_TIMEOUT_MS", "1500"),
            ("DATABASE__LOCK_TIMEOUT_MS", "500"),
            ("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT_MS", "1500"),
        ];
        world.settings.extend(settings.map(|(name, value)| (format!("TIDEGATE_{name}"), value.into())));
        let instances = NAMES.map(|name| world.instance(name));
        world.wait_owners(3);
        Some(Self { instances, random: Random::new(seed), count: 0, world })
    }

    fn traces(&self, fault: Fault) -> usize {
        fault.trace().map_or(0, |words| self.world.postgres.log().matches(words).count())
    }

    /// Until it is over. Answers the traces that it has left.
    fn strike(&mut self, fault: Fault) -> usize {
        let before = self.traces(fault);
        let postgres = &self.world.postgres;
        std::thread::sleep(Duration::from_millis(self.random.below(500)));
        match fault {
            Fault::Killed => postgres.kill(),
            Fault::KilledForLong => {
                postgres.kill();
                std::thread::sleep(Duration::from_secs(3));
            }
            Fault::Aborted => postgres.stop_at_once(),
            Fault::Stopped => postgres.stop(),
            Fault::Storm => self.storm(Duration::from_secs(5)),
            Fault::RowsLocked => self.lock("SELECT count(*) FROM (SELECT FROM accounts FOR UPDATE) AS r"),
            Fault::PositionsLocked => self.lock("SELECT count(*) FROM (SELECT FROM tidegate.position FOR UPDATE) AS r"),
            Fault::TableLocked => self.lock("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE"),
            Fault::InstanceFrozen | Fault::InstanceFrozenForLong => self.freeze_instance(fault),
            Fault::ServerFrozen => self.freeze_server(Duration::from_secs(3)),
            Fault::ServerFrozenForLong => self.freeze_server(Duration::from_secs(9)),
        }
        if matches!(fault, Fault::Killed | Fault::KilledForLong | Fault::Aborted | Fault::Stopped) {
            self.world.postgres.restart();
        }
        self.traces(fault) - before
    }

    fn storm(&self, during: Duration) {
        let ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tidegate' ORDER BY random() LIMIT 1";
        let end = Instant::now() + during;
        while Instant::now() < end {
            self.world.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({ours}) AS o"));
            std::thread::sleep(Duration::from_millis(95)); // asking takes some, too
        }
    }

    fn lock(&self, statement: &str) {
        sql(&self.world.postgres.url, &format!("BEGIN; {statement}; SELECT pg_sleep(3); ROLLBACK"));
    }

    fn freeze_server(&self, during: Duration) {
        self.world.postgres.freeze();
        std::thread::sleep(during);
        self.world.postgres.thaw();
    }

    fn freeze_instance(&mut self, fault: Fault) {
        let victim = self.count % 3;
        let (status, took) = self.instances[victim].terminate(Duration::from_secs(15));
        assert!(status.success(), "{} ended with {status} after {took:?}", NAMES[victim]);
        let wish = format!("K3=pause@{}", 1 + self.random.below(8));
        self.instances[victim] = self.world.armed_instance(NAMES[victim], &wish, &[]);
        self.instances[victim].wait_paused(Duration::from_secs(30));
        let began = Instant::now();
        if fault == Fault::InstanceFrozenForLong {
            self.world.wait_all_move(); // its locks do not outlive its session
        }
        let least = Duration::from_millis(if fault == Fault::InstanceFrozen { 2_500 } else { 6_000 });
        std::thread::sleep(least.saturating_sub(began.elapsed()));
        self.instances[victim].signal("CONT");
    }

    /// Plays it; how long partitions stood once it was over, and its traces.
    fn play(&mut self, fault: Fault) -> (f64, usize) {
        let traces = self.strike(fault);
        let began = Instant::now();
        assert!(fault.trace().is_none() || traces > 0, "{fault}: it left no trace in the server's log");
        self.world.wait_all_move();
        let took = began.elapsed();
        assert!(took <= MOVE_MAX, "{fault}: partitions stood for {took:?}");
        for instance in &mut self.instances {
            assert!(instance.is_running(), "{fault}: {} ended by itself\n{}", instance.name, instance.log());
        }
        self.count += 1;
        (took.as_secs_f64(), traces)
    }

    /// No session of ours holds a transaction open without working on it.
    fn wait_none_idle(&self) {
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' AND state LIKE \
                    'idle in transaction%' AND state_change < now() - interval '2 s'";
        until("no transaction stands open", Duration::from_secs(5), || match self.world.number(idle) {
            0 => Ok(()),
            count => Err(format!("{count} do")),
        });
    }
}

/// Plays the cells in one world; `false` when the time for new ones is over.
fn play(faults: &[Fault], seed: u64) -> bool {
    let mut proof = Proof::new("database", seed);
    let Some(mut stage) = Stage::new("befallen", seed) else { return false };
    let mut feed = Feed::new(&stage.world, IDS, seed);
    let mut is_on = true;
    feed.during(|| {
        for fault in faults {
            is_on = is_on && proof.begin(fault);
            if is_on {
                let (took, traces) = stage.play(*fault);
                stage.world.note(&format!("{fault}: all moved {took:.1} s later, {traces} traces"));
                proof.end(&[("all_move_s", took.into()), ("traces", traces.into())]);
            }
        }
    });
    stage.wait_none_idle();
    stage.world.judge(&feed, Duration::from_secs(60));
    proof.clean();
    is_on
}

#[test]
fn whatever_befalls_the_database_nothing_is_lost_or_done_twice() {
    let seed = Random::seed("TIDEGATE_DATABASE_SEED");
    let faults = Proof::new("database", seed).plan(&FAULTS);
    say(&format!("database: TIDEGATE_DATABASE_SEED={seed}, {} faults", faults.len()));
    faults.chunks(CELLS_MAX).all(|faults| play(faults, seed));
}
