//! Errors named by the caller's next action. They blame the surroundings; a [`Reject`] blames a record.

use crate::flow::effect::Reject;
use std::error::Error;
use std::fmt;

/// A failure, named by the caller's next action.
#[derive(Debug)]
pub enum Fault {
    /// Another owner holds the thing that we tried to change; nothing was changed. Drop the task quietly.
    Fenced(Cause),
    /// The data that were read cannot be true. Halt the partition and report it to a person.
    Corrupt(Cause),
    /// Nothing was changed, or the same change may be offered again without harm. Wait and offer the same thing again.
    Retry(Cause),
    /// No repetition will help: end the process with the message.
    Fatal(Cause),
}

/// A message and where it came from.
#[derive(Debug)]
pub struct Cause {
    message: String,
    is_lock_wait: bool,
    reject: Option<Box<Reject>>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// [`Fault::Fenced`] with a message.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::Fenced(Cause { message: message.into(), is_lock_wait: false, reject: None, source: None })
    }

    /// [`Fault::Corrupt`] with a message.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::Corrupt(Cause { message: message.into(), is_lock_wait: false, reject: None, source: None })
    }

    /// [`Fault::Retry`] with a message.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry(Cause { message: message.into(), is_lock_wait: false, reject: None, source: None })
    }

    /// [`Fault::Fatal`] with a message.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::Fatal(Cause { message: message.into(), is_lock_wait: false, reject: None, source: None })
    }

    /// [`Fault::Retry`]: a lock of another transaction was not released in time.
    pub fn locked(message: impl Into<String>) -> Self {
        Self::Retry(Cause { message: message.into(), is_lock_wait: true, reject: None, source: None })
    }

    /// [`Fault::Corrupt`]: a value was refused where no record is known to be to blame. If one is alone, it becomes the dead
    /// letter `reject`.
    #[must_use]
    pub fn refused(reject: Reject) -> Self {
        let (message, reject) = (reject.message().to_owned(), Some(Box::new(reject)));
        Self::Corrupt(Cause { message, is_lock_wait: false, reject, source: None })
    }

    /// The reject for the record that is to blame, should there be only one.
    #[must_use]
    pub fn reject(&self) -> Option<&Reject> {
        self.cause().reject.as_deref()
    }

    /// Whether a lock of another transaction is the cause.
    #[must_use]
    pub const fn is_lock_wait(&self) -> bool {
        self.cause().is_lock_wait
    }

    /// Keeps the error that this fault was made from.
    #[must_use]
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        let (Self::Fenced(cause) | Self::Corrupt(cause) | Self::Retry(cause) | Self::Fatal(cause)) = &mut self;
        cause.source = Some(Box::new(source));
        self
    }

    /// Whether the same call may be offered again.
    #[must_use]
    pub const fn is_retry(&self) -> bool {
        matches!(self, Self::Retry(_))
    }

    /// Whether another instance owns it.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced(_))
    }

    /// The word of docs/errors.md.
    #[cfg(all(test, feature = "kafka"))]
    pub(crate) const fn class(&self) -> &'static str {
        match self {
            Self::Fenced(_) => "Fenced",
            Self::Corrupt(_) => "Corrupt",
            Self::Retry(_) => "Retry",
            Self::Fatal(_) => "Fatal",
        }
    }

    const fn cause(&self) -> &Cause {
        let (Self::Fenced(cause) | Self::Corrupt(cause) | Self::Retry(cause) | Self::Fatal(cause)) = self;
        cause
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause();
        match &cause.source {
            Some(source) => write!(f, "{}: {source}", cause.message),
            None => f.write_str(&cause.message),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
