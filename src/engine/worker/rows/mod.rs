//! Steps with rows: records in, one database transaction of rows, outbox and positions out, then a publication for the
//! relay.
//!
//! One transaction covers all partitions of the worker that have records waiting: positions by compare-and-set first,
//! rows locked in id order, the algorithm, the rows, the outbox, commit. The decided messages go to the relay from
//! memory. After any failure a smaller batch is offered from the start, since nothing of it was committed ([`draw`]); a
//! COMMIT whose answer was lost is settled by a locking read before anything else is tried.
//!
//! If a step has stores, the values that the batch wrote lie in their caches: undone with the batch, sealed with its
//! commit, proved once K is past it. Its changelog records, one a key and batch, are outbox rows like the notices: from
//! the commit on they are decided, whichever instance publishes them. Those of a task carry a sequence, whatever input
//! they came with: the sum of its inputs' D at the end of the batch grows with every batch, so that a takeover can send
//! them in the order in which they were decided.

mod blame;
mod draw;
mod lane;
pub(crate) mod portion;

mod terms;
mod writer;

mod entry;
mod fired;
mod foreseen;
mod share;
mod slot;

pub(crate) mod record;

mod batch;
mod outcome;
mod timers;

pub(crate) mod prepared;

mod writes;

mod committed;
mod idle;
mod undone;

pub(crate) use idle::note_published;
pub(crate) use lane::RowsLane;

use crate::engine::outbound::message::{Decided, changelog_row, spelt};
use crate::engine::outbound::outgoing::{Origin, Outgoing};
use crate::engine::outbound::publication::Outbound;
use crate::engine::outbound::size::Size;
use crate::engine::protocol::event_time::Horizon;
use crate::engine::protocol::order::Step;
use crate::engine::state::stores::Keyed;
use crate::engine::task::in_hand::Hand;
use crate::engine::task::{Input, Task};
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::enough::Enough;
use crate::engine::worker::looks::Looks;
use crate::engine::worker::rows::batch::Batch;
use crate::engine::worker::rows::draw::Draw;
use crate::engine::worker::rows::draw::is_set_aside;
use crate::engine::worker::rows::draw::look_at_held;
use crate::engine::worker::rows::fired::Fired;
use crate::engine::worker::rows::foreseen::foresee;
use crate::engine::worker::rows::outcome::Reached;
use crate::engine::worker::rows::prepared::{Advance, Prepared, Undone, Wanted};
use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::terms::{StoreTrouble, TaskStores, Terms};
use crate::engine::worker::rows::writes::{Early, Idle, write_rows};
use crate::engine::worker::wiring::Wiring;
use crate::flow::effect::Reject;
use crate::flow::record::{NextOffset, Offset, Timestamp};
use crate::flow::topology::StepKind;
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::rows::{CommitAnswer, Counts, Move, OutboxRow, Rows, WriteFault};
use crate::ports::source::TaskId;
use std::time::Duration;

/// The bound on the time to decide one batch: far less than the database lets a transaction idle
/// (`idle_in_transaction_timeout_ms`), because others wait for its rows.
const DECIDE_TIME: Duration = Duration::from_millis(500);
/// Bytes of notices and changelog records after which a batch has enough: they are inserted in one statement, which holds
/// 1 GiB.
const NOTICE_BYTES: usize = 32 << 20;

impl RowsLane {
    /// Commits one batch, if one is due. True when something was done.
    pub(crate) fn run_batch(&mut self, desk: &mut Desk, db: &mut Database) -> Result<bool, Fault> {
        look_at_held(desk, db);
        let draws = self.draw(desk);
        if draws.is_empty() {
            return Ok(false);
        }
        let began = desk.wiring.clock.elapsed();
        self.decide_time = Duration::ZERO;
        self.was_set_aside = is_set_aside(desk, &draws);
        (self.was_refused, self.fired) = (false, Fired::default());
        // The batch holds the stores while it is decided.
        let mut stores = TaskStores::new();
        for draw in &draws {
            let keyed = desk.tasks.get_mut(&draw.task).and_then(|task| task.keyed.take());
            stores.extend(keyed.map(|keyed| (draw.task, keyed)));
        }
        let prepared = self.prepare(desk, db, &draws, &mut stores);
        for (id, keyed) in stores {
            if let Some(task) = desk.tasks.get_mut(&id) {
                task.keyed = Some(keyed);
            }
        }
        match prepared {
            Ok(prepared) => match db.rows.commit() {
                Ok(CommitAnswer::Done) => {
                    desk.wiring.hook.after(Step::CommitDatabase)?;
                    self.finish(desk, db, prepared);
                }
                Ok(CommitAnswer::Unknown) => {
                    tracing::info!("the answer to a COMMIT was lost; a locking read will settle it");
                    self.in_doubt = Some(prepared);
                }
                Err(fault) => self.undo(desk, db, Undone::Uncommitted(fault), &draws, began)?,
            },
            Err(undone) => self.undo(desk, db, undone, &draws, began)?,
        }
        Ok(true)
    }

    /// Does everything of a database transaction but its commit.
    fn prepare(
        &mut self,
        desk: &mut Desk,
        db: &mut Database,
        draws: &[Draw],
        stores: &mut TaskStores,
    ) -> Result<Prepared, Undone> {
        let Wiring { topology, settings, status, hook, clock, limits, outstanding, hand, .. } = &desk.wiring;
        let Database { rows, .. } = db;
        let terms = Terms {
            pipeline: topology.name(),
            now: clock.now(),
            horizon: Horizon::new(clock.now(), settings.event_time_ahead),
            missing_row: settings.missing_row,
            retry_attempts: settings.retry_attempts,
            record_bytes_max: settings.record_bytes_max,
            limits,
            keeps_verdicts: settings.verdicts,
            hand,
            looks: Looks::default(),
        };
        let inputs: Vec<(&Draw, &Task, &Input)> = draws
            .iter()
            .filter_map(|draw| {
                let task = desk.tasks.get(&draw.task)?;
                Some((draw, task, task.inputs.get(draw.input)?))
            })
            .collect();
        let shares: Vec<Share<'_>> =
            inputs.iter().filter_map(|input| share(hand, stores, &**rows, self.turn(input.1.id), *input)).collect();
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

        let has_suspects = !self.suspects.is_empty();
        let foreseen = foresee(&terms, &shares, stores)?;
        let mut batch = Batch::new(&shares, &terms, has_suspects, foreseen);
        let at_once = if self.was_set_aside { 1 } else { usize::MAX };
        for (table, keys) in batch.keys() {
            for keys in keys.chunks(at_once) {
                match rows.read(table, keys) {
                    Ok(found) => batch.take_rows(table, found),
                    Err(fault) if fault.is_lock_wait() => {
                        return Err(Undone::Locked(fault, wanted(draws, &batch, &shares)));
                    }
                    Err(fault) => {
                        let of_one = if let [key] = keys { batch.timers_of(table, key) } else { Vec::new() };
                        self.fired = Fired { unread: of_one, ..std::mem::take(&mut batch.fired) };
                        return Err(fault.into());
                    }
                }
            }
        }
        if has_suspects {
            self.suspects.iter().for_each(|(table, key)| batch.suspect(*table, key));
            rows.savepoint()?;
        }
        // The messages of a task with stores are published whole, so they may not exceed the size that the brokers
        // took.
        let room = if stores.is_empty() { usize::MAX } else { outstanding.room(Size::MAX).bytes };
        let enough = Enough::new(&**clock, DECIDE_TIME, NOTICE_BYTES.min(room));
        let mut early = Early { rows: &mut **rows, has_suspects, at_once, idle: Idle::new(&**clock) };
        let decided = batch.decide(stores, enough, &mut early);
        self.fired = std::mem::take(&mut batch.fired);
        self.decide_time = early.idle.longest();
        let had_enough = decided?;
        terms.looks.report(&status.undeclared);
        hook.after(Step::Apply)?;
        write_rows(&mut **rows, &mut batch, at_once)?;
        hook.after(Step::WriteRows)?;
        // The counters, and where a record asks to be offered again the offset to stop at, are known only now.
        let reached = inputs.iter().zip(&mut moves).zip(batch.reached());
        let advances: Vec<Advance> = reached.map(|((input, moved), reached)| advance(input, moved, reached)).collect();
        let (mut outbox, timestamps) = batch.outbox();
        let notices = outbox.len();
        let mut outgoing = Outgoing::default();
        for (id, keyed) in stores {
            let Some(task) = desk.tasks.get(id) else { continue };
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
}

/// The rows that each input's part of a batch reads.
fn wanted(draws: &[Draw], batch: &Batch<'_>, shares: &[Share<'_>]) -> Vec<Wanted> {
    let of = |(number, (draw, share)): (usize, (&Draw, &Share<'_>))| Wanted {
        task: draw.task,
        input: draw.input,
        table: share.table,
        keys: batch.keys_of(number),
    };
    draws.iter().zip(shares).enumerate().map(of).collect()
}

/// The share of one input, of which `turn` timers fire behind a record at most; `None` for a step without rows, which is never drawn.
fn share<'a>(
    hand: &Hand,
    stores: &TaskStores,
    rows: &dyn Rows,
    turn: usize,
    (draw, task, input): (&Draw, &'a Task, &'a Input),
) -> Option<Share<'a>> {
    let StepKind::Rows(step) = &task.sub_topology.step else { return None };
    Some(Share {
        task: task.id,
        source: &input.source,
        number: hand.source(task.id.sub_topology, draw.input),
        incarnation: input.incarnation(),
        step: &**step,
        table: task.place.table,
        width: task.place.width,
        columns: task.place.columns.as_deref(),
        attempts: input.attempts,
        reject: input.set_aside.as_ref().and_then(|set_aside| set_aside.reject.as_ref()),
        is_versioned: step.table().table.version_column.is_some(),
        read_only: rows.read_only(task.place.table),
        is_stateful: task.sub_topology.is_stateful(),
        holds_streams: input.holds_streams,
        may_be_late: task.sub_topology.gathers.is_some(),
        is_table: input.is_table,
        is_timed: !input.is_table && stores.get(&task.id).is_some_and(Keyed::is_timed),
        keys_at: &task.place.keys,
        version_at: task.place.version,
        declared: task.sub_topology.declaration(&input.source.topic),
        assumed: task
            .sub_topology
            .assumed_hash()
            .zip(task.counts.get(draw.input).copied())
            .filter(|(_, count)| *count > 1),
        on_unreadable: task.sub_topology.on_unreadable(&input.source.topic),
        most_timers: input.set_aside.as_ref().map_or(turn, |set_aside| set_aside.most_timers.min(turn)),
        over: input.set_aside.as_ref().map_or(&[], |set_aside| &set_aside.over),
        records: input.records(draw.records).collect(),
    })
}

/// The advance of one input; `moved` becomes the second move of its position, from the place where the first one led.
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

/// Ends the batch in one task's stores: each changelog record goes into the outbox, and out to the relay. `moment` is
/// the monotonic clock and the batch's time.
fn close_stores(
    keyed: &mut Keyed,
    task: &Task,
    advances: &[Advance],
    moment: (Duration, Timestamp),
    outbox: &mut Vec<OutboxRow>,
    outgoing: &mut Outgoing,
) -> Result<(), Fault> {
    let own = || advances.iter().filter(|advance| advance.task == task.id);
    // If no input moved, no record was decided, and nothing was written.
    let Some(moved) = own().find(|advance| advance.from != advance.to) else { return Ok(()) };
    let origin = Origin { source: &moved.source, offset: Offset(moved.to.0 - 1) };
    let incarnation = task.inputs.get(moved.input).map_or(0, Input::incarnation);
    let before: i64 = task.inputs.iter().map(|input| input.next_offset.0).sum();
    let sequence = before + own().map(|advance| advance.to.0 - advance.from.0).sum::<i64>();
    let ends = task.inputs.iter().enumerate().map(|(number, input)| {
        let moved = own().find(|advance| advance.input == number);
        (&input.source.topic, moved.map_or(input.next_offset, |advance| advance.to))
    });
    let ends = (task.inputs.len() > 1).then(|| spelt(ends));
    let decided = Decided { sequence, inputs: ends.as_deref() };
    // Behind the notices of the same input.
    let taken = outbox.iter().filter(|row| row.source == *origin.source && row.source_offset == origin.offset).count();
    let first = outgoing.len();
    keyed.close(origin, moment.0, outgoing)?;
    for (seq, message) in (taken..).zip(outgoing.messages().skip(first)) {
        let seq = i32::try_from(seq).unwrap_or(i32::MAX);
        outbox.push(changelog_row(origin, incarnation, seq, decided, &message, moment.1));
    }
    Ok(())
}

/// Turns a refusal of a row of Tidegate's own tables into a fault of the batch: the guilty record shows when it is
/// alone.
fn not_the_records(fault: WriteFault) -> Fault {
    match fault {
        WriteFault::Fault(fault) => fault,
        WriteFault::Rejected(reject) => {
            let message = format!("Tidegate's own table refused a row: {}", reject.message());
            Fault::refused(Reject::dead_letter(reject.code().to_owned(), message))
        }
    }
}
