//! Positions from the columns of an answer.

use crate::flow::record::NextOffset;
use crate::ports::fault::Fault;
use crate::ports::rows::Position;
use crate::ports::source::LogIds;
use sqlx::Row;
use sqlx::postgres::PgRow;

pub(super) fn source_of(row: &PgRow) -> Result<(String, i32), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub(super) fn integer(row: &PgRow, index: usize) -> Result<i64, Fault> {
    row.try_get(index).map_err(|error| Fault::corrupt("read a position").because(error))
}

/// A position from its columns, which start at `first`: epoch, `next_offset`, published, incarnation, `group_id`,
/// `cluster_id`, `topic_id`, `partition_count`.
pub(in crate::adapters::postgres) fn position_of(row: &PgRow, first: usize) -> Result<Position, sqlx::Error> {
    Ok(Position {
        epoch: row.try_get(first)?,
        next_offset: NextOffset(row.try_get(first + 1)?),
        published: NextOffset(row.try_get(first + 2)?),
        incarnation: row.try_get(first + 3)?,
        group: row.try_get(first + 4)?,
        log_ids: LogIds { cluster_id: row.try_get(first + 5)?, topic_id: row.try_get(first + 6)? },
        partition_count: row.try_get(first + 7)?,
    })
}
