//! Rows, outbox and positions in one database transaction.
//!
//! Fencing: [`Rows::claim`] raises the epoch of a position, and [`Rows::advance`] moves a position only where epoch and
//! `next_offset` still have the values that the caller expects. A zombie's update matches no row and its whole transaction
//! is rolled back. A plain read of the epoch would not fence it (tried on PostgreSQL 15.18).

pub use crate::ports::counts::Counts;

use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{Header, NextOffset, Offset, Timestamp, TopicName, TopicPartition};
use crate::flow::row::Value;
use crate::flow::table::TableSpec;
use crate::ports::fault::Fault;
use crate::ports::source::LogIds;
use std::time::Duration;

/// One worker's connection to the rows. Owned by one thread; calls block. At most one transaction is open at a time.
///
/// The order within a transaction is `begin`, `advance`, then `read`, `write`, `append`, `redirect`, `record` in any order,
/// `commit`.
/// After an error other than a [`WriteFault::Rejected`] behind a savepoint, only `rollback` makes sense.
pub trait Rows: Send {
    /// Compares the tables with the structs and prepares the statements. The position in `tables` names a table below.
    ///
    /// # Errors
    /// `Fatal` with every difference in one message.
    fn bind(&mut self, tables: &[TableSpec]) -> Result<(), Fault>;

    /// Takes positions over, each in one atomic step outside any transaction of the caller. In the order asked.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, Fault>;

    /// Inserts the first position of a source partition, with epoch 1 and P = D. Answers false when it exists already.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn create(&mut self, claim: &Claim, next_offset: NextOffset) -> Result<bool, Fault>;

    /// Outbox rows of one source partition with `from <= source_offset < to` in (`source_offset`, `seq`) order, at most
    /// `rows_max` of them but never half of an offset's rows. Rows of another incarnation than the position's are left
    /// out: their offsets are those of a log that is gone.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn outbox(
        &mut self,
        source: &TopicPartition,
        from: NextOffset,
        to: NextOffset,
        rows_max: usize,
    ) -> Result<Vec<OutboxRow>, Fault>;

    /// Opens a transaction whose time limits are set (docs/traps.md#no-time-limits-by-default).
    ///
    /// # Errors
    /// `Retry` when the database did not answer or is read-only.
    fn begin(&mut self) -> Result<(), Fault>;

    /// Moves positions by compare-and-set. Must come first; comes a second time in the same transaction, from where the
    /// first put the position, once counters and final offsets are known. Answers for each move whether it matched; after
    /// a `false` the caller rolls back.
    ///
    /// # Errors
    /// `Retry` for anything that passes (deadlock, lock timeout, lost connection).
    fn advance(&mut self, moves: &[Move]) -> Result<Vec<bool>, Fault>;

    /// Locks and reads the rows with the given keys, which are sorted and unique. Answers those found, in any order.
    ///
    /// # Errors
    /// `Retry` for anything that passes.
    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, Fault>;

    /// The rows among `keys` that other transactions have locked at this moment; asked without waiting, outside of any
    /// transaction of the caller. A database that locks itself as a whole has none.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn locked(&mut self, _: usize, _: &[Key]) -> Result<Vec<Key>, Fault> {
        Ok(Vec::new())
    }

    /// Whether the table accepts every value for the columns of its [`TableSpec`] and keeps it bit for bit. If so, a row
    /// that several records of a transaction change may be written once. False where that is not known; it may become false
    /// when a write is refused.
    fn keeps(&self, _: usize) -> bool {
        false
    }

    /// The places of the columns whose values the database makes itself: they are read and never written.
    fn read_only(&self, _: usize) -> Vec<usize> {
        Vec::new()
    }

    /// The time for which a transaction may wait for its next statement before the database ends it; `None` without a limit.
    fn idle_max(&self) -> Option<Duration> {
        None
    }

    /// Writes rows that were read before in this transaction, or were missing then: deletes first, then updates, then inserts.
    /// A later read shows them as the database stored them.
    ///
    /// The key and the version among the columns are the engine's: taken from the write, not from its values.
    ///
    /// # Errors
    /// [`WriteFault::Rejected`] when the database refuses a value (constraint, overflow): bisect behind savepoints.
    /// `Retry` when a row that is to be inserted was inserted by somebody else since it was read.
    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), WriteFault>;

    /// Inserts outbox rows.
    ///
    /// # Errors
    /// The same as [`Rows::write`].
    fn append(&mut self, rows: &[OutboxRow]) -> Result<(), WriteFault>;

    /// Gives outbox rows another destination, key, value and headers. Each of `rows` names its own by source,
    /// `source_offset`, `seq`, incarnation and `created_at`. Answers how many had another destination before; one that is
    /// not there, or has it already, is left as it is.
    ///
    /// # Errors
    /// `Retry` for anything that passes.
    fn redirect(&mut self, rows: &[OutboxRow]) -> Result<usize, Fault>;

    /// Inserts verdicts into the ledger.
    ///
    /// # Errors
    /// The same as [`Rows::write`].
    fn record(&mut self, verdicts: &[VerdictRow]) -> Result<(), WriteFault>;

    /// Sets the one savepoint, in place of an earlier one.
    ///
    /// # Errors
    /// `Retry` for anything that passes.
    fn savepoint(&mut self) -> Result<(), Fault>;

    /// Undoes everything since the savepoint, which stays set.
    ///
    /// # Errors
    /// `Retry` for anything that passes.
    fn rollback_to_savepoint(&mut self) -> Result<(), Fault>;

    /// Commits.
    ///
    /// # Errors
    /// `Retry` when it is certain that nothing was committed.
    fn commit(&mut self) -> Result<CommitAnswer, Fault>;

    /// Ends the transaction without effect. Never fails: a connection that does not answer is dropped.
    fn rollback(&mut self);

    /// After [`CommitAnswer::Unknown`]: locks the position on a new connection and compares. True: the transaction that
    /// held `moved` was committed. False: it was not and never will be, or another instance has claimed the position
    /// since.
    ///
    /// # Errors
    /// `Retry` when the database did not answer: ask again. `Corrupt` when the position is neither where the transaction
    /// found it nor where it was to lead: the database was restored, or failed over to a replica that lagged.
    fn settle(&mut self, moved: &Move) -> Result<bool, Fault>;
}

/// The outcome of a COMMIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitAnswer {
    /// Committed.
    Done,
    /// The COMMIT was sent and no answer came: [`Rows::settle`] finds the outcome.
    Unknown,
}

/// Why a write failed.
#[derive(Debug)]
pub enum WriteFault {
    /// A value was refused: the rows are to blame. The transaction can go on from its savepoint.
    Rejected(Reject),
    /// The surroundings are to blame.
    Fault(Fault),
}

impl From<Fault> for WriteFault {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A request to own one source partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The source partition.
    pub source: TopicPartition,
    /// The group generation captured with the assignment: an older one cannot claim.
    pub generation: i32,
    /// A later generation found before, which this claim may replace: the group has since confirmed ours, so it has begun
    /// its count again (it was deleted, expired, or changed its protocol). Any other later generation still refuses the
    /// claim.
    pub adopts: Option<i32>,
    /// The claimant, for people: host, process, slot.
    pub owner: String,
    /// The log in which the offsets of this position count; stored at creation only.
    pub log_ids: LogIds,
    /// Partition count of the topic; stored at creation only.
    pub partition_count: i32,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is ours under `position.epoch`.
    Owned(Position),
    /// There is no position yet.
    Absent,
    /// A later generation holds it: wait for the revoke.
    Stale {
        /// The generation that holds it.
        generation: i32,
    },
}

/// A position row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Raised by each claim; part of every compare-and-set.
    pub epoch: i64,
    /// D: the first input whose row effects are not committed.
    pub next_offset: NextOffset,
    /// P: a lower bound of K.
    pub published: NextOffset,
    /// Raised when an operator declares the partition new.
    pub incarnation: i32,
    /// The group that the numbers belong to.
    pub group: String,
    /// The log that the numbers belong to.
    pub log_ids: LogIds,
    /// Partition count of the topic when the position was created.
    pub partition_count: i32,
}

/// A compare-and-set of one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The source partition.
    pub source: TopicPartition,
    /// The epoch of our claim.
    pub epoch: i64,
    /// D as we believe it.
    pub from: NextOffset,
    /// The new D.
    pub to: NextOffset,
    /// K as last read or committed; becomes P.
    pub published: NextOffset,
    /// Added to the position's counters.
    pub counts: Counts,
}

impl Move {
    /// Whether the transaction of this move was committed, judged by the epoch and offset at which its position is found.
    ///
    /// # Errors
    /// The same as [`Rows::settle`].
    pub fn settled(&self, found: Option<(i64, NextOffset)>) -> Result<bool, Fault> {
        match found {
            Some((epoch, next_offset)) if epoch == self.epoch && next_offset == self.to => Ok(true),
            Some((epoch, next_offset)) if epoch == self.epoch && next_offset == self.from => Ok(false),
            // Claimed since: the successor has read everything that was committed, and nothing of ours will be.
            Some((epoch, _)) if epoch > self.epoch => Ok(false),
            found => Err(Fault::corrupt(format!(
                "position of {}: found {found:?} as (epoch, next offset) where epoch {} with {} or {} was to be; was the database restored?",
                self.source, self.epoch, self.from, self.to
            ))),
        }
    }
}

/// A row as read.
#[derive(Clone, Debug, PartialEq)]
pub struct RowRead {
    /// Its id.
    pub key: Key,
    /// Its version; 0 where the table has no version column.
    pub version: i64,
    /// Its columns in the order of the [`TableSpec`].
    pub values: Vec<Value>,
}

/// A row to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct RowWrite {
    /// Whether it is there already, and stays.
    pub kind: WriteKind,
    /// Its id.
    pub key: Key,
    /// The version that was read; 0 where it was missing.
    pub from_version: i64,
    /// The new version: one more for each record that changed the row.
    pub to_version: i64,
    /// All columns in the order of the [`TableSpec`]; none where it is deleted.
    pub values: Vec<Value>,
}

/// The kind of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// The row was read, and has other values from now on.
    Update,
    /// The row was missing when it was read, and is inserted.
    Insert,
    /// The row was read, and is deleted.
    Delete,
}

/// Something decided and bound for a topic. Its bytes are final: publishing it again yields the same message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The source partition of the input.
    pub source: TopicPartition,
    /// The input.
    pub source_offset: Offset,
    /// Which of the input's rows, from 0.
    pub seq: i32,
    /// The incarnation of the source partition, part of the message's id.
    pub incarnation: i32,
    /// The topic that the message is published in.
    pub destination: TopicName,
    /// The message's key.
    pub key: Option<Vec<u8>>,
    /// The message's value.
    pub value: Option<Vec<u8>>,
    /// Headers of its own; id, type and time are derived from the other fields.
    pub headers: Vec<Header>,
    /// When it was decided; also the message's `ce_time`.
    pub created_at: Timestamp,
    /// The message's timestamp: a notice has the event time of its record. `None` for the moment it is published.
    pub timestamp: Option<Timestamp>,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictRow {
    /// The source partition of the input.
    pub source: TopicPartition,
    /// The input.
    pub source_offset: Offset,
    /// `updated`, `unchanged`, `skipped` or `dead-letter`.
    pub outcome: &'static str,
    /// The largest magnitude, where the filter is a named threshold.
    pub magnitude: Option<f64>,
    /// The threshold in force when it was decided.
    pub threshold: Option<f64>,
    /// The reject's code, where there is one.
    pub note: Option<String>,
}

/// The database of a pipeline without rows: nothing is ever asked of it.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoRows;

impl NoRows {
    fn refuse<T>() -> Result<T, Fault> {
        Err(Fault::fatal("a step asks for rows, and the pipeline was started without a database"))
    }
}

impl Rows for NoRows {
    fn bind(&mut self, tables: &[TableSpec]) -> Result<(), Fault> {
        if tables.is_empty() { Ok(()) } else { Self::refuse() }
    }

    fn claim(&mut self, _: &[Claim]) -> Result<Vec<Claimed>, Fault> {
        Self::refuse()
    }

    fn create(&mut self, _: &Claim, _: NextOffset) -> Result<bool, Fault> {
        Self::refuse()
    }

    fn outbox(&mut self, _: &TopicPartition, _: NextOffset, _: NextOffset, _: usize) -> Result<Vec<OutboxRow>, Fault> {
        Self::refuse()
    }

    fn begin(&mut self) -> Result<(), Fault> {
        Self::refuse()
    }

    fn advance(&mut self, _: &[Move]) -> Result<Vec<bool>, Fault> {
        Self::refuse()
    }

    fn read(&mut self, _: usize, _: &[Key]) -> Result<Vec<RowRead>, Fault> {
        Self::refuse()
    }

    fn write(&mut self, _: usize, _: &[RowWrite]) -> Result<(), WriteFault> {
        Ok(Self::refuse()?)
    }

    fn append(&mut self, _: &[OutboxRow]) -> Result<(), WriteFault> {
        Ok(Self::refuse()?)
    }

    fn redirect(&mut self, _: &[OutboxRow]) -> Result<usize, Fault> {
        Self::refuse()
    }

    fn record(&mut self, _: &[VerdictRow]) -> Result<(), WriteFault> {
        Ok(Self::refuse()?)
    }

    fn savepoint(&mut self) -> Result<(), Fault> {
        Self::refuse()
    }

    fn rollback_to_savepoint(&mut self) -> Result<(), Fault> {
        Self::refuse()
    }

    fn commit(&mut self) -> Result<CommitAnswer, Fault> {
        Self::refuse()
    }

    fn rollback(&mut self) {}

    fn settle(&mut self, _: &Move) -> Result<bool, Fault> {
        Self::refuse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Partition, TopicName};

    fn source() -> TopicPartition {
        TopicPartition::new(TopicName::parse("in").unwrap(), Partition(0))
    }

    #[test]
    fn a_transaction_is_settled_by_the_epoch_and_offset_of_its_position_and_by_nothing_else() {
        let (from, to, published) = (NextOffset(5), NextOffset(8), NextOffset(5));
        let advance = Move { source: source(), epoch: 3, from, to, published, counts: Counts::default() };
        let settled = |epoch, offset| advance.settled(Some((epoch, NextOffset(offset)))).ok();
        assert_eq!((settled(3, 8), settled(3, 5)), (Some(true), Some(false)));
        assert_eq!((settled(4, 8), settled(4, 9)), (Some(false), Some(false)), "claimed since");
        assert_eq!([settled(3, 6), settled(2, 5), settled(2, 8)], [None; 3], "an older database");
        assert!(advance.settled(None).is_err());
    }

    #[test]
    fn without_a_database_no_step_gets_or_leaves_anything() {
        let mut rows = NoRows;
        assert!(rows.bind(&[]).is_ok());
        assert!(rows.claim(&[]).is_err() && rows.begin().is_err() && rows.advance(&[]).is_err());
        assert!(rows.read(0, &[]).is_err() && rows.write(0, &[]).is_err() && rows.append(&[]).is_err());
        assert!(rows.redirect(&[]).is_err() && rows.record(&[]).is_err());
        assert!(rows.savepoint().is_err() && rows.rollback_to_savepoint().is_err() && rows.commit().is_err());
        assert!(rows.outbox(&source(), NextOffset(0), NextOffset(1), 1).is_err());
    }
}
