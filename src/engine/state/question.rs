//! A question to a worker about its stores, and the answer.

use crate::ports::Fault;
use crate::ports::source::TaskId;
use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use std::sync::Weak;

/// The number of keys that a worker looks at between two batches.
pub(crate) const SLICE_KEYS: usize = 1_000;

pub(crate) const SLICE_BYTES: usize = 1 << 20;

/// The cost of a question for one key, which may read the disk, in keys looked at in a row.
const KEY_COST: usize = SLICE_KEYS / 32;

/// The progress of a partition of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The partition number.
    pub partition: i32,
    /// The store's position: the changelog record before it is the last one proved.
    pub changelog_next_offset: i64,
    /// K of each input: every record below has had its effect on the answer.
    pub inputs: Vec<InputPosition>,
    /// Milliseconds since something was last proved: the answer may be this old at most while records wait.
    pub staleness_ms: u64,
    /// Whether everything that was decided here is proved.
    pub is_caught_up: bool,
    /// Keys on the disk, possibly an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Keys that are committed and not on the disk yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritten_keys: Option<u64>,
    /// Bytes of keys and values on the disk, possibly an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// K of one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPosition {
    /// `topic-partition`.
    pub source: String,
    /// The first record that has had no effect yet.
    pub next_offset: i64,
}

/// A partition that is ours and not readable yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unready {
    /// The partition number.
    pub partition: i32,
    /// Its state, in words.
    pub state: &'static str,
    /// The time that its restore still takes, where one is in progress.
    pub seconds_left: Option<f64>,
}

/// A question to a worker.
pub(crate) struct Question {
    pub(crate) task: TaskId,
    pub(crate) store: usize,
    pub(crate) asked: Asked,
    pub(crate) answer: Sender<Result<Answer, Fault>>,
    /// Dead once nobody waits for the answer.
    pub(crate) is_open: Weak<()>,
}

pub(crate) enum Asked {
    Keys(Vec<Vec<u8>>),
    /// Keys with `from <= key < to`, as many as one slice holds.
    Slice {
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        count_max: usize,
    },
    Size,
}

impl Asked {
    /// The cost, in keys looked at.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.len() * KEY_COST,
            Self::Slice { .. } | Self::Size => SLICE_KEYS,
        }
    }
}

/// A key, and its value with the version in front.
pub(crate) type Found = (Vec<u8>, Vec<u8>);

/// The entries found, and the key to go on from.
pub(crate) type Slice = (Vec<Found>, Option<Vec<u8>>);

pub(crate) enum Answer {
    Partition(Vec<Found>, Option<Vec<u8>>, Standing),
    Unready(Unready),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_answers_some_dozens_of_keys_or_one_range() {
        let cost = |count| Asked::Keys(vec![Vec::new(); count]).cost();
        assert_eq!((cost(0), cost(1) * 32, cost(7)), (0, 31 * 32, 7 * 31));
        assert!(cost(31) < SLICE_KEYS && cost(33) > SLICE_KEYS);
        assert_eq!(Asked::Size.cost(), SLICE_KEYS);
    }
}
