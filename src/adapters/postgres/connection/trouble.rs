//! An exchange that failed, and its consequence.

use crate::adapters::postgres::classify::{self, Consequence};
use crate::adapters::postgres::connection::pooler;
use crate::flow::effect::Reject;
use crate::ports::fault::Fault;
use crate::ports::rows::WriteFault;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use std::error::Error;
use std::fmt::{self, Write};

/// An exchange that failed.
#[derive(Debug)]
pub(in crate::adapters::postgres) struct Trouble {
    pub(super) what: String,
    pub(super) error: sqlx::Error,
    /// The holders of the locks that it waited for.
    pub(super) holders: Option<String>,
}

pub(super) fn elapsed() -> sqlx::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Whether our own time limit ended it, not the system.
pub(super) fn is_elapsed(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut && error.raw_os_error().is_none())
}

pub(super) fn server_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Whether the row is to blame rather than the connection: sqlx could not encode or decode a value.
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
    pub(super) fn new(what: &str, error: sqlx::Error) -> Self {
        Self { what: what.into(), error, holders: None }
    }

    pub(in crate::adapters::postgres) fn lost(what: &str) -> Self {
        Self::new(what, std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    }

    /// A finding of our own: the statement ran, and its answer cannot be true.
    pub(in crate::adapters::postgres) fn impossible(what: &str, why: String) -> Self {
        Self::new(what, sqlx::Error::Decode(why.into()))
    }

    pub(in crate::adapters::postgres) fn sqlstate(&self) -> Option<&str> {
        server_error(&self.error).map(PgDatabaseError::code)
    }

    fn consequence(&self) -> Consequence {
        match self.sqlstate() {
            Some(code) => classify::consequence_at(code, server_error(&self.error).and_then(PgDatabaseError::routine)),
            None if is_driver_side(&self.error) => Consequence::Corrupt,
            None => Consequence::Reconnect,
        }
    }

    /// Whether a program limit was met, and nothing tells if a row is to blame.
    pub(in crate::adapters::postgres) fn is_limit_of_nobody(&self) -> bool {
        server_error(&self.error).is_some_and(|error| {
            let names_table = error.table().or_else(|| error.constraint()).is_some();
            classify::is_limit_of_nobody(error.code(), error.routine(), names_table)
        })
    }

    /// Whether the connection is no longer to be used.
    pub(super) fn is_disconnected(&self) -> bool {
        let is_over = server_error(&self.error)
            .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic));
        is_over || self.consequence() == Consequence::Reconnect
    }

    pub(super) fn leaves_commit_open(&self) -> bool {
        let routine = server_error(&self.error).and_then(PgDatabaseError::routine);
        self.is_disconnected() || self.sqlstate().is_some_and(|code| classify::leaves_commit_open(code, routine))
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
        if let Some(hint) = pooler::hint(error.code()) {
            let _ = write!(out, "; {hint}");
        }
        out
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        if trouble.is_limit_of_nobody() {
            return Self::retry(trouble.names()).because(Said::new(trouble.error));
        }
        match trouble.consequence() {
            Consequence::Retry
                if trouble.sqlstate().is_some_and(|code| classify::is_lock_wait(code, trouble.holders.is_some())) =>
            {
                Self::locked(trouble.names()).because(Said::new(trouble.error))
            }
            Consequence::Retry | Consequence::Reconnect => {
                Self::retry(trouble.names()).because(Said::new(trouble.error))
            }
            Consequence::Corrupt => Self::corrupt(trouble.names()).because(Said::new(trouble.error)),
            // Without the server's message, which quotes values.
            Consequence::Reject(code) => Self::refused(Reject::dead_letter(code, trouble.names())),
        }
    }
}

/// The server's words, with its hint and without the line of its own source.
#[derive(Debug)]
pub(super) struct Said(sqlx::Error);

impl Said {
    pub(super) const fn new(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = server_error(&self.0) else { return self.0.fmt(f) };
        write!(f, "error returned from database: {}", error.message())?;
        error.hint().map_or(Ok(()), |hint| write!(f, " (hint: {})", hint.replace('\n', " ")))
    }
}

impl Error for Said {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
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
