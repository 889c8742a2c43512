//! O1, O2, O10: each accepted record changes its row once, and each row is the end of an unbroken chain of changes; each
//! record that nobody can use becomes a dead letter and changes nothing.

use super::chain::chained;
use super::finding::{Anomaly, Findings};
use super::history::{Expect, History, Input, Link, Row};
use super::index::{Index, Place};
use std::collections::BTreeMap;

pub(super) fn judge(history: &History, index: &Index<'_>, out: &mut Findings) {
    for input in &history.inputs {
        let place = (input.place.clone(), input.offset);
        if index.is_decided(&place) == Some(true) {
            of_input(input, &place, index, out);
        }
    }
    let mut chains: BTreeMap<i64, Vec<&Link>> = BTreeMap::new();
    for link in &history.links {
        has_record(link, index, out);
        chains.entry(link.id).or_default().push(link);
    }
    let rows: BTreeMap<i64, &Row> = history.rows.iter().map(|row| (row.id, row)).collect();
    for (id, chain) in &mut chains {
        chain.sort_by_key(|link| link.number);
        of_chain(*id, chain, out);
        if !rows.contains_key(id) {
            out.add(Anomaly::RowNotLastLink, format!("row {id} is gone, it has {} changes", chain.len()));
        }
    }
    for row in &history.rows {
        of_row(row, chains.get(&row.id).map_or(&[], Vec::as_slice), out);
    }
}

fn of_input(input: &Input, place: &Place, index: &Index<'_>, out: &mut Findings) {
    let name = format!("{}@{}", place.0, place.1);
    let (links, letters) = (index.links(place), index.letters(place));
    match (input.expect, links, letters.is_empty()) {
        (Expect::Change(_), [], true) => out.add(Anomaly::RecordWithoutEffect, name),
        (Expect::Change(_), [], false) => out.add(Anomaly::DeadLetterUnexpected, name),
        (_, [_, ..], false) => out.add(Anomaly::DeadLetterAndEffect, name),
        (Expect::DeadLetter, [_, ..], true) => out.add(Anomaly::EffectOfPoison, name),
        (Expect::DeadLetter, [], true) if index.may_be_gone(place) => {}
        (Expect::DeadLetter, [], true) if index.is_told(place, true) => out.add(Anomaly::OutboxRowLost, name),
        (Expect::DeadLetter, [], true) => out.add(Anomaly::DeadLetterMissing, name),
        (Expect::DeadLetter, [], false) => {}
        (Expect::Change(id), links, true) => {
            if links.len() > 1 {
                out.add(Anomaly::EffectTwice, format!("{name}: {} changes", links.len()));
            }
            if let Some(link) = links.iter().find(|link| link.id != id) {
                out.add(Anomaly::EffectOnAnotherRow, format!("{name}: row {} in place of {id}", link.id));
            }
        }
    }
}

/// Records below the log's start were there once.
fn has_record(link: &Link, index: &Index<'_>, out: &mut Findings) {
    let place = (link.place.clone(), link.offset);
    let name = format!("row {}, change {}: {}@{}", link.id, link.number, link.place, link.offset);
    let Some(source) = index.sources.get(&link.place) else {
        return out.add(Anomaly::EffectWithoutRecord, name);
    };
    if !index.inputs.contains_key(&place) && !source.start.is_before(link.offset) {
        return;
    }
    if !index.inputs.contains_key(&place) {
        out.add(Anomaly::EffectWithoutRecord, name);
    } else if index.is_decided(&place) == Some(false) {
        out.add(Anomaly::EffectBeyondPosition, name);
    }
}

/// `chain` is sorted by number. After a lost update two links bear one number, and the next may follow from either.
fn of_chain(id: i64, chain: &[&Link], out: &mut Findings) {
    let mut before = vec![0];
    let mut number = 0;
    for same in chain.chunk_by(|one, next| one.number == next.number) {
        let Some(first) = same.first() else { continue };
        if same.len() > 1 {
            out.add(Anomaly::LostUpdate, format!("row {id}: {} changes bear the number {}", same.len(), first.number));
        }
        let is_next = first.number == number + 1;
        if !is_next {
            out.add(Anomaly::VersionGap, format!("row {id}: change {} follows {number}", first.number));
        }
        for link in same {
            let place = (link.place.topic.as_str(), link.place.partition.0, link.offset.0);
            let follows = before.iter().any(|before| chained(*before, link.id, place, link.nonce) == link.chain);
            if is_next && !follows {
                out.add(Anomaly::ChainBroken, format!("row {id}: change {}", link.number));
            }
        }
        number = first.number;
        before = same.iter().map(|link| link.chain).collect();
    }
}

fn of_row(row: &Row, chain: &[&Link], out: &mut Findings) {
    let count = chain.last().map_or(0, |link| link.number);
    if row.version != count {
        out.add(Anomaly::RowVersionJump, format!("row {}: version {}, {count} changes", row.id, row.version));
    }
    let state = (row.nonce, row.chain);
    let is_last = match count {
        0 => state == (0, 0),
        _ => chain.iter().rev().take_while(|link| link.number == count).any(|link| state == (link.nonce, link.chain)),
    };
    if !is_last {
        out.add(Anomaly::RowNotLastLink, format!("row {}: {state:?} is not what change {count} left", row.id));
    }
}
