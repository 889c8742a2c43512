//! One connection, made when it is needed and dropped when its state is unknown.

mod column;
mod driver;
mod facts;
mod open_files;
mod pooler;
mod symptom;
mod trouble;

pub(super) use column::{raw, unreadable};
pub(super) use pooler::refuse_lent;
pub(super) use trouble::Trouble;

use crate::adapters::postgres::connection::driver::Driver;
use crate::adapters::postgres::connection::facts::Facts;
use crate::adapters::postgres::connection::symptom::symptom;
use crate::adapters::postgres::connection::trouble::{Said, elapsed, is_elapsed};
use crate::adapters::postgres::statements::{self, COMMIT, Limits, Name, Statement};
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::rows::CommitAnswer;
use crate::settings::postgres::PostgresSettings;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The time for which a client waits beyond the server's own limit before it gives the connection up: the network may drop
/// packets.
const GRACE: Duration = Duration::from_secs(5);

/// The duration of an exchange after which the holders of its awaited locks are looked up, and the limit of that look-up.
const SLOW: Duration = Duration::from_secs(1);

/// The server, with a connection to it or none.
pub(super) struct Server {
    // Before the driver, so that it is dropped first.
    connection: Option<PgConnection>,
    driver: Driver,
    options: Arc<PgConnectOptions>,
    connect_timeout: Duration,
    deadline: Duration,
    has_connected: bool,
    /// The server's process of this connection, and the same among all servers.
    pid: i32,
    backend: String,
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

    /// The same as [`Server::new`], with other limits, for work that is not a batch.
    pub(super) fn with_limits(settings: &PostgresSettings, limits: Limits) -> Result<Self, Fault> {
        if [limits.statement, limits.lock, limits.idle, settings.connect_timeout_ms].contains(&0) {
            return Err(Fault::fatal("postgres settings: a time limit of 0 would wait for ever; use milliseconds"));
        }
        let schema = Name::parse(&settings.schema).map_err(|why| Fault::fatal(format!("postgres schema: {why}")))?;
        let url = settings.driver_url().map_err(|why| Fault::fatal(format!("postgres url: {why}")))?;
        let options = PgConnectOptions::from_str(&url)
            // The URL holds a password, and an error may quote the part that it could not read.
            .map_err(|_| {
                Fault::fatal("postgres url: cannot be read; expected postgres://user:password@host:port/database")
            })?
            .application_name("tidegate")
            // Floats travel in binary, and a pooler may refuse a parameter that it does not know.
            .extra_float_digits(None)
            .statement_cache_capacity(settings.statement_cache)
            .disable_statement_logging();
        open_files::look();
        Ok(Self {
            connection: None,
            driver: Driver::new()?,
            options: Arc::new(options),
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms.into()),
            deadline: Duration::from_millis(limits.statement.into()) + GRACE,
            has_connected: false,
            pid: 0,
            backend: String::new(),
            begin: statements::begin(limits, "on"),
            limits,
            schema,
            is_caching: settings.statement_cache > 0,
        })
    }

    /// The server and the database, without what is secret.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.address(), self.options.get_database().unwrap_or("(of the user's name)"))
    }

    fn address(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }

    /// The time for which a transaction may wait for its next statement.
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
        let result = self.driver.drive(async {
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
        self.backend = server.backend;
        self.connection = Some(connection);
        Ok(())
    }

    fn cannot_connect(&self, error: sqlx::Error) -> Fault {
        let text = error.to_string();
        let waited = (is_elapsed(&error) && self.is_listening()).then_some(self.connect_timeout);
        symptom(&error, &text, waited).fault(&self.address(), self.has_connected).because(Said::new(error))
    }

    /// Whether the address takes connections at all.
    fn is_listening(&self) -> bool {
        let places = (self.options.get_host(), self.options.get_port()).to_socket_addrs();
        places.into_iter().flatten().any(|place| TcpStream::connect_timeout(&place, SLOW).is_ok())
    }

    /// Names the server's process of this connection.
    pub(super) fn backend(&self) -> &str {
        &self.backend
    }

    /// Gives the connection up in any state: the server rolls back an open transaction.
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
        let result = self
            .driver
            .drive(async { tokio::time::timeout(deadline, work(connection)).await.unwrap_or_else(|_| Err(elapsed())) });
        result.map_err(|error| {
            let trouble = Trouble::new(what, error);
            if trouble.is_disconnected() {
                self.connection = None;
            }
            trouble
        })
    }

    /// The same as [`Server::run`]; if an exchange takes long and fails, its error names the holders of the locks that it
    /// waited for.
    pub(super) fn run_behind_locks<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Trouble> {
        self.run_asking(self.soon(), what, work)
    }

    /// Half of an exchange's time limit, so that the holders can be looked up before it is given up.
    fn soon(&self) -> Duration {
        Duration::from_millis(u64::from(self.limits.lock.min(self.limits.statement) / 2)).min(SLOW)
    }

    /// Runs [`Server::run_behind_locks`], with `soon` for the time after which the holders are looked up.
    fn run_asking<T>(
        &mut self,
        soon: Duration,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Trouble> {
        let (options, pid) = (Arc::clone(&self.options), self.pid);
        let mut holders = None;
        let result = self.run(what, async |connection| {
            let mut work = std::pin::pin!(work(connection));
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = tokio::time::sleep(soon) => {}
            }
            // Kept as soon as they are known: the work may be given up before it ends.
            let asked = async {
                let found = tokio::time::timeout(SLOW, lock_holders(&options, pid)).await;
                holders = found.ok().and_then(Result::ok).flatten();
            };
            tokio::join!(work, asked).0
        });
        result.map_err(|trouble| Trouble { holders, ..trouble })
    }

    /// Opens a transaction with its limits, on a new connection if there is none.
    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        self.connect()?;
        let begin = self.begin.sql();
        let begun = self.run("begin", async |c| {
            let rows = sqlx::raw_sql(begin).fetch_all(c).await?;
            rows.first().map(|row| row.try_get::<i32, _>(0)).transpose()
        });
        if begun.as_ref().is_ok_and(|pid| *pid == Some(self.pid)) {
            return Ok(());
        }
        self.connection = None; // half of BEGIN and its limits may have run
        begun.map_or_else(|trouble| Err(trouble.into()), |_| Err(pooler::lent()))
    }

    /// Commits the open transaction.
    pub(super) fn commit(&mut self) -> Result<CommitAnswer, Fault> {
        if self.connection.is_none() {
            return Err(Trouble::lost("commit").into());
        }
        match self.run("commit", async |c| failpoint!(K4, within sqlx::raw_sql(COMMIT).execute(c)).await) {
            Ok(_) => Ok(CommitAnswer::Done),
            Err(trouble) => self.uncommitted(trouble).map(|_| CommitAnswer::Unknown),
        }
    }

    /// Hands the error back if the COMMIT may have been carried out all the same.
    fn uncommitted(&mut self, trouble: Trouble) -> Result<Trouble, Fault> {
        if trouble.leaves_commit_open() {
            self.connection = None;
            return Ok(trouble);
        }
        self.rollback();
        Err(trouble.into())
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
        let done = self.run(what, work);
        self.end(what, done)
    }

    /// The same as [`Server::transaction`]; if it waits for a lock longer than `soon` and fails, its error names the holders.
    pub(super) fn transaction_asking<T>(
        &mut self,
        soon: Duration,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Fault> {
        self.begin()?;
        let done = self.run_asking(soon, what, work);
        self.end(what, done)
    }

    /// The same, with the usual time after which the holders are looked up.
    pub(super) fn transaction_behind_locks<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Fault> {
        self.transaction_asking(self.soon(), what, work)
    }

    fn end<T>(&mut self, what: &str, done: Result<T, Trouble>) -> Result<T, Fault> {
        match done {
            Ok(value) => {
                let commit = async |c: &mut PgConnection| failpoint!(K4, within sqlx::raw_sql(COMMIT).execute(c)).await;
                let Err(trouble) = self.run_behind_locks("commit", commit) else { return Ok(value) };
                let why = match self.uncommitted(trouble)?.holders {
                    Some(waits) => format!("its COMMIT was not answered in time: {waits}"),
                    None => "the connection broke during COMMIT".into(),
                };
                Err(Fault::retry(format!("{what}: {why}")))
            }
            Err(trouble) => {
                self.rollback();
                Err(trouble.into())
            }
        }
    }
}

/// The sessions that block the server's process `pid`, or what its own COMMIT waits for, looked up on a connection of its own.
/// A COMMIT that waits for a synchronous standby is not to be ended: it would be lost to the standby, and the next would wait.
async fn lock_holders(options: &PgConnectOptions, pid: i32) -> Result<Option<String>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let row = sqlx::query(
        "SELECT coalesce(string_agg(CASE WHEN b.pid = 0 THEN 'a prepared transaction: end it with ROLLBACK PREPARED, pg_prepared_xacts \
         has its name' ELSE format('pid %s (application %s, role %s, %s for %s s%s)%s', b.pid, \
         coalesce(nullif(a.application_name, ''), 'without a name'), coalesce(a.usename, '?'), \
         coalesce(a.state, 'in a state that only a member of pg_read_all_stats sees'), \
         coalesce(extract(epoch FROM clock_timestamp() - a.state_change)::bigint::text, '?'), \
         coalesce(', in its transaction for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::bigint || ' s', ''), \
         CASE WHEN a.wait_event = 'SyncRep' THEN ', whose COMMIT waits for a synchronous standby \
         (synchronous_standby_names): bring one up, or take it out of synchronous_standby_names' \
         WHEN a.application_name = 'tidegate' THEN '' ELSE format(': end it with SELECT pg_terminate_backend(%s)', b.pid) \
         END) END, ', '), (SELECT 'it waits for a synchronous standby (synchronous_standby_names): bring one up, or take it out of \
         synchronous_standby_names' FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep')) \
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
