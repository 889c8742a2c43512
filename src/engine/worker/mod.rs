//! The database stage of a worker: owns its tasks, its stores and its database connection, hears what the other threads
//! tell, and gives each kind of work its turn: takeovers, batches of steps with rows (`rows`), slices of steps
//! without (`log`), stores that are due.
//!
//! It never talks to Kafka but for reading K at a takeover, which is in `takeover`.

pub(crate) mod takeover;

mod catch_up;
mod restore;
mod table_reader;

pub(crate) mod rows;

mod log;

mod enough;
mod farewell;
mod upkeep;

mod answer;

mod display;
mod halts;

use crate::engine::mailbox::{Left, ToRelay, ToSource, ToStage};
use crate::engine::outbound::outstanding::Outstanding;
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::order::Hook;
use crate::engine::protocol::ownership::Assignments;
use crate::engine::settings::EngineSettings;
use crate::engine::state::question::Question;
use crate::engine::state::restore::Restore;
use crate::engine::status::{Counter, Status};
use crate::engine::task::in_hand::Hand;
use crate::engine::task::{State, Task};
use crate::engine::worker::log::open_batch::OpenBatch;
use crate::engine::worker::rows::portion::Portion;
use crate::engine::worker::rows::prepared::Prepared;
use crate::engine::worker::table_reader::TableReader;
use crate::flow::key::Key;
use crate::flow::record::{Chunk, TopicName};
use crate::flow::topology::{CommitKind, Topology};
use crate::ports::changelog::ChangelogReader;
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::fencer::Fencer;
use crate::ports::rows::Rows;
use crate::ports::source::{Group, LogIds, TaskId};
use crate::ports::store::Stores;
use crate::ports::{Clock, Fault};
use crossbeam_channel::{Receiver, Sender};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The pause after a failure of the database; doubled up to [`PAUSE_MAX`].
pub(crate) const PAUSE: Duration = Duration::from_millis(10);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(1);

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
    pub(crate) fencer: Option<Arc<dyn Fencer>>,
    pub(crate) message_bytes_max: HashMap<TopicName, usize>,
    pub(crate) inbox: Receiver<ToStage>,
    pub(crate) relay: Sender<ToRelay>,
    pub(crate) source: Sender<ToSource>,
    pub(crate) outstanding: Arc<Outstanding>,
    pub(crate) hand: Hand,
    pub(crate) state: StageState,
}

/// What changes while a stage runs.
#[derive(Default)]
pub(crate) struct StageState {
    /// The task without rows that had its turn last.
    pub(crate) decided_last: Option<TaskId>,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// What steps without rows have decided and not handed over yet.
    pub(crate) open: OpenBatch,
    pub(crate) reader: Option<Box<dyn ChangelogReader>>,
    pub(crate) restore: Option<Restore>,
    /// Restores that came no further and have let the others go first.
    pub(crate) parked: BTreeMap<TaskId, Restore>,
    pub(crate) tables: Option<TableReader>,
    /// Companions that outgrew their lead topics, each with the count that was told.
    pub(crate) outgrown: BTreeMap<TopicName, i32>,
    /// When partition counts were last compared.
    pub(crate) counts_at: Duration,
    /// Cluster and topic ids, read at most once a second.
    pub(crate) log_ids: HashMap<TopicName, (Duration, LogIds)>,
    /// Rows, by table and key, that the database refused, until the batch that they were in is committed.
    pub(crate) suspects: BTreeSet<(usize, Key)>,
    /// A batch whose COMMIT had no answer.
    pub(crate) in_doubt: Option<Prepared>,
    pub(crate) failures: u32,
    /// What is asked of the stores and not answered yet, oldest first.
    pub(crate) questions: VecDeque<Question>,
    /// How large batches may be.
    pub(crate) portion: Portion,
    /// How long the last batch was decided until its first statement.
    pub(crate) thought: Duration,
    /// Whether the last batch was of a record that failed alone before.
    pub(crate) was_apart: bool,
    /// How many batches were committed.
    pub(crate) commits: u64,
    not_before: Duration,
}

impl Stage {
    /// Takes what has come, answers a bounded part of what was asked, takes over what is due, and commits at most one batch.
    /// Answers how long it may sleep when there was nothing to do.
    ///
    /// # Errors
    /// `Fatal` ends the worker.
    pub(crate) fn step(&mut self) -> Result<Option<Duration>, Fault> {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message)?;
        }
        let has_answered = self.answer_some();
        let now = self.clock.elapsed();
        if self.state.in_doubt.is_some() && self.state.not_before <= now {
            self.settle()?;
            if self.state.in_doubt.is_none() {
                return Ok(None);
            }
        }
        let has_moved = self.take_over()?;
        self.look_at_suspects();
        let has_committed = self.is_database_free() && self.run_batch()?;
        let has_decided = self.run_log()?;
        let has_searched = self.search_idle()?;
        self.flush_stores()?;
        self.watch_counts()?;
        self.recommit_idle();
        if self.is_database_free() {
            self.note_published()?;
        }
        if has_answered || has_moved || has_committed || has_decided || has_searched {
            Ok(None)
        } else {
            Ok(Some(self.sleep()))
        }
    }

    /// Free where no process has died with a record in hand. A worker whose suspects are gone looks once more.
    fn look_at_suspects(&mut self) {
        if self.hand.has_suspects() {
            self.hand.look(self.state.tasks.iter());
        }
    }

    /// Whether the database may be asked for anything: it does not answer, or a COMMIT is in doubt, otherwise. Steps without
    /// rows go on meanwhile.
    pub(crate) fn is_database_free(&self) -> bool {
        self.state.in_doubt.is_none() && self.state.not_before <= self.clock.elapsed()
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
        let is_doubtful = self.state.in_doubt.is_some();
        // Until then nothing is asked of the database, and what must settle first is asked at once.
        let database_at = self.state.not_before;
        let at = |task: &Task, due: Duration| match task.commit().needs_database() {
            true if is_doubtful => None,
            true => Some(due.max(database_at)),
            false => Some(due),
        };
        let tasks = self.state.tasks.values();
        let takeovers =
            tasks.clone().filter(|task| task.state().is_timed()).filter_map(|task| at(task, task.phase.not_before()));
        // What waits in front of a step without rows is decided at once, or waits for the relay, which wakes us. So it does
        // where it is far behind.
        let (is_behind, is_log_free) = (self.is_relay_behind(), self.is_log_free());
        let batches = tasks
            .filter(|task| task.state() == State::Running)
            .flat_map(|task| task.inputs.iter().map(move |input| (task, input)))
            .filter(|(task, input)| match task.commit() {
                CommitKind::Rows => !is_behind,
                CommitKind::Log => input.attempts > 0,
            })
            .filter_map(|(task, input)| {
                at(task, (input.oldest_arrival()? + self.settings.batch_age).max(input.blocked_until))
            });
        let settles = is_doubtful.then_some(database_at);
        let log = self.state.open.due(self.settings.log_age).filter(|_| is_log_free);
        let due = takeovers.chain(batches).chain(log).chain(settles).min().unwrap_or(now + Duration::from_millis(500));
        due.saturating_sub(now).clamp(Duration::from_micros(200), Duration::from_millis(500))
    }

    fn take(&mut self, message: ToStage) -> Result<(), Fault> {
        match message {
            ToStage::Assigned { task: id, assignment, queued } => {
                if let Some(sub_topology) = self.topology.sub_topologies().get(id.sub_topology) {
                    let place = self.topology.table_place(id.sub_topology);
                    let task = Task::new(id, assignment, sub_topology, place, queued, self.clock.elapsed());
                    self.state.tasks.insert(id, task);
                    self.show(id);
                }
            }
            ToStage::Records { task, topic, delivery, chunk } => self.take_records(task, topic, delivery, chunk),
            ToStage::Revoked { tasks, ack } => self.leave(tasks, ack)?,
            ToStage::Farewell { tasks, ack } => self.farewell(&tasks, &ack)?,
            ToStage::Lost { tasks } => self.forget(&tasks),
            ToStage::Query(question) => self.state.questions.push_back(question),
            ToStage::OutOfRange { task: id, topic, message } => {
                let input = self.state.tasks.get(&id).and_then(|task| task.inputs.get(topic));
                let message = input.map_or(message.clone(), |input| format!("{}: {message}", input.source));
                self.out_of_range(id, &message)?;
            }
            ToStage::Published { task: id, assignment, source, next_offset, batch, ends } => {
                let now = self.clock.elapsed();
                if let Some(task) = self.state.tasks.get_mut(&id).filter(|task| task.assignment == assignment)
                    && let Some(input) = task.inputs.iter_mut().find(|input| input.source == source)
                {
                    input.published = input.published.max(Some(next_offset));
                    input.published_at = now;
                    if let Some(keyed) = &mut task.keyed {
                        keyed.prove(batch, &ends);
                    }
                    self.show(id);
                }
            }
            ToStage::Unpublished { task: id, assignment, left, detail } => {
                let task = self.state.tasks.get_mut(&id).filter(|task| task.assignment == assignment);
                match (task, left) {
                    (None, _) => {}
                    (Some(_), Left::ToTakeover) => self.doubt(id),
                    (Some(task), Left::Later { until }) => {
                        task.put_off_until = until;
                        self.take_over_anew(id);
                    }
                    (Some(task), Left::Replaced(letters)) => {
                        task.letters.extend(letters);
                        self.take_over_anew(id);
                    }
                    (Some(_), Left::ForGood) => {
                        if let Some(halt) = self.halt_of(id, 0, HaltReason::Unpublishable, detail) {
                            self.halt(id, halt);
                        }
                    }
                }
            }
            ToStage::Settled => {}
            ToStage::Limits(limits) => self.message_bytes_max.extend(limits),
            ToStage::Drained { task: id, assignment } => {
                let tasks = &self.state.tasks;
                if tasks.get(&id).is_some_and(|t| t.assignment == assignment && t.state() == State::Draining) {
                    self.prove_in_time(id);
                }
            }
            ToStage::Proved { task, assignment, outcome } => self.proved(task, assignment, outcome),
        }
        Ok(())
    }

    fn take_records(&mut self, id: TaskId, topic: usize, delivery: u64, chunk: Chunk) {
        let now = self.clock.elapsed();
        let count = chunk.len();
        let mut kept = 0;
        let is_due = |task: &&mut Task| task.state() == State::Running && task.delivery == delivery;
        if let Some(input) = self.state.tasks.get_mut(&id).filter(is_due).and_then(|task| task.inputs.get_mut(topic)) {
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
        let is_fenced = |task: &Task| task.state() != State::Halted && task.phase.may_begin_anew();
        if self.state.tasks.get(&id).is_some_and(is_fenced) {
            self.status.add(Counter::Fencings, 1);
            tracing::info!(task = ?id, "fenced; proving membership before claiming again");
        }
        self.take_over_anew(id);
    }

    /// The next offset of an input lies outside the log: whether before its start or behind its end, and what becomes of it,
    /// is decided as at any takeover.
    pub(crate) fn out_of_range(&mut self, id: TaskId, message: &str) -> Result<(), Fault> {
        if self.state.tasks.get(&id).is_none_or(|task| !task.state().is_deciding()) {
            return Ok(());
        }
        tracing::warn!(task = ?id, error = message, "an input cannot be read on; the log's bounds decide what becomes of it");
        // What was decided goes out first: its inputs can perhaps not be read again.
        self.hand_over_log()?;
        self.take_over_anew(id);
        Ok(())
    }

    /// Begins again with K, once the relay holds nothing of the task any more.
    fn take_over_anew(&mut self, id: TaskId) {
        let now = self.clock.elapsed();
        let Some(task) = self.state.tasks.get_mut(&id) else { return };
        if !task.drain(now) {
            return;
        }
        let assignment = task.assignment;
        // What it decided and nobody has seen is decided again from K; its stores are opened anew, as of what was proved.
        task.keyed = None;
        self.state.open.forget(id);
        self.show(id);
        let _ = self.relay.send(ToRelay::Barrier { task: id, assignment });
    }

    /// Writes K again for inputs that have been idle for long, before the broker lets it expire
    /// (docs/traps.md#offsets-expire).
    fn recommit_idle(&mut self) {
        let now = self.clock.elapsed();
        let every = self.settings.recommit_every;
        for task in self.state.tasks.values_mut().filter(|task| task.state() == State::Running) {
            for (number, input) in task.inputs.iter_mut().enumerate() {
                if input.published == Some(input.next_offset) && now.saturating_sub(input.published_at) >= every {
                    input.published_at = now;
                    let (source, through, at) = (input.source.clone(), input.through(), input.next_offset);
                    let marks = task.marks.get(number).cloned();
                    let (id, assignment) = (task.id, task.assignment);
                    let part = Part { task: id, assignment, source, through, from: at, to: at, marks, batch: 0 };
                    let publication = Publication { parts: vec![part], ..Publication::default() };
                    let _ = self.relay.send(ToRelay::Publish(Box::new(publication)));
                }
            }
        }
    }

    /// Gives a publication to the relay and counts it as outstanding.
    pub(crate) fn hand_over(&self, mut publication: Publication) {
        publication.bytes = publication.size(self.topology.name()).bytes;
        self.outstanding.add(&publication);
        let _ = self.relay.send(ToRelay::Publish(Box::new(publication))); // a relay that has ended ends us too
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
