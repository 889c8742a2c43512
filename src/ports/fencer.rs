//! Ends the transactions that dead instances have left open.

/// Who can fence the producers of others.
///
/// A process that dies between `TxnOffsetCommit` and `EndTxn` leaves K pending: nobody can read it before the transaction
/// ends. Left to the broker that takes the transaction's timeout and up to ten seconds more.
pub trait Fencer: Send + Sync {
    /// Begins to fence the producers of the instances that own nothing any more, unless that is under way already. Answers at
    /// once. An instance that lives after all loses a transaction and gets new producers.
    fn fence_dead(&self);
}
