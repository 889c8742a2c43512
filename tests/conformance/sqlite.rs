//! SQLite under the suites: rows, and the in-process log with its journal in a file.

use crate::log::LogBench;
use crate::rollups::RollUpsBench;
use crate::rows::{Column, RowsBench};
use crate::sql;
use crate::suite::{log_suite, rollups_suite, rows_suite};
use crate::unique;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::adapters::memory::{LogSettings, MemoryLog};
use tidegate::adapters::sqlite::{
    SqliteHistory, SqliteJournal, SqliteRollUps, SqliteRows, SqliteSchema, SqliteSettings,
};
use tidegate::flow::Table;
use tidegate::flow::record::{Header, NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::ports::clock::SystemClock;
use tidegate::ports::history::{RowHistory, TopicHistory};
use tidegate::ports::rollups::RollUpTables;
use tidegate::ports::rows::{RowRead, Rows};
use tidegate::ports::schema::Schema;
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::{Committed, Source, Subscription};

rows_suite!(sqlite_rows, Some(super::Database::new()));
rollups_suite!(sqlite_rollups, Some(super::Database::new()));
log_suite!(journalled_log, Some(super::JournalledLog::new()));

/// A folder that is gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(unique("tidegate"));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn settings(&self) -> SqliteSettings {
        SqliteSettings::new(&self.0.join("tidegate.db"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

// === rows ===

pub struct Database {
    settings: SqliteSettings,
    _folder: Folder,
}

impl Database {
    pub fn new() -> Self {
        let folder = Folder::new();
        let database = Self { settings: folder.settings(), _folder: folder };
        let mut schema = database.schema("any", Duration::ZERO);
        assert!(schema.verify().unwrap_err().to_string().contains("tidegate migrate"));
        assert_eq!(schema.migrate().unwrap(), ["0001_tables", "0002_event_time"]);
        database
    }

    fn run(&self, statement: String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("sqlite://{}", self.settings.path.display());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
            connection.close().await.unwrap();
        });
    }
}

impl RowsBench for Database {
    fn create_table(&self, table: &Table, columns: &[Column<'_>], smallest: Option<&str>) {
        self.run(
            sql::create_table(table, columns, smallest)
                .replace(" numeric", " numeric text")
                .replace("\" timestamp,", "\" datetime,")
                .replace("\" timestamp)", "\" datetime)"),
        );
    }

    fn insert(&self, table: &Table, columns: &[Column<'_>], row: &RowRead) {
        self.run(sql::insert(table, columns, row, "x"));
    }

    fn insert_all(&self, table: &Table, columns: &[Column<'_>], rows: &[RowRead]) {
        let statements: Vec<String> = rows.iter().map(|row| sql::insert(table, columns, row, "x")).collect();
        self.run(statements.join("; "));
    }

    fn has_negative_zero(&self) -> bool {
        false
    }

    fn is_one_writer(&self) -> bool {
        true
    }

    fn rows(&self, pipeline: &str) -> Box<dyn Rows> {
        Box::new(SqliteRows::new(&self.settings, pipeline, pipeline).unwrap())
    }

    fn schema(&self, pipeline: &str, retention: Duration) -> Box<dyn Schema> {
        Box::new(SqliteSchema::new(&self.settings, pipeline, retention).unwrap())
    }

    fn history(&self, pipeline: &str) -> Box<dyn RowHistory> {
        Box::new(SqliteHistory::new(&self.settings, pipeline).unwrap())
    }
}

impl RollUpsBench for Database {
    fn tables(&self) -> Box<dyn RollUpTables> {
        Box::new(SqliteRollUps::new(&self.settings).unwrap())
    }

    fn insert(&self, table: &str, device: &str, metric: &str, start_ms: i64) {
        self.run(format!("INSERT INTO {table} VALUES ('{device}', '{metric}', {start_ms}, 1, x'07')"));
    }
}

#[test]
fn a_row_that_a_trigger_withholds_is_a_dead_letter() {
    use tidegate::flow::key::Key;
    use tidegate::flow::row::Value;
    use tidegate::flow::table::{ColumnSpec, ColumnType, TableSpec};
    use tidegate::ports::rows::{RowWrite, WriteFault, WriteKind};
    let (database, table) = (Database::new(), Table::new("held"));
    let columns = [("n", ColumnType::I64, false)];
    database.create_table(&table, &columns, None);
    database.insert(&table, &columns, &RowRead { key: Key::I64(4), version: 0, values: vec![Value::I64(1)] });
    database.run("CREATE TRIGGER hold BEFORE UPDATE ON held BEGIN SELECT RAISE(IGNORE); END".into());
    let mut rows = database.rows("pipeline");
    let columns = vec![ColumnSpec { name: "n".into(), accepts: vec![ColumnType::I64], is_nullable: false }];
    rows.bind(&[TableSpec::new(table, columns)]).unwrap();
    let write = |from_version| RowWrite {
        kind: WriteKind::Update,
        key: Key::I64(4),
        from_version,
        to_version: from_version + 1,
        values: vec![Value::I64(2)],
    };
    rows.begin().unwrap();
    rows.savepoint().unwrap();
    let Err(WriteFault::Rejected(reject)) = rows.write(0, &[write(0)]) else { panic!("not rejected") };
    assert_eq!(reject.code(), "withheld");
    rows.rollback_to_savepoint().unwrap();
    assert!(matches!(rows.write(0, &[write(7)]), Err(WriteFault::Fault(_))), "another version is nobody's to withhold");
}

#[test]
fn published_rows_past_their_retention_are_deleted() {
    use tidegate::ports::rows::{Claim, Counts, Move, OutboxRow};
    let database = Database::new();
    let mut rows = database.rows("pipeline");
    let source = TopicPartition::new(TopicName::parse("source").unwrap(), Partition(0));
    let log_ids = Default::default();
    let claim = Claim {
        source: source.clone(),
        adopts: None,
        generation: 1,
        owner: "test".into(),
        log_ids,
        partition_count: 1,
    };
    rows.create(&claim, NextOffset(0)).unwrap();
    for (from, published) in [(0, 0), (1, 1)] {
        rows.begin().unwrap();
        let moved = Move {
            source: source.clone(),
            epoch: 1,
            from: NextOffset(from),
            to: NextOffset(from + 1),
            published: NextOffset(published),
            counts: Counts::default(),
        };
        rows.advance(&[moved]).unwrap();
        let outbox_row = OutboxRow {
            source: source.clone(),
            source_offset: tidegate::flow::record::Offset(from),
            seq: 0,
            incarnation: 0,
            destination: TopicName::parse("told").unwrap(),
            key: None,
            value: None,
            headers: Vec::new(),
            created_at: Timestamp(1_000),
            timestamp: None,
        };
        rows.append(&[outbox_row]).unwrap();
        rows.commit().unwrap();
    }
    let mut schema = database.schema("pipeline", Duration::from_secs(60));
    assert_eq!(schema.maintain().unwrap().dropped, 1);
    assert_eq!(schema.maintain().unwrap().dropped, 0);
    let left = rows.outbox(&source, NextOffset(0), NextOffset(9), 9).unwrap();
    assert_eq!(left.iter().map(|row| row.source_offset.0).collect::<Vec<_>>(), [1], "published up to 1");
}

#[test]
fn a_second_writer_is_told_to_come_again() {
    let database = Database::new();
    let settings = SqliteSettings { busy_timeout: Duration::from_millis(50), ..database.settings.clone() };
    let mut first = database.rows("pipeline");
    let mut second = SqliteRows::new(&settings, "pipeline", "pipeline").unwrap();
    first.begin().unwrap();
    assert!(second.begin().unwrap_err().is_retry());
    first.rollback();
    second.begin().unwrap();
    second.rollback();
}

// === the log with its journal ===

/// The in-process log, whose history is read from a second one, opened from the journal.
pub struct JournalledLog {
    settings: SqliteSettings,
    log: Mutex<MemoryLog>,
    _folder: Folder,
}

impl JournalledLog {
    pub fn new() -> Self {
        let folder = Folder::new();
        let settings = folder.settings();
        Self { log: Mutex::new(open(&settings)), settings, _folder: folder }
    }

    fn log(&self) -> MemoryLog {
        self.log.lock().unwrap().clone()
    }
}

fn open(settings: &SqliteSettings) -> MemoryLog {
    let journal = SqliteJournal::new(settings).unwrap();
    MemoryLog::open(Arc::new(SystemClock::default()), LogSettings::default(), Box::new(journal)).unwrap()
}

impl LogBench for JournalledLog {
    fn create_topic(&self, name: &str, partitions: i32) -> TopicName {
        self.log().create_topic(name, partitions).unwrap()
    }

    fn delete_topic(&self, topic: &TopicName) {
        assert!(self.log().delete_topic(topic));
    }

    fn truncate_before(&self, place: &TopicPartition, offset: i64) {
        self.log().truncate_before(place, NextOffset(offset));
    }

    fn produce(&self, place: &TopicPartition, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.log().produce_to(place, key, value, &[], Timestamp(1_767_225_600_000)).unwrap();
    }

    fn source(&self, subscription: &Subscription) -> Box<dyn Source> {
        Box::new(self.log().source(subscription.clone()))
    }

    fn sink(&self, transactional_id: &str) -> Box<dyn Sink> {
        Box::new(self.log().sink(transactional_id))
    }

    fn history(&self, group: &str) -> Box<dyn TopicHistory> {
        let log = self.log();
        // The history is read from the file, not from the log that wrote it; unless a transaction is open, of which the
        // file knows nothing.
        let log = if log.open_transactions() == 0 { open(&self.settings) } else { log };
        Box::new(log.history(group))
    }
}

#[test]
fn a_log_opened_again_has_what_was_committed_and_goes_on_from_there() {
    let folder = Folder::new();
    let log = open(&folder.settings());
    let topic = log.create_topic("topic", 2).unwrap();
    let place = TopicPartition::new(topic.clone(), Partition(1));
    let headers = [Header::new("a", "1"), Header::new("b", *b"\xff"), Header { name: "n".into(), value: None }];
    log.produce_to(&place, Some(b"k"), None, &headers, Timestamp(7)).unwrap();
    log.set_committed("group", &place, Some(Committed { next_offset: NextOffset(1), metadata: "v1".into() })).unwrap();
    let mut sink = log.sink("sink");
    for value in [&b"aborted"[..], b"committed", b"open"] {
        sink.begin().unwrap();
        sink.send(&Message {
            destination: &topic,
            partition: None,
            key: Some(b"k"),
            value: Some(value),
            headers: &[],
            timestamp: None,
            is_tracked: false,
        })
        .unwrap();
        match value {
            b"aborted" => sink.renew().unwrap(),
            b"committed" => sink.commit().unwrap(),
            _ => {}
        }
    }
    let (before, id) = (log.read(&topic), log.group("group").log_ids(&topic, Duration::ZERO).unwrap());
    drop((sink, log));
    let log = open(&folder.settings());
    assert_eq!(log.read(&topic), before);
    assert_eq!(before.len(), 2);
    assert_eq!(log.group("group").log_ids(&topic, Duration::ZERO).unwrap(), id);
    assert_eq!(log.committed("group", &place).unwrap().metadata, "v1");
    let known: Vec<i64> = before.iter().map(|found| found.offset).collect();
    let (_, offset) = log.produce(&topic, Some(b"k"), Some(b"new"), &[], Timestamp(8)).unwrap();
    assert!(!known.contains(&offset.0), "no visible offset is given twice");
    assert_eq!(log.create_topic("topic", 2).unwrap(), topic, "creating it again finds it");
    assert!(log.create_topic("topic", 3).is_err());
    log.delete_topic(&topic);
    log.create_topic("topic", 2).unwrap();
    let log = open(&folder.settings());
    assert_eq!(log.read(&topic), []);
    assert_ne!(log.group("group").log_ids(&topic, Duration::ZERO).unwrap(), id);
}
