//! The outcome of a decided batch: the progress of each share, the messages, and the verdicts.

use crate::engine::outbound::message::dead_letter;
use crate::engine::protocol::decision::HaltReason;
use crate::engine::status::Held;
use crate::engine::worker::rows::batch::Batch;
use crate::engine::worker::rows::entry::{Decided, Entry, Place};
use crate::engine::worker::rows::terms::Terms;
use crate::flow::effect::Reject;
use crate::flow::record::{Offset, Timestamp};
use crate::flow::window::LATE;
use crate::ports::rows::{Counts, OutboxRow, VerdictRow};

/// The progress of one share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Records decided, from the first one on.
    pub(crate) records: usize,
    /// The reason why it stopped before its end.
    pub(crate) retry: Option<String>,
    /// The reason why its partition halts in front of the next record.
    pub(crate) halt: Option<(HaltReason, String)>,
    /// Records that could not be read and are skipped, and why.
    pub(crate) unreadable: Vec<(Offset, Reject)>,
    pub(crate) counts: Counts,
    /// Records that changed, made or deleted their row.
    pub(crate) changed: i64,
    pub(crate) held: Held,
    /// Timers that fired behind them.
    pub(crate) fired: usize,
}

impl Held {
    fn note(&mut self, entry: &Entry<'_>) {
        match entry.place {
            Place::Unchecked => {}
            Place::There => {
                self.there.0 += 1;
                self.there.1 += entry.record.bytes() as u64;
            }
            Place::Elsewhere(expected) => self.elsewhere.push((entry.record.offset, expected)),
        }
    }
}

impl Batch<'_> {
    /// The progress of each share, in their order: up to its first record that is not decided.
    pub(super) fn reached(&self) -> Vec<Reached> {
        let mut open: Vec<bool> = vec![true; self.shares.len()];
        let mut out: Vec<Reached> = self.shares.iter().map(|_| Reached::default()).collect();
        for entry in &self.entries {
            let (Some(reached), Some(open)) = (out.get_mut(entry.share), open.get_mut(entry.share)) else { continue };
            let Some(share) = self.shares.get(entry.share).filter(|_| *open) else { continue };
            let counts = &mut reached.counts;
            match &entry.decided {
                Decided::Waiting => {
                    *open = false;
                    reached.halt = share.halt(entry);
                    if reached.halt.is_some() {
                        reached.held.note(entry);
                    } else if let Err(Reject::Retry { code, .. }) = &entry.key {
                        reached.retry = Some(code.clone().into_owned());
                    }
                    continue;
                }
                Decided::Applied { is_changed, rise, notice_count, is_late, .. } => {
                    counts.late += i64::from(*is_late);
                    counts.row_changes += rise;
                    reached.changed += i64::from(*is_changed);
                    counts.announced += notice_count;
                }
                Decided::Skipped(code) => {
                    counts.late += i64::from(share.may_be_late && code == LATE);
                    counts.skipped += 1;
                }
                Decided::Unreadable(reject) => {
                    counts.skipped += 1;
                    reached.unreadable.push((entry.record.offset, reject.clone()));
                }
                Decided::Dead(reject) => {
                    counts.late += i64::from(share.may_be_late && reject.code() == LATE);
                    counts.dead_letters += 1;
                }
            }
            if let Some(rung) = &entry.rung {
                *counts += rung.counts;
                reached.changed += rung.changed;
                reached.fired += rung.fired;
            }
            counts.records += 1;
            reached.records += 1;
            reached.held.note(entry);
        }
        out
    }

    /// The messages, in publication order within each source partition, with the inputs' timestamps.
    pub(super) fn outbox(&mut self) -> (Vec<OutboxRow>, Vec<Timestamp>) {
        let mut rows = Vec::new();
        let mut timestamps = Vec::new();
        for entry in &mut self.entries {
            let Some(share) = self.shares.get(entry.share) else { continue };
            match &mut entry.decided {
                Decided::Applied { notices, .. } => rows.append(notices),
                Decided::Dead(reject) => {
                    let Terms { pipeline, limits, now, .. } = self.terms;
                    let (source, incarnation) = (share.source, share.incarnation);
                    rows.push(dead_letter(pipeline, limits, source, incarnation, &entry.record, reject, *now));
                }
                Decided::Waiting | Decided::Skipped(_) | Decided::Unreadable(_) => {}
            }
            if let Some(rung) = &mut entry.rung {
                rows.append(&mut rung.rows);
            }
            timestamps.resize(rows.len(), entry.record.timestamp);
        }
        (rows, timestamps)
    }

    /// The ledger's lines; empty unless verdicts are kept.
    pub(super) fn verdicts(&self) -> Vec<VerdictRow> {
        if !self.terms.keeps_verdicts {
            return Vec::new();
        }
        let line = |entry: &Entry<'_>| {
            let share = self.shares.get(entry.share)?;
            let (outcome, magnitude, threshold, note) = match &entry.decided {
                Decided::Waiting => return None,
                Decided::Applied { is_changed: true, magnitude, threshold, .. } => {
                    ("updated", *magnitude, *threshold, None)
                }
                Decided::Applied { magnitude, threshold, .. } => ("unchanged", *magnitude, *threshold, None),
                Decided::Skipped(code) => ("skipped", None, None, Some(code.clone())),
                Decided::Unreadable(reject) => ("skipped", None, None, Some(reject.code().to_owned())),
                Decided::Dead(reject) => ("dead-letter", None, None, Some(reject.code().to_owned())),
            };
            let (source, source_offset) = (share.source.clone(), entry.record.offset);
            // A code of the algorithm's own may hold a character that no text column holds.
            let note = note.map(|note| note.replace('\0', "\u{fffd}"));
            Some(VerdictRow { source, source_offset, outcome, magnitude, threshold, note })
        };
        self.entries.iter().filter_map(line).collect()
    }
}
