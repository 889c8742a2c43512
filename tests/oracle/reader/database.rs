//! The content of the database: rows, ledger, verdicts, outbox, positions, and who waits for whom.

use super::PIPELINE;
use crate::laws::{Link, Position, Row, Verdict};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use std::collections::HashMap;
use tidegate::adapters::postgres::{PostgresHistory, PostgresSettings};
use tidegate::flow::record::{Offset, Partition, TopicName, TopicPartition};
use tidegate::ports::history::RowHistory as _;
use tidegate::ports::rows::OutboxRow;

pub(super) struct Database {
    url: String,
    history: PostgresHistory,
}

impl Database {
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let history = PostgresHistory::new(&PostgresSettings::new(url), PIPELINE).map_err(|fault| fault.to_string())?;
        Ok(Self { url: url.into(), history })
    }

    pub(super) fn positions(&mut self) -> Result<HashMap<TopicPartition, Position>, String> {
        let positions = self.history.positions().map_err(|fault| fault.to_string())?;
        let of = |position: tidegate::ports::rows::Position| Position {
            epoch: position.epoch,
            decided: position.next_offset,
            published: position.published,
        };
        Ok(positions.into_iter().map(|(place, position, _): (_, _, _)| (place, of(position))).collect())
    }

    pub(super) fn outbox(&mut self) -> Result<Vec<OutboxRow>, String> {
        let mut out = Vec::new();
        self.history.each_outbox_row(&mut |row| out.push(row)).map_err(|fault| fault.to_string())?;
        Ok(out)
    }

    pub(super) fn rows(&self) -> Result<Vec<Row>, String> {
        let rows = self.ask("SELECT id, version, nonce, chain FROM things")?;
        let row =
            |row: &PgRow| Ok(Row { id: get(row, 0)?, version: get(row, 1)?, nonce: get(row, 2)?, chain: get(row, 3)? });
        rows.iter().map(row).collect()
    }

    pub(super) fn links(&self) -> Result<Vec<Link>, String> {
        let rows = self.ask("SELECT topic, partition, source_offset, id, number, nonce, chain FROM ledger")?;
        let link = |row: &PgRow| {
            let (place, offset) = place_of(row)?;
            let (id, number, nonce, chain) = (get(row, 3)?, get(row, 4)?, get(row, 5)?, get(row, 6)?);
            Ok(Link { id, number, place, offset, nonce, chain })
        };
        rows.iter().map(link).collect()
    }

    pub(super) fn verdicts(&self) -> Result<Vec<Verdict>, String> {
        let rows = self.ask(&format!(
            "SELECT topic, partition, source_offset, outcome, magnitude, threshold, \
             (extract(epoch FROM decided_at) * 1000)::bigint FROM tidegate.verdict WHERE pipeline = '{PIPELINE}'"
        ))?;
        let verdict = |row: &PgRow| {
            let ((place, offset), outcome) = (place_of(row)?, get::<String>(row, 3)?);
            Ok(Verdict {
                place,
                offset,
                is_change: outcome == "updated",
                magnitude: get(row, 4)?,
                threshold: get(row, 5)?,
                decided_at_ms: get(row, 6)?,
            })
        };
        rows.iter().map(verdict).collect()
    }

    /// The longest that a session has been idle in a transaction, and the longest that one waits for a lock, in ms.
    pub(super) fn waits(&self) -> Result<(i64, i64), String> {
        let rows = self.ask(
            "SELECT (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)) * 1000, 0)::bigint
                     FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'),
                    (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)) * 1000, 0)::bigint
                     FROM pg_locks WHERE NOT granted)",
        )?;
        let row = rows.first().ok_or("no answer about sessions")?;
        Ok((get(row, 0)?, get(row, 1)?))
    }

    fn ask(&self, text: &str) -> Result<Vec<PgRow>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let connected = PgConnection::connect(&self.url).await;
            let mut connection = connected.map_err(|error| error.to_string())?;
            let answer = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).fetch_all(&mut connection).await;
            answer.map_err(|error| format!("{text}: {error}"))
        })
    }
}

fn place_of(row: &PgRow) -> Result<(TopicPartition, Offset), String> {
    let topic = TopicName::parse(&get::<String>(row, 0)?)?;
    Ok((TopicPartition::new(topic, Partition(get(row, 1)?)), Offset(get(row, 2)?)))
}

fn get<'r, T>(row: &'r PgRow, index: usize) -> Result<T, String>
where
    T: sqlx::Decode<'r, sqlx::Postgres>,
{
    row.try_get_unchecked(index).map_err(|error| error.to_string())
}
