//! Writes into a user's table, and the reasons of their refusal.

use crate::adapters::postgres::arrays::Array;
use crate::adapters::postgres::connection::Trouble;
use crate::adapters::postgres::rows::PostgresRows;
use crate::adapters::postgres::rows::reading::bound;
use crate::adapters::postgres::rows::stage::{Stage, query, step};
use crate::adapters::postgres::values;
use crate::flow::effect::Reject;
use crate::ports::fault::Fault;
use crate::ports::rows::{RowWrite, Rows, WriteFault, WriteKind};

impl PostgresRows {
    /// Writes rows of a user's table in one way.
    pub(super) fn write_all_of(&mut self, table: usize, kind: WriteKind, rows: &[&RowWrite]) -> Result<(), WriteFault> {
        if rows.is_empty() {
            return Ok(());
        }
        let done = match self.change(table, kind, rows) {
            Err(WriteFault::Rejected(reject))
                if rows.len() == 1 && matches!(reject.code(), "trigger" | "too-large") =>
            {
                return Err(self.blame((table, kind), reject)?);
            }
            done => done?,
        };
        if usize::try_from(done) == Ok(rows.len()) {
            return Ok(());
        }
        let found = self.withheld(table, rows, done);
        self.stage.fail();
        Err(found?)
    }

    /// Writes rows of a user's table in one way; answers how many were written.
    fn change(&mut self, table: usize, kind: WriteKind, rows: &[&RowWrite]) -> Result<u64, WriteFault> {
        self.tried(table, kind, rows)?.map_err(Into::into)
    }

    /// The same, with the database's own error apart from what keeps the write from being sent.
    fn tried(&mut self, table: usize, kind: WriteKind, rows: &[&RowWrite]) -> Result<Result<u64, Trouble>, WriteFault> {
        let table = bound(&self.tables, table)?;
        let what = format!("write {}", table.name);
        let keys = values::keys(table.key, rows.iter().map(|row| &row.key))
            .map_err(|why| Fault::corrupt(format!("{what}: {why}")))?;
        let statement = match kind {
            WriteKind::Update => &table.statements.write,
            WriteKind::Insert => &table.statements.insert,
            WriteKind::Delete => &table.statements.delete,
        };
        let mut update = query(&self.server, statement).bind(keys);
        if table.is_versioned && kind != WriteKind::Insert {
            update = update.bind(Array::of_i64(rows.iter().map(|row| row.from_version)));
        }
        if table.is_versioned && kind != WriteKind::Delete {
            update = update.bind(Array::of_i64(rows.iter().map(|row| row.to_version)));
        }
        let has_values = kind != WriteKind::Delete;
        let written = table.columns.iter().enumerate().filter(|(_, column)| has_values && column.is_written);
        for (index, column) in written {
            let values = rows.iter().map(|row| row.values.get(index));
            match values::column(column.kind, &column.name, rows.len(), values) {
                Ok(array) => update = update.bind(array),
                Err(reject) => {
                    self.stage.fail();
                    return Err(WriteFault::Rejected(reject));
                }
            }
        }
        let done = step(&mut self.server, &mut self.stage, &what, async |c| update.execute(c).await);
        Ok(done.map(|done| done.rows_affected()))
    }

    /// A rule of the schema or a limit refused one row: the row is to blame, unless a write of no row is refused as well.
    /// Behind the savepoint; the transaction counts as failed afterwards, as after any refusal.
    fn blame(&mut self, (table, kind): (usize, WriteKind), reject: Reject) -> Result<WriteFault, Fault> {
        if !matches!(self.stage, Stage::Failed { has_savepoint: true }) {
            return Ok(WriteFault::Rejected(reject));
        }
        self.rollback_to_savepoint()?;
        let of_none = self.tried(table, kind, &[]);
        self.stage.fail();
        let of_none = match of_none {
            Ok(Err(trouble)) if trouble.is_limit_of_nobody() => return Ok(WriteFault::Fault(trouble.into())),
            Ok(done) => done.map_err(WriteFault::from),
            Err(fault) => Err(fault),
        };
        Ok(match of_none {
            Ok(_) => WriteFault::Rejected(reject),
            Err(WriteFault::Rejected(reject)) => {
                WriteFault::Fault(Fault::corrupt(format!("{}, whatever is written", reject.message())))
            }
            Err(WriteFault::Fault(fault)) => WriteFault::Fault(fault),
        })
    }

    /// Fewer rows were changed than were written, without an error. If it is one row, and it is there as it was read, or
    /// missing as it was, a trigger or a policy has withheld it.
    fn withheld(&mut self, table: usize, rows: &[&RowWrite], done: u64) -> Result<WriteFault, WriteFault> {
        let what = format!("write {}: {done} rows instead of {}", bound(&self.tables, table)?.name, rows.len());
        let is_less = usize::try_from(done).is_ok_and(|done| done < rows.len());
        let is_as_read = match rows {
            [row] => {
                let found = self.read(table, std::slice::from_ref(&row.key))?;
                let is_versioned = bound(&self.tables, table)?.is_versioned;
                match (row.kind, found.first()) {
                    (WriteKind::Insert, Some(_)) => {
                        let message = format!("{what}: another program inserted row {} meanwhile", row.key);
                        return Ok(WriteFault::Fault(Fault::retry(message)));
                    }
                    // It may have been there for a moment; whoever withholds it does so again.
                    (WriteKind::Insert, None) if self.change(table, row.kind, rows)? > 0 => {
                        let message = format!("{what}: row {} came and went meanwhile", row.key);
                        return Ok(WriteFault::Fault(Fault::retry(message)));
                    }
                    (WriteKind::Insert, None) => true,
                    (_, found) => found.is_some_and(|found| !is_versioned || found.version == row.from_version),
                }
            }
            _ => true, // one by one it is seen
        };
        Ok(if is_less && is_as_read {
            WriteFault::Rejected(Reject::dead_letter("withheld", format!("{what}: a trigger or a policy withholds it")))
        } else {
            WriteFault::Fault(Fault::corrupt(format!(
                "{what}: a second writer is in between, or a key was given twice"
            )))
        })
    }
}
