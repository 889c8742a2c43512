//! Failures of the log that a test provokes.

/// A failure to be provoked with [`MemoryLog::fail_next`](super::MemoryLog::fail_next): the next call of that kind fails like that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SinkFault {
    /// `begin` answers `Retry`.
    Begin,
    /// `send` answers `Retry`.
    Send,
    /// `flush` answers `Retry`: a delivery failed.
    Flush,
    /// `send_offsets` answers `Retry`.
    Offsets,
    /// `commit` answers `Retry`, although the transaction was committed if `is_applied`.
    Commit {
        /// Whether it was committed all the same.
        is_applied: bool,
    },
    /// `commit` answers Ok and leaves the producer tainted.
    Taint,
    /// `renew` answers `Retry`.
    Renew,
}
