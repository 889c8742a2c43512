//! The oracle's laws: a pure function from a history to what is wrong in it, each finding under the name of its anomaly.
//!
//! A law that is broken may break others behind it. Each finding is reported once, under the name that comes nearest to
//! its cause: a message that is there twice is not also out of order, a record that changed nothing is not also
//! unannounced.

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

/// The anomalies that cannot occur in a history, whatever Tidegate did, since it has no data about them. A report names
/// them, so that nobody takes an anomaly that was not looked for as one that is absent.
#[must_use]
pub fn idle(history: &History) -> Vec<Anomaly> {
    use Anomaly::{
        AcceptedLost, AcceptedTwice, ChangelogDiffers, CommittedBack, EpochBack, LockWait, NoticeBeforeCommit,
        OutboxKeptTooLong, PartitionStuck, PositionBack, SessionIdle, StableOffsetStuck, StoreDiffers,
    };
    let mut out = Vec::new();
    let mut unless = |is_told: bool, anomalies: &[Anomaly]| {
        if !is_told {
            out.extend_from_slice(anomalies);
        }
    };
    // Where D is the log's end every message has its commit.
    let is_under_way = |source: &Source| source.position.is_none_or(|position| position.decided < source.end);
    unless(history.sources.iter().any(is_under_way), &[NoticeBeforeCommit]);
    let oldest = history.outbox.iter().map(|row| row.created_at.0).min();
    unless(oldest.is_some_and(|at| history.read_at_ms - at > history.outbox_kept_ms), &[OutboxKeptTooLong]);
    let states = &history.states;
    unless(!states.replayed.is_empty() || !states.changelog.is_empty(), &[ChangelogDiffers]);
    unless(states.stores.is_some(), &[StoreDiffers]);
    unless(history.healed_at_ms.is_some() && !history.samples.is_empty(), &[StableOffsetStuck, PartitionStuck]);
    unless(history.samples.len() > 1, &[EpochBack, PositionBack, CommittedBack]);
    unless(!history.samples.is_empty(), &[SessionIdle, LockWait]);
    unless(!history.accepted.is_empty(), &[AcceptedLost, AcceptedTwice]);
    out
}

/// Number of findings reported in full; all are counted.
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
    let idle: Vec<&str> = idle(history).into_iter().map(Anomaly::word).collect();
    if !idle.is_empty() {
        lines.push(format!("nothing to judge of {}", idle.join(", ")));
    }
    lines.push(format!("{}: {} findings", history.summary(), findings.len()));
    lines.join("\n")
}
