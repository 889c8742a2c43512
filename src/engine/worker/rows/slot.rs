//! The slot of one row in a batch: the row in the database, and its state after the records applied since.

use crate::engine::worker::rows::writer::Writer;
use crate::flow::key::Key;
use crate::flow::row::Value;
use crate::ports::rows::RowWrite;

/// The length up to which no database refuses a value for its size.
const VALUE_BYTES: usize = 1 << 20;

/// A row of the batch.
#[expect(clippy::struct_excessive_bools, reason = "each is asked by itself, and each pair of them comes")]
pub(super) struct Slot {
    pub(super) table: usize,
    pub(super) key: Key,
    /// The row in the database.
    pub(super) read: Option<(i64, Vec<Value>)>,
    /// The values after the records applied since; `None` while they are as read.
    pub(super) values: Option<Vec<Value>>,
    /// Records since that changed it.
    pub(super) changes: i64,
    /// The database refused it: each record's write is offered as soon as it is decided.
    pub(super) is_suspect: bool,
    /// Several records of the batch change it.
    pub(super) is_contested: bool,
    /// It must be written before its next record.
    pub(super) is_pending: bool,
    /// It was written before the batch was decided to its end.
    pub(super) is_written: bool,
}

impl Slot {
    pub(super) const fn new(table: usize, key: Key) -> Self {
        Self {
            table,
            key,
            read: None,
            values: None,
            changes: 0,
            is_suspect: false,
            is_contested: false,
            is_pending: false,
            is_written: false,
        }
    }

    /// Forgets the row, because the database has what was changed by now: it has to be read again.
    pub(super) fn begin_anew(&mut self) {
        (self.read, self.values, self.changes) = (None, None, 0);
    }

    /// Whether the database may refuse the changed row, or store it differently.
    pub(super) fn must_be_written<E>(&self, rows: &impl Writer<E>) -> bool {
        let Some(values) = self.values.as_ref().filter(|_| !self.is_suspect) else { return false };
        !rows.keeps(self.table) || !values.iter().all(is_kept)
    }

    /// The row to write; `None` when nothing is to be written.
    pub(super) fn write(&self) -> Option<RowWrite> {
        let (from_version, to_version) = self.versions()?;
        Some(RowWrite { key: self.key.clone(), from_version, to_version, values: self.values.clone()? })
    }

    /// The versions before and after, where there is something to write.
    pub(super) fn versions(&self) -> Option<(i64, i64)> {
        let (version, read) = self.read.as_ref()?;
        let values = self.values.as_ref()?;
        // Records that undo each other leave the row as it was; it is written all the same, since its version moved.
        if self.changes == 0 && values == read {
            return None;
        }
        Some((*version, version + self.changes))
    }
}

/// Whether every database that holds values of this kind holds this one.
fn is_kept(value: &Value) -> bool {
    match value {
        Value::Text(text) | Value::Json(text) => text.len() <= VALUE_BYTES && !text.as_bytes().contains(&0),
        Value::Bytes(bytes) => bytes.len() <= VALUE_BYTES,
        _ => true,
    }
}
