//! The slot of one row in a batch: the row in the database, and its state after the records applied since.

use crate::engine::worker::rows::writer::Writer;
use crate::flow::key::Key;
use crate::flow::row::Value;
use crate::ports::rows::{RowWrite, WriteKind};

/// The length up to which no database refuses a value for its size.
const VALUE_BYTES: usize = 1 << 20;

/// A row of the batch.
pub(super) struct Slot {
    pub(super) table: usize,
    pub(super) key: Key,
    /// The row in the database, with its version; `None` where it is missing.
    pub(super) read: Option<(i64, Vec<Value>)>,
    /// The row after the records applied since; `None` while it is as read.
    pub(super) made: Option<Made>,
    /// The database refused it: each record's write is offered as soon as it is decided.
    pub(super) is_suspect: bool,
    /// Several records of the batch change it.
    pub(super) is_contested: bool,
    /// It must be written before its next record.
    pub(super) is_pending: bool,
}

/// What the records of a batch have made of a row.
#[derive(Clone)]
pub(super) enum Made {
    /// A row of this version.
    Row(i64, Vec<Value>),
    /// It is deleted.
    Gone,
}

impl Slot {
    pub(super) const fn new(table: usize, key: Key) -> Self {
        Self { table, key, read: None, made: None, is_suspect: false, is_contested: false, is_pending: false }
    }

    /// Forgets the row, because the database has what was changed by now: it has to be read again.
    pub(super) fn begin_anew(&mut self) {
        (self.read, self.made) = (None, None);
    }

    /// The row and its version as the next record finds them; `None` where it is missing.
    pub(super) fn row(&self) -> Option<(i64, &[Value])> {
        match &self.made {
            None => self.read.as_ref().map(|(version, values)| (*version, &values[..])),
            Some(Made::Row(version, values)) => Some((*version, values)),
            Some(Made::Gone) => None,
        }
    }

    /// Whether the database may refuse the changed row, or store it differently: as it may with a new row, too, unless
    /// every value that its steps see is theirs, which `is_whole` answers. A row that is deleted is gone before another one takes its place.
    pub(super) fn must_be_written<E>(&self, rows: &impl Writer<E>, is_whole: impl FnOnce() -> bool) -> bool {
        match self.made.as_ref().filter(|_| !self.is_suspect) {
            None => false,
            Some(Made::Gone) => true,
            Some(Made::Row(_, values)) => {
                let is_new = self.read.is_none();
                (is_new && !is_whole()) || !rows.keeps(self.table) || !values.iter().all(is_kept)
            }
        }
    }

    /// The row to write; `None` when nothing is to be written.
    pub(super) fn write(&self) -> Option<RowWrite> {
        self.writing(self.made.clone()?)
    }

    /// The same, and the row is moved out.
    pub(super) fn take_write(&mut self) -> Option<RowWrite> {
        let made = self.made.take()?;
        self.writing(made)
    }

    /// Records that undo each other leave the row as it was; it is written all the same, since its version moved.
    fn writing(&self, made: Made) -> Option<RowWrite> {
        let read = self.read.as_ref().map(|(version, _)| *version);
        let (kind, to_version, values) = match (read, made) {
            (Some(_), Made::Row(version, values)) => (WriteKind::Update, version, values),
            (None, Made::Row(version, values)) => (WriteKind::Insert, version, values),
            (Some(version), Made::Gone) => (WriteKind::Delete, version, Vec::new()),
            (None, Made::Gone) => return None,
        };
        Some(RowWrite { kind, key: self.key.clone(), from_version: read.unwrap_or(0), to_version, values })
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
