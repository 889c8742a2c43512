//! The effects of one record: an algorithm's answers, and the form in which the engine carries them out.

use crate::flow::notice::Envelope;
use crate::flow::record::{Offset, Timestamp, TopicName};
use crate::flow::row::Value;
use std::borrow::Cow;

/// The code of a record, or timer, over which too many processes have died.
pub(crate) const KILLS: &str = "kills-the-process";
/// The code of one whose step takes longer than the database lets a transaction idle.
pub(crate) const TOO_SLOW: &str = "too-slow";

/// Why a record changed nothing. It blames the record, never the surroundings, and the stream goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reject {
    /// The record goes to the dead-letter topic of its source, with the code and the message in its headers.
    DeadLetter {
        /// A stable word for machines, for instance `bad-json`.
        code: Cow<'static, str>,
        /// One line for people: no stack, no secrets.
        message: String,
    },
    /// The record cannot be read: its source says by [`OnUnreadable`](crate::flow::OnUnreadable) what comes of it, a dead letter
    /// where nothing is said.
    Unreadable {
        /// A stable word for machines, for instance `bad-json`.
        code: Cow<'static, str>,
        /// One line for people: no stack, no secrets.
        message: String,
    },
    /// Nothing is emitted and nothing is written; the verdict keeps the code.
    Skip {
        /// A stable word for machines.
        code: Cow<'static, str>,
    },
    /// Not now: the record is offered again after a pause, a bounded number of times, and its partition waits for it.
    /// When the bound is reached it becomes a dead letter with this code.
    Retry {
        /// A stable word for machines.
        code: Cow<'static, str>,
        /// One line for people.
        message: String,
    },
}

impl Reject {
    /// A dead letter with the code `rejected`.
    pub fn new(message: impl Into<String>) -> Self {
        Self::dead_letter("rejected", message)
    }

    /// A dead letter with a code of its own.
    pub fn dead_letter(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::DeadLetter { code: code.into(), message: message.into() }
    }

    /// The record cannot be read: for an algorithm that takes its values apart itself.
    pub fn unreadable(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Unreadable { code: code.into(), message: message.into() }
    }

    /// Emit nothing, change nothing, go on.
    pub fn skip(code: impl Into<Cow<'static, str>>) -> Self {
        Self::Skip { code: code.into() }
    }

    /// Offer the record again later.
    pub fn retry(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Retry { code: code.into(), message: message.into() }
    }

    /// The stable word.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::DeadLetter { code, .. }
            | Self::Unreadable { code, .. }
            | Self::Skip { code }
            | Self::Retry { code, .. } => code,
        }
    }

    /// Whether it says that a run of the user's code ends the process, or outlasts its transaction: it is not run once more.
    pub(crate) fn ends_runs(&self) -> bool {
        [KILLS, TOO_SLOW].contains(&self.code())
    }

    /// The sentence for people; empty for a skip.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::DeadLetter { message, .. } | Self::Unreadable { message, .. } | Self::Retry { message, .. } => {
                message
            }
            Self::Skip { .. } => "",
        }
    }

    /// Why a partition halts in front of the record at `offset`.
    pub(crate) fn told_of(&self, offset: Offset) -> String {
        format!("offset {offset}: {} ({}); it had no effect", self.message(), self.code())
    }
}

/// One notice that passed the filter, encoded and bound for a topic.
#[derive(Clone, PartialEq, Debug)]
pub struct Emission {
    /// The topic that the notice is published in.
    pub destination: TopicName,
    /// The encoded notice; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The notice's own key, time and headers; `None` where it has none.
    pub envelope: Option<Box<Envelope>>,
    /// The media type of the format that it is encoded in.
    pub content_type: &'static str,
    /// The threshold it was measured against, where the filter is a named threshold.
    pub threshold: Option<f64>,
}

impl Emission {
    /// Gives it this time, in milliseconds since 1970, UTC, where it has none of its own.
    pub(crate) fn stamp(&mut self, at_ms: Option<i64>) {
        if let Some(at_ms) = at_ms {
            self.envelope.get_or_insert_default().timestamp.get_or_insert(Timestamp(at_ms));
        }
    }
}

/// What a record makes of its row.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum RowChange {
    /// It stays as it is: there, or missing.
    #[default]
    Kept,
    /// It has these values from now on. Where it was missing it is a new row.
    Set(Vec<Value>),
    /// It is deleted.
    Deleted,
}

/// The result of applying one record to one row.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Applied {
    /// What becomes of the row.
    pub row: RowChange,
    /// The notices that passed the filter, in the order the algorithm returned them.
    pub emissions: Vec<Emission>,
    /// The largest magnitude among the notices, passed or not, where the filter is a named threshold.
    pub magnitude: Option<f64>,
    /// The threshold in force when the record was decided.
    pub threshold: Option<f64>,
    /// Whether the record was too late for its windows, and went to the topic of such records.
    pub is_late: bool,
}

/// The result of one record in a step without rows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stepped {
    /// The notices that passed the filter, in the order the algorithm returned them.
    pub emissions: Vec<Emission>,
    /// The keys under which the record goes on, value and headers as they are: a change of key, or a copy under its own.
    pub sent_on: Keys,
    /// Whether the record was too late for its windows, and went to the topic of such records.
    pub is_late: bool,
    /// The panes of windows that were given out, in their order, behind the notices.
    pub panes: Vec<Pane>,
}

/// A window that was given out once. It stands or falls by itself, whatever comes of its record and of other panes.
#[derive(Clone, PartialEq, Debug)]
pub struct Pane {
    /// Its first millisecond, since 1970, UTC.
    pub start_ms: i64,
    /// The millisecond behind its last one.
    pub end_ms: i64,
    /// Its notices that passed the filter, or why it cannot be told.
    pub told: Result<Vec<Emission>, Reject>,
}

/// What an algorithm has answered, by the parts that stand or fall each by itself.
#[derive(Debug)]
pub enum Parts<N: IntoIterator> {
    /// All notices together.
    Whole(N),
    /// The panes of windows.
    Panes(Vec<GivenOut<N::Item>>),
}

/// The notices of one pane of a window, before the filter; or why there are none.
#[derive(Debug)]
pub struct GivenOut<N> {
    /// Its first millisecond, since 1970, UTC.
    pub start_ms: i64,
    /// The millisecond behind its last one.
    pub end_ms: i64,
    /// The time of those of its notices that have none of their own; `None` for that of the record or timer.
    pub at_ms: Option<i64>,
    /// Its notices.
    pub notices: Result<Vec<N>, Reject>,
}

/// The keys of one record, in the order they were given; `None` for a copy without one. The first needs no list of its own:
/// nearly every record has one.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Keys {
    first: Option<CopyKey>,
    more: Vec<CopyKey>,
}

/// The key of one copy, where it has one.
#[derive(Clone, PartialEq, Debug)]
struct CopyKey(Option<Vec<u8>>);

impl Keys {
    /// Each key.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.first.iter().chain(&self.more).map(|key| key.0.as_deref())
    }
}

impl FromIterator<Option<Vec<u8>>> for Keys {
    fn from_iter<I: IntoIterator<Item = Option<Vec<u8>>>>(keys: I) -> Self {
        let mut keys = keys.into_iter().map(CopyKey);
        Self { first: keys.next(), more: keys.collect() }
    }
}
