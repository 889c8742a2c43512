//! What every database does, as sentences.

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
    Claim, Claimed, CommitAnswer, Counts, Move, OutboxRow, RowRead, RowWrite, Rows, VerdictRow, WriteFault,
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
    /// A worker's connection.
    fn rows(&self, pipeline: &str) -> Box<dyn Rows>;
    /// Work on the schema, with this retention of outbox rows.
    fn schema(&self, pipeline: &str, retention: Duration) -> Box<dyn Schema>;
    /// What the audit reads.
    fn history(&self, pipeline: &str) -> Box<dyn RowHistory>;
    /// How long a transaction waits for another one's locks, at least.
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
            counts: Counts { records: to - from, row_changes: 1, announced: 1, dead_letters: 0, skipped: 0 },
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

    /// What everybody sees of a row.
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
    TableSpec { table: table.clone(), columns: columns.iter().map(column).collect() }
}

fn row(id: i64, version: i64, score: f64) -> RowRead {
    RowRead { key: Key::I64(id), version, values: vec![Value::F64(score), Value::Null] }
}

fn write(id: i64, from_version: i64, score: f64) -> RowWrite {
    let values = vec![Value::F64(score), Value::Text(format!("was {from_version}"))];
    RowWrite { key: Key::I64(id), from_version, to_version: from_version + 1, values }
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

// === values ===

const WIDE: [Column<'_>; 12] = [
    ("flag", ColumnType::Bool, true),
    ("small", ColumnType::I16, true),
    ("middle", ColumnType::I32, true),
    ("large", ColumnType::I64, true),
    ("half", ColumnType::F32, true),
    ("full", ColumnType::F64, true),
    ("name", ColumnType::Text, true),
    ("raw", ColumnType::Bytes, true),
    ("uid", ColumnType::Uuid, true),
    ("at", ColumnType::Timestamp, true),
    ("extra", ColumnType::Json, true),
    ("amount", ColumnType::Numeric, true),
];

fn wide_values() -> Vec<Value> {
    vec![
        Value::Bool(true),
        Value::I16(-3),
        Value::I32(70_000),
        Value::I64(i64::MAX),
        Value::F32(0.1),
        Value::F64(0.1),
        Value::Text("späti 'quoted' \"twice\" \\ ☂".into()),
        Value::Bytes(vec![0, 1, 0xff, b'\'']),
        Value::Text("67e55044-10b1-426f-9247-bb680e5fe0c8".into()),
        Value::Text("2026-01-31T12:00:00.250001Z".into()),
        Value::Json(r#"{"a": [1, null, "x"]}"#.into()),
        Value::Text("123456789012345678901234567890.12345".into()),
    ]
}

/// Writes the values to a row that holds something else, commits, and reads them on a new connection.
fn round_trip(bench: &dyn RowsBench, before: &[Value], values: &[Value]) {
    let scene = Scene::new(bench);
    let wide = Table::new(&unique("wide").replace('-', "_")).unversioned();
    bench.create_table(&wide, &WIDE, None);
    bench.insert(&wide, &WIDE, &RowRead { key: Key::I64(7), version: 0, values: before.to_vec() });
    let mut rows = bench.rows(&scene.pipeline);
    // Other columns than the table's order, so that nothing rests on positions.
    let mut columns = WIDE;
    columns.reverse();
    rows.bind(&[scene.spec(), spec(&wide, &columns)]).unwrap();
    assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
    let reversed: Vec<Value> = values.iter().rev().cloned().collect();
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, 0, 1)]).unwrap(), [true]);
    let found = rows.read(1, &ids(&[7])).unwrap();
    let before: Vec<Value> = before.iter().rev().cloned().collect();
    assert_same(&found[0].values, &before);
    assert_eq!(found[0].version, 0, "a table without a version column");
    let write = RowWrite { key: Key::I64(7), from_version: 0, to_version: 0, values: reversed.clone() };
    rows.write(1, &[write]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    let mut other = bench.rows(&scene.pipeline);
    other.bind(&[spec(&wide, &columns)]).unwrap();
    other.begin().unwrap();
    let found = other.read(0, &ids(&[7])).unwrap();
    other.rollback();
    assert_same(&found[0].values, &reversed);
}

/// Equal, where JSON texts are compared as values: a `jsonb` column keeps no spelling.
#[track_caller]
fn assert_same(found: &[Value], wanted: &[Value]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        match (found, wanted) {
            (Value::Json(found), Value::Json(wanted)) => {
                let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                assert_eq!(parse(found), parse(wanted));
            }
            _ => assert_eq!(found, wanted),
        }
    }
}

pub fn rows_round_trip_every_type(bench: &dyn RowsBench) {
    let other = vec![
        Value::Bool(false),
        Value::I16(0),
        Value::I32(1),
        Value::I64(2),
        Value::F32(3.5),
        Value::F64(4.25),
        Value::Text(String::new()),
        Value::Bytes(Vec::new()),
        Value::Text("00000000-0000-0000-0000-000000000000".into()),
        Value::Text("1970-01-01T00:00:00.000000Z".into()),
        Value::Json("[]".into()),
        Value::Text("0.5".into()),
    ];
    round_trip(bench, &other, &wide_values());
}

pub fn nulls_and_extremes_round_trip(bench: &dyn RowsBench) {
    let nulls = vec![Value::Null; WIDE.len()];
    let mut extremes = wide_values();
    extremes[1] = Value::I16(i16::MIN);
    extremes[2] = Value::I32(i32::MIN);
    extremes[3] = Value::I64(i64::MIN);
    extremes[4] = Value::F32(f32::MAX);
    extremes[5] = Value::F64(-1e300);
    extremes[9] = Value::Text("1999-12-31T23:59:59.999999Z".into());
    extremes[10] = Value::Json("null".into());
    extremes[11] = Value::Text("-0.000000000000000001".into());
    round_trip(bench, &nulls, &extremes);
    round_trip(bench, &extremes, &nulls);
}

pub fn every_key_type_finds_its_row(bench: &dyn RowsBench) {
    let uuid = uuid::Uuid::new_v4();
    for (key_type, keys) in [
        (KeyType::I64BigEndian, vec![Key::I64(-5), Key::I64(i64::MAX)]),
        (KeyType::Uuid, vec![Key::Uuid(uuid), Key::Uuid(uuid::Uuid::nil())]),
        (KeyType::Text, vec![Key::from("späti'"), Key::from("")]),
    ] {
        let scene = Scene::new(bench);
        let table = Table::new(&unique("keyed").replace('-', "_")).key("who", key_type).version("revision");
        bench.create_table(&table, &SCORE, None);
        for key in &keys {
            let values = vec![Value::F64(1.0), Value::Null];
            bench.insert(&table, &SCORE, &RowRead { key: key.clone(), version: 3, values });
        }
        let mut rows = bench.rows(&scene.pipeline);
        rows.bind(&[spec(&table, &SCORE)]).unwrap();
        assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
        rows.begin().unwrap();
        rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
        let mut sorted = keys.clone();
        sorted.sort();
        let found = by_key(rows.read(0, &sorted).unwrap());
        assert_eq!(found.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), sorted);
        assert!(found.iter().all(|row| row.version == 3));
        let values = vec![Value::F64(2.0), Value::Null];
        let writes = sorted.iter().map(|key| RowWrite {
            key: key.clone(),
            from_version: 3,
            to_version: 5,
            values: values.clone(),
        });
        rows.write(0, &writes.collect::<Vec<_>>()).unwrap();
        rows.commit().unwrap();
        rows.begin().unwrap();
        assert!(rows.read(0, &sorted).unwrap().iter().all(|row| row.version == 5 && row.values == values));
        rows.rollback();
    }
}

// === the struct and the table ===

pub fn differences_come_in_one_message(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut wanted = scene.spec();
    wanted.columns = vec![
        ColumnSpec { name: "score".into(), accepts: vec![ColumnType::Bool], is_nullable: false },
        ColumnSpec { name: "note".into(), accepts: vec![ColumnType::Text], is_nullable: false },
        ColumnSpec { name: "absent".into(), accepts: vec![ColumnType::I64], is_nullable: true },
    ];
    let fault = bench.rows(&scene.pipeline).bind(&[wanted]).unwrap_err();
    let message = fault.to_string();
    assert!(matches!(fault, Fault::Fatal(_)), "{message}");
    for word in ["column score: is double precision", "column note: may be null", "column absent: missing"] {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

pub fn a_missing_table_is_a_difference(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let nothing = Table::new(&unique("nothing").replace('-', "_"));
    let fault = bench.rows(&scene.pipeline).bind(&[scene.spec(), spec(&nothing, &SCORE)]).unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)), "{fault}");
    assert!(fault.to_string().contains("does not exist"), "{fault}");
}

// === claims and fencing ===

pub fn the_first_claim_finds_nothing_and_creates_once(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.connect();
    let claim = scene.claim(0, 4);
    assert_eq!(rows.claim(std::slice::from_ref(&claim)).unwrap(), [Claimed::Absent]);
    assert!(rows.create(&claim, NextOffset(17)).unwrap());
    assert!(!rows.create(&claim, NextOffset(99)).unwrap(), "it exists already");
    let positions = bench.history(&scene.pipeline).positions().unwrap();
    assert_eq!(positions.len(), 1);
    let (source, position, counts) = &positions[0];
    assert_eq!((source, position.epoch), (&scene.place(0), 1));
    assert_eq!((position.next_offset, position.published), (NextOffset(17), NextOffset(17)));
    assert_eq!((position.incarnation, position.partition_count), (0, 4));
    assert_eq!((&position.log_ids, position.group.as_str()), (&claim.log_ids, scene.pipeline.as_str()));
    assert_eq!(*counts, Counts::default());
    let mut elsewhere = bench.rows(&unique("pipeline"));
    assert_eq!(elsewhere.claim(&[claim]).unwrap(), [Claimed::Absent], "positions belong to their pipeline");
}

pub fn claim_raises_the_epoch(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert!(rows.create(&scene.claim(1, 1), NextOffset(5)).unwrap());
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 1)]).unwrap()), (2, 0), "the same generation may claim again");
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 3)]).unwrap()), (3, 0));
    let both = rows.claim(&[scene.claim(1, 3), scene.claim(2, 3), scene.claim(0, 3)]).unwrap();
    assert_eq!(owned(&both[..1]), (2, 5), "in the order asked");
    assert_eq!(both[1], Claimed::Absent);
    assert_eq!(owned(&both[2..]), (4, 0));
}

pub fn stale_generation_cannot_claim(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 9)]).unwrap()), (2, 0));
    assert_eq!(rows.claim(&[scene.claim(0, 8)]).unwrap(), [Claimed::Stale { generation: 9 }]);
    let mut successor = scene.connect();
    assert_eq!(owned(&successor.claim(&[scene.claim(0, 9)]).unwrap()), (3, 0), "the refused claim changed nothing");
}

pub fn zombie_compare_and_set_changes_nothing(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut zombie = scene.owner();
    step(&scene, &mut *zombie, &scene.moved(1, 0, 1), 11.0);
    let mut successor = scene.connect();
    assert_eq!(owned(&successor.claim(&[scene.claim(0, 2)]).unwrap()), (2, 1));
    zombie.begin().unwrap();
    assert_eq!(zombie.advance(&[scene.moved(1, 1, 2)]).unwrap(), [false]);
    zombie.rollback();
    assert_eq!(scene.next_offset(0), Some(1));
    step(&scene, &mut *successor, &scene.moved(2, 1, 2), 12.0);
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(2), (2, Value::F64(12.0))));
}

pub fn compare_and_set_demands_the_offset(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    step(&scene, &mut *rows, &scene.moved(1, 0, 3), 11.0);
    for from in [0, 2, 4] {
        rows.begin().unwrap();
        assert_eq!(rows.advance(&[scene.moved(1, from, 9)]).unwrap(), [false], "from {from}");
        rows.rollback();
    }
    assert_eq!(scene.next_offset(0), Some(3));
}

pub fn compare_and_set_answers_for_each_move(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert!(rows.create(&scene.claim(2, 1), NextOffset(40)).unwrap());
    let at = |partition: i32, from: i64| Move { source: scene.place(partition), ..scene.moved(1, from, from + 1) };
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[at(2, 40), at(1, 0), at(0, 0), at(2, 39)]).unwrap(), [true, false, true, false]);
    rows.rollback();
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[at(2, 40), at(0, 0)]).unwrap(), [true, true]);
    rows.commit().unwrap();
    assert_eq!((scene.next_offset(0), scene.next_offset(2)), (Some(1), Some(41)));
}

// === a transaction ===

pub fn a_step_is_committed_as_a_whole(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert_eq!(step(&scene, &mut *rows, &scene.moved(1, 0, 3), 11.5), CommitAnswer::Done);
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(3), (1, Value::F64(11.5))));
    let outbox = scene.outbox_of(&mut *rows, 0);
    assert_eq!(outbox.len(), 1);
    assert_eq!(outbox[0].value.as_deref(), Some(&b"0/0"[..]));
    let (_, position, counts) = bench.history(&scene.pipeline).positions().unwrap().remove(0);
    assert_eq!((position.published, counts.records, counts.row_changes), (NextOffset(0), 3, 1));
    assert_eq!(scene.score(2), (0, Value::F64(10.0)), "the other row is as it was");
}

pub fn rollback_leaves_nothing(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1])).unwrap();
    rows.write(0, &[write(1, 0, 99.0)]).unwrap();
    rows.append(&[scene.outbox_row(0, 0, 0)]).unwrap();
    rows.record(&[scene.verdict(0)]).unwrap();
    rows.rollback();
    rows.rollback();
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(0), (0, Value::F64(10.0))));
    assert_eq!(scene.outbox_of(&mut *rows, 0), []);
    step(&scene, &mut *rows, &scene.moved(1, 0, 1), 11.0);
    assert_eq!(scene.score(1), (1, Value::F64(11.0)), "the connection goes on, and the batch can be offered again");
}

pub fn a_lost_connection_leaves_nothing_and_no_lock(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut zombie = scene.owner();
    zombie.begin().unwrap();
    zombie.advance(&[scene.moved(1, 0, 1)]).unwrap();
    zombie.read(0, &ids(&[1])).unwrap();
    zombie.write(0, &[write(1, 0, 99.0)]).unwrap();
    drop(zombie);
    let mut successor = scene.connect();
    let claimed = crate::eventually("the claim", || successor.claim(&[scene.claim(0, 2)]).ok());
    assert_eq!(owned(&claimed), (2, 0));
    step(&scene, &mut *successor, &scene.moved(2, 0, 1), 11.0);
    assert_eq!(scene.score(1), (1, Value::F64(11.0)));
}

pub fn reads_answer_what_is_there(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    assert_eq!(by_key(rows.read(0, &ids(&[-1, 1, 2, 3])).unwrap()), [row(1, 0, 10.0), row(2, 0, 10.0)]);
    assert_eq!(rows.read(0, &ids(&[3])).unwrap(), []);
    assert_eq!(rows.read(0, &[]).unwrap(), []);
    rows.rollback();
}

pub fn a_transaction_reads_its_own_writes(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1])).unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    let found = rows.read(0, &ids(&[1])).unwrap();
    assert_eq!((found[0].version, &found[0].values[0]), (1, &Value::F64(11.0)));
    rows.write(0, &[write(1, 1, 12.0)]).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.score(1), (2, Value::F64(12.0)));
}

pub fn a_refused_value_blames_the_row(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    let refused = rows.write(0, &[write(1, 0, 11.0), write(2, 0, -1.0)]);
    let Err(WriteFault::Rejected(reject)) = refused else { panic!("not a reject: {refused:?}") };
    assert!(!reject.code().is_empty() && !reject.message().is_empty(), "{reject:?}");
    rows.rollback();
    assert_eq!(scene.score(1), (0, Value::F64(10.0)));
}

pub fn savepoint_keeps_earlier_writes(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 2)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    rows.append(&[scene.outbox_row(0, 0, 0)]).unwrap();
    rows.savepoint().unwrap();
    rows.append(&[scene.outbox_row(0, 1, 0)]).unwrap();
    let refused = rows.write(0, &[write(2, 0, -1.0)]);
    assert!(matches!(refused, Err(WriteFault::Rejected(_))), "{refused:?}");
    rows.rollback_to_savepoint().unwrap();
    // The savepoint stays: a second failure behind it is undone as well.
    assert!(rows.write(0, &[write(2, 0, -2.0)]).is_err());
    rows.rollback_to_savepoint().unwrap();
    rows.append(&[scene.outbox_row(0, 1, 7)]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!((scene.score(1), scene.score(2)), ((1, Value::F64(11.0)), (0, Value::F64(10.0))));
    let told: Vec<i32> = scene.outbox_of(&mut *rows, 0).iter().map(|row| row.seq).collect();
    assert_eq!((scene.next_offset(0), told), (Some(2), vec![0, 7]));
}

pub fn the_savepoint_moves(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    rows.savepoint().unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    rows.savepoint().unwrap();
    rows.write(0, &[write(2, 0, 12.0)]).unwrap();
    rows.rollback_to_savepoint().unwrap();
    rows.commit().unwrap();
    assert_eq!((scene.score(1), scene.score(2)), ((1, Value::F64(11.0)), (0, Value::F64(10.0))));
}

pub fn a_failed_transaction_cannot_be_committed(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    assert!(rows.write(0, &[write(2, 0, -1.0)]).is_err());
    let answer = rows.commit();
    assert!(answer.is_err(), "a COMMIT that was a rollback must not pass for one: {answer:?}");
    rows.rollback();
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(0), (0, Value::F64(10.0))));
}

// === locks ===

pub fn rows_are_locked_until_the_end(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut first = scene.owner();
    assert!(first.create(&scene.claim(1, 1), NextOffset(0)).unwrap());
    first.begin().unwrap();
    first.advance(&[scene.moved(1, 0, 1)]).unwrap();
    first.read(0, &ids(&[1])).unwrap();
    first.write(0, &[write(1, 0, 11.0)]).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut second = scene.connect();
            second.begin().unwrap();
            let moved = Move { source: scene.place(1), ..scene.moved(1, 0, 1) };
            assert_eq!(second.advance(&[moved]).unwrap(), [true]);
            let found = second.read(0, &ids(&[1])).unwrap();
            second.write(0, &[write(1, found[0].version, 20.0)]).unwrap();
            second.commit().unwrap();
            found[0].version
        });
        std::thread::sleep(bench.lock_wait() / 10);
        first.commit().unwrap();
        assert_eq!(second.join().unwrap(), 1, "the second read waited for the first write");
    });
    assert_eq!(scene.score(1), (2, Value::F64(20.0)), "no update was lost");
}

pub fn a_claim_waits_for_the_zombie_in_flight(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut zombie = scene.owner();
    zombie.begin().unwrap();
    assert_eq!(zombie.advance(&[scene.moved(1, 0, 1)]).unwrap(), [true]);
    std::thread::scope(|scope| {
        let claim = scope.spawn(|| owned(&scene.connect().claim(&[scene.claim(0, 2)]).unwrap()));
        std::thread::sleep(bench.lock_wait() / 10);
        assert_eq!(zombie.commit().unwrap(), CommitAnswer::Done);
        assert_eq!(claim.join().unwrap(), (2, 1), "D is what the zombie left, and moves no more under its epoch");
    });
}

pub fn unknown_commit_is_settled(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    step(&scene, &mut *rows, &scene.moved(1, 0, 3), 11.0);
    assert!(rows.settle(&scene.moved(1, 0, 3)).unwrap(), "it was committed");
    assert!(!rows.settle(&scene.moved(1, 3, 4)).unwrap(), "it was not and never will be");
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 3, 4)]).unwrap();
    let pending = scene.moved(1, 3, 4);
    std::thread::scope(|scope| {
        let settled = scope.spawn(|| scene.connect().settle(&pending).unwrap());
        std::thread::sleep(bench.lock_wait() / 10);
        rows.commit().unwrap();
        assert!(settled.join().unwrap(), "it waits for a COMMIT that is still in flight");
    });
    let mut successor = scene.connect();
    successor.claim(&[scene.claim(0, 2)]).unwrap();
    assert!(!rows.settle(&scene.moved(1, 3, 4)).unwrap(), "somebody else has claimed the position since");
}

// === outbox ===

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

pub fn outbox_comes_back_in_order_and_never_splits_an_offset(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    fill(&scene, &mut *rows, 0, &[(30, 1), (4, 3), (5, 2), (20, 12)]);
    let mut read = |from: i64, to: i64, rows_max: usize| -> Vec<(i64, i32)> {
        let found = rows.outbox(&scene.place(0), NextOffset(from), NextOffset(to), rows_max).unwrap();
        found.iter().map(|row| (row.source_offset.0, row.seq)).collect()
    };
    let fours = [(4, 0), (4, 1), (4, 2)];
    let fives = [(5, 0), (5, 1)];
    let twenties: Vec<_> = (0..12).map(|seq| (20, seq)).collect();
    assert_eq!(read(0, 100, 100), [&fours[..], &fives, &twenties, &[(30, 0)]].concat());
    assert_eq!(read(0, 100, 3), fours);
    assert_eq!(read(0, 100, 4), fours, "five's rows would be split");
    assert_eq!(read(0, 100, 5), [&fours[..], &fives].concat());
    assert_eq!(read(6, 100, 5), twenties, "one offset's rows come whole, however many");
    assert_eq!(read(4, 5, 100), fours, "half-open");
    assert_eq!(read(5, 20, 100), fives);
    assert_eq!(read(31, 100, 100), []);
    assert_eq!(read(7, 7, 100), []);
}

pub fn outbox_is_seen_by_its_own_pipeline_and_partition(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert!(rows.create(&scene.claim(1, 1), NextOffset(0)).unwrap());
    fill(&scene, &mut *rows, 0, &[(1, 1)]);
    fill(&scene, &mut *rows, 1, &[(2, 1)]);
    assert_eq!(scene.outbox_of(&mut *rows, 0).len(), 1);
    assert_eq!(scene.outbox_of(&mut *rows, 1)[0].source_offset, Offset(2));
    let mut elsewhere = bench.rows(&unique("pipeline"));
    assert_eq!(scene.outbox_of(&mut *elsewhere, 0), []);
    let mut seen = Vec::new();
    bench.history(&scene.pipeline).each_outbox_row(&mut |row| seen.push((row.source, row.source_offset.0))).unwrap();
    assert_eq!(seen, [(scene.place(0), 1), (scene.place(1), 2)]);
}

pub fn outbox_rows_round_trip(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let headers = vec![
        Header::new("a", "1"),
        Header::new("a", *b"\x00\xff"),
        Header { name: "none".into(), value: None },
        Header::new("", ""),
    ];
    let mut outbox = vec![
        OutboxRow { headers, ..scene.outbox_row(0, 0, 0) },
        OutboxRow { key: None, value: None, ..scene.outbox_row(0, 0, 1) },
        OutboxRow { key: Some(Vec::new()), value: Some(Vec::new()), ..scene.outbox_row(0, 1, 0) },
    ];
    outbox[2].value = Some((0..=255).collect());
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 2)]).unwrap();
    rows.append(&outbox).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0), outbox);
    let mut seen = Vec::new();
    bench.history(&scene.pipeline).each_outbox_row(&mut |row| seen.push(row)).unwrap();
    assert_eq!(seen, outbox);
}

/// Its offsets are those of a log that is gone: kept for the audit, never announced again.
pub fn outbox_rows_of_another_incarnation_are_kept_and_not_announced(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let other = OutboxRow { incarnation: 1, ..scene.outbox_row(0, 0, 0) };
    let ours = scene.outbox_row(0, 1, 0);
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 2)]).unwrap();
    rows.append(&[other.clone(), ours.clone()]).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0), [ours.clone()]);
    let mut seen = Vec::new();
    bench.history(&scene.pipeline).each_outbox_row(&mut |row| seen.push(row)).unwrap();
    assert_eq!(seen, [other, ours]);
}

// === audit, schema ===

pub fn counters_add_up(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let counts = Counts { records: 5, row_changes: 4, announced: 3, dead_letters: 2, skipped: 1 };
    for from in [0, 1] {
        rows.begin().unwrap();
        rows.advance(&[Move { counts, ..scene.moved(1, from, from + 1) }]).unwrap();
        rows.commit().unwrap();
    }
    let found = bench.history(&scene.pipeline).positions().unwrap().remove(0).2;
    let twice = Counts { records: 10, row_changes: 8, announced: 6, dead_letters: 4, skipped: 2 };
    assert_eq!(found, twice);
    assert_eq!(bench.history(&unique("pipeline")).positions().unwrap(), []);
}

pub fn version_sum_is_counted_from_the_baseline(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    bench.insert(&scene.table, &SCORE, &row(3, 40, 1.0));
    let sum = |table: &Table| bench.history(&scene.pipeline).version_sum(table).unwrap();
    let mut schema = bench.schema(&scene.pipeline, Duration::from_secs(1));
    schema.note_baseline(&scene.table).unwrap();
    assert_eq!(sum(&scene.table), Some(0));
    let mut rows = scene.owner();
    step(&scene, &mut *rows, &scene.moved(1, 0, 1), 11.0);
    schema.note_baseline(&scene.table).unwrap();
    assert_eq!(sum(&scene.table), Some(1), "the base line is noted once and for ever");
    assert_eq!(sum(&scene.table.clone().unversioned()), None);
}

pub fn migrate_is_done_once(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut schema = bench.schema(&scene.pipeline, Duration::from_secs(1));
    schema.migrate().unwrap();
    assert_eq!(schema.migrate().unwrap(), [] as [String; 0]);
    schema.verify().unwrap();
}

pub fn slots_are_leased_to_one_owner(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let term = Duration::from_secs(60);
    let mut schema = bench.schema(&scene.pipeline, term);
    assert_eq!(schema.lease_slot("a", None, term).unwrap(), 0);
    assert_eq!(schema.lease_slot("b", None, term).unwrap(), 1);
    assert_eq!(schema.lease_slot("c", Some(7), term).unwrap(), 7);
    let taken = schema.lease_slot("d", Some(0), term);
    assert!(taken.as_ref().is_err_and(Fault::is_retry), "{taken:?}");
    assert_eq!(schema.lease_slot("a", Some(0), term).unwrap(), 0, "one's own may be leased again");
    assert!(schema.renew_slot(0, "a", term).unwrap());
    assert!(!schema.renew_slot(0, "b", term).unwrap());
    schema.release_slot(0, "b");
    assert!(schema.renew_slot(0, "a", term).unwrap(), "nobody else can release it");
    schema.release_slot(0, "a");
    assert!(!schema.renew_slot(0, "a", term).unwrap());
    assert_eq!(schema.lease_slot("e", None, term).unwrap(), 0, "the lowest free one");
    assert_eq!(schema.lease_slot("f", None, Duration::ZERO).unwrap(), 2);
    assert_eq!(schema.lease_slot("g", None, term).unwrap(), 2, "its term was over");
}

pub fn maintenance_keeps_what_is_not_published(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    fill(&scene, &mut *rows, 0, &[(1, 1), (2, 1)]);
    std::thread::sleep(Duration::from_millis(5));
    bench.schema(&scene.pipeline, Duration::ZERO).maintain().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0).len(), 2, "P is still 0");
    fill(&scene, &mut *rows, 0, &[(101, 1)]);
    bench.schema(&scene.pipeline, Duration::from_secs(3600)).maintain().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0).len(), 3, "young rows stay, published or not");
}

pub fn nothing_to_write_is_no_error(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[]).unwrap(), [false; 0]);
    rows.write(0, &[]).unwrap();
    rows.append(&[]).unwrap();
    rows.record(&[]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!(rows.claim(&[]).unwrap(), []);
    assert_eq!(rows.outbox(&scene.place(0), NextOffset(0), NextOffset(0), 10).unwrap(), []);
}
