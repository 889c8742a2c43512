//! Rows of a user's table, as they were read.

use crate::adapters::postgres::arrays::Elements;
use crate::adapters::postgres::catalog::BoundTable;
use crate::adapters::postgres::connection::{raw, unreadable};
use crate::adapters::postgres::values;
use crate::ports::fault::Fault;
use crate::ports::rows::RowRead;
use sqlx::postgres::PgRow;

pub(super) fn bound(tables: &[BoundTable], table: usize) -> Result<&BoundTable, Fault> {
    tables.get(table).ok_or_else(|| Fault::fatal(format!("table {table} was not bound")))
}

/// Takes the arrays of the read statement apart; they are null when no row was found.
pub(super) fn rows_of(table: &BoundTable, row: &PgRow) -> Result<Vec<RowRead>, sqlx::Error> {
    let Some(keys) = raw(row, 0)? else { return Ok(Vec::new()) };
    let elements =
        |index| Elements::of(raw(row, index)?.unwrap_or_default()).ok_or_else(|| unreadable("a damaged array"));
    let keys = Elements::of(keys).ok_or_else(|| unreadable("a damaged array"))?;
    let mut versions = elements(1)?;
    let mut columns = (2..2 + table.columns.len()).map(elements).collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::with_capacity(keys.len());
    for key in keys {
        let key = key.ok_or_else(|| unreadable("the key is null"))?;
        let version = versions.next().flatten().and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
        let mut values = Vec::with_capacity(columns.len());
        for (column, elements) in table.columns.iter().zip(&mut columns) {
            let element = elements.next().ok_or_else(|| unreadable(format!("column {}: too short", column.name)))?;
            let value = values::decode(column.kind, element);
            values.push(value.map_err(|why| unreadable(format!("column {}: {why}", column.name)))?);
        }
        out.push(RowRead {
            key: values::decode_key(table.key, key).map_err(unreadable)?,
            version: version.ok_or_else(|| unreadable("the version is null"))?,
            values,
        });
    }
    Ok(out)
}
