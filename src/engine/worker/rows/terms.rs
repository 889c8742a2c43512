//! The terms of a batch: the facts that hold for all its records, and the stores of its tasks.

use crate::engine::protocol::event_time::Horizon;
use crate::engine::state::access::Trouble;
use crate::engine::state::stores::Keyed;
use crate::engine::task::in_hand::Hand;
use crate::flow::record::{Timestamp, TopicName};
use crate::ports::source::TaskId;
use crate::settings::engine::MissingRow;
use std::collections::{BTreeMap, HashMap};

/// The stores of the tasks in a batch, where their steps have some.
pub(super) type TaskStores = BTreeMap<TaskId, Keyed>;

/// The failure to read a store: no record is to blame, and the batch is not decided.
pub(crate) struct StoreTrouble {
    pub(crate) task: TaskId,
    pub(crate) trouble: Trouble,
}

/// The facts that hold for the whole batch.
pub(super) struct Terms<'a> {
    pub(super) pipeline: &'a str,
    pub(super) now: Timestamp,
    pub(super) horizon: Horizon,
    pub(super) missing_row: MissingRow,
    /// The number of times that a record which asks for it is offered again before it becomes a dead letter.
    pub(super) retry_attempts: u32,
    pub(super) record_bytes_max: usize,
    pub(super) message_bytes_max: &'a HashMap<TopicName, usize>,
    /// Whether verdicts are kept.
    pub(super) keeps_verdicts: bool,
    pub(super) hand: &'a Hand,
}
