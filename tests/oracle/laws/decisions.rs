//! O3, O8: one committed result for each record, and the outbox holds what the filter makes of it.

use super::chain::magnitude_of;
use super::finding::{Anomaly, Findings};
use super::history::{Expect, History, Link, Verdict};
use super::index::{Index, Place};
use super::messages::nonce_of;
use std::collections::HashSet;
use tidegate::engine::outbound::message::{id_of, is_dead_letter, sequence_of};
use tidegate::flow::identity::{THRESHOLD_HEADER, VERSION_HEADER};
use tidegate::ports::rows::OutboxRow;

pub(super) fn judge(history: &History, index: &Index<'_>, out: &mut Findings) {
    for input in &history.inputs {
        let place = (input.place.clone(), input.offset);
        if index.is_decided(&place) != Some(true) {
            continue;
        }
        let name = format!("{}@{}", place.0, place.1);
        match index.verdicts(&place) {
            [] => out.add(Anomaly::DecisionMissing, name),
            [verdict] => {
                if let ([link], true) = (index.links(&place), verdict.is_change) {
                    of_change(index, &place, link, verdict, out);
                }
            }
            verdicts => out.add(Anomaly::DecidedTwice, format!("{name}: {} verdicts", verdicts.len())),
        }
    }
    let mut ids = HashSet::new();
    for row in history.outbox.iter().filter(|row| sequence_of(row).is_none()) {
        of_row(row, index, out);
        if !ids.insert(id_of(&history.pipeline, row)) {
            out.add(Anomaly::OutboxTwice, id_of(&history.pipeline, row));
        }
    }
}

/// Judges the effects of one change of one row.
fn of_change(index: &Index<'_>, place: &Place, link: &Link, verdict: &Verdict, out: &mut Findings) {
    let name = format!("{}@{}, row {}", place.0, place.1, link.id);
    let (Some(magnitude), Some(threshold)) = (verdict.magnitude, verdict.threshold) else {
        return out.add(Anomaly::DecisionOfAnotherRun, format!("{name}: its verdict has no magnitude"));
    };
    if magnitude.to_bits() != magnitude_of(link.nonce).to_bits() {
        let text = format!("{name}: magnitude {magnitude}, the row's nonce gives {}", magnitude_of(link.nonce));
        return out.add(Anomaly::DecisionOfAnotherRun, text);
    }
    let rows = index.notices(place);
    let told = format!("{name}: magnitude {magnitude}, threshold {threshold}");
    match (magnitude >= threshold, rows.is_empty()) {
        (false, true) => {}
        (false, false) => out.add(Anomaly::FilteredAnnounced, told),
        (true, true) => match (index.may_be_gone(place), index.is_told(place, false)) {
            (true, _) => {}
            (false, true) => out.add(Anomaly::OutboxRowLost, name),
            (false, false) => out.add(Anomaly::PassingNotAnnounced, told),
        },
        (true, false) => rows.iter().for_each(|row| of_notice(row, link, threshold, &name, out)),
    }
}

fn of_notice(row: &OutboxRow, link: &Link, threshold: f64, name: &str, out: &mut Findings) {
    let number = |header: &str| -> Option<f64> {
        let header = row.headers.iter().find(|other| other.name == header)?;
        std::str::from_utf8(header.value.as_deref()?).ok()?.parse().ok()
    };
    let nonce = nonce_of(row.value.as_deref());
    if nonce != Some(link.nonce) {
        out.add(Anomaly::NoticeRecomputed, format!("{name}: nonce {nonce:?}, the row was changed by {}", link.nonce));
    }
    if number(THRESHOLD_HEADER) != Some(threshold) {
        let named = number(THRESHOLD_HEADER);
        out.add(Anomaly::ThresholdChanged, format!("{name}: the notice names {named:?}, decided by {threshold}"));
    }
    if number(VERSION_HEADER) != Some(link.number as f64) {
        let named = number(VERSION_HEADER);
        out.add(Anomaly::NoticeOfAnotherVersion, format!("{name}: the notice names {named:?}, not {}", link.number));
    }
}

/// Whether an outbox row has a cause. A record that was to change its row and did not is reported elsewhere.
fn of_row(row: &OutboxRow, index: &Index<'_>, out: &mut Findings) {
    let place = (row.source.clone(), row.source_offset);
    let name = format!("{}@{}", place.0, place.1);
    let Some(input) = index.inputs.get(&place) else {
        let is_gone = index.sources.get(&place.0).is_some_and(|source| !source.start.is_before(place.1));
        if !is_gone {
            out.add(Anomaly::NoticeWithoutRecord, name);
        }
        return;
    };
    if index.is_decided(&place) == Some(false) {
        // A change beyond the position is reported instead of its message.
        if index.links(&place).is_empty() {
            out.add(Anomaly::EffectBeyondPosition, name);
        }
    } else if !is_dead_letter(row) && index.links(&place).is_empty() && input.expect == Expect::DeadLetter {
        out.add(Anomaly::NoticeWithoutChange, name);
    }
}
