//! The unpublished remainder: messages that an earlier owner of a task decided and did not publish.

use crate::engine::outbound::message::{changelog_message, sequence_of};
use crate::engine::outbound::outgoing::{Origin, Outgoing};
use crate::engine::outbound::publication::{Outbound, Part, Publication};
use crate::flow::record::{NextOffset, Offset, TopicPartition};
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
    /// The offset up to which each input is offered once this is handed over: a read of another input may fail before.
    pub(crate) offered: Vec<(TopicPartition, NextOffset)>,
}

/// Messages that their topics may have already, as K of their input is gone: the input, its range, and the rows decided
/// there.
pub(crate) type LookUp = (TopicPartition, (NextOffset, NextOffset), Vec<OutboxRow>);

/// Whether a changelog record was published although K of its input does not show it: a later batch of the same task,
/// which came with the other inputs, was. Published again it would set its key back. `others` is the sum of the offsets
/// up to which the other inputs are published. A record's sequence is the sum over all inputs at the end of its batch,
/// so without its own input it is the sum of the others at that time.
fn is_overtaken(row: &OutboxRow, others: i64) -> bool {
    sequence_of(row).is_some_and(|sequence| sequence.saturating_sub(row.source_offset.next().0) < others)
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
/// message before one that is there has been there too. Its topic may have dropped it since, or it is a changelog record,
/// which is not searched for. Sent again in several transactions, such messages would commit offsets before messages that
/// are there, and the next owner would send those twice.
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
    let last = missing.iter().filter(|row| is_there(row)).filter_map(sequence_of).max();
    let reached = with_found(reached, &asked);
    let others = |source: &TopicPartition| -> i64 {
        reached.iter().filter(|(other, _)| other != source).map(|(_, at)| at.0).sum()
    };
    missing.retain(|row| match sequence_of(row) {
        None => !is_there(row),
        Some(sequence) => last.is_none_or(|last| sequence > last) && !is_overtaken(row, others(&row.source)),
    });
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
        for (_, row) in &changelog {
            outgoing.push(Origin { source: &row.source, offset: row.source_offset }, &changelog_message(row));
        }
        let rows = rows.into_iter().map(|row| Outbound { row, input_at: None }).collect();
        Publication { parts, rows, outgoing, is_urgent: true, ..Publication::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outbound::message::changelog_row;
    use crate::engine::outbound::publication::Through;
    use crate::engine::protocol::ownership::AssignmentId;
    use crate::flow::record::{Partition, Timestamp, TopicName};
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
                changelog_row(origin, 0, 0, *sequence, &message, Timestamp(0))
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

    /// Three inputs whose offsets expired together: nothing but the message that lies there tells how far the second is published.
    #[test]
    fn a_changelog_record_is_overtaken_although_another_input_is_noted_less_far_than_it_is_published() {
        let place = |topic| TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(0));
        let (lead, second, table) = (place("lead"), place("second"), place("table"));
        let row = |source: &TopicPartition, offset, sequence: i64| {
            let destination = TopicName::parse("p-s-changelog").unwrap();
            let (key, value, headers) = (Some(b"k".as_slice()), None, &[]);
            let message = Message {
                destination: &destination,
                partition: None,
                key,
                value,
                headers,
                timestamp: None,
                is_tracked: true,
            };
            changelog_row(Origin { source, offset: Offset(offset) }, 0, 0, sequence, &message, Timestamp(0))
        };
        // The lead's record was decided when the others were at 4 together, at 0 of the second and 4 of the table.
        let published = row(&lead, 0, 1 + 4);
        let notice = OutboxRow { headers: Vec::new(), ..row(&second, 2, 0) };
        let noted = [(lead.clone(), NextOffset(0)), (second.clone(), NextOffset(0)), (table, NextOffset(4))];
        let left = |lacking: &[OutboxRow]| {
            let mut missing = lacking.to_vec();
            leave_out_published(&mut missing, notices(&[published.clone(), notice.clone()]), &noted);
            missing
        };
        assert_eq!(left(std::slice::from_ref(&published)), []);
        let both = [published.clone(), notice.clone()];
        assert_eq!(left(&both), both, "without the message nothing proves a later batch");
    }
}
