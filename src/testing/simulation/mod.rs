//! A schedule over the real engine: records and failures in their order, in one thread and by a simulated clock.
//!
//! The same acts over the same topology give the same trace, byte for byte. After the last act everything that is down
//! is started again, the pipeline comes to rest, and its traces are held against the naive interpreter.

mod acts;
mod schedule;
mod sights;
mod turns;

pub use schedule::{Act, COMMIT_STEPS, Disaster, FAILURES, Failure, Sending};

use crate::adapters::memory::Snapshot;
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, Offset, Partition, TopicPartition};
use crate::flow::topology::Topology;
use crate::settings::engine::EngineSettings;
use crate::testing::driver::TestDriver;
use crate::testing::observed::{Event, Message, Row, Standstill};
use crate::testing::stall::Idle;
use crate::testing::watch::{Applications, watched};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// The set-up of a simulation.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Partitions of every topic.
    pub partitions: i32,
    /// Instances that run from the start.
    pub instances: usize,
    /// Workers an instance.
    pub workers: usize,
    /// The engine's settings.
    pub settings: EngineSettings,
    /// The largest messages that topics take.
    pub limits: Vec<(String, usize)>,
    /// Turns of an instance for each turn of its relays.
    pub lag: usize,
}

/// The progress of the records of one source partition.
#[derive(Debug, Default)]
struct Decisions {
    /// The numbers of the sub-topology and the partition.
    task: (usize, i32),
    reached: Option<NextOffset>,
    /// When the last decided record was decided.
    sequence: u64,
    /// Which instance ran the step over a record, in which place of the order, and what the wall clock said; the latest last.
    applied: BTreeMap<Offset, Vec<(usize, u64, i64)>>,
    /// Likewise for records taken up, by steps without rows.
    taken: BTreeMap<Offset, Vec<(usize, u64)>>,
    /// When a timer was last run in front of a record of that offset, or behind it.
    turned: BTreeMap<Offset, u64>,
}

/// A run of a topology under a schedule.
pub struct Simulation {
    pub(super) driver: TestDriver,
    pub(super) topology: Topology,
    pub(super) shape: Shape,
    events: Vec<(u64, Event)>,
    first_rows: BTreeMap<(String, Key), Row>,
    thresholds: BTreeMap<String, f64>,
    /// Messages of the sources before each disaster.
    held: BTreeMap<TopicPartition, BTreeMap<Offset, Message>>,
    pub(super) struck: BTreeSet<usize>,
    pub(super) forgotten: BTreeSet<usize>,
    pub(super) must_halt: BTreeSet<(usize, i32)>,
    /// Likewise, by what the only disk remembers.
    pub(super) expected_halts: BTreeSet<(usize, i32)>,
    backup: Option<Snapshot>,
    pub(super) had_disaster: bool,
    was_living: bool,
    /// The instances whose disk was full or failed at some time: a partition may halt there, until a restart.
    broken_disks: BTreeSet<usize>,
    /// Everything that was ever seen to stand still, but for those.
    seen: Vec<Standstill>,
    applications: Arc<Applications>,
    progress: BTreeMap<TopicPartition, Decisions>,
    sequence: u64,
    /// When records were handled, by the wall clock that their steps were shown.
    handled: BTreeMap<(TopicPartition, Offset), i64>,
    trace: Option<String>,
}

impl Simulation {
    /// A world for the topology: topics, tables, instances.
    ///
    /// # Panics
    /// When the topology is not valid.
    #[must_use]
    pub fn new(topology: Topology, shape: Shape) -> Self {
        let applications = Arc::new(Applications::default());
        let driver = TestDriver::new(watched(topology.clone(), &applications))
            .partitions(shape.partitions)
            .instances(shape.instances)
            .workers(shape.workers)
            .lag(shape.lag)
            .watched_by(&applications)
            .settings(|settings| *settings = EngineSettings { ask_wait: Duration::ZERO, ..shape.settings.clone() });
        let mut driver = shape.limits.iter().fold(driver, |driver, (topic, bytes)| driver.limit(topic, *bytes));
        let thresholds = topology.thresholds().iter().map(|limit| (limit.name().to_owned(), limit.value())).collect();
        applications.take_time(Idle::new(driver.clock(), driver.log().clone(), driver.database().clone()));
        let subs = topology.sub_topologies().iter().enumerate();
        let sources = subs.flat_map(|(number, sub)| sub.sources().map(move |topic| (number, topic)));
        let places = sources.flat_map(|(number, topic)| {
            (0..shape.partitions).map(move |n| ((number, n), TopicPartition::new(topic.clone(), Partition(n))))
        });
        let progress = places.map(|(task, place)| (place, Decisions { task, ..Decisions::default() })).collect();
        Self {
            driver,
            topology,
            shape,
            events: Vec::new(),
            first_rows: BTreeMap::new(),
            thresholds,
            held: BTreeMap::new(),
            struck: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            must_halt: BTreeSet::new(),
            expected_halts: BTreeSet::new(),
            backup: None,
            had_disaster: false,
            was_living: false,
            broken_disks: BTreeSet::new(),
            seen: Vec::new(),
            applications,
            progress,
            sequence: 0,
            handled: BTreeMap::new(),
            trace: None,
        }
    }

    /// Keeps a trace from now on: a line for each act and each thing that came of it.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.trace = Some(String::new());
        self
    }

    /// The trace so far; empty unless it is kept.
    #[must_use]
    pub fn trace(&self) -> &str {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Puts a row into a table, with version 0.
    ///
    /// # Panics
    /// The same as [`TestDriver::row`].
    pub fn row(&mut self, table: &str, key: impl Into<Key>, row: impl Serialize) {
        let key = key.into();
        self.driver.row(table, key.clone(), row);
        self.note_row(table, key);
    }

    /// Puts a row whose columns are given by name, with version 0; values for columns that the table lacks are left
    /// out.
    ///
    /// # Panics
    /// When there is no such table, or a column is missing or has another type.
    pub fn row_by_name(&mut self, table: &str, key: impl Into<Key>, row: &serde_json::Map<String, serde_json::Value>) {
        let key = key.into();
        self.driver.row_by_name(table, key.clone(), row);
        self.note_row(table, key);
    }

    fn note_row(&mut self, table: &str, key: Key) {
        let values = self.driver.named_row(table, &key).map(|(_, values)| values).unwrap_or_default();
        self.first_rows.insert((table.into(), key), Row { version: 0, values: values.into_iter().collect() });
    }

    /// The driver, to set constraints, limits and thresholds that a topology needs beside its rows.
    pub const fn driver(&mut self) -> &mut TestDriver {
        &mut self.driver
    }

    /// The commit steps at which instances died.
    pub fn crashed(&mut self) -> Vec<String> {
        self.driver.crashed().iter().map(|step| format!("{step:?}")).collect()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{}", line());
        }
    }
}
