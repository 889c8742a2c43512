//! The audit's reading of the database.

use super::connection::{Connection, SqliteSettings, Trouble};
use super::outbox::{outbox_columns, outbox_row, topic};
use super::rows::{position, position_columns};
use super::statements::version_sum;
use crate::flow::record::{Partition, Timestamp, TopicPartition};
use crate::flow::table::Table;
use crate::ports::Fault;
use crate::ports::history::RowHistory;
use crate::ports::repair::NotedRepair;
use crate::ports::rows::{Counts, OutboxRow, Position};
use sqlx::Row;

/// Rows read at a time, so that a long outbox is never held whole.
const PAGE_ROWS: i64 = 1000;

/// A read-only view for one pipeline.
#[derive(Debug)]
pub struct SqliteHistory {
    connection: Connection,
    pipeline: String,
}

impl SqliteHistory {
    /// Opens a connection for one pipeline.
    ///
    /// # Errors
    /// `Retry` when the file cannot be opened.
    pub fn new(settings: &SqliteSettings, pipeline: &str) -> Result<Self, Fault> {
        Ok(Self { connection: Connection::open(settings)?, pipeline: pipeline.into() })
    }

    fn baseline(&mut self, table: &Table) -> Result<i64, Trouble> {
        let query = sqlx::query("SELECT version_sum FROM tidegate_baseline WHERE pipeline = ?1 AND table_name = ?2");
        let query = query.bind(self.pipeline.clone()).bind(table.name.clone());
        let row = self.connection.fetch_optional(query)?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    fn page(&mut self, after: &OutboxKey) -> Result<Vec<OutboxRow>, Trouble> {
        let query = sqlx::query(concat!(
            "SELECT ",
            outbox_columns!(),
            " FROM tidegate_outbox WHERE pipeline = ?1 ",
            "AND (topic, partition, source_offset, seq, created_at) > (?2, ?3, ?4, ?5, ?6) ",
            "ORDER BY topic, partition, source_offset, seq, created_at LIMIT ?7"
        ));
        let (topic, partition, offset, seq, created_at) = after.clone();
        let query = query.bind(self.pipeline.clone()).bind(topic).bind(partition).bind(offset).bind(seq);
        let rows = self.connection.fetch(query.bind(created_at).bind(PAGE_ROWS))?;
        rows.iter().map(outbox_row).collect()
    }
}

/// Topic, partition, offset, seq, time of creation.
type OutboxKey = (String, i32, i64, i32, i64);

impl RowHistory for SqliteHistory {
    fn positions(&mut self) -> Result<Vec<(TopicPartition, Position, Counts)>, Fault> {
        let query = sqlx::query(concat!(
            "SELECT topic, partition, records, row_changes, announced, dead_letters, skipped, ",
            position_columns!(),
            " FROM tidegate_position WHERE pipeline = ?1 ORDER BY topic, partition"
        ));
        let rows = self.connection.fetch(query.bind(self.pipeline.clone()))?;
        let read = |row: &sqlx::sqlite::SqliteRow| -> Result<_, Trouble> {
            let source = TopicPartition::new(topic(row, 0)?, Partition(row.try_get(1)?));
            let counts = Counts {
                records: row.try_get(2)?,
                row_changes: row.try_get(3)?,
                announced: row.try_get(4)?,
                dead_letters: row.try_get(5)?,
                skipped: row.try_get(6)?,
                late: 0,
            };
            Ok((source, position(row, 7)?, counts))
        };
        Ok(rows.iter().map(read).collect::<Result<Vec<_>, _>>()?)
    }

    fn version_sum(&mut self, table: &Table) -> Result<Option<i64>, Fault> {
        let Some(column) = &table.version_column else { return Ok(None) };
        let row = self.connection.fetch_optional(sqlx::query(version_sum(&table.name, column)))?;
        let sum: i64 = row.map(|row| row.try_get_unchecked(0)).transpose().map_err(Trouble::from)?.unwrap_or(0);
        Ok(Some(sum - self.baseline(table)?))
    }

    fn each_outbox_row(&mut self, visit: &mut dyn FnMut(OutboxRow)) -> Result<(), Fault> {
        let mut after: OutboxKey = (String::new(), 0, 0, 0, 0);
        loop {
            let page = self.page(&after)?;
            let Some(last) = page.last() else { return Ok(()) };
            let TopicPartition { topic, partition } = &last.source;
            after = (topic.to_string(), partition.0, last.source_offset.0, last.seq, last.created_at.0);
            page.into_iter().for_each(&mut *visit);
        }
    }

    /// None: commands that repair work on real servers only.
    fn repairs(&mut self) -> Result<Vec<(Timestamp, NotedRepair)>, Fault> {
        Ok(Vec::new())
    }
}
