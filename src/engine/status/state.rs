//! The state of a task between assignment and work.

/// The state of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Raises the epochs of its positions.
    Claiming,
    /// A later generation holds a position: the revoke is on its way.
    Stale,
    /// Reads K, which may wait for a dead predecessor's transaction.
    ReadingCommitted,
    /// Waits until the relay has brought K to D.
    Publishing,
    /// Makes its stores whole from their changelogs.
    Restoring,
    /// Reads the records that its table topics held when it began, before the first record of its stream.
    CatchingUp,
    /// Takes records.
    Running,
    /// Is about to move: takes no more records.
    Leaving,
    /// Lost a compare-and-set: waits until the relay holds nothing of it any more.
    Draining,
    /// Cannot publish its decided messages: waits before it is taken over anew.
    PutOff,
    /// Waits for the relay's proof that the group still counts us in, before it claims again.
    Proving,
    /// Is halted until a person has decided.
    Halted,
}

impl State {
    /// The state in words.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Stale => "stale",
            Self::ReadingCommitted => "reading committed offset",
            Self::Publishing => "publishing",
            Self::Restoring => "restoring",
            Self::CatchingUp => "reading table topics",
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::PutOff => "waiting to publish",
            Self::Proving => "proving membership",
            Self::Halted => "halted",
        }
    }
}
