//! One connection, driven on the calling thread, and the meaning of its errors.

use crate::flow::effect::Reject;
use crate::ports::Fault;
use crate::ports::rows::WriteFault;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteQueryResult, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _, Executor, SqlSafeStr, Sqlite, SqliteConnection};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Where the database lies and how long to wait for it.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The file; created when it is missing, with `-wal` and `-shm` beside it.
    pub path: PathBuf,
    /// Time for which a transaction waits for the one before it. 5 s: far above a transaction's length, below a poll
    /// interval.
    pub busy_timeout: Duration,
}

impl SqliteSettings {
    /// The file with the default settings.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), busy_timeout: Duration::from_secs(5) }
    }
}

/// A query with its arguments.
pub(super) type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// One connection and the runtime that drives it.
pub(super) struct Connection {
    runtime: Runtime,
    // Taken at the drop, which closes it within the runtime.
    inner: Option<SqliteConnection>,
    settings: SqliteSettings,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("path", &self.settings.path).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            drop(self.runtime.block_on(inner.close()));
        }
    }
}

impl Connection {
    /// Opens the file.
    pub(super) fn open(settings: &SqliteSettings) -> Result<Self, Fault> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::fatal("no runtime for a SQLite connection").because(error))?;
        let mut connection = Self { runtime, inner: None, settings: settings.clone() };
        connection.inner()?;
        Ok(connection)
    }

    pub(super) const fn settings(&self) -> &SqliteSettings {
        &self.settings
    }

    fn inner(&mut self) -> Result<(&Runtime, &mut SqliteConnection), Fault> {
        if self.inner.is_none() {
            let options = SqliteConnectOptions::new()
                .filename(&self.settings.path)
                .create_if_missing(true)
                .busy_timeout(self.settings.busy_timeout)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .disable_statement_logging();
            self.inner = Some(self.runtime.block_on(options.connect()).map_err(|error| self.opening(error))?);
        }
        match &mut self.inner {
            Some(inner) => Ok((&self.runtime, inner)),
            None => Err(Fault::retry("no SQLite connection")),
        }
    }

    fn opening(&self, error: sqlx::Error) -> Fault {
        let path = &self.settings.path;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
        let cause =
            folder.map_or_else(String::new, |folder| format!(", there is no folder {}: make it", folder.display()));
        Fault::retry(format!("cannot open {}{cause}", path.display())).because(error)
    }

    /// Runs a statement and answers how many rows it concerned.
    pub(super) fn execute(&mut self, query: Query<'_>) -> Result<u64, Trouble> {
        let (runtime, inner) = self.inner()?;
        let done = runtime.block_on(query.execute(inner)).map_err(Trouble::from)?;
        Ok(SqliteQueryResult::rows_affected(&done))
    }

    /// Runs a statement and answers its rows.
    pub(super) fn fetch(&mut self, query: Query<'_>) -> Result<Vec<SqliteRow>, Trouble> {
        let (runtime, inner) = self.inner()?;
        runtime.block_on(query.fetch_all(inner)).map_err(Trouble::from)
    }

    /// Runs a statement and answers its only row, if it has one.
    pub(super) fn fetch_optional(&mut self, query: Query<'_>) -> Result<Option<SqliteRow>, Trouble> {
        let (runtime, inner) = self.inner()?;
        runtime.block_on(query.fetch_optional(inner)).map_err(Trouble::from)
    }

    /// Runs statements without arguments or answer.
    pub(super) fn run(&mut self, sql: &'static str) -> Result<(), Trouble> {
        let (runtime, inner) = self.inner()?;
        runtime.block_on(inner.execute(sqlx::raw_sql(sql.into_sql_str()))).map_err(Trouble::from)?;
        Ok(())
    }

    /// Takes the write lock, so that nothing later in the transaction can be refused for it.
    pub(super) fn begin(&mut self) -> Result<(), Trouble> {
        self.run("BEGIN IMMEDIATE")
    }

    /// Ends the transaction without effect; a connection that cannot do that is dropped, which does it as well.
    pub(super) fn rollback(&mut self) {
        if self.run("ROLLBACK").is_err() {
            self.inner = None;
        }
    }

    /// Runs `act` in a transaction of its own.
    pub(super) fn transaction<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, Trouble>) -> Result<T, Trouble> {
        self.begin()?;
        let result = act(self).and_then(|answer| self.run("COMMIT").map(|()| answer));
        if result.is_err() {
            self.rollback();
        }
        result
    }
}

/// An error of a statement, by what the caller does next.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A value was refused.
    Rejected(Reject),
    /// Anything else.
    Fault(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Rejected(reject) => {
                let message = format!("SQLite refuses a value: {}", reject.message());
                Self::refused(Reject::dead_letter(reject.code().to_owned(), message))
            }
            Trouble::Fault(fault) => fault,
        }
    }
}

impl From<Trouble> for WriteFault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Rejected(reject) => Self::Rejected(reject),
            Trouble::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl From<sqlx::Error> for Trouble {
    /// By primary result code (the low byte), from <https://www.sqlite.org/rescode.html>.
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                    Self::Fault(Fault::corrupt("SQLite holds a value of another type").because(error))
                }
                _ => Self::Fault(Fault::retry("SQLite did not answer").because(error)),
            };
        };
        let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(1);
        let message = database.message().to_owned();
        match code & 0xff {
            19 => Self::Rejected(Reject::dead_letter("constraint", message)),
            18 => Self::Rejected(Reject::dead_letter("too-large", message)),
            20 => Self::Rejected(Reject::dead_letter("bad-value", message)),
            11 | 26 => Self::Fault(Fault::corrupt("the SQLite file is damaged").because(error)),
            // A trigger's RAISE is a constraint; a plain error is a statement that does not fit the tables.
            1 => Self::Fault(Fault::fatal("SQLite does not understand a statement").because(error)),
            _ => Self::Fault(Fault::retry("SQLite could not do it now").because(error)),
        }
    }
}
