//! Obstacles: what keeps an instance or a partition from its work although nothing is halted, in a form that log, status and
//! probes share.

/// The kind of an obstacle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ObstacleKind {
    /// The group does not take the instance in.
    NotAdmitted,
    /// A quota of the brokers slows the instance down.
    Throttled,
    /// A transaction of somebody else is open in a source, and the records behind it are not shown.
    OpenTransaction,
    /// A partition has records to take, and does not move.
    StandsStill,
    /// Decided messages are not published.
    NotPublishing,
    /// A source topic is gone.
    SourceGone,
    /// Every record of a source becomes a dead letter.
    AllRejected,
    /// A member of the group is no instance of this pipeline.
    ForeignMember,
}

impl ObstacleKind {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::NotAdmitted,
        Self::Throttled,
        Self::OpenTransaction,
        Self::StandsStill,
        Self::NotPublishing,
        Self::SourceGone,
        Self::AllRejected,
        Self::ForeignMember,
    ];

    /// The stable word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotAdmitted => "not-admitted",
            Self::Throttled => "throttled",
            Self::OpenTransaction => "open-transaction",
            Self::StandsStill => "stands-still",
            Self::NotPublishing => "not-publishing",
            Self::SourceGone => "source-gone",
            Self::AllRejected => "all-rejected",
            Self::ForeignMember => "foreign-member",
        }
    }

    /// The kind as a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NotAdmitted => "the group does not take this instance in",
            Self::Throttled => "the brokers slow this instance down",
            Self::OpenTransaction => "records are not shown to committed readers",
            Self::StandsStill => "partitions have records to take and do not move",
            Self::NotPublishing => "decided messages are not published",
            Self::SourceGone => "a source topic is gone, and nothing is read of it",
            Self::AllRejected => "every record of a source becomes a dead letter",
            Self::ForeignMember => "a member of the group is no instance of this pipeline",
        }
    }
}

/// The cause of an obstacle, and the next command or setting.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Reason {
    /// The cause as a sentence, the same as long as it lasts: numbers that grow are not part of it.
    pub cause: String,
    /// The next command or setting.
    pub next: String,
}

impl Reason {
    /// Both.
    #[must_use]
    pub fn new(cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { cause: cause.into(), next: next.into() }
    }
}

/// One obstacle.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Obstacle {
    /// Its kind.
    pub kind: ObstacleKind,
    /// The partitions, the topic or the client that it is about.
    pub about: String,
    /// Its cause and the next command.
    pub reason: Reason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_word_and_a_sentence_of_its_own() {
        let words: std::collections::BTreeSet<_> = ObstacleKind::ALL.map(ObstacleKind::label).into();
        let sentences: std::collections::BTreeSet<_> = ObstacleKind::ALL.map(ObstacleKind::sentence).into();
        assert_eq!((words.len(), sentences.len()), (ObstacleKind::ALL.len(), ObstacleKind::ALL.len()));
    }
}
