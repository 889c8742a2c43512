//! The anomalies by name, and the findings.

use std::fmt;

/// Names each anomaly once: its law (O1 to O14, docs/glossary.md), its variant, its word, what it means.
macro_rules! anomalies {
    ($($law:literal $variant:ident $word:literal $meaning:literal)*) => {
        /// A thing that can be wrong.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Anomaly {
            $(#[doc = $meaning] $variant,)*
        }

        impl Anomaly {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number of the law that it breaks.
            pub const fn law(self) -> u8 {
                match self { $(Self::$variant => $law,)* }
            }

            /// The word that reports use.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The meaning of the anomaly.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

anomalies! {
    1 RecordWithoutEffect "record-without-effect" "a record below D changed no row and is no dead letter"
    1 EffectTwice "effect-twice" "a record changed its row more than once"
    1 EffectWithoutRecord "effect-without-record" "a row was changed for a record that does not exist"
    1 EffectOnAnotherRow "effect-on-another-row" "a record changed another row than its own"
    1 EffectBeyondPosition "effect-beyond-position" "a row or outbox row was committed without its position"
    2 LostUpdate "lost-update" "two changes of one row began from the same state: one of them is gone"
    2 VersionGap "version-gap" "a row's changes are not numbered without a gap"
    2 ChainBroken "chain-broken" "a change does not follow from the one before it"
    2 RowVersionJump "row-version-jump" "a row's version is not the number of its changes"
    2 RowNotLastLink "row-not-last-link" "a row holds something else than its last change left"
    3 PassingNotAnnounced "passing-change-not-announced" "a change passed the filter and has no outbox row"
    3 FilteredAnnounced "filtered-change-announced" "a change that did not pass the filter was announced"
    3 NoticeWithoutChange "notice-without-change" "a notice tells of a change that no row has seen"
    3 ThresholdChanged "threshold-changed" "a notice names another threshold than its record was decided by"
    3 NoticeMissing "notice-missing" "an outbox row below K is not in its topic"
    4 NoticeTwice "notice-twice" "a committed reader finds an id twice"
    4 OutboxTwice "outbox-twice" "the outbox holds an id twice"
    4 AbortedVisible "aborted-visible" "a committed reader sees a record of a transaction that was aborted or is open"
    4 CommittedHidden "committed-hidden" "a committed reader does not see a record of a committed transaction"
    5 NoticeWithoutRecord "notice-without-record" "a notice names an input that does not exist"
    5 NoticeBeforeCommit "notice-before-commit" "a message was sent before the database had committed it"
    5 NoticeAltered "notice-altered" "a message differs from its outbox row"
    5 NoticeRecomputed "notice-recomputed" "a notice tells another result than the one committed: the algorithm ran again"
    5 NoticeOfAnotherVersion "notice-of-another-version" "a notice names another row version than its change made"
    5 TornTransaction "torn-transaction" "part of a transaction is visible and part is not"
    6 OutOfOrder "out-of-order" "a message stands behind a later one of its source partition"
    6 WrongPartition "wrong-partition" "a message lies in another partition than its key or source says"
    7 CommittedBeyondDecided "committed-beyond-decided" "K > D"
    7 PublishedBeyondCommitted "published-beyond-committed" "P > K"
    7 PositionMissing "position-missing" "a source partition that was read has no position row"
    7 PositionBeyondEnd "position-beyond-end" "D lies beyond the end of the log"
    7 NotDrained "not-drained" "after the drain K = D = end does not hold"
    7 TransactionOpen "transaction-open" "after the drain a transaction is open"
    7 OutboxRowLost "outbox-row-lost" "a message below K has no outbox row, and is not old enough to have none"
    7 OutboxKeptTooLong "outbox-kept-too-long" "a published outbox row is older than the outbox is kept"
    7 EpochBack "epoch-back" "a position's epoch went back"
    7 PositionBack "position-back" "D went back"
    7 CommittedBack "committed-back" "K went back"
    8 DecidedTwice "decided-twice" "two committed results of one record"
    8 DecisionMissing "decision-missing" "a record below D has no committed result"
    8 DecisionOfAnotherRun "decision-of-another-run" "the recorded result is not the one that changed the row"
    9 ChangelogDiffers "changelog-differs" "a changelog's last value is not what the inputs lead to"
    9 StoreDiffers "store-differs" "a store's value is not its changelog's"
    10 DeadLetterMissing "dead-letter-missing" "a record that nobody can use has no dead letter"
    10 DeadLetterUnexpected "dead-letter-unexpected" "a record that can be used became a dead letter"
    10 DeadLetterAndEffect "dead-letter-and-effect" "a record became a dead letter and changed a row all the same"
    10 EffectOfPoison "effect-of-poison" "a record that nobody can use changed a row"
    11 StableOffsetStuck "stable-offset-stuck" "an output's last stable offset did not move within 30 s of healing"
    12 PartitionStuck "partition-stuck" "a source partition's lag was not worked off within 60 s of healing"
    13 SessionIdle "session-idle" "a session was idle in a transaction for more than 10 s"
    13 LockWait "lock-wait" "a session waited for a lock for more than 5 s"
    14 AcceptedLost "accepted-lost" "a reading that its sender was told is accepted is in no input topic"
    14 AcceptedTwice "accepted-twice" "a reading that its sender was told is accepted is there twice"
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub anomaly: Anomaly,
    /// Where, with the numbers.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "O{} {}: {}", self.anomaly.law(), self.anomaly, self.what)
    }
}

/// Findings being gathered.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) all: Vec<Finding>,
}

impl Findings {
    pub(super) fn add(&mut self, anomaly: Anomaly, what: impl Into<String>) {
        self.all.push(Finding { anomaly, what: what.into() });
    }
}
