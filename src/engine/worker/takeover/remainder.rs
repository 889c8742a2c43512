//! The unpublished remainder: messages that an earlier owner of a task decided and did not publish.

use crate::engine::outbound::message::{changelog_message, inputs_of, sequence_of};
use crate::engine::outbound::outgoing::{Origin, Outgoing};
use crate::engine::outbound::publication::{Batches, Outbound, Part, Publication};
use crate::flow::record::{NextOffset, Offset, TopicName, TopicPartition};
use crate::ports::rows::OutboxRow;
use std::collections::BTreeSet;

/// The messages that an earlier owner of a task decided and did not publish, and the K that are to be written, for all
/// inputs: one transaction, because its changelog records are about all of them.
#[derive(Default)]
pub(crate) struct Remainder {
    pub(crate) parts: Vec<Part>,
    pub(crate) rows: Vec<OutboxRow>,
    /// Changelog records with their sequences.
    pub(crate) changelog: Vec<(i64, OutboxRow)>,
    /// Messages that may have been published, looked up together.
    pub(crate) look_ups: Vec<LookUp>,
    /// The K that are right and are written again for their marks alone.
    pub(crate) kept: Vec<(TopicPartition, NextOffset)>,
    /// The offset up to which each input is offered once this is handed over: a read of another input may fail before.
    pub(crate) offered: Vec<(TopicPartition, NextOffset)>,
}

/// Messages that their topics may have already, as K of their input is gone: the input, its range, and the rows decided
/// there.
pub(crate) type LookUp = (TopicPartition, (NextOffset, NextOffset), Vec<OutboxRow>);

/// Whether a changelog record is proved to be published, although K of its input does not show it: a later batch of its task
/// was, or its own. `reached`: the offset up to which each input is published at least. An input that the record's batch did not
/// have is none of its proofs.
fn is_published(row: &OutboxRow, reached: &[(TopicPartition, NextOffset)]) -> bool {
    inputs_of(row).any(|(topic, at)| {
        let reached = reached.iter().find(|(input, _)| input.topic.as_str() == topic).map(|(_, reached)| *reached);
        let is_own = row.source.topic.as_str() == topic;
        reached.is_some_and(|reached| reached > at || (is_own && reached == at))
    })
}

/// The source and number of each message that is no changelog record.
pub(crate) fn notices(rows: &[OutboxRow]) -> BTreeSet<(TopicPartition, Offset, i32)> {
    let rows = rows.iter().filter(|row| sequence_of(row).is_none());
    rows.map(|row| (row.source.clone(), row.source_offset, row.seq)).collect()
}

/// The offset up to which each input is published at least: as far as its offset is noted (`reached`), and behind every
/// message of it that is there. The committed offsets of several inputs may have expired together.
fn with_found(
    reached: &[(TopicPartition, NextOffset)],
    found: &BTreeSet<(TopicPartition, Offset, i32)>,
) -> Vec<(TopicPartition, NextOffset)> {
    let at = |(input, noted): &(TopicPartition, NextOffset)| {
        let own = found.iter().filter(|(source, ..)| source == input).map(|(_, offset, _)| offset.next());
        (input.clone(), own.fold(*noted, NextOffset::max))
    };
    reached.iter().map(at).collect()
}

/// Leaves out messages that are proved to be published, of a task that lacks only some (`missing`) of its messages
/// (`asked`) and whose inputs are published as far as `reached` at least. A task publishes its batches in order, so every
/// message before one that was published has been there too. Its topic may have dropped it since, or it is a changelog record,
/// which is not searched for: sent again, it would set its key back to what it was before a later batch. Sent again in several
/// transactions, such messages would commit offsets before messages that are there, and the next owner would send those twice.
pub(crate) fn leave_out_published(
    missing: &mut Vec<OutboxRow>,
    mut asked: BTreeSet<(TopicPartition, Offset, i32)>,
    reached: &[(TopicPartition, NextOffset)],
) {
    let lacking = notices(missing);
    asked.retain(|notice| !lacking.contains(notice));
    let is_there = |row: &OutboxRow| {
        let found = asked.range((row.source.clone(), row.source_offset, i32::MIN)..).next();
        found.is_some_and(|(source, ..)| *source == row.source)
    };
    let reached = with_found(reached, &asked);
    let published = missing.iter().filter(|row| is_there(row) || is_published(row, &reached));
    let last = published.filter_map(sequence_of).max();
    let is_proved =
        |row: &OutboxRow| sequence_of(row).is_some_and(|sequence| last.is_some_and(|last| sequence <= last));
    let reached = with_proved(reached, missing.iter().filter(|row| is_proved(row)));
    let is_behind = |row: &OutboxRow| {
        let reached = reached.iter().find(|(input, _)| *input == row.source);
        reached.is_none_or(|(_, reached)| reached.is_before(row.source_offset))
    };
    missing.retain(|row| match sequence_of(row) {
        Some(_) => !is_proved(row),
        None => is_behind(row),
    });
}

/// The same behind changelog records that are proved to be published: with each of them, everything was that its batch and those
/// before it came to, of whichever input.
fn with_proved<'a>(
    mut reached: Vec<(TopicPartition, NextOffset)>,
    proved: impl Iterator<Item = &'a OutboxRow>,
) -> Vec<(TopicPartition, NextOffset)> {
    for (topic, at) in proved.flat_map(inputs_of) {
        for (_, reached) in reached.iter_mut().filter(|(input, _)| input.topic.as_str() == topic) {
            *reached = (*reached).max(at);
        }
    }
    reached
}

impl Remainder {
    pub(crate) fn add(&mut self, part: Part, rows: Vec<OutboxRow>) {
        self.parts.push(part);
        for row in rows {
            match sequence_of(&row) {
                Some(sequence) => self.changelog.push((sequence, row)),
                None => self.rows.push(row),
            }
        }
    }

    pub(crate) fn into_publication(self) -> Publication {
        let Self { parts, rows, mut changelog, .. } = self;
        changelog.sort_by_key(|(sequence, _)| *sequence);
        let mut outgoing = Outgoing::default();
        let mut batches = Batches::new();
        for (_, row) in &changelog {
            outgoing.push(Origin { source: &row.source, offset: row.source_offset }, &changelog_message(row));
            batches.entry((row.source.clone(), row.source_offset)).or_insert_with(|| lasts(row));
        }
        let rows = rows.into_iter().map(|row| Outbound { row, input_at: None }).collect();
        Publication { parts, rows, outgoing, batches, is_urgent: true, ..Publication::default() }
    }
}

/// The last inputs of the batch that wrote a changelog record; none of a source of which there was none yet.
fn lasts(row: &OutboxRow) -> Vec<(TopicPartition, Offset)> {
    let last = |(topic, at): (&str, NextOffset)| {
        let topic = TopicName::parse(topic).ok()?;
        (at.0 > 0).then(|| (TopicPartition::new(topic, row.source.partition), Offset(at.0 - 1)))
    };
    inputs_of(row).filter_map(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outbound::message::{Decided, changelog_row, spelt};
    use crate::engine::outbound::publication::Through;
    use crate::engine::protocol::ownership::AssignmentId;
    use crate::flow::record::{Partition, Timestamp};
    use crate::ports::sink::Message;
    use crate::ports::source::TaskId;

    #[test]
    fn changelog_records_of_two_inputs_are_published_in_the_order_in_which_they_were_decided() {
        let place = |topic| TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(3));
        let changelog = TopicName::parse("p-s-changelog").unwrap();
        let mut remainder = Remainder::default();
        // The companion's batch lies between two of the lead topic, all of one key.
        for (topic, decided) in [("lead", [(7, 20), (8, 23)].as_slice()), ("companion", [(13, 22)].as_slice())] {
            let source = place(topic);
            let row = |(offset, sequence): &(i64, i64)| {
                let (value, headers) = (sequence.to_string(), &[]);
                let (destination, partition, key, value) =
                    (&changelog, None, Some(b"k".as_slice()), Some(value.as_bytes()));
                let message =
                    Message { destination, partition, key, value, headers, timestamp: None, is_tracked: true };
                let origin = Origin { source: &source, offset: Offset(*offset) };
                let decided = Decided { sequence: *sequence, inputs: None };
                changelog_row(origin, 0, 0, decided, &message, Timestamp(0))
            };
            let rows = decided.iter().map(row).collect();
            let task = TaskId { sub_topology: 0, partition: Partition(3) };
            let (from, to) = (NextOffset(0), NextOffset(20));
            let (assignment, marks) = (AssignmentId(1), None);
            remainder.add(
                Part { task, assignment, source, through: Through::Database { epoch: 1 }, from, to, marks, batch: 0 },
                rows,
            );
        }
        let publication = remainder.into_publication();
        let sent: Vec<_> =
            publication.outgoing.messages().map(|m| (m.partition, m.value.unwrap(), m.is_tracked)).collect();
        let at = Some(Partition(3));
        assert_eq!(sent, [(at, b"20".as_slice(), true), (at, b"22", true), (at, b"23", true)]);
        assert_eq!((publication.rows.len(), publication.parts.len()), (0, 2));
    }

    fn place(topic: &str) -> TopicPartition {
        TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(0))
    }

    /// A changelog record that came with the first of these inputs that moved in its batch, which ended at these offsets.
    fn decided(origin: &str, ends: &[(&str, i64)]) -> OutboxRow {
        let destination = TopicName::parse("p-s-changelog").unwrap();
        let (key, value, headers) = (Some(b"k".as_slice()), None, &[]);
        let (partition, timestamp, is_tracked) = (None, None, true);
        let message = Message { destination: &destination, partition, key, value, headers, timestamp, is_tracked };
        let (source, places) = (place(origin), ends.iter().map(|(topic, at)| (place(topic).topic, NextOffset(*at))));
        let places: Vec<_> = places.collect();
        let inputs = spelt(places.iter().map(|(topic, at)| (topic, *at)));
        let sequence = ends.iter().map(|(_, at)| at).sum();
        let own = ends.iter().find(|(topic, _)| *topic == origin).unwrap().1;
        let origin = Origin { source: &source, offset: Offset(own - 1) };
        changelog_row(origin, 0, 0, Decided { sequence, inputs: Some(&inputs) }, &message, Timestamp(0))
    }

    fn noted(ends: &[(&str, i64)]) -> Vec<(TopicPartition, NextOffset)> {
        ends.iter().map(|(topic, at)| (place(topic), NextOffset(*at))).collect()
    }

    /// What is sent of these changelog records, none of which is searched for, while `there` lies in its topic.
    fn left(missing: &[OutboxRow], there: &[OutboxRow], noted: &[(TopicPartition, NextOffset)]) -> Vec<OutboxRow> {
        let mut left = missing.to_vec();
        leave_out_published(&mut left, notices(there), noted);
        left
    }

    /// Three inputs whose offsets expired together: nothing but the message that lies there tells how far the second is published.
    #[test]
    fn a_changelog_record_is_overtaken_although_another_input_is_noted_less_far_than_it_is_published() {
        let first = decided("lead", &[("lead", 1), ("second", 0), ("table", 4)]);
        let notice = OutboxRow { headers: Vec::new(), ..decided("second", &[("second", 3)]) };
        let noted = noted(&[("lead", 0), ("second", 0), ("table", 4)]);
        assert_eq!(left(std::slice::from_ref(&first), std::slice::from_ref(&notice), &noted), []);
        let both = [first, notice];
        assert_eq!(left(&both, &both, &noted), both, "without the message nothing proves a later batch");
    }

    #[test]
    fn one_input_proves_a_later_batch_though_others_are_noted_less_far_than_they_were() {
        let first = decided("lead", &[("lead", 1), ("second", 0), ("third", 5)]);
        assert_eq!(left(std::slice::from_ref(&first), &[], &noted(&[("lead", 0), ("second", 1), ("third", 0)])), []);
    }

    #[test]
    fn what_was_decided_before_a_record_that_is_proved_is_not_sent_behind_it() {
        let first = decided("lead", &[("lead", 1), ("second", 2), ("table", 0)]);
        let later = decided("second", &[("lead", 1), ("second", 3), ("table", 1)]);
        let noted = noted(&[("lead", 0), ("second", 2), ("table", 2)]);
        assert_eq!(left(&[first, later], &[], &noted), []);
    }

    /// Its topic may have dropped it since: what a later batch of its task proves to be published is not sent again.
    #[test]
    fn a_message_in_front_of_a_record_that_is_proved_is_left_out_whichever_input_it_came_from() {
        let notice = |offset: i64| OutboxRow { headers: Vec::new(), ..decided("second", &[("second", offset + 1)]) };
        let record = decided("lead", &[("lead", 5), ("second", 3)]);
        let reached = noted(&[("lead", 6), ("second", 0)]);
        assert_eq!(left(&[notice(1), notice(2), record.clone(), notice(3)], &[], &reached), [notice(3)]);
        let of_nobody = noted(&[("lead", 0), ("second", 0)]);
        assert_eq!(left(&[notice(2), record.clone()], &[], &of_nobody), [notice(2), record], "nothing is proved");
    }

    #[test]
    fn an_input_that_was_added_since_proves_nothing() {
        let first = decided("lead", &[("lead", 1), ("second", 2)]);
        let noted = noted(&[("lead", 0), ("second", 2), ("added", 1_000)]);
        assert_eq!(left(std::slice::from_ref(&first), &[], &noted), [first]);
    }
}
