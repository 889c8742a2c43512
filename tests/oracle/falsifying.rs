//! Parts of falsifications: choosing a place that fits in a history, and changing it whole, so that one thing alone is
//! wrong.

use crate::clean::{message, next_link};
use crate::laws::chain::magnitude_of;
use crate::laws::{Fate, History, Input, Link, Output, Row, Source};
use crate::random::Random;
use tidegate::engine::outbound::message::{headers_of, is_dead_letter};
use tidegate::flow::record::{Header, Offset, TopicPartition};
use tidegate::ports::rows::OutboxRow;

// === choosing ===

pub fn pick<T>(random: &mut Random, among: Vec<T>) -> Option<T> {
    let index = usize::try_from(random.below(among.len().max(1) as u64)).unwrap();
    among.into_iter().nth(index)
}

pub fn indexes<T>(of: &[T], keep: impl Fn(&T) -> bool) -> Vec<usize> {
    (0..of.len()).filter(|index| keep(&of[*index])).collect()
}

pub fn row(history: &mut History, id: i64) -> &mut Row {
    history.rows.iter_mut().find(|row| row.id == id).unwrap()
}

pub fn source<'h>(history: &'h History, place: &TopicPartition) -> &'h Source {
    history.sources.iter().find(|source| source.place == *place).unwrap()
}

pub fn input(history: &History, place: &TopicPartition, offset: Offset) -> Input {
    history.inputs.iter().find(|input| input.place == *place && input.offset == offset).unwrap().clone()
}

/// The outbox row of a notice or, with `letter`, of a dead letter.
pub fn row_of(history: &History, place: &TopicPartition, offset: Offset, letter: bool) -> Option<usize> {
    let is_it = |row: &OutboxRow| row.source == *place && row.source_offset == offset && is_dead_letter(row) == letter;
    history.outbox.iter().position(is_it)
}

pub fn is_below_k(history: &History, place: &TopicPartition, offset: Offset) -> bool {
    source(history, place).committed.is_some_and(|k| !k.is_before(offset))
}

pub fn threshold_of(history: &History, link: &Link) -> f64 {
    let is_its = |place: &TopicPartition, offset: Offset| *place == link.place && offset == link.offset;
    history.verdicts.iter().find(|v| is_its(&v.place, v.offset)).unwrap().threshold.unwrap()
}

/// Whether the outbox still has to keep what was decided about this input.
pub fn is_recent(history: &History, place: &TopicPartition, offset: Offset) -> bool {
    let oldest = history.read_at_ms - history.outbox_kept_ms;
    history.verdicts.iter().any(|v| v.place == *place && v.offset == offset && v.decided_at_ms >= oldest)
}

/// A change that is the last of its row. `quiet`: one that did not pass the filter.
pub fn last_link(history: &History, random: &mut Random, quiet: bool) -> Option<usize> {
    let is_last = |link: &Link| history.rows.iter().any(|row| row.id == link.id && row.version == link.number);
    let is_quiet = |link: &Link| magnitude_of(link.nonce) < threshold_of(history, link);
    pick(random, indexes(&history.links, |link| is_last(link) && (!quiet || is_quiet(link))))
}

/// A change that passed the filter and whose outbox row is kept, with that row.
pub fn announced(history: &History, random: &mut Random) -> Option<(usize, usize)> {
    let row = |link: &Link| row_of(history, &link.place, link.offset, false);
    let link = pick(random, indexes(&history.links, |link| row(link).is_some()))?;
    Some((link, row(&history.links[link])?))
}

/// A decided record that nobody can use, whose dead letter is kept.
pub fn poison(history: &History, random: &mut Random) -> Option<Input> {
    let is_kept = |input: &Input| row_of(history, &input.place, input.offset, true).is_some();
    pick(random, history.inputs.iter().filter(|input| is_kept(input)).cloned().collect())
}

/// A message that committed readers see and whose outbox row is kept.
pub fn visible(history: &History, random: &mut Random, letter: bool) -> Option<(usize, usize)> {
    let mut found = Vec::new();
    for (number, row) in history.outbox.iter().enumerate().filter(|(_, row)| is_dead_letter(row) == letter) {
        let is_its = |output: &Output| output.is_visible && is_of(history, output, row);
        found.extend(history.outputs.iter().position(is_its).map(|output| (output, number)));
    }
    pick(random, found)
}

fn is_of(history: &History, output: &Output, row: &OutboxRow) -> bool {
    output.found.headers.last() == headers_of(&history.pipeline, row).last() // the id
}

// === changing ===

/// The row as it was before its last change; that change is taken out.
pub fn undo(history: &mut History, link: usize) -> Link {
    let link = history.links.remove(link);
    let before = history.links.iter().find(|other| other.id == link.id && other.number == link.number - 1).cloned();
    let row = row(history, link.id);
    (row.version, row.nonce, row.chain) =
        before.map_or((0, 0, 0), |before| (before.number, before.nonce, before.chain));
    link
}

/// Adds a change to a row.
pub fn change(history: &mut History, id: i64, input: &Input, nonce: i64) {
    let link = next_link(row(history, id), input, nonce);
    history.links.push(link);
}

/// Adds a message where its order wants it, visible.
pub fn send(history: &mut History, row: &OutboxRow) {
    let found = message(history, row);
    let behind = |output: &Output| {
        let is_beside = output.topic == row.destination && output.found.partition == found.partition;
        let place = crate::clean::origin(output);
        is_beside && place.0 == row.source && place.1 > row.source_offset && output.is_visible
    };
    let at = history.outputs.iter().position(behind).unwrap_or(history.outputs.len());
    let topic = row.destination.clone();
    let output = Output { topic, found, transaction: None, fate: Fate::Committed, is_visible: true };
    history.outputs.insert(at, output);
}

/// Adds an outbox row and, below K, its message.
pub fn announce(history: &mut History, row: OutboxRow) {
    if is_below_k(history, &row.source, row.source_offset) {
        send(history, &row);
    }
    history.outbox.push(row);
}

/// Changes an outbox row and all its messages alike.
pub fn rewrite(history: &mut History, row: usize, change: impl Fn(&mut OutboxRow)) {
    change(&mut history.outbox[row]);
    let row = history.outbox[row].clone();
    let headers = headers_of(&history.pipeline, &row);
    for output in &mut history.outputs {
        if output.found.headers.last() == headers.last() {
            (output.found.headers, output.found.value) = (headers.clone(), row.value.clone());
        }
    }
}

pub fn set_header(headers: &mut [Header], name: &str, value: &str) {
    let header = headers.iter_mut().find(|header| header.name == name).unwrap();
    *header = Header::new(name, value);
}

pub fn recomputed(value: Option<&Vec<u8>>, random: &mut Random) -> Option<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_slice(value?).unwrap();
    value["nonce"] = random.next().cast_signed().into();
    Some(value.to_string().into_bytes())
}

/// Takes an outbox row and its messages out.
pub fn forget(history: &mut History, row: usize) {
    let row = history.outbox.remove(row);
    let id = headers_of(&history.pipeline, &row).last().cloned();
    history.outputs.retain(|output| output.found.headers.last() != id.as_ref());
}
