//! Facts of the server behind a new connection, and whether it will do.

use crate::ports::fault::Fault;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// The oldest server whose features are used (`pg_current_xact_id` and partitioning as it is now), and still supported when
/// this was written: 13.
const SERVER_VERSION_MIN: i32 = 130_000;

/// The facts that a new connection reads from its server.
pub(super) struct Facts {
    pub(super) pid: i32,
    /// The process, told from one of the same number in another server.
    pub(super) backend: String,
    version: i32,
    is_standby: bool,
    is_read_only: bool,
    fsync: String,
    full_page_writes: String,
    pub(super) synchronous_commit: String,
}

impl Facts {
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row: PgRow = sqlx::query(
            "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
             current_setting('transaction_read_only') = 'on', current_setting('fsync'), \
             current_setting('full_page_writes'), current_setting('synchronous_commit'), pg_backend_pid(), \
             pg_backend_pid() || ' since ' || pg_postmaster_start_time()",
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
            backend: row.try_get(7)?,
        })
    }

    /// Refuses a server on which an acknowledged commit can be lost or nothing can be committed
    /// (docs/traps.md#servers-that-lose-commits).
    pub(super) fn check(&self) -> Result<(), Fault> {
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
            return Err(Fault::retry("not this server: it is a read-only standby; the url must lead to the primary"));
        }
        if self.is_read_only {
            return Err(Fault::retry(
                "not this server: it is a read-only standby or set so (default_transaction_read_only = on); the url must lead to the primary",
            ));
        }
        Ok(())
    }
}
