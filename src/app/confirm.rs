//! Asks before something is changed.

use crate::app::failure::Failure;
use std::io::{self, BufRead, IsTerminal, Write};

/// Asks on the terminal whether `question` may be done to `place`; without one nobody can be asked, and `command` fails. On
/// standard error: what a command prints is for whoever reads it.
pub(super) fn confirm(command: &str, question: &str, place: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::message(format!(
            "{command}: nobody can be asked here; use --yes to {question} without asking, to {place}"
        )));
    }
    let mut error = io::stderr().lock();
    write!(error, "to {place}\n{question}? [y/N] ")?;
    error.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
