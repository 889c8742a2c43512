//! A history: all that the oracle knows, as plain data. It stands still: nothing moved while it was read.

use std::collections::BTreeMap;
use tidegate::flow::record::{NextOffset, Offset, TopicName, TopicPartition};
use tidegate::ports::history::Found;
use tidegate::ports::rows::OutboxRow;

/// Everything at one moment, and the samples of the time before it.
#[derive(Clone, Debug)]
pub struct History {
    pub pipeline: String,
    /// The moment, in milliseconds since 1970.
    pub read_at_ms: i64,
    /// Longest time that a published outbox row may stay.
    pub outbox_kept_ms: i64,
    /// Whether everything fed was to be taken and published.
    pub is_drained: bool,
    /// Each partition of each source topic once.
    pub sources: Vec<Source>,
    /// Everything in the source topics; of each partition in offset order.
    pub inputs: Vec<Input>,
    pub rows: Vec<Row>,
    /// The ledger: every change of every row, in any order.
    pub links: Vec<Link>,
    /// The verdicts kept by Tidegate, in any order.
    pub verdicts: Vec<Verdict>,
    pub outbox: Vec<OutboxRow>,
    /// Everything in the output topics, of each partition in offset order.
    pub outputs: Vec<Output>,
    pub output_partitions: BTreeMap<TopicName, i32>,
    pub states: States,
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// When the last fault ended.
    pub healed_at_ms: Option<i64>,
    /// The receipts of readings reported to a sender as accepted, each once.
    pub accepted: Vec<u64>,
}

/// One source partition.
#[derive(Clone, Debug)]
pub struct Source {
    pub place: TopicPartition,
    /// L and H.
    pub start: NextOffset,
    pub end: NextOffset,
    /// K, stable.
    pub committed: Option<NextOffset>,
    pub position: Option<Position>,
}

/// Its row in the table `position`.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub epoch: i64,
    /// D.
    pub decided: NextOffset,
    /// P.
    pub published: NextOffset,
}

/// A record in a source topic.
#[derive(Clone, Debug)]
pub struct Input {
    pub place: TopicPartition,
    pub offset: Offset,
    pub expect: Expect,
    /// Under which its sender knows it.
    pub receipt: Option<u64>,
}

/// The effect that a record must have: the load says so in a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// One change of this row.
    Change(i64),
    /// A dead letter.
    DeadLetter,
}

/// A row as it is.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: i64,
    pub version: i64,
    /// The traces of the last change: its nonce and the value of the chain; 0 before the first.
    pub nonce: i64,
    pub chain: i64,
}

/// One change of one row.
#[derive(Clone, Debug)]
pub struct Link {
    pub id: i64,
    /// From 1 within its row.
    pub number: i64,
    pub place: TopicPartition,
    pub offset: Offset,
    /// The algorithm's random draw.
    pub nonce: i64,
    /// The chain's value after it.
    pub chain: i64,
}

/// The decision about a record.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub place: TopicPartition,
    pub offset: Offset,
    /// Whether it changed its row.
    pub is_change: bool,
    pub magnitude: Option<f64>,
    pub threshold: Option<f64>,
    pub decided_at_ms: i64,
}

/// A record in an output topic, seen by a reader of everything.
#[derive(Clone, Debug)]
pub struct Output {
    pub topic: TopicName,
    pub found: Found,
    /// The transaction it was sent in, where the reader knows it; numbers are the reader's own.
    pub transaction: Option<u64>,
    /// The outcome of that transaction in this partition, by its marker.
    pub fate: Fate,
    /// Whether a committed reader sees it.
    pub is_visible: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    Committed,
    Aborted,
    Open,
}

/// Values by store and key.
pub type Values = BTreeMap<(String, String), String>;

/// Keyed state, three times.
#[derive(Clone, Debug, Default)]
pub struct States {
    /// Values computed again from the inputs.
    pub replayed: Values,
    /// The changelogs' last values.
    pub changelog: Values,
    /// The stores' values; `None` where nobody asked them.
    pub stores: Option<Values>,
}

/// A watcher's observations at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at_ms: i64,
    pub sources: Vec<SourceSample>,
    /// Last stable offset and end of each output partition.
    pub outputs: Vec<(TopicPartition, i64, i64)>,
    /// The longest that a session has been idle in a transaction, and that one has waited for a lock.
    pub idle_ms: i64,
    pub lock_wait_ms: i64,
}

#[derive(Clone, Debug)]
pub struct SourceSample {
    pub place: TopicPartition,
    pub end: NextOffset,
    pub committed: Option<NextOffset>,
    /// Epoch and D.
    pub position: Option<(i64, NextOffset)>,
}

impl Source {
    /// D.
    pub fn decided(&self) -> Option<NextOffset> {
        self.position.map(|position| position.decided)
    }
}

impl History {
    /// Counts of everything that there was to judge, in one line.
    pub(super) fn summary(&self) -> String {
        let aborted = self.outputs.iter().filter(|output| output.fate == Fate::Aborted).count();
        format!(
            "{} records, {} changes of {} rows, {} verdicts, {} outbox rows, {} messages ({aborted} of them aborted), {} samples",
            self.inputs.len(),
            self.links.len(),
            self.rows.len(),
            self.verdicts.len(),
            self.outbox.len(),
            self.outputs.len(),
            self.samples.len()
        )
    }
}
