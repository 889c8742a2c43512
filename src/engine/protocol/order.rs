//! The two commit orders, as named steps. Nothing else in Tidegate knows them; the executor and the relay walk them and the
//! crash tests stop at each.
//!
//! **Through the database** (a step that reads and writes rows), invariant D >= K, "database first". One database
//! transaction moves the position by compare-and-set, locks and reads the rows, writes them, inserts the outbox rows,
//! commits. Only then one Kafka transaction carries the messages and, last, K. A worked failure: were K sent before the
//! messages were flushed, a late duplicate of a commit request (librdkafka retries EndTxn in silence) could move K past
//! messages that were never committed; they would be lost, because the algorithm is never run again. Sent last, the same
//! accident repeats messages of equal ids at worst. Where the step has stores, their changelog records are outbox rows and
//! messages like the others, and the stores are written after K was proved.
//!
//! **Through the log** (a step without rows): changelog, outputs and offsets in one Kafka transaction, and afterwards the
//! store's write batch.

use crate::ports::fault::Fault;

/// One step of a commit or of a takeover.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Step {
    /// Takeover: the position's epoch is raised.
    Claim,
    /// Takeover: K is read, stable, after the claim.
    ReadCommitted,
    /// Takeover: the messages of [K, D) are handed to the relay.
    PublishRemainder,
    /// A database transaction is opened.
    OpenDatabase,
    /// The positions are moved by compare-and-set.
    MovePosition,
    /// The rows are locked and read, and the algorithm has run.
    Apply,
    /// The rows are written.
    WriteRows,
    /// The outbox rows are inserted.
    WriteOutbox,
    /// The database transaction is committed: D has moved.
    CommitDatabase,
    /// A Kafka transaction is opened.
    OpenKafka,
    /// The messages (and changelog records) are queued.
    Produce,
    /// Every delivery is acknowledged.
    Flush,
    /// The offsets are added, last.
    SendOffsets,
    /// The Kafka transaction is committed: K has moved.
    CommitKafka,
    /// The store's write batch is written, where the step has one.
    WriteStore,
}

/// The order for steps with rows.
pub const THROUGH_DATABASE: [Step; 11] = [
    Step::OpenDatabase,
    Step::MovePosition,
    Step::Apply,
    Step::WriteRows,
    Step::WriteOutbox,
    Step::CommitDatabase,
    Step::OpenKafka,
    Step::Produce,
    Step::Flush,
    Step::SendOffsets,
    Step::CommitKafka,
];

/// The order for steps without rows.
pub const THROUGH_LOG: [Step; 7] =
    [Step::Apply, Step::OpenKafka, Step::Produce, Step::Flush, Step::SendOffsets, Step::CommitKafka, Step::WriteStore];

/// The order of a takeover, before the first batch.
pub const TAKEOVER: [Step; 3] = [Step::Claim, Step::ReadCommitted, Step::PublishRemainder];

/// A listener called after each step. A test stops the worker here; production does nothing.
pub trait Hook: Send + Sync {
    /// `step` has just been done.
    ///
    /// # Errors
    /// `Fatal` ends the worker at once, as a crash would: nothing is rolled back, closed or logged.
    fn after(&self, step: Step) -> Result<(), Fault>;
}

/// Lets every step pass.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHook;

impl Hook for NoHook {
    fn after(&self, _: Step) -> Result<(), Fault> {
        Ok(())
    }
}
