//! The user's tables, made where there is nobody else to make them: for a demo and for trying things out.

use super::columns::{bind, bind_key, describe};
use super::connection::{Connection, SqliteSettings};
use super::statements::{create_table, insert_row};
use crate::flow::key::Key;
use crate::flow::row::Value;
use crate::flow::table::TableSpec;
use crate::ports::Fault;

/// Makes tables for row structs.
#[derive(Debug)]
pub struct SqliteTables {
    connection: Connection,
}

impl SqliteTables {
    /// Opens a connection.
    ///
    /// # Errors
    /// `Retry` when the file cannot be opened.
    pub fn new(settings: &SqliteSettings) -> Result<Self, Fault> {
        Ok(Self { connection: Connection::open(settings)? })
    }

    /// Creates the table that `spec` asks for with these rows, at version 0, in one transaction. A table of that name is
    /// left as it is. Answers whether it was created.
    ///
    /// # Errors
    /// `Retry` when the file cannot be written; `Corrupt` when a row does not fit.
    pub fn create(&mut self, spec: &TableSpec, rows: &[(Key, Vec<Value>)]) -> Result<bool, Fault> {
        Ok(self.connection.transaction(|connection| {
            if describe(connection, &spec.table.name)?.is_some() {
                return Ok(false);
            }
            connection.execute(sqlx::query(create_table(spec)))?;
            for (key, values) in rows {
                let query = bind_key(sqlx::query(insert_row(spec)), key);
                let others =
                    spec.columns.iter().zip(values).filter(|(column, _)| spec.table.key_number(&column.name).is_none());
                connection.execute(others.fold(query, |query, (_, value)| bind(query, value)))?;
            }
            Ok(true)
        })?)
    }
}
