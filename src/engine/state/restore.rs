//! One restore in progress, and the judgement whether a store can be made whole from its checkpoint.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::status::RestoreStatus;
use crate::flow::record::{NextOffset, Timestamp};
use crate::ports::source::{LogIds, TaskId};
use crate::ports::store::Checkpoint;
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys that are gathered, last value winning, before they are written in key order: sorted writes cost a quarter
/// (measured: 1.2 µs a write sorted, 5 µs at random).
const GATHERED: usize = 100_000;

/// Bytes of keys and values after which they are written even if they are fewer keys, and a slice ends: a worker's
/// memory is bounded whatever the size of a value. Far above the bytes of [`GATHERED`] small values, so that only large
/// ones reach it.
const GATHERED_BYTES: usize = 16 << 20;

/// One restore; a worker reads for one at a time.
pub(crate) struct Restore {
    pub(crate) task: TaskId,
    /// The number of the task's store.
    pub(crate) store: usize,
    pub(crate) end: NextOffset,
    pub(crate) position: NextOffset,
    /// The time when it last came further.
    pub(crate) moved_at: Duration,
    pub(crate) gathered: Gathered,
    /// The time since when it must have met every tombstone of its contents; its next checkpoint counts as this old.
    /// During the restore it is the age of the checkpoint that it goes on from; once it is whole, the moment when it
    /// began.
    pub(crate) since: Timestamp,
    pub(crate) began: Timestamp,
    pub(crate) status: RestoreStatus,
}

/// Keys in their order, each with its last value, and their bytes.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) values: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) bytes: usize,
}

impl Gathered {
    pub(crate) fn insert(&mut self, key: &[u8], value: Option<&[u8]>) {
        let size = |value: Option<usize>| value.unwrap_or(0);
        self.bytes += size(value.map(<[u8]>::len));
        match self.values.insert(key.to_vec(), value.map(<[u8]>::to_vec)) {
            Some(before) => self.bytes -= size(before.map(|before| before.len())),
            None => self.bytes += key.len(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.values.len() >= GATHERED || self.bytes >= GATHERED_BYTES
    }
}

/// The halt where the store has records that the changelog has lost.
pub(crate) fn cut_at(end: NextOffset, checkpoint: &Checkpoint) -> (HaltReason, String) {
    let message = format!(
        "the store has the changelog up to {}, and the changelog ends at {end}: it was cut there, for instance by an unclean \
         leader election",
        checkpoint.next_offset
    );
    (HaltReason::ChangelogTruncated, message)
}

/// The judgement of a checkpoint.
pub(crate) enum Stands {
    From(NextOffset),
    Rebuild(&'static str),
    Halt(HaltReason, String),
}

/// The time by which a checkpoint may be ahead of this machine's clock: clocks of two machines differ by less.
const SKEW: Duration = Duration::from_mins(5);

/// Whether a checkpoint is older than `max`: than tombstones are kept. One from the future was written by a clock that was
/// wrong, so that its age is not known, and counts as older.
pub(crate) fn is_older(checkpoint: &Checkpoint, now: Timestamp, max: Duration) -> bool {
    let age = i128::from(now.0) - i128::from(checkpoint.at.0);
    let millis = |duration: Duration| i128::try_from(duration.as_millis()).unwrap_or(i128::MAX);
    age > millis(max) || age < -millis(SKEW)
}

/// Judges whether a store can be made whole from its checkpoint on. `start` and `end` are those of the changelog.
pub(crate) fn checkpoint_stands(
    checkpoint: Option<&Checkpoint>,
    log_ids: &LogIds,
    start: NextOffset,
    end: NextOffset,
    is_old: bool,
) -> Stands {
    let is_whole = start.0 == 0;
    let truncated = |what: String| {
        let message = format!("{what}, and the changelog begins at {start}: what lies before is lost");
        Stands::Halt(HaltReason::ChangelogTruncated, message)
    };
    match checkpoint {
        None if is_whole => Stands::From(start),
        None => truncated("there is no store here".into()),
        Some(checkpoint) if checkpoint.log_ids != *log_ids => Stands::Halt(
            HaltReason::ChangelogRecreated,
            format!(
                "the store was made from topic id {}, the changelog is {}",
                checkpoint.log_ids.topic_id, log_ids.topic_id
            ),
        ),
        // The log has lost records that the store still has: if the store were rebuilt from it, the better copy would
        // be gone.
        Some(checkpoint) if checkpoint.next_offset > end => {
            let (reason, message) = cut_at(end, checkpoint);
            Stands::Halt(reason, message)
        }
        Some(_) if is_old && is_whole => {
            Stands::Rebuild("it is older than tombstones are kept, so deleted keys might come back")
        }
        Some(checkpoint) if checkpoint.next_offset < start => {
            truncated(format!("the store ends at {}", checkpoint.next_offset))
        }
        Some(checkpoint) => Stands::From(checkpoint.next_offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(topic_id: &str) -> LogIds {
        LogIds { cluster_id: "c".into(), topic_id: topic_id.into() }
    }

    fn stands(next_offset: i64, topic_id: &str, start: i64, end: i64, is_old: bool) -> &'static str {
        let checkpoint = Checkpoint {
            next_offset: NextOffset(next_offset),
            log_ids: ids(topic_id),
            at: Timestamp(0),
            inputs: Vec::new(),
        };
        let checkpoint = (next_offset >= 0).then_some(&checkpoint);
        match checkpoint_stands(checkpoint, &ids("t"), NextOffset(start), NextOffset(end), is_old) {
            Stands::From(from) if from.0 == next_offset.max(0) => "from",
            Stands::From(_) => "elsewhere",
            Stands::Rebuild(_) => "rebuild",
            Stands::Halt(reason, _) => reason.label(),
        }
    }

    #[test]
    fn a_checkpoint_from_the_future_counts_as_too_old() {
        let day = Duration::from_hours(24);
        let at = |at: i64| {
            let (next_offset, log_ids) = (NextOffset(1), ids("t"));
            is_older(&Checkpoint { next_offset, log_ids, at: Timestamp(at), inputs: Vec::new() }, Timestamp(0), day)
        };
        let hours = |n: i64| n * 3_600_000;
        assert!(!at(hours(-24)) && at(hours(-24) - 1));
        assert!(!at(60_000) && at(hours(1)) && at(i64::MAX), "a clock that is wrong says nothing of an age");
    }

    #[test]
    fn a_checkpoint_is_used_rebuilt_or_halts_by_what_the_changelog_still_has() {
        assert_eq!(stands(7, "t", 0, 10, false), "from");
        assert_eq!(stands(10, "t", 0, 10, false), "from");
        assert_eq!(stands(7, "t", 5, 10, false), "from");
        assert_eq!(stands(-1, "t", 0, 10, false), "from", "no store: the whole changelog");
        assert_eq!(stands(-1, "t", 5, 10, false), "changelog-truncated");
        assert_eq!(stands(7, "other", 0, 10, false), "changelog-recreated");
        assert_eq!(stands(7, "t", 0, 10, true), "rebuild");
        assert_eq!(stands(7, "t", 5, 10, true), "from", "nothing better is left");
        for (start, is_old) in [(0, false), (0, true), (5, false), (5, true)] {
            assert_eq!(stands(12, "t", start, 10, is_old), "changelog-truncated", "the store has what the log lost");
        }
        assert_eq!(stands(4, "t", 5, 10, false), "changelog-truncated");
    }

    #[test]
    fn what_is_gathered_counts_each_key_with_its_last_value_and_is_full_by_keys_or_by_bytes() {
        let mut gathered = Gathered::default();
        gathered.insert(b"key", Some(&[0; 100]));
        gathered.insert(b"key", Some(&[0; 7]));
        gathered.insert(b"other", None);
        assert_eq!((gathered.values.len(), gathered.bytes), (2, 3 + 7 + 5));
        gathered.insert(b"key", None);
        assert_eq!(gathered.bytes, 3 + 5);
        gathered.insert(b"key", Some(&vec![0; GATHERED_BYTES - 9]));
        assert!(!gathered.is_full());
        gathered.insert(b"x", None);
        assert!(gathered.is_full(), "by bytes");
        let mut gathered = Gathered::default();
        (0..GATHERED).for_each(|n| gathered.insert(&n.to_be_bytes(), None));
        assert!(gathered.is_full(), "by keys");
    }
}
