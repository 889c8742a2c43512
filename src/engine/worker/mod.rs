//! The executor of a worker: takes the messages of the other threads, gives each lane its turn at the tasks (takeovers,
//! batches of steps with rows, slices of steps without, stores that are due), and carries out the acts that lanes ask
//! for.
//!
//! A lane owns its own state and works on the tasks of the `Desk`. For anything about a whole task, or about
//! another lane's work (a halt, a doubt, a batch that must go out first), it asks with an `Act`. Only this
//! module carries one out, after the lane's step.
//!
//! Nothing here talks to Kafka, except that `takeover` reads K.

mod desk;
mod wiring;

mod database;

pub(crate) mod takeover;

mod ids;
mod progress;
mod restore;
mod tables;

pub(crate) mod rows;

mod log;

mod acts;
mod backlog;
mod counts;
mod enough;
mod farewell;
mod looks;
mod upkeep;

mod answer;

mod halts;

pub(crate) use wiring::Wiring;

use crate::engine::mailbox::{Left, ToExecutor, ToRelay};
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::task::order::next_of;
use crate::engine::task::{State, Task};
use crate::engine::worker::answer::Questions;
use crate::engine::worker::counts::CountWatch;
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::log::LogLane;
use crate::engine::worker::rows::{RowsLane, note_published};
use crate::engine::worker::takeover::{Takeovers, proof};
use crate::flow::record::Chunk;
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::rows::Rows;
use crate::ports::source::TaskId;
use crossbeam_channel::Receiver;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The thread of a worker that takes tasks over and decides their records.
pub(crate) struct Executor {
    inbox: Receiver<ToExecutor>,
    desk: Desk,
    db: Database,
    takeovers: Takeovers,
    rows: RowsLane,
    log: LogLane,
    counts: CountWatch,
    questions: Questions,
}

impl Executor {
    pub(crate) fn new(inbox: Receiver<ToExecutor>, wiring: Wiring, rows: Box<dyn Rows>) -> Self {
        Self {
            inbox,
            desk: Desk::new(wiring),
            db: Database::new(rows),
            takeovers: Takeovers::default(),
            rows: RowsLane::default(),
            log: LogLane::default(),
            counts: CountWatch::default(),
            questions: Questions::default(),
        }
    }

    /// Takes the messages that have come, answers a bounded number of questions, takes over the tasks that are due, and
    /// commits at most one batch. Answers how long it may sleep when there was nothing to do.
    ///
    /// # Errors
    /// `Fatal` ends the worker.
    pub(crate) fn step(&mut self) -> Result<Option<Duration>, Fault> {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message)?;
        }
        let has_answered = self.questions.answer_some(&mut self.desk);
        if self.rows.is_in_doubt() && self.db.not_before <= self.desk.wiring.clock.elapsed() {
            self.rows.settle(&mut self.desk, &mut self.db)?;
            self.carry_out()?;
            if !self.rows.is_in_doubt() {
                return Ok(None);
            }
        }
        let has_moved = self.take_over()?;
        self.look_at_suspects();
        self.desk.look_at_backlogs();
        let has_committed = self.is_database_free() && self.rows.run_batch(&mut self.desk, &mut self.db)?;
        self.carry_out()?;
        let has_decided = self.log.run(&mut self.desk)?;
        self.carry_out()?;
        let has_searched = self.desk.search_idle(self.rows.is_in_doubt())?;
        self.carry_out()?;
        self.desk.flush_stores(self.rows.is_in_doubt())?;
        self.carry_out()?;
        self.desk.ask_limits();
        self.counts.look(&mut self.desk);
        self.carry_out()?;
        self.recommit_idle();
        if self.is_database_free() {
            note_published(&mut self.desk, &mut self.db)?;
            self.carry_out()?;
        }
        if has_answered || has_moved || has_committed || has_decided || has_searched {
            Ok(None)
        } else {
            Ok(Some(self.sleep()))
        }
    }

    /// Moves every task that is being taken over by one step, where the step is due. True when one moved.
    fn take_over(&mut self) -> Result<bool, Fault> {
        let mut has_moved = false;
        for (id, state) in Takeovers::due(&self.desk, self.is_database_free()) {
            has_moved |= self.takeovers.step(&mut self.desk, &mut self.db, id, state)?;
            self.carry_out()?;
            has_moved |= self.desk.tasks.get(&id).is_some_and(|task| task.state() != state);
        }
        Ok(has_moved)
    }

    /// Does nothing where no process has died with a record in hand. A worker whose suspects are decided looks once
    /// more.
    fn look_at_suspects(&mut self) {
        let Desk { wiring, tasks, .. } = &mut self.desk;
        if wiring.hand.has_suspects() {
            wiring.hand.look(tasks.iter());
        }
    }

    /// Whether the database may be asked for anything. It may not while it does not answer, or while a COMMIT is in
    /// doubt. Steps without rows go on meanwhile.
    fn is_database_free(&self) -> bool {
        !self.rows.is_in_doubt() && self.db.not_before <= self.desk.wiring.clock.elapsed()
    }

    /// Waits for a message, at most `wait`, and takes it. False when every sender is gone.
    ///
    /// # Errors
    /// The errors of [`Executor::step`].
    pub(crate) fn wait(&mut self, wait: Duration) -> Result<bool, Fault> {
        match self.inbox.recv_timeout(wait) {
            Ok(message) => self.take(message).map(|()| true),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Ok(true),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Ok(false),
        }
    }

    /// The time until a record is old enough or a takeover may be tried again; at most half a second, because other
    /// threads wake us.
    fn sleep(&self) -> Duration {
        let Desk { wiring, tasks, .. } = &self.desk;
        let now = wiring.clock.elapsed();
        let is_doubtful = self.rows.is_in_doubt();
        // Until then nothing is asked of the database, and a COMMIT in doubt is asked about at once.
        let database_at = self.db.not_before;
        let at = |task: &Task, due: Duration| match task.commit().needs_database() {
            true if is_doubtful => None,
            true => Some(due.max(database_at)),
            false => Some(due),
        };
        let tasks = tasks.values();
        let awaited = tasks.clone().flat_map(|task| &task.inputs).filter_map(|input| input.backlog?.awaited_since);
        let awaited = awaited.map(|since| since + wiring.settings.merge_wait);
        let takeovers =
            tasks.clone().filter(|task| task.state().is_timed()).filter_map(|task| at(task, task.phase.not_before()));
        // Records in front of a step without rows are decided at once, or wait for the relay, which wakes us, as they
        // do where the relay is far behind.
        let (is_behind, is_log_free) = (wiring.is_relay_behind(), wiring.is_log_free());
        let batches = tasks
            .filter(|task| task.state().is_deciding())
            .flat_map(|task| task.inputs.iter().map(move |input| (task, input)))
            .filter(|(task, input)| match task.commit() {
                CommitKind::Rows => !is_behind,
                CommitKind::Log => input.attempts > 0,
            })
            .filter(|(task, input)| !input.is_free(now) || next_of(&task.inputs, now).is_some())
            .filter_map(|(task, input)| {
                at(task, (input.oldest_arrival()? + wiring.settings.batch_age).max(input.blocked_until))
            });
        let settles = is_doubtful.then_some(database_at);
        let log = self.log.due(&self.desk).filter(|_| is_log_free);
        let timers = self.log.wall_in(&self.desk).map(|after| now + after);
        let due = takeovers
            .chain(batches)
            .chain(awaited)
            .chain(log)
            .chain(timers)
            .chain(settles)
            .min()
            .unwrap_or(now + Duration::from_millis(500));
        due.saturating_sub(now).clamp(Duration::from_micros(200), Duration::from_millis(500))
    }

    fn take(&mut self, message: ToExecutor) -> Result<(), Fault> {
        match message {
            ToExecutor::Assigned { task: id, assignment, in_front } => {
                let topology = &self.desk.wiring.topology;
                if let Some(sub_topology) = topology.sub_topologies().get(id.sub_topology) {
                    let place = topology.table_place(id.sub_topology);
                    let now = self.desk.wiring.clock.elapsed();
                    let task = Task::new(id, assignment, sub_topology, place, in_front, now);
                    self.desk.tasks.insert(id, task);
                    self.desk.show(id);
                }
            }
            ToExecutor::Records { task, topic, delivery, chunk } => self.take_records(task, topic, delivery, chunk),
            ToExecutor::Revoked { tasks, ack } => self.leave(tasks, ack)?,
            ToExecutor::Close { tasks, ack } => self.farewell(&tasks, &ack)?,
            ToExecutor::Lost { tasks } => self.forget(&tasks),
            ToExecutor::Query(question) => self.questions.take(question),
            ToExecutor::OutOfRange { task: id, topic, message } => {
                let input = self.desk.tasks.get(&id).and_then(|task| task.inputs.get(topic));
                let message = input.map_or(message.clone(), |input| format!("{}: {message}", input.source));
                self.ask_bounds(id, &message)?;
            }
            ToExecutor::Published { task: id, assignment, source, next_offset, batch, ends } => {
                let now = self.desk.wiring.clock.elapsed();
                if let Some(task) = self.desk.tasks.get_mut(&id).filter(|task| task.assignment == assignment) {
                    task.published(&source, next_offset, now, batch, &ends);
                    self.desk.show(id);
                }
            }
            ToExecutor::Unpublished { task, assignment, left, detail } => {
                if self.desk.tasks.get(&task).is_some_and(|task| task.assignment == assignment) {
                    self.unpublished(task, left, detail);
                }
            }
            ToExecutor::Settled => {}
            ToExecutor::Limits { known, unknown } => self.desk.learn_limits(known, unknown.as_ref()),
            ToExecutor::Drained { task: id, assignment } => {
                let tasks = &self.desk.tasks;
                if tasks.get(&id).is_some_and(|t| t.assignment == assignment && t.state() == State::Draining) {
                    proof::prove_in_time(&mut self.desk, id);
                }
            }
            ToExecutor::Proved { task, assignment, outcome } => {
                proof::proved(&mut self.desk, task, assignment, outcome);
            }
        }
        self.carry_out()
    }

    fn take_records(&mut self, id: TaskId, topic: usize, delivery: u64, chunk: Chunk) {
        let now = self.desk.wiring.clock.elapsed();
        let count = chunk.len();
        let Some(task) = self.desk.tasks.get_mut(&id) else { return };
        let is_due = task.state() == State::Running && task.delivery == delivery;
        let Some(input) = task.inputs.get_mut(topic) else { return };
        let before = input.queued();
        if is_due {
            input.push(chunk, now);
        }
        let kept = input.queued() - before;
        input.in_front.fetch_sub(count - kept, Ordering::AcqRel);
    }

    /// Leaves the messages that the relay could not publish to the task's next takeover, or halts the task.
    fn unpublished(&mut self, id: TaskId, left: Left, detail: String) {
        match left {
            Left::ToTakeover => self.desk.doubt(id),
            Left::Later { until } => {
                if let Some(task) = self.desk.tasks.get_mut(&id) {
                    task.put_off_until = until;
                }
                self.begin_anew(id);
            }
            Left::Replaced(dead_letters) => {
                if let Some(task) = self.desk.tasks.get_mut(&id) {
                    task.dead_letters.extend(dead_letters);
                }
                self.begin_anew(id);
            }
            Left::ForGood => {
                if let Some(halt) = self.desk.halt_of(id, 0, HaltReason::Unpublishable, detail) {
                    self.desk.halt(id, halt);
                }
            }
        }
    }

    /// Writes K again for inputs that have been idle for long, before the broker lets it expire
    /// (docs/traps.md#offsets-expire).
    fn recommit_idle(&mut self) {
        let Desk { wiring, tasks, .. } = &mut self.desk;
        let now = wiring.clock.elapsed();
        let every = wiring.settings.recommit_every;
        for task in tasks.values_mut().filter(|task| task.state() == State::Running) {
            for (number, input) in task.inputs.iter_mut().enumerate() {
                if input.published == Some(input.next_offset) && now.saturating_sub(input.published_at) >= every {
                    input.published_at = now;
                    let (source, through, at) = (input.source.clone(), input.through(), input.next_offset);
                    let marks = task.marks.get(number).cloned();
                    let (id, assignment) = (task.id, task.assignment);
                    let part = Part { task: id, assignment, source, through, from: at, to: at, marks, batch: 0 };
                    let publication = Publication { parts: vec![part], ..Publication::default() };
                    wiring.send_to_relay(ToRelay::Publish(Box::new(publication)));
                }
            }
        }
    }
}
