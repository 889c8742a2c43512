//! Steps with rows: records in, one database transaction of rows, outbox and positions out, and what it left to publish.
//!
//! One transaction covers all partitions of the worker that have records waiting: positions by compare-and-set first, rows
//! locked in id order, the algorithm, the rows, the outbox, commit. What it decided goes to the relay from memory. A batch
//! is offered again from the start after any failure, since nothing of it was committed; a COMMIT whose answer was lost is
//! settled by a locking read before anything else is tried.

use crate::engine::assignment::AssignmentId;
use crate::engine::batch::{Batch, Reached, Share, Terms};
use crate::engine::commit::Step;
use crate::engine::decision::HaltReason;
use crate::engine::relay::{Part, Publication};
use crate::engine::settings::EngineSettings;
use crate::engine::stage::Stage;
use crate::engine::task::{Input, State, Task};
use crate::flow::record::{NextOffset, Timestamp, TopicPartition};
use crate::flow::topology::{StepKind, Topology};
use crate::ports::Fault;
use crate::ports::rows::{CommitAnswer, Counts, Move, OutboxRow, RowWrite, Rows, WriteFault};
use crate::ports::source::TaskId;
use std::sync::atomic::Ordering;

/// What one input contributes to a batch.
struct Draw {
    task: TaskId,
    input: usize,
    records: usize,
}

/// A batch whose transaction is ready to commit, or in doubt.
pub(crate) struct Prepared {
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
    pub(crate) fn run_batch(&mut self) -> Result<bool, Fault> {
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
