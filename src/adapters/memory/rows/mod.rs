//! One worker's connection to the database model.

mod transaction;
mod writing;

use crate::adapters::memory::database::{DatabaseFault, LockKey, MemoryDatabase, PlaceKey, State, StoredPosition};
use crate::adapters::memory::rows::transaction::{Bound, Changes, Transaction, bound, refused};
use crate::adapters::memory::rows::writing::written;
use crate::adapters::memory::tables::{Place, StoredTable};
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, Offset, Timestamp, TopicPartition};
use crate::flow::row::Value;
use crate::flow::table::TableSpec;
use crate::ports::Fault;
use crate::ports::rows::{
    Claim, Claimed, CommitAnswer, Counts, Move, OutboxRow, Position, RowRead, RowWrite, Rows, VerdictRow, WriteFault,
    WriteKind,
};
use std::time::Duration;

/// One worker's connection. Dropped with an open transaction it rolls back, as a lost connection does.
#[derive(Debug)]
pub struct MemoryRows {
    database: MemoryDatabase,
    pipeline: String,
    bound: Vec<Bound>,
    transaction: Option<Transaction>,
}

impl Drop for MemoryRows {
    fn drop(&mut self) {
        self.rollback();
    }
}

impl MemoryDatabase {
    /// A worker's connection for one pipeline.
    #[must_use]
    pub fn rows(&self, pipeline: &str) -> MemoryRows {
        MemoryRows::new(self.clone(), pipeline)
    }
}

impl MemoryRows {
    pub(super) fn new(database: MemoryDatabase, pipeline: &str) -> Self {
        Self { database, pipeline: pipeline.into(), bound: Vec::new(), transaction: None }
    }

    fn key(&self, source: &TopicPartition) -> PlaceKey {
        (self.pipeline.clone(), source.clone())
    }

    /// Makes the transaction's changes everybody's.
    fn finish(&self, transaction: Transaction) -> Result<CommitAnswer, Fault> {
        let mut state = self.database.up_in(transaction.id)?;
        if transaction.is_failed {
            return Err(Fault::retry("the transaction had failed: it was rolled back"));
        }
        let fault = state.faults.pop_front();
        match fault {
            Some(DatabaseFault::FailedCommit) => return Err(Fault::retry("the COMMIT failed, as the test wished")),
            Some(DatabaseFault::UnknownCommit { is_applied: false }) => return Ok(CommitAnswer::Unknown),
            Some(DatabaseFault::UnknownCommit { is_applied: true }) | None => {}
        }
        let contents = &mut state.contents;
        for moved in &transaction.moves {
            if let Some(stored) = contents.positions.get_mut(&self.key(&moved.source)) {
                stored.position.next_offset = moved.to;
                stored.position.published = moved.published;
                stored.counts += moved.counts;
            }
        }
        for ((table, key), row) in transaction.changes.rows {
            let Some(stored) = self.bound.get(table).and_then(|bound| contents.tables.get_mut(&bound.name)) else {
                continue;
            };
            match row {
                Some(row) => drop(stored.rows.insert(key, row)),
                None => drop(stored.rows.remove(&key)),
            }
        }
        for row in transaction.changes.outbox.into_iter().chain(transaction.changes.redirected) {
            let key = (self.pipeline.clone(), row.source.clone(), row.source_offset, row.seq, row.created_at);
            contents.outbox.insert(key, row);
        }
        for verdict in transaction.changes.verdicts {
            let key = (self.pipeline.clone(), verdict.source.clone(), verdict.source_offset);
            contents.verdicts.insert(key, verdict);
        }
        Ok(if fault.is_some() { CommitAnswer::Unknown } else { CommitAnswer::Done })
    }

    /// Runs one step of the open transaction; an error fails the transaction.
    fn step<T, E: From<Fault>>(
        &mut self,
        act: impl FnOnce(&MemoryDatabase, &str, &[Bound], &mut Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(transaction) = &mut self.transaction else {
            return Err(Fault::fatal("call out of order: no transaction is open").into());
        };
        if transaction.is_failed {
            return Err(Fault::retry("the transaction has failed: roll it back").into());
        }
        let result = act(&self.database, &self.pipeline, &self.bound, transaction);
        transaction.is_failed = result.is_err();
        result
    }

    /// Locks a position as a transaction of its own, and lets it go again after `act`.
    fn with_position<T>(
        &self,
        source: &TopicPartition,
        act: impl FnOnce(&mut State, PlaceKey) -> T,
    ) -> Result<T, Fault> {
        let holder = self.database.next_transaction()?;
        let key = self.key(source);
        let answer =
            self.database.acquire(holder, &[LockKey::Position(key.clone())]).map(|mut state| act(&mut state, key));
        self.database.release(holder);
        answer
    }
}

impl Rows for MemoryRows {
    fn bind(&mut self, tables: &[TableSpec]) -> Result<(), Fault> {
        let state = self.database.up()?;
        let mut differences = Vec::new();
        let mut bound = Vec::new();
        for spec in tables {
            let name = &spec.table.name;
            let stored = state.contents.tables.get(name);
            differences.extend(spec.differences(stored.map(StoredTable::found_columns).as_deref()));
            let places = stored.and_then(|stored| stored.places(spec)).unwrap_or_default();
            bound.push(Bound { name: name.clone(), places });
        }
        drop(state);
        if !differences.is_empty() {
            return Err(Fault::fatal(differences.join("; ")));
        }
        self.bound = bound;
        Ok(())
    }

    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, Fault> {
        let one = |claim: &Claim| {
            self.with_position(&claim.source, |state, key| match state.contents.positions.get_mut(&key) {
                None => Claimed::Absent,
                Some(stored) if stored.generation > claim.generation && Some(stored.generation) != claim.adopts => {
                    Claimed::Stale { generation: stored.generation }
                }
                Some(stored) => {
                    stored.generation = claim.generation;
                    stored.owner.clone_from(&claim.owner);
                    stored.position.epoch += 1;
                    Claimed::Owned(stored.position.clone())
                }
            })
        };
        claims.iter().map(one).collect()
    }

    fn create(&mut self, claim: &Claim, next_offset: NextOffset) -> Result<bool, Fault> {
        let group = self.pipeline.clone();
        self.with_position(&claim.source, |state, key| {
            if state.contents.positions.contains_key(&key) {
                return false;
            }
            let position = Position {
                epoch: 1,
                next_offset,
                published: next_offset,
                incarnation: 0,
                group,
                log_ids: claim.log_ids.clone(),
                partition_count: claim.partition_count,
            };
            let (generation, owner) = (claim.generation, claim.owner.clone());
            let stored = StoredPosition { position, generation, owner, counts: Counts::default() };
            state.contents.positions.insert(key, stored);
            true
        })
    }

    fn outbox(
        &mut self,
        source: &TopicPartition,
        from: NextOffset,
        to: NextOffset,
        rows_max: usize,
    ) -> Result<Vec<OutboxRow>, Fault> {
        let mut state = self.database.up()?;
        if state.outbox_reads == Some(0) {
            state.outbox_reads = None;
            return Err(Fault::retry("the read failed, as the test wished"));
        }
        state.outbox_reads = state.outbox_reads.map(|left| left - 1);
        let incarnation = state.contents.positions.get(&self.key(source)).map(|stored| stored.position.incarnation);
        let at = |offset: NextOffset| {
            (self.pipeline.clone(), source.clone(), Offset(offset.0), i32::MIN, Timestamp(i64::MIN))
        };
        let range = if from < to { at(from)..at(to) } else { at(from)..at(from) };
        let mut out: Vec<OutboxRow> = Vec::new();
        for (_, row) in state.contents.outbox.range(range) {
            if incarnation.is_some_and(|incarnation| row.incarnation != incarnation) {
                continue;
            }
            out.push(row.clone());
            // One row beyond the bound is enough to know where the last whole offset ends.
            let whole = out.partition_point(|earlier| earlier.source_offset < row.source_offset);
            if out.len() > rows_max && whole > 0 {
                out.truncate(whole);
                break;
            }
        }
        Ok(out)
    }

    fn begin(&mut self) -> Result<(), Fault> {
        if self.transaction.is_some() {
            return Err(Fault::fatal("call out of order: a transaction is open"));
        }
        let id = self.database.next_transaction()?;
        let changes = Changes::default();
        self.transaction = Some(Transaction { id, moves: Vec::new(), changes, savepoint: None, is_failed: false });
        Ok(())
    }

    fn advance(&mut self, moves: &[Move]) -> Result<Vec<bool>, Fault> {
        self.step(|database, pipeline, _, transaction| {
            let mut answers = Vec::new();
            for moved in moves {
                let key = (pipeline.to_owned(), moved.source.clone());
                let state = database.acquire(transaction.id, &[LockKey::Position(key.clone())])?;
                // Within the transaction a position stands where its last move put it.
                let own = transaction.moves.iter().rev().find(|own| own.source == moved.source).map(|own| own.to);
                let is_match = state.contents.positions.get(&key).is_some_and(|stored| {
                    stored.position.epoch == moved.epoch && own.unwrap_or(stored.position.next_offset) == moved.from
                });
                drop(state);
                if is_match {
                    transaction.moves.push(moved.clone());
                }
                answers.push(is_match);
            }
            Ok(answers)
        })
    }

    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, Fault> {
        self.step(|database, _, tables, transaction| {
            let Bound { name, places } = bound(tables, table)?;
            if let Some(stored) = database.up_in(transaction.id)?.contents.tables.get(name) {
                if stored.statement_rows.is_some_and(|rows| keys.len() > rows) {
                    return Err(Fault::retry(format!("read {name}: {} rows took too long", keys.len())));
                }
                if keys.iter().any(|key| stored.impossible.contains(key)) {
                    let message = format!("read {name}: a key that this database cannot hold");
                    return Err(Fault::refused(Reject::dead_letter("bad-value", message)));
                }
                if keys.iter().any(|key| stored.damaged.contains(key)) {
                    return Err(Fault::corrupt(format!("read {name}: damaged")));
                }
            }
            let mut out = Vec::new();
            for key in keys {
                let own = transaction.changes.rows.get(&(table, key.clone()));
                let exists =
                    |state: &State| state.contents.tables.get(name).is_some_and(|stored| stored.rows.contains_key(key));
                // A row that is not there cannot be locked.
                if own.is_none() && !exists(&*database.up_in(transaction.id)?) {
                    continue;
                }
                let state = database.acquire(transaction.id, &[LockKey::Row(name.clone(), key.clone())])?;
                let Some(table_of) = state.contents.tables.get(name) else { continue };
                let Some(row) = own.map_or_else(|| table_of.rows.get(key), Option::as_ref) else { continue };
                let value = |place: &Place| match place {
                    Place::Key(number) => Some(table_of.key_value(key, *number)),
                    Place::Version => Some(Value::I64(row.version)),
                    Place::Value(place) => row.values.get(*place).cloned(),
                };
                let values = places.iter().filter_map(value).collect();
                out.push(RowRead { key: key.clone(), version: row.version, values });
            }
            Ok(out)
        })
    }

    fn locked(&mut self, table: usize, keys: &[Key]) -> Result<Vec<Key>, Fault> {
        let Bound { name, .. } = bound(&self.bound, table)?;
        let state = self.database.up()?;
        let is_locked = |key: &&Key| state.locks.contains_key(&LockKey::Row(name.clone(), (*key).clone()));
        Ok(keys.iter().filter(is_locked).cloned().collect())
    }

    fn keeps(&self, table: usize) -> bool {
        let Some(Bound { name, .. }) = self.bound.get(table) else { return false };
        let state = self.database.lock();
        state.contents.tables.get(name).is_some_and(StoredTable::is_free)
    }

    fn read_only(&self, table: usize) -> Vec<usize> {
        let Some(Bound { name, places }) = self.bound.get(table) else { return Vec::new() };
        let state = self.database.lock();
        let Some(stored) = state.contents.tables.get(name) else { return Vec::new() };
        let is_made = |place: &Place| matches!(place, Place::Value(place) if stored.made.contains_key(place));
        places.iter().enumerate().filter(|(_, place)| is_made(place)).map(|(number, _)| number).collect()
    }

    fn idle_max(&self) -> Option<Duration> {
        self.database.lock().idle_max
    }

    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), WriteFault> {
        self.step(|database, _, tables, transaction| {
            let Bound { name, places } = bound(tables, table)?;
            for row in [WriteKind::Delete, WriteKind::Update, WriteKind::Insert]
                .into_iter()
                .flat_map(|kind| rows.iter().filter(move |row| row.kind == kind))
            {
                let slot = (table, row.key.clone());
                let lock = LockKey::Row(name.clone(), row.key.clone());
                if row.kind == WriteKind::Insert {
                    database.let_first(name, &row.key);
                    drop(database.acquire(transaction.id, std::slice::from_ref(&lock))?);
                }
                let state = database.up_in(transaction.id)?;
                let stored = state.contents.tables.get(name);
                let stored = stored.ok_or_else(|| Fault::corrupt(format!("table {name}: dropped meanwhile")))?;
                let own = transaction.changes.rows.get(&slot).map(Option::as_ref);
                let current = own.unwrap_or_else(|| stored.rows.get(&row.key));
                let is_locked = state.locks.get(&lock) == Some(&transaction.id);
                let next = written((name, stored, places), row, current.filter(|_| is_locked))?;
                if let Some(next) = next.as_ref().filter(|_| !stored.unique.is_empty())
                    && let Some(message) = stored.clash(&next.values, transaction.changes.others(&slot, stored))
                {
                    return Err(refused(message));
                }
                transaction.changes.rows.insert(slot, next);
            }
            Ok(())
        })
    }

    fn append(&mut self, rows: &[OutboxRow]) -> Result<(), WriteFault> {
        self.step(|database, pipeline, _, transaction| {
            let state = database.up_in(transaction.id)?;
            for row in rows {
                let is_same = |other: &OutboxRow| {
                    (&other.source, other.source_offset, other.seq) == (&row.source, row.source_offset, row.seq)
                };
                let key = (pipeline.to_owned(), row.source.clone(), row.source_offset, row.seq, row.created_at);
                if state.contents.outbox.contains_key(&key) || transaction.changes.outbox.iter().any(is_same) {
                    return Err(refused(format!(
                        "duplicate outbox row {}/{}/{}",
                        row.source, row.source_offset, row.seq
                    )));
                }
                transaction.changes.outbox.push(row.clone());
            }
            Ok(())
        })
    }

    fn redirect(&mut self, rows: &[OutboxRow]) -> Result<usize, Fault> {
        self.step(|database, pipeline, _, transaction| {
            let state = database.up_in(transaction.id)?;
            let before = transaction.changes.redirected.len();
            for row in rows {
                let key = (pipeline.to_owned(), row.source.clone(), row.source_offset, row.seq, row.created_at);
                let is_changed =
                    |kept: &OutboxRow| kept.incarnation == row.incarnation && kept.destination != row.destination;
                if state.contents.outbox.get(&key).is_some_and(is_changed) {
                    transaction.changes.redirected.push(row.clone());
                }
            }
            Ok(transaction.changes.redirected.len() - before)
        })
    }

    fn record(&mut self, verdicts: &[VerdictRow]) -> Result<(), WriteFault> {
        self.step(|_, _, _, transaction| {
            transaction.changes.verdicts.extend_from_slice(verdicts);
            Ok(())
        })
    }

    fn savepoint(&mut self) -> Result<(), Fault> {
        self.step(|_, _, _, transaction| {
            transaction.savepoint = Some(transaction.changes.clone());
            Ok(())
        })
    }

    fn rollback_to_savepoint(&mut self) -> Result<(), Fault> {
        let Some(transaction) = &mut self.transaction else {
            return Err(Fault::fatal("call out of order: no transaction is open"));
        };
        let Some(savepoint) = &transaction.savepoint else {
            return Err(Fault::fatal("call out of order: there is no savepoint"));
        };
        transaction.changes = savepoint.clone();
        transaction.is_failed = false;
        self.database.lock().rollbacks_to_savepoint += 1;
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitAnswer, Fault> {
        let Some(transaction) = self.transaction.take() else {
            return Err(Fault::fatal("call out of order: no transaction is open"));
        };
        let id = transaction.id;
        let answer = self.finish(transaction);
        self.database.release(id);
        answer
    }

    fn rollback(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.database.release(transaction.id);
        }
    }

    fn settle(&mut self, moved: &Move) -> Result<bool, Fault> {
        let at = |position: &Position| (position.epoch, position.next_offset);
        let found = self.with_position(&moved.source, |state, key| {
            state.contents.positions.get(&key).map(|stored| at(&stored.position))
        })?;
        moved.settled(found)
    }
}
