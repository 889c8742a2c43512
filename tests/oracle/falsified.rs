//! One change of a clean history for each anomaly, and what it must be called.

use crate::clean::{OUTPUT, letter_of, message, notice_of, topic};
use crate::falsifying::{
    announce, announced, change, forget, indexes, input, is_below_k, is_recent, last_link, pick, poison, recomputed,
    rewrite, row, row_of, send, set_header, source, threshold_of, undo, visible,
};
use crate::laws::chain::{chained, magnitude_of};
use crate::laws::{Anomaly, Expect, Fate, History, Input, Link, Output, Source};
use crate::random::Random;
use tidegate::flow::identity::{THRESHOLD_HEADER, VERSION_HEADER};
use tidegate::flow::record::{NextOffset, Offset, TopicPartition};
use tidegate::ports::rows::OutboxRow;

pub struct Falsification {
    pub anomaly: Anomaly,
    /// Anomalies that follow from it and cannot be distinguished from it.
    pub follows: &'static [Anomaly],
    /// `None`: there is nothing in this history to falsify in this way.
    pub apply: fn(&mut History, &mut Random) -> Option<()>,
}

/// With nothing behind it.
const fn alone(anomaly: Anomaly, apply: fn(&mut History, &mut Random) -> Option<()>) -> Falsification {
    Falsification { anomaly, follows: &[], apply }
}

pub const FALSIFICATIONS: &[(&str, Falsification)] = &[
    ("an update is gone", alone(Anomaly::RecordWithoutEffect, update_is_gone)),
    ("an update is applied twice", alone(Anomaly::EffectTwice, update_twice)),
    ("an update has no record", alone(Anomaly::EffectWithoutRecord, update_without_record)),
    ("an update of the wrong row", alone(Anomaly::EffectOnAnotherRow, update_of_another_row)),
    ("D was not moved with the row", alone(Anomaly::EffectBeyondPosition, position_left_behind)),
    ("two updates from one state", alone(Anomaly::LostUpdate, lost_update)),
    ("a change is left out", alone(Anomaly::VersionGap, version_gap)),
    ("a change from another state", alone(Anomaly::ChainBroken, chain_broken)),
    ("a row version jumps", alone(Anomaly::RowVersionJump, row_version_jumps)),
    ("a row is written by hand", alone(Anomaly::RowNotLastLink, row_by_hand)),
    ("a row is deleted", alone(Anomaly::RowNotLastLink, row_deleted)),
    ("a passing change is not announced", alone(Anomaly::PassingNotAnnounced, not_announced)),
    ("a filtered change is announced", alone(Anomaly::FilteredAnnounced, filtered_announced)),
    ("a filtered change is sent past the outbox", alone(Anomaly::FilteredAnnounced, filtered_sent)),
    ("a notice without a change", alone(Anomaly::NoticeWithoutChange, notice_without_change)),
    ("a notice without a change, past the outbox", alone(Anomaly::NoticeWithoutChange, sent_without_change)),
    ("the threshold changed before publication", alone(Anomaly::ThresholdChanged, threshold_changed)),
    ("a notice is missing", alone(Anomaly::NoticeMissing, notice_missing)),
    ("a notice is there twice", alone(Anomaly::NoticeTwice, notice_twice)),
    // The message can equal only one of the two rows.
    (
        "the outbox has an id twice",
        Falsification { anomaly: Anomaly::OutboxTwice, follows: &[Anomaly::NoticeAltered], apply: outbox_twice },
    ),
    ("an aborted record is visible", alone(Anomaly::AbortedVisible, aborted_visible)),
    ("a committed record is hidden", alone(Anomaly::CommittedHidden, committed_hidden)),
    ("a phantom notice", alone(Anomaly::NoticeWithoutRecord, phantom_notice)),
    ("a phantom outbox row", alone(Anomaly::NoticeWithoutRecord, phantom_row)),
    ("a notice before its row was committed", alone(Anomaly::NoticeBeforeCommit, notice_before_commit)),
    ("an aborted notice before its row was committed", alone(Anomaly::NoticeBeforeCommit, attempt_before_commit)),
    ("a notice with another payload", alone(Anomaly::NoticeAltered, notice_altered)),
    ("a notice with another header", alone(Anomaly::NoticeAltered, header_altered)),
    ("a notice computed again", alone(Anomaly::NoticeRecomputed, notice_recomputed)),
    ("an outbox row computed again", alone(Anomaly::NoticeRecomputed, row_recomputed)),
    ("a notice names another version", alone(Anomaly::NoticeOfAnotherVersion, another_version)),
    ("half of a transaction is visible", alone(Anomaly::TornTransaction, half_visible)),
    ("outputs are visible, the offsets are not", alone(Anomaly::TornTransaction, offsets_not_committed)),
    ("two notices change places", alone(Anomaly::OutOfOrder, out_of_order)),
    ("a notice in the wrong partition", alone(Anomaly::WrongPartition, wrong_partition)),
    ("K beyond D", alone(Anomaly::CommittedBeyondDecided, committed_beyond_decided)),
    ("P beyond K", alone(Anomaly::PublishedBeyondCommitted, published_beyond_committed)),
    ("a position row is gone", alone(Anomaly::PositionMissing, position_missing)),
    ("D beyond the end", alone(Anomaly::PositionBeyondEnd, position_beyond_end)),
    ("a record is left over", alone(Anomaly::NotDrained, not_drained)),
    ("a transaction is open", alone(Anomaly::TransactionOpen, transaction_open)),
    ("an outbox row below K is lost", alone(Anomaly::OutboxRowLost, outbox_row_lost)),
    ("the outbox row of a dead letter is lost", alone(Anomaly::OutboxRowLost, letter_row_lost)),
    ("the outbox is not tidied up", alone(Anomaly::OutboxKeptTooLong, outbox_kept_too_long)),
    ("the epoch goes back", alone(Anomaly::EpochBack, epoch_back)),
    ("D goes back", alone(Anomaly::PositionBack, position_back)),
    ("K goes back", alone(Anomaly::CommittedBack, committed_back)),
    ("two verdicts", alone(Anomaly::DecidedTwice, decided_twice)),
    ("no verdict", alone(Anomaly::DecisionMissing, decision_missing)),
    ("the verdict of another run", alone(Anomaly::DecisionOfAnotherRun, decision_of_another_run)),
    ("a changelog value differs", alone(Anomaly::ChangelogDiffers, changelog_differs)),
    ("a store value differs", alone(Anomaly::StoreDiffers, store_differs)),
    ("a dead letter was never decided", alone(Anomaly::DeadLetterMissing, letter_not_decided)),
    ("a dead letter is missing in its topic", alone(Anomaly::DeadLetterMissing, letter_missing)),
    ("a good record is a dead letter", alone(Anomaly::DeadLetterUnexpected, letter_unexpected)),
    ("dead letter and effect", alone(Anomaly::DeadLetterAndEffect, letter_and_effect)),
    ("poison has an effect", alone(Anomaly::EffectOfPoison, effect_of_poison)),
    ("the stable offset stands", alone(Anomaly::StableOffsetStuck, stable_offset_stuck)),
    ("a partition stands", alone(Anomaly::PartitionStuck, partition_stuck)),
    ("a session idles", alone(Anomaly::SessionIdle, session_idles)),
    ("a lock is waited for", alone(Anomaly::LockWait, lock_wait)),
    ("an accepted reading is lost", alone(Anomaly::AcceptedLost, accepted_lost)),
    ("an accepted reading is there twice", alone(Anomaly::AcceptedTwice, accepted_twice)),
];

// In the order of the table.

fn update_is_gone(history: &mut History, random: &mut Random) -> Option<()> {
    let link = last_link(history, random, false)?;
    undo(history, link);
    Some(())
}

fn update_twice(history: &mut History, random: &mut Random) -> Option<()> {
    let link = history.links[last_link(history, random, false)?].clone();
    let input = input(history, &link.place, link.offset);
    change(history, link.id, &input, random.next().cast_signed());
    Some(())
}

fn update_without_record(history: &mut History, random: &mut Random) -> Option<()> {
    let link = history.links[last_link(history, random, false)?].clone();
    let offset = Offset(source(history, &link.place).end.0 + 3);
    let phantom = Input { offset, ..input(history, &link.place, link.offset) };
    change(history, link.id, &phantom, random.next().cast_signed());
    Some(())
}

fn update_of_another_row(history: &mut History, random: &mut Random) -> Option<()> {
    let link = last_link(history, random, true)?;
    let link = undo(history, link);
    let input = input(history, &link.place, link.offset);
    let others = history.rows.iter().map(|row| row.id).filter(|id| *id != link.id).collect();
    change(history, pick(random, others)?, &input, link.nonce);
    Some(())
}

fn position_left_behind(history: &mut History, random: &mut Random) -> Option<()> {
    let is_sent = |place: &TopicPartition, offset: Offset| {
        history.outputs.iter().any(|output| crate::clean::origin(output) == (place.clone(), offset))
    };
    let last = |source: &Source| {
        let is_its = |input: &&Input| input.place == source.place && !source.decided().unwrap().is_before(input.offset);
        let last = history.inputs.iter().rfind(is_its)?;
        let is_alone = source.committed.unwrap().is_before(last.offset) && !is_sent(&source.place, last.offset);
        is_alone.then_some(last.offset)
    };
    let found = (0..history.sources.len()).filter_map(|index| Some((index, last(&history.sources[index])?))).collect();
    let (index, offset) = pick(random, found)?;
    history.sources[index].position.as_mut()?.decided = NextOffset(offset.0);
    history.samples.clear();
    Some(())
}

fn lost_update(history: &mut History, random: &mut Random) -> Option<()> {
    let link = last_link(history, random, true).filter(|link| history.links[*link].number > 1)?;
    let second = undo(history, link);
    let first = history.links.iter().find(|link| link.id == second.id && link.number == second.number - 1)?;
    let is_base = |link: &&Link| link.id == first.id && link.number == first.number - 1;
    let base = history.links.iter().find(is_base).map_or(0, |link| link.chain);
    let place = (second.place.topic.as_str(), second.place.partition.0, second.offset.0);
    let chain = chained(base, second.id, place, second.nonce);
    let link = Link { number: second.number - 1, chain, ..second.clone() };
    let row = row(history, link.id);
    (row.nonce, row.chain) = (link.nonce, link.chain);
    history.links.push(link);
    Some(())
}

fn version_gap(history: &mut History, random: &mut Random) -> Option<()> {
    let link = last_link(history, random, true)?;
    history.links[link].number += 1;
    let id = history.links[link].id;
    row(history, id).version += 1;
    Some(())
}

fn chain_broken(history: &mut History, random: &mut Random) -> Option<()> {
    let link = last_link(history, random, false)?;
    history.links[link].chain ^= 1;
    let Link { id, chain, .. } = history.links[link];
    row(history, id).chain = chain;
    Some(())
}

fn row_version_jumps(history: &mut History, random: &mut Random) -> Option<()> {
    let row = pick(random, history.rows.iter_mut().collect())?;
    row.version += 1;
    Some(())
}

fn row_by_hand(history: &mut History, random: &mut Random) -> Option<()> {
    let row = pick(random, history.rows.iter_mut().collect())?;
    row.nonce = random.next().cast_signed();
    Some(())
}

fn row_deleted(history: &mut History, random: &mut Random) -> Option<()> {
    let id = history.links[last_link(history, random, false)?].id;
    history.rows.retain(|row| row.id != id);
    Some(())
}

fn not_announced(history: &mut History, random: &mut Random) -> Option<()> {
    let (link, row) = announced(history, random)?;
    let Link { place, offset, .. } = history.links[link].clone();
    is_recent(history, &place, offset).then(|| forget(history, row))
}

/// A change that did not pass, with its outbox row as it would be.
fn filtered(history: &History, random: &mut Random) -> Option<OutboxRow> {
    let is_fit = |link: &Link| {
        let passes = magnitude_of(link.nonce) >= threshold_of(history, link);
        !passes && is_recent(history, &link.place, link.offset)
    };
    let link = &history.links[pick(random, indexes(&history.links, is_fit))?];
    let input = input(history, &link.place, link.offset);
    Some(notice_of(&input, link, threshold_of(history, link), history.read_at_ms))
}

fn filtered_announced(history: &mut History, random: &mut Random) -> Option<()> {
    let row = filtered(history, random)?;
    announce(history, row);
    Some(())
}

fn filtered_sent(history: &mut History, random: &mut Random) -> Option<()> {
    let row = filtered(history, random)?;
    is_below_k(history, &row.source, row.source_offset).then(|| send(history, &row))
}

/// A notice of a poison record, for some row.
fn unfounded(history: &History, random: &mut Random) -> Option<OutboxRow> {
    let input = poison(history, random)?;
    let nonce = random.next().cast_signed();
    let (place, offset) = (input.place.clone(), input.offset);
    let link = Link { id: 1, number: 1, place, offset, nonce, chain: 0 };
    // Not the dead letter's own id.
    Some(OutboxRow { seq: 1, ..notice_of(&input, &link, 0.7, history.read_at_ms) })
}

fn notice_without_change(history: &mut History, random: &mut Random) -> Option<()> {
    let row = unfounded(history, random)?;
    announce(history, row);
    Some(())
}

fn sent_without_change(history: &mut History, random: &mut Random) -> Option<()> {
    let row = unfounded(history, random)?;
    is_below_k(history, &row.source, row.source_offset).then(|| send(history, &row))
}

fn threshold_changed(history: &mut History, random: &mut Random) -> Option<()> {
    let (_, row) = announced(history, random)?;
    rewrite(history, row, |row| set_header(&mut row.headers, THRESHOLD_HEADER, "0.1"));
    Some(())
}

fn notice_missing(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, false)?;
    history.outputs.remove(output);
    Some(())
}

fn notice_twice(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, false)?;
    let again = Output { transaction: None, ..history.outputs[output].clone() };
    history.outputs.push(again);
    Some(())
}

fn outbox_twice(history: &mut History, random: &mut Random) -> Option<()> {
    let (_, row) = announced(history, random)?;
    let mut again = history.outbox[row].clone();
    again.created_at.0 += 1;
    history.outbox.push(again);
    Some(())
}

fn aborted_visible(history: &mut History, random: &mut Random) -> Option<()> {
    let output = pick(random, indexes(&history.outputs, |output| output.fate != Fate::Committed))?;
    // The messages of its transaction in the same partition.
    let Output { topic, transaction, found, .. } = history.outputs[output].clone();
    let is_of_it = |output: &&mut Output| {
        output.transaction == transaction && output.topic == topic && output.found.partition == found.partition
    };
    history.outputs.iter_mut().filter(is_of_it).for_each(|output| output.is_visible = true);
    Some(())
}

fn committed_hidden(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, false)?;
    history.outputs[output].is_visible = false;
    Some(())
}

fn phantom(history: &History, random: &mut Random) -> Option<OutboxRow> {
    let link = history.links[last_link(history, random, false)?].clone();
    let offset = Offset(source(history, &link.place).end.0 + 3);
    let input = Input { offset, ..input(history, &link.place, link.offset) };
    Some(notice_of(&input, &Link { offset, ..link }, 0.7, history.read_at_ms))
}

fn phantom_notice(history: &mut History, random: &mut Random) -> Option<()> {
    let row = phantom(history, random)?;
    send(history, &row);
    Some(())
}

fn phantom_row(history: &mut History, random: &mut Random) -> Option<()> {
    let row = phantom(history, random)?;
    history.outbox.push(row);
    Some(())
}

/// The notice of a record that the database has not decided.
fn early(history: &History, random: &mut Random) -> Option<OutboxRow> {
    let is_early = |input: &&Input| source(history, &input.place).decided().unwrap().is_before(input.offset);
    let input = pick(random, history.inputs.iter().filter(is_early).cloned().collect())?;
    let Expect::Change(id) = input.expect else { return None };
    let nonce = random.next().cast_signed();
    let (place, offset) = (input.place.clone(), input.offset);
    let link = Link { id, number: 1, place, offset, nonce, chain: 0 };
    Some(notice_of(&input, &link, 0.7, history.read_at_ms))
}

fn notice_before_commit(history: &mut History, random: &mut Random) -> Option<()> {
    let row = early(history, random)?;
    send(history, &row);
    Some(())
}

fn attempt_before_commit(history: &mut History, random: &mut Random) -> Option<()> {
    let row = early(history, random)?;
    let (topic, found) = (topic(OUTPUT), message(history, &row));
    history.outputs.push(Output { topic, found, transaction: None, fate: Fate::Aborted, is_visible: false });
    Some(())
}

fn notice_altered(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, false)?;
    let value = history.outputs[output].found.value.as_mut()?;
    value.pop();
    value.extend_from_slice(br#","more":1}"#);
    Some(())
}

fn header_altered(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, false)?;
    set_header(&mut history.outputs[output].found.headers, VERSION_HEADER, "1000");
    Some(())
}

fn notice_recomputed(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, row) = visible(history, random, false)?;
    history.outputs[output].found.value = recomputed(history.outbox[row].value.as_ref(), random);
    Some(())
}

fn row_recomputed(history: &mut History, random: &mut Random) -> Option<()> {
    let (_, row) = announced(history, random)?;
    let value = recomputed(history.outbox[row].value.as_ref(), random);
    rewrite(history, row, |row| row.value.clone_from(&value));
    Some(())
}

fn another_version(history: &mut History, random: &mut Random) -> Option<()> {
    let (_, row) = announced(history, random)?;
    rewrite(history, row, |row| set_header(&mut row.headers, VERSION_HEADER, "1000"));
    Some(())
}

fn half_visible(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, false)?;
    let transaction = history.outputs[output].transaction;
    let all = indexes(&history.outputs, |output| output.transaction == transaction);
    if all.len() < 2 {
        return None;
    }
    for index in &all[..all.len() / 2] {
        (history.outputs[*index].fate, history.outputs[*index].is_visible) = (Fate::Aborted, false);
    }
    Some(())
}

fn offsets_not_committed(history: &mut History, random: &mut Random) -> Option<()> {
    let (_, row) = visible(history, random, false)?;
    let (place, offset) = (history.outbox[row].source.clone(), history.outbox[row].source_offset);
    let source = history.sources.iter_mut().find(|source| source.place == place)?;
    if !source.position?.published.is_before(offset) {
        return None;
    }
    source.committed = Some(NextOffset(offset.0));
    history.is_drained = false;
    history.samples.clear();
    Some(())
}

fn out_of_order(history: &mut History, random: &mut Random) -> Option<()> {
    let seen: Vec<usize> = indexes(&history.outputs, |output| output.is_visible);
    let mut pairs = Vec::new();
    for (at, first) in seen.iter().enumerate() {
        let one = &history.outputs[*first];
        let is_next = |second: &&usize| {
            let two = &history.outputs[**second];
            let is_beside = two.topic == one.topic && two.found.partition == one.found.partition;
            is_beside && crate::clean::origin(two).0 == crate::clean::origin(one).0
        };
        pairs.extend(seen[at + 1..].iter().find(is_next).map(|second| (*first, *second)));
    }
    let (first, second) = pick(random, pairs)?;
    // Only the messages: the places in their transactions stay.
    let (head, tail) = history.outputs.split_at_mut(second);
    std::mem::swap(&mut head[first].found, &mut tail[0].found);
    Some(())
}

fn wrong_partition(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, false)?;
    let (source, _) = crate::clean::origin(&history.outputs[output]);
    // The last one of its source, so that it is behind nothing wherever it goes.
    let of_it = indexes(&history.outputs, |output| {
        output.is_visible && output.topic.as_str() == OUTPUT && crate::clean::origin(output).0 == source
    });
    let last = of_it.into_iter().max_by_key(|index| crate::clean::origin(&history.outputs[*index]).1)?;
    let mut astray = history.outputs.remove(last);
    astray.found.partition = (astray.found.partition + 1) % history.output_partitions[&astray.topic];
    history.outputs.push(astray);
    Some(())
}

fn committed_beyond_decided(history: &mut History, random: &mut Random) -> Option<()> {
    let even = indexes(&history.sources, |source| source.committed == source.decided());
    let source = &mut history.sources[pick(random, even)?];
    source.committed = Some(NextOffset(source.decided()?.0 + 1));
    Some(())
}

fn published_beyond_committed(history: &mut History, random: &mut Random) -> Option<()> {
    if history.outbox_kept_ms != 86_400_000 {
        return None;
    }
    let source = pick(random, history.sources.iter_mut().collect())?;
    source.position.as_mut()?.published = NextOffset(source.committed?.0 + 1);
    Some(())
}

fn position_missing(history: &mut History, random: &mut Random) -> Option<()> {
    let read = indexes(&history.sources, |source| source.committed > Some(source.start));
    history.sources[pick(random, read)?].position = None;
    Some(())
}

fn position_beyond_end(history: &mut History, random: &mut Random) -> Option<()> {
    let at_end = indexes(&history.sources, |source| source.decided() == Some(source.end));
    let source = &mut history.sources[pick(random, at_end)?];
    source.position.as_mut()?.decided = NextOffset(source.end.0 + 1);
    Some(())
}

fn not_drained(history: &mut History, random: &mut Random) -> Option<()> {
    if !history.is_drained {
        return None;
    }
    let source = pick(random, history.sources.iter_mut().collect())?;
    let (place, offset) = (source.place.clone(), Offset(source.end.0));
    source.end = offset.next();
    history.inputs.push(Input { place, offset, expect: Expect::Change(1), receipt: None });
    Some(())
}

fn transaction_open(history: &mut History, random: &mut Random) -> Option<()> {
    let aborted = indexes(&history.outputs, |output| history.is_drained && output.fate == Fate::Aborted);
    let transaction = history.outputs[pick(random, aborted)?].transaction;
    let is_of_it = |output: &&mut Output| output.transaction == transaction;
    history.outputs.iter_mut().filter(is_of_it).for_each(|output| output.fate = Fate::Open);
    Some(())
}

fn outbox_row_lost(history: &mut History, random: &mut Random) -> Option<()> {
    let (_, row) = visible(history, random, false)?;
    let OutboxRow { source, source_offset, .. } = history.outbox[row].clone();
    is_recent(history, &source, source_offset).then(|| drop(history.outbox.remove(row)))
}

fn letter_row_lost(history: &mut History, random: &mut Random) -> Option<()> {
    let (_, row) = visible(history, random, true)?;
    let OutboxRow { source, source_offset, .. } = history.outbox[row].clone();
    is_recent(history, &source, source_offset).then(|| drop(history.outbox.remove(row)))
}

fn outbox_kept_too_long(history: &mut History, random: &mut Random) -> Option<()> {
    let is_done = |row: &OutboxRow| {
        let published = source(history, &row.source).position.map(|position| position.published);
        published.is_some_and(|p| !p.is_before(row.source_offset))
    };
    let row = &history.outbox[pick(random, indexes(&history.outbox, is_done))?];
    history.outbox_kept_ms = history.read_at_ms - row.created_at.0 - 1;
    Some(())
}

fn epoch_back(history: &mut History, random: &mut Random) -> Option<()> {
    let source = pick(random, history.samples.last_mut()?.sources.iter_mut().collect())?;
    source.position.as_mut()?.0 += 1;
    Some(())
}

fn position_back(history: &mut History, random: &mut Random) -> Option<()> {
    let source = pick(random, history.samples.last_mut()?.sources.iter_mut().collect())?;
    source.position.as_mut()?.1.0 += 1;
    Some(())
}

fn committed_back(history: &mut History, random: &mut Random) -> Option<()> {
    let source = pick(random, history.samples.last_mut()?.sources.iter_mut().collect())?;
    source.committed.as_mut()?.0 += 1;
    Some(())
}

fn decided_twice(history: &mut History, random: &mut Random) -> Option<()> {
    let again = pick(random, history.verdicts.clone())?;
    history.verdicts.push(again);
    Some(())
}

fn decision_missing(history: &mut History, random: &mut Random) -> Option<()> {
    let is_kept = |place: &TopicPartition, offset| is_recent(history, place, offset);
    let recent = indexes(&history.verdicts, |verdict| is_kept(&verdict.place, verdict.offset));
    let verdict = pick(random, recent)?;
    history.verdicts.remove(verdict);
    Some(())
}

fn decision_of_another_run(history: &mut History, random: &mut Random) -> Option<()> {
    let verdict = pick(random, history.verdicts.iter_mut().filter(|v| v.magnitude.is_some()).collect())?;
    verdict.magnitude = Some(magnitude_of(random.next().cast_signed()));
    Some(())
}

fn changelog_differs(history: &mut History, random: &mut Random) -> Option<()> {
    let key = pick(random, history.states.changelog.keys().cloned().collect())?;
    history.states.changelog.insert(key.clone(), "-1".into());
    if let Some(stores) = &mut history.states.stores {
        stores.insert(key, "-1".into());
    }
    Some(())
}

fn store_differs(history: &mut History, random: &mut Random) -> Option<()> {
    let stores = history.states.stores.as_mut()?;
    let key = pick(random, stores.keys().cloned().collect())?;
    stores.remove(&key);
    Some(())
}

fn letter_not_decided(history: &mut History, random: &mut Random) -> Option<()> {
    let Input { place, offset, .. } = poison(history, random)?;
    let row = row_of(history, &place, offset, true)?;
    is_recent(history, &place, offset).then(|| forget(history, row))
}

fn letter_missing(history: &mut History, random: &mut Random) -> Option<()> {
    let (output, _) = visible(history, random, true)?;
    history.outputs.remove(output);
    Some(())
}

fn letter_unexpected(history: &mut History, random: &mut Random) -> Option<()> {
    let link = last_link(history, random, true)?;
    let Link { place, offset, .. } = undo(history, link);
    let letter = letter_of(&input(history, &place, offset), history.read_at_ms);
    announce(history, letter);
    Some(())
}

fn letter_and_effect(history: &mut History, random: &mut Random) -> Option<()> {
    let input = poison(history, random)?;
    change(history, 1, &input, random.next().cast_signed());
    Some(())
}

fn effect_of_poison(history: &mut History, random: &mut Random) -> Option<()> {
    let input = poison(history, random)?;
    let row = row_of(history, &input.place, input.offset, true)?;
    forget(history, row);
    change(history, 1, &input, random.next().cast_signed());
    Some(())
}

fn stable_offset_stuck(history: &mut History, random: &mut Random) -> Option<()> {
    history.healed_at_ms?;
    let output = pick(random, history.samples.last_mut()?.outputs.iter_mut().collect())?;
    output.1 = output.2 - 1;
    Some(())
}

fn partition_stuck(history: &mut History, random: &mut Random) -> Option<()> {
    history.healed_at_ms?;
    let read = indexes(&history.sources, |source| source.committed > Some(source.start));
    let stuck = pick(random, read)?;
    history.samples.last_mut()?.sources[stuck].committed.as_mut()?.0 -= 1;
    Some(())
}

fn session_idles(history: &mut History, random: &mut Random) -> Option<()> {
    pick(random, history.samples.iter_mut().collect())?.idle_ms = 10_001;
    Some(())
}

fn lock_wait(history: &mut History, random: &mut Random) -> Option<()> {
    pick(random, history.samples.iter_mut().collect())?.lock_wait_ms = 5_001;
    Some(())
}

fn accepted_lost(history: &mut History, _: &mut Random) -> Option<()> {
    history.accepted.push(1_000_000);
    Some(())
}

fn accepted_twice(history: &mut History, random: &mut Random) -> Option<()> {
    let receipt = pick(random, history.accepted.clone())?;
    let other = history.inputs.iter_mut().find(|input| input.receipt != Some(receipt))?;
    let lost = other.receipt.replace(receipt);
    history.accepted.retain(|accepted| Some(*accepted) != lost);
    Some(())
}
