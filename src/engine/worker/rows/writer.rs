//! The writer of rows into the open transaction before the batch is decided to its end.

use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::ports::rows::{RowRead, RowWrite};
use std::time::Duration;

/// Writes and reads rows of the open transaction while its batch is being decided.
pub(super) trait Writer<E> {
    /// Whether the table keeps every value unchanged, by [`Rows::keeps`](crate::ports::rows::Rows::keeps).
    fn keeps(&self, table: usize) -> bool;

    /// Writes one row. Answers the reject if the database refuses it: then nothing is written.
    fn offer(&mut self, table: usize, row: &RowWrite) -> Result<Option<Reject>, E>;

    /// Writes rows; fails where the database refuses one.
    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), E>;

    /// The rows as they are by now.
    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, E>;

    /// The longest time without a statement until now.
    fn idled(&self) -> Duration;
}
