//! O3 to O6 and O10: what the topics hold against what the database decided.

use super::chain::magnitude_of;
use super::finding::{Anomaly, Findings};
use super::history::{Expect, Fate, History, Output};
use super::index::{Index, Place, is_letter, place_of};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use tidegate::engine::audit::comparison::{Compared, Comparison, Standing, origin_of};
use tidegate::flow::key::partition_for;

pub(super) fn judge(history: &History, index: &Index<'_>, out: &mut Findings) {
    let torn = torn(history, out);
    let sources = &history.sources;
    let committed = sources.iter().filter_map(|source| Some((source.place.clone(), source.committed?)));
    let decided = sources.iter().filter_map(|source| Some((source.place.clone(), source.decided()?)));
    let mut comparison = Comparison::new(&history.pipeline, committed.collect());
    history.outbox.iter().for_each(|row| comparison.expect(row));
    comparison.expected_all(decided.collect());

    for output in &history.outputs {
        let Some(place) = place_of(&history.pipeline, output) else { continue };
        let name = name_of(output);
        if !output.transaction.is_some_and(|transaction| torn.contains(&transaction)) {
            match (output.fate, output.is_visible) {
                (Fate::Aborted | Fate::Open, true) => out.add(Anomaly::AbortedVisible, &name),
                (Fate::Committed, false) => out.add(Anomaly::CommittedHidden, &name),
                _ => {}
            }
        }
        if output.fate == Fate::Committed && output.is_visible {
            if let Some(compared) = comparison.find(&output.topic, &output.found) {
                of_visible(output, &place, &compared, index, out);
            }
            is_in_its_partition(history, output, &place, out);
        } else if index.is_decided(&place) == Some(false) {
            out.add(Anomaly::NoticeBeforeCommit, format!("{name}: an attempt"));
        }
    }
    let hidden = hidden(history, &torn);
    for (id, topic) in comparison.missing().into_iter().filter(|(id, _)| !hidden.contains(id)) {
        let place = origin_of(&history.pipeline, id).map(|origin| (origin.source, origin.offset));
        let is_letter = place.is_some_and(|place| !index.letters(&place).is_empty());
        let anomaly = if is_letter { Anomaly::DeadLetterMissing } else { Anomaly::NoticeMissing };
        out.add(anomaly, format!("{id} in {topic}"));
    }
}

/// The algorithm's random draw, from a notice.
pub(super) fn nonce_of(value: Option<&[u8]>) -> Option<i64> {
    #[derive(Deserialize)]
    struct Notice {
        nonce: i64,
    }
    serde_json::from_slice::<Notice>(value?).ok().map(|notice| notice.nonce)
}

fn name_of(output: &Output) -> String {
    let (topic, found) = (&output.topic, &output.found);
    format!("{topic}-{}@{} {}", found.partition, found.offset, found.id().unwrap_or("without an id"))
}

fn of_visible(output: &Output, place: &Place, compared: &Compared, index: &Index<'_>, out: &mut Findings) {
    let name = name_of(output);
    if compared.is_repeated {
        out.add(Anomaly::NoticeTwice, &name);
    } else if compared.is_out_of_order {
        out.add(Anomaly::OutOfOrder, &name);
    }
    if compared.is_altered {
        let row = index.notices(place).iter().find(|row| row.seq == compared.origin.seq);
        let (told, decided) = (nonce_of(output.found.value.as_deref()), row.map(|row| nonce_of(row.value.as_deref())));
        let is_recomputed = told.is_some() && decided.is_some_and(|decided| decided != told);
        let anomaly = if is_recomputed { Anomaly::NoticeRecomputed } else { Anomaly::NoticeAltered };
        out.add(anomaly, format!("{name}: nonce {told:?}, decided {decided:?}"));
    }
    if compared.standing != Standing::Kept {
        return without_row(output, place, compared.standing, index, out);
    }
    let k = index.sources.get(&place.0).and_then(|source| source.committed);
    if k.is_none_or(|k| k.is_before(place.1)) {
        out.add(Anomaly::TornTransaction, format!("{name}: it is visible, and K is {k:?}"));
    }
}

/// A message that has no row in the outbox. Whether a row that ought to be there is lost, is asked of the changes.
fn without_row(output: &Output, place: &Place, standing: Standing, index: &Index<'_>, out: &mut Findings) {
    let name = name_of(output);
    let Some(input) = index.inputs.get(place) else {
        let is_gone = index.sources.get(&place.0).is_some_and(|source| !source.start.is_before(place.1));
        if !is_gone {
            out.add(Anomaly::NoticeWithoutRecord, name);
        }
        return;
    };
    if standing == Standing::NotDecided {
        return out.add(Anomaly::NoticeBeforeCommit, name);
    }
    match (index.links(place), index.verdicts(place)) {
        ([link], [verdict]) if verdict.threshold.is_some_and(|limit| magnitude_of(link.nonce) < limit) => {
            out.add(Anomaly::FilteredAnnounced, name);
        }
        ([], _) if input.expect == Expect::DeadLetter && !is_letter(output) => {
            out.add(Anomaly::NoticeWithoutChange, name);
        }
        _ => {}
    }
}

/// A dead letter lies where its source lies, anything else where its key says.
fn is_in_its_partition(history: &History, output: &Output, place: &Place, out: &mut Findings) {
    let Some(count) = history.output_partitions.get(&output.topic) else { return };
    let expected = if is_letter(output) {
        place.0.partition.0
    } else {
        partition_for(output.found.key.as_deref().unwrap_or_default(), *count)
    };
    if expected != output.found.partition {
        out.add(Anomaly::WrongPartition, format!("{}: belongs into {expected}", name_of(output)));
    }
}

/// The transactions that ended one way in one partition and another way in another.
fn torn(history: &History, out: &mut Findings) -> HashSet<u64> {
    let mut fates: HashMap<u64, Vec<&Output>> = HashMap::new();
    for output in &history.outputs {
        if let Some(transaction) = output.transaction {
            fates.entry(transaction).or_default().push(output);
        }
    }
    fates
        .retain(|_, outputs| outputs.iter().any(|output| Some(output.fate) != outputs.first().map(|first| first.fate)));
    for (transaction, outputs) in &fates {
        let visible = outputs.iter().filter(|output| output.is_visible).count();
        let text = format!("transaction {transaction}: {visible} of {} are visible", outputs.len());
        out.add(Anomaly::TornTransaction, text);
    }
    fates.into_keys().collect()
}

/// The ids of messages that are there and that no committed reader sees, for a cause that is reported already.
fn hidden<'h>(history: &'h History, torn: &HashSet<u64>) -> HashSet<&'h str> {
    let is_told = |output: &&Output| {
        let is_torn = output.transaction.is_some_and(|transaction| torn.contains(&transaction));
        is_torn || (output.fate == Fate::Committed && !output.is_visible)
    };
    history.outputs.iter().filter(is_told).filter_map(|output| output.found.id()).collect()
}
