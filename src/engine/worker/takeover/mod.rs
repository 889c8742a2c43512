//! Takes a partition over (docs/protocol.md#takeover): claim, read K after the claim, decide by the table, publish the
//! rest, go on at D.
//!
//! Each step may be repeated by this owner or the next: the claim only raises the epoch, K is only read, and what is
//! published again carries the same ids below the same K. Steps that must wait (a dead predecessor's transaction keeps K
//! pending until its timeout) wait a little and leave the worker to its other tasks in between.

use crate::engine::mailbox::{ToRelay, ToSource};
use crate::engine::protocol::decision::{Decision, Facts, HaltReason, LogFacts, decide, decide_log};
use crate::engine::protocol::halt::Contradiction;
use crate::engine::protocol::metadata;
use crate::engine::protocol::order::Step;
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::task::{Input, State, Task};
use crate::engine::worker::Stage;
use crate::engine::worker::restore::waited_for;
use crate::engine::worker::takeover::rest::Rest;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::guard::{self, Guard};
use crate::ports::rows::{Claim, Claimed, Position};
use crate::ports::source::{Committed, LogIds, TaskId};
use std::time::Duration;

mod carry_out;
mod rest;
pub(crate) mod traces;

/// The pause before a step that was refused is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// How much longer than a question that was waited for in vain (a pending K, a locked position) took the worker's other tasks
/// have before the next such question.
const REST: u32 = 3;
/// ... and at most so much longer: a question whose answer was lost took seconds, and says nothing of the next one.
const REST_MAX: Duration = Duration::from_secs(2);
/// How long a stale task waits for its revoke before it asks the group again whether it is still a member: a proof may
/// also be refused because a rebalance was under way that left the partition here.
const STALE: Duration = Duration::from_millis(500);

impl Stage {
    /// Moves every task that is being taken over by one step, where its time has come. True when one moved.
    pub(crate) fn take_over(&mut self) -> Result<bool, Fault> {
        let (now, is_free) = (self.clock.elapsed(), self.is_database_free());
        let due: Vec<(TaskId, State)> = self
            .state
            .tasks
            .values()
            .filter(|task| is_free || !task.has_rows())
            .filter(|task| task.state == State::Publishing || (task.state.is_timed() && task.not_before <= now))
            .map(|task| (task.id, task.state))
            .collect();
        let mut has_moved = false;
        for (id, state) in due {
            let due_at = self.state.tasks.get(&id).filter(|_| state.is_timed()).map(|task| task.not_before);
            if due_at.is_some_and(|at| at > self.clock.elapsed()) {
                continue; // put off by what another one met
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
                Ok(()) => has_moved |= self.state.tasks.get(&id).is_some_and(|task| task.state != state),
                Err(fault @ Fault::Fatal(_)) => return Err(fault),
                Err(fault @ Fault::Corrupt(_)) => self.contradicted(id, state, &fault)?,
                Err(fault) => {
                    self.in_vain(id, &fault);
                    let pause = rest_after(self.clock.elapsed().saturating_sub(asked_at));
                    self.go_on(id, state, pause);
                    if fault.is_lock_wait() {
                        self.rest(state, pause);
                    }
                }
            }
        }
        Ok(has_moved)
    }

    /// Lets all that wait in vain in `state` wait for so long: together they have one part of the worker's time.
    fn rest(&mut self, state: State, pause: Duration) {
        let until = self.clock.elapsed() + pause;
        let waits = |task: &&mut Task| task.state == state && task.waiting.has_begun();
        for task in self.state.tasks.values_mut().filter(waits) {
            task.not_before = until;
        }
    }

    /// Notes that a step of the task could not be taken, and says so when that has lasted.
    pub(crate) fn in_vain(&mut self, id: TaskId, fault: &Fault) {
        let now = self.clock.elapsed();
        let Some(task) = self.state.tasks.get_mut(&id) else { return };
        tracing::debug!(task = ?id, state = task.state.label(), error = %fault, "a takeover step is tried again");
        if !task.patience.has_begun() {
            task.waiting.step_in_vain(now, id, task.state.label(), fault);
        }
    }

    /// What was read in `state` cannot be true: halts with the reason that names whose it is.
    fn contradicted(&mut self, id: TaskId, state: State, fault: &Fault) -> Result<(), Fault> {
        let reason = match state {
            // The start of a table topic has passed its reader: the bounds decide, as for any other input.
            State::CatchingUp => return self.out_of_range(id, &fault.to_string()),
            State::Restoring => HaltReason::StoreUnreadable,
            _ => HaltReason::SchemaChanged,
        };
        if let Some(halt) = self.halt_of(id, 0, reason, fault.to_string()) {
            self.halt(id, halt);
        }
        Ok(())
    }

    /// There is nothing to do for the task yet: the log may have an open transaction where it reads.
    pub(crate) fn wait_a_little(&mut self, id: TaskId, pause: Duration) {
        let not_before = self.clock.elapsed() + pause;
        if let Some(task) = self.state.tasks.get_mut(&id) {
            task.not_before = not_before;
        }
    }

    pub(crate) fn go_on(&mut self, id: TaskId, state: State, pause: Duration) {
        let not_before = self.clock.elapsed() + pause;
        if let Some(task) = self.state.tasks.get_mut(&id) {
            task.state = state;
            task.not_before = not_before;
        }
        self.show(id);
    }

    fn sources(&self, id: TaskId) -> Vec<TopicPartition> {
        self.state.tasks.get(&id).into_iter().flat_map(|task| &task.inputs).map(|input| input.source.clone()).collect()
    }

    /// Before step 1: what the sources are, and the stores, which are opened but not read yet.
    fn enter(&mut self, id: TaskId) -> Result<(), Fault> {
        let sources = self.sources(id);
        let has_rows = self.state.tasks.get(&id).is_some_and(Task::has_rows);
        let mut counts = Vec::with_capacity(sources.len());
        for source in &sources {
            let count = self.group.partition_count(&source.topic, self.settings.ask_wait)?;
            counts.push(count.ok_or_else(|| Fault::retry(format!("topic {}: is gone", source.topic)))?);
        }
        let Some(task) = self.state.tasks.get_mut(&id) else { return Ok(()) };
        task.counts = counts;
        if let Some((number, message)) = miscounted(task) {
            if let Some(halt) = self.halt_of(id, number, HaltReason::PartitionCountChanged, message) {
                self.halt(id, halt);
            }
            return Ok(());
        }
        if !self.keep_state(id)? {
            return Ok(());
        }
        if has_rows && !guard::is_off(Guard::ClaimFirst) {
            return self.claim(id);
        }
        let task = self.state.tasks.get(&id);
        let is_ours = task.is_some_and(|task| self.assignments.membership(id, task.assignment).is_some());
        if is_ours {
            self.go_on(id, State::ReadingCommitted, Duration::ZERO);
        } else {
            self.wait_for_revoke(id, &moved());
        }
        Ok(())
    }

    /// Somebody else has the task: the revoke is on its way. Where it is not, the group confirms that we are a member.
    fn wait_for_revoke(&mut self, id: TaskId, fault: &Fault) {
        if self.state.tasks.get(&id).is_some_and(|task| !task.waiting.has_begun()) {
            tracing::info!(task = ?id, error = %fault, "waiting for the revoke");
        }
        self.in_vain(id, fault);
        self.go_on(id, State::Stale, STALE);
    }

    /// Step 1: raises the epochs. A plain read of the epoch would fence nobody.
    fn claim(&mut self, id: TaskId) -> Result<(), Fault> {
        let Some(task) = self.state.tasks.get(&id) else { return Ok(()) };
        let Some(membership) = self.assignments.membership(id, task.assignment) else {
            self.wait_for_revoke(id, &moved());
            return Ok(());
        };
        let mut claims = Vec::new();
        for source in self.sources(id) {
            let log_ids = self.log_ids(&source.topic)?;
            let count = self.group.partition_count(&source.topic, self.settings.ask_wait)?;
            let partition_count = count.ok_or_else(|| Fault::retry(format!("topic {}: is gone", source.topic)))?;
            let (generation, owner) = (membership.generation(), self.owner.clone());
            claims.push(Claim { source, generation, adopts: None, owner, log_ids, partition_count });
        }
        failpoint!(K14);
        let mut claimed = self.rows.claim(&claims)?;
        if self.state.tasks.get_mut(&id).is_some_and(|task| std::mem::take(&mut task.is_proved))
            && adopt(&mut claims, &claimed)
        {
            claimed = self.rows.claim(&claims)?;
        }
        let mut stale = None;
        if let Some(task) = self.state.tasks.get_mut(&id) {
            for (input, claimed) in task.inputs.iter_mut().zip(claimed) {
                match claimed {
                    Claimed::Owned(position) => {
                        input.next_offset = position.next_offset;
                        input.published = Some(position.published);
                        input.position = Some(position);
                    }
                    Claimed::Absent => input.position = None,
                    Claimed::Stale { generation } => stale = Some((input.source.clone(), generation)),
                }
            }
        }
        self.hook.after(Step::Claim)?;
        if let Some((source, generation)) = stale {
            let ours = membership.generation();
            self.wait_for_revoke(
                id,
                &Fault::fenced(format!("{source} is claimed by generation {generation}, ours is {ours}")),
            );
        } else {
            self.go_on(id, State::ReadingCommitted, Duration::ZERO);
        }
        Ok(())
    }

    pub(crate) fn log_ids(&mut self, topic: &TopicName) -> Result<LogIds, Fault> {
        let now = self.clock.elapsed();
        if let Some((at, ids)) = self.state.log_ids.get(topic)
            && now.saturating_sub(*at) < Duration::from_secs(1)
        {
            return Ok(ids.clone());
        }
        let ids = self.group.log_ids(topic, 4 * self.settings.ask_wait).map_err(waited_for)?;
        self.state.log_ids.insert(topic.clone(), (now, ids.clone()));
        Ok(ids)
    }

    /// Steps 2 to 4: K, stable and after the claim; the table; what is left to publish.
    fn read_and_decide(&mut self, id: TaskId) -> Result<(), Fault> {
        let sources = self.sources(id);
        let Some(committed) = self.read_committed(id, &sources)? else { return Ok(()) };
        if guard::is_off(Guard::ClaimFirst) && self.state.tasks.get(&id).is_some_and(Task::has_rows) {
            self.claim(id)?;
            if self.state.tasks.get(&id).is_none_or(|task| task.state != State::ReadingCommitted) {
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
                self.go_on(id, State::Claiming, Duration::ZERO);
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
                self.go_on(id, State::Claiming, AGAIN);
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
        self.go_on(id, State::Publishing, Duration::ZERO);
        Ok(())
    }

    /// K of all inputs; `None` where it is pending. The tasks that wait for theirs share one part of the worker's time, so that
    /// the others have the rest, however many wait and for how long; and are asked for at once when one of them is there.
    fn read_committed(
        &mut self,
        id: TaskId,
        sources: &[TopicPartition],
    ) -> Result<Option<Vec<Option<Committed>>>, Fault> {
        let asked_at = self.clock.elapsed();
        let committed = self.group.committed(sources, self.settings.ask_wait);
        let now = self.clock.elapsed();
        let Some(task) = self.state.tasks.get_mut(&id) else { return Ok(None) };
        let (has_waited, next) = match &committed {
            Ok(_) => (task.patience.has_begun(), now),
            Err(Fault::Retry(_)) => (true, now + AGAIN.max(REST * now.saturating_sub(asked_at))),
            Err(_) => (false, now),
        };
        match &committed {
            Ok(_) => task.patience.end(),
            Err(fault) => {
                task.patience.in_vain(now, sources, fault);
                task.not_before = next;
                tracing::debug!(task = ?id, error = %fault, "the committed offset is asked for again");
                if let Some(fencer) = self.fencer.as_ref().filter(|_| task.patience.is_at_an_end(now)) {
                    fencer.fence_dead();
                }
            }
        }
        let waits = |task: &&mut Task| task.state == State::ReadingCommitted && task.patience.has_begun();
        for other in self.state.tasks.values_mut().filter(waits).filter(|_| has_waited) {
            other.not_before = next;
        }
        match committed {
            Ok(committed) => Ok(Some(committed.into_iter().map(metadata::known).collect())),
            Err(Fault::Retry(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whether D, claimed anew, and K still contradict each other as before. A step without rows has no D.
    fn is_seen_twice(&mut self, id: TaskId, found: Contradiction) -> bool {
        let Some(task) = self.state.tasks.get_mut(&id) else { return false };
        let is_same = task.suspected.as_ref() == Some(&found);
        task.suspected = Some(found);
        is_same || !task.has_rows()
    }

    /// The offset that a halt is about, where it is neither D nor K.
    fn blamed(&self, id: TaskId, source: &TopicPartition, reason: HaltReason) -> Result<Option<NextOffset>, Fault> {
        match reason {
            // Beyond the end the stores remember another topic of that name.
            HaltReason::OffsetsLost | HaltReason::GroupReset | HaltReason::GroupWentBack => {
                let end = self.group.bounds(source, self.settings.ask_wait)?.end;
                Ok(self.seen(id, source)?.filter(|at| *at <= end))
            }
            HaltReason::InputsTruncated => Ok(Some(self.group.bounds(source, self.settings.ask_wait)?.end)),
            _ => Ok(None),
        }
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

    /// How far an input is known to have been committed: its stores were made of so much, or this process has published it.
    fn seen(&self, id: TaskId, source: &TopicPartition) -> Result<Option<NextOffset>, Fault> {
        let inputs = self.state.tasks.get(&id).into_iter().flat_map(|task| &task.inputs);
        let published = inputs.filter(|input| input.source == *source).filter_map(|input| input.published);
        Ok(self.remembered(id, source)?.max(published.filter(|at| at.0 > 0).max()))
    }

    fn position(&self, id: TaskId, source: &TopicPartition) -> Option<Position> {
        self.state.tasks.get(&id)?.inputs.iter().find(|input| input.source == *source)?.position.clone()
    }

    fn decide(
        &mut self,
        id: TaskId,
        index: usize,
        source: &TopicPartition,
        all: &[Option<Committed>],
    ) -> Result<Decision, Fault> {
        let committed = all.get(index).and_then(Option::as_ref);
        let was_read = committed.is_none() && self.was_read(id, source, all)?;
        let start = self.start_policy(id, index, committed)?;
        let bounds = self.group.bounds(source, self.settings.ask_wait)?;
        let log_ids = self.log_ids(&source.topic)?;
        if self.state.tasks.get(&id).is_some_and(|task| !task.has_rows()) {
            return Ok(decide_log(&LogFacts {
                pipeline: self.topology.name(),
                committed,
                bounds,
                topic_id: &log_ids.topic_id,
                remembered: self.seen(id, source)?,
                was_read,
                is_stateful: self.state.tasks.get(&id).is_some_and(|task| task.keyed.is_some()),
                start,
                on_data_loss: self.settings.on_data_loss,
            }));
        }
        let position = self.state.tasks.get(&id).and_then(|task| task.inputs.get(index)?.position.clone());
        let has_outbox_from_published = match (&position, committed) {
            (Some(position), None) => {
                !self.rows.outbox(source, position.published, position.next_offset, 1)?.is_empty()
            }
            _ => false,
        };
        Ok(decide(&Facts {
            pipeline: self.topology.name(),
            position: position.as_ref(),
            committed,
            bounds,
            log_ids: &log_ids,
            has_outbox_from_published,
            remembered: self.remembered(id, source)?,
            was_read,
            start,
            on_data_loss: self.settings.on_data_loss,
        }))
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
            self.go_on(id, State::Restoring, Duration::ZERO);
        } else {
            self.start(id);
        }
        Ok(())
    }

    /// Step 6: everything is in place, so records may come.
    pub(crate) fn start(&mut self, id: TaskId) {
        let Some(task) = self.state.tasks.get_mut(&id) else { return };
        task.waiting.end();
        task.delivery += 1;
        let delivery = task.delivery;
        let positions = task.inputs.iter().map(|input| (input.source.clone(), input.next_offset)).collect();
        let (assignment, took) = (task.assignment, self.clock.elapsed().saturating_sub(task.assigned_at));
        tracing::info!(task = ?id, took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "partition taken over");
        self.go_on(id, State::Running, Duration::ZERO);
        let _ = self.source.send(ToSource::Start { task: id, assignment, delivery, positions });
    }

    /// The relay holds nothing of the task any more: the takeover begins anew, at once or when what it would publish is due.
    pub(crate) fn prove_in_time(&mut self, id: TaskId) {
        let until = self.state.tasks.get(&id).map_or(Duration::ZERO, |task| task.put_off_until);
        match until.checked_sub(self.clock.elapsed()).filter(|pause| !pause.is_zero()) {
            Some(pause) => self.go_on(id, State::PutOff, pause),
            None => self.prove(id),
        }
    }

    /// The group still gives us the partition although the database fenced us: a round trip proves membership, by
    /// writing K unchanged. Refused means that we are stale.
    pub(crate) fn prove(&mut self, id: TaskId) {
        if guard::is_off(Guard::Reclaim) {
            self.go_on(id, State::Stale, STALE);
            return;
        }
        let Some(assignment) = self.state.tasks.get(&id).map(|task| task.assignment) else { return };
        let sources = self.sources(id);
        self.go_on(id, State::Proving, Duration::ZERO);
        let _ = self.relay.send(ToRelay::Prove { task: id, assignment, sources });
    }

    /// The group has answered.
    pub(crate) fn proved(&mut self, id: TaskId, assignment: AssignmentId, outcome: Result<(), Fault>) {
        let is_asked = |task: &&mut Task| task.assignment == assignment && task.state == State::Proving;
        let Some(task) = self.state.tasks.get_mut(&id).filter(is_asked) else { return };
        task.is_proved = outcome.is_ok();
        match outcome {
            Ok(()) => self.go_on(id, State::Claiming, Duration::ZERO),
            Err(fault @ Fault::Fenced(_)) => self.wait_for_revoke(id, &fault),
            Err(fault) => {
                self.in_vain(id, &fault);
                self.go_on(id, State::Stale, AGAIN);
            }
        }
    }
}

fn moved() -> Fault {
    Fault::fenced("the partition has moved")
}

/// How long a step waits that took so long in vain.
fn rest_after(took: Duration) -> Duration {
    (REST * took).clamp(AGAIN, REST_MAX)
}

/// Lets the claims that a later generation refused be made over it. False where there is none: nothing is to be claimed anew.
///
/// The group has confirmed our generation after the later one was found, so it counts anew. Each is named, so that a claim
/// that comes late is refused by whoever has claimed since.
fn adopt(claims: &mut [Claim], claimed: &[Claimed]) -> bool {
    let mut is_any = false;
    for (claim, claimed) in claims.iter_mut().zip(claimed) {
        if let Claimed::Stale { generation } = claimed {
            tracing::warn!(partition = %claim.source, found = generation, ours = claim.generation, "the group counts its generations anew; claiming over the last one");
            claim.adopts = Some(*generation);
            is_any = true;
        }
    }
    is_any
}

/// The input whose topic has another partition count than the task rests on, with both counts: that of its declaration, or
/// where keys of several topics must meet in a store, that of the lead topic.
fn miscounted(task: &Task) -> Option<(usize, String)> {
    let sub = &task.sub_topology;
    let lead = task.counts.first().copied().unwrap_or(0);
    sub.sources().zip(&task.counts).enumerate().find_map(|(number, (topic, count))| {
        let declared = sub.declarations().find(|(declared, _)| *declared == topic).map(|(_, found)| found.count());
        if let Some(declared) = declared.filter(|declared| declared != count) {
            return Some((number, format!("{topic} is declared with {declared} partitions and has {count}")));
        }
        let is_apart = sub.is_stateful() && *count != lead;
        let lead_name = &sub.lead;
        is_apart.then(|| {
            (number, format!("{lead_name} has {lead} partitions and {topic}, which is read with it, {count}: equal keys do not meet"))
        })
    })
}
