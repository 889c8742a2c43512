//! The row port: one batch is one transaction on one connection.
//!
//! The position row is moved first, by compare-and-set, so a zombie's batch fails before it locks a row. Nothing that
//! follows a failed statement can be committed: the transaction is marked failed here as it is on the server, and COMMIT
//! is refused by both (a bare COMMIT of a failed transaction answers ROLLBACK without an error:
//! docs/traps.md#a-commit-that-rolls-back).

use super::arrays::{Array, Elements};
use super::catalog::{self, BoundTable};
use super::connection::{Server, Trouble, raw, unreadable};
use super::outbox::{self, Cut, Reader};
use super::settings::PostgresSettings;
use super::statements::Statement;
use super::values;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::flow::table::TableSpec;
use crate::ports::fault::Fault;
use crate::ports::guard::{self, Guard, guarded};
use crate::ports::rows::{
    Claim, Claimed, CommitAnswer, Move, OutboxRow, Position, RowRead, RowWrite, Rows, VerdictRow, WriteFault,
};
use crate::ports::source::LogIds;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use std::collections::HashMap;
use std::time::Duration;

const LOCK_POSITIONS: &str = "SELECT topic, partition, generation FROM {schema}.position WHERE pipeline = $1 AND \
     (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::integer[])) ORDER BY topic, partition FOR UPDATE";

const CLAIM: &str = "UPDATE {schema}.position AS p SET epoch = p.epoch + 1, generation = a.generation, owner = a.owner, \
     backend_pid = pg_backend_pid(), updated_at = now() \
     FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::integer[]) \
     AS a(topic, partition, generation, owner, adopts) \
     WHERE p.pipeline = $1 AND p.topic = a.topic AND p.partition = a.partition \
     AND (p.generation <= a.generation OR p.generation = a.adopts) \
     RETURNING p.topic, p.partition, p.epoch, p.next_offset, p.published, p.incarnation, p.group_id, p.cluster_id, \
     p.topic_id, p.partition_count";

const CREATE: &str = "INSERT INTO {schema}.position (pipeline, topic, partition, cluster_id, topic_id, group_id, generation, \
     epoch, owner, backend_pid, next_offset, published, partition_count) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, pg_backend_pid(), $9, $9, $10) ON CONFLICT DO NOTHING";

/// The position of a move in the request travels with it, so that the answer names those that matched.
const ADVANCE: &str = "UPDATE {schema}.position AS p SET next_offset = m.next_offset, \
     published = greatest(p.published, m.published), records = p.records + m.records, \
     row_changes = p.row_changes + m.row_changes, announced = p.announced + m.announced, \
     dead_letters = p.dead_letters + m.dead_letters, skipped = p.skipped + m.skipped, updated_at = now() \
     FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], \
     $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::integer[]) AS m(topic, partition, epoch, from_offset, \
     next_offset, published, records, row_changes, announced, dead_letters, skipped, place) \
     WHERE p.pipeline = $1 AND p.topic = m.topic AND p.partition = m.partition AND p.epoch = m.epoch \
     AND p.next_offset = m.from_offset RETURNING m.place";

const SETTLE: &str = "SELECT epoch, next_offset FROM {schema}.position WHERE pipeline = $1 AND topic = $2 AND partition = $3 \
     FOR UPDATE";

const RECORD: &str = "INSERT INTO {schema}.verdict (pipeline, topic, partition, source_offset, outcome, magnitude, threshold, \
     note) SELECT $1, u.* FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::text[], $6::double precision[], \
     $7::double precision[], $8::text[]) AS u";

/// Rows of an earlier incarnation have offsets of a log that is gone; they are kept for the audit and never announced again.
const OUTBOX: &str = "SELECT topic, partition, source_offset, seq, incarnation, created_at, destination, key, headers, value, \
     event_time_ms FROM {schema}.outbox AS o WHERE pipeline = $1 AND topic = $2 AND partition = $3 AND source_offset >= $4 \
     AND source_offset < $5 AND incarnation = coalesce((SELECT p.incarnation FROM {schema}.position AS p \
     WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = $3), o.incarnation) \
     ORDER BY source_offset, seq LIMIT $6";

/// [`Rows`] on Postgres.
#[derive(Debug)]
pub struct PostgresRows {
    server: Server,
    pipeline: String,
    group: String,
    texts: Texts,
    tables: Vec<BoundTable>,
    stage: Stage,
}

/// The statements on our own tables.
#[derive(Debug)]
struct Texts {
    lock_positions: Statement,
    claim: Statement,
    create: Statement,
    advance: Statement,
    settle: Statement,
    record: Statement,
    outbox: Statement,
    append: Statement,
    redirect: Statement,
}

/// Where the transaction stands.
///
/// ```text
/// Idle ──begin──▶ Open ──error──▶ Failed
///   ▲              │ ◀─to savepoint──┘ │
///   └── commit, rollback ◀──rollback───┘
/// ```
#[derive(Debug)]
enum Stage {
    Idle,
    Open {
        has_savepoint: bool,
    },
    /// A statement failed, or a value was refused before it was sent: only what the savepoint kept can be committed.
    Failed {
        has_savepoint: bool,
    },
}

impl Stage {
    const fn fail(&mut self) {
        if let Self::Open { has_savepoint } = *self {
            *self = Self::Failed { has_savepoint };
        }
    }
}

type Query<'q> = sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>;

impl PostgresRows {
    /// Rows of `pipeline`, whose consumer group is `group`. Does not connect: the first call that needs to does.
    ///
    /// # Errors
    /// `Fatal` when the settings cannot be used.
    pub fn new(settings: &PostgresSettings, pipeline: &str, group: &str) -> Result<Self, Fault> {
        let server = Server::new(settings)?;
        let texts = Texts {
            lock_positions: server.statement(LOCK_POSITIONS),
            claim: server.statement(&guarded(
                CLAIM,
                Guard::Generation,
                " AND (p.generation <= a.generation OR p.generation = a.adopts)",
            )),
            create: server.statement(CREATE),
            advance: server.statement(&guarded(
                guarded(ADVANCE, Guard::Epoch, " AND p.epoch = m.epoch"),
                Guard::Offset,
                " AND p.next_offset = m.from_offset",
            )),
            settle: server.statement(&guarded(SETTLE, Guard::SettleLock, " FOR UPDATE")),
            record: server.statement(RECORD),
            outbox: server.statement(OUTBOX),
            append: server.statement(outbox::INSERT),
            redirect: server.statement(outbox::REDIRECT),
        };
        Ok(Self {
            server,
            pipeline: pipeline.into(),
            group: group.into(),
            texts,
            tables: Vec::new(),
            stage: Stage::Idle,
        })
    }
}

fn query(server: &Server, statement: &Statement) -> Query<'static> {
    sqlx::query(statement.sql()).persistent(server.is_caching)
}

/// Runs one statement of the open transaction; its error ends the transaction.
fn step<T>(
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
fn write_all(
    server: &mut Server,
    stage: &mut Stage,
    what: &str,
    query: Query<'_>,
    expected: usize,
) -> Result<(), WriteFault> {
    let done = step(server, stage, what, async |c| query.execute(c).await)?.rows_affected();
    if usize::try_from(done) == Ok(expected) {
        return Ok(());
    }
    stage.fail();
    let why = format!(
        "{done} rows instead of {expected}: a trigger, row security or a second writer is in between, or a key was given twice"
    );
    Err(Fault::from(Trouble::impossible(what, why)).into())
}

impl Rows for PostgresRows {
    fn bind(&mut self, tables: &[TableSpec]) -> Result<(), Fault> {
        self.rollback();
        self.tables = catalog::bind(&mut self.server, tables)?;
        if self.server.is_caching {
            let texts = self.tables.iter().flat_map(|table| [&table.statements.read, &table.statements.write]);
            for statement in texts.chain([&self.texts.advance, &self.texts.append]) {
                let sql = statement.sql();
                self.server.transaction("prepare", async |c| sqlx::Executor::prepare(c, sql).await.map(drop)).map_err(
                    |fault| match fault {
                        Fault::Corrupt(_) => {
                            Fault::fatal("a statement cannot be prepared; check the grants, and run `tidegate migrate`")
                                .because(fault)
                        }
                        other => other,
                    },
                )?;
            }
        }
        Ok(())
    }

    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, Fault> {
        self.rollback();
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let names = || {
            (
                Array::of_text(claims.iter().map(|claim| Some(claim.source.topic.as_str()))),
                Array::of_i32(claims.iter().map(|claim| claim.source.partition.0)),
            )
        };
        let ((topics, partitions), (topics_again, partitions_again)) = (names(), names());
        let lock = query(&self.server, &self.texts.lock_positions).bind(&self.pipeline).bind(topics).bind(partitions);
        let claim = query(&self.server, &self.texts.claim)
            .bind(&self.pipeline)
            .bind(topics_again)
            .bind(partitions_again)
            .bind(Array::of_i32(claims.iter().map(|claim| claim.generation)))
            .bind(Array::of_text(claims.iter().map(|claim| Some(claim.owner.as_str()))))
            .bind(Array::of_i32(claims.iter().map(|claim| claim.adopts.unwrap_or(-1)))); // no generation is that
        // Locked in one order first, so that two claimants cannot deadlock; then those that are not newer are raised.
        let (held, owned) = self.server.transaction("claim positions", async |c| {
            // Whoever holds one may do so for long, and the worker has other partitions. Without the guard a claim that
            // waits is what does the harm.
            if !guard::is_off(Guard::ClaimFirst) {
                sqlx::raw_sql("SET LOCAL lock_timeout = 100").execute(&mut *c).await?;
            }
            let held = lock.fetch_all(&mut *c).await?;
            let owned = if held.is_empty() { Vec::new() } else { claim.fetch_all(c).await? };
            let held: Result<HashMap<_, i32>, sqlx::Error> =
                held.iter().map(|row| Ok((source_of(row)?, row.try_get(2)?))).collect();
            let owned: Result<HashMap<_, _>, sqlx::Error> =
                owned.iter().map(|row| Ok((source_of(row)?, position_of(row, 2)?))).collect();
            Ok((held?, owned?))
        })?;
        let answer = |claim: &Claim| {
            let source = (claim.source.topic.as_str().to_owned(), claim.source.partition.0);
            match (owned.get(&source), held.get(&source)) {
                (Some(position), _) => Claimed::Owned(position.clone()),
                (None, Some(generation)) => Claimed::Stale { generation: *generation },
                (None, None) => Claimed::Absent,
            }
        };
        Ok(claims.iter().map(answer).collect())
    }

    fn create(&mut self, claim: &Claim, next_offset: NextOffset) -> Result<bool, Fault> {
        self.rollback();
        let LogIds { cluster_id, topic_id } = &claim.log_ids;
        let insert = query(&self.server, &self.texts.create)
            .bind(&self.pipeline)
            .bind(claim.source.topic.as_str())
            .bind(claim.source.partition.0)
            .bind(cluster_id)
            .bind(topic_id)
            .bind(&self.group)
            .bind(claim.generation)
            .bind(&claim.owner)
            .bind(next_offset.0)
            .bind(claim.partition_count);
        self.server
            .transaction("create a position", async |c| {
                sqlx::raw_sql("SET LOCAL lock_timeout = 100").execute(&mut *c).await?;
                insert.execute(c).await
            })
            .map(|result| result.rows_affected() == 1)
    }

    fn outbox(
        &mut self,
        source: &TopicPartition,
        from: NextOffset,
        to: NextOffset,
        rows_max: usize,
    ) -> Result<Vec<OutboxRow>, Fault> {
        self.rollback();
        let rows_max = rows_max.max(1);
        let mut rows = self.outbox_range(source, (from, to), Some(rows_max + 1))?;
        match outbox::cut(&rows, rows_max) {
            Cut::Whole => {}
            Cut::Keep(count) => rows.truncate(count),
            Cut::Offset(offset) => rows = self.outbox_range(source, outbox::range_of(offset), None)?,
        }
        Ok(rows)
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.rollback();
        self.server.begin()?;
        self.stage = Stage::Open { has_savepoint: false };
        Ok(())
    }

    fn advance(&mut self, moves: &[Move]) -> Result<Vec<bool>, Fault> {
        let longs = |get: fn(&Move) -> i64| Array::of_i64(moves.iter().map(get));
        let update = query(&self.server, &self.texts.advance)
            .bind(&self.pipeline)
            .bind(Array::of_text(moves.iter().map(|m| Some(m.source.topic.as_str()))))
            .bind(Array::of_i32(moves.iter().map(|m| m.source.partition.0)))
            .bind(longs(|m| m.epoch))
            .bind(longs(|m| m.from.0))
            .bind(longs(|m| m.to.0))
            .bind(longs(|m| m.published.0))
            .bind(longs(|m| m.counts.records))
            .bind(longs(|m| m.counts.row_changes))
            .bind(longs(|m| m.counts.announced))
            .bind(longs(|m| m.counts.dead_letters))
            .bind(longs(|m| m.counts.skipped))
            .bind(Array::of_i32((0..moves.len()).map(|place| i32::try_from(place).unwrap_or(i32::MAX))));
        let matched = step(&mut self.server, &mut self.stage, "move positions", async |c| {
            let rows = update.fetch_all(c).await?;
            rows.iter().map(|row| row.try_get::<i32, _>(0)).collect::<Result<Vec<_>, _>>()
        });
        let mut out = vec![false; moves.len()];
        match matched {
            Ok(places) => {
                for place in places {
                    if let Some(is_matched) = usize::try_from(place).ok().and_then(|place| out.get_mut(place)) {
                        *is_matched = true;
                    }
                }
                if out.contains(&false) {
                    self.stage.fail(); // a commit of the rest would tear the batch
                }
                Ok(out)
            }
            // Serialization failure on the position row: somebody else moved it
            // (docs/traps.md#a-lost-race-that-looks-like-an-error).
            Err(trouble) if trouble.sqlstate() == Some("40001") => Ok(out),
            Err(trouble) => Err(trouble.into()),
        }
    }

    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, Fault> {
        let table = bound(&self.tables, table)?;
        let array = values::keys(table.key, keys.iter())
            .map_err(|why| Fault::corrupt(format!("read {}: {why}", table.name)))?;
        let select = query(&self.server, &table.statements.read).bind(array);
        let what = format!("read {}", table.name);
        step(&mut self.server, &mut self.stage, &what, async |c| {
            let row = select.fetch_one(c).await?;
            rows_of(table, &row)
        })
        .map_err(Into::into)
    }

    fn locked(&mut self, table: usize, keys: &[Key]) -> Result<Vec<Key>, Fault> {
        self.rollback();
        let table = bound(&self.tables, table)?;
        let what = format!("look for locked rows of {}", table.name);
        let array = values::keys(table.key, keys.iter()).map_err(|why| Fault::corrupt(format!("{what}: {why}")))?;
        let select = query(&self.server, &table.statements.locked).bind(array);
        let found = self.server.transaction(&what, async |c| {
            sqlx::raw_sql("SET LOCAL lock_timeout = 100").execute(&mut *c).await?;
            let rows = select.fetch_all(c).await?;
            let key = |row: &PgRow| match raw(row, 0)? {
                Some(key) => values::decode_key(table.key, key).map_err(unreadable),
                None => Err(unreadable("the key is null")),
            };
            rows.iter().map(key).collect::<Result<Vec<_>, _>>()
        });
        match found {
            // The table as a whole is locked.
            Err(fault) if fault.is_lock_wait() => Ok(keys.to_vec()),
            found => found,
        }
    }

    fn keeps(&self, table: usize) -> bool {
        self.tables.get(table).is_some_and(|table| table.keeps)
    }

    fn idle_max(&self) -> Option<Duration> {
        Some(self.server.idle_max())
    }

    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), WriteFault> {
        if rows.is_empty() {
            return Ok(());
        }
        let done = match self.update(table, rows) {
            Err(WriteFault::Rejected(reject)) if rows.len() == 1 && reject.code() == "trigger" => {
                return Err(self.blame(table, reject)?);
            }
            done => done?,
        };
        if usize::try_from(done) == Ok(rows.len()) {
            return Ok(());
        }
        let found = self.withheld(table, rows, done);
        self.stage.fail();
        Err(found?)
    }

    fn append(&mut self, rows: &[OutboxRow]) -> Result<(), WriteFault> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut insert = query(&self.server, &self.texts.append).bind(&self.pipeline);
        for array in outbox::arrays_of(rows) {
            insert = insert.bind(array);
        }
        write_all(&mut self.server, &mut self.stage, "append to the outbox", insert, rows.len())
    }

    fn redirect(&mut self, rows: &[OutboxRow]) -> Result<usize, Fault> {
        let mut update = query(&self.server, &self.texts.redirect).bind(&self.pipeline);
        for array in outbox::arrays_of(rows) {
            update = update.bind(array);
        }
        let what = "redirect rows of the outbox";
        let done = step(&mut self.server, &mut self.stage, what, async |c| update.execute(c).await)?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    fn record(&mut self, verdicts: &[VerdictRow]) -> Result<(), WriteFault> {
        if verdicts.is_empty() {
            return Ok(());
        }
        if verdicts.iter().any(|verdict| verdict.note.as_deref().is_some_and(values::has_nul)) {
            self.stage.fail();
            return Err(WriteFault::Rejected(Reject::dead_letter("bad-value", "verdict: a note with a NUL character")));
        }
        let insert = query(&self.server, &self.texts.record)
            .bind(&self.pipeline)
            .bind(Array::of_text(verdicts.iter().map(|v| Some(v.source.topic.as_str()))))
            .bind(Array::of_i32(verdicts.iter().map(|v| v.source.partition.0)))
            .bind(Array::of_i64(verdicts.iter().map(|v| v.source_offset.0)))
            .bind(Array::of_text(verdicts.iter().map(|v| Some(v.outcome))))
            .bind(Array::of_f64(verdicts.iter().map(|v| v.magnitude)))
            .bind(Array::of_f64(verdicts.iter().map(|v| v.threshold)))
            .bind(Array::of_text(verdicts.iter().map(|v| v.note.as_deref())));
        write_all(&mut self.server, &mut self.stage, "record verdicts", insert, verdicts.len())
    }

    fn savepoint(&mut self) -> Result<(), Fault> {
        let text = match self.stage {
            Stage::Open { has_savepoint: true } => "RELEASE SAVEPOINT tidegate; SAVEPOINT tidegate",
            _ => "SAVEPOINT tidegate",
        };
        step(&mut self.server, &mut self.stage, "set a savepoint", async |c| sqlx::raw_sql(text).execute(c).await)?;
        self.stage = Stage::Open { has_savepoint: true };
        Ok(())
    }

    fn rollback_to_savepoint(&mut self) -> Result<(), Fault> {
        match self.stage {
            Stage::Open { has_savepoint: true } | Stage::Failed { has_savepoint: true } => {}
            _ => return Err(Trouble::lost("roll back to the savepoint: there is none").into()),
        }
        let text = "ROLLBACK TO SAVEPOINT tidegate";
        self.server.run("roll back to the savepoint", async |c| sqlx::raw_sql(text).execute(c).await)?;
        self.stage = Stage::Open { has_savepoint: true };
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitAnswer, Fault> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Open { .. } => self.server.commit(),
            Stage::Failed { .. } => {
                self.server.rollback();
                Err(Fault::retry("commit: an earlier statement of the transaction failed, so nothing was committed"))
            }
            Stage::Idle => Err(Fault::retry("commit: no transaction is open, so nothing was committed")),
        }
    }

    fn rollback(&mut self) {
        if !matches!(std::mem::replace(&mut self.stage, Stage::Idle), Stage::Idle) {
            self.server.rollback();
        }
    }

    fn settle(&mut self, moved: &Move) -> Result<bool, Fault> {
        self.stage = Stage::Idle;
        // The old connection may still be carrying the COMMIT out; the new one waits for its row lock.
        self.server.disconnect();
        let select = query(&self.server, &self.texts.settle)
            .bind(&self.pipeline)
            .bind(moved.source.topic.as_str())
            .bind(moved.source.partition.0);
        let row = self.server.transaction("settle a commit", async |c| select.fetch_optional(c).await)?;
        moved.settled(match &row {
            None => None,
            Some(row) => Some((integer(row, 0)?, NextOffset(integer(row, 1)?))),
        })
    }
}

impl PostgresRows {
    /// Writes rows of a user's table; answers how many were changed.
    fn update(&mut self, table: usize, rows: &[RowWrite]) -> Result<u64, WriteFault> {
        let table = bound(&self.tables, table)?;
        let what = format!("write {}", table.name);
        let keys = values::keys(table.key, rows.iter().map(|row| &row.key))
            .map_err(|why| Fault::corrupt(format!("{what}: {why}")))?;
        let mut update = query(&self.server, &table.statements.write).bind(keys);
        if table.is_versioned {
            update = update
                .bind(Array::of_i64(rows.iter().map(|row| row.from_version)))
                .bind(Array::of_i64(rows.iter().map(|row| row.to_version)));
        }
        for (index, column) in table.columns.iter().enumerate().filter(|(_, column)| column.is_written) {
            let values = rows.iter().map(|row| row.values.get(index));
            match values::column(column.kind, &column.name, rows.len(), values) {
                Ok(array) => update = update.bind(array),
                Err(reject) => {
                    self.stage.fail();
                    return Err(WriteFault::Rejected(reject));
                }
            }
        }
        let done = step(&mut self.server, &mut self.stage, &what, async |c| update.execute(c).await)?;
        Ok(done.rows_affected())
    }

    /// A rule of the schema refused one row: the row is to blame, unless it refuses a write of no row as well. Behind the
    /// savepoint; the transaction counts as failed afterwards, as after any refusal.
    fn blame(&mut self, table: usize, reject: Reject) -> Result<WriteFault, Fault> {
        if !matches!(self.stage, Stage::Failed { has_savepoint: true }) {
            return Ok(WriteFault::Rejected(reject));
        }
        self.rollback_to_savepoint()?;
        let of_none = self.update(table, &[]);
        self.stage.fail();
        Ok(match of_none {
            Ok(_) => WriteFault::Rejected(reject),
            Err(WriteFault::Rejected(reject)) => {
                WriteFault::Fault(Fault::corrupt(format!("{}, whatever is written", reject.message())))
            }
            Err(WriteFault::Fault(fault)) => WriteFault::Fault(fault),
        })
    }

    /// Fewer rows were changed than were written, without an error. Of one row that is there as it was read, a trigger or a
    /// policy has withheld it.
    fn withheld(&mut self, table: usize, rows: &[RowWrite], done: u64) -> Result<WriteFault, Fault> {
        let what = format!("write {}: {done} rows instead of {}", bound(&self.tables, table)?.name, rows.len());
        let is_less = usize::try_from(done).is_ok_and(|done| done < rows.len());
        let is_as_read = match rows {
            [row] => {
                let found = self.read(table, std::slice::from_ref(&row.key))?;
                let is_versioned = bound(&self.tables, table)?.is_versioned;
                found.first().is_some_and(|found| !is_versioned || found.version == row.from_version)
            }
            _ => true, // one by one it is seen
        };
        Ok(if is_less && is_as_read {
            WriteFault::Rejected(Reject::dead_letter("withheld", format!("{what}: a trigger or a policy withholds it")))
        } else {
            WriteFault::Fault(Fault::corrupt(format!(
                "{what}: a second writer is in between, or a key was given twice"
            )))
        })
    }

    fn outbox_range(
        &mut self,
        source: &TopicPartition,
        (from, to): (NextOffset, NextOffset),
        limit: Option<usize>,
    ) -> Result<Vec<OutboxRow>, Fault> {
        let select = query(&self.server, &self.texts.outbox)
            .bind(&self.pipeline)
            .bind(source.topic.as_str())
            .bind(source.partition.0)
            .bind(from.0)
            .bind(to.0)
            .bind(limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)));
        self.server.transaction("read the outbox", async |c| {
            let mut reader = Reader::default();
            let rows = select.fetch_all(c).await?;
            rows.iter().map(|row| reader.row(row)).collect()
        })
    }
}

fn bound(tables: &[BoundTable], table: usize) -> Result<&BoundTable, Fault> {
    tables.get(table).ok_or_else(|| Fault::fatal(format!("table {table} was not bound")))
}

/// Takes the arrays of the read statement apart; they are null when no row was found.
fn rows_of(table: &BoundTable, row: &PgRow) -> Result<Vec<RowRead>, sqlx::Error> {
    let Some(keys) = raw(row, 0)? else { return Ok(Vec::new()) };
    let elements =
        |index| Elements::of(raw(row, index)?.unwrap_or_default()).ok_or_else(|| unreadable("a damaged array"));
    let keys = Elements::of(keys).ok_or_else(|| unreadable("a damaged array"))?;
    let mut versions = elements(1)?;
    let mut columns = (2..2 + table.columns.len()).map(elements).collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::with_capacity(keys.len());
    for key in keys {
        let key = key.ok_or_else(|| unreadable("the key is null"))?;
        let version = versions.next().flatten().and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
        let mut values = Vec::with_capacity(columns.len());
        for (column, elements) in table.columns.iter().zip(&mut columns) {
            let element = elements.next().ok_or_else(|| unreadable(format!("column {}: too short", column.name)))?;
            let value = values::decode(column.kind, element);
            values.push(value.map_err(|why| unreadable(format!("column {}: {why}", column.name)))?);
        }
        out.push(RowRead {
            key: values::decode_key(table.key, key).map_err(unreadable)?,
            version: version.ok_or_else(|| unreadable("the version is null"))?,
            values,
        });
    }
    Ok(out)
}

fn source_of(row: &PgRow) -> Result<(String, i32), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn integer(row: &PgRow, index: usize) -> Result<i64, Fault> {
    row.try_get(index).map_err(|error| Fault::corrupt("read a position").because(error))
}

/// A position from its columns, which start at `first`: epoch, `next_offset`, published, incarnation, `group_id`,
/// `cluster_id`, `topic_id`, `partition_count`.
pub(super) fn position_of(row: &PgRow, first: usize) -> Result<Position, sqlx::Error> {
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
