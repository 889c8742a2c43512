//! Writes into a user's table, and the reasons of their refusal.

use crate::adapters::postgres::arrays::Array;
use crate::adapters::postgres::rows::PostgresRows;
use crate::adapters::postgres::rows::reading::bound;
use crate::adapters::postgres::rows::stage::{Stage, query, step};
use crate::adapters::postgres::values;
use crate::flow::effect::Reject;
use crate::ports::fault::Fault;
use crate::ports::rows::{RowWrite, Rows, WriteFault};

impl PostgresRows {
    /// Writes rows of a user's table; answers how many were changed.
    pub(super) fn update(&mut self, table: usize, rows: &[RowWrite]) -> Result<u64, WriteFault> {
        let table = bound(&self.tables, table)?;
        let what = format!("write {}", table.name);
        let keys = values::keys(table.key, rows.iter().map(|row| &row.key))
            .map_err(|why| Fault::corrupt(format!("{what}: {why}")))?;
        let mut update = query(&self.server, &table.statements.write).bind(keys);
        if table.is_versioned {
            update = update
                .bind(Array::of_i64(rows.iter().map(|row| row.from_version)))
                .bind(Array::of_i64(rows.iter().map(|row| row.to_version)));
        }
        for (index, column) in table.columns.iter().enumerate().filter(|(_, column)| column.is_written) {
            let values = rows.iter().map(|row| row.values.get(index));
            match values::column(column.kind, &column.name, rows.len(), values) {
                Ok(array) => update = update.bind(array),
                Err(reject) => {
                    self.stage.fail();
                    return Err(WriteFault::Rejected(reject));
                }
            }
        }
        let done = step(&mut self.server, &mut self.stage, &what, async |c| update.execute(c).await)?;
        Ok(done.rows_affected())
    }

    /// A rule of the schema refused one row: the row is to blame, unless it refuses a write of no row as well. Behind the
    /// savepoint; the transaction counts as failed afterwards, as after any refusal.
    pub(super) fn blame(&mut self, table: usize, reject: Reject) -> Result<WriteFault, Fault> {
        if !matches!(self.stage, Stage::Failed { has_savepoint: true }) {
            return Ok(WriteFault::Rejected(reject));
        }
        self.rollback_to_savepoint()?;
        let of_none = self.update(table, &[]);
        self.stage.fail();
        Ok(match of_none {
            Ok(_) => WriteFault::Rejected(reject),
            Err(WriteFault::Rejected(reject)) => {
                WriteFault::Fault(Fault::corrupt(format!("{}, whatever is written", reject.message())))
            }
            Err(WriteFault::Fault(fault)) => WriteFault::Fault(fault),
        })
    }

    /// Fewer rows were changed than were written, without an error. If it is one row, and it is there as it was read, a
    /// trigger or a policy has withheld it.
    pub(super) fn withheld(&mut self, table: usize, rows: &[RowWrite], done: u64) -> Result<WriteFault, Fault> {
        let what = format!("write {}: {done} rows instead of {}", bound(&self.tables, table)?.name, rows.len());
        let is_less = usize::try_from(done).is_ok_and(|done| done < rows.len());
        let is_as_read = match rows {
            [row] => {
                let found = self.read(table, std::slice::from_ref(&row.key))?;
                let is_versioned = bound(&self.tables, table)?.is_versioned;
                found.first().is_some_and(|found| !is_versioned || found.version == row.from_version)
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
