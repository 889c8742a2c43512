//! The rows of roll-ups, for graphs.

use super::connection::Server;
use super::statements::{Limits, Name};
use crate::ports::buckets::{BucketRow, Buckets};
use crate::ports::fault::Fault;
use crate::settings::postgres::PostgresSettings;
use sqlx::Row as _;

/// Longest statement: whoever looks at a graph has gone by then.
const STATEMENT_MS: u32 = 5_000;

/// [`Buckets`] on Postgres.
#[derive(Debug)]
pub struct PostgresBuckets {
    server: Server,
}

impl PostgresBuckets {
    /// Does not connect.
    ///
    /// # Errors
    /// `Fatal` when the settings cannot be used.
    pub fn new(settings: &PostgresSettings) -> Result<Self, Fault> {
        let limits = Limits {
            statement: STATEMENT_MS,
            lock: settings.lock_timeout_ms,
            idle: settings.idle_in_transaction_timeout_ms,
        };
        Ok(Self { server: Server::with_limits(settings, limits)? })
    }
}

impl Buckets for PostgresBuckets {
    fn rows(
        &mut self,
        table: &str,
        (device, metric): (&str, &str),
        (from_ms, to_ms): (i64, i64),
    ) -> Result<Vec<BucketRow>, Fault> {
        let table = Name::parse(table).map_err(Fault::fatal)?;
        let select = self.server.statement(&format!(
            "SELECT start_ms, version, buckets FROM {table} \
             WHERE device = $1 AND metric = $2 AND start_ms >= $3 AND start_ms < $4 ORDER BY start_ms"
        ));
        let query = sqlx::query(select.sql()).bind(device).bind(metric).bind(from_ms).bind(to_ms);
        let query = query.persistent(self.server.is_caching);
        self.server.transaction("read a roll-up", async |c| {
            let rows = query.fetch_all(c).await?;
            let read = |row: &sqlx::postgres::PgRow| {
                Ok(BucketRow { start_ms: row.try_get(0)?, version: row.try_get(1)?, buckets: row.try_get(2)? })
            };
            rows.iter().map(read).collect()
        })
    }
}
