//! The traces of a run: all that the judge looks at, whichever servers the run was on.

use crate::flow::effect::RowChange;
use crate::flow::key::Key;
use crate::flow::record::{Header, NextOffset, Offset, Record, Timestamp, TopicName, TopicPartition};
use crate::flow::row::Value;
use crate::flow::table::{ColumnSpec, TableSpec};
use crate::flow::topology::Topology;
use crate::settings::engine::EngineSettings;
use std::collections::{BTreeMap, BTreeSet};

/// A message as its topic holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The offset in its partition.
    pub offset: Offset,
    /// Its event time.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<Header>,
}

impl Message {
    /// A copy of a record.
    #[must_use]
    pub fn of(record: &Record<'_>) -> Self {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let (key, value, headers) = (owned(record.key), owned(record.value), record.headers.to_vec());
        Self { offset: record.offset, timestamp: record.timestamp, key, value, headers }
    }

    pub(super) fn as_record(&self) -> Record<'_> {
        let (key, value, headers) = (self.key.as_deref(), self.value.as_deref(), &self.headers[..]);
        Record { offset: self.offset, timestamp: self.timestamp, key, value, headers }
    }
}

/// A row by the names of its value columns.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Its version; 0 where its table has none.
    pub version: i64,
    /// Its columns but for key and version.
    pub values: BTreeMap<String, Value>,
}

impl Row {
    /// The values that a step sees, with key and version where its struct has them.
    pub(super) fn seen(&self, key: &Key, spec: &TableSpec) -> Vec<Value> {
        let value = |column: &ColumnSpec| match spec.table.key_number(&column.name) {
            Some(number) => key.column(number, column.accepts.first().copied()),
            None if spec.is_written(&column.name) => self.values.get(&column.name).cloned().unwrap_or(Value::Null),
            None => Value::I64(self.version),
        };
        spec.columns.iter().map(value).collect()
    }

    /// The row that a step leaves of the one that it found and saw, and the version that its notices tell. An unchanged column
    /// stays as it is, digit for digit.
    pub(super) fn after(
        found: Option<&Self>,
        spec: &TableSpec,
        seen: &[Value],
        change: RowChange,
    ) -> (Option<Self>, i64) {
        let version = found.map_or(0, |row| row.version);
        let next = version + i64::from(spec.table.version_column.is_some());
        let after = match change {
            RowChange::Kept => return (found.cloned(), version),
            RowChange::Deleted => return (None, next),
            RowChange::Set(after) => after,
        };
        let mut values = found.map(|row| row.values.clone()).unwrap_or_default();
        for (place, (column, after)) in spec.columns.iter().zip(after).enumerate() {
            if spec.is_written(&column.name) && seen.get(place).is_none_or(|before| !is_same(before, &after)) {
                values.insert(column.name.clone(), after);
            }
        }
        (Some(Self { version: next, values }), next)
    }
}

/// Whether a step changed a column that its table makes itself.
pub(super) fn touches(spec: &TableSpec, seen: &[Value], change: &RowChange, made: &BTreeSet<(String, String)>) -> bool {
    let RowChange::Set(after) = change else { return false };
    let is_made = |name: &String| made.contains(&(spec.table.name.clone(), name.clone()));
    let mut columns = spec.columns.iter().zip(seen.iter().zip(after));
    columns.any(|(column, (before, after))| before != after && is_made(&column.name))
}

/// Whether a column's value is the same to the database: JSON by its content, everything else by its bits.
fn is_same(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::F64(before), Value::F64(after)) => before.to_bits() == after.to_bits(),
        (Value::Json(before), Value::Json(after)) => {
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            before == after || (read(before).is_some() && read(before) == read(after))
        }
        _ => before == after,
    }
}

/// An event that rows or stores depend on.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A record of a source was decided; whether a step was run over it.
    Decided(TopicPartition, Offset, bool),
    /// A timer was run in front of a record of that offset, or behind it, at that time by the wall clock, in milliseconds since
    /// 1970: a turn of the time and place was had by then, if it is the last one that says so.
    Turned(TopicPartition, Offset, i64),
    /// Somebody else wrote one column of a row.
    Written {
        /// The table.
        table: String,
        /// The row.
        key: Key,
        /// The column.
        column: String,
        /// The value from then on.
        value: Value,
    },
    /// Somebody else inserted a row, or deleted it.
    Placed {
        /// The table.
        table: String,
        /// The row's key.
        key: Key,
        /// The row from then on.
        row: Option<Row>,
    },
    /// A named threshold has another value.
    Threshold {
        /// Its name.
        name: String,
        /// The value in force from then on.
        value: f64,
    },
    /// No store has a time to live from here on.
    EverLasting,
}

/// The offsets that a source partition has reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// D: that of the database where the step has rows, K elsewhere.
    pub decided: Option<NextOffset>,
    /// K.
    pub committed: Option<NextOffset>,
    /// P: that of the database where the step has rows and it was looked at.
    pub published: Option<NextOffset>,
    /// The end for committed readers, if it was looked at.
    pub end: Option<NextOffset>,
}

/// A source partition that stands still.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standstill {
    /// The partition that is to blame.
    pub source: TopicPartition,
    /// The label of the reason.
    pub reason: String,
    /// Further detail of the report.
    pub detail: String,
}

/// The traces of a run once it came to rest.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Partitions of every topic.
    pub partitions: i32,
    /// The engine's settings.
    pub settings: EngineSettings,
    /// The largest messages that topics take.
    pub limits: BTreeMap<String, usize>,
    /// The latest time of a clock, in milliseconds since 1970.
    pub now_ms: i64,
    /// The rows before the first record, by table and key.
    pub first_rows: BTreeMap<(String, Key), Row>,
    /// The columns that their tables make themselves, by table and name.
    pub made: BTreeSet<(String, String)>,
    /// The thresholds before the first record, by name.
    pub thresholds: BTreeMap<String, f64>,
    /// Sub-topologies, by number, that a disaster struck or that depend on such ones: their tasks may stand still, and
    /// their traces are not judged.
    pub struck: BTreeSet<usize>,
    /// Steps with rows and stores, by number, whose group forgot the marks of the stores: if nothing was ever written
    /// into a store, it looks like one that was added since, and its task may stand still as `store-added`.
    pub forgotten: BTreeSet<usize>,
    /// Tasks that have to stand still, by the number of the sub-topology and the partition: the traces of records lost,
    /// or about to be taken twice, were there when all instances were down.
    pub must_halt: BTreeSet<(usize, i32)>,
    /// Events in the order in which they were decided.
    pub events: Vec<Event>,
    /// When records were handled, by the wall clock that their steps were shown, in milliseconds since 1970; of those for which
    /// that was seen.
    pub handled: BTreeMap<(TopicPartition, Offset), i64>,
    /// The records over which instances died.
    pub died: BTreeSet<(TopicPartition, Offset)>,
    /// The rows at rest.
    pub rows: BTreeMap<(String, Key), Row>,
    /// Messages that committed readers find in every topic that the pipeline reads or writes, changelogs included.
    pub log: BTreeMap<TopicPartition, Vec<Message>>,
    /// Messages that were in sources and that nobody finds any more.
    pub gone: BTreeMap<TopicPartition, Vec<Message>>,
    /// D and K of every source partition.
    pub progress: BTreeMap<TopicPartition, Progress>,
    /// The partitions that stand still.
    pub halts: Vec<Standstill>,
    /// Transactions that nobody ended, a sentence each.
    pub open: Vec<String>,
    /// Observations that exist only where everything runs in one process.
    pub inside: Option<Inside>,
}

/// The ledger: outcome and code by source partition and offset.
pub type Ledger = BTreeMap<(TopicPartition, Offset), (String, Option<String>)>;

/// Further observations of a run in one process.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Contents of disks for each partition of a store that an instance serves: keys and values as its changelog has
    /// them.
    pub kept: BTreeMap<(String, i32), BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The retained outbox but for changelog records: source, destination, id.
    pub outbox: Vec<(TopicPartition, TopicName, String)>,
    /// The ledger, where it is kept.
    pub ledger: Ledger,
    /// The partitions that stood still at any time, but for those that halted behind a disk that was broken.
    pub seen: Vec<Standstill>,
    /// Instances that ended although nothing was done to them, a sentence each.
    pub ended: Vec<String>,
}

impl Observed {
    /// The same, as if nobody had seen in which order records were decided: those of table topics first, then partition
    /// by partition, and at last the changes of others. For a run in which only the order within each partition
    /// matters.
    #[must_use]
    pub fn partition_by_partition(mut self, topology: &Topology) -> Self {
        let (tables, streams): (Vec<_>, Vec<_>) = self
            .progress
            .iter()
            .partition(|(place, _)| topology.sub_topologies().iter().any(|sub| sub.is_table(&place.topic)));
        let mut events = Vec::new();
        for (place, progress) in tables.into_iter().chain(streams) {
            let decided = progress.decided.unwrap_or(NextOffset(0));
            let messages = self.log.get(place).into_iter().flatten().map(|message| message.offset);
            let is_decided = |offset: &Offset| !decided.is_before(*offset);
            events.extend(messages.filter(is_decided).map(|offset| Event::Decided(place.clone(), offset, true)));
        }
        events.extend(self.events.into_iter().filter(|event| !matches!(event, Event::Decided(..))));
        self.events = events;
        self
    }
}
