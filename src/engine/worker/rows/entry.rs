//! An entry of a batch: one record, its place, and its outcome.

use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::Record;
use crate::ports::rows::{Counts, OutboxRow};

pub(super) struct Entry<'a> {
    pub(super) share: usize,
    pub(super) record: Record<'a>,
    pub(super) key: Result<Meets, Reject>,
    pub(super) place: Place,
    pub(super) decided: Decided,
    /// What the timers behind it led to, where any fired; boxed, since a batch has thousands of entries and few of them.
    pub(super) rung: Option<Box<Rung>>,
}

/// What a record meets.
pub(super) enum Meets {
    /// The row of this slot.
    Row(usize),
    /// The store of a table topic, under this key.
    Store(Key),
}

impl Entry<'_> {
    /// The slot of its row, where it has one.
    pub(super) fn slot(&self) -> Option<usize> {
        match &self.key {
            Ok(Meets::Row(slot)) => Some(*slot),
            Ok(Meets::Store(_)) | Err(_) => None,
        }
    }

    /// Bytes of the notices and of the values written into stores, those of the timers behind it included.
    pub(super) fn bytes(&self) -> usize {
        let own = match &self.decided {
            Decided::Applied { bytes, .. } => *bytes,
            _ => 0,
        };
        own + self.rung.as_ref().map_or(0, |rung| rung.bytes + rung.beside)
    }
}

/// The place of a record, by the declaration of its source.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Unchecked,
    There,
    /// It belongs in this partition.
    Elsewhere(i32),
}

pub(super) enum Decided {
    /// Not decided: it comes after a record that is offered again later.
    Waiting,
    Applied {
        is_changed: bool,
        /// By how much the sum of the table's versions rises; what a row that is deleted had is gone.
        rise: i64,
        /// The messages, until [`Batch::outbox`](crate::engine::worker::rows::batch::Batch::outbox) takes them.
        notices: Vec<OutboxRow>,
        notice_count: i64,
        /// Bytes of the notices and of the values written into stores.
        bytes: usize,
        magnitude: Option<f64>,
        threshold: Option<f64>,
        /// It was too late for its windows, and has a topic of its own.
        is_late: bool,
    },
    Skipped(String),
    /// It could not be read, and is skipped as its source says.
    Unreadable(Reject),
    Dead(Reject),
}

/// What the timers behind one record led to.
#[derive(Default)]
pub(super) struct Rung {
    pub(super) fired: usize,
    /// Their messages, until [`Batch::outbox`](crate::engine::worker::rows::batch::Batch::outbox) takes them.
    pub(super) rows: Vec<OutboxRow>,
    /// Bytes of the messages and of the values written into stores.
    pub(super) bytes: usize,
    /// Bytes of what took the timers out of their store.
    pub(super) beside: usize,
    pub(super) counts: Counts,
    /// How many of them changed their row.
    pub(super) changed: i64,
}
