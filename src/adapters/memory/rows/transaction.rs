//! An open transaction of the database model, and the tables that it goes to.

use crate::adapters::memory::database::TransactionId;
use crate::adapters::memory::tables::{Place, StoredRow, StoredTable};
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::ports::Fault;
use crate::ports::rows::{Move, OutboxRow, VerdictRow, WriteFault};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Bound {
    pub(super) name: String,
    /// Where the spec's columns lie among the table's.
    pub(super) places: Vec<Place>,
}

/// The changes of a transaction so far; nobody else sees them before its commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// `None` where a row is deleted.
    pub(super) rows: BTreeMap<(usize, Key), Option<StoredRow>>,
    pub(super) outbox: Vec<OutboxRow>,
    pub(super) redirected: Vec<OutboxRow>,
    pub(super) verdicts: Vec<VerdictRow>,
}

impl Changes {
    /// The rows of the table but for one, as the transaction has them.
    pub(super) fn others<'a>(
        &'a self,
        one: &'a (usize, Key),
        stored: &'a StoredTable,
    ) -> impl Iterator<Item = &'a StoredRow> {
        let unchanged = stored.rows.iter().filter(|(key, _)| !self.rows.contains_key(&(one.0, (*key).clone())));
        let changed = self.rows.iter().filter(|((table, _), _)| *table == one.0);
        let changed = changed.filter_map(|((_, key), row)| Some((key, row.as_ref()?)));
        unchanged.chain(changed).filter(|(key, _)| **key != one.1).map(|(_, row)| row)
    }
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) moves: Vec<Move>,
    pub(super) changes: Changes,
    pub(super) savepoint: Option<Changes>,
    /// After an error nothing but a rollback goes, as in Postgres.
    pub(super) is_failed: bool,
}

pub(super) fn bound(tables: &[Bound], table: usize) -> Result<&Bound, Fault> {
    tables.get(table).ok_or_else(|| Fault::fatal(format!("call out of order: table {table} is not bound")))
}

pub(super) fn refused(message: String) -> WriteFault {
    WriteFault::Rejected(Reject::dead_letter("constraint", message))
}
