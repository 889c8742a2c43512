//! One job: a roll-up as a service would run it, with its graphs over HTTP.

use crate::Outcome;
use crate::child::RollUpRun;
use crate::load::readings::Meters;
use crate::rig::topics::PARTITIONS;
use crate::system::{Progress, say};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaChangelog, KafkaSettings, KafkaSink, KafkaSource};
use tidegate::adapters::postgres::{OutboxSettings, PostgresRollUps, PostgresRows, PostgresSchema, PostgresSettings};
use tidegate::engine::member::{Member, Ports, WorkerPorts};
use tidegate::engine::protocol::order::{Hook, NoHook};
use tidegate::engine::query::{Queries, Reading, Refusal, Wanted};
use tidegate::engine::status::{Counter, Status};
use tidegate::flow::Topology;
use tidegate::flow::rollup::{Patience, RollUp};
use tidegate::http::{self, About, View};
use tidegate::ports::Fault;
use tidegate::ports::changelog::ChangelogReader;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::rollups::RollUpTables;
use tidegate::ports::schema::Schema;
use tidegate::ports::source::Subscription;
use tidegate::settings::EngineSettings;

/// Interval of looking at halts and offsets: so seldom costs nothing.
const LOOK: Duration = Duration::from_millis(100);
/// For so long nothing has changed when everything is said to be done: timers may fire behind the last record.
pub const REST: Duration = Duration::from_secs(1);
/// Connections for graphs, as many as the binary has.
const READERS: usize = 2;

/// The pipeline of a run.
pub fn topology(run: &RollUpRun) -> Topology {
    let mut topology = Topology::new(&run.group);
    topology.source(&run.input).roll_up(&run.rollup, Meters, Patience::default());
    topology
}

/// What the server of graphs looks at, as in the binary.
struct Process {
    status: Arc<Status>,
    name: String,
    queries: OnceLock<Queries>,
    roll_ups: Vec<RollUp>,
    readers: Vec<Mutex<PostgresRollUps>>,
}

impl View for Process {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About { pipeline: self.name.clone(), place: "bench".into() }
    }

    fn stores(&self) -> Vec<String> {
        self.queries.get().map(Queries::stores).unwrap_or_default()
    }

    fn read(&self, store: &str, wanted: &Wanted, is_gone: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        let queries = self.queries.get().ok_or_else(|| Refusal::Unanswered("this instance is starting".into()))?;
        queries.read(store, wanted, is_gone)
    }

    fn owners(&self, store: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        self.queries.get().map(|queries| queries.owners(store, partitions)).unwrap_or_default()
    }

    fn roll_ups(&self) -> &[RollUp] {
        &self.roll_ups
    }

    fn roll_up_tables(&self, work: &mut dyn FnMut(&mut dyn RollUpTables) -> Result<(), Fault>) -> Result<(), String> {
        let free = self.readers.iter().find_map(|reader| reader.try_lock().ok());
        let first = || Some(self.readers.first()?.lock().unwrap_or_else(PoisonError::into_inner));
        let mut reader = free.or_else(first).ok_or("there are no readers")?;
        work(&mut *reader).map_err(|fault| fault.to_string())
    }
}

/// Whether everything that was announced has been handled too, for [`REST`].
struct Settled {
    /// The number of records handled, and since when.
    last: (u64, Instant),
}

impl Settled {
    fn look(&mut self, read: u64, status: &Status) -> bool {
        let handled = status.value(Counter::Records);
        if self.last.0 != handled {
            self.last = (handled, Instant::now());
        }
        // Each quarter, hour and day that is told is a record of the next step.
        handled == read + status.value(Counter::Announced) && self.last.1.elapsed() >= REST
    }
}

/// Records of the input whose offsets are committed. It has no transactions, so that offsets count its records.
fn committed(status: &Status, input: &str) -> u64 {
    let tasks = status.tasks();
    let inputs = tasks.values().flat_map(|task| &task.inputs);
    let offsets = inputs.filter(|(source, ..)| source.rsplit_once('-').is_some_and(|(topic, _)| topic == input));
    offsets.map(|(_, _, committed)| committed.max(&0).unsigned_abs()).sum()
}

pub fn run(run: &RollUpRun) -> Outcome {
    let topology = Arc::new(topology(run));
    topology.validate().map_err(|errors| errors.join("; "))?;
    let bootstrap_servers = run.brokers.clone();
    let kafka = KafkaSettings { bootstrap_servers, reports_offsets: true, ..KafkaSettings::default() };
    let postgres = PostgresSettings::new(&run.database);
    PostgresSchema::new(&postgres, OutboxSettings::default(), &run.group)?.migrate()?;
    let status = Arc::new(Status::default());
    let view = Arc::new(Process {
        status: Arc::clone(&status),
        name: run.group.clone(),
        queries: OnceLock::new(),
        roll_ups: topology.roll_ups().to_vec(),
        readers: (0..READERS).map(|_| PostgresRollUps::new(&postgres).map(Mutex::new)).collect::<Result<_, _>>()?,
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = http::serve(address, Arc::clone(&view) as Arc<dyn View>)?;
    say(&format!("port {}", server.address().port()));

    let worker = |number| -> Outcome<WorkerPorts> {
        let rows = Box::new(PostgresRows::new(&postgres, &run.group, &run.group)?);
        let open = |producer| KafkaSink::open(&kafka, &format!("{}-0-{number}-{producer}", run.group));
        Ok(WorkerPorts { rows, sink: Box::new(open(0)?), spare: Some(Box::new(open(1)?)) })
    };
    let for_restores = kafka.clone();
    let changelogs = move || Ok(Box::new(KafkaChangelog::connect(&for_restores)?) as Box<dyn ChangelogReader>);
    let ports = Ports {
        workers: (0..run.workers).map(worker).collect::<Outcome<_>>()?,
        source: Box::new(KafkaSource::join(&kafka, &Subscription::of(&topology), None)?),
        clock: Arc::new(SystemClock::default()),
        history: None,
        stores: Some(run.store.open(&run.folder)?),
        changelogs: Some(Arc::new(changelogs)),
        fencer: None,
        note: None,
        owner: "bench".into(),
    };
    let store_flush = Duration::from_millis(run.flush_ms);
    let settings = EngineSettings { workers: run.workers, store_flush, ..EngineSettings::default() };
    let hook: Arc<dyn Hook> = Arc::new(NoHook);
    let member = Member::new(&topology, settings, ports, Arc::clone(&status), &hook)?;
    let _ = view.queries.set(member.queries()); // once
    let running = member.spawn();

    let tasks = topology.sub_topologies().len() * usize::try_from(PARTITIONS)?;
    let (mut is_ready, mut looked_at) = (false, Instant::now());
    let mut settled = Settled { last: (0, Instant::now()) };
    Arc::new(Progress::default()).tell(run.records, |progress| {
        if running.is_stopping() {
            return Err("the member has ended".into());
        }
        if looked_at.elapsed() < LOOK {
            return Ok(());
        }
        looked_at = Instant::now();
        if let Some(halt) = status.halts().first() {
            return Err(format!("a task stands still: {halt:?}").into());
        }
        if !is_ready && status.tasks().len() == tasks && status.is_ready() {
            is_ready = true;
            say("ready");
        }
        let read = committed(&status, &run.input);
        // What is told of quarters is progress too.
        progress.handled.store(status.value(Counter::Records), Ordering::Release);
        let is_open = read == run.records && !settled.look(read, &status);
        progress.published.store(if is_open { read - 1 } else { read }, Ordering::Release);
        Ok(())
    })?;
    running.stop();
    running.join(Duration::from_secs(20))?;
    drop(server);
    Ok(())
}
