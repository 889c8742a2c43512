//! The writes of a batch's rows into the open transaction, and the rows that the database refuses.

use crate::engine::worker::rows::batch::Batch;
use crate::engine::worker::rows::prepared::Undone;
use crate::engine::worker::rows::writer::Writer;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::ports::rows::{RowRead, RowWrite, Rows, WriteFault};
use crate::ports::{Clock, Fault};
use std::time::Duration;

/// Writes all rows; where the database refuses some, finds them by halves, each half behind a savepoint (at most log2(n) + 1
/// rollbacks for one culprit among n rows). They are suspects from now on, and the whole batch is offered again: a refusal may
/// be for the sake of other rows, and a record that is decided once more may ask for a retry, with others decided behind it.
///
/// `at_once`: most rows in one statement. A record that failed alone has the timers behind it to make it smaller by.
pub(super) fn write_rows(rows: &mut dyn Rows, batch: &mut Batch<'_>, at_once: usize) -> Result<(), Undone> {
    let mut refused = Vec::new();
    for (table, writes) in batch.writes() {
        for writes in writes.chunks(at_once) {
            rows.savepoint()?;
            write_halves(rows, table, writes, &mut refused)?;
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(suspected(refused)) }
}

fn suspected(refused: Vec<(usize, RowWrite)>) -> Undone {
    Undone::Refused(refused.into_iter().map(|(table, write)| (table, write.key)).collect())
}

/// The rows of the open transaction, before the batch is decided to its end.
pub(super) struct Early<'a> {
    pub(super) rows: &'a mut dyn Rows,
    pub(super) has_suspects: bool,
    /// Most rows in one statement.
    pub(super) at_once: usize,
    pub(super) idle: Idle<'a>,
}

/// The longest time without a statement.
pub(super) struct Idle<'a> {
    clock: &'a dyn Clock,
    since: Duration,
    longest: Duration,
}

impl<'a> Idle<'a> {
    pub(super) fn new(clock: &'a dyn Clock) -> Self {
        Self { clock, since: clock.elapsed(), longest: Duration::ZERO }
    }

    /// The longest time until now.
    pub(super) fn longest(&self) -> Duration {
        self.longest.max(self.clock.elapsed().saturating_sub(self.since))
    }

    /// Ends with a statement, and begins behind it.
    fn during<T>(&mut self, statement: impl FnOnce() -> T) -> T {
        self.longest = self.longest();
        let result = statement();
        self.since = self.clock.elapsed();
        result
    }
}

impl Writer<Undone> for Early<'_> {
    fn keeps(&self, table: usize) -> bool {
        self.rows.keeps(table)
    }

    /// Writes the row behind the current savepoint, which moves past it on success.
    fn offer(&mut self, table: usize, row: &RowWrite) -> Result<Option<Reject>, Undone> {
        let Self { rows, idle, .. } = self;
        idle.during(|| match rows.write(table, std::slice::from_ref(row)) {
            Ok(()) => Ok(rows.savepoint().map(|()| None)?),
            Err(WriteFault::Rejected(reject)) => Ok(rows.rollback_to_savepoint().map(|()| Some(reject))?),
            Err(WriteFault::Fault(fault)) => Err(fault.into()),
        })
    }

    /// Writes the rows behind a savepoint of their own.
    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), Undone> {
        let Self { rows: open, has_suspects, at_once, idle } = self;
        idle.during(|| {
            let mut refused = Vec::new();
            for rows in rows.chunks(*at_once) {
                open.savepoint()?;
                write_halves(*open, table, rows, &mut refused)?;
            }
            if !refused.is_empty() {
                return Err(suspected(refused));
            }
            if *has_suspects {
                open.savepoint()?; // a suspect that is refused undoes nothing of this
            }
            Ok(())
        })
    }

    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, Undone> {
        let Self { rows, at_once, idle, .. } = self;
        idle.during(|| {
            let mut found = Vec::with_capacity(keys.len());
            for keys in keys.chunks(*at_once) {
                found.append(&mut rows.read(table, keys)?);
            }
            Ok(found)
        })
    }

    fn idled(&self) -> Duration {
        self.idle.longest()
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
                rows.savepoint()?; // the first half stays, whatever the next half does
            }
            Ok(())
        }
    }
}
