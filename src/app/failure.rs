//! Reasons for which a command ends early, and their text for the person in front of it.

use crate::app::exit::Exit;
use crate::ports::Fault;
use crate::settings::{Problems, Scrubber};
use std::io::{self, Write};

/// The reason for which a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The settings are wrong.
    Settings(Problems),
    /// The pipeline's code declares something impossible.
    Topology(Vec<String>),
    /// The servers are not as the pipeline needs them: every difference, a sentence each.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "only the service looks"))]
    Setup(Vec<String>),
    /// An error from Kafka or the database.
    Fault(Fault),
    /// Anything else, in one sentence.
    Message(String),
    /// Standard output is gone.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Writes it out without `secrets`, and returns the exit code.
    pub(crate) fn report(&self, out: &mut dyn Write, secrets: &Scrubber) -> Exit {
        let (text, exit) = match self {
            Self::Settings(problems) => (problems.to_string(), Exit::Misconfigured),
            Self::Topology(mistakes) => {
                (format!("pipeline: the declaration is wrong\n  {}", mistakes.join("\n  ")), Exit::Misconfigured)
            }
            Self::Setup(mistakes) => (mistakes.join("\n"), Exit::Misconfigured),
            Self::Message(text) => (text.clone(), Exit::Failed),
            Self::Fault(fault) => (fault.to_string(), Exit::Failed),
            // `tidegate demo | head`: the reader has what it wanted.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
            Self::Output(error) => (format!("output: {error}"), Exit::Failed),
        };
        // Sentences about settings quote no secret, and name what a wrong one looks like.
        let _ = match self {
            Self::Settings(_) => writeln!(out, "{text}"),
            _ => writeln!(out, "{}", secrets.scrub(&text)),
        };
        exit
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Settings(problems)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}
