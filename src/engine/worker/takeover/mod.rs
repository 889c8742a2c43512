//! Takes a partition over (docs/protocol.md#takeover): claim, read K after the claim, decide by the table, publish the
//! rest, go on at D.
//!
//! Each step may be repeated by this owner or the next: the claim only raises the epoch, K is only read, and what is
//! published again carries the same ids below the same K. Steps that must wait (a dead predecessor's transaction keeps K
//! pending until its timeout) wait a little and leave the worker to its other tasks in between.

mod pace;

mod carry_out;
mod claim;
mod facts;
mod proof;
mod rest;
pub(crate) mod traces;

use crate::engine::mailbox::ToSource;
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::decision::Decision;
use crate::engine::protocol::halt::Contradiction;
use crate::engine::protocol::metadata;
use crate::engine::protocol::order::Step;
use crate::engine::task::{Input, Phase, State, Task};
use crate::engine::worker::Stage;
use crate::engine::worker::takeover::pace::{AGAIN, rest_after};
use crate::engine::worker::takeover::rest::Rest;
use crate::flow::record::TopicPartition;
use crate::ports::Fault;
use crate::ports::guard::{self, Guard};
use crate::ports::source::{Committed, TaskId};
use std::time::Duration;

impl Stage {
    /// Moves every task that is being taken over by one step, where its time has come. True when one moved.
    pub(crate) fn take_over(&mut self) -> Result<bool, Fault> {
        let (now, is_free) = (self.clock.elapsed(), self.is_database_free());
        let due: Vec<(TaskId, State)> = self
            .state
            .tasks
            .values()
            .filter(|task| is_free || !task.commit().needs_database())
            .filter(|task| {
                task.state() == State::Publishing || (task.state().is_timed() && task.phase.not_before() <= now)
            })
            .map(|task| (task.id, task.state()))
            .collect();
        let mut has_moved = false;
        for (id, state) in due {
            let task = self.state.tasks.get(&id).filter(|task| task.state() == state);
            let is_due = |task: &Task| !state.is_timed() || task.phase.not_before() <= self.clock.elapsed();
            if !task.is_some_and(is_due) {
                continue; // halted, or put off, by what another one met
            }
            let asked_at = self.clock.elapsed();
            let result = match state {
                State::Claiming => self.enter(id),
                State::ReadingCommitted => self.read_and_decide(id),
                State::Publishing => self.go_on_if_published(id),
                State::Restoring => self.restore(id).map(|has_come_further| {
                    has_moved |= has_come_further;
                    if !has_come_further {
                        self.wait_a_little(id, AGAIN);
                    }
                }),
                State::CatchingUp => self.catch_up(id).map(|has_come_further| has_moved |= has_come_further),
                State::Stale | State::PutOff => {
                    self.prove(id);
                    Ok(())
                }
                State::Running | State::Leaving | State::Draining | State::Proving | State::Halted => Ok(()),
            };
            match result {
                Ok(()) => has_moved |= self.state.tasks.get(&id).is_some_and(|task| task.state() != state),
                Err(fault) => self.failed_step(id, state, fault, asked_at)?,
            }
        }
        Ok(has_moved)
    }

    /// A step of `state`, begun at `asked_at`, was not taken.
    fn failed_step(&mut self, id: TaskId, state: State, fault: Fault, asked_at: Duration) -> Result<(), Fault> {
        let moment = match state {
            State::CatchingUp => Moment::ReadTable,
            State::Restoring => Moment::Restore,
            _ => Moment::TakeOver,
        };
        match consequence::of(&fault, moment) {
            Consequence::End => return Err(fault),
            Consequence::AskBounds => return self.out_of_range(id, &fault.to_string()),
            Consequence::Halt(reason) => self.halt_over(id, reason, &fault),
            Consequence::Again | Consequence::Smaller | Consequence::ClaimAnew | Consequence::AwaitRevoke => {
                self.in_vain(id, &fault);
                let pause = rest_after(self.clock.elapsed().saturating_sub(asked_at));
                self.wait_a_little(id, pause);
                if fault.is_lock_wait() {
                    self.rest(state, pause);
                }
            }
        }
        Ok(())
    }

    fn sources(&self, id: TaskId) -> Vec<TopicPartition> {
        self.state.tasks.get(&id).into_iter().flat_map(|task| &task.inputs).map(|input| input.source.clone()).collect()
    }

    /// Steps 2 to 4: K, stable and after the claim; the table; what is left to publish.
    fn read_and_decide(&mut self, id: TaskId) -> Result<(), Fault> {
        let sources = self.sources(id);
        let Some(committed) = self.read_committed(id, &sources)? else { return Ok(()) };
        if guard::is_off(Guard::ClaimFirst) && self.is_to_claim(id) {
            self.claim(id)?;
            if self.state.tasks.get(&id).is_none_or(|task| task.state() != State::ReadingCommitted) {
                return Ok(());
            }
        }
        self.hook.after(Step::ReadCommitted)?;
        let mut decisions = Vec::with_capacity(sources.len());
        for (index, source) in sources.iter().enumerate() {
            decisions.push(self.decide(id, index, source, &committed)?);
        }
        for (index, (decision, committed)) in decisions.iter().zip(committed.iter().cloned()).enumerate() {
            let (Decision::Halt(reason), Some(source)) = (decision, sources.get(index)) else { continue };
            let next_offset = self.position(id, source).map(|position| position.next_offset);
            let (source, reason) = (source.clone(), *reason);
            let found = Contradiction { source: source.clone(), reason, next_offset, committed: committed.clone() };
            if !self.is_seen_twice(id, found) {
                self.go_on(id, Duration::ZERO, Phase::become_claiming);
                return Ok(());
            }
            let at = self.blamed(id, &source, reason)?;
            if let Some(halt) = self.halt_at(id, index, reason, String::new(), committed, at) {
                self.halt(id, halt);
            }
            return Ok(());
        }
        if let Some((reason, message)) = self.strange_store(id, &committed)? {
            if let Some(halt) = self.halt_of(id, 0, reason, message) {
                self.halt(id, halt);
            }
            return Ok(());
        }
        self.mark(id, &committed)?;
        let mut rest = Rest::default();
        for ((source, decision), committed) in sources.iter().zip(decisions).zip(&committed) {
            if !self.carry_out(id, source, decision, &mut rest)? {
                self.go_on(id, AGAIN, Phase::become_claiming);
                return Ok(());
            }
            self.mark_anew(id, source, (decision, committed.as_ref()), &mut rest);
        }
        self.look_up(id, &mut rest)?;
        let cut = if rest.changelog.is_empty() { None } else { self.cut_changelog(id)? };
        if let Some((reason, message)) = cut {
            if let Some(halt) = self.halt_of(id, 0, reason, message) {
                self.halt(id, halt);
            }
            return Ok(());
        }
        self.hand_over_rest(id, rest);
        self.hook.after(Step::PublishRest)?;
        if let Some(task) = self.state.tasks.get_mut(&id) {
            task.waiting.end();
        }
        self.go_on(id, Duration::ZERO, Phase::become_publishing);
        Ok(())
    }

    /// Writes K again where it is right and remembers other stores or inputs than there are: the next owner has K alone.
    fn mark_anew(
        &mut self,
        id: TaskId,
        source: &TopicPartition,
        (decision, committed): (Decision, Option<&Committed>),
        rest: &mut Rest,
    ) {
        let (Decision::Go | Decision::Resume { .. }, Some(k)) = (decision, committed) else { return };
        let Some(task) = self.state.tasks.get(&id).filter(|task| task.keyed.is_some()) else { return };
        let number = task.inputs.iter().position(|input| input.source == *source);
        let marks = number.and_then(|number| task.marks.get(number));
        if marks.is_some_and(|marks| **marks != *metadata::marks(k)) {
            let at = k.next_offset;
            self.set_published(id, source, |_| None);
            self.publish(id, source, (at, at), Vec::new(), rest);
        }
    }

    /// K = D: step 5 where there are stores, otherwise step 6. Until then what is left to publish goes on.
    fn go_on_if_published(&mut self, id: TaskId) -> Result<(), Fault> {
        let Some(task) = self.state.tasks.get(&id) else { return Ok(()) };
        if !task.is_caught_up() {
            let is_due = |input: &&Input| input.published >= Some(input.offered) && input.offered < input.next_offset;
            let due = task.inputs.iter().filter(is_due);
            let due: Vec<_> = due.map(|input| (input.source.clone(), (input.offered, input.next_offset))).collect();
            let mut rest = Rest::default();
            for (source, range) in due {
                self.offer(id, &source, range, &mut rest)?;
            }
            self.hand_over_rest(id, rest);
        } else if task.keyed.is_some() {
            self.go_on(id, Duration::ZERO, Phase::become_restoring);
        } else {
            self.start(id);
        }
        Ok(())
    }

    /// Step 6: everything is in place, so records may come.
    pub(crate) fn start(&mut self, id: TaskId) {
        if !self.go_on(id, Duration::ZERO, Phase::become_running) {
            return;
        }
        let Some(task) = self.state.tasks.get_mut(&id) else { return };
        task.waiting.end();
        task.delivery += 1;
        let delivery = task.delivery;
        let positions = task.inputs.iter().map(|input| (input.source.clone(), input.next_offset)).collect();
        let (assignment, took) = (task.assignment, self.clock.elapsed().saturating_sub(task.assigned_at));
        tracing::info!(task = ?id, took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "partition taken over");
        let _ = self.source.send(ToSource::Start { task: id, assignment, delivery, positions });
    }
}
