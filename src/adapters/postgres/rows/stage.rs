//! The stage of a transaction, and its statements, one after the other.

use crate::adapters::postgres::connection::{Server, Trouble};
use crate::adapters::postgres::statements::Statement;
use crate::ports::fault::Fault;
use crate::ports::rows::WriteFault;
use sqlx::postgres::{PgConnection, Postgres};

/// Where the transaction stands.
///
/// ```text
/// Idle ──begin──▶ Open ──error──▶ Failed
///   ▲              │ ◀─to savepoint──┘ │
///   └── commit, rollback ◀──rollback───┘
/// ```
#[derive(Debug)]
pub(super) enum Stage {
    Idle,
    Open {
        has_savepoint: bool,
    },
    /// A statement failed, or a value was refused before it was sent: only the part before the savepoint can be committed.
    Failed {
        has_savepoint: bool,
    },
}

impl Stage {
    pub(super) const fn fail(&mut self) {
        if let Self::Open { has_savepoint } = *self {
            *self = Self::Failed { has_savepoint };
        }
    }
}

type Query<'q> = sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>;

pub(super) fn query(server: &Server, statement: &Statement) -> Query<'static> {
    sqlx::query(statement.sql()).persistent(server.is_caching)
}

/// Runs one statement of the open transaction; its error ends the transaction.
pub(super) fn step<T>(
    server: &mut Server,
    stage: &mut Stage,
    what: &str,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, Trouble> {
    if !matches!(stage, Stage::Open { .. }) {
        return Err(Trouble::lost(&format!("{what}: no transaction is open, or an earlier statement of it failed")));
    }
    server.run_behind_locks(what, work).inspect_err(|_| stage.fail())
}

/// Runs a statement that must touch exactly `expected` rows.
pub(super) fn write_all(
    server: &mut Server,
    stage: &mut Stage,
    what: &str,
    query: Query<'_>,
    expected: usize,
) -> Result<(), WriteFault> {
    let done = match step(server, stage, what, async |c| query.execute(c).await) {
        // Of a table of ours, whose rows are short: it is no row's fault.
        Err(trouble) if trouble.is_limit_of_nobody() => return Err(Fault::from(trouble).into()),
        done => done?.rows_affected(),
    };
    if usize::try_from(done) == Ok(expected) {
        return Ok(());
    }
    stage.fail();
    let why = format!(
        "{done} rows instead of {expected}: a trigger, row security or a second writer is in between, or a key was given twice"
    );
    Err(Fault::from(Trouble::impossible(what, why)).into())
}
