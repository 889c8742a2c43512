//! One job: sums by user in keyed state, as a service would run them: no database, everything through the log.

use crate::Outcome;
use crate::child::{Kept, KeyedRun, Shape, WINDOW_MS};
use crate::load::events::{Closed, Event, Update, Usage};
use crate::system::{Progress, say};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaChangelog, KafkaSettings, KafkaSink, KafkaSource};
use tidegate::engine::member::{Member, Ports, WorkerPorts};
use tidegate::engine::protocol::order::{Hook, NoHook};
use tidegate::engine::status::{Counter, Status};
use tidegate::flow::record::TopicName;
use tidegate::flow::window::{Tumbling, Window, Windowed};
use tidegate::flow::{Algorithm, Context, Declared, Reject, Topology};
use tidegate::ports::changelog::ChangelogReader;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::rows::NoRows;
use tidegate::ports::source::Subscription;
use tidegate::settings::EngineSettings;

/// The store of the sums.
pub const STORE: &str = "usage";
/// The static member's id: a process that starts again after a kill takes its partitions back at once.
const INSTANCE: &str = "bench-0";
/// Interval of looking for halts: a task that stands still would look like slowness.
const HALTS_EVERY: Duration = Duration::from_secs(1);

/// Adds each event to its user's sum; publishes one in `every`.
struct Sum {
    every: u64,
}

impl Algorithm for Sum {
    type Event = Event;
    type Row = Usage;
    type Notices = Option<Update>;

    fn apply(&self, event: Event, usage: &mut Usage, context: &mut Context<'_>) -> Result<Option<Update>, Reject> {
        usage.add(event.units, context.event_time_ms());
        let Usage { count, units, .. } = *usage;
        Ok(count.is_multiple_of(self.every).then_some(Update { user: event.user, count, units }))
    }
}

/// The same sums for each window; publishes the windows that [`Closed::is_told`] names.
struct SumInWindows {
    every: u64,
}

impl Windowed for SumInWindows {
    type Event = Event;
    type Value = Usage;
    type Notices = Option<Closed>;

    fn add(&self, event: &Event, usage: &mut Usage, context: &mut Context<'_>) -> Result<(), Reject> {
        usage.add(event.units, context.event_time_ms());
        Ok(())
    }

    fn emit(&self, usage: &Usage, window: &Window<'_>) -> Option<Closed> {
        let Usage { count, units, .. } = *usage;
        Closed::is_told(window.start_ms, self.every).then(|| Closed {
            user: window.key.to_string(),
            start_ms: window.start_ms,
            count,
            units,
        })
    }
}

/// The pipeline of a run.
pub fn topology(run: &KeyedRun) -> Topology {
    let mut topology = Topology::new(&run.group);
    let source = topology.source(&run.input);
    let source = match run.shape {
        Shape::Shuffled => {
            let kept = run.kept;
            source.keys_by("by-user", move |event: &Event| (event.units < kept).then(|| event.user.clone()))
        }
        Shape::Declared => source.declared(Declared::murmur2(run.partitions)),
    };
    let every = run.every;
    match run.keeps {
        Kept::Sum => source.aggregate(STORE, Sum { every }).to(&run.output),
        Kept::Windows => {
            let windows = Tumbling::of(Duration::from_millis(WINDOW_MS.unsigned_abs())).grace(Duration::ZERO);
            source.window(windows).aggregate(STORE, SumInWindows { every }).to(&run.output);
        }
    }
    topology
}

/// The topics of a run beside its input.
pub struct Internal {
    /// Where the events of a user lie together: the repartition topic, or the input itself.
    pub keyed: String,
    /// The store's changelog.
    pub changelog: String,
    /// Topics for what cannot be handled.
    pub dead_letters: Vec<String>,
}

impl Internal {
    /// # Errors
    /// Every mistake of the topology.
    pub fn of(run: &KeyedRun) -> Outcome<Self> {
        let topology = topology(run);
        topology.validate().map_err(|errors| errors.join("; "))?;
        let named = |names: BTreeSet<TopicName>| names.into_iter().map(|name| name.to_string());
        let changelog = named(topology.changelogs()).next().ok_or("the pipeline has no changelog")?;
        let keyed = named(topology.internal_topics()).next().unwrap_or_else(|| run.input.clone());
        let mut dead_letters: Vec<String> = named(topology.outputs()).collect();
        dead_letters.retain(|name| *name != run.output && *name != changelog && *name != keyed);
        Ok(Self { keyed, changelog, dead_letters })
    }
}

pub fn run(run: &KeyedRun) -> Outcome {
    let topology = Arc::new(topology(run));
    topology.validate().map_err(|errors| errors.join("; "))?;
    let bootstrap_servers = run.brokers.clone();
    let kafka = KafkaSettings { bootstrap_servers, reports_offsets: true, ..KafkaSettings::default() };
    let worker = |number| -> Outcome<WorkerPorts> {
        let open = |producer| KafkaSink::open(&kafka, &format!("{}-0-{number}-{producer}", run.group));
        Ok(WorkerPorts { rows: Box::new(NoRows), sink: Box::new(open(0)?), spare: Some(Box::new(open(1)?)) })
    };
    let for_restores = kafka.clone();
    let changelogs = move || Ok(Box::new(KafkaChangelog::connect(&for_restores)?) as Box<dyn ChangelogReader>);
    let ports = Ports {
        workers: (0..run.workers).map(worker).collect::<Outcome<_>>()?,
        source: Box::new(KafkaSource::join(&kafka, &Subscription::of(&topology), Some(INSTANCE))?),
        clock: Arc::new(SystemClock::default()),
        history: None,
        stores: Some(run.store.open(&run.folder)?),
        changelogs: Some(Arc::new(changelogs)),
        fencer: None,
        note: None,
        owner: "bench".into(),
    };
    let (log_age, store_flush) = (Duration::from_millis(run.commit_ms), Duration::from_millis(run.flush_ms));
    let settings = EngineSettings { workers: run.workers, log_age, store_flush, ..EngineSettings::default() };
    let status = Arc::new(Status::default());
    let hook: Arc<dyn Hook> = Arc::new(NoHook);
    let running = Member::new(&topology, settings, ports, Arc::clone(&status), &hook)?.spawn();

    let tasks = topology.sub_topologies().len() * usize::try_from(run.partitions)?;
    let (mut is_assigned, mut is_ready, mut looked_at) = (false, false, Instant::now());
    Arc::new(Progress::default()).tell(run.records, |progress| {
        if looked_at.elapsed() >= HALTS_EVERY {
            looked_at = Instant::now();
            if let Some(halt) = status.halts().first() {
                return Err(format!("a task stands still: {halt:?}").into());
            }
        }
        if running.is_stopping() {
            return Err("the member has ended".into());
        }
        if !is_ready {
            let count = status.tasks().len();
            if !is_assigned && count > 0 {
                is_assigned = true;
                say("assigned");
            }
            if count == tasks && status.is_ready() {
                is_ready = true;
                say(&format!("ready {}", status.value(Counter::RestoredRecords)));
            }
        }
        let records = status.value(Counter::Records); // counted when their transaction is committed
        progress.handled.store(records, Ordering::Release);
        progress.published.store(records, Ordering::Release);
        Ok(())
    })?;
    running.stop();
    running.join(Duration::from_secs(20))?;
    Ok(())
}
