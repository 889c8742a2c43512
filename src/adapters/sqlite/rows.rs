//! One worker's connection to the rows.

use super::columns::{bind, bind_key, describe, value};
use super::connection::{Connection, SqliteSettings, Trouble};
use super::outbox::{insert, outbox_columns, outbox_row, redirect};
use super::statements::Statements;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::flow::table::{ColumnType, TableSpec};
use crate::ports::Fault;
use crate::ports::rows::{
    Claim, Claimed, CommitAnswer, Move, OutboxRow, Position, RowRead, RowWrite, Rows, VerdictRow, WriteFault, WriteKind,
};
use crate::ports::source::LogIds;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// The columns of a position in the order that [`position`] reads.
macro_rules! position_columns {
    () => {
        "epoch, next_offset, published, incarnation, group_id, cluster_id, topic_id, partition_count"
    };
}
pub(super) use position_columns;

/// Reads a position from [`position_columns`], which begin at `first`.
pub(super) fn position(row: &SqliteRow, first: usize) -> Result<Position, Trouble> {
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

#[derive(Debug)]
struct Bound {
    name: String,
    statements: Statements,
    has_version: bool,
    kinds: Vec<ColumnType>,
    /// Which of the columns are written.
    written: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Open,
    /// After an error nothing but a rollback goes, as in Postgres: SQLite itself would go on.
    Failed,
}

/// One worker's connection. Dropped with an open transaction it rolls back.
#[derive(Debug)]
pub struct SqliteRows {
    connection: Connection,
    pipeline: String,
    group: String,
    bound: Vec<Bound>,
    state: State,
    has_savepoint: bool,
}

impl Drop for SqliteRows {
    fn drop(&mut self) {
        self.rollback();
    }
}

impl SqliteRows {
    /// Opens a connection for one pipeline; `group` is the consumer group that positions belong to.
    ///
    /// # Errors
    /// `Retry` when the file cannot be opened.
    pub fn new(settings: &SqliteSettings, pipeline: &str, group: &str) -> Result<Self, Fault> {
        Ok(Self {
            connection: Connection::open(settings)?,
            pipeline: pipeline.into(),
            group: group.into(),
            bound: Vec::new(),
            state: State::Idle,
            has_savepoint: false,
        })
    }

    /// Runs one step of the open transaction; an error fails the transaction.
    fn step<T, E: From<Trouble>>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, Trouble>) -> Result<T, E> {
        match self.state {
            State::Idle => return Err(Trouble::Fault(out_of_order("no transaction is open")).into()),
            State::Failed => {
                return Err(Trouble::Fault(Fault::retry("the transaction has failed: roll it back")).into());
            }
            State::Open => {}
        }
        act(self).map_err(|trouble| {
            self.state = State::Failed;
            trouble.into()
        })
    }

    fn bound(&self, table: usize) -> Result<&Bound, Fault> {
        self.bound.get(table).ok_or_else(|| out_of_order(&format!("table {table} is not bound")))
    }

    fn claim_one(connection: &mut Connection, pipeline: &str, claim: &Claim) -> Result<Claimed, Trouble> {
        let (topic, partition) = (claim.source.topic.to_string(), claim.source.partition.0);
        let query = sqlx::query(concat!(
            "UPDATE tidegate_position SET epoch = epoch + 1, generation = ?4, owner = ?5, ",
            "updated_at = strftime('%Y-%m-%dT%H:%M:%fZ') ",
            "WHERE pipeline = ?1 AND topic = ?2 AND partition = ?3 AND (generation <= ?4 OR generation = ?6) RETURNING ",
            position_columns!()
        ));
        let query = query.bind(pipeline.to_owned()).bind(topic.clone()).bind(partition);
        let query = query.bind(claim.generation).bind(claim.owner.clone()).bind(claim.adopts);
        if let Some(row) = connection.fetch_optional(query)? {
            return Ok(Claimed::Owned(position(&row, 0)?));
        }
        let query = sqlx::query(
            "SELECT generation FROM tidegate_position WHERE pipeline = ?1 AND topic = ?2 AND partition = ?3",
        );
        let found = connection.fetch_optional(query.bind(pipeline.to_owned()).bind(topic).bind(partition))?;
        found.map_or(Ok(Claimed::Absent), |row| Ok(Claimed::Stale { generation: row.try_get(0)? }))
    }
}

fn out_of_order(why: &str) -> Fault {
    Fault::fatal(format!("call out of order: {why}"))
}

impl Rows for SqliteRows {
    fn bind(&mut self, tables: &[TableSpec]) -> Result<(), Fault> {
        let mut differences = Vec::new();
        let mut bound = Vec::new();
        for spec in tables {
            let found = describe(&mut self.connection, &spec.table.name)?;
            differences.extend(spec.differences(found.as_deref()));
            let kind = |name: &str| found.iter().flatten().find(|column| column.name == name)?.column_type;
            bound.push(Bound {
                name: spec.table.name.clone(),
                statements: Statements::of(spec),
                has_version: spec.table.version_column.is_some(),
                written: spec.columns.iter().map(|column| spec.is_written(&column.name)).collect(),
                kinds: spec.columns.iter().filter_map(|column| kind(&column.name)).collect(),
            });
        }
        if !differences.is_empty() {
            return Err(Fault::fatal(differences.join("; ")));
        }
        self.bound = bound;
        Ok(())
    }

    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, Fault> {
        let pipeline = &self.pipeline;
        let claimed = self.connection.transaction(|connection| {
            claims.iter().map(|claim| Self::claim_one(connection, pipeline, claim)).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(claimed)
    }

    fn create(&mut self, claim: &Claim, next_offset: NextOffset) -> Result<bool, Fault> {
        let query = sqlx::query(concat!(
            "INSERT INTO tidegate_position (pipeline, topic, partition, topic_id, cluster_id, group_id, generation, ",
            "epoch, owner, next_offset, published, partition_count) ",
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9, ?9, ?10) ON CONFLICT DO NOTHING"
        ))
        .bind(self.pipeline.clone())
        .bind(claim.source.topic.to_string())
        .bind(claim.source.partition.0)
        .bind(claim.log_ids.topic_id.clone())
        .bind(claim.log_ids.cluster_id.clone())
        .bind(self.group.clone())
        .bind(claim.generation)
        .bind(claim.owner.clone())
        .bind(next_offset.0)
        .bind(claim.partition_count);
        Ok(self.connection.execute(query)? == 1)
    }

    fn outbox(
        &mut self,
        source: &TopicPartition,
        from: NextOffset,
        to: NextOffset,
        rows_max: usize,
    ) -> Result<Vec<OutboxRow>, Fault> {
        // One row beyond the bound shows whether the last offset is whole.
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
        let mut rows = self.outbox_range(source, from, to, limit)?;
        if rows.len() > rows_max {
            let cut = rows.last().map(|row| row.source_offset);
            let whole = rows.iter().take_while(|row| Some(row.source_offset) != cut).count();
            if whole > 0 {
                rows.truncate(whole);
            } else if let Some(offset) = cut {
                rows = self.outbox_range(source, NextOffset(offset.0), offset.next(), i64::MAX)?;
            }
        }
        Ok(rows)
    }

    fn begin(&mut self) -> Result<(), Fault> {
        if self.state != State::Idle {
            return Err(out_of_order("a transaction is open"));
        }
        self.connection.begin()?;
        self.state = State::Open;
        self.has_savepoint = false;
        Ok(())
    }

    fn advance(&mut self, moves: &[Move]) -> Result<Vec<bool>, Fault> {
        self.step(|rows| {
            let mut answers = Vec::new();
            for moved in moves {
                let query = sqlx::query(concat!(
                    "UPDATE tidegate_position SET next_offset = ?6, published = ?7, records = records + ?8, ",
                    "row_changes = row_changes + ?9, announced = announced + ?10, ",
                    "dead_letters = dead_letters + ?11, skipped = skipped + ?12, ",
                    "updated_at = strftime('%Y-%m-%dT%H:%M:%fZ') ",
                    "WHERE pipeline = ?1 AND topic = ?2 AND partition = ?3 AND epoch = ?4 AND next_offset = ?5"
                ))
                .bind(rows.pipeline.clone())
                .bind(moved.source.topic.to_string())
                .bind(moved.source.partition.0)
                .bind(moved.epoch)
                .bind(moved.from.0)
                .bind(moved.to.0)
                .bind(moved.published.0)
                .bind(moved.counts.records)
                .bind(moved.counts.row_changes)
                .bind(moved.counts.announced)
                .bind(moved.counts.dead_letters)
                .bind(moved.counts.skipped);
                answers.push(rows.connection.execute(query)? == 1);
            }
            Ok(answers)
        })
    }

    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, Fault> {
        self.step(|rows| {
            let mut out = Vec::new();
            for key in keys {
                let query = bind_key(sqlx::query(rows.bound(table)?.statements.read()), key);
                let Some(row) = rows.connection.fetch_optional(query)? else { continue };
                let kinds = &rows.bound(table)?.kinds;
                let values = kinds.iter().enumerate().map(|(index, kind)| value(&row, index + 1, *kind));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                out.push(RowRead { key: key.clone(), version: row.try_get_unchecked(0)?, values });
            }
            Ok(out)
        })
    }

    fn write(&mut self, table: usize, writes: &[RowWrite]) -> Result<(), WriteFault> {
        self.step(|rows| {
            let of = |kind: WriteKind| writes.iter().filter(move |write| write.kind == kind);
            let sorted = of(WriteKind::Delete).chain(of(WriteKind::Update)).chain(of(WriteKind::Insert));
            sorted.into_iter().try_for_each(|write| rows.write_one(table, write))
        })
    }

    fn append(&mut self, outbox: &[OutboxRow]) -> Result<(), WriteFault> {
        self.step(|rows| {
            outbox.iter().try_for_each(|row| rows.connection.execute(insert(&rows.pipeline, row)).map(|_| ()))
        })
    }

    fn redirect(&mut self, outbox: &[OutboxRow]) -> Result<usize, Fault> {
        self.step(|rows| {
            let mut changed = 0;
            for row in outbox {
                changed += rows.connection.execute(redirect(&rows.pipeline, row))?;
            }
            Ok(usize::try_from(changed).unwrap_or(usize::MAX))
        })
    }

    fn record(&mut self, verdicts: &[VerdictRow]) -> Result<(), WriteFault> {
        self.step(|rows| {
            for verdict in verdicts {
                let query = sqlx::query(concat!(
                    "INSERT OR REPLACE INTO tidegate_verdict ",
                    "(pipeline, topic, partition, source_offset, outcome, magnitude, threshold, note) ",
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                ))
                .bind(rows.pipeline.clone())
                .bind(verdict.source.topic.to_string())
                .bind(verdict.source.partition.0)
                .bind(verdict.source_offset.0)
                .bind(verdict.outcome)
                .bind(verdict.magnitude)
                .bind(verdict.threshold)
                .bind(verdict.note.clone());
                rows.connection.execute(query)?;
            }
            Ok(())
        })
    }

    fn savepoint(&mut self) -> Result<(), Fault> {
        self.step(|rows| {
            if std::mem::replace(&mut rows.has_savepoint, true) {
                rows.connection.run("RELEASE tidegate")?;
            }
            rows.connection.run("SAVEPOINT tidegate")
        })
    }

    fn rollback_to_savepoint(&mut self) -> Result<(), Fault> {
        if self.state == State::Idle || !self.has_savepoint {
            return Err(out_of_order("there is no savepoint"));
        }
        self.connection.run("ROLLBACK TO tidegate")?;
        self.state = State::Open;
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitAnswer, Fault> {
        match self.state {
            State::Idle => return Err(out_of_order("no transaction is open")),
            State::Failed => {
                self.rollback();
                return Err(Fault::retry("the transaction had failed: it was rolled back"));
            }
            State::Open => {}
        }
        self.state = State::Idle;
        match self.connection.run("COMMIT") {
            Ok(()) => Ok(CommitAnswer::Done),
            // A COMMIT that fails leaves the transaction open: if the rollback fails too, it may have been committed.
            Err(_) if self.connection.run("ROLLBACK").is_err() => {
                self.connection.rollback();
                Ok(CommitAnswer::Unknown)
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    fn rollback(&mut self) {
        if self.state != State::Idle {
            self.connection.rollback();
            self.state = State::Idle;
        }
    }

    fn settle(&mut self, moved: &Move) -> Result<bool, Fault> {
        self.rollback();
        // A connection of its own: the one whose COMMIT failed is not asked.
        let mut connection = Connection::open(self.connection.settings())?;
        let query = sqlx::query(
            "SELECT epoch, next_offset FROM tidegate_position WHERE pipeline = ?1 AND topic = ?2 AND partition = ?3",
        );
        let query =
            query.bind(self.pipeline.clone()).bind(moved.source.topic.to_string()).bind(moved.source.partition.0);
        let found = connection.transaction(|connection| {
            let row = connection.fetch_optional(query)?;
            row.map(|row| Ok::<_, Trouble>((row.try_get(0)?, NextOffset(row.try_get(1)?)))).transpose()
        })?;
        moved.settled(found)
    }
}

impl SqliteRows {
    fn write_one(&mut self, table: usize, write: &RowWrite) -> Result<(), Trouble> {
        let bound = self.bound(table)?;
        let mut query = sqlx::query(bound.statements.write(write.kind));
        let written = write.values.iter().zip(&bound.written).filter(|(_, is_written)| **is_written);
        for (value, _) in written {
            query = bind(query, value);
        }
        if bound.has_version && write.kind != WriteKind::Delete {
            query = query.bind(write.to_version);
        }
        query = bind_key(query, &write.key);
        if bound.has_version && write.kind != WriteKind::Insert {
            query = query.bind(write.from_version);
        }
        if self.connection.execute(query)? == 1 {
            return Ok(());
        }
        self.check_withheld(table, write)?;
        let (name, key) = (&self.bound(table)?.name, &write.key);
        Err(if write.kind == WriteKind::Insert {
            Fault::retry(format!("table {name}: row {key} was inserted by another program meanwhile"))
        } else {
            Fault::corrupt(format!("table {name}: row {key} is gone or has another version than was read"))
        }
        .into())
    }

    /// # Errors
    /// A row that is there as it was read, or still missing, and is not written is withheld by a trigger.
    fn check_withheld(&mut self, table: usize, write: &RowWrite) -> Result<(), Trouble> {
        let query = bind_key(sqlx::query(self.bound(table)?.statements.read()), &write.key);
        let found = self.connection.fetch_optional(query)?;
        let Bound { name, has_version, .. } = self.bound(table)?;
        let is_as_read = match (write.kind, &found) {
            (WriteKind::Insert, found) => found.is_none(),
            (_, None) => false,
            (_, Some(row)) => !has_version || row.try_get_unchecked::<i64, _>(0)? == write.from_version,
        };
        if !is_as_read {
            return Ok(());
        }
        let message = format!("write {name}: a trigger withholds the row");
        Err(Trouble::Rejected(Reject::dead_letter("withheld", message)))
    }

    fn outbox_range(
        &mut self,
        source: &TopicPartition,
        from: NextOffset,
        to: NextOffset,
        limit: i64,
    ) -> Result<Vec<OutboxRow>, Fault> {
        let query = sqlx::query(concat!(
            "SELECT ",
            outbox_columns!(),
            " FROM tidegate_outbox AS o WHERE pipeline = ?1 AND topic = ?2 AND partition = ?3 ",
            "AND source_offset >= ?4 AND source_offset < ?5 ",
            "AND incarnation = COALESCE((SELECT p.incarnation FROM tidegate_position AS p ",
            "WHERE p.pipeline = ?1 AND p.topic = ?2 AND p.partition = ?3), o.incarnation) ",
            "ORDER BY source_offset, seq, created_at LIMIT ?6"
        ))
        .bind(self.pipeline.clone())
        .bind(source.topic.to_string())
        .bind(source.partition.0)
        .bind(from.0)
        .bind(to.0)
        .bind(limit);
        let rows = self.connection.fetch(query)?;
        Ok(rows.iter().map(outbox_row).collect::<Result<Vec<_>, _>>()?)
    }
}
