//! Turns assignments into tasks and feeds them: one router on the polling thread, and workers of two stages each.
//!
//! [`Member`] holds the parts of one group member. [`Member::spawn`] gives each a thread of its own, which is how a
//! service runs; the test driver steps the same parts in one thread through [`Member::step`].

use crate::engine::mailbox::{Inboxes, ToSource, ToStage};
use crate::engine::outbound::message::LETTER_BYTES;
use crate::engine::outbound::outstanding::Outstanding;
use crate::engine::protocol::order::Hook;
use crate::engine::protocol::ownership::Assignments;
use crate::engine::query::Queries;
use crate::engine::relay::Relay;
use crate::engine::settings::EngineSettings;
use crate::engine::status::Status;
use crate::engine::task::in_hand::Suspects;
use crate::engine::worker::{Stage, StageState};
use crate::flow::record::{Chunk, Record, TopicName, TopicPartition};
use crate::flow::topology::Topology;
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::failpoint::failpoint;
use crate::ports::fencer::Fencer;
use crate::ports::guard::{self, Guard};
use crate::ports::note::Note;
use crate::ports::rows::Rows;
use crate::ports::sink::Sink;
use crate::ports::source::{Listener, Membership, Source, TaskId};
use crate::ports::store::Stores;
use crate::ports::{Clock, Fault};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long one poll waits for records: the longest that a finished takeover waits to be started.
const POLL: Duration = Duration::from_millis(20);
/// Most records of one poll, so that the group's events and back-pressure are served in time.
const POLL_RECORDS: usize = 2_000;
/// About so many bytes may wait in front of one task, so that large records do not take the memory that `queued_records` of
/// them would: as if all that waits were as large as the largest of it, of whichever input, since small ones come beside them.
const QUEUED_BYTES: usize = 32 << 20;

/// How often it is looked whether what is waited for has come.
const STEP: Duration = Duration::from_millis(10);
/// How long the workers may take, once the process is to end, to publish what is committed: the next owner does the rest.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long the polling thread may take to leave the group: the above, and an answer of its coordinator.
const CLOSE_WITHIN: Duration = Duration::from_secs(15);

/// Starts that are not done yet, one a task.
type Starts = BTreeMap<TaskId, ToSource>;

/// The adapters of one worker.
pub struct WorkerPorts {
    /// Its database connection, not yet bound; [`NoRows`](crate::ports::rows::NoRows) where no step has rows.
    pub rows: Box<dyn Rows>,
    /// Its transactional producer.
    pub sink: Box<dyn Sink>,
    /// Another one, under an id of its own, that takes turns with it; see [`relay`](crate::engine::relay).
    pub spare: Option<Box<dyn Sink>>,
}

/// The adapters of one member.
pub struct Ports {
    /// The member of the consumer group.
    pub source: Box<dyn Source>,
    /// One entry a worker; at least one.
    pub workers: Vec<WorkerPorts>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Reads whole topics.
    pub history: Option<HistoryFactory>,
    /// Where keyed state lies; needed where a step has stores.
    pub stores: Option<Arc<dyn Stores>>,
    /// Reads changelogs; needed where a step has stores.
    pub changelogs: Option<ChangelogFactory>,
    /// Ends what dead instances left open; without one, their transactions' timeouts do.
    pub fencer: Option<Arc<dyn Fencer>>,
    /// Where is noted which records are in hand; without one, a record that kills the process does so for ever.
    pub note: Option<Arc<dyn Note>>,
    /// Who we are, for people: goes into claimed positions.
    pub owner: String,
}

/// One member of the group with its workers, not yet running.
pub struct Member {
    source: Box<dyn Source>,
    router: Router,
    commands: Receiver<ToSource>,
    starts: Starts,
    workers: Vec<Worker>,
    queries: Queries,
    settings: Arc<EngineSettings>,
    status: Arc<Status>,
    is_abandoned: Arc<AtomicBool>,
}

struct Worker {
    stage: Stage,
    relay: Relay,
}

impl Member {
    /// Binds the tables, asks for the topics' limits and wires the parts.
    ///
    /// # Errors
    /// `Fatal` when a table differs from its struct (every difference in one message) or a topic is missing; `Retry`
    /// when a server did not answer.
    pub fn new(
        topology: &Arc<Topology>,
        settings: EngineSettings,
        ports: Ports,
        status: Arc<Status>,
        hook: &Arc<dyn Hook>,
    ) -> Result<Self, Fault> {
        let Ports { source, workers: worker_ports, clock, history, stores, changelogs: reader, fencer, note, owner } =
            ports;
        let settings = Arc::new(settings);
        let suspects = Suspects::new(topology, note, settings.deaths_max);
        let assignments = Arc::new(Assignments::default());
        let is_abandoned = Arc::new(AtomicBool::new(false));
        let (to_source, commands) = unbounded();
        let tables = topology.tables();
        let mut workers = Vec::with_capacity(worker_ports.len());
        let mut stages = Vec::with_capacity(worker_ports.len());
        for (number, WorkerPorts { mut rows, mut sink, mut spare }) in worker_ports.into_iter().enumerate() {
            rows.bind(&tables)?;
            // Each is asked, since a producer also fits its own batches to the limits.
            let message_bytes_max = limits(topology, &mut *sink)?;
            if let Some(spare) = &mut spare {
                limits(topology, &mut **spare)?;
            }
            let (to_stage, stage_inbox) = unbounded();
            let (to_relay, relay_inbox) = unbounded();
            let outstanding = Arc::new(Outstanding::default());
            let stage = Stage {
                topology: Arc::clone(topology),
                owner: owner.clone(),
                rows,
                group: source.group(),
                clock: Arc::clone(&clock),
                assignments: Arc::clone(&assignments),
                settings: Arc::clone(&settings),
                status: Arc::clone(&status),
                hook: Arc::clone(hook),
                history: history.clone(),
                stores: stores.clone(),
                changelogs: reader.clone(),
                fencer: fencer.clone(),
                message_bytes_max,
                inbox: stage_inbox,
                relay: to_relay,
                source: to_source.clone(),
                outstanding: Arc::clone(&outstanding),
                hand: suspects.hand(number),
                state: StageState::default(),
            };
            let relay = Relay::new(
                topology.name().into(),
                sink,
                spare,
                source.group(),
                Arc::clone(&clock),
                Arc::clone(&assignments),
                Arc::clone(&settings),
                Arc::clone(&status),
                Arc::clone(hook),
                relay_inbox,
                to_stage.clone(),
                outstanding,
                Arc::clone(&is_abandoned),
            );
            stages.push(StageHandle { inbox: to_stage, tasks: 0 });
            workers.push(Worker { stage, relay });
        }
        let sources = topology.sub_topologies().iter().map(|sub| sub.sources().cloned().collect()).collect();
        let inboxes = Inboxes::default();
        let queries = Queries::new(Arc::clone(topology), source.group(), Arc::clone(&clock), inboxes.clone());
        let router = Router {
            assignments,
            inboxes,
            stages,
            sources,
            placed: BTreeMap::new(),
            filling: BTreeMap::new(),
            queued_max: settings.queued_records,
            status: Arc::clone(&status),
        };
        Ok(Self { source, router, commands, starts: Starts::new(), workers, queries, settings, status, is_abandoned })
    }

    /// Reads this member's stores, also after [`Member::spawn`].
    #[must_use]
    pub fn queries(&self) -> Queries {
        self.queries.clone()
    }

    /// Does everything that is due, in this thread: one poll that waits for nothing, then each stage and relay once.
    /// True when something was done.
    ///
    /// # Errors
    /// `Fatal`: this member is dead, as a process would be.
    pub fn step(&mut self) -> Result<bool, Fault> {
        self.step_parts(true)
    }

    /// As [`Member::step`], with relays that are busy elsewhere: what is handed over to them waits.
    ///
    /// # Errors
    /// As [`Member::step`].
    #[doc(hidden)]
    pub fn step_without_relays(&mut self) -> Result<bool, Fault> {
        self.step_parts(false)
    }

    fn step_parts(&mut self, has_relays: bool) -> Result<bool, Fault> {
        let Self { source, router, workers, .. } = self;
        let mut outcome = Ok(());
        let mut guided =
            Guided { router, wait: |acks: &Receiver<()>, count| drain_inline(workers, acks, count, &mut outcome) };
        let polled = source.poll(Duration::ZERO, POLL_RECORDS, &mut guided);
        outcome?;
        let mut is_busy = match polled {
            Ok(count) => count > 0,
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(_) => false,
        };
        self.router.flush();
        for worker in &mut self.workers {
            is_busy |= worker.stage.step()?.is_none();
            is_busy |= if has_relays { worker.relay.step()?.is_none() } else { worker.relay.has_work() };
        }
        is_busy |= self.serve_source();
        Ok(is_busy)
    }

    /// Steps the workers alone: what a process does whose polling thread has not heard yet that its partitions moved.
    ///
    /// # Errors
    /// `Fatal` as in [`Member::step`].
    pub fn step_workers(&mut self) -> Result<(), Fault> {
        for worker in &mut self.workers {
            worker.stage.step()?;
            worker.relay.step()?;
        }
        Ok(())
    }

    /// Leaves the group after publishing what is committed, in this thread.
    ///
    /// # Errors
    /// `Fatal` as in [`Member::step`].
    pub fn close(mut self) -> Result<(), Fault> {
        let Self { source, router, workers, .. } = &mut self;
        let mut outcome = Ok(());
        let mut guided =
            Guided { router, wait: |acks: &Receiver<()>, count| drain_inline(workers, acks, count, &mut outcome) };
        source.close(&mut guided);
        outcome?;
        for worker in &mut self.workers {
            worker.relay.producers.close();
        }
        Ok(())
    }

    /// Starts, holds back and releases deliveries. True when something was started.
    fn serve_source(&mut self) -> bool {
        let Self { source, router, commands, starts, .. } = self;
        let has_started = router.start(&mut **source, starts, commands.try_iter());
        router.press_back(&mut **source);
        has_started
    }

    /// Gives every part its thread and returns the handle.
    #[must_use]
    pub fn spawn(self) -> Running {
        let Self { source, router, commands, starts, workers, queries, settings, status, is_abandoned } = self;
        let shared = Arc::new(Shared {
            is_stopping: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
            fault: Mutex::new(None),
        });
        let status_too = Arc::clone(&status);
        let mut threads = Vec::new();
        let mut stops = Vec::new();
        for (number, Worker { mut stage, mut relay }) in workers.into_iter().enumerate() {
            let is_stopped = Arc::new(AtomicBool::new(false));
            stops.push(Arc::clone(&is_stopped));
            let (stop, life) = (Arc::clone(&is_stopped), Arc::clone(&shared));
            threads.push(guard(&shared, &format!("stage-{number}"), move || {
                while !stop.load(Ordering::Acquire) && !life.is_killed() {
                    if let Some(wait) = stage.step()?
                        && !stage.wait(wait)?
                    {
                        break;
                    }
                }
                Ok(())
            }));
            let life = Arc::clone(&shared);
            threads.push(guard(&shared, &format!("relay-{number}"), move || {
                while !is_stopped.load(Ordering::Acquire) && !life.is_killed() {
                    if let Some(wait) = relay.step()?
                        && !relay.wait(wait.min(Duration::from_millis(500)))?
                    {
                        break;
                    }
                }
                if !life.is_killed() {
                    relay.producers.close();
                }
                Ok(())
            }));
        }
        let shared_too = Arc::clone(&shared);
        let poller = Poller { source, router, commands, starts, queries, settings, status, shared: shared_too, stops };
        let poll = guard(&shared, "poll", move || poller.run());
        Running { shared, poll: Some(poll), threads, is_abandoned, status: status_too }
    }
}

/// The largest messages that the topics take.
///
/// # Errors
/// `Fatal` where a dead-letter topic would not take every dead letter.
fn limits(topology: &Topology, sink: &mut dyn Sink) -> Result<HashMap<TopicName, usize>, Fault> {
    let dead_letters: BTreeSet<TopicName> = topology.dead_letter_topics().collect();
    let limit = |topic: TopicName| {
        let bytes = sink.message_bytes_max(&topic)?;
        if bytes < LETTER_BYTES && dead_letters.contains(&topic) {
            return Err(Fault::fatal(format!(
                "topic {topic} takes messages of {bytes} bytes, and a dead letter may have {LETTER_BYTES} without the record's \
                 key, value and headers: raise its max.message.bytes"
            )));
        }
        Ok((topic, bytes))
    };
    topology.outputs().into_iter().map(limit).collect()
}

/// Steps the workers until they have given up what was revoked, in this thread.
fn drain_inline(workers: &mut [Worker], acks: &Receiver<()>, count: usize, outcome: &mut Result<(), Fault>) {
    let mut seen = 0;
    // Bounded: a stage takes its inbox in one step and a relay publishes in one more; doubts may add a few.
    for _ in 0..1_000 {
        for worker in workers.iter_mut() {
            let stepped = worker.stage.step().and_then(|_| worker.relay.step());
            if let Err(fault) = stepped {
                *outcome = Err(fault);
                return;
            }
        }
        seen += acks.try_iter().count();
        if seen >= count {
            return;
        }
    }
}

/// What all threads of a running member share.
struct Shared {
    is_stopping: AtomicBool,
    is_killed: AtomicBool,
    fault: Mutex<Option<Fault>>,
}

impl Shared {
    fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    fn fail(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.is_stopping.store(true, Ordering::Release);
    }
}

/// A thread whose fault or panic ends the member: a dead poll thread behind a healthy page would be worse (hazard H7).
fn guard(shared: &Arc<Shared>, name: &str, run: impl FnOnce() -> Result<(), Fault> + Send + 'static) -> JoinHandle<()> {
    let shared_too = Arc::clone(shared);
    let label = name.to_owned();
    let body = move || match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => shared_too.fail(fault),
        Err(_) => shared_too.fail(Fault::fatal(format!("thread {label} panicked; see the message above"))),
    };
    match std::thread::Builder::new().name(name.into()).spawn(body) {
        Ok(handle) => handle,
        Err(error) => {
            shared.fail(Fault::fatal(format!("thread {name} could not start")).because(error));
            std::thread::spawn(|| {})
        }
    }
}

/// A running member. Dropped without [`Running::join`] it is killed.
pub struct Running {
    shared: Arc<Shared>,
    poll: Option<JoinHandle<()>>,
    threads: Vec<JoinHandle<()>>,
    is_abandoned: Arc<AtomicBool>,
    status: Arc<Status>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// Asks for a graceful stop: no more input, publish what is committed, leave the group.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
    }

    /// Ends the member as SIGKILL ends a process: nothing more is published, closed or said. The group notices when the
    /// session times out, and an open transaction stays open until a successor starts. Returns at once; each thread ends
    /// when it next looks up, and one within a call to a server finishes that call. Until [`Running::join`] has seen the
    /// end of the polling thread, it may still answer a rebalance, which a dead process does not.
    pub fn kill(&self) {
        self.shared.is_killed.store(true, Ordering::Release);
        self.shared.is_stopping.store(true, Ordering::Release);
        self.is_abandoned.store(true, Ordering::Release);
    }

    /// Whether the member has ended or is about to.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Acquire)
    }

    /// Counts the polling thread's rounds: a liveness probe watches that it grows.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        self.status.polls.value()
    }

    /// Waits until the member has ended, at most `within`: whoever waits for a dead server is left behind, and must not keep
    /// the process. The polling thread is given 15 s in any case.
    ///
    /// # Errors
    /// The fault that ended it.
    pub fn join(mut self, within: Duration) -> Result<(), Fault> {
        // The workers end once the poller has told them.
        let mut waited = Duration::ZERO;
        while self.poll.as_ref().is_some_and(|poll| !poll.is_finished()) && waited < within.max(CLOSE_WITHIN) {
            std::thread::sleep(STEP);
            waited += STEP;
        }
        while self.threads.iter().any(|thread| !thread.is_finished()) && waited < within {
            std::thread::sleep(STEP);
            waited += STEP;
        }
        self.is_abandoned.store(true, Ordering::Release);
        for thread in self.poll.take().into_iter().chain(self.threads.drain(..)).filter(JoinHandle::is_finished) {
            let _ = thread.join(); // its panic was turned into a fault
        }
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// The polling thread's business.
struct Poller {
    source: Box<dyn Source>,
    router: Router,
    commands: Receiver<ToSource>,
    starts: Starts,
    queries: Queries,
    settings: Arc<EngineSettings>,
    status: Arc<Status>,
    shared: Arc<Shared>,
    stops: Vec<Arc<AtomicBool>>,
}

impl Poller {
    fn run(self) -> Result<(), Fault> {
        let Self { source, router, commands, starts, queries, settings, status, shared, stops } = self;
        let within = settings.revoke_within;
        // The same serving code as in one thread; the workers are elsewhere.
        let mut member = Member {
            source,
            router,
            commands,
            starts,
            workers: Vec::new(),
            queries,
            settings,
            status,
            is_abandoned: Arc::default(),
        };
        let result = member.poll_until_stopped(&shared, within);
        if shared.is_killed() {
            return result;
        }
        let wait = |acks: &Receiver<()>, count| wait_for(acks, count, (within, STOP_WITHIN), &|| true);
        member.source.close(&mut Guided { router: &mut member.router, wait });
        for stop in stops {
            stop.store(true, Ordering::Release);
        }
        result
    }
}

impl Member {
    fn poll_until_stopped(&mut self, shared: &Shared, within: Duration) -> Result<(), Fault> {
        while !shared.is_stopping.load(Ordering::Acquire) {
            let is_stopping = || shared.is_stopping.load(Ordering::Acquire);
            let wait = |acks: &Receiver<()>, count| wait_for(acks, count, (within, STOP_WITHIN), &is_stopping);
            let mut guided = Guided { router: &mut self.router, wait };
            match self.source.poll(POLL, POLL_RECORDS, &mut guided) {
                Ok(_) => {}
                Err(fault @ Fault::Fatal(_)) => return Err(fault),
                Err(fault) => tracing::debug!(error = %fault, "the log could not be read; trying again"),
            }
            self.router.flush();
            self.serve_source();
            self.status.polls.add(1);
            if self.status.is_all_halted() {
                return Err(Fault::fatal("every partition of this instance is halted; see the messages above"));
            }
        }
        Ok(())
    }
}

/// Waits for the word of each worker: at most `within` for all of them together, and where the process is to end at most
/// `stop_within` from then on.
fn wait_for(
    acks: &Receiver<()>,
    count: usize,
    (within, stop_within): (Duration, Duration),
    is_stopping: &dyn Fn() -> bool,
) {
    let (mut missing, mut waited, mut stopping) = (count, Duration::ZERO, Duration::ZERO);
    while missing > 0 {
        match acks.recv_timeout(STEP) {
            Ok(()) => missing -= 1,
            Err(RecvTimeoutError::Timeout) if waited < within && stopping < stop_within => {
                waited += STEP;
                stopping += if is_stopping() { STEP } else { Duration::ZERO };
            }
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(
                    waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                    missing,
                    "a revoke did not finish in time; the next owner publishes the rest"
                );
                return;
            }
            Err(RecvTimeoutError::Disconnected) => return, // a worker has ended, and said why
        }
    }
}

/// Where records and group events go. Lives on the polling thread.
struct Router {
    assignments: Arc<Assignments>,
    inboxes: Inboxes,
    stages: Vec<StageHandle>,
    sources: Vec<Vec<TopicName>>, // by sub-topology
    placed: BTreeMap<TaskId, Placed>,
    filling: BTreeMap<(TaskId, usize), Chunk>,
    queued_max: usize,
    status: Arc<Status>,
}

struct StageHandle {
    inbox: Sender<ToStage>,
    tasks: usize,
}

struct Placed {
    stage: usize,
    queued: Arc<AtomicUsize>,
    /// Bytes of a record, as the largest of what waits has on average.
    record_bytes: usize,
    is_held: bool,
    /// Of which start the records are that come now; 0 before the first.
    delivery: u64,
}

impl Router {
    fn assigned(&mut self, tasks: &[TaskId], membership: Membership) {
        self.status.set_member(true);
        for (task, assignment) in self.assignments.assign(tasks, membership) {
            // The worker with the fewest tasks; a task never moves between workers.
            let Some((number, stage)) = self.stages.iter_mut().enumerate().min_by_key(|(_, stage)| stage.tasks) else {
                return;
            };
            stage.tasks += 1;
            let queued = Arc::new(AtomicUsize::new(0));
            self.inboxes.place(task, stage.inbox.clone());
            let message = ToStage::Assigned { task, assignment, queued: Arc::clone(&queued) };
            let _ = stage.inbox.send(message); // a stage that has ended takes the member with it
            self.placed.insert(task, Placed { stage: number, queued, record_bytes: 0, is_held: false, delivery: 0 });
        }
    }

    /// Takes the tasks from their workers, waits (by `wait`) until what they had committed is published, and only then
    /// lets go of the membership.
    fn revoked(&mut self, tasks: &[TaskId], wait: impl FnOnce(&Receiver<()>, usize)) {
        failpoint!(K15, if !tasks.is_empty());
        self.flush();
        let by_stage = self.remove(tasks);
        let (ack, acks) = bounded(by_stage.len().max(1));
        let count = by_stage.len();
        for (number, tasks) in by_stage {
            if let Some(stage) = self.stages.get(number) {
                let _ = stage.inbox.send(ToStage::Revoked { tasks, ack: ack.clone() });
            }
        }
        drop(ack);
        if count > 0 && !guard::is_off(Guard::RevokeWaits) {
            wait(&acks, count);
        }
        self.assignments.remove(tasks);
    }

    fn lost(&mut self, tasks: &[TaskId]) {
        self.status.set_member(false);
        self.assignments.remove(tasks);
        for (number, tasks) in self.remove(tasks) {
            if let Some(stage) = self.stages.get(number) {
                let _ = stage.inbox.send(ToStage::Lost { tasks });
            }
        }
    }

    fn remove(&mut self, tasks: &[TaskId]) -> BTreeMap<usize, Vec<TaskId>> {
        let mut by_stage: BTreeMap<usize, Vec<TaskId>> = BTreeMap::new();
        for task in tasks {
            self.filling.retain(|(filling, _), _| filling != task);
            self.inboxes.remove(*task);
            if let Some(placed) = self.placed.remove(task) {
                if let Some(stage) = self.stages.get_mut(placed.stage) {
                    stage.tasks -= 1;
                }
                by_stage.entry(placed.stage).or_default().push(*task);
            }
        }
        by_stage
    }

    fn send(&self, task: TaskId, message: ToStage) {
        if let Some(stage) = self.placed.get(&task).and_then(|placed| self.stages.get(placed.stage)) {
            let _ = stage.inbox.send(message);
        }
    }

    /// Starts what is told and what could not be started before. Of each task only the last one counts: where an earlier one
    /// failed, its records would be nobody's. True when something was started.
    fn start(&mut self, source: &mut dyn Source, waiting: &mut Starts, told: impl Iterator<Item = ToSource>) -> bool {
        for start in told {
            let ToSource::Start { task, assignment, .. } = &start;
            // One of an assignment that is gone says nothing, however late it comes.
            if self.assignments.membership(*task, *assignment).is_some() {
                waiting.insert(*task, start);
            }
        }
        let mut has_started = false;
        waiting.retain(|task, ToSource::Start { assignment, delivery, positions, .. }| {
            if self.assignments.membership(*task, *assignment).is_none() {
                return false; // it moved while it was being taken over
            }
            match source.start(positions) {
                Ok(()) => {
                    has_started = true;
                    self.delivers(*task, *delivery);
                    false
                }
                Err(fault) => {
                    tracing::debug!(error = %fault, "delivery could not start yet");
                    true
                }
            }
        });
        has_started
    }

    /// From here on the records of `task` are those of its start number `delivery`; what came before is flushed. A start
    /// releases what was held.
    fn delivers(&mut self, task: TaskId, delivery: u64) {
        if let Some(placed) = self.placed.get_mut(&task) {
            placed.delivery = delivery;
            placed.is_held = false;
        }
    }

    /// Hands the records of this poll to their workers, one message an input.
    fn flush(&mut self) {
        let filling = std::mem::take(&mut self.filling);
        for ((task, topic), chunk) in filling {
            if let Some(placed) = self.placed.get_mut(&task) {
                let waiting = placed.queued.fetch_add(chunk.len(), Ordering::AcqRel);
                let record_bytes = chunk.bytes() / chunk.len().max(1);
                placed.record_bytes = if waiting == 0 { record_bytes } else { placed.record_bytes.max(record_bytes) };
                let delivery = placed.delivery;
                self.send(task, ToStage::Records { task, topic, delivery, chunk });
            }
        }
    }

    /// Holds back the inputs of tasks that have too much waiting, in records or in bytes, until half of it is gone.
    fn press_back(&mut self, source: &mut dyn Source) {
        for (task, placed) in &mut self.placed {
            let queued = placed.queued.load(Ordering::Acquire);
            let queued_max = self.queued_max.min(QUEUED_BYTES / placed.record_bytes.max(1));
            let is_too_much = queued > if placed.is_held { queued_max / 2 } else { queued_max };
            if is_too_much == placed.is_held {
                continue;
            }
            let topics = self.sources.get(task.sub_topology).into_iter().flatten();
            let partitions: Vec<_> = topics.map(|topic| TopicPartition::new(topic.clone(), task.partition)).collect();
            let result = if is_too_much { source.hold(&partitions) } else { source.release(&partitions) };
            if result.is_ok() {
                placed.is_held = is_too_much;
            }
        }
    }
}

/// The router as a listener, with the way to wait for a revoke.
struct Guided<'a, W> {
    router: &'a mut Router,
    wait: W,
}

impl<W: FnMut(&Receiver<()>, usize)> Listener for Guided<'_, W> {
    fn assigned(&mut self, tasks: &[TaskId], membership: Membership) {
        self.router.assigned(tasks, membership);
    }

    fn revoked(&mut self, tasks: &[TaskId]) {
        self.router.revoked(tasks, &mut self.wait);
    }

    fn lost(&mut self, tasks: &[TaskId]) {
        self.router.lost(tasks);
    }

    fn record(&mut self, task: TaskId, topic: usize, record: Record<'_>) {
        self.router.filling.entry((task, topic)).or_default().push(&record);
    }

    fn out_of_range(&mut self, task: TaskId, topic: usize, message: &str) {
        self.router.send(task, ToStage::OutOfRange { task, topic, message: message.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{NextOffset, Offset, Partition, Timestamp};
    use crate::ports::clock::SystemClock;
    use crate::ports::source::Group;

    /// A worker that hangs, and with it a polling thread, must not outlast the grace period of whoever stops the process.
    #[test]
    fn a_revoke_has_one_bound_for_all_workers_and_a_shorter_one_at_the_end_of_the_process() {
        let clock = SystemClock::default();
        let (ack, acks) = bounded(4);
        for (within, stop_within, is_stopping) in [(300, 60_000, false), (60_000, 300, true)] {
            let (began, bounds) = (clock.elapsed(), (within, stop_within));
            ack.send(()).unwrap();
            let [within, stop_within] = [bounds.0, bounds.1].map(Duration::from_millis);
            wait_for(&acks, 4, (within, stop_within), &|| is_stopping);
            let took = clock.elapsed().saturating_sub(began);
            assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&took), "{took:?}");
        }
        assert!(STOP_WITHIN < CLOSE_WITHIN && CLOSE_WITHIN < Duration::from_secs(25));
    }

    #[test]
    fn a_thread_that_hangs_is_left_behind() {
        let (hold, held) = bounded::<()>(0);
        let shared = Arc::new(Shared {
            is_stopping: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
            fault: Mutex::new(None),
        });
        let worker = std::thread::spawn(move || held.recv().unwrap_or_default());
        let (is_abandoned, status) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let poll = Some(std::thread::spawn(|| {}));
        let running = Running { shared, poll, threads: vec![worker], is_abandoned: Arc::clone(&is_abandoned), status };
        running.stop();
        let clock = SystemClock::default();
        running.join(Duration::from_millis(200)).unwrap();
        assert!(clock.elapsed() < Duration::from_secs(5));
        assert!(is_abandoned.load(Ordering::Acquire), "what still waits is told to end");
        drop(hold);
    }

    /// Knows only what is held back, and where it was started; a start at 3 fails the first time.
    #[derive(Default)]
    struct Held(Vec<&'static str>, Vec<NextOffset>);

    impl Source for Held {
        fn poll(&mut self, _: Duration, _: usize, _: &mut dyn Listener) -> Result<usize, Fault> {
            Ok(0)
        }
        fn start(&mut self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault> {
            self.1.extend(positions.iter().map(|(_, at)| *at));
            if self.1 == [NextOffset(3)] { Err(Fault::retry("not yet")) } else { Ok(()) }
        }
        fn hold(&mut self, _: &[TopicPartition]) -> Result<(), Fault> {
            self.0.push("hold");
            Ok(())
        }
        fn release(&mut self, _: &[TopicPartition]) -> Result<(), Fault> {
            self.0.push("release");
            Ok(())
        }
        fn group(&self) -> Arc<dyn Group> {
            unreachable!("nobody asks")
        }
        fn close(&mut self, _: &mut dyn Listener) {}
    }

    /// A router with one task.
    fn router(task: TaskId, queued: &Arc<AtomicUsize>) -> Router {
        let placed = Placed { stage: 0, queued: Arc::clone(queued), record_bytes: 0, is_held: false, delivery: 1 };
        Router {
            assignments: Arc::default(),
            inboxes: Inboxes::default(),
            stages: Vec::new(),
            sources: vec![vec![TopicName::parse("events").unwrap()]],
            placed: BTreeMap::from([(task, placed)]),
            filling: BTreeMap::new(),
            queued_max: 100,
            status: Arc::default(),
        }
    }

    /// Whose records came next would be told as those of a start that nobody waits for, and dropped for ever.
    #[test]
    fn a_start_that_failed_is_forgotten_once_its_task_has_a_newer_one() {
        let task = TaskId { sub_topology: 0, partition: Partition(0) };
        let mut router = router(task, &Arc::default());
        let membership = Membership::new("p", "m", 1, None).unwrap();
        let assignment = router.assignments.assign(&[task], membership)[0].1;
        let place = TopicPartition::new(TopicName::parse("events").unwrap(), Partition(0));
        let start = |delivery, at| ToSource::Start {
            task,
            assignment,
            delivery,
            positions: vec![(place.clone(), NextOffset(at))],
        };
        let (mut source, mut waiting) = (Held::default(), Starts::default());
        assert!(!router.start(&mut source, &mut waiting, [start(1, 3)].into_iter()));
        assert!(router.start(&mut source, &mut waiting, [start(2, 5)].into_iter()));
        assert!(!router.start(&mut source, &mut waiting, [].into_iter()));
        assert_eq!((source.1, router.placed[&task].delivery), (vec![NextOffset(3), NextOffset(5)], 2));
        // One that comes late, of an assignment that is gone, takes nothing away.
        router.assignments.remove(&[task]);
        let assignment = router.assignments.assign(&[task], Membership::new("p", "m", 2, None).unwrap())[0].1;
        let (mut source, mut waiting) = (Held::default(), Starts::default());
        let ToSource::Start { positions, .. } = start(1, 3);
        let now = ToSource::Start { task, assignment, delivery: 1, positions };
        router.start(&mut source, &mut waiting, [now, start(7, 9)].into_iter());
        router.start(&mut source, &mut waiting, [].into_iter());
        assert_eq!((source.1, router.placed[&task].delivery), (vec![NextOffset(3); 2], 1));
    }

    #[test]
    fn inputs_are_held_back_at_the_bound_until_half_is_gone_and_anew_after_a_start() {
        let task = TaskId { sub_topology: 0, partition: Partition(0) };
        let queued = Arc::new(AtomicUsize::new(100));
        let mut router = router(task, &queued);
        let mut source = Held::default();
        let mut press = |router: &mut Router, waiting: usize| {
            queued.store(waiting, Ordering::Release);
            router.press_back(&mut source);
            source.0.clone()
        };
        assert_eq!(press(&mut router, 100), [] as [&str; 0]);
        assert_eq!(press(&mut router, 101), ["hold"]);
        assert_eq!(press(&mut router, 51), ["hold"]);
        assert_eq!(press(&mut router, 50), ["hold", "release"]);
        assert_eq!(press(&mut router, 101), ["hold", "release", "hold"]);
        router.delivers(task, 2); // the start has released it
        assert_eq!(press(&mut router, 101), ["hold", "release", "hold", "hold"]);

        let large = vec![b'x'; QUEUED_BYTES / 10];
        let record =
            Record { offset: Offset(0), timestamp: Timestamp(0), key: None, value: Some(&large), headers: &[] };
        router.filling.entry((task, 0)).or_default().push(&record);
        router.flush();
        assert_eq!(press(&mut router, 5).last(), Some(&"release"));
        assert_eq!(press(&mut router, 10).len(), 5);
        assert_eq!(press(&mut router, 11)[5..], ["hold"], "eleven tenths of the bytes");
        // Small ones of another input come last, and the large ones wait as before.
        let small = Record { offset: Offset(0), timestamp: Timestamp(0), key: None, value: Some(b"x"), headers: &[] };
        router.filling.entry((task, 1)).or_default().push(&small);
        router.flush();
        assert_eq!(press(&mut router, 12).len(), 6, "still held");
        assert_eq!(press(&mut router, 0).last(), Some(&"release"));
        router.filling.entry((task, 1)).or_default().push(&small);
        router.flush();
        assert_eq!(press(&mut router, 100).len(), 7, "nothing large waits any more");
    }

    #[test]
    fn a_revoke_is_over_with_the_last_word() {
        let clock = SystemClock::default();
        let (ack, acks) = bounded(4);
        (0..4).for_each(|_| ack.send(()).unwrap());
        wait_for(&acks, 4, (Duration::from_secs(20), Duration::from_secs(20)), &|| false);
        assert!(clock.elapsed() < Duration::from_secs(10));
        assert!(acks.is_empty());
    }
}
