//! Ends the transactions that dead instances have left open.

/// Fences the producers of other instances.
///
/// A process that dies between `TxnOffsetCommit` and `EndTxn` leaves K pending: nobody can read it before the transaction
/// ends. If that is left to the broker, it takes the transaction's timeout and up to ten seconds more.
pub trait Fencer: Send + Sync {
    /// Begins to fence the producers of the instances that own nothing any more, unless that is under way already. Answers at
    /// once. An instance that lives after all loses a transaction and gets new producers.
    fn fence_dead(&self);
}
