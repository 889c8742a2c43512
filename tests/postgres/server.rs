//! A private server, and a schema of its own for each test.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use tidegate::adapters::postgres::{OutboxSettings, PostgresHistory, PostgresRows, PostgresSchema, PostgresSettings};
use tidegate::flow::record::{NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::ports::rows::{Claim, Claimed, Counts, Move, OutboxRow, Rows};
use tidegate::ports::schema::Schema;
use tidegate::ports::source::LogIds;

/// A server that this process started; it goes when the process goes.
pub struct Server {
    folder: String,
    pub url: String,
}

impl Server {
    /// Starts one.
    pub fn start(name: &str) -> Self {
        let folder = format!("/tmp/tidegate-pg-{}-{name}", std::process::id());
        let url = script("start", &folder);
        Self { folder, url }
    }

    pub fn folder(&self) -> &Path {
        Path::new(&self.folder)
    }

    pub fn kill(&self) {
        script("kill", &self.folder);
    }

    pub fn restart(&self) {
        script("restart", &self.folder);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        script("remove", &self.folder);
    }
}

fn script(command: &str, folder: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/postgres.sh");
    let output = Command::new(path)
        .args([command, folder])
        .env("TIDEGATE_PARENT_PID", std::process::id().to_string())
        .output()
        .expect("postgres.sh runs");
    assert!(output.status.success(), "postgres.sh {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// Whether real servers are wanted; says so when they are not.
pub fn is_wanted() -> bool {
    let is_wanted = std::env::var("SYSTEM_TESTS").is_ok_and(|value| value == "1");
    if !is_wanted {
        println!("skipped: needs a PostgreSQL server, set SYSTEM_TESTS=1");
    }
    is_wanted
}

/// The server that tests share which leave it as it was.
pub fn shared_url() -> String {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start("shared")).url.clone()
}

/// One test's schema, pipeline and user schema, all called the same.
pub struct Fixture {
    pub name: &'static str,
    pub settings: PostgresSettings,
}

impl Fixture {
    /// Migrated, on the shared server; `None` when servers are not wanted.
    pub fn new(name: &'static str) -> Option<Self> {
        is_wanted().then(|| Self::on(&shared_url(), name))
    }

    pub fn on(url: &str, name: &'static str) -> Self {
        let settings = PostgresSettings { schema: format!("tg_{name}"), ..PostgresSettings::new(url) };
        let fixture = Self { name, settings };
        fixture.schema().migrate().unwrap();
        fixture.sql(&format!("CREATE SCHEMA {name}"));
        fixture
    }

    pub fn rows(&self) -> PostgresRows {
        PostgresRows::new(&self.settings, self.name, self.name).unwrap()
    }

    pub fn schema(&self) -> PostgresSchema {
        PostgresSchema::new(&self.settings, OutboxSettings::default(), self.name).unwrap()
    }

    pub fn history(&self) -> PostgresHistory {
        PostgresHistory::new(&self.settings, self.name).unwrap()
    }

    /// Runs SQL in which `{tg}` is our schema and `{u}` the user's.
    pub fn sql(&self, text: &str) -> Vec<PgRow> {
        sql(self.settings.url.expose(), &text.replace("{tg}", &self.settings.schema).replace("{u}", self.name))
    }

    pub fn number(&self, text: &str) -> i64 {
        self.sql(text).first().map(|row| row.try_get_unchecked::<i64, _>(0).unwrap()).unwrap()
    }

    pub fn text(&self, text: &str) -> String {
        self.sql(text).first().map(|row| row.try_get_unchecked::<String, _>(0).unwrap()).unwrap()
    }

    /// Claims and creates partition 0 at offset 0.
    pub fn own(&self, rows: &mut PostgresRows, generation: i32) -> i64 {
        let claim = claim(0, generation);
        match rows.claim(std::slice::from_ref(&claim)).unwrap().remove(0) {
            Claimed::Owned(position) => position.epoch,
            Claimed::Absent => {
                assert!(rows.create(&claim, NextOffset(0)).unwrap());
                1
            }
            Claimed::Stale { generation } => panic!("stale: {generation}"),
        }
    }
}

pub fn sql(url: &str, text: &str) -> Vec<PgRow> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|e| panic!("{text}: {e}"))
    })
}

pub fn source(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicName::parse("input").unwrap(), Partition(partition))
}

pub fn claim(partition: i32, generation: i32) -> Claim {
    Claim {
        source: source(partition),
        adopts: None,
        generation,
        owner: "host-1".into(),
        log_ids: LogIds { cluster_id: "cluster".into(), topic_id: "topic".into() },
        partition_count: 3,
    }
}

pub fn step(epoch: i64, from: i64, to: i64) -> Move {
    Move {
        source: source(0),
        epoch,
        from: NextOffset(from),
        to: NextOffset(to),
        published: NextOffset(from),
        counts: Counts { records: to - from, ..Counts::default() },
    }
}

pub fn outbox_row(offset: i64, seq: i32, created_at: i64) -> OutboxRow {
    OutboxRow {
        source: source(0),
        source_offset: Offset(offset),
        seq,
        incarnation: 0,
        destination: TopicName::parse("output").unwrap(),
        key: Some(b"k".to_vec()),
        value: Some(format!("{offset}/{seq}").into_bytes()),
        headers: Vec::new(),
        created_at: Timestamp(created_at),
        timestamp: None,
    }
}

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
