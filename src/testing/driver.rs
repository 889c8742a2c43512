//! The driver: a world (log, rows, clock) and instances of the real engine that are stepped in it.

use super::crash::CrashPoint;
use super::death::survived;
use super::guard::{Guard, UnguardedRows, UnguardedSource};
use super::observed::Row;
use crate::adapters::memory::{LogSettings, ManualClock, MemoryDatabase, MemoryLog, MemoryStores, TopicIds};
use crate::engine::member::{Member, Ports, WorkerPorts};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::halt::Halt;
use crate::engine::protocol::order::{Hook, Step};
use crate::engine::settings::EngineSettings;
use crate::engine::status::Status;
use crate::flow::key::Key;
use crate::flow::record::{Header, NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use crate::flow::row::{Value, to_values};
use crate::flow::table::{ColumnSpec, ColumnType, TableSpec};
use crate::flow::topology::{SubTopology, Topology};
use crate::ports::changelog::ChangelogReader;
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::history::{Found, RowHistory, TopicHistory};
use crate::ports::rows::{Position, RowRead, Rows};
use crate::ports::source::{Source, Subscription, TaskId};
use crate::ports::store::StoreId;
use crate::ports::{Clock, Fault};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Workers an instance: two, so that batches of disjoint partitions interleave.
const WORKERS: usize = 2;
/// How far the clock moves when nothing is left to do.
const TICK: Duration = Duration::from_millis(50);
/// Rounds after which a run that does not come to rest is given up: far more than any honest test needs.
const ROUNDS_MAX: usize = 20_000;

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
    deeds: Vec<Deed>,
}

/// What a world is built from.
#[derive(Clone)]
struct Plan {
    topology: Arc<Topology>,
    settings: EngineSettings,
    partitions: i32,
    instances: usize,
    workers: usize,
    /// The largest messages that topics take from the start on.
    limits: Vec<(TopicName, usize)>,
    without: Option<Guard>,
    /// Of so many turns of an instance its relays have one.
    lag: usize,
}

/// A record that a test sends, with everything that a producer may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The partition; by murmur2 of the key where it is left out.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<Header>,
    /// The record's timestamp in milliseconds since 1970; the driver's clock where it is left out.
    pub timestamp_ms: Option<i64>,
}

/// What the test did to the world, so that it can be done again with a crash in between.
#[derive(Clone)]
enum Deed {
    Row { table: String, key: Key, values: Vec<Value> },
    Send { topic: String, sent: Sent },
    Threshold { name: String, value: f64 },
    Advance(Duration),
    Settle,
}

struct World {
    clock: Arc<ManualClock>,
    log: MemoryLog,
    database: MemoryDatabase,
    crash: Arc<CrashPoint>,
    instances: Vec<Instance>,
    stays_dead: bool,
    /// Instances that ended by themselves, a sentence each.
    ended: Vec<String>,
}

struct Instance {
    member: Option<Member>,
    status: Arc<Status>,
    stores: MemoryStores,
    is_frozen: bool,
    turns: usize,
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
        };
        Self { plan, world: None, deeds: Vec::new() }
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

    /// Lets the relays of an instance have one of `turns` of its turns only, so that what is handed over to them gathers.
    pub(super) fn lag(self, turns: usize) -> Self {
        self.configure(|plan| plan.lag = turns.max(1))
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

    // === What a test does ===

    /// Puts a row into a table, with version 0. Where several steps have structs of their own for it, the row has the columns
    /// of the first step's, then those that the others add.
    ///
    /// # Panics
    /// When no step uses such a table or the row does not fit it.
    pub fn row(&mut self, table: &str, key: impl Into<Key>, row: impl Serialize) {
        let (spec, mut values) = (self.table(table), Vec::new());
        if let Err(error) = to_values(&row, &spec.columns, &mut values) {
            panic!("row for {table}: {error}");
        }
        let stored = spec.columns.iter().zip(values).filter(|(column, _)| spec.is_written(&column.name));
        let values = stored.map(|(_, value)| value).collect();
        self.act(Deed::Row { table: table.into(), key: key.into(), values });
    }

    /// Puts a row whose columns are given by name, with version 0.
    pub(super) fn row_by_name(
        &mut self,
        table: &str,
        key: impl Into<Key>,
        row: &serde_json::Map<String, serde_json::Value>,
    ) {
        let spec = self.table(table);
        let value = |column: &ColumnSpec| {
            let value =
                row.get(&column.name).unwrap_or_else(|| panic!("row for {table}: column {} is missing", column.name));
            let kind = column.accepts.first().copied().unwrap_or(ColumnType::Json);
            column_value(kind, value)
                .unwrap_or_else(|| panic!("row for {table}, column {}: {value} is not {kind}", column.name))
        };
        let values = spec.columns.iter().filter(|column| spec.is_written(&column.name)).map(value).collect();
        self.act(Deed::Row { table: table.into(), key: key.into(), values });
    }

    /// Sends a JSON value under a key to a topic.
    ///
    /// # Panics
    /// When there is no such topic.
    pub fn send(&mut self, topic: &str, key: impl Into<Key>, value: impl Serialize) {
        let key = self.spell(topic, &key.into());
        match serde_json::to_vec(&value) {
            Ok(value) => self.send_raw(topic, Some(&key), Some(&value)),
            Err(error) => panic!("value for {topic}: {error}"),
        }
    }

    /// Sends bytes as they are; absent keys and values included.
    ///
    /// # Panics
    /// When there is no such topic.
    pub fn send_raw(&mut self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
        let (key, value) = (key.map(Into::into), value.map(Into::into));
        self.send_record(topic, Sent { key, value, ..Sent::default() });
    }

    /// Sends bytes into a partition of the test's choice, as a producer with another partitioner would.
    ///
    /// # Panics
    /// When there is no such topic or partition.
    pub fn send_to(&mut self, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
        let (key, value) = (key.map(Into::into), value.map(Into::into));
        self.send_record(topic, Sent { partition: Some(partition), key, value, ..Sent::default() });
    }

    /// Sends a record with a timestamp and headers of the test's choice.
    ///
    /// # Panics
    /// When there is no such topic or partition.
    pub fn send_record(&mut self, topic: &str, sent: Sent) {
        self.act(Deed::Send { topic: topic.into(), sent });
    }

    /// Changes a named threshold, as a changed settings file does while the service runs.
    ///
    /// # Panics
    /// When there is no such threshold.
    pub fn threshold(&mut self, name: &str, value: f64) {
        self.run();
        self.act(Deed::Threshold { name: name.into(), value });
    }

    /// Lets time pass, after everything at hand was done.
    pub fn advance(&mut self, by: Duration) {
        self.act(Deed::Advance(by));
        self.run();
    }

    /// Works until nothing is left to do: every partition is read to its end and published, or stands still.
    ///
    /// # Panics
    /// When that does not happen within a generous bound.
    pub fn run(&mut self) {
        self.act(Deed::Settle);
    }

    /// What a committed reader finds in a topic with `i64` keys: keys and JSON values, partition by partition in order.
    ///
    /// # Panics
    /// When there is no such topic, or a message is not JSON under a decimal key.
    #[must_use]
    pub fn read(&mut self, topic: &str) -> Vec<(i64, serde_json::Value)> {
        let decode = |found: &Found| {
            let key = std::str::from_utf8(found.key.as_deref()?).ok()?.parse().ok()?;
            Some((key, serde_json::from_slice(found.value.as_deref()?).ok()?))
        };
        let found = self.read_raw(topic);
        found
            .iter()
            .map(|found| decode(found).unwrap_or_else(|| panic!("{topic}: not JSON under an i64 key: {found:?}")))
            .collect()
    }

    /// What a committed reader finds in a topic, with headers.
    ///
    /// # Panics
    /// When there is no such topic.
    #[must_use]
    pub fn read_raw(&mut self, topic: &str) -> Vec<Found> {
        self.run();
        let world = self.world();
        let name = parse(topic);
        assert!(world.log.partition_count(&name).is_some(), "there is no topic {topic}");
        world.log.read(&name)
    }

    /// A row as committed: its version and its values as JSON text per column; `None` when there is none.
    ///
    /// # Panics
    /// When no step uses such a table.
    #[must_use]
    pub fn row_of(&mut self, table: &str, key: impl Into<Key>) -> Option<RowRead> {
        self.run();
        let spec = self.table(table).table;
        self.world().database.get(&spec, key)
    }

    /// The partitions that stand still, with their reasons.
    #[must_use]
    pub fn halts(&mut self) -> Vec<Halt> {
        self.run();
        self.world().instances.iter().flat_map(|instance| instance.status.halts()).collect()
    }

    /// How many records were decided and committed by all instances, dead ones included.
    #[must_use]
    pub fn records_committed(&mut self) -> u64 {
        self.world().instances.iter().map(|instance| instance.status.records.value()).sum()
    }

    // === Crashes and rebalances ===

    /// Kills, as SIGKILL would, the instance that next reaches `step` for the `nth` time (from 1). It is started again
    /// when its death is noticed.
    pub fn crash_at(&mut self, step: Step, nth: usize) {
        self.world().crash.arm(step, nth);
    }

    /// From now on an instance that crashes stays down until [`TestDriver::start`].
    pub fn leave_dead(&mut self) {
        self.world().stays_dead = true;
    }

    /// How many instances were killed by [`TestDriver::crash_at`].
    #[must_use]
    pub fn crashes(&mut self) -> usize {
        self.world().crash.crashed().len()
    }

    /// Repeats the whole test from its start, once for each time a commit step was reached, with a crash at that moment,
    /// and compares the rows and every topic with those of the run without a crash. In each run every store on a disk must
    /// hold what its changelog says up to the store's checkpoint, once all instances have left.
    ///
    /// # Panics
    /// With the first crash point at which a row, a topic or a store differs, and where no step was reached at all.
    pub fn crash_everywhere(&mut self) {
        self.run();
        let plan = self.plan.clone();
        let expected = self.world().outcome(&plan);
        let points: Vec<(Step, usize)> = {
            let mut whole = World::new(&self.plan);
            whole.replay(&self.plan, &self.deeds);
            let points = whole.crash.seen().into_iter().collect();
            whole.leave_and_check_stores(&self.plan, "without a crash");
            points
        };
        assert!(!points.is_empty(), "no step was reached: the test has given the pipeline nothing to do");
        for (step, count) in points {
            for nth in 1..=count {
                let mut world = World::new(&self.plan);
                world.crash.arm(step, nth);
                world.replay(&self.plan, &self.deeds);
                assert_eq!(world.crash.crashed().len(), 1, "no crash after {step:?} number {nth}");
                let found = world.outcome(&self.plan);
                assert!(
                    found == expected,
                    "a crash after {step:?} number {nth} changed the outcome:\n  expected {expected:?}\n  found    {found:?}"
                );
                world.leave_and_check_stores(&self.plan, &format!("a crash after {step:?} number {nth}"));
            }
        }
    }

    /// Kills an instance now; it stays down until [`TestDriver::start`].
    pub fn kill(&mut self, instance: usize) {
        let world = self.world();
        if let Some(instance) = world.instances.get_mut(instance) {
            instance.member = None;
        }
    }

    /// Stops an instance gracefully: it publishes, leaves the group and stays down until [`TestDriver::start`].
    ///
    /// # Panics
    /// When it fails.
    pub fn stop(&mut self, instance: usize) {
        let world = self.world();
        if let Some(member) = world.instances.get_mut(instance).and_then(|instance| instance.member.take())
            && let Err(fault) = member.close()
        {
            panic!("instance {instance} did not stop: {fault}");
        }
    }

    /// Instances that start from now on run this topology, over what the one before left: another release. A test that does
    /// this cannot be repeated by [`TestDriver::crash_everywhere`].
    ///
    /// # Panics
    /// When the topology is not valid.
    #[doc(hidden)]
    pub fn release(&mut self, topology: Topology) {
        if let Err(errors) = topology.validate() {
            panic!("the topology is not valid: {}", errors.join("; "));
        }
        self.plan.topology = Arc::new(topology);
    }

    /// Starts an instance that is down, or one more.
    pub fn start(&mut self, instance: usize) {
        let plan = self.plan.clone();
        self.world().start(&plan, instance);
    }

    /// Stops scheduling an instance, as SIGSTOP would; [`TestDriver::thaw`] lets it go on.
    pub fn freeze(&mut self, instance: usize) {
        if let Some(instance) = self.world().instances.get_mut(instance) {
            instance.is_frozen = true;
        }
    }

    /// Lets a frozen instance go on.
    pub fn thaw(&mut self, instance: usize) {
        if let Some(instance) = self.world().instances.get_mut(instance) {
            instance.is_frozen = false;
        }
    }

    /// Lets only the workers of a frozen instance go on, before its polling thread hears of anything: a zombie.
    /// Answers the fault that ended it, if one did.
    #[doc(hidden)]
    pub fn step_workers(&mut self, instance: usize) -> Option<Fault> {
        let world = self.world();
        let crashes = world.crash.count();
        let member = world.instances.get_mut(instance)?.member.as_mut()?;
        let fault = match survived(|| member.step_workers()) {
            Some(result) => {
                let fault = result.err()?;
                world.note_end(instance, crashes, &fault);
                fault
            }
            None => Fault::fatal("it died over a record"),
        };
        if let Some(instance) = world.instances.get_mut(instance) {
            instance.member = None;
        }
        Some(fault)
    }

    /// Lets time pass without anybody doing anything.
    pub fn pass(&mut self, by: Duration) {
        self.world().clock.advance(by);
    }

    /// Steps every instance once, without letting time pass. A crashed one is started again.
    #[doc(hidden)]
    pub fn step(&mut self) {
        let plan = self.plan.clone();
        self.world().step(&plan);
    }

    // === The world, for what only an operator would do ===

    /// The log: topics, groups, offsets.
    #[must_use]
    pub fn log(&mut self) -> &MemoryLog {
        &self.world().log
    }

    /// The simulated clock, for steps that take their time.
    #[doc(hidden)]
    #[must_use]
    pub fn clock(&mut self) -> Arc<ManualClock> {
        Arc::clone(&self.world().clock)
    }

    /// The database: rows, positions, outbox.
    #[must_use]
    pub fn database(&mut self) -> &MemoryDatabase {
        &self.world().database
    }

    /// A value as a store has it once everything is proved and written: what its changelog says. `None` where the key is
    /// not there, or not in any partition.
    ///
    /// # Panics
    /// When no step has such a store, or the value is not JSON.
    #[must_use]
    pub fn store(&mut self, store: &str, key: &str) -> Option<serde_json::Value> {
        let found = self.plan.topology.sub_topologies().iter().flat_map(|sub| &sub.stores).find(|s| *s.name == *store);
        let spec = found.unwrap_or_else(|| panic!("no step has a store {store}")).clone();
        let topic = self.plan.topology.changelog_topic(&spec).unwrap_or_else(|| panic!("store {store}: a bad name"));
        let records = self.read_raw(topic.as_str());
        let last = records.iter().rev().find(|found| found.key.as_deref() == Some(key.as_bytes()))?;
        let value = last.value.as_deref()?;
        let json = match value.first() {
            Some(1) => value.get(2..),
            _ => value.get(10..),
        };
        Some(
            json.and_then(|json| serde_json::from_slice(json).ok())
                .unwrap_or_else(|| panic!("{store}: not JSON: {value:?}")),
        )
    }

    /// The local disk of an instance: it outlives the instance, as a volume does.
    ///
    /// # Panics
    /// When there is no such instance.
    #[must_use]
    pub fn disk(&mut self, instance: usize) -> MemoryStores {
        let found = self.world().instances.get(instance).map(|instance| instance.stores.clone());
        found.unwrap_or_else(|| panic!("there is no instance {instance}"))
    }

    /// How many changelog records restores have read, over all instances.
    #[must_use]
    pub fn records_restored(&mut self) -> u64 {
        self.world().instances.iter().map(|instance| instance.status.restored_records.value()).sum()
    }

    /// What an instance says of itself.
    ///
    /// # Panics
    /// When there is no such instance.
    #[must_use]
    pub fn status(&mut self, instance: usize) -> Arc<Status> {
        let found = self.world().instances.get(instance).map(|instance| Arc::clone(&instance.status));
        found.unwrap_or_else(|| panic!("there is no instance {instance}"))
    }

    /// The position of a source partition.
    ///
    /// # Panics
    /// When `topic` is not a legal name.
    #[must_use]
    pub fn position(&mut self, topic: &str, partition: i32) -> Option<Position> {
        let name = self.plan.topology.name().to_owned();
        self.world().database.position(&name, &TopicPartition::new(parse(topic), Partition(partition)))
    }

    // === For simulations ===

    /// The simulated wall clock, in milliseconds since 1970.
    pub(super) fn now_ms(&mut self) -> i64 {
        self.world().clock.now().0
    }

    /// A row's version and its values by column, as committed.
    pub(super) fn named_row(&mut self, table: &str, key: &Key) -> Option<(i64, Vec<(String, Value)>)> {
        let spec = self.table(table);
        let row = self.world().database.get(&spec.table, key.clone())?;
        let names: Vec<String> = spec.columns.iter().map(|column| column.name.clone()).collect();
        let names = names.into_iter().filter(|name| spec.is_written(name));
        Some((row.version, names.zip(row.values).collect()))
    }

    /// Every row of a table, by key, as committed.
    pub(super) fn named_rows(&mut self, table: &str) -> Vec<(Key, Row)> {
        let spec = self.table(table);
        let names = spec.columns.iter().map(|column| column.name.clone());
        let names: Vec<String> = names.filter(|name| spec.is_written(name)).collect();
        let rows = self.world().database.all(&spec.table).into_iter();
        let row = |row: RowRead| {
            let values = names.iter().cloned().zip(row.values).collect();
            (row.key, Row { version: row.version, values })
        };
        rows.map(row).collect()
    }

    /// JSON text as the column's value.
    pub(super) fn column_value(&self, table: &str, column: &str, json: &str) -> Option<Value> {
        let spec = self.table(table);
        let kind = spec.columns.iter().find(|found| found.name == column)?.accepts.first().copied()?;
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        if kind == ColumnType::Json && !value.is_null() {
            return Some(Value::Json(json.to_owned())); // digit for digit
        }
        column_value(kind, &value)
    }

    /// Writes one column of a row as somebody else would: its version stays. Answers whether there is such a row.
    pub(super) fn write_column(&mut self, table: &str, key: &Key, column: &str, json: &str) -> bool {
        let (spec, value) = (self.table(table), self.column_value(table, column, json));
        let mut stored = spec.columns.iter().filter(|found| spec.is_written(&found.name));
        let place = stored.position(|found| found.name == column);
        let row = self.world().database.get(&spec.table, key.clone());
        let (Some(value), Some(place), Some(mut row)) = (value, place, row) else { return false };
        if let Some(cell) = row.values.get_mut(place) {
            *cell = value;
        }
        self.world().database.put(&spec.table, key.clone(), row.version, &row.values)
    }

    pub(super) fn instance_count(&mut self) -> usize {
        self.world().instances.len()
    }

    pub(super) fn is_up(&mut self, instance: usize) -> bool {
        self.world().instances.get(instance).is_some_and(|instance| instance.member.is_some())
    }

    /// Steps one instance once. One that crashes and cannot start, since its database is away, stays down.
    pub(super) fn step_one(&mut self, instance: usize) -> bool {
        let plan = self.plan.clone();
        self.world().step_one(&plan, instance).unwrap_or(true)
    }

    /// Starts an instance that is down, or one more. Answers whether it did.
    pub(super) fn try_start(&mut self, instance: usize) -> bool {
        let plan = self.plan.clone();
        self.world().try_start(&plan, instance).is_ok()
    }

    /// Stops an instance politely; one that fails on the way is dead.
    pub(super) fn stop_or_die(&mut self, instance: usize) {
        let world = self.world();
        let crashes = world.crash.count();
        let member = world.instances.get_mut(instance).and_then(|instance| instance.member.take());
        if let Some(Some(Err(fault))) = member.map(|member| survived(|| member.close())) {
            world.note_end(instance, crashes, &fault);
        }
    }

    /// Whether a disk that took no writes has halted a partition of the instance: a restart mends it.
    pub(super) fn halts_by_disk(&mut self, instance: usize) -> bool {
        let halts = self.world().instances.get(instance).map(|instance| instance.status.halts()).unwrap_or_default();
        halts.iter().any(|halt| halt.reason == HaltReason::StoreUnwritable)
    }

    /// The commit steps at which instances died.
    pub(super) fn crashed(&mut self) -> Vec<Step> {
        self.world().crash.crashed()
    }

    /// No crash is due any more.
    pub(super) fn disarm(&mut self) {
        self.world().crash.disarm();
    }

    pub(super) fn is_at_rest(&mut self) -> bool {
        let plan = self.plan.clone();
        self.world().is_settled(&plan) && self.is_served()
    }

    /// Whether somebody serves every task, or says why it stands still.
    fn is_served(&mut self) -> bool {
        let (subs, partitions) = (self.plan.topology.sub_topologies().len(), self.plan.partitions);
        let mut served = BTreeSet::new();
        let alive = self.world().instances.iter().filter(|instance| instance.member.is_some());
        for (task, status) in alive.flat_map(|instance| instance.status.tasks()) {
            if status.state == "running" || status.halt.is_some() {
                served.insert(task);
            }
        }
        let tasks = (0..subs).flat_map(|sub_topology| (0..partitions).map(move |n| (sub_topology, Partition(n))));
        tasks.into_iter().all(|(sub_topology, partition)| served.contains(&TaskId { sub_topology, partition }))
    }

    /// The partitions that stand still now.
    pub(super) fn standing(&mut self) -> Vec<Halt> {
        self.world().instances.iter().flat_map(|instance| instance.status.halts()).collect()
    }

    /// Those of one instance.
    pub(super) fn standing_at(&mut self, instance: usize) -> Vec<Halt> {
        self.world().instances.get(instance).map(|instance| instance.status.halts()).unwrap_or_default()
    }

    /// The instances that ended although nobody killed them, a sentence each.
    pub(super) fn ended(&mut self) -> Vec<String> {
        self.world().ended.clone()
    }

    /// The position of a source partition in the database.
    pub(super) fn position_at(&mut self, place: &TopicPartition) -> Option<Position> {
        let name = self.plan.topology.name().to_owned();
        self.world().database.position(&name, place)
    }

    /// D of a source partition: that of the database where its step has rows, K elsewhere.
    pub(super) fn decided_to(&mut self, place: &TopicPartition) -> Option<NextOffset> {
        let topology = Arc::clone(&self.plan.topology);
        let sub = topology.sub_topologies().iter().find(|sub| sub.sources().any(|topic| *topic == place.topic))?;
        let (world, name) = (self.world(), topology.name());
        match sub.table() {
            Some(_) => world.database.position(name, place).map(|position| position.next_offset),
            None => world.log.committed(name, place).map(|committed| committed.next_offset),
        }
    }

    /// What the disk of the instance that serves the store's task holds; `None` where nobody serves it.
    pub(super) fn kept(&mut self, sub_topology: usize, id: &StoreId) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
        let task = TaskId { sub_topology, partition: id.partition };
        let is_owner = |instance: &&Instance| {
            let tasks = instance.status.tasks();
            tasks.iter().any(|(own, status)| *own == task && status.state == "running")
        };
        let owner = self.world().instances.iter().find(is_owner)?;
        Some(owner.stores.contents(id).into_iter().collect())
    }

    /// What every task is doing, for a finding.
    pub(super) fn states(&mut self) -> String {
        let tasks: Vec<_> = self.world().instances.iter().map(|instance| instance.status.tasks()).collect();
        format!("{tasks:?}")
    }

    // === Inside ===

    fn act(&mut self, deed: Deed) {
        let plan = self.plan.clone();
        self.world().carry_out(&plan, &deed);
        self.deeds.push(deed);
    }

    fn world(&mut self) -> &mut World {
        let plan = &self.plan;
        self.world.get_or_insert_with(|| World::new(plan))
    }

    fn table(&self, table: &str) -> TableSpec {
        let found = self.plan.topology.tables().into_iter().find(|spec| spec.table.name == table);
        found.unwrap_or_else(|| panic!("no step uses a table {table}"))
    }

    fn spell(&self, topic: &str, key: &Key) -> Vec<u8> {
        let found = self.plan.topology.sub_topologies().iter().find(|sub| sub.sources().any(|t| t.as_str() == topic));
        found.unwrap_or_else(|| panic!("no step reads a topic {topic}")).key_type().spell(key)
    }
}

/// A JSON value as a column of the given type holds it.
fn column_value(kind: ColumnType, value: &serde_json::Value) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a test's own number")]
    Some(match kind {
        ColumnType::Bool => Value::Bool(value.as_bool()?),
        ColumnType::I16 => Value::I16(value.as_i64()?.try_into().ok()?),
        ColumnType::I32 => Value::I32(value.as_i64()?.try_into().ok()?),
        ColumnType::I64 => Value::I64(value.as_i64()?),
        ColumnType::F32 => Value::F32(value.as_f64()? as f32),
        ColumnType::F64 => Value::F64(value.as_f64()?),
        ColumnType::Text | ColumnType::Uuid | ColumnType::Timestamp | ColumnType::Numeric => {
            Value::Text(value.as_str()?.into())
        }
        ColumnType::Bytes => Value::Bytes(value.as_str()?.into()),
        ColumnType::Json => Value::Json(value.to_string()),
    })
}

fn parse(topic: &str) -> TopicName {
    TopicName::parse(topic).unwrap_or_else(|error| panic!("{error}"))
}

/// Rows by table, messages by topic: what two runs are compared by. Offsets are left out, since aborted attempts and
/// transaction markers take some.
type Outcome = (Vec<(String, Vec<RowRead>)>, Vec<(TopicName, Vec<Message>)>);
/// Partition, key, value and id of a message.
type Message = (i32, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>);

impl World {
    fn new(plan: &Plan) -> Self {
        let clock = Arc::new(ManualClock::default());
        // Short, so that a crash costs few ticks; and the transaction's is the longer, as in a service.
        let settings = LogSettings {
            session_timeout: Duration::from_secs(2),
            transaction_timeout: Duration::from_secs(4),
            topic_ids: TopicIds::Counted,
            ..LogSettings::default()
        };
        let log = MemoryLog::with_settings(Arc::clone(&clock) as Arc<dyn Clock>, settings);
        let database = MemoryDatabase::new();
        let sources = plan.topology.sub_topologies().iter().flat_map(SubTopology::sources).cloned();
        for topic in sources.chain(plan.topology.outputs()) {
            if let Err(fault) = log.create_topic(topic.as_str(), plan.partitions) {
                panic!("{fault}");
            }
        }
        for (topic, bytes) in &plan.limits {
            log.limit_messages(topic, *bytes);
        }
        for spec in plan.topology.tables() {
            let columns: Vec<_> = spec
                .columns
                .iter()
                .filter(|column| spec.is_written(&column.name))
                .filter_map(|column| Some((column.name.as_str(), column.accepts.first().copied()?, column.is_nullable)))
                .collect();
            database.create_table(&spec.table, &columns);
        }
        let mut world = Self {
            clock,
            log,
            database,
            crash: Arc::default(),
            instances: Vec::new(),
            stays_dead: false,
            ended: Vec::new(),
        };
        for number in 0..plan.instances {
            world.start(plan, number);
        }
        world
    }

    fn start(&mut self, plan: &Plan, number: usize) {
        if let Err(fault) = self.try_start(plan, number) {
            panic!("instance {number} does not start: {fault}");
        }
    }

    /// A start that fails although the database answers is told as one that ended.
    fn try_start(&mut self, plan: &Plan, number: usize) -> Result<(), Fault> {
        let started = self.begin(plan, number);
        if let Err(fault) = started.as_ref().map_err(ToString::to_string)
            && self.database.history("").positions().is_ok()
        {
            self.ended.push(format!("instance {number} does not start: {fault}"));
        }
        started
    }

    fn begin(&mut self, plan: &Plan, number: usize) -> Result<(), Fault> {
        let status = Arc::new(Status::default());
        let stores = self.instances.get(number).map(|instance| instance.stores.clone()).unwrap_or_default();
        let member = self.member(plan, number, &status, &stores)?;
        let instance = Instance { member: Some(member), status, stores, is_frozen: false, turns: 0 };
        match self.instances.get_mut(number) {
            Some(place) => {
                // What the dead one had counted stays counted.
                instance.status.records.add(place.status.records.value());
                instance.status.restored_records.add(place.status.restored_records.value());
                *place = instance;
            }
            None => self.instances.push(instance),
        }
        Ok(())
    }

    fn member(&self, plan: &Plan, number: usize, status: &Arc<Status>, stores: &MemoryStores) -> Result<Member, Fault> {
        let name = plan.topology.name();
        let source: Box<dyn Source> = Box::new(self.log.source(Subscription::of(&plan.topology)));
        let source = match plan.without {
            Some(Guard::StableCommitted) => {
                Box::new(UnguardedSource { inner: source, log: self.log.clone(), group: name.into() })
            }
            _ => source,
        };
        let worker = |worker: usize| {
            let rows: Box<dyn Rows> = Box::new(self.database.rows(name));
            let rows = match plan.without {
                Some(without @ (Guard::CompareAndSet | Guard::Claim)) => {
                    let (database, pipeline) = (self.database.clone(), name.to_owned());
                    Box::new(UnguardedRows { inner: rows, database, pipeline, without, moved: Vec::new() })
                }
                _ => rows,
            };
            let sink = |producer: usize| Box::new(self.log.sink(&format!("{name}-{number}-{worker}-{producer}")));
            WorkerPorts { rows, sink: sink(0), spare: Some(sink(1)) }
        };
        let log = self.log.clone();
        let changelogs: ChangelogFactory = Arc::new(move || Ok(Box::new(log.changelog()) as Box<dyn ChangelogReader>));
        let (log, group) = (self.log.clone(), name.to_owned());
        let history: HistoryFactory = Arc::new(move || Ok(Box::new(log.history(&group)) as Box<dyn TopicHistory>));
        let ports = Ports {
            source,
            workers: (0..plan.workers).map(worker).collect(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            history: Some(history),
            fencer: None,
            note: Some(stores.note()),
            stores: Some(Arc::new(stores.clone())),
            changelogs: Some(changelogs),
            owner: format!("driver-{number}"),
        };
        let hook = Arc::clone(&self.crash) as Arc<dyn Hook>;
        Member::new(&plan.topology, plan.settings.clone(), ports, Arc::clone(status), &hook)
    }

    fn replay(&mut self, plan: &Plan, deeds: &[Deed]) {
        for deed in deeds {
            self.carry_out(plan, deed);
        }
        self.settle(plan);
    }

    fn carry_out(&mut self, plan: &Plan, deed: &Deed) {
        match deed {
            Deed::Row { table, key, values } => {
                let found = plan.topology.tables().into_iter().find(|spec| spec.table.name == *table);
                let spec = found.unwrap_or_else(|| panic!("no step uses a table {table}"));
                assert!(self.database.put(&spec.table, key.clone(), 0, values), "the row does not fit table {table}");
            }
            Deed::Send { topic, sent } => {
                if let Err(fault) = self.send(&parse(topic), sent) {
                    panic!("{fault}");
                }
            }
            Deed::Threshold { name, value } => {
                let found = plan.topology.thresholds().iter().find(|threshold| threshold.name() == name);
                found.unwrap_or_else(|| panic!("there is no threshold {name}")).set(*value);
            }
            Deed::Advance(by) => {
                self.settle(plan);
                self.clock.advance(*by);
            }
            Deed::Settle => self.settle(plan),
        }
    }

    fn send(&self, topic: &TopicName, sent: &Sent) -> Result<(), Fault> {
        let (key, value, headers) = (sent.key.as_deref(), sent.value.as_deref(), &sent.headers[..]);
        let at = sent.timestamp_ms.map_or_else(|| self.clock.now(), Timestamp);
        match sent.partition {
            None => self.log.produce(topic, key, value, headers, at).map(|_| ()),
            Some(number) => {
                let place = TopicPartition::new(topic.clone(), Partition(number));
                self.log.produce_to(&place, key, value, headers, at).map(|_| ())
            }
        }
    }

    /// Steps every instance once; a crashed one is started again. True when somebody did something.
    fn step(&mut self, plan: &Plan) -> bool {
        let mut is_busy = false;
        for number in 0..self.instances.len() {
            match self.step_one(plan, number) {
                Ok(was_busy) => is_busy |= was_busy,
                Err(fault) => panic!("instance {number} does not start: {fault}"),
            }
        }
        is_busy
    }

    /// Steps one instance, unless it is down or frozen. Fails where it crashed and cannot be started again.
    fn step_one(&mut self, plan: &Plan, number: usize) -> Result<bool, Fault> {
        let Some(instance) = self.instances.get_mut(number).filter(|instance| !instance.is_frozen) else {
            return Ok(false);
        };
        let Some(member) = instance.member.as_mut() else { return Ok(false) };
        instance.turns += 1;
        let is_behind = instance.turns % plan.lag != 0;
        let step = || if is_behind { member.step_without_relays() } else { member.step() };
        let crashes = self.crash.count();
        let fault = match survived(step) {
            Some(Ok(was_busy)) => return Ok(was_busy),
            Some(Err(fault)) => Some(fault),
            None => None, // it died over a record
        };
        instance.member = None; // dropped as a dead process is: nothing is closed
        if let Some(fault) = fault {
            self.note_end(number, crashes, &fault);
        }
        if !self.stays_dead {
            self.try_start(plan, number)?;
        }
        Ok(true)
    }

    /// Notes that an instance ended, unless it died at a crash point: there were so many crashes before.
    fn note_end(&mut self, number: usize, crashes: usize, fault: &Fault) {
        if self.crash.count() == crashes {
            self.ended.push(format!("instance {number}: {fault}"));
        }
    }

    fn settle(&mut self, plan: &Plan) {
        for _ in 0..ROUNDS_MAX {
            if self.step(plan) {
                continue;
            }
            if self.is_settled(plan) {
                return;
            }
            self.clock.advance(TICK);
        }
        let tasks: Vec<_> = self.instances.iter().map(|instance| instance.status.tasks()).collect();
        panic!("the pipeline does not come to rest: {tasks:?}");
    }

    /// Whether every source partition is read to its end and published, or stands still; and somebody is there to say so.
    fn is_settled(&self, plan: &Plan) -> bool {
        let alive = self.instances.iter().filter(|instance| instance.member.is_some() && !instance.is_frozen);
        if alive.clone().count() == 0 {
            return true;
        }
        let name = plan.topology.name();
        let subs = plan.topology.sub_topologies();
        let task = |place: &TopicPartition| {
            (subs.iter().position(|sub| sub.sources().any(|topic| *topic == place.topic)), place.partition)
        };
        let halted: BTreeSet<_> =
            alive.flat_map(|instance| instance.status.halts()).map(|halt| task(&halt.source)).collect();
        let with_rows: BTreeSet<&TopicName> =
            subs.iter().filter(|sub| sub.table().is_some()).flat_map(SubTopology::sources).collect();
        let sources = subs.iter().flat_map(SubTopology::sources);
        sources.flat_map(|topic| (0..plan.partitions).map(|n| TopicPartition::new(topic.clone(), Partition(n)))).all(
            |place| {
                let committed = self.log.committed(name, &place).map(|committed| committed.next_offset);
                let has_rows = with_rows.contains(&place.topic);
                let position = self.database.position(name, &place).map(|position| position.next_offset);
                let position = if has_rows { position } else { committed };
                let is_read = position >= Some(self.log.visible_end(&place));
                halted.contains(&task(&place)) || (is_read && committed == position)
            },
        )
    }

    /// Stops every instance; then each store on each disk holds what a replay of its changelog up to its checkpoint leaves,
    /// and who ran its task until then has written all of it.
    fn leave_and_check_stores(&mut self, plan: &Plan, when: &str) {
        let up =
            self.instances.iter().enumerate().filter(|(_, instance)| instance.member.is_some() && !instance.is_frozen);
        let running: BTreeSet<(usize, TaskId)> = up
            .flat_map(|(number, instance)| instance.status.tasks().into_iter().map(move |task| (number, task)))
            .filter(|(_, (_, status))| status.state == "running")
            .map(|(number, (task, _))| (number, task))
            .collect();
        for member in self.instances.iter_mut().filter_map(|instance| instance.member.take()) {
            if let Err(fault) = member.close() {
                panic!("{when}: an instance did not stop: {fault}");
            }
        }
        let subs = plan.topology.sub_topologies().iter().enumerate();
        let stores = subs.flat_map(|(number, sub)| sub.stores.iter().map(move |store| (number, store)));
        let changelog = |(sub, store)| Some((sub, store, plan.topology.changelog_topic(store)?));
        for (sub_topology, store, topic) in stores.filter_map(changelog) {
            let records = self.log.read(&topic);
            let ids = (0..plan.partitions)
                .map(|number| StoreId { name: Arc::clone(&store.name), partition: Partition(number) });
            let places = ids.flat_map(|id| self.instances.iter().enumerate().map(move |on| (id.clone(), on)));
            for (id, (number, Instance { stores: disk, .. })) in places {
                let checkpoint = disk.checkpoint(&id);
                let task = TaskId { sub_topology, partition: id.partition };
                let is_written = |found: &Found| checkpoint.as_ref().is_some_and(|at| found.offset < at.next_offset.0);
                assert!(
                    !running.contains(&(number, task))
                        || records.iter().filter(|found| found.partition == id.partition.0).all(is_written),
                    "{when}: store {id} is not written to the end of its changelog: {checkpoint:?}"
                );
                let Some(checkpoint) = checkpoint else { continue };
                let is_known =
                    |found: &&Found| found.partition == id.partition.0 && found.offset < checkpoint.next_offset.0;
                let mut replayed = BTreeMap::new();
                for found in records.iter().filter(is_known) {
                    let key = found.key.clone().unwrap_or_default();
                    match &found.value {
                        Some(value) => replayed.insert(key, value.clone()),
                        None => replayed.remove(&key),
                    };
                }
                let kept: BTreeMap<_, _> = disk.contents(&id).into_iter().collect();
                assert!(
                    kept == replayed,
                    "{when}: store {id} is not as its changelog at {}:\n  store     {kept:?}\n  changelog {replayed:?}",
                    checkpoint.next_offset
                );
            }
        }
    }

    fn outcome(&self, plan: &Plan) -> Outcome {
        let table = |spec: TableSpec| (spec.table.name.clone(), self.database.all(&spec.table));
        let message = |found: &Found| {
            (found.partition, found.key.clone(), found.value.clone(), found.header("tg_id").map(str::to_owned))
        };
        // Order is promised per source partition; how those interleave may differ from run to run. Behind a repartition
        // topic even offsets, and with them ids, depend on where transactions ended.
        let internal = plan.topology.internal_topics();
        let origin = |message: &Message| {
            let id = message.3.as_deref().unwrap_or_default();
            let source = id.rsplitn(3, '/').nth(2).map(str::to_owned);
            let topic = id.split('/').nth(1).and_then(|topic| TopicName::parse(topic).ok());
            source.filter(|_| topic.is_some_and(|topic| !internal.contains(&topic)))
        };
        let changelogs = plan.topology.changelogs();
        let topic = |topic: TopicName| {
            let mut messages: Vec<Message> = self.log.read(&topic).iter().map(message).collect();
            if changelogs.contains(&topic) {
                // How many records a key has depends on where batches ended; its last value does not.
                let last: BTreeMap<_, _> =
                    messages.into_iter().map(|(partition, key, value, _)| ((partition, key), value)).collect();
                messages = last.into_iter().map(|((partition, key), value)| (partition, key, value, None)).collect();
                messages.retain(|(_, _, value, _)| value.is_some());
            } else {
                let (mut ordered, mut loose): (Vec<Message>, Vec<Message>) =
                    messages.into_iter().partition(|message| origin(message).is_some());
                ordered.sort_by_key(|message| (message.0, origin(message)));
                for message in &mut loose {
                    message.3 = None;
                }
                loose.sort();
                ordered.append(&mut loose);
                messages = ordered;
            }
            (topic, messages)
        };
        let tables = plan.topology.tables().into_iter().map(table).collect();
        (tables, plan.topology.outputs().into_iter().map(topic).collect())
    }
}
