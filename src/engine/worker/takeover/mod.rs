//! The takeover of a partition (docs/protocol.md#takeover): claim, read K after the claim, decide by the table, publish
//! the unpublished remainder, go on at D.
//!
//! Each step may be repeated by this owner or the next: the claim only raises the epoch, K is only read, and messages
//! that are published again carry the same ids below the same K. Steps that must wait (a dead predecessor's transaction
//! keeps K pending until its timeout) wait a little and leave the worker to its other tasks in between.

mod pace;

mod carry_out;
mod claim;
mod facts;
mod lane;
pub(crate) mod proof;
mod remainder;
pub(crate) mod traces;

pub(crate) use lane::Takeovers;

use crate::engine::mailbox::ToSource;
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::decision::Decision;
use crate::engine::protocol::halt::Contradiction;
use crate::engine::protocol::metadata;
use crate::engine::protocol::order::Step;
use crate::engine::task::{Input, Phase, State, Task};
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::{Act, Desk};
use crate::engine::worker::progress::Progress;
use crate::engine::worker::takeover::carry_out::hand_over_remainder;
use crate::engine::worker::takeover::carry_out::look_up;
use crate::engine::worker::takeover::carry_out::offer;
use crate::engine::worker::takeover::carry_out::publish;
use crate::engine::worker::takeover::carry_out::set_published;
use crate::engine::worker::takeover::claim::is_to_claim;
use crate::engine::worker::takeover::facts::blamed;
use crate::engine::worker::takeover::facts::is_seen_twice;
use crate::engine::worker::takeover::facts::read_committed;
use crate::engine::worker::takeover::pace::{AGAIN, pause_after};
use crate::engine::worker::takeover::proof::prove;
use crate::engine::worker::takeover::remainder::Remainder;
use crate::engine::worker::takeover::traces::mismatched_store;
use crate::flow::record::TopicPartition;
use crate::ports::Fault;
use crate::ports::guard::{self, Guard};
use crate::ports::source::{Committed, TaskId};
use std::time::Duration;

impl Takeovers {
    /// Tasks whose next step of a takeover is due, each with the state that the step belongs to.
    pub(crate) fn due(desk: &Desk, is_database_free: bool) -> Vec<(TaskId, State)> {
        let now = desk.wiring.clock.elapsed();
        let tasks = desk.tasks.values().filter(|task| is_database_free || !task.commit().needs_database());
        let is_due = |task: &&Task| {
            (task.state() == State::Publishing || task.state().is_timed()) && task.phase.not_before() <= now
        };
        tasks.filter(is_due).map(|task| (task.id, task.state())).collect()
    }

    /// Takes one step of the takeover of a task, if it is still due: another task's step may have halted it, or put it
    /// off. True when a restore or a table came further.
    ///
    /// # Errors
    /// `Fatal` ends the worker.
    pub(crate) fn step(&mut self, desk: &mut Desk, db: &mut Database, id: TaskId, state: State) -> Result<bool, Fault> {
        let asked_at = desk.wiring.clock.elapsed();
        let is_due = |task: &Task| task.state() == state && task.phase.not_before() <= asked_at;
        if !desk.tasks.get(&id).is_some_and(is_due) {
            return Ok(false);
        }
        let result = match state {
            State::Claiming => self.enter(desk, db, id).map(|()| false),
            State::ReadingCommitted => self.read_and_decide(desk, db, id).map(|()| false),
            State::Publishing => go_on_if_published(desk, db, id).map(|()| false),
            State::Restoring => self.restore(desk, id),
            State::CatchingUp => self.catch_up(desk, id),
            State::Stale | State::PutOff => {
                prove(desk, id);
                Ok(false)
            }
            State::Running | State::Leaving | State::Draining | State::Proving | State::Halted => Ok(false),
        };
        result.or_else(|fault| failed_step(desk, id, state, fault, asked_at).map(|()| false))
    }

    /// Step 5: a slice of the restore. True when it came further.
    fn restore(&mut self, desk: &mut Desk, id: TaskId) -> Result<bool, Fault> {
        match self.restores.step(desk, id)? {
            Progress::Nowhere => {
                desk.wait_a_little(id, AGAIN);
                return Ok(false);
            }
            Progress::Further => {}
            Progress::Whole if self.tables.enter(desk, id) => {}
            Progress::Whole => start(desk, id),
        }
        Ok(true)
    }

    /// Reads a slice of the task's tables, before its streams. True when they came further.
    fn catch_up(&mut self, desk: &mut Desk, id: TaskId) -> Result<bool, Fault> {
        let progress = self.tables.step(desk, id)?;
        if progress == Progress::Whole {
            start(desk, id);
        }
        Ok(progress != Progress::Nowhere)
    }

    /// Steps 2 to 4: K, stable and after the claim; the table; the remainder to publish.
    fn read_and_decide(&mut self, desk: &mut Desk, db: &mut Database, id: TaskId) -> Result<(), Fault> {
        let sources = desk.sources(id);
        let Some(committed) = read_committed(desk, id, &sources)? else { return Ok(()) };
        if guard::is_off(Guard::ClaimFirst) && is_to_claim(desk, id) {
            self.claim(desk, db, id)?;
            if desk.tasks.get(&id).is_none_or(|task| task.state() != State::ReadingCommitted) {
                return Ok(());
            }
        }
        desk.wiring.hook.after(Step::ReadCommitted)?;
        let mut decisions = Vec::with_capacity(sources.len());
        for (index, source) in sources.iter().enumerate() {
            decisions.push(self.decide(desk, db, id, index, source, &committed)?);
        }
        for (index, (decision, committed)) in decisions.iter().zip(committed.iter().cloned()).enumerate() {
            let (Decision::Halt(reason), Some(source)) = (decision, sources.get(index)) else { continue };
            let next_offset = desk.position(id, source).map(|position| position.next_offset);
            let (source, reason) = (source.clone(), *reason);
            let found = Contradiction { source: source.clone(), reason, next_offset, committed: committed.clone() };
            if !is_seen_twice(desk, id, found) {
                desk.go_on(id, Duration::ZERO, Phase::become_claiming);
                return Ok(());
            }
            let at = blamed(desk, id, &source, reason)?;
            if let Some(halt) = desk.halt_at(id, index, reason, String::new(), committed, at) {
                desk.halt(id, halt);
            }
            return Ok(());
        }
        if let Some((reason, message)) = mismatched_store(desk, db, id, &committed)? {
            if let Some(halt) = desk.halt_of(id, 0, reason, message) {
                desk.halt(id, halt);
            }
            return Ok(());
        }
        self.mark(desk, id, &committed)?;
        let mut remainder = Remainder::default();
        for ((source, decision), committed) in sources.iter().zip(decisions).zip(&committed) {
            if !self.carry_out(desk, db, id, source, decision, &mut remainder)? {
                desk.go_on(id, AGAIN, Phase::become_claiming);
                return Ok(());
            }
            mark_anew(desk, id, source, (decision, committed.as_ref()), &mut remainder);
        }
        look_up(desk, id, &mut remainder)?;
        let cut = if remainder.changelog.is_empty() { None } else { self.restores.cut_changelog(desk, id)? };
        if let Some((reason, message)) = cut {
            if let Some(halt) = desk.halt_of(id, 0, reason, message) {
                desk.halt(id, halt);
            }
            return Ok(());
        }
        hand_over_remainder(desk, id, remainder);
        desk.wiring.hook.after(Step::PublishRemainder)?;
        if let Some(task) = desk.tasks.get_mut(&id) {
            task.waiting.end();
        }
        desk.go_on(id, Duration::ZERO, Phase::become_publishing);
        Ok(())
    }
}

/// Handles the failure of a step of `state` that began at `asked_at`.
fn failed_step(desk: &mut Desk, id: TaskId, state: State, fault: Fault, asked_at: Duration) -> Result<(), Fault> {
    let moment = match state {
        State::CatchingUp => Moment::ReadTable,
        State::Restoring => Moment::Restore,
        _ => Moment::TakeOver,
    };
    match consequence::of(&fault, moment) {
        Consequence::End => return Err(fault),
        Consequence::AskBounds => desk.acts.push_back(Act::AskBounds { task: id, message: fault.to_string() }),
        Consequence::Halt(reason) => desk.halt_over(id, reason, &fault),
        Consequence::Again | Consequence::Smaller | Consequence::ClaimAnew | Consequence::AwaitRevoke => {
            desk.note_failed_step(id, &fault);
            let pause = pause_after(desk.wiring.clock.elapsed().saturating_sub(asked_at));
            desk.wait_a_little(id, pause);
            if fault.is_lock_wait() {
                desk.delay(state, pause);
            }
        }
    }
    Ok(())
}

/// Step 6: everything is in place, so records may come.
fn start(desk: &mut Desk, id: TaskId) {
    if !desk.go_on(id, Duration::ZERO, Phase::become_running) {
        return;
    }
    desk.begin_backlogs(id);
    let Some(task) = desk.tasks.get_mut(&id) else { return };
    task.waiting.end();
    task.delivery += 1;
    let delivery = task.delivery;
    let positions = task.inputs.iter().map(|input| (input.source.clone(), input.next_offset)).collect();
    let (assignment, took) = (task.assignment, desk.wiring.clock.elapsed().saturating_sub(task.assigned_at));
    tracing::debug!(task = ?id, took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "partition taken over");
    let _ = desk.wiring.source.send(ToSource::Start { task: id, assignment, delivery, positions });
}

/// Writes K again where its offset is right but its marks name other stores or inputs than there are: the next owner
/// has K alone.
fn mark_anew(
    desk: &mut Desk,
    id: TaskId,
    source: &TopicPartition,
    (decision, committed): (Decision, Option<&Committed>),
    remainder: &mut Remainder,
) {
    let (Decision::Go | Decision::Resume { .. }, Some(k)) = (decision, committed) else { return };
    let Some(task) = desk.tasks.get(&id).filter(|task| task.keyed.is_some()) else { return };
    let number = task.inputs.iter().position(|input| input.source == *source);
    let marks = number.and_then(|number| task.marks.get(number));
    if marks.is_some_and(|marks| **marks != *metadata::marks(k)) {
        let at = k.next_offset;
        set_published(desk, id, source, |_| None);
        publish(desk, id, source, (at, at), Vec::new(), remainder);
        remainder.kept.push((source.clone(), at));
    }
}

/// Goes on to step 5 where there are stores, otherwise to step 6, once K = D. Until then the remainder is published.
fn go_on_if_published(desk: &mut Desk, db: &mut Database, id: TaskId) -> Result<(), Fault> {
    let Some(task) = desk.tasks.get(&id) else { return Ok(()) };
    if !task.is_caught_up() {
        let is_due = |input: &&Input| input.published >= Some(input.offered) && input.offered < input.next_offset;
        let due = task.inputs.iter().filter(is_due);
        let due: Vec<_> = due.map(|input| (input.source.clone(), (input.offered, input.next_offset))).collect();
        let mut remainder = Remainder::default();
        for (source, range) in due {
            offer(desk, db, id, &source, range, &mut remainder)?;
        }
        hand_over_remainder(desk, id, remainder);
    } else if task.keyed.is_some() {
        desk.go_on(id, Duration::ZERO, Phase::become_restoring);
    } else {
        start(desk, id);
    }
    Ok(())
}
