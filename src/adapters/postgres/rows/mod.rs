//! The row port: one batch is one transaction on one connection.
//!
//! The position row is moved first, by compare-and-set, so a zombie's batch fails before it locks a row. Nothing that
//! follows a failed statement can be committed: the transaction is marked failed here as it is on the server, and COMMIT
//! is refused by both (a bare COMMIT of a failed transaction answers ROLLBACK without an error:
//! docs/traps.md#a-commit-that-rolls-back).

mod position;
mod reading;
mod stage;
mod texts;
mod writing;

pub(super) use position::position_of;

use crate::adapters::postgres::arrays::Array;
use crate::adapters::postgres::catalog::{self, BoundTable};
use crate::adapters::postgres::connection::{Server, Trouble, raw, unreadable};
use crate::adapters::postgres::outbox::{self, Cut, Reader};
use crate::adapters::postgres::rows::position::{integer, source_of};
use crate::adapters::postgres::rows::reading::{bound, rows_of};
use crate::adapters::postgres::rows::stage::{Stage, query, step, write_all};
use crate::adapters::postgres::rows::texts::Texts;
use crate::adapters::postgres::values;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::flow::table::TableSpec;
use crate::ports::fault::Fault;
use crate::ports::guard::{self, Guard};
use crate::ports::rows::{
    Claim, Claimed, CommitAnswer, Move, OutboxRow, RowRead, RowWrite, Rows, VerdictRow, WriteFault, WriteKind,
};
use crate::ports::source::LogIds;
use crate::settings::postgres::PostgresSettings;
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::collections::HashMap;
use std::time::Duration;

/// [`Rows`] on Postgres.
#[derive(Debug)]
pub struct PostgresRows {
    server: Server,
    pipeline: String,
    group: String,
    texts: Texts,
    tables: Vec<BoundTable>,
    stage: Stage,
    /// Claims in a row that waited for a lock in vain.
    lock_waits: u32,
}

/// Claims, and looks at locked rows, wait for a lock for no longer than this: the worker has other partitions.
const CLAIM_WAIT: &str = "SET LOCAL lock_timeout = 100";
/// The part of it after which the holders are looked up.
const CLAIM_SOON: Duration = Duration::from_millis(30);
/// The number of claims in vain from which on that is done: up to there a batch in flight is the likely holder.
const CLAIMS_IN_VAIN: u32 = 10;

impl PostgresRows {
    /// Rows of `pipeline`, whose consumer group is `group`. Does not connect: the first call that needs to does.
    ///
    /// # Errors
    /// `Fatal` when the settings cannot be used.
    pub fn new(settings: &PostgresSettings, pipeline: &str, group: &str) -> Result<Self, Fault> {
        let server = Server::new(settings)?;
        let texts = Texts::new(&server);
        Ok(Self {
            server,
            pipeline: pipeline.into(),
            group: group.into(),
            texts,
            tables: Vec::new(),
            stage: Stage::Idle,
            lock_waits: 0,
        })
    }

    /// A sentence for each difference between the tables and their structs, and one for each thing that our role may not do
    /// or see, which another role may.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    pub fn compared(&mut self, tables: &[TableSpec]) -> Result<(Vec<String>, Vec<String>), Fault> {
        let found = catalog::look(&mut self.server, tables)?;
        Ok((found.differences, found.lacks))
    }

    /// Names the server's process of its connection.
    pub(super) fn backend(&self) -> &str {
        self.server.backend()
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

impl Rows for PostgresRows {
    fn bind(&mut self, tables: &[TableSpec]) -> Result<(), Fault> {
        self.rollback();
        self.tables = catalog::bind(&mut self.server, tables)?;
        if self.server.is_caching {
            let texts = self.tables.iter().flat_map(|table| {
                let own = &table.statements;
                let more = [(table.inserts, &own.insert), (table.deletes, &own.delete)];
                let more = more.into_iter().filter_map(|(is_used, text)| is_used.then_some(text));
                [&own.read, &own.write].into_iter().chain(more)
            });
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
        let soon = if self.lock_waits < CLAIMS_IN_VAIN { Duration::MAX } else { CLAIM_SOON };
        let claimed = self.server.transaction_asking(soon, "claim positions", async |c| {
            // With the guard off, a claim that waits does the harm.
            if !guard::is_off(Guard::ClaimFirst) {
                sqlx::raw_sql(CLAIM_WAIT).execute(&mut *c).await?;
            }
            let held = lock.fetch_all(&mut *c).await?;
            let owned = if held.is_empty() { Vec::new() } else { claim.fetch_all(c).await? };
            let held: Result<HashMap<_, i32>, sqlx::Error> =
                held.iter().map(|row| Ok((source_of(row)?, row.try_get(2)?))).collect();
            let owned: Result<HashMap<_, _>, sqlx::Error> =
                owned.iter().map(|row| Ok((source_of(row)?, position_of(row, 2)?))).collect();
            Ok((held?, owned?))
        });
        let is_in_vain = claimed.as_ref().is_err_and(Fault::is_lock_wait);
        self.lock_waits = if is_in_vain { self.lock_waits.saturating_add(1) } else { 0 };
        let (held, owned) = claimed?;
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
                sqlx::raw_sql(CLAIM_WAIT).execute(&mut *c).await?;
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
            sqlx::raw_sql(CLAIM_WAIT).execute(&mut *c).await?;
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

    fn read_only(&self, table: usize) -> Vec<usize> {
        let columns = self.tables.get(table).into_iter().flat_map(|table| &table.columns).enumerate();
        columns.filter(|(_, column)| column.is_read_only).map(|(place, _)| place).collect()
    }

    fn idle_max(&self) -> Option<Duration> {
        Some(self.server.idle_max())
    }

    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), WriteFault> {
        for kind in [WriteKind::Delete, WriteKind::Update, WriteKind::Insert] {
            let rows: Vec<&RowWrite> = rows.iter().filter(|row| row.kind == kind).collect();
            let written = self.write_all_of(table, kind, &rows);
            // The table may have got this rule since it was looked at.
            if let Err(WriteFault::Rejected(reject)) = &written
                && matches!(reject.code(), "constraint" | "trigger" | "withheld")
                && let Some(table) = self.tables.get_mut(table)
            {
                table.keeps = false;
            }
            written?;
        }
        Ok(())
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
        let row = self.server.transaction_behind_locks("settle a commit", async |c| select.fetch_optional(c).await)?;
        moved.settled(match &row {
            None => None,
            Some(row) => Some((integer(row, 0)?, NextOffset(integer(row, 1)?))),
        })
    }
}
