//! Positions as an operator writes them, each with a note of the operator, the command and the time.

use super::connection::{Server, unreadable};
use super::rows::position_of;
use super::statements::Statement;
use crate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::repair::{NotedRepair, Positions};
use crate::ports::rows::Position;
use crate::ports::source::LogIds;
use crate::settings::postgres::PostgresSettings;
use sqlx::Row;
use sqlx::postgres::PgRow;

const READ: &str = "SELECT epoch, next_offset, published, incarnation, group_id, cluster_id, topic_id, partition_count \
     FROM {schema}.position WHERE pipeline = $1 AND topic = $2 AND partition = $3";

const FENCE: &str = "UPDATE {schema}.position SET epoch = epoch + 1, owner = $4, backend_pid = pg_backend_pid(), \
     updated_at = now() WHERE pipeline = $1 AND topic = $2 AND partition = $3 \
     RETURNING epoch, next_offset, published, incarnation, group_id, cluster_id, topic_id, partition_count";

/// The generation goes to 0: the group has no members, so nobody of an earlier generation can hold the position, and a group
/// that was deleted begins its count again.
const MOVE: &str = "UPDATE {schema}.position SET next_offset = $4, published = $5, incarnation = $6, group_id = $7, \
     cluster_id = $8, topic_id = $9, partition_count = $10, owner = $11, generation = 0, updated_at = now() \
     WHERE pipeline = $1 AND topic = $2 AND partition = $3 AND epoch = $12";

const CREATE: &str = "INSERT INTO {schema}.position (pipeline, topic, partition, next_offset, published, incarnation, group_id, \
     cluster_id, topic_id, partition_count, owner, generation, epoch, backend_pid) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, pg_backend_pid()) ON CONFLICT DO NOTHING";

const NOTE: &str = "INSERT INTO {schema}.repair (pipeline, topic, partition, incarnation, command, who, next_offset_before, \
     next_offset, committed_before, committed, excused_from, excused_to) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// The statement whose rows [`repair_of`] reads.
pub(super) const NOTED: &str = "SELECT topic, partition, incarnation, command, who, next_offset_before, next_offset, \
     committed_before, committed, excused_from, excused_to, (extract(epoch FROM done_at) * 1000)::bigint \
     FROM {schema}.repair WHERE pipeline = $1 ORDER BY id";

/// [`Positions`] on Postgres.
#[derive(Debug)]
pub struct PostgresPositions {
    server: Server,
    pipeline: String,
}

impl PostgresPositions {
    /// The positions of `pipeline`. Does not connect.
    ///
    /// # Errors
    /// `Fatal` when the settings cannot be used.
    pub fn new(settings: &PostgresSettings, pipeline: &str) -> Result<Self, Fault> {
        Ok(Self { server: Server::new(settings)?, pipeline: pipeline.into() })
    }

    /// One statement that names a source partition, and perhaps the operator, and answers its position.
    fn one(
        &mut self,
        what: &str,
        statement: &Statement,
        source: &TopicPartition,
        who: Option<&str>,
    ) -> Result<Option<Position>, Fault> {
        let query = sqlx::query(statement.sql()).bind(&self.pipeline).bind(source.topic.as_str());
        let query = query.bind(source.partition.0).persistent(false);
        let query = if let Some(who) = who { query.bind(who) } else { query };
        self.server
            .transaction(what, async |c| query.fetch_optional(c).await?.map(|row| position_of(&row, 0)).transpose())
    }
}

impl Positions for PostgresPositions {
    fn read(&mut self, source: &TopicPartition) -> Result<Option<Position>, Fault> {
        let statement = self.server.statement(READ);
        self.one("read a position", &statement, source, None)
    }

    fn fence(&mut self, source: &TopicPartition, who: &str) -> Result<Option<Position>, Fault> {
        let statement = self.server.statement(FENCE);
        self.one("fence a position", &statement, source, Some(who))
    }

    fn write(&mut self, position: &Position, is_new: bool, repair: &NotedRepair) -> Result<bool, Fault> {
        let (write, note) = (self.server.statement(if is_new { CREATE } else { MOVE }), self.server.statement(NOTE));
        let (topic, partition) = (repair.source.topic.as_str(), repair.source.partition.0);
        let LogIds { cluster_id, topic_id } = &position.log_ids;
        let write = sqlx::query(write.sql())
            .bind(&self.pipeline)
            .bind(topic)
            .bind(partition)
            .bind(position.next_offset.0)
            .bind(position.published.0)
            .bind(position.incarnation)
            .bind(&position.group)
            .bind(cluster_id)
            .bind(topic_id)
            .bind(position.partition_count)
            .bind(&repair.who)
            .bind(position.epoch)
            .persistent(false);
        let note = sqlx::query(note.sql())
            .bind(&self.pipeline)
            .bind(topic)
            .bind(partition)
            .bind(repair.incarnation)
            .bind(&repair.command)
            .bind(&repair.who)
            .bind(repair.next_offset.0.map(|d| d.0))
            .bind(repair.next_offset.1.0)
            .bind(repair.committed.0.map(|k| k.0))
            .bind(repair.committed.1.0)
            .bind(repair.excused.0.0)
            .bind(repair.excused.1.0)
            .persistent(false);
        self.server.transaction("write a position", async |c| {
            if write.execute(&mut *c).await?.rows_affected() != 1 {
                return Ok(false);
            }
            note.execute(c).await.map(|_| true)
        })
    }
}

/// One row of [`NOTED`].
pub(super) fn repair_of(row: &PgRow) -> Result<(Timestamp, NotedRepair), sqlx::Error> {
    let topic = TopicName::parse(row.try_get(0)?).map_err(unreadable)?;
    let offset = |index: usize| row.try_get::<i64, _>(index).map(NextOffset);
    let perhaps = |index: usize| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(index)?.map(NextOffset));
    let repair = NotedRepair {
        source: TopicPartition::new(topic, Partition(row.try_get(1)?)),
        incarnation: row.try_get(2)?,
        command: row.try_get(3)?,
        who: row.try_get(4)?,
        next_offset: (perhaps(5)?, offset(6)?),
        committed: (perhaps(7)?, offset(8)?),
        excused: (offset(9)?, offset(10)?),
    };
    Ok((Timestamp(row.try_get(11)?), repair))
}
