//! The database stage of a worker: owns its tasks and its database connection, turns records into committed batches.
//!
//! One database transaction covers all partitions of the worker that have records waiting: positions by compare-and-set
//! first, rows locked in id order, the algorithm, the rows, the outbox, commit. What it decided goes to the relay from
//! memory. A batch is offered again from the start after any failure, since nothing of it was committed; a COMMIT whose
//! answer was lost is settled by a locking read before anything else is tried.
//!
//! Steps without rows run in the same thread, see `through_log`. It never talks to Kafka but for reading K at a takeover, which is in [`takeover`](crate::engine::takeover).

use crate::engine::assignment::{AssignmentId, Assignments};
use crate::engine::batch::{Batch, Reached, Share, Terms};
use crate::engine::commit::{Hook, Step};
use crate::engine::decision::HaltReason;
use crate::engine::query::Question;
use crate::engine::relay::{Part, Publication, ToRelay};
use crate::engine::restore::Restore;
use crate::engine::settings::EngineSettings;
use crate::engine::status::{Status, TaskStatus};
use crate::engine::supervisor::{ChangelogFactory, HistoryFactory, ToSource};
use crate::engine::task::{Halt, Input, State, Task};
use crate::engine::through_log::OpenBatch;
use crate::flow::record::{Chunk, NextOffset, Timestamp, TopicName, TopicPartition};
use crate::flow::topology::{StepKind, Topology};
use crate::ports::changelog::ChangelogReader;
use crate::ports::failpoint::failpoint;
use crate::ports::rows::{CommitAnswer, Counts, Move, OutboxRow, RowWrite, Rows, WriteFault};
use crate::ports::source::{Group, LogIds, TaskId};
use crate::ports::store::Stores;
use crate::ports::{Clock, Fault};
use crossbeam_channel::{Receiver, Sender};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The pause after a failure of the database; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the stage is told.
pub(crate) enum ToStage {
    /// A task is ours: take it over.
    Assigned { task: TaskId, assignment: AssignmentId, queued: Arc<AtomicUsize> },
    /// Records of one input, in offset order.
    Records { task: TaskId, topic: usize, chunk: Chunk },
    /// The tasks move: take no more input, let the relay publish what is committed, then say so.
    Revoked { tasks: Vec<TaskId>, ack: Sender<()> },
    /// The tasks are gone already.
    Lost { tasks: Vec<TaskId> },
    /// An input cannot be read on.
    OutOfRange { task: TaskId, topic: usize, message: String },
    /// K of a source partition is committed.
    Published {
        task: TaskId,
        assignment: AssignmentId,
        source: TopicPartition,
        next_offset: NextOffset,
        /// Where the task's changelogs ended with it.
        ends: Vec<(TopicPartition, NextOffset)>,
    },
    /// Decided rows were not published: they are somebody else's, or (refused) can never be.
    Unpublished { task: TaskId, assignment: AssignmentId, is_refused: bool, detail: String },
    /// The relay holds nothing of this assignment any more.
    Drained { task: TaskId, assignment: AssignmentId },
    /// The relay holds nothing of these tasks any more: write their stores, forget them, say so.
    Farewell { tasks: Vec<TaskId>, ack: Sender<()> },
    /// Somebody reads a store.
    Query(Question),
}

/// Everything a stage is made of.
pub(crate) struct Stage {
    pub(crate) topology: Arc<Topology>,
    pub(crate) owner: String,
    pub(crate) rows: Box<dyn Rows>,
    pub(crate) group: Arc<dyn Group>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) settings: Arc<EngineSettings>,
    pub(crate) status: Arc<Status>,
    pub(crate) hook: Arc<dyn Hook>,
    pub(crate) history: Option<HistoryFactory>,
    pub(crate) stores: Option<Arc<dyn Stores>>,
    pub(crate) changelogs: Option<ChangelogFactory>,
    pub(crate) message_bytes_max: HashMap<TopicName, usize>,
    pub(crate) inbox: Receiver<ToStage>,
    pub(crate) relay: Sender<ToRelay>,
    pub(crate) source: Sender<ToSource>,
    pub(crate) outstanding: Arc<AtomicUsize>,
    pub(crate) state: StageState,
}

/// What changes while a stage runs.
#[derive(Default)]
pub(crate) struct StageState {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// What steps without rows have decided and not handed over yet.
    pub(crate) open: OpenBatch,
    pub(crate) reader: Option<Box<dyn ChangelogReader>>,
    pub(crate) restore: Option<Restore>,
    /// When partition counts were last compared.
    pub(crate) counts_at: Duration,
    /// Cluster and topic ids, read at most once a second.
    pub(crate) log_ids: HashMap<TopicName, (Duration, LogIds)>,
    in_doubt: Option<Prepared>,
    failures: u32,
    not_before: Duration,
}

/// What one input contributes to a batch.
struct Draw {
    task: TaskId,
    input: usize,
    records: usize,
}

/// A batch whose transaction is ready to commit, or in doubt.
struct Prepared {
    advances: Vec<Advance>,
    rows: Vec<OutboxRow>,
    timestamps: Vec<Timestamp>,
}

/// How one input moves with a batch.
struct Advance {
    task: TaskId,
    assignment: AssignmentId,
    input: usize,
    epoch: i64,
    source: TopicPartition,
    from: NextOffset,
    to: NextOffset,
    reached: Reached,
}

/// Why a batch came to nothing.
enum Undone {
    /// These compare-and-sets matched nothing.
    Fenced(Vec<TaskId>),
    Fault(Fault),
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Stage {
    /// Takes what has come, takes over what is due, and commits at most one batch. Answers how long it may sleep when
    /// there was nothing to do.
    ///
    /// # Errors
    /// `Fatal` ends the worker.
    pub(crate) fn step(&mut self) -> Result<Option<Duration>, Fault> {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message)?;
        }
        let now = self.clock.elapsed();
        if let Some(wait) = self.state.not_before.checked_sub(now).filter(|wait| !wait.is_zero()) {
            return Ok(Some(wait));
        }
        if self.state.in_doubt.is_some() {
            self.settle()?;
            return Ok(None);
        }
        let has_moved = self.take_over()?;
        let has_committed = self.run_batch()?;
        let has_decided = self.run_log()?;
        self.flush_stores()?;
        self.watch_counts()?;
        self.recommit_idle();
        if has_moved || has_committed || has_decided { Ok(None) } else { Ok(Some(self.sleep())) }
    }

    /// Waits for a message, at most `wait`, and takes it. False when every sender is gone.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub(crate) fn wait(&mut self, wait: Duration) -> Result<bool, Fault> {
        match self.inbox.recv_timeout(wait) {
            Ok(message) => self.take(message).map(|()| true),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Ok(true),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Ok(false),
        }
    }

    /// Until a record is old enough, a takeover may be tried again, or (as there are others who wake us) half a second.
    fn sleep(&self) -> Duration {
        let now = self.clock.elapsed();
        let tasks = self.state.tasks.values();
        let takeovers = tasks.clone().filter(|task| task.state.is_timed()).map(|task| task.not_before);
        // What waits in front of a step without rows is decided at once, or waits for the relay, which wakes us.
        let batches = tasks
            .filter(|task| task.state == State::Running)
            .flat_map(|task| task.inputs.iter().map(|input| (task.has_rows() || input.attempts > 0, input)))
            .filter(|(is_timed, _)| *is_timed)
            .filter_map(|(_, input)| {
                Some((input.oldest_arrival()? + self.settings.batch_age).max(input.blocked_until))
            });
        let log = self.state.open.due(self.settings.log_age);
        let due = takeovers.chain(batches).chain(log).min().unwrap_or(now + Duration::from_millis(500));
        due.saturating_sub(now).clamp(Duration::from_micros(200), Duration::from_millis(500))
    }

    fn take(&mut self, message: ToStage) -> Result<(), Fault> {
        match message {
            ToStage::Assigned { task: id, assignment, queued } => {
                if let Some(sub_topology) = self.topology.sub_topologies().get(id.sub_topology) {
                    let task = Task::new(id, assignment, sub_topology, queued, self.clock.elapsed());
                    self.state.tasks.insert(id, task);
                    self.show(id);
                }
            }
            ToStage::Records { task, topic, chunk } => self.take_records(task, topic, chunk),
            ToStage::Revoked { tasks, ack } => self.leave(tasks, ack)?,
            ToStage::Farewell { tasks, ack } => self.farewell(&tasks, &ack)?,
            ToStage::Lost { tasks } => self.forget(&tasks),
            ToStage::Query(question) => self.answer(question),
            ToStage::OutOfRange { task, topic, message } => {
                if let Some(halt) = self.halt_of(task, topic, HaltReason::InputsDeleted, message) {
                    self.halt(task, halt);
                }
            }
            ToStage::Published { task: id, assignment, source, next_offset, ends } => {
                let now = self.clock.elapsed();
                if let Some(task) = self.state.tasks.get_mut(&id).filter(|task| task.assignment == assignment)
                    && let Some(input) = task.inputs.iter_mut().find(|input| input.source == source)
                {
                    input.published = input.published.max(next_offset);
                    input.published_at = now;
                    if let Some(keyed) = &mut task.keyed {
                        for (changelog, end) in ends {
                            keyed.note_end(&changelog, end);
                        }
                        let published: Vec<NextOffset> = task.inputs.iter().map(|input| input.published).collect();
                        keyed.prove(&published);
                    }
                    if task.state != State::Halted {
                        self.show(id);
                    }
                }
            }
            ToStage::Unpublished { task: id, assignment, is_refused, detail } => {
                if self.state.tasks.get(&id).is_some_and(|task| task.assignment == assignment) {
                    if is_refused {
                        if let Some(halt) = self.halt_of(id, 0, HaltReason::Unpublishable, detail) {
                            self.halt(id, halt);
                        }
                    } else {
                        self.doubt(id);
                    }
                }
            }
            ToStage::Drained { task: id, assignment } => {
                let now = self.clock.elapsed();
                if let Some(task) = self.state.tasks.get_mut(&id)
                    && task.assignment == assignment
                    && task.state == State::Draining
                {
                    task.restart(State::Proving, now);
                }
            }
        }
        Ok(())
    }

    fn take_records(&mut self, id: TaskId, topic: usize, chunk: Chunk) {
        let now = self.clock.elapsed();
        let count = chunk.len();
        let mut kept = 0;
        if let Some(input) =
            self.state.tasks.get_mut(&id).filter(|t| t.state == State::Running).and_then(|t| t.inputs.get_mut(topic))
        {
            let before = input.queued();
            input.push(chunk, now);
            kept = input.queued() - before;
        }
        if let Some(task) = self.state.tasks.get(&id) {
            task.queued.fetch_sub(count - kept, Ordering::AcqRel);
        }
    }

    pub(crate) fn forget(&mut self, tasks: &[TaskId]) {
        for id in tasks {
            self.state.open.forget(*id);
            self.state.tasks.remove(id);
            self.status.remove_task(*id);
        }
    }

    /// The database or the log says that the task may not be ours: everything it handed to the relay must have ended
    /// before it may prove itself, because the proof writes K.
    pub(crate) fn doubt(&mut self, id: TaskId) {
        let Some(task) = self.state.tasks.get_mut(&id).filter(|task| task.state != State::Draining) else { return };
        self.status.fencings.add(1);
        tracing::info!(task = ?id, "fenced; proving membership before claiming again");
        let assignment = task.assignment;
        // What it decided and nobody has seen is decided again from K; its stores are opened anew, as of what was proved.
        task.keyed = None;
        self.state.open.forget(id);
        self.drop_records(id, State::Draining);
        let _ = self.relay.send(ToRelay::Barrier { task: id, assignment });
    }

    /// Sends a task back to `state` without the records it holds.
    pub(crate) fn drop_records(&mut self, id: TaskId, state: State) {
        let now = self.clock.elapsed();
        if let Some(task) = self.state.tasks.get_mut(&id) {
            let dropped: usize = task.inputs.iter().map(Input::queued).sum();
            task.restart(state, now);
            task.queued.fetch_sub(dropped, Ordering::AcqRel);
            self.show(id);
        }
    }

    pub(crate) fn halt_of(&self, id: TaskId, topic: usize, reason: HaltReason, detail: String) -> Option<Halt> {
        let input = self.state.tasks.get(&id)?.inputs.get(topic)?;
        let next_offset = input.position.as_ref().map(|_| input.next_offset);
        Some(Halt { source: input.source.clone(), reason, next_offset, committed: None, detail })
    }

    /// Stops one task until a person has decided; the others go on.
    pub(crate) fn halt(&mut self, id: TaskId, halt: Halt) {
        tracing::error!(
            partition = %halt.source,
            reason = halt.reason.label(),
            next_offset = halt.next_offset.map(|d| d.0),
            committed_offset = halt.committed.as_ref().map(|k| k.next_offset.0),
            detail = halt.detail,
            "halted: {}; most likely {}; choices: {}",
            halt.reason,
            halt.reason.cause(),
            halt.reason.choices().join(" | "),
        );
        self.drop_records(id, State::Halted);
        self.show_halt(id, Some(halt));
    }

    /// Puts the task's state where people can see it.
    pub(crate) fn show(&self, id: TaskId) {
        self.show_halt(id, None);
    }

    fn show_halt(&self, id: TaskId, halt: Option<Halt>) {
        let Some(task) = self.state.tasks.get(&id) else { return };
        let input = |input: &Input| (input.source.to_string(), input.next_offset.0, input.published.0);
        let inputs = task.inputs.iter().map(input).collect();
        self.status.set_task(id, TaskStatus { state: task.state.label(), inputs, halt });
    }

    /// Writes K again for inputs that have been idle for long, before the broker lets it expire (hazard H82).
    fn recommit_idle(&mut self) {
        let now = self.clock.elapsed();
        let every = self.settings.recommit_every;
        for task in self.state.tasks.values_mut().filter(|task| task.state == State::Running) {
            for (number, input) in task.inputs.iter_mut().enumerate() {
                if input.published == input.next_offset && now.saturating_sub(input.published_at) >= every {
                    input.published_at = now;
                    let (source, epoch, at) = (input.source.clone(), input.epoch(), input.next_offset);
                    let topic_id = task.topic_ids.get(number).cloned();
                    let (id, assignment) = (task.id, task.assignment);
                    let part = Part { task: id, assignment, source, epoch, from: at, to: at, topic_id };
                    let publication = Publication { parts: vec![part], ..Publication::default() };
                    let _ = self.relay.send(ToRelay::Publish(publication));
                }
            }
        }
    }

    /// What to take for the next batch: nothing until it is full or its first record is old enough.
    fn draw(&self) -> Vec<Draw> {
        let now = self.clock.elapsed();
        if self.outstanding.load(Ordering::Acquire) >= self.settings.unpublished_rows {
            return Vec::new();
        }
        let running = self.state.tasks.values().filter(|task| task.state == State::Running && task.has_rows());
        let mut candidates: Vec<(TaskId, usize, &Input)> = running
            .flat_map(|task| task.inputs.iter().enumerate().map(|(number, input)| (task.id, number, input)))
            .filter(|(_, _, input)| input.queued() > 0 && input.blocked_until <= now)
            .collect();
        let total: usize = candidates.iter().map(|(_, _, input)| input.queued()).sum();
        let is_aged = candidates
            .iter()
            .filter_map(|(_, _, input)| input.oldest_arrival())
            .any(|arrived| now.saturating_sub(arrived) >= self.settings.batch_age);
        if total < self.settings.batch_rows && !is_aged {
            return Vec::new();
        }
        // The shortest queues first, so that what they leave of their fair share goes to the longer ones.
        candidates.sort_by_key(|(_, _, input)| input.queued());
        let mut room = self.settings.batch_rows;
        let mut left = candidates.len();
        let mut draws = Vec::with_capacity(left);
        for (task, number, input) in candidates {
            let records = input.queued().min(room.div_ceil(left));
            room -= records;
            left -= 1;
            if records > 0 {
                draws.push(Draw { task, input: number, records });
            }
        }
        draws
    }

    /// Commits one batch, if one is due. True when something was done.
    fn run_batch(&mut self) -> Result<bool, Fault> {
        let draws = self.draw();
        if draws.is_empty() {
            return Ok(false);
        }
        match self.prepare(&draws) {
            Ok(prepared) => match self.rows.commit() {
                Ok(CommitAnswer::Done) => {
                    self.hook.after(Step::CommitDatabase)?;
                    self.finish(prepared);
                }
                Ok(CommitAnswer::Unknown) => {
                    tracing::info!("the answer to a COMMIT was lost; a locking read will settle it");
                    self.state.in_doubt = Some(prepared);
                }
                Err(fault) => self.undo(Undone::Fault(fault), &draws)?,
            },
            Err(undone) => self.undo(undone, &draws)?,
        }
        Ok(true)
    }

    /// Everything of a database transaction but its commit.
    fn prepare(&mut self, draws: &[Draw]) -> Result<Prepared, Undone> {
        let Self { topology, rows, settings, state, hook, clock, message_bytes_max, .. } = self;
        let terms = Terms {
            pipeline: topology.name(),
            now: clock.now(),
            missing_row: settings.missing_row,
            record_bytes_max: settings.record_bytes_max,
            message_bytes_max,
            keeps_verdicts: settings.verdicts,
        };
        let inputs: Vec<(&Draw, &Task, &Input)> = draws
            .iter()
            .filter_map(|draw| {
                let task = state.tasks.get(&draw.task)?;
                Some((draw, task, task.inputs.get(draw.input)?))
            })
            .collect();
        let shares: Vec<Share<'_>> =
            inputs.iter().filter_map(|(draw, task, input)| share(topology, draw, task, input, settings)).collect();

        failpoint!(K1);
        rows.begin()?;
        hook.after(Step::OpenDatabase)?;
        let mut moves: Vec<Move> =
            inputs.iter().zip(&shares).map(|((_, _, input), share)| first_move(input, share)).collect();
        let matched = rows.advance(&moves)?;
        let fenced = inputs.iter().zip(matched).filter(|(_, matched)| !matched).map(|((draw, _, _), _)| draw.task);
        let fenced: Vec<TaskId> = fenced.collect();
        if !fenced.is_empty() {
            return Err(Undone::Fenced(fenced));
        }
        hook.after(Step::MovePosition)?;

        let mut batch = Batch::new(&shares, &terms);
        for (table, keys) in batch.keys() {
            let found = rows.read(table, &keys)?;
            batch.take_rows(table, found);
        }
        batch.decide();
        hook.after(Step::Apply)?;
        write_rows(&mut **rows, &mut batch)?;
        hook.after(Step::WriteRows)?;
        let (outbox, timestamps) = batch.outbox();
        if !outbox.is_empty() {
            rows.append(&outbox).map_err(not_the_records)?;
        }
        let verdicts = batch.verdicts();
        if !verdicts.is_empty() {
            rows.record(&verdicts).map_err(not_the_records)?;
        }
        // The counters, and where a record asks to be offered again the offset to stop at, are known only now.
        let reached = batch.reached();
        let mut advances = Vec::with_capacity(moves.len());
        for (((draw, task, input), moved), reached) in inputs.iter().zip(&mut moves).zip(reached) {
            let to = match input.records(reached.records + 1).nth(reached.records) {
                Some(next) if reached.records < draw.records => NextOffset(next.offset.0),
                _ => moved.to,
            };
            let (epoch, source) = (moved.epoch, moved.source.clone());
            *moved = Move { from: moved.to, to, counts: reached.counts, ..moved.clone() };
            let (task, assignment) = (task.id, task.assignment);
            let from = input.next_offset;
            advances.push(Advance { task, assignment, input: draw.input, epoch, source, from, to, reached });
        }
        if rows.advance(&moves)?.iter().any(|matched| !matched) {
            return Err(Undone::Fault(Fault::retry("a position changed under its lock")));
        }
        hook.after(Step::WriteOutbox)?;
        Ok(Prepared { advances, rows: outbox, timestamps })
    }

    /// The batch is committed: D moves, and the relay gets what it left to publish.
    fn finish(&mut self, prepared: Prepared) {
        let Prepared { advances, rows, timestamps } = prepared;
        let now = self.clock.elapsed();
        self.state.failures = 0;
        self.status.database_commits.add(1);
        let mut parts = Vec::with_capacity(advances.len());
        for advance in advances {
            self.status.count(advance.reached.counts);
            let Advance { task: id, assignment, input: number, epoch, source, from, to, reached } = advance;
            if from != to {
                parts.push(Part { task: id, assignment, source, epoch, from, to, topic_id: None });
            }
            let Some(task) = self.state.tasks.get_mut(&id).filter(|task| task.assignment == assignment) else {
                continue;
            };
            let Some(input) = task.inputs.get_mut(number) else { continue };
            input.next_offset = to;
            input.consume(reached.records);
            task.queued.fetch_sub(reached.records, Ordering::AcqRel);
            let Some(input) = task.inputs.get_mut(number) else { continue };
            if reached.records > 0 {
                input.attempts = 0;
            }
            if let Some(code) = reached.retry {
                let pause = self.settings.retry_backoff * 2_u32.pow(input.attempts.min(5));
                input.attempts += 1;
                input.blocked_until = now + pause;
                tracing::info!(partition = %input.source, offset = to.0, code, attempts = input.attempts, "a record will be offered again");
            }
            self.show(id);
        }
        if !parts.is_empty() {
            self.hand_over(Publication { parts, rows, timestamps, ..Publication::default() });
        }
    }

    /// Gives a publication to the relay and counts its messages as outstanding.
    pub(crate) fn hand_over(&self, publication: Publication) {
        self.outstanding.fetch_add(publication.len(), Ordering::AcqRel);
        let _ = self.relay.send(ToRelay::Publish(publication)); // a relay that has ended ends us too
    }

    /// A COMMIT without an answer: ask until the database tells.
    fn settle(&mut self) -> Result<(), Fault> {
        let Some(prepared) = self.state.in_doubt.take() else { return Ok(()) };
        // One position that really moves tells about all: it is one transaction. Where none moves, nothing is lost by
        // offering the records again.
        let Some(told) = prepared.advances.iter().find(|advance| advance.from != advance.to) else { return Ok(()) };
        let moved = Move {
            source: told.source.clone(),
            epoch: told.epoch,
            from: told.from,
            to: told.to,
            published: told.from,
            counts: Counts::default(),
        };
        match self.rows.settle(&moved) {
            Ok(true) => {
                self.hook.after(Step::CommitDatabase)?;
                self.finish(prepared);
            }
            // Not committed, or claimed by another since: the next compare-and-set tells which.
            Ok(false) => {}
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(fault) => {
                self.back_off(&fault);
                self.state.in_doubt = Some(prepared);
            }
        }
        Ok(())
    }

    fn undo(&mut self, undone: Undone, draws: &[Draw]) -> Result<(), Fault> {
        match undone {
            Undone::Fault(fault @ Fault::Fatal(_)) => return Err(fault),
            Undone::Fenced(tasks) => {
                self.rows.rollback();
                for task in tasks {
                    self.doubt(task);
                }
            }
            Undone::Fault(Fault::Fenced(_)) => {
                self.rows.rollback();
                for draw in draws {
                    self.doubt(draw.task);
                }
            }
            Undone::Fault(fault @ Fault::Corrupt(_)) => {
                self.rows.rollback();
                for draw in draws {
                    let halt = self.halt_of(draw.task, draw.input, HaltReason::SchemaChanged, fault.to_string());
                    if let Some(halt) = halt {
                        self.halt(draw.task, halt);
                    }
                }
            }
            Undone::Fault(fault @ Fault::Retry(_)) => {
                self.rows.rollback();
                self.status.database_retries.add(1);
                self.back_off(&fault);
            }
        }
        Ok(())
    }

    /// Waits before the next attempt; logs the first failure and then each doubling.
    pub(crate) fn back_off(&mut self, fault: &Fault) {
        let pause = (PAUSE * 2_u32.pow(self.state.failures.min(10))).min(PAUSE_MAX);
        self.state.failures += 1;
        self.state.not_before = self.clock.elapsed() + pause;
        if self.state.failures.is_power_of_two() {
            tracing::warn!(error = %fault, failures = self.state.failures, "the database did not take a batch; it is offered again");
        }
    }
}

/// What one input contributes; `None` for a step without rows, which is never drawn.
fn share<'a>(
    topology: &Topology,
    draw: &Draw,
    task: &'a Task,
    input: &'a Input,
    settings: &EngineSettings,
) -> Option<Share<'a>> {
    let StepKind::Rows(step) = &task.sub_topology.step else { return None };
    Some(Share {
        source: &input.source,
        incarnation: input.incarnation(),
        step: &**step,
        table: topology.table_index(task.id.sub_topology),
        may_retry: input.attempts < settings.retry_attempts,
        is_versioned: step.table().table.version_column.is_some(),
        records: input.records(draw.records).collect(),
    })
}

/// The compare-and-set that opens the transaction; the counters follow when they are known.
fn first_move(input: &Input, share: &Share<'_>) -> Move {
    Move {
        source: input.source.clone(),
        epoch: input.epoch(),
        from: input.next_offset,
        to: share.records.last().map_or(input.next_offset, |record| record.offset.next()),
        published: input.published,
        counts: Counts::default(),
    }
}

/// Writes all rows; where the database refuses some, finds them by halves, each half behind a savepoint, and decides
/// their records again (at most log2(n) + 1 rollbacks for one culprit among n rows).
fn write_rows(rows: &mut dyn Rows, batch: &mut Batch<'_>) -> Result<(), Undone> {
    let mut refused = Vec::new();
    for (table, writes) in batch.writes() {
        rows.savepoint()?;
        write_halves(rows, table, &writes, &mut refused)?;
    }
    for (table, write) in refused {
        batch.settle_refused(table, &write.key, |row| match rows.write(table, std::slice::from_ref(row)) {
            Ok(()) => rows.savepoint().map(|()| None),
            Err(WriteFault::Rejected(reject)) => rows.rollback_to_savepoint().map(|()| Some(reject)),
            Err(WriteFault::Fault(fault)) => Err(fault),
        })?;
    }
    Ok(())
}

fn write_halves(
    rows: &mut dyn Rows,
    table: usize,
    writes: &[RowWrite],
    refused: &mut Vec<(usize, RowWrite)>,
) -> Result<(), Fault> {
    match rows.write(table, writes) {
        Ok(()) => Ok(()),
        Err(WriteFault::Fault(fault)) => Err(fault),
        Err(WriteFault::Rejected(_)) => {
            rows.rollback_to_savepoint()?;
            if let [write] = writes {
                refused.push((table, write.clone()));
                return Ok(());
            }
            let (left, right) = writes.split_at(writes.len() / 2);
            for half in [left, right] {
                write_halves(rows, table, half, refused)?;
                rows.savepoint()?; // what was written stays, whatever the next half does
            }
            Ok(())
        }
    }
}

/// Tidegate's own tables refused a row: no record is to blame.
fn not_the_records(fault: WriteFault) -> Fault {
    match fault {
        WriteFault::Fault(fault) => fault,
        WriteFault::Rejected(reject) => {
            Fault::corrupt(format!("Tidegate's own table refused a row: {}", reject.message()))
        }
    }
}
