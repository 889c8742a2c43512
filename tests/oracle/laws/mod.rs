//! The oracle's laws: a pure function from a history to what is wrong in it, each finding under the name of its anomaly.
//!
//! A law that is broken may break others behind it. Each finding is told once, under the name that comes nearest to its
//! cause: a message that is there twice is not also out of order, a record that changed nothing is not also unannounced.

pub mod chain;
mod decisions;
mod effects;
mod finding;
pub mod history;
mod index;
mod messages;
mod positions;
mod progress;
mod states;

pub use finding::{Anomaly, Finding};
pub use history::{
    Expect, Fate, History, Input, Link, Output, Position, Row, Sample, Source, SourceSample, States, Verdict,
};

use finding::Findings;
use index::Index;

/// Judges a history. Empty when nothing is wrong.
#[must_use]
pub fn judge(history: &History) -> Vec<Finding> {
    let index = Index::new(history);
    let mut out = Findings::default();
    positions::judge(history, &mut out);
    progress::judge(history, &mut out);
    effects::judge(history, &index, &mut out);
    decisions::judge(history, &index, &mut out);
    messages::judge(history, &index, &mut out);
    states::judge(history, &mut out);
    out.all
}

/// How many findings are told in full; all are counted.
const NAMED: usize = 20;

/// The findings for people: the first of them, how many of each anomaly, and what there was to judge.
#[must_use]
pub fn report(history: &History, findings: &[Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().take(NAMED).map(ToString::to_string).collect();
    for anomaly in Anomaly::ALL {
        let count = findings.iter().filter(|finding| finding.anomaly == *anomaly).count();
        if count > 0 {
            lines.push(format!("{count} times O{} {anomaly}: {}", anomaly.law(), anomaly.meaning()));
        }
    }
    lines.push(format!("{}: {} findings", history.summary(), findings.len()));
    lines.join("\n")
}
