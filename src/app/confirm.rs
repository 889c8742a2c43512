//! Asks before something is changed.

use crate::app::failure::Failure;
use std::io::{self, BufRead, IsTerminal, Write};

/// Asks on the terminal; without one nobody can be asked, and `command` fails.
pub(super) fn confirm(command: &str, question: &str, out: &mut dyn Write) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::message(format!(
            "{command}: nobody can be asked here; use --yes to {question} without asking"
        )));
    }
    write!(out, "{question}? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
