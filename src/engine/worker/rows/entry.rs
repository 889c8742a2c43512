//! An entry of a batch: one record, its place, and its outcome.

use crate::flow::effect::Reject;
use crate::flow::record::Record;
use crate::ports::rows::{Counts, OutboxRow};

pub(super) struct Entry<'a> {
    pub(super) share: usize,
    pub(super) record: Record<'a>,
    pub(super) key: Result<usize, Reject>, // the slot
    pub(super) place: Place,
    pub(super) decided: Decided,
    /// What the timers behind it led to.
    pub(super) rung: Rung,
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
        /// The messages, until [`Batch::outbox`](crate::engine::worker::rows::batch::Batch::outbox) takes them.
        notices: Vec<OutboxRow>,
        notice_count: i64,
        /// Bytes of the notices and of the values written into stores.
        bytes: usize,
        magnitude: Option<f64>,
        threshold: Option<f64>,
    },
    Skipped(String),
    /// It could not be read, and is skipped as its source says.
    Unreadable(Reject),
    Dead(Reject),
}

/// What the timers behind one record led to.
#[derive(Default)]
pub(super) struct Rung {
    pub(super) rows: Vec<OutboxRow>,
    pub(super) bytes: usize,
    pub(super) counts: Counts,
    pub(super) fired: usize,
}
