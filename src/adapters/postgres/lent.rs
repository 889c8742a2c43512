//! The connections of a whole run, compared with each other.

use super::connection;
use super::rows::PostgresRows;
use super::schema::PostgresSchema;
use crate::ports::fault::Fault;

/// Refuses a pooler that lends one connection of the server to several of ours, which are all open.
///
/// # Errors
/// `Fatal`, with the pooler's setting to change.
pub fn refuse_lent_connections(schema: &PostgresSchema, rows: &[PostgresRows]) -> Result<(), Fault> {
    let backends: Vec<&str> = std::iter::once(schema.backend()).chain(rows.iter().map(PostgresRows::backend)).collect();
    connection::refuse_lent(&backends)
}
