//! The database model: tables, positions, outbox, verdicts, slots, and the row locks of open transactions.

use super::tables::{StoredRow, StoredTable};
use crate::flow::key::Key;
use crate::flow::record::{Offset, Timestamp, TopicPartition};
use crate::flow::row::Value;
use crate::flow::table::{ColumnType, Table};
use crate::ports::clock::SystemClock;
use crate::ports::repair::NotedRepair;
use crate::ports::rows::{Counts, OutboxRow, Position, RowRead, VerdictRow};
use crate::ports::{Clock as _, Fault};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A position row.
#[derive(Clone, Debug)]
pub(super) struct StoredPosition {
    pub(super) position: Position,
    pub(super) generation: i32,
    pub(super) owner: String,
    pub(super) counts: Counts,
}

/// Pipeline and source partition.
pub(super) type PlaceKey = (String, TopicPartition);

/// The primary key of the outbox, as in Postgres: the time of creation is part of it.
pub(super) type OutboxKey = (String, TopicPartition, Offset, i32, Timestamp);

/// The holder of a slot's lease, and its end by the wall clock.
pub(super) type Lease = (String, Timestamp);

/// The content that a snapshot keeps.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub(super) tables: BTreeMap<String, StoredTable>,
    pub(super) positions: BTreeMap<PlaceKey, StoredPosition>,
    pub(super) outbox: BTreeMap<OutboxKey, OutboxRow>,
    pub(super) verdicts: BTreeMap<(String, TopicPartition, Offset), VerdictRow>,
    pub(super) baselines: BTreeMap<(String, String), i64>,
    pub(super) slots: BTreeMap<(String, u32), Lease>,
    pub(super) repairs: Vec<(String, Timestamp, NotedRepair)>,
    pub(super) is_migrated: bool,
}

/// A lock that a transaction may hold until its end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum LockKey {
    Position(PlaceKey),
    Row(String, Key),
}

/// A transaction's number.
pub(super) type TransactionId = u64;

/// A failure to be provoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DatabaseFault {
    UnknownCommit { is_applied: bool },
    FailedCommit,
}

/// The model's content, behind the lock.
#[derive(Default)]
pub(super) struct State {
    pub(super) contents: Contents,
    pub(super) locks: BTreeMap<LockKey, TransactionId>,
    pub(super) transactions: TransactionId,
    /// Transactions whose connection is alive.
    pub(super) alive: BTreeSet<TransactionId>,
    pub(super) faults: VecDeque<DatabaseFault>,
    /// The number of times that a transaction went back to its savepoint.
    pub(super) rollbacks_to_savepoint: usize,
    pub(super) is_down: bool,
    /// The number of outbox reads that succeed before one fails.
    pub(super) outbox_reads: Option<usize>,
    /// Rows that other programs insert right before the pipeline does.
    pub(super) rivals: BTreeMap<(String, Key), StoredRow>,
    /// Those that have by now, by table, as they were inserted.
    pub(super) came_first: Vec<(String, RowRead)>,
    /// The answer of [`Rows::idle_max`](crate::ports::rows::Rows::idle_max); the model itself ends no idle transaction.
    pub(super) idle_max: Option<Duration>,
}

struct Shared {
    state: Mutex<State>,
    unlocked: Condvar,
    waits: SystemClock,
    lock_wait: Duration,
}

/// A database in one process. Clones share it.
#[derive(Clone)]
pub struct MemoryDatabase {
    shared: Arc<Shared>,
}

/// The content at one moment, as a backup has it: no locks, no open transactions.
#[derive(Clone)]
pub struct Snapshot(Contents);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDatabase").finish_non_exhaustive()
    }
}

impl Default for MemoryDatabase {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDatabase {
    /// An empty database that does not wait for locks: a conflict answers `Retry` at once, as one thread needs it.
    #[must_use]
    pub fn new() -> Self {
        Self::with_lock_wait(Duration::ZERO)
    }

    /// An empty database whose transactions wait this long for each other's locks.
    #[must_use]
    pub fn with_lock_wait(lock_wait: Duration) -> Self {
        let state = Mutex::new(State::default());
        let shared = Shared { state, unlocked: Condvar::new(), waits: SystemClock::default(), lock_wait };
        Self { shared: Arc::new(shared) }
    }

    /// Creates a table (in place of an earlier one) with the key and version columns that `table` names and these value
    /// columns: name, type, whether it may be null.
    pub fn create_table(&self, table: &Table, columns: &[(&str, ColumnType, bool)]) {
        self.lock().contents.tables.insert(table.name.clone(), StoredTable::new(table, columns));
    }

    /// Sets a row by hand. `values` are in the order of the table's value columns. Answers false without such a table, or
    /// when the values do not fit it.
    pub fn put(&self, table: &Table, key: impl Into<Key>, version: i64, values: &[Value]) -> bool {
        let mut state = self.lock();
        let Some(stored) = state.contents.tables.get_mut(&table.name) else { return false };
        if values.len() != stored.value_count() || stored.refusal(values).is_some() {
            return false;
        }
        let mut values = values.to_vec();
        stored.make(&mut values);
        stored.rows.insert(key.into(), StoredRow { version, values });
        true
    }

    /// The next transaction that inserts this row finds that another program has inserted it since it was looked for.
    pub fn insert_first(&self, table: &Table, key: impl Into<Key>, version: i64, values: &[Value]) {
        let row = StoredRow { version, values: values.to_vec() };
        self.lock().rivals.insert((table.name.clone(), key.into()), row);
    }

    /// Deletes a row by hand. Answers whether it was there.
    pub fn remove(&self, table: &Table, key: impl Into<Key>) -> bool {
        let mut state = self.lock();
        state.contents.tables.get_mut(&table.name).and_then(|stored| stored.rows.remove(&key.into())).is_some()
    }

    /// A row as committed, its values in the order of the table's value columns.
    #[must_use]
    pub fn get(&self, table: &Table, key: impl Into<Key>) -> Option<RowRead> {
        let key = key.into();
        let state = self.lock();
        let row = state.contents.tables.get(&table.name)?.rows.get(&key)?;
        Some(RowRead { key, version: row.version, values: row.values.clone() })
    }

    /// All rows as committed, by id.
    #[must_use]
    pub fn all(&self, table: &Table) -> Vec<RowRead> {
        let state = self.lock();
        let rows = state.contents.tables.get(&table.name).into_iter().flat_map(|stored| &stored.rows);
        rows.map(|(key, row)| RowRead { key: key.clone(), version: row.version, values: row.values.clone() }).collect()
    }

    /// Sets the table's constraint: it gets a row's values and answers a sentence if it refuses them, which ends in
    /// [`WriteFault::Rejected`](crate::ports::rows::WriteFault::Rejected).
    pub fn check(&self, table: &Table, check: impl Fn(&[Value]) -> Result<(), String> + Send + Sync + 'static) {
        if let Some(stored) = self.lock().contents.tables.get_mut(&table.name) {
            stored.check = Some(Arc::new(check));
        }
    }

    /// From now on no two rows of the table may have one value in this column, but for null. Each row of a statement is held
    /// against the others as they are by then, as in Postgres.
    pub fn unique(&self, table: &Table, column: &str) {
        if let Some(stored) = self.lock().contents.tables.get_mut(&table.name)
            && let Some(place) = stored.place_of(column)
        {
            stored.unique.insert(place);
        }
    }

    /// From now on the table makes this of the values of a row that is written, as a trigger or a narrower type would.
    pub fn round(&self, table: &Table, round: impl Fn(&mut [Value]) + Send + Sync + 'static) {
        if let Some(stored) = self.lock().contents.tables.get_mut(&table.name) {
            stored.rounding = Some(Arc::new(round));
        }
    }

    /// From now on the table makes the values of this column itself, of those in the other columns, and takes none from
    /// anybody, as with a generated column.
    pub fn generate(&self, table: &Table, column: &str, make: impl Fn(&[Value]) -> Value + Send + Sync + 'static) {
        if let Some(stored) = self.lock().contents.tables.get_mut(&table.name)
            && let Some(place) = stored.place_of(column)
        {
            stored.made.insert(place, Arc::new(make));
            let mut rows = std::mem::take(&mut stored.rows);
            for row in rows.values_mut() {
                stored.make(&mut row.values);
            }
            stored.rows = rows;
        }
    }

    /// The columns that tables make themselves, by table and name.
    pub(crate) fn made(&self) -> BTreeSet<(String, String)> {
        let state = self.lock();
        let of = |(name, stored): (&String, &StoredTable)| {
            stored.made_names().map(|column| (name.clone(), column)).collect::<Vec<_>>()
        };
        state.contents.tables.iter().flat_map(of).collect()
    }

    /// From now on a statement over more than `rows` rows of the table is cancelled, as by a statement timeout: `Retry`.
    /// `None` lifts the limit.
    pub fn limit_statements(&self, table: &Table, rows: Option<usize>) {
        if let Some(stored) = self.lock().contents.tables.get_mut(&table.name) {
            stored.statement_rows = rows;
        }
    }

    /// From now on a statement that asks for this key is refused, as one with a text outside of the database's encoding.
    pub fn refuse_key(&self, table: &Table, key: impl Into<Key>) {
        if let Some(stored) = self.lock().contents.tables.get_mut(&table.name) {
            stored.impossible.insert(key.into());
        }
    }

    /// From now on a statement that reads this row answers `Corrupt`, as one on a damaged page does.
    pub fn damage(&self, table: &Table, key: impl Into<Key>) {
        if let Some(stored) = self.lock().contents.tables.get_mut(&table.name) {
            stored.damaged.insert(key.into());
        }
    }

    /// A position as committed.
    #[must_use]
    pub fn position(&self, pipeline: &str, source: &TopicPartition) -> Option<Position> {
        let key = (pipeline.to_owned(), source.clone());
        self.lock().contents.positions.get(&key).map(|stored| stored.position.clone())
    }

    /// Changes a position by hand, as an operator's command would. Answers whether there is one.
    pub fn edit_position(&self, pipeline: &str, source: &TopicPartition, edit: impl FnOnce(&mut Position)) -> bool {
        let key = (pipeline.to_owned(), source.clone());
        self.lock().contents.positions.get_mut(&key).map(|stored| edit(&mut stored.position)).is_some()
    }

    /// The holder of a position: the generation and the owner of the last claim.
    #[must_use]
    pub fn owner(&self, pipeline: &str, source: &TopicPartition) -> Option<(i32, String)> {
        let key = (pipeline.to_owned(), source.clone());
        self.lock().contents.positions.get(&key).map(|stored| (stored.generation, stored.owner.clone()))
    }

    /// The ledger of one pipeline, by partition and offset.
    #[must_use]
    pub fn verdicts(&self, pipeline: &str) -> Vec<VerdictRow> {
        let state = self.lock();
        let mine = state.contents.verdicts.iter().filter(|((owner, ..), _)| owner == pipeline);
        mine.map(|(_, verdict)| verdict.clone()).collect()
    }

    /// The retained outbox of one pipeline, by partition, offset and seq.
    #[must_use]
    pub fn outbox(&self, pipeline: &str) -> Vec<OutboxRow> {
        let state = self.lock();
        let mine = state.contents.outbox.iter().filter(|((owner, ..), _)| owner == pipeline);
        mine.map(|(_, row)| row.clone()).collect()
    }

    /// The next COMMIT gets no answer: [`CommitAnswer::Unknown`](crate::ports::rows::CommitAnswer::Unknown), and was done
    /// or not. Faults queue up.
    pub fn fail_next_commit_unknown(&self, is_applied: bool) {
        self.lock().faults.push_back(DatabaseFault::UnknownCommit { is_applied });
    }

    /// The next COMMIT fails for certain: `Retry`.
    pub fn fail_next_commit(&self) {
        self.lock().faults.push_back(DatabaseFault::FailedCommit);
    }

    /// The number of COMMITs that are still to fail or to stay unanswered.
    #[must_use]
    pub fn unmet_faults(&self) -> usize {
        self.lock().faults.len()
    }

    /// The `nth` read of the outbox from now on (from 1) fails: `Retry`.
    pub fn fail_outbox_read(&self, nth: usize) {
        self.lock().outbox_reads = Some(nth.saturating_sub(1));
    }

    /// From now on transactions are said to be ended that idle for longer. Nothing here ends one: a test does, by
    /// [`MemoryDatabase::set_down`].
    pub fn limit_idle(&self, limit: Option<Duration>) {
        self.lock().idle_max = limit;
    }

    /// Takes the database away, or gives it back: meanwhile every call answers `Retry`, and open transactions are lost.
    pub fn set_down(&self, is_down: bool) {
        let mut state = self.lock();
        state.is_down = is_down;
        state.locks.clear();
        state.alive.clear();
        drop(state);
        self.shared.unlocked.notify_all();
    }

    /// The number of times that a transaction went back to its savepoint, since the start.
    #[must_use]
    pub fn rollbacks_to_savepoint(&self) -> usize {
        self.lock().rollbacks_to_savepoint
    }

    /// The number of transactions that hold locks.
    #[must_use]
    pub fn open_transactions(&self) -> usize {
        let state = self.lock();
        state.locks.values().collect::<BTreeSet<_>>().len()
    }

    /// The content as committed.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.lock().contents.clone())
    }

    /// Sets the content back, as a restore or an asynchronous failover does. Open transactions are lost.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut state = self.lock();
        state.contents = snapshot.0.clone();
        state.locks.clear();
        state.alive.clear();
        drop(state);
        self.shared.unlocked.notify_all();
    }
}

// === impl MemoryDatabase: locks ===

impl MemoryDatabase {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the database is away.
    pub(super) fn up(&self) -> Result<MutexGuard<'_, State>, Fault> {
        let state = self.lock();
        if state.is_down { Err(Fault::retry("the database does not answer")) } else { Ok(state) }
    }

    /// The state as an open transaction finds it: lost, when the database was away or set back meanwhile.
    pub(super) fn up_in(&self, id: TransactionId) -> Result<MutexGuard<'_, State>, Fault> {
        let state = self.up()?;
        if state.alive.contains(&id) { Ok(state) } else { Err(connection_lost()) }
    }

    /// The state with `keys` locked by `holder`; waits for other holders within the limit.
    pub(super) fn acquire(&self, holder: TransactionId, keys: &[LockKey]) -> Result<MutexGuard<'_, State>, Fault> {
        let start = self.shared.waits.elapsed();
        let mut state = self.up_in(holder)?;
        for key in keys {
            loop {
                match state.locks.get(key) {
                    Some(other) if *other != holder => {}
                    _ => break,
                }
                let left = self.shared.lock_wait.saturating_sub(self.shared.waits.elapsed().saturating_sub(start));
                if left.is_zero() {
                    return Err(Fault::locked(format!("lock timeout: another transaction holds {key:?}")));
                }
                let (woken, _) = self.shared.unlocked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                if !state.alive.contains(&holder) {
                    return Err(connection_lost());
                }
            }
            state.locks.insert(key.clone(), holder);
        }
        Ok(state)
    }

    /// Frees everything that `holder` has locked.
    pub(super) fn release(&self, holder: TransactionId) {
        let mut state = self.lock();
        state.locks.retain(|_, other| *other != holder);
        state.alive.remove(&holder);
        drop(state);
        self.shared.unlocked.notify_all();
    }

    /// Inserts the row of another program that is to come first.
    pub(super) fn let_first(&self, table: &str, key: &Key) {
        let mut state = self.lock();
        let place = (table.to_owned(), key.clone());
        let Some(row) = state.rivals.remove(&place) else { return };
        if let Some(stored) = state.contents.tables.get_mut(table)
            && !stored.rows.contains_key(key)
        {
            let read = RowRead { key: key.clone(), version: row.version, values: row.values.clone() };
            stored.rows.insert(key.clone(), row);
            state.came_first.push((place.0, read));
        }
    }

    /// The rows that were inserted that way since this was last asked, by table, as they were then.
    pub(crate) fn came_first(&self) -> Vec<(String, RowRead)> {
        std::mem::take(&mut self.lock().came_first)
    }

    pub(super) fn next_transaction(&self) -> Result<TransactionId, Fault> {
        let mut state = self.up()?;
        state.transactions += 1;
        let id = state.transactions;
        state.alive.insert(id);
        Ok(id)
    }
}

fn connection_lost() -> Fault {
    Fault::retry("the connection was lost, and its transaction with it")
}
