//! Turns assignments into tasks and feeds them: one router on the polling thread, and workers of an executor and a relay each.
//!
//! [`Member`] holds the parts of one group member. [`Member::spawn`] gives each a thread of its own, which is how a
//! service runs; the test driver steps the same parts in one thread through [`Member::step`].

mod polling;
mod router;
mod threads;

pub use threads::Running;

use crate::engine::mailbox::{Inboxes, ToSource};
use crate::engine::member::router::{ExecutorHandle, Guided, Router, Starts};
use crate::engine::outbound::limits::Limits;
use crate::engine::outbound::message::DEAD_LETTER_BYTES;
use crate::engine::outbound::outstanding::Outstanding;
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::order::Hook;
use crate::engine::protocol::ownership::Assignments;
use crate::engine::query::Queries;
use crate::engine::relay::Relay;
use crate::engine::status::Status;
use crate::engine::task::in_hand::Suspects;
use crate::engine::worker::{Executor, Wiring};
use crate::flow::record::TopicName;
use crate::flow::topology::Topology;
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::fencer::Fencer;
use crate::ports::note::Note;
use crate::ports::rows::Rows;
use crate::ports::sink::{Sink, SizeLimit};
use crate::ports::source::Source;
use crate::ports::store::Stores;
use crate::ports::{Clock, Fault};
use crate::settings::engine::EngineSettings;
use crossbeam_channel::{Receiver, unbounded};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Most records of one poll, so that the group's events and back-pressure are served in time.
const POLL_RECORDS: usize = 2_000;

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
    /// The stores' adapter; needed where a step has stores.
    pub stores: Option<Arc<dyn Stores>>,
    /// Reads changelogs; needed where a step has stores.
    pub changelogs: Option<ChangelogFactory>,
    /// Ends transactions that dead instances left open; without one, their transactions' timeouts do.
    pub fencer: Option<Arc<dyn Fencer>>,
    /// The note of the records in hand; without one, a record that kills the process does so for ever.
    pub note: Option<Arc<dyn Note>>,
    /// The name of this process, for people: goes into claimed positions.
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
    executor: Executor,
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
        if let Some(unfit) = settings.unfit(topology) {
            return Err(Fault::fatal(format!("pipeline.missing_row: {unfit}")));
        }
        let settings = Arc::new(settings);
        let suspects = Suspects::new(topology, note, settings.deaths_max);
        let assignments = Arc::new(Assignments::default());
        let is_abandoned = Arc::new(AtomicBool::new(false));
        let (to_source, commands) = unbounded();
        let tables = topology.tables();
        let mut workers = Vec::with_capacity(worker_ports.len());
        let mut executors = Vec::with_capacity(worker_ports.len());
        for (number, WorkerPorts { mut rows, mut sink, mut spare }) in worker_ports.into_iter().enumerate() {
            rows.bind(&tables)?;
            // Each is asked, since a producer also fits its own batches to the limits.
            let limits = Limits::new(&clock, limits_of(topology, &mut *sink)?);
            if let Some(spare) = &mut spare {
                limits_of(topology, &mut **spare)?;
            }
            let (to_executor, executor_inbox) = unbounded();
            let (to_relay, relay_inbox) = unbounded();
            let outstanding = Arc::new(Outstanding::default());
            let wiring = Wiring {
                topology: Arc::clone(topology),
                owner: owner.clone(),
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
                limits,
                relay: to_relay,
                source: to_source.clone(),
                outstanding: Arc::clone(&outstanding),
                hand: suspects.hand(number),
            };
            let executor = Executor::new(executor_inbox, wiring, rows);
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
                to_executor.clone(),
                outstanding,
                Arc::clone(&is_abandoned),
            );
            executors.push(ExecutorHandle { inbox: to_executor, tasks: 0 });
            workers.push(Worker { executor, relay });
        }
        let sources = topology.sub_topologies().iter().map(|sub| sub.sources().cloned().collect()).collect();
        let inboxes = Inboxes::default();
        let queries = Queries::new(Arc::clone(topology), source.group(), Arc::clone(&clock), inboxes.clone());
        let router = Router {
            assignments,
            inboxes,
            executors,
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

    /// Does everything that is due, in this thread: one poll without waiting, then each executor and relay once. True
    /// when something was done.
    ///
    /// # Errors
    /// `Fatal`: this member is dead, as a process would be.
    pub fn step(&mut self) -> Result<bool, Fault> {
        self.step_parts(true)
    }

    /// [`Member::step`] with relays that are busy elsewhere: publications handed over to them wait.
    ///
    /// # Errors
    /// The errors of [`Member::step`].
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
            Err(fault) if consequence::of(&fault, Moment::Poll) == Consequence::End => return Err(fault),
            Err(_) => false,
        };
        self.router.flush();
        for worker in &mut self.workers {
            is_busy |= worker.executor.step()?.is_none();
            is_busy |= if has_relays { worker.relay.step()?.is_none() } else { worker.relay.has_work() };
        }
        is_busy |= self.serve_source();
        Ok(is_busy)
    }

    /// Steps the workers alone, like a process whose polling thread has not heard yet that its partitions moved.
    ///
    /// # Errors
    /// `Fatal` as in [`Member::step`].
    pub fn step_workers(&mut self) -> Result<(), Fault> {
        for worker in &mut self.workers {
            worker.executor.step()?;
            worker.relay.step()?;
        }
        Ok(())
    }

    /// Leaves the group after publishing everything that is committed, in this thread.
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
        router.apply_backpressure(&mut **source);
        has_started
    }
}

/// The limits of the topics.
///
/// # Errors
/// `Fatal` where a topic would take no message at all, or a dead-letter topic not every dead letter.
fn limits_of(topology: &Topology, sink: &mut dyn Sink) -> Result<HashMap<TopicName, SizeLimit>, Fault> {
    let dead_letters: BTreeSet<TopicName> = topology.dead_letter_topics().collect();
    let limit = |topic: TopicName| {
        let limit = sink.message_bytes_max(&topic)?;
        let bytes = limit.bytes();
        if bytes == 0 {
            let told = limit.told(&topic, 1);
            return Err(Fault::fatal(format!(
                "topic {topic} takes no message of this pipeline's, however small: {told}"
            )));
        }
        if bytes < DEAD_LETTER_BYTES && dead_letters.contains(&topic) {
            return Err(Fault::fatal(format!(
                "topic {topic} takes messages of {bytes} bytes, and a dead letter may have {DEAD_LETTER_BYTES} without the record's \
                 key, value and headers: {}",
                limit.told(&topic, DEAD_LETTER_BYTES)
            )));
        }
        Ok((topic, limit))
    };
    topology.outputs().into_iter().map(limit).collect()
}

/// Steps the workers until they have given up the revoked tasks, in this thread.
fn drain_inline(workers: &mut [Worker], acks: &Receiver<()>, count: usize, outcome: &mut Result<(), Fault>) {
    let mut seen = 0;
    // Bounded: an executor takes its inbox in one step and a relay publishes in one more; doubts may add a few.
    for _ in 0..1_000 {
        for worker in workers.iter_mut() {
            let stepped = worker.executor.step().and_then(|_| worker.relay.step());
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

#[cfg(test)]
mod tests {
    use super::polling::*;
    use super::router::*;
    use super::threads::*;
    use super::*;
    use crate::flow::record::{NextOffset, Offset, Partition, Record, Timestamp, TopicPartition};
    use crate::ports::clock::SystemClock;
    use crate::ports::source::{Group, Listener, Membership, TaskId};
    use crossbeam_channel::bounded;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A worker that hangs, and with it a polling thread, must not outlast the grace period of the process.
    #[test]
    fn a_revoke_has_one_bound_for_all_workers_and_a_shorter_one_at_the_end_of_the_process() {
        let clock = SystemClock::default();
        let (ack, acks) = bounded(4);
        for (within, stop_within, is_stopping) in [(300, 60_000, false), (60_000, 300, true)] {
            let (began, bounds) = (clock.elapsed(), (within, stop_within));
            ack.send(()).unwrap();
            let [within, stop_within] = [bounds.0, bounds.1].map(Duration::from_millis);
            assert!(!wait_for(&acks, 4, (within, stop_within), &|| is_stopping), "three are missing");
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
            is_unfinished: AtomicBool::new(false),
            fault: Mutex::new(None),
        });
        let worker = std::thread::spawn(move || held.recv().unwrap_or_default());
        let (is_abandoned, status) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let poll = Some(std::thread::spawn(|| {}));
        let running = Running { shared, poll, threads: vec![worker], is_abandoned: Arc::clone(&is_abandoned), status };
        running.stop();
        let clock = SystemClock::default();
        let fault = running.join(Duration::from_millis(200)).unwrap_err();
        assert!(fault.is_retry() && fault.to_string().contains("1 of this instance's threads"), "{fault}");
        assert!(clock.elapsed() < Duration::from_secs(5));
        assert!(is_abandoned.load(Ordering::Acquire), "what still waits is told to end");
        drop(hold);
    }

    /// A source that knows only which inputs are held back, and the positions of starts; a start at 3 fails the first
    /// time.
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
        let input = InFront { records: Arc::clone(queued), ..InFront::default() };
        let placed = Placed { executor: 0, inputs: vec![input], delivery: 1 };
        Router {
            assignments: Arc::default(),
            inboxes: Inboxes::default(),
            executors: Vec::new(),
            sources: vec![vec![TopicName::parse("events").unwrap()]],
            placed: BTreeMap::from([(task, placed)]),
            filling: BTreeMap::new(),
            queued_max: 100,
            status: Arc::default(),
        }
    }

    /// Otherwise the records that came next would carry the number of a start that nobody waits for, and be dropped for
    /// ever.
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
        // A late one, of an assignment that is gone, takes nothing away.
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
            router.apply_backpressure(&mut source);
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
        // Small ones come last, and the large ones wait as before.
        let small = Record { offset: Offset(0), timestamp: Timestamp(0), key: None, value: Some(b"x"), headers: &[] };
        router.filling.entry((task, 0)).or_default().push(&small);
        router.flush();
        assert_eq!(press(&mut router, 12).len(), 6, "still held");
        assert_eq!(press(&mut router, 0).last(), Some(&"release"));
        router.filling.entry((task, 0)).or_default().push(&small);
        router.flush();
        assert_eq!(press(&mut router, 100).len(), 7, "nothing large waits any more");
    }

    /// Otherwise a task that waits for the records of one topic would keep them away by those of the other.
    #[test]
    fn one_input_that_has_too_much_waiting_does_not_hold_back_the_others() {
        let task = TaskId { sub_topology: 0, partition: Partition(0) };
        let queued = Arc::new(AtomicUsize::new(0));
        let mut router = router(task, &queued);
        router.sources = vec![vec![TopicName::parse("events").unwrap(), TopicName::parse("users").unwrap()]];
        let other = InFront::default();
        let users = Arc::clone(&other.records);
        router.placed.get_mut(&task).unwrap().inputs.push(other);
        let mut source = Held::default();
        let mut press = |waiting: [usize; 2]| {
            queued.store(waiting[0], Ordering::Release);
            users.store(waiting[1], Ordering::Release);
            router.apply_backpressure(&mut source);
            (source.0.clone(), router.placed[&task].inputs.iter().map(|input| input.is_held).collect::<Vec<bool>>())
        };
        assert_eq!(press([50, 50]).1, [false, false], "each has half of the bound");
        assert_eq!(press([51, 50]), (vec!["hold"], vec![true, false]));
        assert_eq!(press([51, 51]).1, [true, true]);
        assert_eq!(press([51, 25]), (vec!["hold", "hold", "release"], vec![true, false]));
    }

    #[test]
    fn a_revoke_is_over_with_the_last_word() {
        let clock = SystemClock::default();
        let (ack, acks) = bounded(4);
        (0..4).for_each(|_| ack.send(()).unwrap());
        assert!(wait_for(&acks, 4, (Duration::from_secs(20), Duration::from_secs(20)), &|| false));
        assert!(clock.elapsed() < Duration::from_secs(10));
        assert!(acks.is_empty());
    }
}
