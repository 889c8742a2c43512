//! A difference between the engine and the interpreter, and the kinds of them.

/// A difference between the engine and the interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable word, by which a schedule that is being shrunk is still the same finding.
    pub kind: &'static str,
    /// A sentence with the numbers.
    pub detail: String,
}

macro_rules! kinds {
    ($($kind:ident $word:literal)*) => {
        /// The kinds of findings.
        #[derive(Clone, Copy)]
        pub(super) enum Wrong { $($kind),* }

        impl Wrong {
            const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word),* }
            }
        }

        /// The kind of every finding that [`Observed::judge`](crate::testing::Observed::judge) can come to.
        pub const KINDS: &[&str] = &[$($word),*];
    };
}

kinds! {
    Order "order"
    WronglyKeyed "wrongly-keyed"
    Row "row"
    RowType "row-type"
    RowVersion "row-version"
    Topic "topic"
    NoticeMissing "notice-missing"
    DeadLetterMissing "dead-letter-missing"
    MessageTwice "message-twice"
    MessageUnexpected "message-unexpected"
    MessagePartition "message-partition"
    MessageKey "message-key"
    NoticeValue "notice-value"
    NoticeVersion "notice-version"
    NoticeTime "notice-time"
    NoticeHeader "notice-header"
    DeadLetterCode "dead-letter-code"
    DeadLetterValue "dead-letter-value"
    DeadLetterHeader "dead-letter-header"
    ForeignHeader "foreign-header"
    RecordMissing "record-missing"
    RecordOrder "record-order"
    RecordUnexpected "record-unexpected"
    MessageOrder "message-order"
    Store "store"
    StoreExpired "store-expired"
    StoreChangelog "store-changelog"
    Clock "clock"
    Progress "progress"
    Halt "halt"
    MustStand "must-stand"
    Ended "ended"
    Ledger "ledger"
    Outbox "outbox"
    OpenTransaction "open-transaction"
}

pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, kind: Wrong, detail: impl Into<String>) {
        self.0.push(Finding { kind: kind.word(), detail: detail.into() });
    }
}
