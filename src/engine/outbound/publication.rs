//! A publication, on its way from a commit to the relay: the messages, and the offsets that are committed with them.

use crate::engine::outbound::outgoing::Outgoing;
use crate::engine::protocol::ownership::AssignmentId;
use crate::flow::record::{NextOffset, Offset, Timestamp, TopicPartition};
use crate::ports::rows::{Counts, OutboxRow};
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The way in which a part was decided, which also proves its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// A step with rows: the database, in which the position was claimed with this epoch.
    Database { epoch: i64 },
    /// A step without rows: the log alone. Nothing was claimed.
    Log,
}

impl Through {
    /// The epoch of the claim in K; 0 where there was none.
    pub(crate) const fn epoch(self) -> i64 {
        match self {
            Self::Database { epoch } => epoch,
            Self::Log => 0,
        }
    }
}

/// The part of one source partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) task: TaskId,
    pub(crate) assignment: AssignmentId,
    pub(crate) source: TopicPartition,
    pub(crate) through: Through,
    /// The K that is expected. Equal to `to` where K is only (re)written.
    pub(crate) from: NextOffset,
    /// The new K.
    pub(crate) to: NextOffset,
    /// The marks that K carries beside D.
    pub(crate) marks: Option<Arc<str>>,
    /// The number of the last batch of the task's stores that it ends with; 0 for none.
    pub(crate) batch: u64,
}

/// An outbox row on its way into its topic.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) row: OutboxRow,
    /// The timestamp of its input, for the age at publication. Not kept over a takeover: an age measured over a crash would
    /// say nothing about the service.
    pub(crate) input_at: Option<Timestamp>,
}

impl Part {
    /// Whether its step has no rows: no database has claimed it.
    pub(crate) const fn is_through_log(&self) -> bool {
        matches!(self.through, Through::Log)
    }
}

/// The last input of each source that a batch came to, by the first of its changelog records' origins.
pub(crate) type Batches = BTreeMap<(TopicPartition, Offset), Vec<(TopicPartition, Offset)>>;

/// The messages of one database commit, or of some records of steps without rows.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    pub(crate) parts: Vec<Part>,
    /// In (`source_offset`, `seq`) order within each source partition.
    pub(crate) rows: Vec<Outbound>,
    /// Changelog records, and re-keyed records of steps without rows, in the order of their inputs within each partition.
    pub(crate) outgoing: Outgoing,
    /// Of a remainder: the last inputs of each batch that wrote changelog records, by the origin of those.
    pub(crate) batches: Batches,
    /// The ends of the changelogs when this was last sent.
    pub(crate) ends: Vec<(TopicPartition, NextOffset)>,
    /// The counts of steps without rows, reported once it is published.
    pub(crate) counts: Counts,
    /// Whether K must be written soon even without rows.
    pub(crate) is_urgent: bool,
    /// The bytes that it had when it was handed over.
    pub(crate) bytes: usize,
}

impl Publication {
    /// The number of its messages.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.outgoing.len()
    }

    pub(crate) fn append(&mut self, next: Self) {
        for part in next.parts {
            match self.parts.iter_mut().find(|own| own.source == part.source && own.assignment == part.assignment) {
                Some(own) => (own.to, own.batch) = (part.to, own.batch.max(part.batch)),
                None => self.parts.push(part),
            }
        }
        self.rows.extend(next.rows);
        self.outgoing.append(next.outgoing);
        self.batches.extend(next.batches);
        self.counts += next.counts;
        self.bytes += next.bytes;
    }

    /// Gives everything of `task` in it the number of a batch of its stores.
    pub(crate) fn number(&mut self, task: TaskId, batch: u64) {
        self.parts.iter_mut().filter(|part| part.task == task).for_each(|part| part.batch = batch);
    }

    pub(crate) fn remove(&mut self, source: &TopicPartition) {
        self.parts.retain(|part| part.source != *source);
        self.rows.retain(|outbound| outbound.row.source != *source);
        self.outgoing.retain(|other, _| other != source);
    }

    /// Removes everything of `source` before `k`, which is published.
    pub(crate) fn cut(&mut self, source: &TopicPartition, k: NextOffset) {
        if self.parts.iter().any(|part| part.source == *source && part.to <= k) {
            return self.remove(source);
        }
        for part in self.parts.iter_mut().filter(|part| part.source == *source) {
            part.from = k;
        }
        self.rows.retain(|Outbound { row, .. }| row.source != *source || k.is_before(row.source_offset));
        self.outgoing.retain(|other, offset| other != source || k.is_before(offset));
    }

    /// The tasks that it belongs to.
    pub(crate) fn tasks(&self) -> BTreeSet<TaskId> {
        self.parts.iter().map(|part| part.task).collect()
    }

    /// One publication a task. Outputs of a step without rows are never separated by input, because its changelog
    /// records are about all of them, and each task keeps the order of its messages whatever inputs they name: of two
    /// records of one key the later one counts.
    pub(crate) fn split(self) -> Vec<Self> {
        let Self { parts, rows, outgoing, batches, counts, is_urgent, .. } = self;
        let mut tasks = BTreeMap::new();
        let mut out: BTreeMap<TaskId, Self> = BTreeMap::new();
        for part in parts {
            tasks.insert(part.source.clone(), part.task);
            let own = out.entry(part.task).or_insert_with(|| Self { is_urgent, ..Self::default() });
            own.parts.push(part);
        }
        for outbound in rows {
            if let Some(own) = tasks.get(&outbound.row.source).and_then(|task| out.get_mut(task)) {
                own.rows.push(outbound);
            }
        }
        for (origin, message) in outgoing.with_origins() {
            if let Some(own) = tasks.get(origin.source).and_then(|task| out.get_mut(task)) {
                own.outgoing.push(origin, &message);
            }
        }
        for (origin, lasts) in batches {
            if let Some(own) = tasks.get(&origin.0).and_then(|task| out.get_mut(task)) {
                own.batches.insert(origin, lasts);
            }
        }
        let mut out: Vec<Self> = out.into_values().collect();
        if let Some(first) = out.first_mut() {
            first.counts = counts; // of all tasks
        }
        out
    }
}
