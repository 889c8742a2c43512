//! The relay of a worker: moves outbox rows into their topics and, last, K, in one Kafka transaction over all
//! partitions of the worker.
//!
//! Rows come from memory, handed over by the executor after its commit; the outbox table is read at a takeover only.
//! Outputs of a step without rows come from memory alone, and are sent from there until K is past them.
//!
//! K guards against loss and repetition: after any doubt the producer is replaced (its successor fences late copies of
//! its requests) and K is read, stable. `K = to` means done, `from <= K < to` means publish the rows from K on again,
//! with the same ids; anything else means that another instance has the partition.
//!
//! A worked failure: EndTxn was sent, the connection broke, the library repeated it in silence and answered OK. The first
//! copy may still sit in a socket buffer and end the *next* transaction half-way (KAFKA-17754). The client's log betrays
//! the repetition, the sink says so through `taint`, and the producer is replaced before anything else is sent.
//!
//! Two producers take turns, one transaction each and never at the same time. Right after a commit the broker still writes
//! the markers of that transaction, and refuses the same producer another one until it is done; librdkafka asks again after
//! 20 ms. The other producer need not wait. The rule that offsets of a transaction are sent only after the commit of the one
//! before was acknowledged (docs/protocol.md#identity-and-order) holds of itself, since nothing overlaps.
//!
//! It never runs an algorithm and never writes the database. Messages that their topics refuse for good are handled in
//! `refusal`.

pub(crate) mod producers;
mod search;
mod troubles;

mod ending;
mod failure;
mod reduce;
mod refusal;
mod transaction;

use crate::engine::mailbox::{ToExecutor, ToRelay};
use crate::engine::outbound::outstanding::Outstanding;
use crate::engine::outbound::publication::Publication;
use crate::engine::outbound::size::Size;
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::metadata;
use crate::engine::protocol::order::Hook;
use crate::engine::protocol::ownership::{AssignmentId, Assignments};
use crate::engine::relay::producers::Producers;
use crate::engine::relay::search::Searches;
use crate::engine::relay::troubles::Troubles;
use crate::engine::status::Status;
use crate::flow::record::TopicPartition;
use crate::ports::sink::Sink;
use crate::ports::source::{Committed, Group, TaskId};
use crate::ports::{Clock, Fault};
use crate::settings::engine::EngineSettings;
use crossbeam_channel::{Receiver, Sender};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The number of refusals by the group, with growing pauses of together some seconds, before the tasks must prove that
/// they are ours. A rebalance refuses once or twice; a process that slept is refused for ever and learns of it
/// elsewhere.
const REFUSALS_MAX: u32 = 7;

/// The result of a publication, or of a piece of one.
pub(crate) enum Settled {
    /// It is published, or left to a takeover or a halt and reported.
    Done,
    /// Its tasks must be published one by one.
    TaskByTask,
    /// It must be cut.
    Smaller,
}

/// The relay of one worker.
pub(crate) struct Relay {
    pub(crate) pipeline: Arc<str>,
    pub(crate) producers: Producers,
    pub(crate) group: Arc<dyn Group>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) settings: Arc<EngineSettings>,
    pub(crate) status: Arc<Status>,
    pub(crate) hook: Arc<dyn Hook>,
    pub(crate) inbox: Receiver<ToRelay>,
    pub(crate) executor: Sender<ToExecutor>,
    pub(crate) outstanding: Arc<Outstanding>,
    pending: VecDeque<Publication>,
    pending_since: Option<Duration>,
    fencings: VecDeque<(Duration, u64)>,
    /// The last assignment of each task with an unpublished message: later messages of it would move K past that one.
    refused: BTreeMap<TaskId, AssignmentId>,
    /// Tasks whose last publications were refused by their topics.
    pub(crate) searches: BTreeMap<TaskId, Searches>,
    /// Tasks whose last publications failed alone.
    pub(crate) troubles: Troubles,
}

impl Relay {
    #[expect(clippy::too_many_arguments, reason = "wiring, called once by the member")]
    pub(crate) fn new(
        pipeline: Arc<str>,
        sink: Box<dyn Sink>,
        spare: Option<Box<dyn Sink>>,
        group: Arc<dyn Group>,
        clock: Arc<dyn Clock>,
        assignments: Arc<Assignments>,
        settings: Arc<EngineSettings>,
        status: Arc<Status>,
        hook: Arc<dyn Hook>,
        inbox: Receiver<ToRelay>,
        executor: Sender<ToExecutor>,
        outstanding: Arc<Outstanding>,
        is_abandoned: Arc<AtomicBool>,
    ) -> Self {
        let producers =
            Producers { sink, spare, clock: Arc::clone(&clock), status: Arc::clone(&status), is_abandoned, busy: None };
        Self {
            pipeline,
            producers,
            group,
            clock,
            assignments,
            settings,
            status,
            hook,
            inbox,
            executor,
            outstanding,
            pending: VecDeque::new(),
            pending_since: None,
            fencings: VecDeque::new(),
            refused: BTreeMap::new(),
            searches: BTreeMap::new(),
            troubles: Troubles::default(),
        }
    }

    /// Takes one step: at most one transaction. Answers how long it may sleep when there was nothing to do.
    ///
    /// # Errors
    /// `Fatal` ends the worker.
    pub(crate) fn step(&mut self) -> Result<Option<Duration>, Fault> {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message)?;
        }
        let Some(since) = self.pending_since else { return Ok(Some(self.settings.idle_commit)) };
        let due = since + self.settings.idle_commit;
        let now = self.clock.elapsed();
        if now < due && self.pending.iter().all(|publication| publication.len() == 0 && !publication.is_urgent) {
            return Ok(Some(due.saturating_sub(now)));
        }
        self.publish_next()?;
        Ok(None)
    }

    /// Whether its next step has work that need not wait.
    pub(crate) fn has_work(&self) -> bool {
        let is_due = |publication: &Publication| publication.len() > 0 || publication.is_urgent;
        !self.inbox.is_empty() || self.pending.iter().any(is_due)
    }

    /// Waits for a message, at most `wait`, and takes it.
    ///
    /// # Errors
    /// The errors of [`Relay::step`]. False when every sender is gone.
    pub(crate) fn wait(&mut self, wait: Duration) -> Result<bool, Fault> {
        self.producers.show_quotas();
        match self.inbox.recv_timeout(wait) {
            Ok(message) => self.take(message).map(|()| true),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Ok(true),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Ok(false),
        }
    }

    fn take(&mut self, message: ToRelay) -> Result<(), Fault> {
        match message {
            ToRelay::Publish(publication) => {
                self.pending_since.get_or_insert(self.clock.elapsed());
                self.pending.push_back(*publication);
            }
            ToRelay::Barrier { task, assignment } => {
                self.publish_all()?;
                // Publications of the time before are gone; later ones begin at the K that the task reads next.
                if self.refused.get(&task) == Some(&assignment) {
                    self.refused.remove(&task);
                }
                self.send_to_executor(ToExecutor::Drained { task, assignment });
            }
            ToRelay::Prove { task, assignment, sources } => {
                let outcome = match self.prove(task, assignment, &sources) {
                    Err(fault) if consequence::of(&fault, Moment::Prove) == Consequence::End => return Err(fault),
                    outcome => outcome,
                };
                self.send_to_executor(ToExecutor::Proved { task, assignment, outcome });
            }
            ToRelay::AskLimits(topics) => {
                let (mut known, mut unknown) = (HashMap::new(), None);
                for topic in topics {
                    match self.producers.limit_of(&topic) {
                        Ok(limit) => drop(known.insert(topic, limit)),
                        Err(fault) if consequence::of(&fault, Moment::Publish) == Consequence::End => {
                            return Err(fault);
                        }
                        Err(fault) => unknown = Some(fault),
                    }
                }
                self.send_to_executor(ToExecutor::Limits { known, unknown });
            }
            ToRelay::Drain { ack } => {
                self.publish_all()?;
                let _ = ack.send(()); // the asking thread may have stopped waiting
            }
            ToRelay::Close { tasks, ack } => {
                self.publish_all()?;
                self.send_to_executor(ToExecutor::Close { tasks, ack });
            }
        }
        Ok(())
    }

    /// Commits K unchanged, in a transaction of its own: a refusal means that we are no member. A plain commit of
    /// offsets would do, but for a copy of it that was repeated in silence and arrives late: nothing fences that, and
    /// it moves K back.
    fn prove(&mut self, task: TaskId, assignment: AssignmentId, sources: &[TopicPartition]) -> Result<(), Fault> {
        let committed = self.group.committed(sources, self.settings.ask_wait)?;
        let unchanged = |k: Option<Committed>| k.unwrap_or_else(|| metadata::standing_for_none(&self.pipeline));
        let offsets: Vec<_> = sources.iter().cloned().zip(committed.into_iter().map(unchanged)).collect();
        let membership = self.assignments.membership(task, assignment);
        let membership = membership.ok_or_else(|| Fault::fenced("the partition has moved"))?;
        self.producers.begin_publication();
        let outcome = (self.producers.sink.begin())
            .and_then(|()| self.producers.sink.send_offsets(&offsets, &membership))
            .and_then(|()| self.producers.sink.commit());
        if outcome.is_err() && self.producers.sink.is_fenced() {
            self.note_fencing()?;
        }
        if outcome.is_err() || self.producers.sink.taint().is_some() {
            self.producers.renew()?;
        }
        self.producers.swap();
        self.producers.end_publication();
        outcome
    }

    pub(crate) fn send_to_executor(&self, message: ToExecutor) {
        let _ = self.executor.send(message); // the executor may have ended already
    }

    fn publish_all(&mut self) -> Result<(), Fault> {
        while !self.pending.is_empty() {
            self.publish_next()?;
        }
        Ok(())
    }

    /// Merges the pending publications, up to the bounds on rows and bytes, and brings the result to its end:
    /// published, or refused and reported.
    ///
    /// Parts of an earlier assignment of a partition are dropped before anything is added: merged, the rows of both
    /// would be those of one partition, and dropping one would drop the other.
    fn publish_next(&mut self) -> Result<(), Fault> {
        let mut merged = Publication::default();
        let (mut messages, mut bytes) = (0, 0);
        let room = self.room();
        while let Some(next) = self.pending.front() {
            let is_full = merged.len() + next.len() > room.messages || merged.bytes + next.bytes > room.bytes;
            if !merged.parts.is_empty() && is_full {
                break;
            }
            let Some(mut next) = self.pending.pop_front() else { break };
            messages += next.len();
            bytes += next.bytes;
            self.drop_foreign(&mut next);
            merged.append(next);
        }
        self.pending_since = (!self.pending.is_empty()).then(|| self.clock.elapsed());
        self.producers.begin_publication();
        let result = self.settle(merged);
        self.producers.end_publication();
        self.outstanding.settled(messages, bytes);
        if messages > 0 {
            self.send_to_executor(ToExecutor::Settled);
        }
        result
    }

    /// The bound on one transaction that carries rows.
    fn room(&self) -> Size {
        let (messages, bytes) = (self.settings.transaction_rows, self.settings.transaction_bytes);
        self.outstanding.room(Size { messages, bytes })
    }

    /// Publishes until every part is either published or refused: as one transaction, or in pieces where it is too large.
    fn settle(&mut self, publication: Publication) -> Result<(), Fault> {
        let mut queue: VecDeque<Publication> = self.troubles.separate(publication).into();
        let mut has_failed = false;
        while let Some(next) = queue.pop_front() {
            // Publications of steps without rows have the intended size, unless a transaction of such a size has failed
            // since.
            let is_of_rows = next.parts.iter().any(|part| !part.is_through_log());
            let room = if is_of_rows { self.room() } else { self.outstanding.room(Size::MAX) };
            let mut pieces = next.pieces(&self.pipeline, room);
            let Some(mut piece) = pieces.pop_front() else { continue };
            pieces.into_iter().rev().for_each(|piece| queue.push_front(piece));
            match self.settle_piece(&mut piece, has_failed)? {
                Settled::Done => {
                    self.producers.begin_publication();
                    continue;
                }
                Settled::TaskByTask => piece.split().into_iter().rev().for_each(|own| queue.push_front(own)),
                Settled::Smaller => queue.push_front(piece),
            }
            has_failed = true;
        }
        Ok(())
    }

    /// Tries until it is published or refused, or until another way promises more. `has_failed`: the publication of
    /// which it is a piece has failed.
    fn settle_piece(&mut self, publication: &mut Publication, has_failed: bool) -> Result<Settled, Fault> {
        let (mut failures, mut refusals) = (0_u32, 0_u32);
        let mut is_doubtful = has_failed || self.troubles.is_of(publication);
        loop {
            self.drop_foreign(publication);
            if publication.parts.is_empty() {
                return Ok(Settled::Done);
            }
            if let Some(topic) = if is_doubtful { self.missing_topic(publication) } else { None } {
                if publication.tasks().len() > 1 {
                    return Ok(Settled::TaskByTask);
                }
                self.await_topic(publication, &topic);
                return Ok(Settled::Done);
            }
            let fault = match self.attempt(publication) {
                Ok(()) => return self.succeeded(publication).map(|()| Settled::Done),
                Err(fault) => fault,
            };
            failures += 1;
            refusals += u32::from(fault.is_fenced());
            is_doubtful = fault.is_retry();
            let is_of_one = publication.tasks().len() == 1;
            let detail = fault.to_string();
            let is_refused = is_of_one && matches!(fault, Fault::Corrupt(_));
            // A large one may have been ended by its timeout, which looks the same.
            let may_be_late = self.producers.sink.is_fenced() && publication.is_divisible(&self.pipeline);
            self.note_failure(fault, may_be_late)?;
            self.producers.renew()?;
            self.keep_unpublished(publication, is_refused)?;
            if is_refused {
                self.replace_refused_messages(publication, &detail)?;
                continue;
            }
            if refusals >= REFUSALS_MAX {
                self.give_up(publication);
                return Ok(Settled::Done);
            }
            // It failed twice: one task's trouble must not hold up the others.
            if failures >= 2 && publication.tasks().len() > 1 {
                return Ok(Settled::TaskByTask);
            }
            if is_doubtful
                && (failures >= 2 || has_failed)
                && !publication.parts.is_empty()
                && let Some(settled) = self.reduce(publication, failures, &detail)
            {
                return Ok(settled);
            }
            if failures >= 2 {
                self.producers.pause(failures)?;
            }
        }
    }

    fn succeeded(&mut self, publication: &Publication) -> Result<(), Fault> {
        self.outstanding.grow();
        self.confirm(publication);
        if let Some(reason) = self.producers.sink.taint() {
            tracing::info!(
                transactional_id = self.producers.sink.transactional_id(),
                reason,
                "producer replaced: a request was repeated in silence"
            );
            self.producers.renew()?;
        }
        self.producers.swap();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::ManualClock;
    use crate::engine::mailbox::Left;
    use crate::engine::outbound::publication::{Outbound, Part, Through};
    use crate::engine::protocol::order::NoHook;
    use crate::engine::status::{Busy, Counter};
    use crate::flow::record::{NextOffset, Offset, Partition, Timestamp, TopicName};
    use crate::ports::rows::OutboxRow;
    use crate::ports::sink::{Message, SizeLimit};
    use crate::ports::source::{Bounds, LogIds, Membership};
    use std::collections::BTreeSet;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tracing_subscriber::layer::SubscriberExt as _;

    type Offsets = Vec<(TopicPartition, Committed)>;

    /// A producer whose first commits fail with `faults`, and the group that it commits for.
    #[derive(Default)]
    struct Log {
        faults: Mutex<VecDeque<Fault>>,
        /// The topic `out` never takes this value.
        refuses: Mutex<Option<i64>>,
        refuses_all: AtomicBool,
        k: Mutex<Option<NextOffset>>,
        /// K of the topic `companion`, where it is another one.
        k_of_companion: Mutex<Option<NextOffset>>,
        /// Every offset that was committed.
        committed: Mutex<Offsets>,
        sent: Mutex<Vec<i64>>,
        /// A transaction of more messages does not fit into its timeout, where it is not 0.
        fits: AtomicUsize,
        /// The broker answers for such a one that its producer was fenced.
        is_late: AtomicBool,
        /// So many times the producer cannot be replaced; the status that people see meanwhile.
        renewals_fail: AtomicUsize,
        status: Mutex<Option<Arc<Status>>>,
        seen: Mutex<Vec<Busy>>,
        /// The topics are gone.
        is_gone: AtomicBool,
        /// So many searches for a refused message are to end with their second portion.
        trials_end: AtomicUsize,
        /// The values sent to the dead-letter topic.
        dead_letters: Mutex<Vec<i64>>,
        begun: AtomicUsize,
        /// The number of the transaction that cannot begin, from 1 on.
        begin_fails: AtomicUsize,
    }

    struct Producer {
        log: Arc<Log>,
        open: Vec<i64>,
        open_dead_letters: Vec<i64>,
        offsets: Offsets,
        /// Calls of `flush` since `begin`.
        flushes: usize,
    }

    impl Sink for Producer {
        fn begin(&mut self) -> Result<(), Fault> {
            if self.log.begun.fetch_add(1, Ordering::AcqRel) + 1 == self.log.begin_fails.load(Ordering::Acquire) {
                return Err(Fault::retry("the coordinator is away"));
            }
            self.open.clear();
            self.flushes = 0;
            self.open_dead_letters.clear();
            Ok(())
        }

        fn send(&mut self, message: &Message<'_>) -> Result<(), Fault> {
            let value = std::str::from_utf8(message.value.unwrap()).unwrap().parse().unwrap();
            let is_dead_letter = message.destination.as_str() == "in-dlt";
            if is_dead_letter {
                self.open_dead_letters.push(value);
            } else {
                self.open.push(value);
            }
            Ok(())
        }

        fn flush(&mut self) -> Result<(), Fault> {
            let fits = self.log.fits.load(Ordering::Acquire);
            if (fits > 0 && self.open.len() > fits) || self.log.is_gone.load(Ordering::Acquire) {
                return Err(Fault::retry("topic out: timed out"));
            }
            let is_second_portion = (2..100).contains(&self.open.len()) && self.flushes > 0;
            self.flushes += 1;
            let one_less = |left: usize| left.checked_sub(1);
            if is_second_portion
                && self.log.trials_end.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok()
            {
                return Err(Fault::retry("the transaction has run into its timeout"));
            }
            let refuses = *self.log.refuses.lock().unwrap();
            let is_refused = refuses.is_some_and(|value| self.open.contains(&value))
                || (self.log.refuses_all.load(Ordering::Acquire) && !self.open.is_empty());
            if is_refused { Err(Fault::corrupt("topic out: Broker: Broker failed to validate record")) } else { Ok(()) }
        }

        fn ends(&self) -> Vec<(TopicPartition, NextOffset)> {
            Vec::new()
        }

        fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], _: &Membership) -> Result<(), Fault> {
            self.offsets = offsets.to_vec();
            Ok(())
        }

        fn commit(&mut self) -> Result<(), Fault> {
            if let Some(fault) = self.log.faults.lock().unwrap().pop_front() {
                return Err(fault);
            }
            self.log.sent.lock().unwrap().append(&mut self.open);
            self.log.dead_letters.lock().unwrap().append(&mut self.open_dead_letters);
            *self.log.k.lock().unwrap() = self.offsets.last().map(|(_, committed)| committed.next_offset);
            self.log.committed.lock().unwrap().append(&mut self.offsets);
            Ok(())
        }

        fn taint(&self) -> Option<String> {
            None
        }

        fn is_fenced(&self) -> bool {
            self.log.is_late.load(Ordering::Acquire)
        }

        fn renew(&mut self) -> Result<(), Fault> {
            if let Some(status) = &*self.log.status.lock().unwrap() {
                self.log.seen.lock().unwrap().extend(status.publishing.busy().into_values());
            }
            let one_less = |left: usize| left.checked_sub(1);
            match self.log.renewals_fail.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less) {
                Ok(_) => Err(Fault::retry("concurrent transactions")),
                Err(_) => Ok(()),
            }
        }

        fn close(&mut self) {}

        fn transactional_id(&self) -> &'static str {
            "p-0-0-0"
        }

        fn partition_count(&mut self, _: &TopicName) -> Result<i32, Fault> {
            Ok(1)
        }

        fn message_bytes_max(&mut self, _: &TopicName) -> Result<SizeLimit, Fault> {
            Ok(SizeLimit { value: 1 << 20, framing: 0, is_own: false })
        }
    }

    impl Group for Log {
        fn committed(&self, sources: &[TopicPartition], _: Duration) -> Result<Vec<Option<Committed>>, Fault> {
            let committed = |next_offset| Committed { next_offset, metadata: String::new() };
            let k = |source: &TopicPartition| {
                let own = *self.k_of_companion.lock().unwrap();
                let own = own.filter(|_| source.topic.as_str() == "companion");
                own.or(*self.k.lock().unwrap()).map(committed)
            };
            Ok(sources.iter().map(k).collect())
        }

        fn bounds(&self, _: &TopicPartition, _: Duration) -> Result<Bounds, Fault> {
            Err(Fault::retry("not asked"))
        }

        fn log_ids(&self, _: &TopicName, _: Duration) -> Result<LogIds, Fault> {
            Err(Fault::retry("not asked"))
        }

        fn partition_count(&self, _: &TopicName, _: Duration) -> Result<Option<i32>, Fault> {
            Ok((!self.is_gone.load(Ordering::Acquire)).then_some(1))
        }

        fn addresses(&self, _: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault> {
            Ok(BTreeMap::new())
        }

        fn commit(&self, _: &[(TopicPartition, Committed)], _: Duration) -> Result<(), Fault> {
            Err(Fault::fatal("outside any transaction"))
        }
    }

    /// A relay of one task, its messages to the executor, and publications of one message for each offset.
    struct World {
        relay: Relay,
        log: Arc<Log>,
        inbox: Sender<ToRelay>,
        told: Receiver<ToExecutor>,
        task: TaskId,
        assignment: AssignmentId,
    }

    fn world(faults: Vec<Fault>) -> World {
        world_of(faults, 2)
    }

    fn world_of(faults: Vec<Fault>, transaction_rows: usize) -> World {
        let log = Arc::new(Log { faults: Mutex::new(faults.into()), ..Log::default() });
        *log.k.lock().unwrap() = Some(NextOffset(0));
        let sink = Producer {
            log: Arc::clone(&log),
            open: Vec::new(),
            open_dead_letters: Vec::new(),
            offsets: Vec::new(),
            flushes: 0,
        };
        let sink = Box::new(sink);
        let task = TaskId { sub_topology: 0, partition: Partition(0) };
        let assignments = Arc::new(Assignments::default());
        let assignment = assignments.assign(&[task], Membership::new("p", "m", 1, None).unwrap())[0].1;
        let (inbox, receiver) = crossbeam_channel::unbounded();
        let (executor, told) = crossbeam_channel::unbounded();
        let settings = EngineSettings { transaction_rows, ..EngineSettings::default() };
        let relay = Relay::new(
            "p".into(),
            sink,
            None,
            Arc::clone(&log) as Arc<dyn Group>,
            Arc::new(ManualClock::default()),
            assignments,
            Arc::new(settings),
            Arc::new(Status::default()),
            Arc::new(NoHook),
            receiver,
            executor,
            Arc::new(Outstanding { messages: AtomicUsize::new(10_000), ..Outstanding::default() }),
            Arc::new(AtomicBool::new(false)),
        );
        World { relay, log, inbox, told, task, assignment }
    }

    impl World {
        /// Moves the partition away and back: another assignment, before which another owner has published up to K.
        fn move_away_and_back(&mut self) {
            self.relay.assignments.remove(&[self.task]);
            let membership = Membership::new("p", "m", 3, None).unwrap();
            self.assignment = self.relay.assignments.assign(&[self.task], membership)[0].1;
        }

        fn publish(&self, from: i64, to: i64) {
            self.publish_rows(from, to, from..to);
        }

        /// [`World::publish`] for a step without rows.
        fn publish_log(&self, from: i64, to: i64) {
            self.hand_over(from, to, from..to, Through::Log);
        }

        fn publish_rows(&self, from: i64, to: i64, offsets: std::ops::Range<i64>) {
            self.hand_over(from, to, offsets, Through::Database { epoch: 1 });
        }

        fn hand_over(&self, from: i64, to: i64, offsets: std::ops::Range<i64>, through: Through) {
            let source = TopicPartition::new(TopicName::parse("in").unwrap(), Partition(0));
            let row = |offset: i64| OutboxRow {
                source: source.clone(),
                source_offset: Offset(offset),
                seq: 0,
                incarnation: 0,
                destination: TopicName::parse("out").unwrap(),
                key: None,
                value: Some(offset.to_string().into_bytes()),
                headers: Vec::new(),
                created_at: Timestamp(0),
                timestamp: None,
            };
            let part = Part {
                task: self.task,
                assignment: self.assignment,
                source: source.clone(),
                through,
                from: NextOffset(from),
                to: NextOffset(to),
                marks: None,
                batch: 0,
            };
            let rows = offsets.map(|offset| Outbound { row: row(offset), input_at: Some(Timestamp(0)) }).collect();
            let publication = Publication { parts: vec![part], rows, ..Publication::default() };
            self.inbox.send(ToRelay::Publish(Box::new(publication))).unwrap();
        }

        fn run(&mut self) {
            while self.relay.step().unwrap().is_none() {}
        }

        fn sent(&self) -> Vec<i64> {
            self.log.sent.lock().unwrap().clone()
        }
    }

    /// Were the second one published, K would pass the messages of the first one: lost, since nobody looks below K
    /// again.
    fn nothing_overtakes(faults: Vec<Fault>, k: i64) {
        let mut world = world(faults);
        world.publish(2, 4);
        world.publish(4, 6);
        *world.log.k.lock().unwrap() = Some(NextOffset(k));
        world.run();
        assert_eq!((world.sent(), *world.log.k.lock().unwrap()), (vec![], Some(NextOffset(k))));
        let refused = world.told.try_iter().filter(|told| matches!(told, ToExecutor::Unpublished { .. })).count();
        assert_eq!(refused, 2);
        // The takeover that follows begins at K.
        let (task, assignment) = (world.task, world.assignment);
        world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap();
        world.publish(k, k + 2);
        world.run();
        assert_eq!((world.sent(), *world.log.k.lock().unwrap()), (vec![k, k + 1], Some(NextOffset(k + 2))));
    }

    #[test]
    fn what_follows_something_unpublished_does_not_move_k_past_it() {
        nothing_overtakes(vec![Fault::retry("lost connection")], 1); // K went back
    }

    #[test]
    fn what_follows_something_unpublishable_does_not_move_k_past_it() {
        // Neither message alone is to blame; so it fails once more.
        nothing_overtakes(vec![Fault::corrupt("too large"), Fault::corrupt("too large")], 2);
    }

    #[test]
    fn a_producer_that_cannot_be_replaced_is_seen_with_its_last_error_until_it_publishes_again() {
        let mut world = world(vec![Fault::retry("lost connection")]);
        world.log.renewals_fail.store(2, Ordering::Release);
        *world.log.status.lock().unwrap() = Some(Arc::clone(&world.relay.status));
        world.publish(0, 2);
        world.run();
        assert_eq!(world.sent(), [0, 1]);
        let seen = world.log.seen.lock().unwrap().clone();
        let errors: Vec<_> = seen.iter().map(|busy| busy.error.as_deref().unwrap()).collect();
        assert_eq!(errors, ["lost connection", "concurrent transactions", "concurrent transactions"]);
        assert!(seen.iter().all(|busy| busy.number == seen[0].number && !busy.is_told));
        assert!(world.relay.status.publishing.busy().is_empty());
    }

    /// The executor's reports of unpublished messages.
    fn left(world: &World) -> Vec<Left> {
        let left = |told| match told {
            ToExecutor::Unpublished { left, .. } => Some(left),
            _ => None,
        };
        world.told.try_iter().filter_map(left).collect()
    }

    #[test]
    fn a_message_that_its_topic_refuses_is_found_and_its_dead_letter_goes_into_the_outbox_first() {
        let mut world = world_of(vec![], 1_000);
        *world.log.refuses.lock().unwrap() = Some(77);
        world.publish(0, 100);
        world.run();
        assert_eq!((world.sent(), *world.log.k.lock().unwrap()), (vec![], Some(NextOffset(0))), "all or nothing");
        // The attempt, a trial of 100 messages in portions of four, and one of four in portions of one.
        assert_eq!(world.log.begun.load(Ordering::Acquire), 1 + 2);
        let left = left(&world);
        let [Left::Replaced(dead_letters)] = &left[..] else { panic!("{left:?}") };
        assert_eq!(dead_letters.len(), 1);
        let dead_letter = &dead_letters[0];
        assert_eq!(
            (dead_letter.source_offset, dead_letter.seq, dead_letter.destination.as_str()),
            (Offset(77), 0, "in-dlt")
        );
        assert_eq!(dead_letter.value.as_deref(), Some(&b"77"[..]));
        let header = |name: &str| {
            let header = dead_letter.headers.iter().find(|header| header.name == name).unwrap();
            String::from_utf8(header.value.clone().unwrap()).unwrap()
        };
        assert_eq!(header("kafka_dlt-exception-fqcn"), "refused");
        assert!(
            header("kafka_dlt-exception-message").starts_with("out: "),
            "{}",
            header("kafka_dlt-exception-message")
        );
    }

    #[test]
    fn a_topic_that_takes_nothing_halts_the_task() {
        let mut world = world_of(vec![], 1_000);
        world.log.refuses_all.store(true, Ordering::Release);
        world.publish_log(0, 100);
        world.run();
        assert_eq!((world.sent(), *world.log.k.lock().unwrap()), (vec![], Some(NextOffset(0))));
        assert!(matches!(left(&world)[..], [Left::ForGood]), "{:?}", left(&world));
    }

    #[test]
    fn a_step_without_rows_sends_the_dead_letter_in_the_place_of_the_message() {
        let mut world = world_of(vec![], 1_000);
        *world.log.refuses.lock().unwrap() = Some(5);
        world.publish_log(0, 8);
        world.run();
        assert_eq!(
            (world.sent(), world.log.dead_letters.lock().unwrap().clone()),
            (vec![0, 1, 2, 3, 4, 6, 7], vec![5])
        );
        assert_eq!(*world.log.k.lock().unwrap(), Some(NextOffset(8)));
        assert!(left(&world).is_empty());
    }

    #[test]
    fn what_does_not_fit_into_one_transaction_goes_out_in_smaller_ones() {
        for is_log in [false, true] {
            let mut world = world_of(vec![], 1_000);
            world.log.fits.store(7, Ordering::Release);
            world.log.is_late.store(true, Ordering::Release); // five times are no other deployment's fencings
            if is_log {
                world.publish_log(0, 100);
            } else {
                world.publish(0, 100);
            }
            world.run();
            assert_eq!(world.sent(), (0..100).collect::<Vec<_>>());
            assert_eq!(*world.log.k.lock().unwrap(), Some(NextOffset(100)));
            // 100 twice, then 50, 25 and 12 of them, which are cut; six fit, and each that does lets the next be twice as large.
            assert!(world.log.begun.load(Ordering::Acquire) < 60, "{:?}", world.log.begun);
            assert!(left(&world).is_empty());
            world.log.fits.store(0, Ordering::Release);
            world.log.begun.store(0, Ordering::Release);
            (100..150).for_each(|offset| world.publish(offset, offset + 1));
            world.run();
            assert!(
                world.log.begun.load(Ordering::Acquire) < 10,
                "transactions are as large again as the settings say"
            );
        }
    }

    #[test]
    fn a_batch_that_touched_stores_is_never_torn_and_is_decided_again_in_smaller_ones() {
        let mut world = world_of(vec![], 1_000);
        world.log.fits.store(7, Ordering::Release);
        world.publish_log(0, 100);
        let ToRelay::Publish(mut publication) = world.relay.inbox.try_recv().unwrap() else { panic!("a publication") };
        let (source, changelog) = (publication.parts[0].source.clone(), TopicName::parse("log").unwrap());
        let (partition, value) = (Some(Partition(0)), Some(b"100".as_slice()));
        let message = Message {
            destination: &changelog,
            partition,
            key: None,
            value,
            headers: &[],
            timestamp: None,
            is_tracked: true,
        };
        publication.parts[0].batch = 1;
        publication
            .outgoing
            .push(crate::engine::outbound::outgoing::Origin { source: &source, offset: Offset(99) }, &message);
        world.inbox.send(ToRelay::Publish(publication)).unwrap();
        world.run();
        assert_eq!((world.sent(), *world.log.k.lock().unwrap()), (vec![], Some(NextOffset(0))));
        assert!(matches!(left(&world)[..], [Left::Later { .. }]), "{:?}", left(&world));
        assert_eq!(world.relay.outstanding.room(Size::MAX).messages, 50);
    }

    /// Counts the lines for people.
    struct Lines(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            if *event.metadata().level() <= tracing::Level::INFO {
                self.0.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    #[test]
    fn what_waits_of_an_assignment_that_has_moved_is_told_in_one_line() {
        let mut world = world(vec![]);
        for offset in 0..30 {
            world.publish(offset, offset + 1);
        }
        world.move_away_and_back();
        let told = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Lines(Arc::clone(&told)));
        tracing::subscriber::with_default(subscriber, || world.run());
        assert_eq!(left(&world).len(), 30, "the task learns of each");
        assert_eq!(told.load(Ordering::Acquire), 1);
    }

    #[test]
    fn one_input_that_never_fits_is_put_off_and_halts_its_task_in_the_end() {
        let mut world = world_of(vec![], 1_000);
        world.log.fits.store(1, Ordering::Release);
        let mut halted = false;
        for round in 0..1_000 {
            world.publish_rows(0, 1, 0..1);
            let ToRelay::Publish(mut publication) = world.relay.inbox.try_recv().unwrap() else {
                panic!("a publication")
            };
            publication.rows.push(publication.rows[0].clone());
            publication.rows[1].row.seq = 1;
            world.inbox.send(ToRelay::Publish(publication)).unwrap();
            world.run();
            let (task, assignment) = (world.task, world.assignment);
            world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap();
            world.run();
            match &left(&world)[..] {
                [Left::Later { until }] => {
                    let now = world.relay.clock.elapsed();
                    world.relay.clock.sleep(until.saturating_sub(now));
                }
                [Left::ForGood] => {
                    halted = true;
                    assert!(round > 80, "it took half an hour, not {round} rounds");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(halted && world.sent().is_empty());
        assert!(world.relay.clock.elapsed() >= Duration::from_mins(30));
    }

    #[test]
    fn a_trouble_ends_with_the_next_success_also_where_that_moves_offsets_alone() {
        let mut world = world_of((0..4).map(|_| Fault::retry("not enough replicas")).collect(), 1_000);
        let mut publish_alone = |from: i64, to: i64| {
            world.publish_rows(from, to, 0..0);
            let (task, assignment) = (world.task, world.assignment);
            world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap();
            world.run();
            (left(&world).len(), world.relay.troubles.is_empty())
        };
        assert_eq!(publish_alone(0, 1), (1, false));
        assert_eq!(publish_alone(0, 0), (0, false), "a takeover that writes K again publishes nothing of it");
        assert_eq!(publish_alone(0, 1), (0, true));
    }

    #[test]
    fn a_search_that_its_surroundings_end_blames_nobody_and_halts_nothing() {
        let mut world = world_of(vec![], 1_000);
        *world.log.refuses.lock().unwrap() = Some(77);
        world.log.trials_end.store(2, Ordering::Release);
        world.log.begin_fails.store(6, Ordering::Release); // the attempt and the search of each round
        for _ in 0..3 {
            world.publish(0, 100);
            world.run();
            let left = left(&world);
            let [Left::Later { until }] = left[..] else { panic!("{left:?}") };
            let now = world.relay.clock.elapsed();
            world.relay.clock.sleep(until.saturating_sub(now));
            let (task, assignment) = (world.task, world.assignment);
            world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap();
        }
        world.publish(0, 100);
        world.run();
        let left = left(&world);
        assert!(matches!(&left[..], [Left::Replaced(_)]), "{left:?}");
    }

    #[test]
    fn a_topic_that_is_gone_is_not_tried_again_until_it_is_back() {
        let mut world = world_of(vec![], 1_000);
        world.log.is_gone.store(true, Ordering::Release);
        for attempts in [1, 1, 1] {
            world.publish(0, 3);
            world.run();
            assert!(matches!(left(&world)[..], [Left::Later { .. }]));
            assert_eq!(world.log.begun.load(Ordering::Acquire), attempts);
            let put_off = world.relay.status.publishing.all_put_off();
            assert_eq!(put_off["in-0"].cause, "topic out is gone");
            let (task, assignment) = (world.task, world.assignment);
            world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap();
            world.relay.clock.sleep(Duration::from_secs(20));
        }
        world.log.is_gone.store(false, Ordering::Release);
        world.publish(0, 3);
        world.run();
        assert_eq!(world.sent(), [0, 1, 2]);
        assert!(world.relay.troubles.is_empty());
        assert!(world.relay.status.publishing.all_put_off().is_empty());
    }

    #[test]
    fn ages_stay_with_their_rows_whatever_is_merged_and_parted() {
        let mut world = world(vec![]);
        world.publish(0, 2);
        world.publish(2, 4);
        let take = |world: &mut World| match world.relay.inbox.try_recv().unwrap() {
            ToRelay::Publish(publication) => *publication,
            _ => panic!("a publication"),
        };
        let mut taken_over = take(&mut world);
        taken_over.rows.iter_mut().for_each(|outbound| outbound.input_at = None);
        taken_over.append(take(&mut world));
        let other = TaskId { sub_topology: 1, partition: Partition(0) };
        let mut of_another = taken_over.split().remove(0);
        of_another.parts[0].task = other;
        let ages = |publication: &Publication| -> Vec<(i64, bool)> {
            publication.rows.iter().map(|o| (o.row.source_offset.0, o.input_at.is_some())).collect()
        };
        assert_eq!(ages(&of_another), [(0, false), (1, false), (2, true), (3, true)]);
        of_another.cut(&of_another.parts[0].source.clone(), NextOffset(1));
        assert_eq!(ages(&of_another), [(1, false), (2, true), (3, true)]);
    }

    /// Each batch names one of its inputs for all of its changelog records: the first that moved.
    #[test]
    fn the_changelog_records_of_a_task_keep_their_order_when_tasks_are_parted() {
        let place = |topic: &str| TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(0));
        let changelog = TopicName::parse("log").unwrap();
        let task = |number| TaskId { sub_topology: number, partition: Partition(0) };
        let batch = |number: usize, topic: &str, (from, to): (i64, i64), value: &str| {
            let (source, assignment, through, marks, batch) = (place(topic), AssignmentId(1), Through::Log, None, 1);
            let (from, to) = (NextOffset(from), NextOffset(to));
            let part = Part { task: task(number), assignment, source, through, from, to, marks, batch };
            let mut publication = Publication { parts: vec![part], ..Publication::default() };
            let (destination, partition, key) = (&changelog, Some(Partition(0)), Some(b"k".as_slice()));
            let (value, headers, timestamp, is_tracked) = (Some(value.as_bytes()), &[][..], None, true);
            let message = Message { destination, partition, key, value, headers, timestamp, is_tracked };
            let origin = crate::engine::outbound::outgoing::Origin { source: &place(topic), offset: Offset(to.0 - 1) };
            publication.outgoing.push(origin, &message);
            publication
        };
        let mut all = batch(0, "a", (0, 2), "1");
        all.append(batch(0, "b", (0, 1), "2"));
        all.append(batch(1, "c", (0, 1), "other"));
        all.append(batch(0, "a", (2, 3), "3"));
        let values = |own: &Publication| -> Vec<String> {
            own.outgoing.messages().map(|m| String::from_utf8(m.value.unwrap().to_vec()).unwrap()).collect()
        };
        let parted: Vec<_> = all.split().iter().map(|own| (own.tasks(), values(own))).collect();
        let expected = [(0, vec!["1", "2", "3"]), (1, vec!["other"])];
        let expected = expected.map(|(number, values)| {
            (BTreeSet::from([task(number)]), values.into_iter().map(str::to_owned).collect::<Vec<_>>())
        });
        assert_eq!(parted, expected);
    }

    /// Otherwise the changelog's end would be reported with the first batch, before the second one is proved.
    #[test]
    fn the_batches_of_a_task_that_go_out_together_are_proved_together() {
        let mut world = world(vec![]);
        let take = |world: &mut World| match world.relay.inbox.try_recv().unwrap() {
            ToRelay::Publish(publication) => *publication,
            _ => panic!("a publication"),
        };
        world.publish(0, 2);
        world.publish(0, 1);
        let (mut one, mut other) = (take(&mut world), take(&mut world));
        (one.parts[0].batch, other.parts[0].batch) = (1, 2);
        other.parts[0].source.topic = TopicName::parse("companion").unwrap();
        one.append(other);
        world.inbox.send(ToRelay::Publish(Box::new(one))).unwrap();
        world.run();
        let batch = |told| match told {
            ToExecutor::Published { batch, .. } => Some(batch),
            _ => None,
        };
        assert_eq!(world.told.try_iter().filter_map(batch).collect::<Vec<_>>(), [2, 2]);
    }

    /// K stays where it is, and so does not show whether they were committed: the outbox does, and where there is none, the
    /// changelog, once the stores are opened anew.
    #[test]
    fn what_moves_no_offset_is_offered_until_it_is_committed_or_goes_back_to_the_changelog() {
        for (through, is_sent) in [(Through::Log, false), (Through::Database { epoch: 1 }, true)] {
            let mut world = world(vec![Fault::retry("no answer")]);
            *world.log.k.lock().unwrap() = Some(NextOffset(4));
            world.publish_rows(4, 4, 4..5);
            let ToRelay::Publish(mut publication) = world.relay.inbox.try_recv().unwrap() else {
                panic!("a publication")
            };
            (publication.parts[0].batch, publication.parts[0].through) = (3, through);
            world.inbox.send(ToRelay::Publish(publication)).unwrap();
            world.run();
            assert_eq!(world.sent() == [4], is_sent, "{through:?}");
            let told: Vec<ToExecutor> = world.told.try_iter().collect();
            let is_published = told.iter().any(|told| matches!(told, ToExecutor::Published { batch: 3, .. }));
            let is_unpublished = told.iter().any(|told| matches!(told, ToExecutor::Unpublished { .. }));
            assert_eq!((is_published, is_unpublished), (is_sent, !is_sent), "{through:?}");
        }
    }

    /// A step with two inputs and stores: tombstones of the time when the lead was idle, or its offset alone, in one transaction
    /// with a batch of the companion's. The companion's offset tells what became of that transaction.
    #[test]
    fn an_offset_that_moved_tells_whether_what_moved_none_beside_it_was_committed() {
        for (idle_batch, is_committed) in [(6, true), (6, false), (0, true), (0, false)] {
            let mut world = world(vec![Fault::retry("no answer")]);
            *world.log.k.lock().unwrap() = Some(NextOffset(4));
            *world.log.k_of_companion.lock().unwrap() = Some(NextOffset(i64::from(is_committed)));
            world.publish_rows(4, 4, 0..0);
            world.publish_rows(0, 1, 0..0);
            let taken = || match world.relay.inbox.try_recv().unwrap() {
                ToRelay::Publish(publication) => *publication,
                _ => panic!("a publication"),
            };
            let (mut idle, mut other) = (taken(), taken());
            other.parts[0].source.topic = TopicName::parse("companion").unwrap();
            (idle.parts[0].batch, other.parts[0].batch) = (idle_batch, 7);
            if idle_batch > 0 {
                put(&mut idle, 4, b"66");
            }
            put(&mut other, 0, b"7");
            idle.append(other);
            world.inbox.send(ToRelay::Publish(Box::new(idle))).unwrap();
            world.run();
            let again: &[i64] = if is_committed {
                &[]
            } else if idle_batch > 0 {
                &[66, 7]
            } else {
                &[7]
            };
            let case = format!("batch {idle_batch}, committed: {is_committed}");
            assert_eq!(world.sent(), again, "{case}");
            let offsets = world.log.committed.lock().unwrap().len();
            assert_eq!(offsets, if is_committed { 0 } else { 2 }, "{case}: an offset goes with what it was sent with");
            let told: Vec<ToExecutor> = world.told.try_iter().collect();
            let published = told.iter().filter(|told| matches!(told, ToExecutor::Published { .. })).count();
            assert_eq!(published, 2, "{case}: both are reported, once");
            assert!(!told.iter().any(|told| matches!(told, ToExecutor::Unpublished { .. })), "{case}");
        }
    }

    /// Adds a message to a changelog.
    fn put(publication: &mut Publication, offset: i64, value: &'static [u8]) {
        let source = publication.parts[0].source.clone();
        let origin = crate::engine::outbound::outgoing::Origin { source: &source, offset: Offset(offset) };
        let changelog = TopicName::parse("log").unwrap();
        let message = Message {
            destination: &changelog,
            partition: Some(Partition(0)),
            key: None,
            value: Some(value),
            headers: &[],
            timestamp: None,
            is_tracked: true,
        };
        publication.outgoing.push(origin, &message);
    }

    /// Marks go with it, which nothing else would write before the next batch.
    #[test]
    fn an_offset_of_a_step_with_rows_that_is_written_anew_is_sent_until_it_is_committed() {
        let mut world = world(vec![Fault::retry("no answer")]);
        *world.log.k.lock().unwrap() = Some(NextOffset(4));
        world.publish_rows(4, 4, 0..0);
        let (task, assignment) = (world.task, world.assignment);
        world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap();
        world.run();
        let committed = world.log.committed.lock().unwrap().clone();
        assert_eq!(committed.iter().map(|(_, committed)| committed.next_offset).collect::<Vec<_>>(), [NextOffset(4)]);
    }

    /// Nothing was decided, so there is nothing that a successor could have decided otherwise.
    #[test]
    fn an_offset_that_is_only_written_anew_is_offered_again_and_begins_no_takeover() {
        let mut world = world(vec![Fault::retry("no answer")]);
        *world.log.k.lock().unwrap() = Some(NextOffset(4));
        world.hand_over(4, 4, 0..0, Through::Log);
        let (task, assignment) = (world.task, world.assignment);
        world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap(); // an offset alone waits for company
        world.run();
        let told: Vec<ToExecutor> = world.told.try_iter().collect();
        assert!(told.iter().any(|told| matches!(told, ToExecutor::Published { next_offset: NextOffset(4), .. })));
        assert!(!told.iter().any(|told| matches!(told, ToExecutor::Unpublished { .. })));
    }

    /// The worker's other tasks publish meanwhile, and each of them lets transactions grow again.
    #[test]
    fn a_batch_that_touched_stores_and_never_fits_beside_tasks_that_do_is_put_off_and_halts_its_task_in_the_end() {
        let mut world = world_of(vec![], 1_000);
        let mut pauses = 0;
        for round in 0.. {
            assert!(round < 2_000, "it is decided again for ever");
            world.log.fits.store(1, Ordering::Release);
            let messages = i64::try_from(world.relay.outstanding.room(Size { messages: 64, bytes: 1 << 20 }).messages);
            world.publish_log(0, messages.unwrap().max(2));
            let ToRelay::Publish(mut publication) = world.relay.inbox.try_recv().unwrap() else {
                panic!("a publication")
            };
            publication.parts[0].batch = 1;
            put(&mut publication, 0, b"100");
            world.inbox.send(ToRelay::Publish(publication)).unwrap();
            world.run();
            let (task, assignment) = (world.task, world.assignment);
            world.inbox.send(ToRelay::Barrier { task, assignment }).unwrap();
            world.run();
            // Others have published: four times.
            (0..4).for_each(|_| world.relay.outstanding.grow());
            match &left(&world)[..] {
                [Left::Later { until }] => {
                    let now = world.relay.clock.elapsed();
                    pauses += u32::from(*until > now);
                    world.relay.clock.sleep(until.saturating_sub(now));
                }
                [Left::ForGood] => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(pauses > 80 && world.sent().is_empty(), "{pauses} pauses");
        assert!(world.relay.clock.elapsed() >= Duration::from_mins(30));
    }

    #[test]
    fn an_input_stamped_before_all_time_is_published_like_the_others() {
        let mut world = world(vec![]);
        world.publish(0, 1);
        let ToRelay::Publish(mut publication) = world.relay.inbox.try_recv().unwrap() else { panic!("a publication") };
        publication.rows[0].input_at = Some(Timestamp(i64::MIN));
        world.inbox.send(ToRelay::Publish(publication)).unwrap();
        world.run();
        assert_eq!(world.sent(), [0]);
    }

    /// A copy that arrives late is fenced by the epoch of the transaction's producer; nothing fences that of a plain commit.
    #[test]
    fn membership_is_proved_by_the_unchanged_offset_in_a_transaction() {
        let mut world = world(vec![Fault::fenced("generation 1 is over")]);
        let place = TopicPartition::new(TopicName::parse("in").unwrap(), Partition(0));
        let mut prove = |k: Option<i64>| {
            *world.log.k.lock().unwrap() = k.map(NextOffset);
            let (task, assignment, sources) = (world.task, world.assignment, vec![place.clone()]);
            world.inbox.send(ToRelay::Prove { task, assignment, sources }).unwrap();
            world.relay.step().unwrap();
            let Ok(ToExecutor::Proved { outcome, .. }) = world.told.try_recv() else { panic!("no answer") };
            outcome.map(|()| world.log.committed.lock().unwrap().drain(..).next_back().unwrap().1)
        };
        assert!(prove(Some(4)).unwrap_err().is_fenced());
        assert_eq!(prove(Some(4)).unwrap(), Committed { next_offset: NextOffset(4), metadata: String::new() });
        let standing_for_none = prove(None).unwrap();
        assert_eq!(metadata::known(Some(standing_for_none)), None, "and the next takeover finds none, as before");
    }

    /// Offsets without messages wait a second for company, and the partition may be gone and back within it.
    #[test]
    fn what_an_earlier_assignment_left_takes_nothing_of_the_present_one_away() {
        let mut world = world(vec![]);
        world.publish_rows(0, 2, 0..0);
        world.run(); // taken, and waiting
        world.move_away_and_back();
        *world.log.k.lock().unwrap() = Some(NextOffset(2));
        world.publish(2, 4);
        world.run();
        world.publish(4, 6);
        world.run();
        assert_eq!((world.sent(), *world.log.k.lock().unwrap()), (vec![2, 3, 4, 5], Some(NextOffset(6))));
        assert_eq!(world.relay.outstanding.messages(), 10_000 - 4);
    }

    /// A publication of one message, as the executor hands it over.
    fn taken(world: &mut World, from: i64, to: i64) -> Publication {
        world.publish(from, to);
        match world.relay.inbox.try_recv().unwrap() {
            ToRelay::Publish(publication) => Publication { bytes: 100, ..*publication },
            _ => panic!("a publication"),
        }
    }

    #[test]
    fn what_is_merged_is_one_part_an_assignment_and_as_large_as_its_parts() {
        let mut world = world(vec![]);
        let mut merged = taken(&mut world, 0, 2);
        merged.append(taken(&mut world, 2, 3));
        let range = |part: &Part| (part.from.0, part.to.0);
        assert_eq!(merged.parts.iter().map(range).collect::<Vec<_>>(), [(0, 3)]);
        world.move_away_and_back();
        merged.append(taken(&mut world, 3, 5));
        assert_eq!(merged.parts.iter().map(range).collect::<Vec<_>>(), [(0, 3), (3, 5)]);
        assert_eq!((merged.len(), merged.bytes), (5, 300));
    }

    #[test]
    fn no_transaction_is_filled_beyond_its_bound_on_messages() {
        let mut world = world_of(vec![], 3);
        for from in [0, 2, 4, 6] {
            world.publish(from, from + 2);
        }
        world.run();
        assert_eq!(world.sent(), (0..8).collect::<Vec<_>>());
        assert_eq!(world.log.committed.lock().unwrap().len(), 4, "two and two are more than three");
    }

    #[test]
    fn what_is_offered_again_is_counted_once() {
        let mut world = world((0..3).map(|_| Fault::retry("no answer")).collect());
        let mut publication = taken(&mut world, 0, 2);
        publication.counts.announced = 2;
        world.inbox.send(ToRelay::Publish(Box::new(publication))).unwrap();
        world.run();
        assert_eq!(world.sent(), [0, 1]);
        assert_eq!(world.relay.status.value(Counter::Announced), 2);
    }

    #[test]
    fn what_is_given_back_unpublished_is_not_counted() {
        let mut world = world(vec![Fault::retry("no answer")]);
        let mut publication = taken(&mut world, 2, 4);
        publication.counts.announced = 2;
        *world.log.k.lock().unwrap() = Some(NextOffset(1));
        world.inbox.send(ToRelay::Publish(Box::new(publication))).unwrap();
        world.run();
        assert!(world.sent().is_empty());
        assert_eq!(world.relay.status.value(Counter::Announced), 0);
    }
}
