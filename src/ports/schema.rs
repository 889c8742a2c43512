//! Tidegate's own tables: creating them, looking after them, and the names of producers.

use crate::flow::table::Table;
use crate::ports::fault::Fault;
use std::time::Duration;

/// Work on the schema, done by commands and by one maintenance thread; calls block.
pub trait Schema: Send {
    /// Creates or upgrades Tidegate's tables, each migration in one transaction, under a lock against a second runner.
    /// Answers the names of the migrations that were applied.
    ///
    /// # Errors
    /// `Fatal` with the migration's name, or when the database is read-only; `Retry` when it did not answer.
    fn migrate(&mut self) -> Result<Vec<String>, Fault>;

    /// Checks that the tables are as this release expects.
    ///
    /// # Errors
    /// `Fatal` with the command to run.
    fn verify(&mut self) -> Result<(), Fault>;

    /// Notes, once and for ever, the sum of row versions at which the pipeline started, as the audit's base line.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn note_baseline(&mut self, table: &Table) -> Result<(), Fault>;

    /// Creates outbox partitions ahead of time and drops those that are older than the retention *and* wholly below P of
    /// every source partition.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn maintain(&mut self) -> Result<Maintained, Fault>;

    /// Leases the lowest free slot for `owner`, or `preferred` if given, and answers its number.
    ///
    /// # Errors
    /// `Retry` when the database did not answer or the preferred slot is leased by another instance.
    fn lease_slot(&mut self, owner: &str, preferred: Option<u32>, term: Duration) -> Result<u32, Fault>;

    /// Extends the lease; answers false when another instance has it.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn renew_slot(&mut self, slot: u32, owner: &str, term: Duration) -> Result<bool, Fault>;

    /// Gives the lease back.
    fn release_slot(&mut self, slot: u32, owner: &str);
}

/// The result of maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Outbox partitions created.
    pub created: usize,
    /// Outbox partitions dropped, or ranges deleted where the database has no partitions.
    pub dropped: usize,
}
