//! The driver: a world (log, rows, clock) and instances of the real engine that are stepped in it.

mod crashes;
mod operation;
mod operator;
mod outcome;
mod plan;
mod simulated;
mod traffic;
mod world;

pub use operation::Sent;

use crate::flow::key::Key;
use crate::flow::table::TableSpec;
use crate::flow::topology::Topology;
use crate::settings::engine::EngineSettings;
use crate::testing::driver::operation::{Operation, parse};
use crate::testing::driver::plan::Plan;
use crate::testing::driver::world::World;
use crate::testing::guard::Guard;
use crate::testing::watch::Applications;
use std::sync::Arc;
use std::time::Duration;

/// Workers an instance: two, so that batches of disjoint partitions interleave.
const WORKERS: usize = 2;

/// Runs a topology over the in-process log and rows: several partitions and instances, crashes, rebalances, time in hand.
///
/// Everything panics with a sentence on misuse, because a test is its only reader.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use serde_json::json;
/// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
/// # use tidegate::testing::TestDriver;
/// # #[derive(Deserialize)] struct Reading { value: f64 }
/// # #[derive(Serialize, Deserialize)] struct Account { score: f64 }
/// # #[derive(Serialize)] struct Change { magnitude: f64, score: f64 }
/// # struct Smooth;
/// # impl Algorithm for Smooth {
/// #     type Event = Reading; type Row = Account; type Notices = Option<Change>;
/// #     fn apply(&self, reading: Reading, account: &mut Account, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
/// #         let before = account.score;
/// #         account.score += 0.2 * (reading.value - before);
/// #         Ok(Some(Change { magnitude: (account.score - before).abs(), score: account.score }))
/// #     }
/// # }
/// let mut topology = Topology::new("scoring");
/// topology.source("readings").update("accounts", Smooth).filter(|change| change.magnitude >= 0.5).to("large-changes");
/// let mut driver = TestDriver::new(topology).partitions(4);
/// driver.row("accounts", 7, Account { score: 0.0 });
/// driver.send("readings", 7, json!({"value": 10.0}));
/// assert_eq!(driver.read("large-changes"), [(7, json!({"magnitude": 2.0, "score": 2.0}))]);
/// driver.crash_everywhere();
/// ```
pub struct TestDriver {
    plan: Plan,
    world: Option<World>,
    operations: Vec<Operation>,
}

impl TestDriver {
    /// A driver with one partition and one instance.
    ///
    /// # Panics
    /// When the topology is not valid.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        if let Err(errors) = topology.validate() {
            panic!("the topology is not valid: {}", errors.join("; "));
        }
        let settings = EngineSettings { batch_rows: 100, ask_wait: Duration::ZERO, ..EngineSettings::default() };
        let topology = Arc::new(topology);
        let plan = Plan {
            topology,
            settings,
            partitions: 1,
            instances: 1,
            workers: WORKERS,
            limits: Vec::new(),
            without: None,
            lag: 1,
            watch: None,
        };
        Self { plan, world: None, operations: Vec::new() }
    }

    fn configure(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        assert!(self.world.is_none(), "the driver is configured before the first row or record");
        change(&mut self.plan);
        self
    }

    /// Gives every topic `count` partitions.
    #[must_use]
    pub fn partitions(self, count: i32) -> Self {
        self.configure(|plan| plan.partitions = count)
    }

    /// Starts `count` instances of the pipeline.
    #[must_use]
    pub fn instances(self, count: usize) -> Self {
        self.configure(|plan| plan.instances = count)
    }

    /// Gives each instance `count` workers; two unless said otherwise.
    #[must_use]
    pub fn workers(self, count: usize) -> Self {
        self.configure(|plan| plan.workers = count)
    }

    /// Lets a topic take messages (key, value and headers) of at most `bytes`, before anybody starts.
    ///
    /// # Panics
    /// When `topic` is not a legal name.
    #[must_use]
    pub fn limit(self, topic: &str, bytes: usize) -> Self {
        self.configure(|plan| plan.limits.push((parse(topic), bytes)))
    }

    /// Changes the engine's settings.
    #[must_use]
    pub fn settings(self, change: impl FnOnce(&mut EngineSettings)) -> Self {
        self.configure(|plan| change(&mut plan.settings))
    }

    /// Lets the relays of an instance have one of `turns` of its turns only, so that publications gather in front of
    /// them.
    pub(super) fn lag(self, turns: usize) -> Self {
        self.configure(|plan| plan.lag = turns.max(1))
    }

    /// Tells which records the instances take up.
    #[must_use]
    pub(super) fn watched_by(self, applications: &Arc<Applications>) -> Self {
        self.configure(|plan| plan.watch = Some(Arc::clone(applications)))
    }

    /// Lets the relays have every turn from now on.
    pub(super) fn end_lag(&mut self) {
        self.plan.lag = 1;
    }

    /// Takes a guard of the protocol away, for tests of Tidegate itself.
    #[doc(hidden)]
    #[must_use]
    pub fn without(self, guard: Guard) -> Self {
        self.configure(|plan| plan.without = Some(guard))
    }

    fn act(&mut self, operation: Operation) {
        let plan = self.plan.clone();
        self.world().carry_out(&plan, &operation);
        self.operations.push(operation);
    }

    fn world(&mut self) -> &mut World {
        let plan = &self.plan;
        self.world.get_or_insert_with(|| World::new(plan))
    }

    fn table(&self, table: &str) -> TableSpec {
        self.plan.table(table)
    }

    fn spell(&self, topic: &str, key: &Key) -> Vec<u8> {
        let found = self.plan.topology.sub_topologies().iter().find(|sub| sub.sources().any(|t| t.as_str() == topic));
        found.unwrap_or_else(|| panic!("no step reads a topic {topic}")).key_type().spell(key)
    }
}
