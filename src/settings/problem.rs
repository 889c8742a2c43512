//! What is wrong with the settings, all of it at once.

use crate::settings::origin::Origin;
use std::fmt;

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The setting, for instance `engine.workers`; the file's name where the whole file is meant.
    pub path: String,
    /// The value as it was written; `None` where there is none, `***` where it is secret.
    pub value: Option<String>,
    /// What is wrong and what is allowed.
    pub message: String,
    /// Where it was written.
    pub origin: Origin,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {value:?}: {} ({})", self.path, self.message, self.origin),
            None => write!(f, "{}: {} ({})", self.path, self.message, self.origin),
        }
    }
}

/// All mistakes, in the order of the layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The mistakes one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub(super) fn add(
        &mut self,
        path: impl Into<String>,
        value: Option<String>,
        message: impl Into<String>,
        origin: Origin,
    ) {
        self.0.push(Problem { path: path.into(), value, message: message.into(), origin });
    }

    /// Adds those that are no echo of one that is there: the value in force is not the one that somebody wrote.
    pub(super) fn add_new(&mut self, others: Self) {
        let is_file_lost = self.0.iter().any(|problem| problem.path == "file");
        let is_echo = |new: &Problem| {
            let is_named = |known: &Problem| known.message.contains(&new.path) || new.message.contains(&known.path);
            self.0.iter().any(|known| known.path == new.path || is_named(known))
        };
        let new: Vec<_> = others.0.into_iter().filter(|new| !is_file_lost && !is_echo(new)).collect();
        self.0.extend(new);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Problem) -> bool) {
        self.0.retain(keep);
    }

    /// `Ok` when there are none.
    pub(super) fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "configuration: {count} {}", if count == 1 { "mistake" } else { "mistakes" })?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
