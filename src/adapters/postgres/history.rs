//! The audit's reading of the database. It reads in pages, each a short transaction, so that a long audit holds no vacuum
//! back (docs/traps.md#ddl-queues-everybody).

use super::connection::Server;
use super::outbox::{self, Reader};
use super::repair::{NOTED, repair_of};
use super::rows::position_of;
use super::statements::{self, Limits};
use crate::flow::record::{Partition, Timestamp, TopicName, TopicPartition};
use crate::flow::table::Table;
use crate::ports::fault::Fault;
use crate::ports::history::RowHistory;
use crate::ports::repair::NotedRepair;
use crate::ports::rows::{Counts, OutboxRow, Position};
use crate::settings::postgres::PostgresSettings;
use sqlx::Row;
use sqlx::postgres::PgRow;

/// Rows of one page: at some 200 bytes a row a megabyte.
const PAGE_ROWS: usize = 5_000;

/// Longest statement: the sum over a user's whole table.
const STATEMENT_MS: u32 = 600_000;

/// [`RowHistory`] on Postgres.
#[derive(Debug)]
pub struct PostgresHistory {
    server: Server,
    pipeline: String,
}

/// The place in the outbox after which a page starts.
struct Cursor {
    topic: String,
    partition: i32,
    source_offset: i64,
    seq: i32,
    created_at_micros: i64,
}

impl PostgresHistory {
    /// The history of `pipeline`. Does not connect.
    ///
    /// # Errors
    /// `Fatal` when the settings cannot be used.
    pub fn new(settings: &PostgresSettings, pipeline: &str) -> Result<Self, Fault> {
        let limits = Limits {
            statement: STATEMENT_MS.max(settings.statement_timeout_ms),
            lock: settings.lock_timeout_ms,
            idle: settings.idle_in_transaction_timeout_ms,
        };
        Ok(Self { server: Server::with_limits(settings, limits)?, pipeline: pipeline.into() })
    }

    /// One page after `cursor`, with the place it ends at.
    fn page(&mut self, cursor: Option<Cursor>) -> Result<(Vec<OutboxRow>, Option<Cursor>), Fault> {
        // An instant travels as microseconds, whole: rounded to milliseconds the place would lie before its row.
        let after = if cursor.is_some() {
            "AND (topic, partition, source_offset, seq, created_at) > \
             ($2, $3, $4, $5, timestamptz '2000-01-01T00:00:00Z' + $6 * interval '1 microsecond')"
        } else {
            ""
        };
        let select = self.server.statement(&format!(
            "SELECT {} FROM {{schema}}.outbox WHERE pipeline = $1 {after} \
             ORDER BY topic, partition, source_offset, seq, created_at LIMIT {PAGE_ROWS}",
            outbox::COLUMNS
        ));
        let mut query = sqlx::query(select.sql()).bind(&self.pipeline).persistent(self.server.is_caching);
        if let Some(cursor) = cursor {
            query = query
                .bind(cursor.topic)
                .bind(cursor.partition)
                .bind(cursor.source_offset)
                .bind(cursor.seq)
                .bind(cursor.created_at_micros);
        }
        self.server.transaction("read the outbox", async |c| {
            let rows = query.fetch_all(c).await?;
            let mut reader = Reader::default();
            let page = rows.iter().map(|row| reader.row(row)).collect::<Result<Vec<_>, _>>()?;
            let end = rows.last().filter(|_| rows.len() == PAGE_ROWS).map(Cursor::at).transpose()?;
            Ok((page, end))
        })
    }
}

impl Cursor {
    fn at(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            topic: row.try_get(0)?,
            partition: row.try_get(1)?,
            source_offset: row.try_get(2)?,
            seq: row.try_get(3)?,
            created_at_micros: outbox::created_at_micros(row)?,
        })
    }
}

impl RowHistory for PostgresHistory {
    fn positions(&mut self) -> Result<Vec<(TopicPartition, Position, Counts)>, Fault> {
        let select = self.server.statement(
            "SELECT topic, partition, epoch, next_offset, published, incarnation, group_id, cluster_id, topic_id, \
             partition_count, records, row_changes, announced, dead_letters, skipped FROM {schema}.position \
             WHERE pipeline = $1 ORDER BY topic, partition",
        );
        let pipeline = &self.pipeline;
        self.server.transaction("read the positions", async |c| {
            let rows = sqlx::query(select.sql()).bind(pipeline).persistent(false).fetch_all(c).await?;
            rows.iter()
                .map(|row| {
                    let topic = TopicName::parse(row.try_get(0)?).map_err(super::connection::unreadable)?;
                    let source = TopicPartition::new(topic, Partition(row.try_get(1)?));
                    let counts = Counts {
                        records: row.try_get(10)?,
                        row_changes: row.try_get(11)?,
                        announced: row.try_get(12)?,
                        dead_letters: row.try_get(13)?,
                        skipped: row.try_get(14)?,
                        late: 0,
                    };
                    Ok((source, position_of(row, 2)?, counts))
                })
                .collect()
        })
    }

    fn version_sum(&mut self, table: &Table) -> Result<Option<i64>, Fault> {
        let Some(version) = &table.version_column else { return Ok(None) };
        let sum = statements::version_sum(&table.name, version).map_err(Fault::fatal)?;
        let baseline =
            self.server.statement("SELECT version_sum FROM {schema}.baseline WHERE pipeline = $1 AND table_name = $2");
        let (pipeline, name) = (&self.pipeline, &table.name);
        self.server.transaction("sum the versions", async |c| {
            let baseline = sqlx::query(baseline.sql()).bind(pipeline).bind(name).persistent(false);
            let Some(baseline) = baseline.fetch_optional(&mut *c).await? else { return Ok(None) };
            let baseline: i64 = baseline.try_get(0)?;
            let sum: i64 = sqlx::query(sum.sql()).persistent(false).fetch_one(c).await?.try_get(0)?;
            Ok(Some(sum - baseline))
        })
    }

    fn each_outbox_row(&mut self, visit: &mut dyn FnMut(OutboxRow)) -> Result<(), Fault> {
        let mut cursor = None;
        loop {
            let (rows, end) = self.page(cursor)?;
            rows.into_iter().for_each(&mut *visit);
            if end.is_none() {
                return Ok(());
            }
            cursor = end;
        }
    }

    fn gaps(&mut self) -> Result<Vec<(Timestamp, Timestamp)>, Fault> {
        super::partitions::gaps(&mut self.server)
    }

    fn repairs(&mut self) -> Result<Vec<(Timestamp, NotedRepair)>, Fault> {
        let select = self.server.statement(NOTED);
        let pipeline = &self.pipeline;
        self.server.transaction("read the repairs", async |c| {
            let rows = sqlx::query(select.sql()).bind(pipeline).persistent(false).fetch_all(c).await?;
            rows.iter().map(repair_of).collect()
        })
    }
}
