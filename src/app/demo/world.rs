//! The demo's world: the in-process log, the pipelines with their rows in SQLite files, and the scoring's runs counted.

use super::feeder::{ACCOUNTS, first_score};
use super::home::devices::Device;
use super::home::meters;
use super::pipeline::{PARTITIONS, Pipeline};
use super::process::SESSION;
use super::runs::{Counted, Runs};
use crate::adapters::memory::{LogSettings, MemoryLog, MemoryStores};
use crate::adapters::sqlite::{SqliteJournal, SqliteRollUps, SqliteSchema, SqliteSettings, SqliteTables};
use crate::app::failure::Failure;
use crate::flow::row::Value;
use crate::flow::topology::SubTopology;
use crate::flow::{Key, Topology};
use crate::pipelines::scoring;
use crate::ports::Clock;
use crate::ports::clock::SystemClock;
use crate::ports::rollups::RollUpTables as _;
use crate::ports::schema::Schema as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Outbox rows are kept for a day, so that the audit sees everything.
const RETENTION: Duration = Duration::from_hours(24);

/// Log and pipelines.
pub(super) struct World {
    pub(super) log: MemoryLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) scoring: Pipeline,
    /// The devices' pipeline; none where no device is wanted.
    pub(super) home: Option<Pipeline>,
    _folder: Option<Folder>,
}

impl World {
    /// Opens the files, which are gone at the end unless `kept` names them, and creates tables, rows and topics, of so many devices.
    pub(super) fn open(kept: Option<&Path>, devices: u32) -> Result<Self, Failure> {
        let folder = if kept.is_none() { Some(Folder::create()?) } else { None };
        let path = kept.map_or_else(PathBuf::new, Path::to_path_buf);
        let path = folder.as_ref().map_or(path, |folder| folder.0.join("demo.db"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let settings = LogSettings { session_timeout: SESSION, ..LogSettings::default() };
        let log = match kept {
            Some(path) => {
                let journal = SqliteJournal::new(&SqliteSettings::new(&beside(path, ".log")))?;
                MemoryLog::open(Arc::clone(&clock), settings, Box::new(journal))?
            }
            None => MemoryLog::with_settings(Arc::clone(&clock), settings),
        };
        let pipeline = |topology: Topology, path: &Path, runs: Arc<Runs>| Pipeline {
            log: log.clone(),
            clock: Arc::clone(&clock),
            topology: Arc::new(topology),
            rows: SqliteSettings::new(path),
            stores: MemoryStores::default(),
            runs,
        };
        let runs = Arc::new(Runs::default());
        let count =
            |step| -> Arc<dyn crate::flow::step::RowStep> { Arc::new(Counted { step, runs: Arc::clone(&runs) }) };
        let scoring = pipeline(scoring::topology().wrapped(count), &path, Arc::clone(&runs));
        create(&scoring, |topology| create_accounts(&scoring.rows, topology))?;
        let home = (devices > 0).then(|| pipeline(meters::topology(), &beside(&path, ".home"), Arc::default()));
        if let Some(home) = &home {
            create(home, |topology| create_roll_ups(&home.rows, topology, devices))?;
        }
        Ok(Self { log, clock, scoring, home, _folder: folder })
    }
}

/// A file beside that of the rows: the log's own, since each of its commits takes its file's write lock, and the devices'.
pub(super) fn beside(rows: &Path, ending: &str) -> PathBuf {
    let mut path = rows.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Creates what a pipeline needs: Tidegate's tables, its own, and its topics.
fn create(pipeline: &Pipeline, tables: impl FnOnce(&Topology) -> Result<(), Failure>) -> Result<(), Failure> {
    let Pipeline { log, topology, rows, .. } = pipeline;
    let mut schema = SqliteSchema::new(rows, topology.name(), RETENTION)?;
    schema.migrate()?;
    tables(topology)?;
    for spec in topology.tables() {
        schema.note_baseline(&spec.table)?;
    }
    let sources = topology.sub_topologies().iter().flat_map(SubTopology::sources).cloned();
    for topic in sources.chain(topology.outputs()) {
        log.create_topic(topic.as_str(), PARTITIONS)?;
    }
    Ok(())
}

fn create_accounts(rows: &SqliteSettings, topology: &Topology) -> Result<(), Failure> {
    let mut tables = SqliteTables::new(rows)?;
    let accounts: Vec<_> =
        (0..ACCOUNTS).map(|id| (Key::from(i64::from(id)), vec![Value::F64(first_score(id))])).collect();
    for spec in topology.tables() {
        tables.create(&spec, &accounts)?;
    }
    Ok(())
}

fn create_roll_ups(rows: &SqliteSettings, topology: &Topology, devices: u32) -> Result<(), Failure> {
    let mut tables = SqliteRollUps::new(rows)?;
    let described: Vec<_> = Device::all(devices).iter().map(Device::described).collect();
    for rollup in topology.roll_ups() {
        tables.create(&rollup.name)?;
        tables.describe_all(&rollup.name, &described)?;
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
