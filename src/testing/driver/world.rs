//! A world: log, rows and clock, and the instances that are stepped in it.

use crate::adapters::memory::{LogSettings, ManualClock, MemoryDatabase, MemoryLog, MemoryStores, TopicIds};
use crate::engine::member::{Member, Ports, WorkerPorts};
use crate::engine::protocol::order::Hook;
use crate::engine::status::{Counter, State, Status};
use crate::flow::record::{Partition, Timestamp, TopicName, TopicPartition};
use crate::flow::topology::SubTopology;
use crate::ports::changelog::ChangelogReader;
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::history::{RowHistory, TopicHistory};
use crate::ports::rows::Rows;
use crate::ports::source::{Source, Subscription, TaskId};
use crate::ports::{Clock, Fault};
use crate::testing::crash::CrashPoint;
use crate::testing::death::survived;
use crate::testing::driver::operation::{Operation, Sent, parse};
use crate::testing::driver::plan::Plan;
use crate::testing::guard::{Guard, UnguardedRows, UnguardedSource};
use crate::testing::watch::watched_note;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Step of the clock when nothing is left to do.
const TICK: Duration = Duration::from_millis(50);

/// How often instances are stepped while time passes for keys that may be idle: well within a session.
const PACE: Duration = Duration::from_millis(500);
/// Rounds after which a run that does not come to rest is given up: far more than any honest test needs.
const ROUNDS_MAX: usize = 20_000;

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) log: MemoryLog,
    pub(super) database: MemoryDatabase,
    pub(super) crash: Arc<CrashPoint>,
    pub(super) instances: Vec<Instance>,
    pub(super) stays_dead: bool,
    /// Instances that ended by themselves, a sentence each.
    pub(super) ended: Vec<String>,
}

pub(super) struct Instance {
    pub(super) member: Option<Member>,
    pub(super) status: Arc<Status>,
    pub(super) stores: MemoryStores,
    pub(super) is_frozen: bool,
    turns: usize,
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
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
                .filter(|column| spec.is_written(&column.name) || spec.table.key_number(&column.name).is_some())
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

    pub(super) fn start(&mut self, plan: &Plan, number: usize) {
        if let Err(fault) = self.try_start(plan, number) {
            panic!("instance {number} does not start: {fault}");
        }
    }

    /// A start that fails although the database answers is reported as an instance that ended.
    pub(super) fn try_start(&mut self, plan: &Plan, number: usize) -> Result<(), Fault> {
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
                // The counts of the dead instance stay in.
                instance.status.add(Counter::Records, place.status.value(Counter::Records));
                instance.status.add(Counter::RestoredRecords, place.status.value(Counter::RestoredRecords));
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
        let note = match &plan.watch {
            Some(applications) => watched_note(stores.note(), &plan.topology, applications),
            None => stores.note(),
        };
        let ports = Ports {
            source,
            workers: (0..plan.workers).map(worker).collect(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            history: Some(history),
            fencer: None,
            note: Some(note),
            stores: Some(Arc::new(stores.clone())),
            changelogs: Some(changelogs),
            owner: format!("driver-{number}"),
        };
        let hook = Arc::clone(&self.crash) as Arc<dyn Hook>;
        Member::new(&plan.topology, plan.settings.clone(), ports, Arc::clone(status), &hook)
    }

    pub(super) fn replay(&mut self, plan: &Plan, operations: &[Operation]) {
        for operation in operations {
            self.carry_out(plan, operation);
        }
        self.settle(plan);
    }

    pub(super) fn carry_out(&mut self, plan: &Plan, operation: &Operation) {
        match operation {
            Operation::Row { table, key, values } => {
                let spec = plan.table(table);
                assert!(self.database.put(&spec.table, key.clone(), 0, values), "the row does not fit table {table}");
            }
            Operation::RowFirst { table, key, values } => {
                self.database.insert_first(&plan.table(table).table, key.clone(), 0, values);
            }
            Operation::Delete { table, key } => drop(self.database.remove(&plan.table(table).table, key.clone())),
            Operation::Send { topic, sent } => {
                if let Err(fault) = self.send(&parse(topic), sent) {
                    panic!("{fault}");
                }
            }
            Operation::Threshold { name, value } => {
                let found = plan.topology.thresholds().iter().find(|threshold| threshold.name() == name);
                found.unwrap_or_else(|| panic!("there is no threshold {name}")).set(*value);
            }
            Operation::Advance(by) => {
                self.settle(plan);
                self.live_through(plan, *by);
            }
            Operation::Settle => self.settle(plan),
        }
    }

    /// Lets time pass. Where keys may be idle the instances do not sleep through it: they keep their sessions, as nobody is idle
    /// for a task that was taken over meanwhile.
    fn live_through(&mut self, plan: &Plan, by: Duration) {
        let mut left = by;
        if plan.topology.sub_topologies().iter().any(|sub| sub.idle_after.is_some()) {
            while left > PACE {
                self.clock.advance(PACE);
                self.step(plan);
                left -= PACE;
            }
        }
        self.clock.advance(left);
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

    /// Steps every instance once; a crashed one is started again. True when an instance did something.
    pub(super) fn step(&mut self, plan: &Plan) -> bool {
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
    pub(super) fn step_one(&mut self, plan: &Plan, number: usize) -> Result<bool, Fault> {
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
    pub(super) fn note_end(&mut self, number: usize, crashes: usize, fault: &Fault) {
        if self.crash.count() == crashes {
            self.ended.push(format!("instance {number}: {fault}"));
        }
    }

    fn settle(&mut self, plan: &Plan) {
        for _ in 0..ROUNDS_MAX {
            if self.step(plan) {
                continue;
            }
            if self.is_settled(plan) && self.is_timing(plan) {
                return;
            }
            self.clock.advance(TICK);
        }
        let tasks: Vec<_> = self.instances.iter().map(|instance| instance.status.tasks()).collect();
        panic!("the pipeline does not come to rest: {tasks:?}");
    }

    /// Whether somebody has each task whose timers may go by the wall clock, if an instance is there at all.
    fn is_timing(&self, plan: &Plan) -> bool {
        let alive = self.instances.iter().filter(|instance| instance.member.is_some() && !instance.is_frozen);
        let tasks: Vec<_> = alive.map(|instance| instance.status.tasks()).collect();
        let has = |task: TaskId| {
            let mut found = tasks.iter().filter_map(|tasks| tasks.get(&task));
            found.any(|task| task.state == State::Running || task.halt.is_some())
        };
        let subs = plan.topology.sub_topologies().iter().enumerate();
        let mut timed = subs.filter(|(_, sub)| sub.stores.iter().any(|store| store.timers.is_some()));
        tasks.is_empty()
            || timed.all(|(sub_topology, _)| {
                (0..plan.partitions).all(|n| has(TaskId { sub_topology, partition: Partition(n) }))
            })
    }

    /// Whether every source partition is read to its end and published, or stands still; and an instance is there to
    /// report it.
    pub(super) fn is_settled(&self, plan: &Plan) -> bool {
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
                let is_in_rows = with_rows.contains(&place.topic);
                let position = self.database.position(name, &place).map(|position| position.next_offset);
                let position = if is_in_rows { position } else { committed };
                let is_read = position >= Some(self.log.visible_end(&place));
                halted.contains(&task(&place)) || (is_read && committed == position)
            },
        )
    }
}
