//! The behaviour of every database, as sentences.

mod claims;
mod compound;
mod differences;
mod locks;
mod missing;
mod outbox;
mod transactions;
mod upkeep;
pub mod values;

pub use claims::*;
pub use compound::*;
pub use differences::*;
pub use locks::*;
pub use missing::*;
pub use outbox::*;
pub use transactions::*;
pub use upkeep::*;
pub use values::*;

use crate::unique;
use std::time::Duration;
use tidegate::flow::key::Key;
use tidegate::flow::record::{Header, NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::flow::row::Value;
use tidegate::flow::table::{ColumnSpec, ColumnType, TableSpec};
use tidegate::flow::{KeyType, Table};
use tidegate::ports::Fault;
use tidegate::ports::history::RowHistory;
use tidegate::ports::rows::{
    Claim, Claimed, CommitAnswer, Counts, Move, OutboxRow, RowRead, RowWrite, Rows, VerdictRow, WriteFault, WriteKind,
};
use tidegate::ports::schema::Schema;
use tidegate::ports::source::LogIds;

/// A column: name, type, whether it may be null.
pub type Column<'a> = (&'a str, ColumnType, bool);

/// A database that a test can furnish. Its own tables are migrated.
pub trait RowsBench: Sync {
    /// Creates a table under exactly this name, with its key and version columns. `smallest` names a column that must
    /// not be negative, by a constraint.
    fn create_table(&self, table: &Table, columns: &[Column<'_>], smallest: Option<&str>);
    /// Inserts a row; `values` are in the order of `columns`.
    fn insert(&self, table: &Table, columns: &[Column<'_>], row: &RowRead);
    /// Inserts many rows.
    fn insert_all(&self, table: &Table, columns: &[Column<'_>], rows: &[RowRead]) {
        rows.iter().for_each(|row| self.insert(table, columns, row));
    }
    /// A worker's connection.
    fn rows(&self, pipeline: &str) -> Box<dyn Rows>;
    /// Work on the schema, with this retention of outbox rows.
    fn schema(&self, pipeline: &str, retention: Duration) -> Box<dyn Schema>;
    /// The history of the rows, as the audit reads it.
    fn history(&self, pipeline: &str) -> Box<dyn RowHistory>;
    /// Whether `-0.0` stays what it is.
    fn has_negative_zero(&self) -> bool {
        true
    }
    /// Whether a transaction that writes shuts all others out.
    fn is_one_writer(&self) -> bool {
        false
    }
    /// Shortest time that a transaction waits for another one's locks.
    fn lock_wait(&self) -> Duration {
        Duration::from_secs(2)
    }
}

const SCORE: [Column<'_>; 2] = [("score", ColumnType::F64, false), ("note", ColumnType::Text, true)];

/// A table of scores with two rows, one pipeline, and the names of its source partitions.
struct Scene<'a> {
    bench: &'a dyn RowsBench,
    table: Table,
    pipeline: String,
    topic: TopicName,
}

impl<'a> Scene<'a> {
    fn new(bench: &'a dyn RowsBench) -> Self {
        let table = Table::new(&unique("scores").replace('-', "_"));
        bench.create_table(&table, &SCORE, Some("score"));
        for id in [1, 2] {
            bench.insert(&table, &SCORE, &row(id, 0, 10.0));
        }
        let topic = TopicName::parse(&unique("source")).unwrap();
        Self { bench, table, pipeline: unique("pipeline"), topic }
    }

    fn place(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), Partition(partition))
    }

    fn spec(&self) -> TableSpec {
        spec(&self.table, &SCORE)
    }

    /// A connection that is bound to the table.
    fn connect(&self) -> Box<dyn Rows> {
        let mut rows = self.bench.rows(&self.pipeline);
        rows.bind(&[self.spec()]).expect("bind");
        rows
    }

    fn claim(&self, partition: i32, generation: i32) -> Claim {
        Claim {
            source: self.place(partition),
            adopts: None,
            generation,
            owner: format!("test-{generation}"),
            log_ids: LogIds { cluster_id: "cluster".into(), topic_id: "topic".into() },
            partition_count: 4,
        }
    }

    /// A connection that owns partition 0 at offset 0 with epoch 1.
    fn owner(&self) -> Box<dyn Rows> {
        let mut rows = self.connect();
        assert!(rows.create(&self.claim(0, 1), NextOffset(0)).expect("create"));
        rows
    }

    fn moved(&self, epoch: i64, from: i64, to: i64) -> Move {
        Move {
            source: self.place(0),
            epoch,
            from: NextOffset(from),
            to: NextOffset(to),
            published: NextOffset(from),
            counts: Counts { records: to - from, row_changes: 1, announced: 1, dead_letters: 0, skipped: 0, late: 0 },
        }
    }

    fn outbox_row(&self, partition: i32, offset: i64, seq: i32) -> OutboxRow {
        OutboxRow {
            source: self.place(partition),
            source_offset: Offset(offset),
            seq,
            incarnation: 0,
            destination: TopicName::parse("told").unwrap(),
            key: Some(b"1".to_vec()),
            value: Some(format!("{offset}/{seq}").into_bytes()),
            headers: Vec::new(),
            created_at: created_at(),
            timestamp: None,
        }
    }

    fn verdict(&self, offset: i64) -> VerdictRow {
        VerdictRow {
            source: self.place(0),
            source_offset: Offset(offset),
            outcome: "updated",
            magnitude: Some(1.5),
            threshold: Some(1.0),
            note: None,
        }
    }

    /// Version and score of a row, as everybody sees them.
    fn score(&self, id: i64) -> (i64, Value) {
        let mut rows = self.connect();
        rows.begin().unwrap();
        let found = rows.read(0, &[Key::I64(id)]).unwrap();
        rows.rollback();
        (found[0].version, found[0].values[0].clone())
    }

    /// D as everybody sees it.
    fn next_offset(&self, partition: i32) -> Option<i64> {
        let positions = self.bench.history(&self.pipeline).positions().unwrap();
        let mine = positions.iter().find(|(source, ..)| *source == self.place(partition));
        mine.map(|(_, position, _)| position.next_offset.0)
    }

    fn outbox_of(&self, rows: &mut dyn Rows, partition: i32) -> Vec<OutboxRow> {
        rows.outbox(&self.place(partition), NextOffset(0), NextOffset(1000), 1000).unwrap()
    }
}

/// Today, so that a database with partitions by time has one for it; in whole milliseconds, as it is kept.
fn created_at() -> Timestamp {
    use tidegate::ports::Clock;
    tidegate::ports::clock::SystemClock::default().now()
}

fn spec(table: &Table, columns: &[Column<'_>]) -> TableSpec {
    let column = |(name, kind, is_nullable): &Column<'_>| ColumnSpec {
        name: (*name).into(),
        accepts: vec![*kind],
        is_nullable: *is_nullable,
    };
    TableSpec::new(table.clone(), columns.iter().map(column).collect())
}

fn row(id: i64, version: i64, score: f64) -> RowRead {
    RowRead { key: Key::I64(id), version, values: vec![Value::F64(score), Value::Null] }
}

fn write(id: i64, from_version: i64, score: f64) -> RowWrite {
    let values = vec![Value::F64(score), Value::Text(format!("was {from_version}"))];
    RowWrite { kind: WriteKind::Update, key: Key::I64(id), from_version, to_version: from_version + 1, values }
}

fn by_key(mut rows: Vec<RowRead>) -> Vec<RowRead> {
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

fn ids(keys: &[i64]) -> Vec<Key> {
    keys.iter().copied().map(Key::I64).collect()
}

fn owned(claimed: &[Claimed]) -> (i64, i64) {
    match claimed {
        [Claimed::Owned(position)] => (position.epoch, position.next_offset.0),
        other => panic!("not owned: {other:?}"),
    }
}

/// Reads and writes one row in a transaction that moves partition 0.
fn step(scene: &Scene<'_>, rows: &mut dyn Rows, moved: &Move, score: f64) -> CommitAnswer {
    rows.begin().unwrap();
    assert_eq!(rows.advance(std::slice::from_ref(moved)).unwrap(), [true]);
    let found = rows.read(0, &ids(&[1])).unwrap();
    rows.write(0, &[write(1, found[0].version, score)]).unwrap();
    rows.append(&[scene.outbox_row(0, moved.from.0, 0)]).unwrap();
    rows.record(&[scene.verdict(moved.from.0)]).unwrap();
    rows.commit().unwrap()
}

fn fill(scene: &Scene<'_>, rows: &mut dyn Rows, partition: i32, offsets: &[(i64, i32)]) {
    let position = scene.next_offset(partition).unwrap();
    let moved = Move { source: scene.place(partition), ..scene.moved(1, position, position + 100) };
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[moved]).unwrap(), [true]);
    let outbox: Vec<_> = offsets
        .iter()
        .flat_map(|(offset, count)| (0..*count).map(|seq| scene.outbox_row(partition, *offset, seq)))
        .collect();
    rows.append(&outbox).unwrap();
    rows.commit().unwrap();
}
