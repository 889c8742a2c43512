//! The share of one source partition in a batch.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::task::Over;
use crate::engine::worker::rows::entry::{Entry, Place};
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::partitioning::{Declared, KeyHash, OnViolation};
use crate::flow::reading::OnUnreadable;
use crate::flow::record::{Record, TopicPartition};
use crate::flow::step::RowStep;
use crate::flow::timer::Timer;
use crate::ports::note::InHand;
use crate::ports::source::TaskId;

/// One source partition's part of a batch.
#[expect(clippy::struct_excessive_bools, reason = "each is asked by itself")]
pub(super) struct Share<'a> {
    pub(super) task: TaskId,
    pub(super) source: &'a TopicPartition,
    /// The number of the source's topic.
    pub(super) number: u32,
    pub(super) incarnation: i32,
    pub(super) step: &'a dyn RowStep,
    /// The index of the step's table in the row port.
    pub(super) table: usize,
    /// The number of the table's columns.
    pub(super) width: usize,
    /// The places of the step's columns among those of the table; `None` where they are the same.
    pub(super) columns: Option<&'a [usize]>,
    /// The number of times that the first record was offered and not decided.
    pub(super) attempts: u32,
    /// The reject that makes the first record a dead letter, whatever its step decides.
    pub(super) reject: Option<&'a Reject>,
    pub(super) is_versioned: bool,
    /// Whether the source is kept as a table, which touches no row and moves no clock.
    pub(super) is_table: bool,
    /// Whether the step has stores.
    pub(super) is_stateful: bool,
    /// Whether a record that waits holds the other streams of its task back.
    pub(super) holds_streams: bool,
    /// Whether a record may come too late for what the step gathers events in.
    pub(super) may_be_late: bool,
    /// Whether event time decides which of their values the step finds.
    pub(super) is_timed: bool,
    /// The places of the key's columns, each behind its number in the key, and of the version, where a struct has them: the
    /// engine alone writes them.
    pub(super) keys_at: &'a [(usize, usize)],
    pub(super) version_at: Option<usize>,
    /// The places of columns whose values the database makes.
    pub(super) read_only: Vec<usize>,
    /// The declaration of the partitioning of the source.
    pub(super) declared: Option<&'a Declared>,
    /// The hash by which keys must be partitioned to meet, and over how many partitions, where nothing is declared and the
    /// step is joined with tables.
    pub(super) assumed: Option<(&'a KeyHash, i32)>,
    /// What comes of a record of the source that cannot be read.
    pub(super) on_unreadable: OnUnreadable,
    /// Most timers that fire behind one of its records.
    pub(super) most_timers: usize,
    /// Timers behind its first record that are dead letters.
    pub(super) over: &'a [Over],
    pub(super) records: Vec<Record<'a>>,
}

impl Share<'_> {
    /// The reject of a timer that is not run any more.
    pub(super) fn over(&self, timer: &Timer) -> Option<&Over> {
        self.over.iter().find(|over| over.timer == *timer)
    }

    /// Whether the row of a key is one that the database cannot read, as a timer of this key has shown.
    pub(super) fn is_unread(&self, key: &Key) -> bool {
        let key_type = self.step.table().table.key_type;
        let is_its = |over: &Over| key_type.parse(Some(&over.timer.key)).is_ok_and(|own| own == *key);
        self.over.iter().any(|over| over.is_unread && is_its(over))
    }

    /// Whether the record is the first of the share.
    pub(super) fn begins_with(&self, record: &Record<'_>) -> bool {
        self.records.first().is_some_and(|first| first.offset == record.offset)
    }

    /// Holds a record against the source's declaration.
    pub(super) fn place(&self, record: &Record<'_>) -> Result<Place, Reject> {
        let Some(declared) = self.declared else { return Ok(Place::Unchecked) };
        let expected = declared.place(record.key)?;
        Ok(if expected == self.source.partition.0 { Place::There } else { Place::Elsewhere(expected) })
    }

    /// The record as the note for crashes names it.
    pub(super) fn in_hand(&self, record: &Record<'_>) -> InHand {
        InHand { source: self.number, partition: self.source.partition, offset: record.offset, timer: 0 }
    }

    /// The halt of the partition in front of this record, if it is due.
    pub(super) fn halt(&self, entry: &Entry<'_>) -> Option<(HaltReason, String)> {
        let unreadable = || match &entry.key {
            Err(reject @ Reject::Unreadable { .. }) if self.on_unreadable == OnUnreadable::Halt => {
                Some((HaltReason::Unreadable, reject.told_of(entry.record.offset)))
            }
            _ => None,
        };
        self.misplaced(entry).map(|sentence| (HaltReason::WronglyKeyed, sentence)).or_else(unreadable)
    }

    /// The reason why the partition halts over the place of this record, if it does.
    pub(super) fn misplaced(&self, entry: &Entry<'_>) -> Option<String> {
        let (Place::Elsewhere(expected), Some(declared)) = (entry.place, self.declared) else { return None };
        let is_counted_only = declared.policy() == OnViolation::Warn;
        (!is_counted_only).then(|| declared.violation(entry.record.offset, expected))
    }
}
