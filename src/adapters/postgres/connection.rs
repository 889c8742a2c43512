//! One connection, made when it is needed and dropped when it is in doubt.

use super::classify::{self, Consequence};
use super::settings::PostgresSettings;
use super::statements::{self, COMMIT, Limits, Name, Statement};
use crate::flow::effect::Reject;
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::rows::{CommitAnswer, WriteFault};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgRow, PgSeverity};
use sqlx::{ConnectOptions, Connection, Row};
use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The oldest server whose features are used (`pg_current_xact_id` and partitioning as it is now), and still supported when
/// this was written: 13.
const SERVER_VERSION_MIN: i32 = 130_000;

/// How long a client waits beyond the server's own limit before it gives the connection up: a network that drops packets.
const GRACE: Duration = Duration::from_secs(5);

/// How long an exchange takes before it is asked who holds the locks that it waits for, and how long that may take.
const SLOW: Duration = Duration::from_secs(1);

/// A connection to the server, or the lack of one.
pub(super) struct Server {
    // Before the runtime, so that it is dropped first.
    connection: Option<PgConnection>,
    runtime: Runtime,
    options: Arc<PgConnectOptions>,
    connect_timeout: Duration,
    deadline: Duration,
    has_connected: bool,
    /// The server's process of this connection.
    pid: i32,
    limits: Limits,
    begin: Statement,
    /// The schema of our own tables.
    pub(super) schema: Name,
    /// Whether statements are kept prepared.
    pub(super) is_caching: bool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("schema", &self.schema)
            .field("is_connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Checks the settings; does not connect.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, Fault> {
        let limits = Limits {
            statement: settings.statement_timeout_ms,
            lock: settings.lock_timeout_ms,
            idle: settings.idle_in_transaction_timeout_ms,
        };
        Self::with_limits(settings, limits)
    }

    /// As [`Server::new`], with other limits, for work that is not a batch.
    pub(super) fn with_limits(settings: &PostgresSettings, limits: Limits) -> Result<Self, Fault> {
        if [limits.statement, limits.lock, limits.idle, settings.connect_timeout_ms].contains(&0) {
            return Err(Fault::fatal("postgres settings: a time limit of 0 would wait for ever; use milliseconds"));
        }
        let schema = Name::parse(&settings.schema).map_err(|why| Fault::fatal(format!("postgres schema: {why}")))?;
        let options = PgConnectOptions::from_str(settings.url.expose())
            // The URL holds a password, and an error may quote what it could not read.
            .map_err(|_| {
                Fault::fatal("postgres url: cannot be read; expected postgres://user:password@host:port/database")
            })?
            .application_name("tidegate")
            .statement_cache_capacity(settings.statement_cache)
            .disable_statement_logging();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::fatal("cannot start a runtime for postgres").because(error))?;
        Ok(Self {
            connection: None,
            runtime,
            options: Arc::new(options),
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms.into()),
            deadline: Duration::from_millis(limits.statement.into()) + GRACE,
            has_connected: false,
            pid: 0,
            begin: statements::begin(limits, "on"),
            limits,
            schema,
            is_caching: settings.statement_cache > 0,
        })
    }

    /// How long a transaction may wait for its next statement.
    pub(super) fn idle_max(&self) -> Duration {
        Duration::from_millis(self.limits.idle.into())
    }

    /// Puts our schema's name into a text of ours.
    pub(super) fn statement(&self, text: &str) -> Statement {
        statements::in_schema(&self.schema, text)
    }

    /// Makes a connection unless there is one.
    pub(super) fn connect(&mut self) -> Result<(), Fault> {
        if self.connection.is_some() {
            return Ok(());
        }
        let options = &self.options;
        let result = self.runtime.block_on(async {
            let work = async {
                let mut connection = PgConnection::connect_with(options).await?;
                let server = Facts::read(&mut connection).await?;
                Ok((connection, server))
            };
            tokio::time::timeout(self.connect_timeout, work).await.unwrap_or_else(|_| Err(elapsed()))
        });
        let (connection, server) = result.map_err(|error| self.cannot_connect(error))?;
        server.check()?;
        self.begin = statements::begin(self.limits, &server.synchronous_commit);
        self.has_connected = true;
        self.pid = server.pid;
        self.connection = Some(connection);
        Ok(())
    }

    fn cannot_connect(&self, error: sqlx::Error) -> Fault {
        let code = sqlstate(&error).unwrap_or_default();
        // Wrong from the start is a mistake in the settings; wrong later may be a rotation under way.
        let is_mistake =
            matches!(error, sqlx::Error::Configuration(_)) || code.starts_with("28") || code.starts_with("3D");
        if is_mistake && !self.has_connected {
            Fault::fatal("postgres refuses the connection; check the url in the settings").because(error)
        } else {
            Fault::retry("postgres cannot be reached").because(error)
        }
    }

    /// Gives the connection up, whatever state it is in: the server rolls back what is open.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Runs one exchange with the server. A connection that is broken, that leads to the wrong server, or that has not
    /// answered in time is dropped.
    pub(super) fn run<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Trouble> {
        let Some(connection) = self.connection.as_mut() else { return Err(Trouble::lost(what)) };
        let deadline = self.deadline;
        let result = self.runtime.block_on(async {
            tokio::time::timeout(deadline, work(connection)).await.unwrap_or_else(|_| Err(elapsed()))
        });
        result.map_err(|error| {
            let trouble = Trouble::new(what, error);
            if trouble.is_disconnected() {
                self.connection = None;
            }
            trouble
        })
    }

    /// As [`Server::run`]; an exchange that takes long, and fails, tells who holds the locks that it waited for.
    pub(super) fn run_behind_locks<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Trouble> {
        // Half of what it may wait, so that they can be asked for before it is given up.
        let soon = Duration::from_millis(u64::from(self.limits.lock.min(self.limits.statement) / 2)).min(SLOW);
        let (options, pid) = (Arc::clone(&self.options), self.pid);
        let mut holders = None;
        let result = self.run(what, async |connection| {
            let mut work = std::pin::pin!(work(connection));
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = tokio::time::sleep(soon) => {}
            }
            let asked = tokio::time::timeout(SLOW, lock_holders(&options, pid));
            let (result, found) = tokio::join!(work, asked);
            holders = found.ok().and_then(Result::ok).flatten();
            result
        });
        result.map_err(|trouble| Trouble { holders, ..trouble })
    }

    /// Opens a transaction with its limits, on a new connection if there is none.
    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        self.connect()?;
        let begin = self.begin.sql();
        self.run("begin", async |c| sqlx::raw_sql(begin).execute(c).await).map(drop).map_err(|trouble| {
            self.connection = None; // half of BEGIN and its limits may have run
            trouble.into()
        })
    }

    /// Commits the open transaction.
    pub(super) fn commit(&mut self) -> Result<CommitAnswer, Fault> {
        if self.connection.is_none() {
            return Err(Trouble::lost("commit").into());
        }
        match self.run("commit", async |c| failpoint!(K4, within sqlx::raw_sql(COMMIT).execute(c)).await) {
            Ok(_) => Ok(CommitAnswer::Done),
            Err(trouble) if trouble.leaves_commit_open() => {
                self.connection = None;
                Ok(CommitAnswer::Unknown)
            }
            Err(trouble) => {
                self.rollback();
                Err(trouble.into())
            }
        }
    }

    /// Ends the open transaction without effect, or gives the connection up.
    pub(super) fn rollback(&mut self) {
        if self.connection.is_some()
            && self.run("rollback", async |c| sqlx::raw_sql("ROLLBACK").execute(c).await).is_err()
        {
            self.connection = None;
        }
    }

    /// Runs `work` in a transaction of its own, whose commit must be certain.
    pub(super) fn transaction<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Fault> {
        self.begin()?;
        match self.run(what, work) {
            Ok(value) => match self.commit()? {
                CommitAnswer::Done => Ok(value),
                CommitAnswer::Unknown => Err(Fault::retry(format!("{what}: the connection broke during COMMIT"))),
            },
            Err(trouble) => {
                self.rollback();
                Err(trouble.into())
            }
        }
    }
}

/// The sessions that hold what the server's process `pid` waits for, asked on a connection of its own.
async fn lock_holders(options: &PgConnectOptions, pid: i32) -> Result<Option<String>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let row = sqlx::query(
        "SELECT string_agg(CASE b.pid WHEN 0 THEN 'a prepared transaction' ELSE format('pid %s (application %s, %s for %s s)', \
         b.pid, coalesce(nullif(a.application_name, ''), 'without a name'), coalesce(a.state, 'in a state that is not shown'), \
         coalesce(extract(epoch FROM clock_timestamp() - a.state_change)::bigint::text, '?')) END, ', ') \
         FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid) AS b LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid",
    )
    .bind(pid)
    .persistent(false)
    .fetch_one(&mut connection)
    .await?;
    let holders = row.try_get(0)?;
    let _ = connection.close().await;
    Ok(holders)
}

/// What a new connection tells about its server.
struct Facts {
    pid: i32,
    version: i32,
    is_standby: bool,
    is_read_only: bool,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
}

impl Facts {
    async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row: PgRow = sqlx::query(
            "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
             current_setting('transaction_read_only') = 'on', current_setting('fsync'), \
             current_setting('full_page_writes'), current_setting('synchronous_commit'), pg_backend_pid()",
        )
        .persistent(false)
        .fetch_one(connection)
        .await?;
        Ok(Self {
            version: row.try_get(0)?,
            is_standby: row.try_get(1)?,
            is_read_only: row.try_get(2)?,
            fsync: row.try_get(3)?,
            full_page_writes: row.try_get(4)?,
            synchronous_commit: row.try_get(5)?,
            pid: row.try_get(6)?,
        })
    }

    /// Refuses a server on which an acknowledged commit can be lost or nothing can be committed
    /// (docs/traps.md#servers-that-lose-commits).
    fn check(&self) -> Result<(), Fault> {
        if self.version < SERVER_VERSION_MIN {
            return Err(Fault::fatal(format!(
                "postgres is of version {}; 13 or newer is needed",
                self.version / 10_000
            )));
        }
        for (name, value) in [
            ("fsync", &self.fsync),
            ("full_page_writes", &self.full_page_writes),
            ("synchronous_commit", &self.synchronous_commit),
        ] {
            if value == "off" {
                return Err(Fault::fatal(format!(
                    "postgres runs with {name} = off, so a crash loses or damages commits that were acknowledged; set {name} = on"
                )));
            }
        }
        if self.is_standby {
            return Err(Fault::retry("postgres is a read-only standby; the url must lead to the primary"));
        }
        if self.is_read_only {
            return Err(Fault::retry(
                "postgres is a read-only standby or set so (default_transaction_read_only = on); the url must lead to the primary",
            ));
        }
        Ok(())
    }
}

/// An exchange that failed.
#[derive(Debug)]
pub(super) struct Trouble {
    what: String,
    error: sqlx::Error,
    /// Who held the locks that it waited for.
    holders: Option<String>,
}

fn elapsed() -> sqlx::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    server_error(error).map(PgDatabaseError::code)
}

fn server_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Whether the row is to blame rather than the connection: what sqlx could not encode or decode.
const fn is_driver_side(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. }
    )
}

impl Trouble {
    fn new(what: &str, error: sqlx::Error) -> Self {
        Self { what: what.into(), error, holders: None }
    }

    pub(super) fn lost(what: &str) -> Self {
        Self::new(what, std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    }

    /// A finding of our own: the statement ran, and what came back cannot be true.
    pub(super) fn impossible(what: &str, why: String) -> Self {
        Self::new(what, sqlx::Error::Decode(why.into()))
    }

    pub(super) fn sqlstate(&self) -> Option<&str> {
        sqlstate(&self.error)
    }

    fn consequence(&self) -> Consequence {
        match self.sqlstate() {
            Some(code) => classify::consequence_at(code, server_error(&self.error).and_then(PgDatabaseError::routine)),
            None if is_driver_side(&self.error) => Consequence::Corrupt,
            None => Consequence::Reconnect,
        }
    }

    /// Whether the connection is no longer to be used.
    fn is_disconnected(&self) -> bool {
        let is_over = server_error(&self.error)
            .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic));
        is_over || self.consequence() == Consequence::Reconnect
    }

    fn leaves_commit_open(&self) -> bool {
        self.is_disconnected() || self.sqlstate().is_some_and(classify::leaves_commit_open)
    }

    /// A sentence of names alone: the server's own message and detail may quote the row.
    fn names(&self) -> String {
        let Some(error) = server_error(&self.error) else { return self.what.clone() };
        let mut out = format!("{}: SQLSTATE {}", self.what, error.code());
        for (word, name) in [
            ("table", error.table()),
            ("column", error.column()),
            ("constraint", error.constraint()),
            ("type", error.data_type()),
        ] {
            if let Some(name) = name {
                let _ = write!(out, ", {word} {name}");
            }
        }
        if let Some(holders) = &self.holders {
            let _ = write!(out, "; locked by {holders}");
        }
        out
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble.consequence() {
            Consequence::Retry
                if trouble.sqlstate().is_some_and(|code| classify::is_lock_wait(code, trouble.holders.is_some())) =>
            {
                Self::locked(trouble.names()).because(trouble.error)
            }
            Consequence::Retry | Consequence::Reconnect => Self::retry(trouble.names()).because(trouble.error),
            Consequence::Corrupt => Self::corrupt(trouble.names()).because(trouble.error),
            // Without the server's message, which quotes values.
            Consequence::Reject(code) => Self::refused(Reject::dead_letter(code, trouble.names())),
        }
    }
}

impl From<Trouble> for WriteFault {
    fn from(trouble: Trouble) -> Self {
        match trouble.consequence() {
            Consequence::Reject(code) => Self::Rejected(Reject::dead_letter(code, trouble.names())),
            _ => Self::Fault(trouble.into()),
        }
    }
}

/// The raw bytes of one column; `None` for null. Without sqlx's type check, since the statement names the types.
pub(super) fn raw(row: &PgRow, index: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    use sqlx::ValueRef;
    let value = row.try_get_raw(index)?;
    if value.is_null() { Ok(None) } else { value.as_bytes().map(Some).map_err(sqlx::Error::Decode) }
}

/// An error of our own about what came back.
pub(super) fn unreadable(why: impl Into<String>) -> sqlx::Error {
    sqlx::Error::Decode(why.into().into())
}
