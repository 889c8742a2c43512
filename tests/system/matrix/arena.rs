//! The place where a cell is played: three instances under load, sessions and transactions that end soon after a death,
//! and clocks that measure how long a partition stood still and whether the last stable offsets move.

use super::stable::Stable;
use super::standing::Standing;
use crate::rig::{Feed, Instance, Proof, Random, World, say, until};
use serde_json::Value;
use std::fmt::Display;
use std::time::Duration;

const IDS: i64 = 1_000;
const NAMES: [&str; 3] = ["first", "second", "third"];
/// Cells of one world: it is judged at its end, and its data grow with each cell.
const CELLS_MAX: usize = 40;
const TOPICS: [&str; 5] = ["readings", "corrections", "large-changes", "readings-dlt", "corrections-dlt"];

/// Partitions of the two source topics together.
const PARTITIONS: usize = 24;

/// After this silence an instance's partitions are given to others.
pub const SESSION: Duration = Duration::from_secs(4);

/// Facts kept of a cell beside its name and its length.
pub type Facts = Vec<(&'static str, Value)>;

/// Servers, and the instances by the number of their names.
pub struct Arena {
    pub instances: [Instance; 3],
    pub standing: Standing,
    pub random: Random,
    stable: Stable,
    pub world: World, // last: the others need its servers
}

impl Arena {
    fn new(name: &'static str, stage: &Stage, random: Random) -> Option<Self> {
        let world = if stage.is_alone { World::alone_on_three_brokers } else { World::on_three_brokers };
        let mut world = world(name, IDS)?;
        let milliseconds = SESSION.as_millis().to_string();
        let short = ["SESSION", "TRANSACTION"].map(|name| format!("TIDEGATE_KAFKA__{name}_TIMEOUT_MS"));
        world.settings.retain(|(name, _)| !short.contains(name));
        world.settings.extend(short.map(|name| (name, milliseconds.clone())));
        if stage.does_broker_assign {
            world.let_broker_assign();
        }
        let instances = NAMES.map(|name| world.instance(name));
        let (standing, stable) =
            (Standing::start(&world.postgres.url), Stable::connect(&world.kafka.bootstrap, &TOPICS));
        Some(Self { instances, standing, random, stable, world })
    }

    /// An index in `[0, end)`.
    pub fn any(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).unwrap()
    }

    /// Puts a successor in the place of one that has ended.
    pub fn replace(&mut self, index: usize) {
        self.instances[index] = self.world.instance(NAMES[index]);
    }

    /// SIGTERM, which must end it in order.
    pub fn terminate(&mut self, index: usize) -> Duration {
        let (status, took) = self.instances[index].terminate(Duration::from_secs(15));
        let log = || self.instances[index].log();
        assert!(status.success(), "{} ended with {status} after {took:?}\n{}", NAMES[index], log());
        took
    }

    /// Puts a successor in its place that strikes at a crash point.
    pub fn arm(&mut self, index: usize, wish: &str) {
        self.terminate(index);
        self.instances[index] = self.world.armed_instance(NAMES[index], wish, &[]);
    }

    /// All run, each has partitions again, and they have been taken over.
    pub fn wait_whole(&mut self) {
        self.world.wait_owners(3);
        self.standing.wait_all_move();
        for instance in &mut self.instances {
            assert!(instance.is_running(), "{} ended by itself\n{}", instance.name, instance.log());
        }
    }

    /// Times that the decided messages of an earlier owner were published.
    pub fn recovered(&self) -> usize {
        let words = "publishing the messages that an earlier owner decided";
        self.instances.iter().map(|instance| instance.log().matches(words).count()).sum()
    }

    /// The ends of logs at the end of the cell before are stable, and those of now have to be soon.
    fn settle(&mut self) {
        self.stable.wait();
        self.stable.note();
    }
}

/// The conditions under which the cells are played.
#[derive(Default)]
pub struct Stage {
    pub does_broker_assign: bool,
    /// With no other world beside it.
    pub is_alone: bool,
}

/// Plays the cells of a kind, at most [`CELLS_MAX`] in a world, and judges each world.
pub fn run<C: Display + Clone>(
    name: &'static str,
    kind: &'static str,
    stage: &Stage,
    plan: impl FnOnce(&Proof, &mut Random) -> Vec<C>,
    mut act: impl FnMut(&mut Arena, &C) -> Facts,
) {
    let seed = Random::seed("TIDEGATE_MATRIX_SEED");
    let mut random = Random::new(seed);
    let cells = plan(&Proof::new(kind, seed), &mut random);
    say(&format!("{name}: TIDEGATE_MATRIX_SEED={seed}, {} cells", cells.len()));
    for cells in cells.chunks(CELLS_MAX) {
        let mut proof = Proof::new(kind, seed);
        let Some(mut arena) = Arena::new(name, stage, Random::new(random.next())) else {
            return;
        };
        let mut feed = Feed::new(&arena.world, IDS, seed);
        let mut is_time_over = false;
        feed.during(|| {
            until("the feed comes to all partitions", Duration::from_secs(30), || arena.standing.sees(PARTITIONS));
            arena.wait_whole();
            for cell in cells {
                is_time_over = !proof.begin(cell);
                if is_time_over {
                    break;
                }
                arena.standing.forget();
                let facts = act(&mut arena, cell);
                arena.settle();
                let told: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
                arena.world.note(&format!("{cell}: {}", told.join(", ")));
                proof.end(&facts);
            }
            arena.settle();
            arena.stable.wait();
        });
        arena.world.judge(&feed, Duration::from_secs(60));
        proof.clean();
        if is_time_over {
            break;
        }
    }
}

/// A fact: a time in seconds.
pub fn seconds(time: Duration) -> Value {
    ((time.as_secs_f64() * 10.0).round() / 10.0).into()
}
