//! The demo's world: the in-process log, the rows in a SQLite file, and the pipeline with its runs counted.

use super::feeder::{ACCOUNTS, first_score};
use super::runs::{Counted, Runs};
use crate::adapters::memory::{LogSettings, MemoryLog};
use crate::adapters::sqlite::{SqliteHistory, SqliteJournal, SqliteRows, SqliteSchema, SqliteSettings, SqliteTables};
use crate::app::failure::Failure;
use crate::engine::audit::{AuditReport, audit};
use crate::engine::member::{Member, Ports, WorkerPorts};
use crate::engine::protocol::order::Hook;
use crate::engine::status::Status;
use crate::flow::record::{Partition, TopicPartition};
use crate::flow::row::Value;
use crate::flow::topology::SubTopology;
use crate::flow::{Key, Topology};
use crate::pipelines::scoring;
use crate::ports::clock::SystemClock;
use crate::ports::factories::HistoryFactory;
use crate::ports::history::TopicHistory;
use crate::ports::schema::Schema as _;
use crate::ports::source::Subscription;
use crate::ports::{Clock, Fault};
use crate::settings::engine::EngineSettings;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Partitions of each topic.
pub(super) const PARTITIONS: i32 = 8;
/// A dead worker is noticed when it has not polled for so long. Kafka's default is 45 s and its smallest 6 s; a demo is in
/// a hurry, and the worker polls every 20 ms.
pub(super) const SESSION: Duration = Duration::from_secs(1);
/// Outbox rows are kept for a day, so that the audit sees everything.
const RETENTION: Duration = Duration::from_hours(24);

/// Log, rows and pipeline.
pub(super) struct World {
    pub(super) log: MemoryLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) topology: Arc<Topology>,
    pub(super) runs: Arc<Runs>,
    rows: SqliteSettings,
    _folder: Option<Folder>,
}

impl World {
    /// Opens the files, which are gone at the end unless `kept` names them, and creates tables, rows and topics.
    pub(super) fn open(kept: Option<&Path>) -> Result<Self, Failure> {
        let folder = if kept.is_none() { Some(Folder::create()?) } else { None };
        let path = kept.map_or_else(PathBuf::new, Path::to_path_buf);
        let path = folder.as_ref().map_or(path, |folder| folder.0.join("demo.db"));
        let runs = Arc::new(Runs::default());
        let count =
            |step| -> Arc<dyn crate::flow::step::RowStep> { Arc::new(Counted { step, runs: Arc::clone(&runs) }) };
        let topology = scoring::topology().wrapped(count);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let settings = LogSettings { session_timeout: SESSION, ..LogSettings::default() };
        let log = match kept {
            Some(path) => {
                let journal = SqliteJournal::new(&SqliteSettings::new(&journal_path(path)))?;
                MemoryLog::open(Arc::clone(&clock), settings, Box::new(journal))?
            }
            None => MemoryLog::with_settings(Arc::clone(&clock), settings),
        };
        let rows = SqliteSettings::new(&path);
        create(&log, &rows, &topology)?;
        Ok(Self { log, clock, topology: Arc::new(topology), runs, rows, _folder: folder })
    }

    /// A worker. Every one has the same transactional id, so that it fences the one before it.
    pub(super) fn member(&self, status: &Arc<Status>, hook: &Arc<dyn Hook>) -> Result<Member, Fault> {
        let name = self.topology.name();
        let rows = SqliteRows::new(&self.rows, name, name)?;
        let sink = self.log.sink(&format!("{name}-0-0-0"));
        let (log, group) = (self.log.clone(), name.to_owned());
        let history: HistoryFactory = Arc::new(move || Ok(Box::new(log.history(&group)) as Box<dyn TopicHistory>));
        let ports = Ports {
            source: Box::new(self.log.source(Subscription::of(&self.topology))),
            // One: SQLite has one writer, so a second worker would only wait for the first.
            workers: vec![WorkerPorts { rows: Box::new(rows), sink: Box::new(sink), spare: None }],
            clock: Arc::clone(&self.clock),
            history: Some(history),
            stores: None,
            changelogs: None,
            fencer: None,
            note: None,
            owner: format!("demo-{}", std::process::id()),
        };
        let settings = EngineSettings { workers: 1, ..EngineSettings::default() };
        Member::new(&self.topology, settings, ports, Arc::clone(status), hook)
    }

    fn sources(&self) -> impl Iterator<Item = TopicPartition> {
        let topics = self.topology.sub_topologies().iter().flat_map(SubTopology::sources);
        topics.flat_map(|topic| (0..PARTITIONS).map(|number| TopicPartition::new(topic.clone(), Partition(number))))
    }

    /// Records in the source topics, earlier demos' included.
    pub(super) fn records(&self) -> i64 {
        // The feeder produces outside transactions, so every offset is a record.
        self.sources().filter_map(|place| self.log.bounds(&place)).map(|bounds| bounds.end.0 - bounds.start.0).sum()
    }

    /// Whether every source partition is read to its end and published.
    pub(super) fn is_drained(&self) -> bool {
        self.sources().all(|place| {
            let committed = self.log.committed(self.topology.name(), &place).map(|committed| committed.next_offset);
            committed.is_some() && committed == self.log.bounds(&place).map(|bounds| bounds.end)
        })
    }

    pub(super) fn audit(&self) -> Result<AuditReport, Fault> {
        let mut rows = SqliteHistory::new(&self.rows, self.topology.name())?;
        audit(&self.topology, &mut rows, &mut self.log.history(self.topology.name()))
    }
}

/// The log's own file beside that of the rows: each of its commits takes its file's write lock.
pub(super) fn journal_path(rows: &Path) -> PathBuf {
    let mut path = rows.as_os_str().to_owned();
    path.push(".log");
    path.into()
}

fn create(log: &MemoryLog, rows: &SqliteSettings, topology: &Topology) -> Result<(), Failure> {
    let mut schema = SqliteSchema::new(rows, topology.name(), RETENTION)?;
    schema.migrate()?;
    let mut tables = SqliteTables::new(rows)?;
    let accounts: Vec<_> =
        (0..ACCOUNTS).map(|id| (Key::from(i64::from(id)), vec![Value::F64(first_score(id))])).collect();
    for spec in topology.tables() {
        tables.create(&spec, &accounts)?;
        schema.note_baseline(&spec.table)?;
    }
    let sources = topology.sub_topologies().iter().flat_map(SubTopology::sources).cloned();
    for topic in sources.chain(topology.outputs()) {
        log.create_topic(topic.as_str(), PARTITIONS)?;
    }
    Ok(())
}

/// A folder that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("tidegate-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path)
            .map_err(|error| Failure::message(format!("{}: cannot be created: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // files left in the temporary folder do no harm
    }
}
