//! Does what the table of decisions says for each input of a task.

use crate::engine::outbound::outbox::{decided, decided_first, unannounced};
use crate::engine::outbound::publication::{Part, Through};
use crate::engine::outbound::size::Size;
use crate::engine::protocol::decision::Decision;
use crate::engine::protocol::order::Step;
use crate::engine::status::Counter;
use crate::engine::task::{Input, Task};
use crate::engine::worker::Stage;
use crate::engine::worker::restore::waited_for;
use crate::engine::worker::takeover::rest::{Rest, Sought, is_overtaken, leave_out_published, notices};
use crate::flow::record::{NextOffset, TopicPartition};
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::rows::{Claim, CommitAnswer, Counts, Move, OutboxRow, Position};
use crate::ports::source::TaskId;

impl Stage {
    /// Does what the table says for one source partition. False: somebody was faster, start again with the claim.
    pub(super) fn carry_out(
        &mut self,
        id: TaskId,
        source: &TopicPartition,
        decision: Decision,
        rest: &mut Rest,
    ) -> Result<bool, Fault> {
        match decision {
            Decision::Halt(_) => Ok(true), // handled before anything was carried out
            Decision::Go => {
                self.set_published(id, source, Some);
                Ok(true)
            }
            Decision::Replay { to } => {
                self.set_published(id, source, |_| Some(to));
                tracing::warn!(partition = %source, to = to.0, "an operator lets the rows catch up; nothing is announced up to there");
                Ok(true)
            }
            Decision::Resume { at } => {
                self.set_position(id, source, at, Some(at));
                Ok(true)
            }
            Decision::Begin { at } => {
                // K is committed before the first batch.
                self.set_position(id, source, at, None);
                self.publish(id, source, (at, at), Vec::new(), rest);
                Ok(true)
            }
            Decision::FirstStart { at } => self.first_start(id, source, at, rest),
            Decision::CommitPosition => {
                let d = self.position(id, source).map_or(NextOffset(0), |position| position.next_offset);
                self.set_published(id, source, |_| None);
                self.publish(id, source, (d, d), Vec::new(), rest);
                Ok(true)
            }
            Decision::Publish { from, to } => {
                if !self.replace_refused(id, source)? {
                    return Ok(false);
                }
                self.set_published(id, source, |_| Some(from));
                tracing::info!(partition = %source, from = from.0, to = to.0, "publishing what an earlier owner decided");
                self.offer(id, source, (from, to), rest)?;
                Ok(true)
            }
            Decision::LookUp { from, to } => {
                if !self.replace_refused(id, source)? {
                    return Ok(false);
                }
                self.set_published(id, source, |_| None);
                let rows = decided(&mut *self.rows, source, from, to)?;
                rest.sought.push((source.clone(), (from, to), rows));
                Ok(true)
            }
            Decision::SkipGap { from, to } => self.skip_gap(id, source, (from, to), rest),
        }
    }

    /// Puts the dead letters for what the relay saw refused in the places of those outbox rows, in a transaction of its own:
    /// whoever publishes from here on publishes these. May be done twice. False: somebody else has claimed the position.
    fn replace_refused(&mut self, id: TaskId, source: &TopicPartition) -> Result<bool, Fault> {
        let Some(position) = self.position(id, source) else { return Ok(true) };
        let all = self.state.tasks.get(&id).into_iter().flat_map(|task| &task.letters);
        let letters: Vec<OutboxRow> = all.filter(|letter| letter.source == *source).cloned().collect();
        if letters.is_empty() {
            return Ok(true);
        }
        let replaced = self.redirect(&position, source, &letters).inspect_err(|_| self.rows.rollback())?;
        if replaced && let Some(task) = self.state.tasks.get_mut(&id) {
            task.letters.retain(|letter| letter.source != *source);
        }
        Ok(replaced)
    }

    fn redirect(&mut self, position: &Position, source: &TopicPartition, letters: &[OutboxRow]) -> Result<bool, Fault> {
        let (at, epoch, published) = (position.next_offset, position.epoch, position.published);
        let moved = |counts| Move { source: source.clone(), epoch, from: at, to: at, published, counts };
        self.rows.begin()?;
        self.hook.after(Step::OpenDatabase)?;
        if self.rows.advance(&[moved(Counts::default())])? != [true] {
            self.rows.rollback();
            return Ok(false);
        }
        let changed = i64::try_from(self.rows.redirect(letters)?).unwrap_or(i64::MAX);
        let counts = Counts { announced: -changed, dead_letters: changed, ..Counts::default() };
        if self.rows.advance(&[moved(counts)])? != [true] {
            return Err(Fault::retry("a position changed under its lock"));
        }
        self.hook.after(Step::WriteOutbox)?;
        match self.rows.commit()? {
            CommitAnswer::Done => {}
            // A letter that is in its place already is left alone, and counts no more.
            CommitAnswer::Unknown => return Err(Fault::retry("the answer to a COMMIT was lost")),
        }
        self.hook.after(Step::CommitDatabase)?;
        self.status.count(Counts { dead_letters: changed, ..Counts::default() });
        Ok(true)
    }

    /// Notes for the relay what was decided of one input, and how far that goes: about one transaction's worth. The next is
    /// offered when that is published. Of a task with stores it is all at once, because its changelog records take turns over
    /// all inputs.
    pub(super) fn offer(
        &mut self,
        id: TaskId,
        source: &TopicPartition,
        (from, to): (NextOffset, NextOffset),
        rest: &mut Rest,
    ) -> Result<(), Fault> {
        let (rows, to) = if self.state.tasks.get(&id).is_some_and(|task| task.sub_topology.is_stateful()) {
            (decided(&mut *self.rows, source, from, to)?, to)
        } else {
            let (messages, bytes) = (self.settings.transaction_rows, self.settings.transaction_bytes);
            let room = self.outstanding.room(Size { messages, bytes });
            decided_first(&mut *self.rows, self.topology.name(), source, (from, to), room)?
        };
        rest.offered.push((source.clone(), to));
        self.publish(id, source, (from, to), rows, rest);
        Ok(())
    }

    pub(super) fn hand_over_rest(&mut self, id: TaskId, mut rest: Rest) {
        for (source, to) in std::mem::take(&mut rest.offered) {
            let inputs = self.state.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
            inputs.filter(|input| input.source == source).for_each(|input| input.offered = to);
        }
        if !rest.parts.is_empty() {
            self.hand_over(rest.into_publication());
        }
    }

    pub(super) fn set_published(
        &mut self,
        id: TaskId,
        source: &TopicPartition,
        k: impl Fn(NextOffset) -> Option<NextOffset>,
    ) {
        let now = self.clock.elapsed();
        let inputs = self.state.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
        for input in inputs.filter(|input| input.source == *source) {
            input.published = k(input.next_offset);
            input.published_at = now;
        }
    }

    fn set_position(&mut self, id: TaskId, source: &TopicPartition, d: NextOffset, k: Option<NextOffset>) {
        let inputs = self.state.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
        for input in inputs.filter(|input| input.source == *source) {
            input.go_on_at(d);
        }
        self.set_published(id, source, |_| k);
    }

    /// Notes what is to be published of one input, from K to the new K.
    pub(super) fn publish(
        &self,
        id: TaskId,
        source: &TopicPartition,
        (from, to): (NextOffset, NextOffset),
        rows: Vec<OutboxRow>,
        rest: &mut Rest,
    ) {
        let Some(task) = self.state.tasks.get(&id) else { return };
        let epoch = self.position(id, source).map_or(1, |position| position.epoch);
        let through = match task.commit() {
            CommitKind::Rows => Through::Database { epoch },
            CommitKind::Log => Through::Log,
        };
        self.status.add(Counter::RecoveredRows, rows.len() as u64);
        let number = task.inputs.iter().position(|input| input.source == *source).unwrap_or(0);
        let (assignment, marks) = (task.assignment, task.marks.get(number).cloned());
        rest.add(Part { task: id, assignment, source: source.clone(), through, from, to, marks, batch: 0 }, rows);
    }

    fn first_start(
        &mut self,
        id: TaskId,
        source: &TopicPartition,
        at: NextOffset,
        rest: &mut Rest,
    ) -> Result<bool, Fault> {
        let Some(task) = self.state.tasks.get(&id) else { return Ok(true) };
        let Some(membership) = self.assignments.membership(id, task.assignment) else { return Ok(false) };
        let log_ids = self.log_ids(&source.topic)?;
        let partition_count = self.group.partition_count(&source.topic, self.settings.ask_wait)?.unwrap_or(0);
        let (generation, owner) = (membership.generation(), self.owner.clone());
        let (source_again, log_ids_again) = (source.clone(), log_ids.clone());
        let claim =
            Claim { source: source_again, generation, adopts: None, owner, log_ids: log_ids_again, partition_count };
        if !self.rows.create(&claim, at)? {
            return Ok(false);
        }
        let group = self.topology.name().to_owned();
        let position =
            Position { epoch: 1, next_offset: at, published: at, incarnation: 0, group, log_ids, partition_count };
        let inputs = self.state.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
        for input in inputs.filter(|input| input.source == *source) {
            input.go_on_at(at);
            input.published = None; // K is committed before the first batch
            input.position = Some(position.clone());
        }
        self.publish(id, source, (at, at), Vec::new(), rest);
        Ok(true)
    }

    /// Notes of the inputs whose committed offsets had expired what their topics lack, by id: one reading of the topics for
    /// all of them.
    pub(super) fn look_up(&self, id: TaskId, rest: &mut Rest) -> Result<(), Fault> {
        let mut sought = std::mem::take(&mut rest.sought);
        let rows: Vec<OutboxRow> = sought.iter_mut().flat_map(|(_, _, rows)| rows.drain(..)).collect();
        if sought.is_empty() {
            return Ok(());
        }
        let Some(open) = &self.history else {
            return Err(Fault::retry("the topics cannot be searched for what was already published"));
        };
        let asked = notices(&rows);
        let found = open().and_then(|mut history| unannounced(self.topology.name(), rows, &mut *history));
        let mut missing = found.map_err(waited_for)?;
        leave_out_published(&mut missing, asked);
        let reached = self.reached(id, &sought);
        for (source, range, _) in sought {
            let (mut own, others): (Vec<_>, Vec<_>) = missing.into_iter().partition(|row| row.source == source);
            missing = others;
            let others: i64 = reached.iter().filter(|(other, _)| *other != source).map(|(_, at)| at.0).sum();
            own.retain(|row| !is_overtaken(row, others));
            tracing::warn!(partition = %source, rows = own.len(), "the committed offset had expired; publishing what its topics lack");
            self.publish(id, &source, range, own, rest);
        }
        Ok(())
    }

    /// How far each input of the task is published at least: K, and P where K is gone.
    fn reached(&self, id: TaskId, sought: &[Sought]) -> Vec<(TopicPartition, NextOffset)> {
        let inputs = self.state.tasks.get(&id).into_iter().flat_map(|task| &task.inputs);
        let at = |input: &Input| {
            let from = sought.iter().find(|(source, ..)| *source == input.source).map(|(_, (from, _), _)| *from);
            let noted = || input.position.as_ref().map(|position| position.published);
            from.or(input.published).or_else(noted).unwrap_or(NextOffset(0))
        };
        inputs.map(|input| (input.source.clone(), at(input))).collect()
    }

    /// Inputs were deleted before they were read, and the settings say to go on: counted and logged, never silent. What was
    /// decided before the gap and is not published yet, from K on, is.
    fn skip_gap(
        &mut self,
        id: TaskId,
        source: &TopicPartition,
        (k, to): (Option<NextOffset>, NextOffset),
        rest: &mut Rest,
    ) -> Result<bool, Fault> {
        match self.state.tasks.get(&id).map(Task::commit) {
            None => Ok(true),
            Some(CommitKind::Log) => {
                tracing::error!(partition = %source, to = to.0, "inputs were deleted before they were read; skipped by pipeline.on_data_loss");
                self.set_position(id, source, to, None);
                self.publish(id, source, (to, to), Vec::new(), rest);
                Ok(true)
            }
            Some(CommitKind::Rows) => self.skip_gap_of_rows(id, source, (k, to), rest),
        }
    }

    fn skip_gap_of_rows(
        &mut self,
        id: TaskId,
        source: &TopicPartition,
        (k, to): (Option<NextOffset>, NextOffset),
        rest: &mut Rest,
    ) -> Result<bool, Fault> {
        if !self.replace_refused(id, source)? {
            return Ok(false);
        }
        let Some(position) = self.position(id, source) else { return Ok(false) };
        let (from, epoch) = (position.next_offset, position.epoch);
        let published = k.unwrap_or(position.published);
        let rows = decided(&mut *self.rows, source, published, from)?;
        tracing::error!(partition = %source, from = from.0, to = to.0, "inputs were deleted before they were read; skipped by pipeline.on_data_loss");
        self.rows.begin()?;
        let moved = Move { source: source.clone(), epoch, from, to, published, counts: Counts::default() };
        let matched = self.rows.advance(std::slice::from_ref(&moved))?;
        if matched != [true] {
            self.rows.rollback();
            return Ok(false);
        }
        if self.rows.commit()? == CommitAnswer::Unknown {
            return Ok(false); // the next claim reads what became of it
        }
        let inputs = self.state.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
        for input in inputs.filter(|input| input.source == *source) {
            input.go_on_at(to);
            input.published = k;
        }
        if k.is_some() {
            self.publish(id, source, (published, to), rows, rest);
        } else {
            rest.sought.push((source.clone(), (published, to), rows));
        }
        Ok(true)
    }
}
