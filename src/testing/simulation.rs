//! A schedule over the real engine: what is sent, what fails and when, in one thread and by a simulated clock.
//!
//! The same acts over the same topology give the same trace, byte for byte. After the last act everything that is down is
//! started again, the pipeline comes to rest, and what it left behind is held against the naive interpreter.

use super::driver::{Sent, TestDriver};
use super::judge::Finding;
use super::observed::{Event, Inside, Message, Observed, Progress, Row, Standstill};
use super::stall::Idle;
use super::watch::{Applications, watched};
use crate::adapters::memory::{SinkFault, Snapshot};
use crate::engine::outbound::message::{id_of, turn_of};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::halt::Halt;
use crate::engine::protocol::order::{Step, TAKEOVER, THROUGH_DATABASE, THROUGH_LOG};
use crate::engine::settings::EngineSettings;
use crate::flow::key::Key;
use crate::flow::record::{Header, NextOffset, Offset, Partition, TopicPartition};
use crate::flow::row::Value;
use crate::flow::topology::{SubTopology, Topology};
use crate::ports::store::StoreId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The commit steps at which an instance may die, by name.
pub const COMMIT_STEPS: [&str; 15] = [
    "Claim",
    "ReadCommitted",
    "PublishRest",
    "OpenDatabase",
    "MovePosition",
    "Apply",
    "WriteRows",
    "WriteOutbox",
    "CommitDatabase",
    "OpenKafka",
    "Produce",
    "Flush",
    "SendOffsets",
    "CommitKafka",
    "WriteStore",
];
/// Rounds after which a pipeline that does not come to rest is a finding: a quarter of an hour of simulated time and more.
const ROUNDS_MAX: usize = 20_000;
/// Rounds that living instances have under a disaster: longer than sessions and transactions last.
const LIVING_ROUNDS: usize = 300;
/// How far the clock moves when nobody has anything to do.
const TICK: Duration = Duration::from_millis(50);

/// A record to be sent. Text only, so that a schedule can be printed and read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// The topic.
    pub topic: String,
    /// The partition; by murmur2 of the key where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value; none is a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Option<String>)>,
    /// The record's timestamp in milliseconds after the simulated now.
    #[serde(default)]
    pub after_ms: i64,
}

/// A call of a producer that fails; see [`SinkFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// A transaction cannot be opened.
    Begin,
    /// A message cannot be queued.
    Send,
    /// A delivery fails.
    Flush,
    /// The offsets cannot be added.
    Offsets,
    /// The commit fails.
    Commit,
    /// The commit's answer is lost, and it was done.
    CommitAnswer,
    /// The commit was repeated in silence.
    Taint,
    /// The producer cannot be replaced.
    Renew,
}

/// All of them.
pub const FAILURES: [Failure; 8] = [
    Failure::Begin,
    Failure::Send,
    Failure::Flush,
    Failure::Offsets,
    Failure::Commit,
    Failure::CommitAnswer,
    Failure::Taint,
    Failure::Renew,
];

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Every instance has so many turns.
    Turns(u16),
    /// So many milliseconds pass.
    Pass(u64),
    /// A record is sent.
    Send(Sending),
    /// Somebody else writes one column of a row: table, key, column, value as JSON text.
    Write(String, String, String, String),
    /// The instance that next reaches the commit step for the nth time (from 1) dies there, and is started again.
    Crash(String, usize),
    /// An instance is killed, and stays down.
    Kill(usize),
    /// An instance leaves the group politely, and stays down.
    Stop(usize),
    /// An instance that is down starts, or one more.
    Start(usize),
    /// An instance has no turns until it is thawed.
    Freeze(usize),
    /// A frozen instance goes on.
    Thaw(usize),
    /// The workers of a frozen instance alone go on for some turns: they do not hear of a rebalance.
    Zombie(usize, u16),
    /// The disk of an instance that is down is lost.
    LoseDisk(usize),
    /// The next commit of the database fails.
    CommitFails,
    /// The answer to the next commit of the database is lost; whether it was done.
    CommitAnswerLost(bool),
    /// The nth read of the outbox from now on (from 1) fails.
    OutboxReadFails(usize),
    /// The database does not answer, or answers again.
    DatabaseDown(bool),
    /// A call of some producer fails.
    Fail(Failure),
    /// So many starts of deliveries fail.
    StartsFail(usize),
    /// Every instance leaves politely, and a release starts whose stores have no time to live.
    EverLasting,
    /// Commit requests of dead producers arrive.
    LateCommits,
    /// The group throws a member out: the nth of those it has.
    Expire(usize),
    /// The disk of an instance takes no writes, or takes them again.
    DiskFull(usize, bool),
    /// The disk of an instance answers no reads, or answers again.
    DiskBlocked(usize, bool),
    /// A named threshold has another value.
    Threshold(String, i64),
    /// What may halt partitions, and what a command must mend. At the end every instance is started anew.
    Disaster(Disaster),
    /// The same under the eyes of whoever is up: nobody dies of it, and at the end the instances are started anew one after
    /// the other.
    Living(Disaster),
}

/// What no restart mends: some partitions may stand still afterwards, and only they.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disaster {
    /// Every instance dies, and the group is deleted or has expired: its offsets are gone, its generations begin again.
    GroupDeleted,
    /// Every instance dies, and the group has another protocol: its offsets stay, its generations begin again.
    GroupBegunAgain,
    /// The offset of a source partition is gone.
    OffsetLost(String, i32),
    /// Somebody sets the offset of a source partition.
    OffsetReset(String, i32, i64),
    /// Retention passes so many records of a source partition.
    InputsDeleted(String, i32, i64),
    /// Every instance dies, and a source is deleted and created again.
    Recreated(String),
    /// The database is as it was at the last [`Disaster::Backup`], if there was one.
    Restored,
    /// The database is backed up.
    Backup,
    /// Every instance dies, and the changelog of the nth store is deleted and created again.
    ChangelogLost(usize),
    /// Every instance leaves politely, and the offset of a source partition goes back by one, as with a group that was restored.
    OffsetBack(String, i32),
    /// Every instance leaves politely, and a partition of the changelog of the nth store loses so many of its last offsets.
    ChangelogCut(usize, i32, i64),
}

/// How a simulation is set up.
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
    /// Of so many turns of an instance its relays have one.
    pub lag: usize,
}

/// Where the records of one source partition stand.
#[derive(Debug, Default)]
struct Decisions {
    reached: Option<NextOffset>,
    /// When the last decided record was decided.
    sequence: u64,
    /// Which instance ran the step over a record, and when; the latest last.
    applied: BTreeMap<Offset, Vec<(usize, u64)>>,
}

/// A run of a topology under a schedule.
pub struct Simulation {
    pub(super) driver: TestDriver,
    pub(super) topology: Topology,
    pub(super) shape: Shape,
    events: Vec<(u64, Event)>,
    first_rows: BTreeMap<(String, Key), Row>,
    thresholds: BTreeMap<String, f64>,
    /// What sources held before each disaster.
    held: BTreeMap<TopicPartition, BTreeMap<Offset, Message>>,
    pub(super) struck: BTreeSet<usize>,
    pub(super) forgotten: BTreeSet<usize>,
    pub(super) must_stand: BTreeSet<(usize, i32)>,
    /// Likewise, by what the only disk remembers.
    pub(super) owed: BTreeSet<(usize, i32)>,
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
            .settings(|settings| *settings = EngineSettings { ask_wait: Duration::ZERO, ..shape.settings.clone() });
        let mut driver = shape.limits.iter().fold(driver, |driver, (topic, bytes)| driver.limit(topic, *bytes));
        let thresholds = topology.thresholds().iter().map(|limit| (limit.name().to_owned(), limit.value())).collect();
        applications.take_time(Idle::new(driver.clock(), driver.database().clone()));
        let sources = topology.sub_topologies().iter().flat_map(SubTopology::sources);
        let places =
            sources.flat_map(|topic| (0..shape.partitions).map(|n| TopicPartition::new(topic.clone(), Partition(n))));
        let progress = places.map(|place| (place, Decisions::default())).collect();
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
            must_stand: BTreeSet::new(),
            owed: BTreeSet::new(),
            backup: None,
            had_disaster: false,
            was_living: false,
            broken_disks: BTreeSet::new(),
            seen: Vec::new(),
            applications,
            progress,
            sequence: 0,
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
    /// As [`TestDriver::row`].
    pub fn row(&mut self, table: &str, key: impl Into<Key>, row: impl Serialize) {
        let key = key.into();
        self.driver.row(table, key.clone(), row);
        self.note_row(table, key);
    }

    /// Puts a row whose columns are given by name, with version 0; what is no column of the table is left out.
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

    /// The driver, for what a topology needs beside its rows: constraints, limits, thresholds.
    pub const fn driver(&mut self) -> &mut TestDriver {
        &mut self.driver
    }

    /// The commit steps at which instances died.
    pub fn crashed(&mut self) -> Vec<String> {
        self.driver.crashed().iter().map(|step| format!("{step:?}")).collect()
    }

    /// The calls of producers that were to fail and were never made, and how many COMMITs.
    pub fn unmet(&mut self) -> (Vec<Failure>, usize) {
        let faults = self.driver.log().unmet_faults();
        let is_of = |failure: &Failure, fault| sink_fault(*failure) == fault;
        let failure = |fault: SinkFault| FAILURES.into_iter().find(|failure| is_of(failure, fault));
        (faults.into_iter().filter_map(failure).collect(), self.driver.database().unmet_faults())
    }

    /// Does one thing.
    ///
    /// # Errors
    /// A sentence, where the engine panicked.
    ///
    /// # Panics
    /// On an act that names what is not there.
    pub fn act(&mut self, act: &Act) -> Result<(), String> {
        self.note(|| format!("{act:?}"));
        match act {
            Act::Turns(turns) => {
                for _ in 0..*turns {
                    self.round()?;
                }
            }
            Act::Pass(ms) => self.driver.pass(Duration::from_millis(*ms)),
            Act::Send(sending) => self.send(sending),
            Act::Write(table, key, column, value) => self.write(table, key, column, value),
            Act::Crash(step, nth) => self.driver.crash_at(step_called(step), *nth),
            Act::Kill(instance) => self.driver.kill(*instance),
            Act::Stop(instance) => self.guarded(*instance, TestDriver::stop_or_die)?,
            Act::Start(instance) => {
                if *instance >= self.driver.instance_count() {
                    self.owed.clear(); // its disk remembers nothing
                }
                if !self.driver.is_up(*instance) {
                    self.driver.try_start(*instance);
                }
            }
            Act::Freeze(instance) => self.driver.freeze(*instance),
            Act::Thaw(instance) => self.driver.thaw(*instance),
            Act::Zombie(instance, turns) => {
                for _ in 0..*turns {
                    self.guarded(*instance, |driver, instance| drop(driver.step_workers(instance)))?;
                }
            }
            Act::LoseDisk(instance) => {
                if !self.driver.is_up(*instance) {
                    self.owed.clear();
                    self.driver.disk(*instance).lose();
                }
            }
            Act::CommitFails => self.driver.database().fail_next_commit(),
            Act::CommitAnswerLost(is_applied) => self.driver.database().fail_next_commit_unknown(*is_applied),
            Act::OutboxReadFails(nth) => self.driver.database().fail_outbox_read(*nth),
            Act::DatabaseDown(is_down) => self.driver.database().set_down(*is_down),
            Act::Fail(failure) => self.driver.log().fail_next(sink_fault(*failure)),
            Act::StartsFail(count) => self.driver.log().fail_next_starts(*count),
            Act::EverLasting => self.release_everlasting()?,
            Act::Expire(nth) => {
                let group = self.topology.name().to_owned();
                let members = self.driver.log().members(&group);
                if let Some(member) = members.get(nth % members.len().max(1)) {
                    self.driver.log().expire_member(&group, member);
                }
            }
            Act::DiskFull(instance, is_full) => {
                self.broken_disks.insert(*instance);
                self.driver.disk(*instance).fill(*is_full);
            }
            Act::DiskBlocked(instance, is_blocked) => {
                self.broken_disks.insert(*instance);
                self.driver.disk(*instance).block(*is_blocked);
            }
            Act::Threshold(name, value) => self.set_threshold(name, *value),
            Act::Disaster(disaster) => {
                self.owed.clear(); // what was to be seen may be covered up
                if matches!(disaster, Disaster::OffsetBack(..) | Disaster::ChangelogCut(..)) {
                    self.stop_all()?;
                }
                self.keep_inputs();
                self.strike(disaster, false);
            }
            Act::Living(disaster) => {
                self.was_living = true;
                self.owed.clear();
                self.keep_inputs();
                self.strike(disaster, true);
            }
            Act::LateCommits => {
                self.must_stand.clear(); // an offset may have come back
                self.owed.clear();
                self.driver.log().deliver_commits();
                self.look(usize::MAX);
            }
        }
        Ok(())
    }

    /// Everything that is down comes back, and the pipeline comes to rest, its stores written.
    ///
    /// # Errors
    /// A sentence, where it does not or the engine panicked.
    pub fn finish(&mut self) -> Result<(), String> {
        self.note(|| "finish".into());
        self.driver.disarm();
        self.driver.database().set_down(false);
        for instance in 0..self.driver.instance_count() {
            self.driver.thaw(instance);
            self.driver.disk(instance).fill(false);
            self.driver.disk(instance).block(false);
            // What a disaster did is seen at a takeover.
            let is_seen_by_all = self.had_disaster && !self.was_living;
            let is_mended = self.broken_disks.contains(&instance) && self.driver.halts_by_disk(instance);
            let is_killed = is_seen_by_all || is_mended;
            self.start_anew(instance, is_killed)?;
        }
        if self.was_living {
            self.live_on()?;
            for instance in 0..self.driver.instance_count() {
                self.start_anew(instance, true)?;
                self.live_on()?;
            }
        }
        self.settle()?;
        self.driver.end_lag();
        // Until stores are written, once more behind the search for what has expired in them, and offsets without messages are
        // committed; less at a time than a session lasts.
        let flush_ms = i64::try_from(self.shape.settings.store_flush.as_millis()).unwrap_or(0);
        let until = self.driver.now_ms() + 2 * flush_ms + 5_000;
        while self.driver.now_ms() < until {
            self.driver.pass(Duration::from_secs(1));
            self.settle()?;
        }
        Ok(())
    }

    /// Compares what it left behind with what the interpreter makes of the same records, see [`Observed::judge`]. Called
    /// after [`Simulation::finish`].
    #[must_use]
    pub fn judge(&mut self, refuses: &dyn Fn(&str, &mut BTreeMap<String, Value>) -> bool) -> Vec<Finding> {
        self.observed().judge(&self.topology, refuses)
    }

    /// What it left behind. Called after [`Simulation::finish`].
    #[must_use]
    pub fn observed(&mut self) -> Observed {
        self.forgive_forgotten();
        self.events.sort_by_key(|(sequence, _)| *sequence);
        let mut rows = BTreeMap::new();
        for spec in self.topology.tables() {
            let found = self.driver.named_rows(&spec.table.name).into_iter();
            rows.extend(found.map(|(key, row)| ((spec.table.name.clone(), key), row)));
        }
        let mut log: BTreeMap<TopicPartition, Vec<Message>> = BTreeMap::new();
        for topic in self.driver.log().topics() {
            self.driver.log().each_record(&topic, &mut |partition, record| {
                let place = TopicPartition::new(topic.clone(), partition);
                log.entry(place).or_default().push(Message::of(record));
            });
        }
        let mut progress = BTreeMap::new();
        for place in self.progress.keys() {
            let decided = self.driver.decided_to(place);
            let committed = self.driver.log().committed(self.topology.name(), place).map(|found| found.next_offset);
            let published = self.driver.position_at(place).map(|position| position.published);
            let end = self.driver.log().bounds(place).map(|bounds| bounds.end);
            progress.insert(place.clone(), Progress { decided, committed, published, end });
        }
        let mut inside = self.inside();
        for (number, sub) in self.topology.sub_topologies().iter().enumerate() {
            for (spec, partition) in
                sub.stores.iter().flat_map(|spec| (0..self.shape.partitions).map(move |n| (spec, n)))
            {
                let id = StoreId { name: spec.name.clone(), partition: Partition(partition) };
                if let Some(found) = self.driver.kept(number, &id) {
                    inside.kept.insert((spec.name.to_string(), partition), found);
                }
            }
        }
        let halts = self.driver.standing().into_iter().map(standstill).collect();
        let (kafka, database) = (self.driver.log().open_transactions(), self.driver.database().open_transactions());
        let mut open = Vec::new();
        if kafka > 0 {
            open.push(format!("{kafka} Kafka transactions are open"));
        }
        if database > 0 {
            open.push(format!("{database} database transactions hold locks"));
        }
        Observed {
            partitions: self.shape.partitions,
            settings: self.shape.settings.clone(),
            limits: self.shape.limits.iter().cloned().collect(),
            now_ms: self.driver.now_ms(),
            first_rows: self.first_rows.clone(),
            events: self.events.iter().map(|(_, event)| event.clone()).collect(),
            thresholds: self.thresholds.clone(),
            struck: self.struck.clone(),
            forgotten: self.forgotten.clone(),
            must_stand: self.must_stand.union(&self.owed).copied().collect(),
            rows,
            log,
            gone: self.held.iter().map(|(place, held)| (place.clone(), held.values().cloned().collect())).collect(),
            progress,
            halts,
            open,
            inside: Some(inside),
        }
    }

    fn start_anew(&mut self, instance: usize, is_killed: bool) -> Result<(), String> {
        if is_killed {
            self.driver.kill(instance);
        }
        if self.driver.is_up(instance) || self.driver.try_start(instance) {
            return Ok(());
        }
        Err(format!("instance {instance} does not start"))
    }

    /// Some time under a disaster. Rest is not asked for: what is lost may be seen at the next takeover only.
    fn live_on(&mut self) -> Result<(), String> {
        for _ in 0..LIVING_ROUNDS {
            if self.round()? {
                continue;
            }
            if self.driver.is_at_rest() {
                return Ok(());
            }
            self.driver.pass(TICK);
        }
        Ok(())
    }

    /// Outbox, ledger, and what was seen on the way.
    fn inside(&mut self) -> Inside {
        let name = self.topology.name().to_owned();
        let outbox = self.driver.database().outbox(&name).into_iter().filter(|row| turn_of(row).is_none());
        let outbox = outbox.map(|row| (row.source.clone(), row.destination.clone(), id_of(&name, &row))).collect();
        let ledger = self.driver.database().verdicts(&name).into_iter();
        let ledger = ledger.map(|line| ((line.source, line.source_offset), (line.outcome.into(), line.note))).collect();
        Inside { outbox, ledger, seen: self.seen.clone(), ended: self.driver.ended(), ..Inside::default() }
    }

    /// Every instance leaves politely; those that fail on the way are dead.
    pub(super) fn stop_all(&mut self) -> Result<(), String> {
        (0..self.driver.instance_count()).try_for_each(|instance| self.guarded(instance, TestDriver::stop_or_die))
    }

    fn release_everlasting(&mut self) -> Result<(), String> {
        self.stop_all()?;
        self.driver.release(watched(self.topology.clone(), &self.applications).everlasting());
        self.sequence += 1;
        self.events.push((self.sequence, Event::EverLasting));
        // Nothing that is decided from now on was decided before, also where no step will be run over it.
        self.progress.values_mut().for_each(|progress| progress.sequence = self.sequence);
        for instance in 0..self.driver.instance_count() {
            self.driver.try_start(instance);
        }
        Ok(())
    }

    fn keep_inputs(&mut self) {
        let held = &mut self.held;
        for topic in self.topology.sub_topologies().iter().flat_map(SubTopology::sources) {
            self.driver.log().each_record(topic, &mut |partition, record| {
                let place = TopicPartition::new(topic.clone(), partition);
                held.entry(place).or_default().entry(record.offset).or_insert_with(|| Message::of(record));
            });
        }
    }

    pub(super) fn back_up(&mut self) {
        self.backup = Some(self.driver.database().snapshot());
    }

    /// Sets the database back, if it was backed up.
    pub(super) fn restore_backup(&mut self) -> bool {
        let Some(backup) = &self.backup else { return false };
        self.driver.database().restore(backup);
        true
    }

    fn set_threshold(&mut self, name: &str, value: i64) {
        let Some(threshold) = self.topology.thresholds().iter().find(|threshold| threshold.name() == name) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "a drawn number is small")]
        let value = value as f64;
        threshold.set(value);
        self.sequence += 1;
        self.events.push((self.sequence, Event::Threshold { name: name.into(), value }));
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            if self.round()? {
                continue;
            }
            if self.driver.is_at_rest() {
                return Ok(());
            }
            self.driver.pass(TICK);
        }
        Err(format!("it does not come to rest: {}", self.driver.states()))
    }

    /// One turn of every instance. True when somebody did something.
    fn round(&mut self) -> Result<bool, String> {
        let mut is_busy = false;
        for instance in 0..self.driver.instance_count() {
            let mut was_busy = false;
            self.guarded(instance, |driver, instance| was_busy = driver.step_one(instance))?;
            is_busy |= was_busy;
        }
        Ok(is_busy)
    }

    /// Lets an instance do something, and looks at what came of it.
    fn guarded(&mut self, instance: usize, act: impl FnOnce(&mut TestDriver, usize)) -> Result<(), String> {
        let driver = &mut self.driver;
        let outcome = catch_unwind(AssertUnwindSafe(|| act(driver, instance)));
        self.look(instance);
        outcome.map_err(|panic| {
            let text =
                panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            format!("instance {instance} panicked: {}", text.unwrap_or("no message"))
        })
    }

    /// Notes what the instance's steps were run over, and which records are decided since the last look.
    fn look(&mut self, instance: usize) {
        for (place, offset) in self.applications.take() {
            self.sequence += 1;
            if let Some(progress) = self.progress.get_mut(&place) {
                progress.applied.entry(offset).or_default().push((instance, self.sequence));
            }
        }
        let mut lines = Vec::new();
        for (place, progress) in &mut self.progress {
            let Some(at) = self.driver.decided_to(place) else { continue };
            let from = progress.reached.unwrap_or(NextOffset(0));
            if Some(at) == progress.reached {
                continue;
            }
            progress.reached = Some(at);
            for offset in (from.0..at.0).map(Offset) {
                let applied = progress.applied.remove(&offset).unwrap_or_default();
                let own = applied.iter().rev().find(|(by, _)| *by == instance).or(applied.last());
                // A record that no step was run over was decided with the one before it.
                let sequence = own.map_or(progress.sequence, |(_, sequence)| *sequence);
                progress.sequence = sequence;
                self.events.push((sequence, Event::Decided(place.clone(), offset, own.is_some())));
            }
            lines.push(format!("  instance {instance}: {place} decided to {at}"));
        }
        for line in lines {
            self.note(|| line);
        }
        if self.driver.is_up(instance) {
            for halt in self.driver.standing_at(instance) {
                let is_excused = halt.reason == HaltReason::StoreUnwritable && self.broken_disks.contains(&instance);
                let halt = standstill(halt);
                if !is_excused && !self.seen.contains(&halt) {
                    self.seen.push(halt);
                }
            }
        }
    }

    fn send(&mut self, sending: &Sending) {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
        let header = |(name, value): &(String, Option<String>)| Header { name: name.clone(), value: bytes(value) };
        let sent = Sent {
            partition: sending.partition.map(|partition| partition.rem_euclid(self.shape.partitions)),
            key: bytes(&sending.key),
            value: bytes(&sending.value),
            headers: sending.headers.iter().map(header).collect(),
            timestamp_ms: Some(self.driver.now_ms().saturating_add(sending.after_ms)),
        };
        self.driver.send_record(&sending.topic, sent);
    }

    fn write(&mut self, table: &str, key: &str, column: &str, value: &str) {
        let found = self.first_rows.keys().find(|(own, own_key)| own == table && own_key.to_string() == key);
        let Some((_, key)) = found.cloned() else { return };
        if self.driver.write_column(table, &key, column, value) {
            self.sequence += 1;
            let Some(value) = self.driver.column_value(table, column, value) else { return };
            let (table, column) = (table.into(), column.into());
            self.events.push((self.sequence, Event::Written { table, key, column, value }));
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{}", line());
        }
    }
}

fn standstill(halt: Halt) -> Standstill {
    Standstill { source: halt.source, reason: halt.reason.label().into(), detail: halt.detail }
}

fn step_called(name: &str) -> Step {
    let steps = TAKEOVER.iter().chain(&THROUGH_DATABASE).chain(&THROUGH_LOG);
    steps.copied().find(|step| format!("{step:?}") == name).unwrap_or_else(|| panic!("there is no commit step {name}"))
}

const fn sink_fault(failure: Failure) -> SinkFault {
    match failure {
        Failure::Begin => SinkFault::Begin,
        Failure::Send => SinkFault::Send,
        Failure::Flush => SinkFault::Flush,
        Failure::Offsets => SinkFault::Offsets,
        Failure::Commit => SinkFault::Commit { is_applied: false },
        Failure::CommitAnswer => SinkFault::Commit { is_applied: true },
        Failure::Taint => SinkFault::Taint,
        Failure::Renew => SinkFault::Renew,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_may_die_at_every_commit_step() {
        let steps = TAKEOVER.iter().chain(&THROUGH_DATABASE).chain(&THROUGH_LOG);
        let steps: BTreeSet<String> = steps.map(|step| format!("{step:?}")).collect();
        assert_eq!(steps, COMMIT_STEPS.iter().map(|step| (*step).to_owned()).collect());
    }
}
