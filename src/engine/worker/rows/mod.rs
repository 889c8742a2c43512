//! Steps with rows: records in, one database transaction of rows, outbox and positions out, and what it left to publish.
//!
//! One transaction covers all partitions of the worker that have records waiting: positions by compare-and-set first, rows
//! locked in id order, the algorithm, the rows, the outbox, commit. What it decided goes to the relay from memory. After any
//! failure a smaller batch is offered from the start, since nothing of it was committed ([`draw`](crate::engine::worker::rows::draw)); a
//! COMMIT whose answer was lost is settled by a locking read before anything else is tried.
//!
//! Where a step has stores, what the batch wrote into them lies in their caches: undone with the batch, sealed with its
//! commit, proved once K is past it. Its changelog records, one a key and batch, are outbox rows like the notices: from the
//! commit on they are decided, whoever publishes them. Those of a task take turns, whatever input they came with: the sum
//! of its inputs' D at the end of the batch grows with every batch, so that a takeover can send them in the order in which
//! they were decided.

mod draw;
pub(crate) mod portion;

mod terms;
mod writer;

mod entry;
mod share;
mod slot;

pub(crate) mod record;

mod batch;
mod enough;
mod outcome;

pub(crate) mod prepared;

use crate::engine::outbound::message::changelog_row;
use crate::engine::outbound::outgoing::{Origin, Outgoing};
use crate::engine::outbound::publication::{Outbound, Part, Publication, Through};
use crate::engine::outbound::size::Size;
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::event_time::Horizon;
use crate::engine::protocol::order::Step;
use crate::engine::state::stores::Keyed;
use crate::engine::task::in_hand::Hand;
use crate::engine::task::{Input, State, Task};
use crate::engine::worker::Stage;
use crate::engine::worker::rows::batch::Batch;
use crate::engine::worker::rows::draw::Draw;
use crate::engine::worker::rows::enough::Enough;
use crate::engine::worker::rows::outcome::Reached;
use crate::engine::worker::rows::prepared::{Advance, Prepared, Undone, Wanted};
use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::terms::{StoreTrouble, TaskStores, Terms};
use crate::engine::worker::rows::writer::Writer;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, Offset, Timestamp};
use crate::flow::topology::StepKind;
use crate::ports::failpoint::failpoint;
use crate::ports::rows::{CommitAnswer, Counts, Move, OutboxRow, RowRead, RowWrite, Rows, WriteFault};
use crate::ports::source::TaskId;
use crate::ports::{Clock, Fault};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long one batch is decided: far less than the database lets a transaction idle (`idle_in_transaction_timeout_ms`), and
/// others wait for its rows.
const DECIDE_TIME: Duration = Duration::from_millis(500);
/// Bytes of notices and changelog records after which a batch has enough: they are inserted in one statement, which holds
/// 1 GiB.
const NOTICE_BYTES: usize = 32 << 20;

/// How long an input has nothing to do before P is written for itself; a batch writes it in passing.
const IDLE: Duration = Duration::from_mins(1);

impl Stage {
    /// Whether so much is committed and not published that nothing more is to be.
    pub(crate) fn is_relay_behind(&self) -> bool {
        let Self { outstanding, settings, .. } = self;
        outstanding.messages() >= settings.unpublished_rows || outstanding.bytes() >= settings.unpublished_bytes
    }

    /// Commits one batch, if one is due. True when something was done.
    pub(crate) fn run_batch(&mut self) -> Result<bool, Fault> {
        self.look_at_held();
        let draws = self.draw();
        if draws.is_empty() {
            return Ok(false);
        }
        let began = self.clock.elapsed();
        self.state.thought = Duration::ZERO;
        self.state.was_apart = self.is_apart(&draws);
        // In the batch's hands while it is decided.
        let mut stores = TaskStores::new();
        for draw in &draws {
            let keyed = self.state.tasks.get_mut(&draw.task).and_then(|task| task.keyed.take());
            stores.extend(keyed.map(|keyed| (draw.task, keyed)));
        }
        let prepared = self.prepare(&draws, &mut stores);
        for (id, keyed) in stores {
            if let Some(task) = self.state.tasks.get_mut(&id) {
                task.keyed = Some(keyed);
            }
        }
        match prepared {
            Ok(prepared) => match self.rows.commit() {
                Ok(CommitAnswer::Done) => {
                    self.hook.after(Step::CommitDatabase)?;
                    self.finish(prepared);
                }
                Ok(CommitAnswer::Unknown) => {
                    tracing::info!("the answer to a COMMIT was lost; a locking read will settle it");
                    self.state.in_doubt = Some(prepared);
                }
                Err(fault) => self.undo(Undone::Uncommitted(fault), &draws, began)?,
            },
            Err(undone) => self.undo(undone, &draws, began)?,
        }
        Ok(true)
    }

    /// Everything of a database transaction but its commit.
    fn prepare(&mut self, draws: &[Draw], stores: &mut TaskStores) -> Result<Prepared, Undone> {
        let Self { topology, rows, settings, state, hook, clock, message_bytes_max, outstanding, hand, .. } = self;
        let terms = Terms {
            pipeline: topology.name(),
            now: clock.now(),
            horizon: Horizon::new(clock.now(), settings.event_time_ahead),
            missing_row: settings.missing_row,
            retry_attempts: settings.retry_attempts,
            record_bytes_max: settings.record_bytes_max,
            message_bytes_max,
            keeps_verdicts: settings.verdicts,
            hand,
        };
        let inputs: Vec<(&Draw, &Task, &Input)> = draws
            .iter()
            .filter_map(|draw| {
                let task = state.tasks.get(&draw.task)?;
                Some((draw, task, task.inputs.get(draw.input)?))
            })
            .collect();
        let shares: Vec<Share<'_>> =
            inputs.iter().filter_map(|(draw, task, input)| share(hand, stores, draw, task, input)).collect();
        failpoint!(K1);
        rows.begin().map_err(Undone::Away)?;
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
            match rows.read(table, &keys) {
                Ok(found) => batch.take_rows(table, found),
                Err(fault) if fault.is_lock_wait() => {
                    return Err(Undone::Locked(fault, wanted(draws, &batch, &shares)));
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        let has_suspects = !state.suspects.is_empty();
        if has_suspects {
            state.suspects.iter().for_each(|(table, key)| batch.suspect(*table, key));
            rows.savepoint()?;
        }
        // What a task with stores has decided is published whole, so it is to be no larger than what the brokers took.
        let room = if stores.is_empty() { usize::MAX } else { outstanding.room(Size::MAX).bytes };
        let enough = Enough::new(&**clock, DECIDE_TIME, NOTICE_BYTES.min(room));
        let mut early = Early { rows: &mut **rows, has_suspects, clock: &**clock, thought_until: None };
        let began = clock.elapsed();
        let decided = batch.decide(stores, enough, &mut early);
        state.thought = early.thought_until.unwrap_or_else(|| clock.elapsed()).saturating_sub(began);
        let had_enough = decided?;
        hook.after(Step::Apply)?;
        write_rows(&mut **rows, &mut batch, &**clock)?;
        hook.after(Step::WriteRows)?;
        // The counters, and where a record asks to be offered again the offset to stop at, are known only now.
        let reached = inputs.iter().zip(&mut moves).zip(batch.reached());
        let advances: Vec<Advance> = reached.map(|((input, moved), reached)| advance(input, moved, reached)).collect();
        let (mut outbox, timestamps) = batch.outbox();
        let notices = outbox.len();
        let mut outgoing = Outgoing::default();
        for (id, keyed) in stores {
            let Some(task) = state.tasks.get(id) else { continue };
            let moment = (clock.elapsed(), terms.now);
            close_stores(keyed, task, &advances, moment, &mut outbox, &mut outgoing)
                .map_err(|fault| StoreTrouble { task: *id, trouble: fault.into() })?;
        }
        if !outbox.is_empty() {
            rows.append(&outbox).map_err(not_the_records)?;
        }
        outbox.truncate(notices);
        let verdicts = batch.verdicts();
        if !verdicts.is_empty() {
            rows.record(&verdicts).map_err(not_the_records)?;
        }
        if rows.advance(&moves)?.iter().any(|matched| !matched) {
            return Err(Undone::Fault(Fault::retry("a position changed under its lock")));
        }
        hook.after(Step::WriteOutbox)?;
        let outbound = |(row, at): (OutboxRow, Timestamp)| Outbound { row, input_at: Some(at) };
        let rows = outbox.into_iter().zip(timestamps).map(outbound).collect();
        Ok(Prepared { advances, rows, outgoing, had_enough })
    }

    /// The batch is committed: D moves, and the relay gets what it left to publish. What belongs to a task that has left or
    /// must prove itself since (the commit was in doubt for a while) is published by the next takeover.
    fn finish(&mut self, prepared: Prepared) {
        let Prepared { advances, rows, outgoing, had_enough } = prepared;
        let now = self.clock.elapsed();
        self.state.failures = 0;
        self.state.commits += 1;
        if had_enough {
            self.state.portion.had_enough(advances.iter().map(|advance| advance.reached.records).sum());
        } else {
            self.state.portion.committed(self.settings.batch_rows);
        }
        self.state.suspects.clear();
        self.status.database_commits.add(1);
        let mut publication = Publication { rows, outgoing, ..Publication::default() };
        let mut moved = BTreeSet::new();
        let mut astray = Vec::new();
        for advance in advances {
            self.status.count(advance.reached.counts);
            self.status.declared.held(&advance.source, &advance.reached.held);
            let Advance { task: id, assignment, input: number, epoch, source, from, to, published, reached } = advance;
            let is_here = |task: &&mut Task| task.assignment == assignment && task.state == State::Running;
            let Some(task) = self.state.tasks.get_mut(&id).filter(is_here) else {
                publication.remove(&source);
                continue;
            };
            if from != to {
                let (source, marks) = (source.clone(), task.marks.get(number).cloned());
                let through = Through::Database { epoch };
                let part = Part { task: id, assignment, source, through, from, to, marks, batch: 0 };
                publication.parts.push(part);
                moved.insert(id);
            }
            if published > from {
                publication.cut(&source, published); // an operator said that it was announced
            }
            let Some(input) = task.inputs.get_mut(number) else { continue };
            input.next_offset = to;
            if let Some(position) = &mut input.position {
                position.published = published.min(to);
            }
            (input.apart, input.committed_in) = (None, self.state.commits);
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
            if let Some(sentence) = reached.astray {
                astray.push((id, number, sentence, Offset(to.0).next()));
            }
            self.show(id);
        }
        for id in moved {
            let Some(task) = self.state.tasks.get_mut(&id) else { continue };
            if let Some(keyed) = &mut task.keyed {
                let batch = keyed.seal(task.inputs.iter().map(|input| input.next_offset).collect());
                publication.number(id, batch);
            }
        }
        if !publication.parts.is_empty() {
            self.hand_over(publication);
        }
        for (id, number, sentence, past) in astray {
            if let Some(halt) = self.halt_at(id, number, HaltReason::WronglyKeyed, sentence, None, Some(past)) {
                self.halt(id, halt);
            }
        }
    }

    /// Writes P of inputs that have been idle for a while up to their K: outbox rows from P on are kept whatever their age, and
    /// with them everything else in their partition of the outbox.
    pub(crate) fn note_published(&mut self) -> Result<(), Fault> {
        let now = self.clock.elapsed();
        let is_due = |input: &&Input| {
            let lags = input.position.as_ref().is_some_and(|position| Some(position.published) < input.published);
            lags && input.published == Some(input.next_offset) && now.saturating_sub(input.published_at) >= IDLE
        };
        let tasks = self.state.tasks.values().filter(|task| task.state == State::Running && task.has_rows());
        let idle: Vec<(TaskId, Move)> =
            tasks.flat_map(|task| task.inputs.iter().filter(is_due).map(|input| (task.id, stays(input)))).collect();
        if idle.is_empty() {
            return Ok(());
        }
        let moves: Vec<Move> = idle.iter().map(|(_, moved)| moved.clone()).collect();
        let matched = self.rows.begin().and_then(|()| self.rows.advance(&moves));
        if !matched.as_ref().is_ok_and(|matched| matched.iter().all(|matched| *matched)) {
            self.rows.rollback();
        }
        match matched {
            Ok(matched) if matched.iter().all(|matched| *matched) => {
                // Where the answer is lost, or nothing was written, the next batch writes it.
                let _ = self.rows.commit().inspect_err(|fault| tracing::debug!(error = %fault, "P was not written"));
                for (id, moved) in idle {
                    let inputs = self.state.tasks.get_mut(&id).into_iter().flat_map(|task| &mut task.inputs);
                    for position in
                        inputs.filter(|input| input.source == moved.source).filter_map(|i| i.position.as_mut())
                    {
                        position.published = moved.published;
                    }
                }
            }
            Ok(matched) => {
                for ((id, _), _) in idle.iter().zip(matched).filter(|(_, matched)| !matched) {
                    self.doubt(*id);
                }
            }
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(fault) => self.back_off(&fault),
        }
        Ok(())
    }

    /// A COMMIT without an answer: ask until the database tells.
    pub(crate) fn settle(&mut self) -> Result<(), Fault> {
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
            Ok(false) => self.undo_stores(prepared.advances.iter().map(|advance| advance.task)),
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            // Nothing that is asked here will ever tell. What the takeover finds does: K beyond D halts.
            Err(fault @ Fault::Corrupt(_)) => {
                tracing::warn!(error = %fault, "a COMMIT in doubt cannot be settled; its partitions are taken over anew");
                let is_here = |advance: &&Advance| {
                    self.state.tasks.get(&advance.task).is_some_and(|task| task.assignment == advance.assignment)
                };
                let tasks: BTreeSet<TaskId> =
                    prepared.advances.iter().filter(is_here).map(|advance| advance.task).collect();
                self.undo_stores(tasks.iter().copied());
                for task in tasks {
                    self.doubt(task);
                }
            }
            Err(fault) => {
                self.back_off(&fault);
                self.state.in_doubt = Some(prepared);
            }
        }
        Ok(())
    }

    /// What a batch wrote into the stores of these tasks is as if it had never been.
    fn undo_stores(&mut self, tasks: impl Iterator<Item = TaskId>) {
        for id in tasks {
            if let Some(keyed) = self.state.tasks.get_mut(&id).and_then(|task| task.keyed.as_mut()) {
                keyed.undo();
            }
        }
    }

    fn undo(&mut self, undone: Undone, draws: &[Draw], began: Duration) -> Result<(), Fault> {
        self.undo_stores(draws.iter().map(|draw| draw.task));
        match undone {
            Undone::Away(fault @ Fault::Fatal(_))
            | Undone::Uncommitted(fault @ Fault::Fatal(_))
            | Undone::Fault(fault @ Fault::Fatal(_)) => return Err(fault),
            Undone::Fenced(tasks) => {
                self.rows.rollback();
                for task in tasks {
                    self.doubt(task);
                }
            }
            Undone::Refused(suspects) => {
                self.rows.rollback();
                self.state.suspects.extend(suspects);
            }
            Undone::Store(StoreTrouble { task, trouble }) => {
                self.rows.rollback();
                self.store_unread(task, trouble)?;
            }
            Undone::Fault(Fault::Fenced(_)) => {
                self.rows.rollback();
                for draw in draws {
                    self.doubt(draw.task);
                }
            }
            Undone::Away(fault) => {
                self.rows.rollback();
                self.status.database_retries.add(1);
                self.back_off(&fault);
            }
            Undone::Locked(fault, wanted) => {
                self.rows.rollback();
                if self.hold(&fault, &wanted) {
                    self.status.database_retries.add(1);
                } else {
                    self.failed(&fault, draws, began, false);
                }
            }
            Undone::Uncommitted(fault) => {
                self.rows.rollback();
                self.failed(&fault, draws, began, true);
            }
            Undone::Fault(fault) => {
                self.rows.rollback();
                self.failed(&fault, draws, began, false);
            }
        }
        Ok(())
    }
}

/// Which rows each input's part of a batch is about.
fn wanted(draws: &[Draw], batch: &Batch<'_>, shares: &[Share<'_>]) -> Vec<Wanted> {
    let of = |(number, (draw, share)): (usize, (&Draw, &Share<'_>))| Wanted {
        task: draw.task,
        input: draw.input,
        table: share.table,
        keys: batch.keys_of(number),
    };
    draws.iter().zip(shares).enumerate().map(of).collect()
}

/// The compare-and-set that leaves a position where it is, and writes P alone.
fn stays(input: &Input) -> Move {
    Move {
        source: input.source.clone(),
        epoch: input.epoch(),
        from: input.next_offset,
        to: input.next_offset,
        published: input.known(),
        counts: Counts::default(),
    }
}

/// What one input contributes; `None` for a step without rows, which is never drawn.
fn share<'a>(hand: &Hand, stores: &TaskStores, draw: &Draw, task: &'a Task, input: &'a Input) -> Option<Share<'a>> {
    let StepKind::Rows(step) = &task.sub_topology.step else { return None };
    Some(Share {
        task: task.id,
        source: &input.source,
        number: hand.source(task.id.sub_topology, draw.input),
        incarnation: input.incarnation(),
        step: &**step,
        table: task.place.table,
        columns: task.place.columns.as_deref(),
        attempts: input.attempts,
        reject: input.apart.as_ref().and_then(|apart| apart.reject.as_ref()),
        is_versioned: step.table().table.version_column.is_some(),
        is_stateful: task.sub_topology.is_stateful(),
        is_timed: stores.get(&task.id).is_some_and(Keyed::is_timed),
        key_at: task.place.key,
        version_at: task.place.version,
        declared: task.sub_topology.declaration(&input.source.topic),
        records: input.records(draw.records).collect(),
    })
}

/// How far the batch came in one input; `moved` becomes the second move of its position, from where the first one led.
fn advance((draw, task, input): &(&Draw, &Task, &Input), moved: &mut Move, reached: Reached) -> Advance {
    let to = match input.records(reached.records + 1).nth(reached.records) {
        Some(next) if reached.records < draw.records => NextOffset(next.offset.0),
        _ => moved.to,
    };
    *moved = Move { from: moved.to, to, counts: reached.counts, ..moved.clone() };
    Advance {
        task: task.id,
        assignment: task.assignment,
        input: draw.input,
        epoch: moved.epoch,
        source: moved.source.clone(),
        from: input.next_offset,
        to,
        published: input.known(),
        reached,
    }
}

/// The compare-and-set that opens the transaction; the counters follow when they are known.
fn first_move(input: &Input, share: &Share<'_>) -> Move {
    Move {
        source: input.source.clone(),
        epoch: input.epoch(),
        from: input.next_offset,
        to: share.records.last().map_or(input.next_offset, |record| record.offset.next()),
        published: input.known(),
        counts: Counts::default(),
    }
}

/// Ends the batch in one task's stores: each changelog record goes into the outbox, and out to the relay. `moment` is the
/// monotonic clock and the batch's time.
fn close_stores(
    keyed: &mut Keyed,
    task: &Task,
    advances: &[Advance],
    moment: (Duration, Timestamp),
    outbox: &mut Vec<OutboxRow>,
    outgoing: &mut Outgoing,
) -> Result<(), Fault> {
    let own = || advances.iter().filter(|advance| advance.task == task.id);
    // Where no input moved no record was decided, and nothing was written.
    let Some(moved) = own().find(|advance| advance.from != advance.to) else { return Ok(()) };
    let origin = Origin { source: &moved.source, offset: Offset(moved.to.0 - 1) };
    let incarnation = task.inputs.get(moved.input).map_or(0, Input::incarnation);
    let before: i64 = task.inputs.iter().map(|input| input.next_offset.0).sum();
    let turn = before + own().map(|advance| advance.to.0 - advance.from.0).sum::<i64>();
    // Behind the notices of the same input.
    let taken = outbox.iter().filter(|row| row.source == *origin.source && row.source_offset == origin.offset).count();
    let first = outgoing.len();
    keyed.close(origin, moment.0, outgoing)?;
    for (seq, message) in (taken..).zip(outgoing.messages().skip(first)) {
        let seq = i32::try_from(seq).unwrap_or(i32::MAX);
        outbox.push(changelog_row(origin, incarnation, seq, turn, &message, moment.1));
    }
    Ok(())
}

/// Writes all rows; where the database refuses some, finds them by halves, each half behind a savepoint, and decides
/// their records again (at most log2(n) + 1 rollbacks for one culprit among n rows). Those of steps with stores, or with
/// earlier records written already, are suspects from now on, and the whole batch is offered again; so it is where one of
/// those records now asks for a retry, since those behind it are decided already.
fn write_rows(rows: &mut dyn Rows, batch: &mut Batch<'_>, clock: &dyn Clock) -> Result<(), Undone> {
    let mut refused = Vec::new();
    for (table, writes) in batch.writes() {
        rows.savepoint()?;
        write_halves(rows, table, &writes, &mut refused)?;
    }
    let (suspects, refused): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|(table, write)| batch.begins_anew(*table, &write.key));
    if !suspects.is_empty() {
        return Err(suspected(suspects));
    }
    if !refused.is_empty() {
        rows.savepoint()?; // the tables written since the last one was set are not to go with a refused row
    }
    for (table, write) in &refused {
        let mut early = Early { rows: &mut *rows, has_suspects: true, clock, thought_until: None };
        if batch.settle_refused(*table, &write.key, &mut early)? {
            return Err(suspected(refused));
        }
    }
    Ok(())
}

fn suspected(refused: Vec<(usize, RowWrite)>) -> Undone {
    Undone::Refused(refused.into_iter().map(|(table, write)| (table, write.key)).collect())
}

/// The rows of the open transaction, before the batch is decided to its end.
struct Early<'a> {
    rows: &'a mut dyn Rows,
    has_suspects: bool,
    clock: &'a dyn Clock,
    /// When the first statement went out.
    thought_until: Option<Duration>,
}

impl Early<'_> {
    fn note_statement(&mut self) {
        let clock = self.clock;
        self.thought_until.get_or_insert_with(|| clock.elapsed());
    }
}

impl Writer<Undone> for Early<'_> {
    fn keeps(&self, table: usize) -> bool {
        self.rows.keeps(table)
    }

    /// Behind the savepoint that stands, which is moved past it.
    fn offer(&mut self, table: usize, row: &RowWrite) -> Result<Option<Reject>, Undone> {
        self.note_statement();
        match self.rows.write(table, std::slice::from_ref(row)) {
            Ok(()) => Ok(self.rows.savepoint().map(|()| None)?),
            Err(WriteFault::Rejected(reject)) => Ok(self.rows.rollback_to_savepoint().map(|()| Some(reject))?),
            Err(WriteFault::Fault(fault)) => Err(fault.into()),
        }
    }

    /// Behind a savepoint of their own.
    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), Undone> {
        self.note_statement();
        let mut refused = Vec::new();
        self.rows.savepoint()?;
        write_halves(self.rows, table, rows, &mut refused)?;
        if !refused.is_empty() {
            return Err(suspected(refused));
        }
        if self.has_suspects {
            self.rows.savepoint()?; // a suspect that is refused takes nothing of this with it
        }
        Ok(())
    }

    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, Undone> {
        Ok(self.rows.read(table, keys)?)
    }
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

/// Tidegate's own tables refused a row: which record is to blame shows when it is alone.
fn not_the_records(fault: WriteFault) -> Fault {
    match fault {
        WriteFault::Fault(fault) => fault,
        WriteFault::Rejected(reject) => {
            let message = format!("Tidegate's own table refused a row: {}", reject.message());
            Fault::refused(Reject::dead_letter(reject.code().to_owned(), message))
        }
    }
}
