//! An entry of a batch: one record, where it lies, and what was decided of it.

use crate::flow::effect::Reject;
use crate::flow::record::Record;
use crate::ports::rows::OutboxRow;

pub(super) struct Entry<'a> {
    pub(super) share: usize,
    pub(super) record: Record<'a>,
    pub(super) key: Result<usize, Reject>, // the slot
    pub(super) place: Place,
    pub(super) decided: Decided,
}

/// Where a record lies, as its source declares.
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
        /// What is bound for topics, until [`Batch::outbox`](crate::engine::worker::rows::batch::Batch::outbox) takes it.
        notices: Vec<OutboxRow>,
        notice_count: i64,
        /// Bytes of the notices and of what was written into stores.
        bytes: usize,
        magnitude: Option<f64>,
        threshold: Option<f64>,
    },
    Skipped(String),
    Dead(Reject),
}
