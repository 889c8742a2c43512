//! The execution of the decisions of a takeover, for each input of a task.

use crate::engine::outbound::outbox::{decided, decided_first, unpublished};
use crate::engine::outbound::publication::{Part, Through};
use crate::engine::outbound::size::Size;
use crate::engine::protocol::decision::Decision;
use crate::engine::protocol::order::Step;
use crate::engine::status::Counter;
use crate::engine::task::{Input, Task};
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::ids::waited_for;
use crate::engine::worker::takeover::lane::Takeovers;
use crate::engine::worker::takeover::remainder::{LookUp, Remainder, leave_out_published, notices};
use crate::flow::record::{NextOffset, TopicPartition};
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::rows::{Claim, CommitAnswer, Counts, Move, OutboxRow, Position};
use crate::ports::source::TaskId;

impl Takeovers {
    /// Carries out the decision for one source partition. False: another instance was faster, start again with the
    /// claim.
    pub(super) fn carry_out(
        &mut self,
        desk: &mut Desk,
        db: &mut Database,
        id: TaskId,
        source: &TopicPartition,
        decision: Decision,
        remainder: &mut Remainder,
    ) -> Result<bool, Fault> {
        match decision {
            Decision::Halt(_) => Ok(true), // handled before anything was carried out
            Decision::Go => {
                set_published(desk, id, source, Some);
                Ok(true)
            }
            Decision::Replay { to } => {
                set_published(desk, id, source, |_| Some(to));
                tracing::warn!(partition = %source, to = to.0, "an operator lets the rows catch up; nothing is published up to this offset");
                Ok(true)
            }
            Decision::Resume { at } => {
                set_position(desk, id, source, at, Some(at));
                Ok(true)
            }
            Decision::Begin { at } => {
                // K is committed before the first batch.
                set_position(desk, id, source, at, None);
                publish(desk, id, source, (at, at), Vec::new(), remainder);
                Ok(true)
            }
            Decision::FirstStart { at } => self.first_start(desk, db, id, source, at, remainder),
            Decision::CommitPosition => {
                let d = desk.position(id, source).map_or(NextOffset(0), |position| position.next_offset);
                set_published(desk, id, source, |_| None);
                publish(desk, id, source, (d, d), Vec::new(), remainder);
                Ok(true)
            }
            Decision::Publish { from, to } => {
                if !replace_refused(desk, db, id, source)? {
                    return Ok(false);
                }
                set_published(desk, id, source, |_| Some(from));
                tracing::info!(partition = %source, from = from.0, to = to.0, "publishing the messages that an earlier owner decided");
                offer(desk, db, id, source, (from, to), remainder)?;
                Ok(true)
            }
            Decision::LookUp { from, to } => {
                if !replace_refused(desk, db, id, source)? {
                    return Ok(false);
                }
                set_published(desk, id, source, |_| None);
                let rows = decided(&mut *db.rows, source, from, to)?;
                remainder.look_ups.push((source.clone(), (from, to), rows));
                Ok(true)
            }
            Decision::SkipGap { from, to } => skip_gap(desk, db, id, source, (from, to), remainder),
        }
    }

    fn first_start(
        &mut self,
        desk: &mut Desk,
        db: &mut Database,
        id: TaskId,
        source: &TopicPartition,
        at: NextOffset,
        remainder: &mut Remainder,
    ) -> Result<bool, Fault> {
        let Some(task) = desk.tasks.get(&id) else { return Ok(true) };
        let Some(membership) = desk.wiring.assignments.membership(id, task.assignment) else { return Ok(false) };
        let log_ids = self.ids.of(&desk.wiring, &source.topic)?;
        let partition_count =
            desk.wiring.group.partition_count(&source.topic, desk.wiring.settings.ask_wait)?.unwrap_or(0);
        let (generation, owner) = (membership.generation(), desk.wiring.owner.clone());
        let (source_again, log_ids_again) = (source.clone(), log_ids.clone());
        let claim =
            Claim { source: source_again, generation, adopts: None, owner, log_ids: log_ids_again, partition_count };
        if !db.rows.create(&claim, at)? {
            return Ok(false);
        }
        let group = desk.wiring.topology.name().to_owned();
        let position =
            Position { epoch: 1, next_offset: at, published: at, incarnation: 0, group, log_ids, partition_count };
        let inputs = desk.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
        for input in inputs.filter(|input| input.source == *source) {
            input.go_on_at(at);
            input.published = None; // K is committed before the first batch
            input.position = Some(position.clone());
        }
        publish(desk, id, source, (at, at), Vec::new(), remainder);
        Ok(true)
    }
}

fn redirect(
    desk: &mut Desk,
    db: &mut Database,
    position: &Position,
    source: &TopicPartition,
    dead_letters: &[OutboxRow],
) -> Result<bool, Fault> {
    let (at, epoch, published) = (position.next_offset, position.epoch, position.published);
    let moved = |counts| Move { source: source.clone(), epoch, from: at, to: at, published, counts };
    db.rows.begin()?;
    desk.wiring.hook.after(Step::OpenDatabase)?;
    if db.rows.advance(&[moved(Counts::default())])? != [true] {
        db.rows.rollback();
        return Ok(false);
    }
    let changed = i64::try_from(db.rows.redirect(dead_letters)?).unwrap_or(i64::MAX);
    let counts = Counts { announced: -changed, dead_letters: changed, ..Counts::default() };
    if db.rows.advance(&[moved(counts)])? != [true] {
        return Err(Fault::retry("a position changed under its lock"));
    }
    desk.wiring.hook.after(Step::WriteOutbox)?;
    match db.rows.commit()? {
        CommitAnswer::Done => {}
        // A dead letter that is in its place already is left alone, and is not counted again.
        CommitAnswer::Unknown => return Err(Fault::retry("the answer to a COMMIT was lost")),
    }
    desk.wiring.hook.after(Step::CommitDatabase)?;
    desk.wiring.status.count(Counts { dead_letters: changed, ..Counts::default() });
    Ok(true)
}

pub(super) fn hand_over_remainder(desk: &mut Desk, id: TaskId, mut remainder: Remainder) {
    for (source, to) in std::mem::take(&mut remainder.offered) {
        let inputs = desk.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
        inputs.filter(|input| input.source == source).for_each(|input| input.offered = to);
    }
    if !remainder.parts.is_empty() {
        desk.wiring.hand_over(remainder.into_publication());
    }
}

pub(super) fn set_published(
    desk: &mut Desk,
    id: TaskId,
    source: &TopicPartition,
    k: impl Fn(NextOffset) -> Option<NextOffset>,
) {
    let now = desk.wiring.clock.elapsed();
    let inputs = desk.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
    for input in inputs.filter(|input| input.source == *source) {
        input.published = k(input.next_offset);
        input.published_at = now;
    }
}

/// Notes the messages to publish of one input, from K to the new K.
pub(super) fn publish(
    desk: &Desk,
    id: TaskId,
    source: &TopicPartition,
    (from, to): (NextOffset, NextOffset),
    rows: Vec<OutboxRow>,
    remainder: &mut Remainder,
) {
    let Some(task) = desk.tasks.get(&id) else { return };
    let epoch = desk.position(id, source).map_or(1, |position| position.epoch);
    let through = match task.commit() {
        CommitKind::Rows => Through::Database { epoch },
        CommitKind::Log => Through::Log,
    };
    desk.wiring.status.add(Counter::RecoveredRows, rows.len() as u64);
    let number = task.inputs.iter().position(|input| input.source == *source).unwrap_or(0);
    let (assignment, marks) = (task.assignment, task.marks.get(number).cloned());
    remainder.add(Part { task: id, assignment, source: source.clone(), through, from, to, marks, batch: 0 }, rows);
}

/// The offset up to which each input of the task is published at least: K, also where it is written again (`kept`), and P where K
/// is gone.
fn reached(
    desk: &Desk,
    id: TaskId,
    look_ups: &[LookUp],
    kept: &[(TopicPartition, NextOffset)],
) -> Vec<(TopicPartition, NextOffset)> {
    let inputs = desk.tasks.get(&id).into_iter().flat_map(|task| &task.inputs);
    let at = |input: &Input| {
        let from = look_ups.iter().find(|(source, ..)| *source == input.source).map(|(_, (from, _), _)| *from);
        let noted = || input.position.as_ref().map(|position| position.published);
        let written = || kept.iter().find(|(source, _)| *source == input.source).map(|(_, k)| *k);
        from.or(input.published).or_else(written).or_else(noted).unwrap_or(NextOffset(0))
    };
    inputs.map(|input| (input.source.clone(), at(input))).collect()
}

/// Puts dead letters in the places of the outbox rows that the relay found refused, in a transaction of its own: every
/// later owner publishes the dead letters. May be done twice. False: another instance has claimed the position.
fn replace_refused(desk: &mut Desk, db: &mut Database, id: TaskId, source: &TopicPartition) -> Result<bool, Fault> {
    let Some(position) = desk.position(id, source) else { return Ok(true) };
    let all = desk.tasks.get(&id).into_iter().flat_map(|task| &task.dead_letters);
    let dead_letters: Vec<OutboxRow> = all.filter(|dead_letter| dead_letter.source == *source).cloned().collect();
    if dead_letters.is_empty() {
        return Ok(true);
    }
    let replaced = redirect(desk, db, &position, source, &dead_letters).inspect_err(|_| db.rows.rollback())?;
    if replaced && let Some(task) = desk.tasks.get_mut(&id) {
        task.dead_letters.retain(|dead_letter| dead_letter.source != *source);
    }
    Ok(replaced)
}

/// Notes the decided messages of one input for the relay, about as many as one transaction holds, and how far they go.
/// The next ones are offered when those are published. A task with stores offers all at once, because the sequence of
/// its changelog records runs over all inputs.
pub(super) fn offer(
    desk: &mut Desk,
    db: &mut Database,
    id: TaskId,
    source: &TopicPartition,
    (from, to): (NextOffset, NextOffset),
    remainder: &mut Remainder,
) -> Result<(), Fault> {
    let (rows, to) = if desk.tasks.get(&id).is_some_and(|task| task.sub_topology.is_stateful()) {
        (decided(&mut *db.rows, source, from, to)?, to)
    } else {
        let (messages, bytes) = (desk.wiring.settings.transaction_rows, desk.wiring.settings.transaction_bytes);
        let room = desk.wiring.outstanding.room(Size { messages, bytes });
        decided_first(&mut *db.rows, desk.wiring.topology.name(), source, (from, to), room)?
    };
    remainder.offered.push((source.clone(), to));
    publish(desk, id, source, (from, to), rows, remainder);
    Ok(())
}

fn set_position(desk: &mut Desk, id: TaskId, source: &TopicPartition, d: NextOffset, k: Option<NextOffset>) {
    let inputs = desk.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
    for input in inputs.filter(|input| input.source == *source) {
        input.go_on_at(d);
    }
    set_published(desk, id, source, |_| k);
}

/// Looks up the messages of inputs whose committed offsets had expired, by id, and notes those that their topics lack:
/// one reading of the topics for all inputs.
pub(super) fn look_up(desk: &Desk, id: TaskId, remainder: &mut Remainder) -> Result<(), Fault> {
    let mut look_ups = std::mem::take(&mut remainder.look_ups);
    let rows: Vec<OutboxRow> = look_ups.iter_mut().flat_map(|(_, _, rows)| rows.drain(..)).collect();
    if look_ups.is_empty() {
        return Ok(());
    }
    let Some(open) = &desk.wiring.history else {
        return Err(Fault::retry("the topics cannot be searched for messages that were already published"));
    };
    let asked = notices(&rows);
    let found = open().and_then(|mut history| unpublished(desk.wiring.topology.name(), rows, &mut *history));
    let mut missing = found.map_err(waited_for)?;
    leave_out_published(&mut missing, asked, &reached(desk, id, &look_ups, &remainder.kept));
    for (source, range, _) in look_ups {
        let (own, others): (Vec<_>, Vec<_>) = missing.into_iter().partition(|row| row.source == source);
        missing = others;
        tracing::warn!(partition = %source, rows = own.len(), "the committed offset had expired, most likely since `offsets.retention.minutes` is shorter than the pause; the messages that its topics lack are published");
        publish(desk, id, &source, range, own, remainder);
    }
    Ok(())
}

fn skip_gap_of_rows(
    desk: &mut Desk,
    db: &mut Database,
    id: TaskId,
    source: &TopicPartition,
    (k, to): (Option<NextOffset>, NextOffset),
    remainder: &mut Remainder,
) -> Result<bool, Fault> {
    if !replace_refused(desk, db, id, source)? {
        return Ok(false);
    }
    let Some(position) = desk.position(id, source) else { return Ok(false) };
    let (from, epoch) = (position.next_offset, position.epoch);
    let published = k.unwrap_or(position.published);
    let rows = decided(&mut *db.rows, source, published, from)?;
    tracing::error!(partition = %source, from = from.0, to = to.0, "inputs were deleted before they were read, most likely since `retention.ms` is shorter than the pause; skipped by pipeline.on_data_loss");
    db.rows.begin()?;
    let moved = Move { source: source.clone(), epoch, from, to, published, counts: Counts::default() };
    let matched = db.rows.advance(std::slice::from_ref(&moved))?;
    if matched != [true] {
        db.rows.rollback();
        return Ok(false);
    }
    if db.rows.commit()? == CommitAnswer::Unknown {
        return Ok(false); // the next claim reads whether it took effect
    }
    let inputs = desk.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
    for input in inputs.filter(|input| input.source == *source) {
        input.go_on_at(to);
        input.published = k;
    }
    if k.is_some() {
        publish(desk, id, source, (published, to), rows, remainder);
    } else {
        remainder.look_ups.push((source.clone(), (published, to), rows));
    }
    Ok(true)
}

/// Skips inputs that were deleted before they were read, where the settings say so: counted and logged, never silent.
/// Messages decided before the gap and not published yet, from K on, are published.
fn skip_gap(
    desk: &mut Desk,
    db: &mut Database,
    id: TaskId,
    source: &TopicPartition,
    (k, to): (Option<NextOffset>, NextOffset),
    remainder: &mut Remainder,
) -> Result<bool, Fault> {
    match desk.tasks.get(&id).map(Task::commit) {
        None => Ok(true),
        Some(CommitKind::Log) => {
            tracing::error!(partition = %source, to = to.0, "inputs were deleted before they were read, most likely since `retention.ms` is shorter than the pause; skipped by pipeline.on_data_loss");
            set_position(desk, id, source, to, None);
            publish(desk, id, source, (to, to), Vec::new(), remainder);
            Ok(true)
        }
        Some(CommitKind::Rows) => skip_gap_of_rows(desk, db, id, source, (k, to), remainder),
    }
}
