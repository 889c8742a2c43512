//! Cuts a publication that is too large for one transaction into several, each of which ends with the offsets it reaches.
//!
//! Messages of one input are never separated. Changelog records are about all inputs of their batch, and the offsets
//! that they are committed with prove them: so a publication that a step with stores has just decided is never cut. It
//! is decided again in smaller batches, or comes back as the remainder that a takeover found. No store depends on a
//! remainder yet, and only the order of its messages counts: a cut goes through their sequences, and each piece takes
//! the notices of all inputs along, up to those that its batches came to, so that the messages behind a cut may be sent again
//! in the order of their sequences, and a changelog record that is there proves that everything before it is.

use crate::engine::outbound::message::bytes_of;
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::outbound::size::Size;
use crate::flow::record::{Offset, TopicPartition};
use std::collections::{BTreeMap, VecDeque};

/// Messages that only go out together: those of one input, or of one batch that touched stores.
#[derive(Default)]
struct Units {
    sizes: Vec<Size>,
    /// The last input of each unit, by source.
    ends: BTreeMap<(TopicPartition, Offset), usize>,
}

impl Units {
    fn of(publication: &Publication, pipeline: &str) -> Self {
        let mut units = Self::default();
        for (origin, message) in publication.outgoing.with_origins() {
            units.add(origin.source, origin.offset, message.bytes());
            if let Some(lasts) = publication.batches.get(&(origin.source.clone(), origin.offset)) {
                units.reach(origin.source, origin.offset, lasts);
            }
        }
        for row in publication.rows.iter().map(|outbound| &outbound.row) {
            units.add(&row.source, row.source_offset, bytes_of(pipeline, row));
        }
        units
    }

    fn add(&mut self, source: &TopicPartition, offset: Offset, bytes: usize) {
        let number = self.number(source, offset).unwrap_or_else(|| {
            self.ends.insert((source.clone(), offset), self.sizes.len());
            self.sizes.push(Size::default());
            self.sizes.len() - 1
        });
        if let Some(size) = self.sizes.get_mut(number) {
            *size = size.plus(Size { messages: 1, bytes });
        }
    }

    /// Lets the unit of this input take along everything up to the last inputs of its batch.
    fn reach(&mut self, source: &TopicPartition, offset: Offset, lasts: &[(TopicPartition, Offset)]) {
        let Some(number) = self.number(source, offset) else { return };
        for (source, offset) in lasts {
            if self.number(source, *offset).is_none() {
                self.ends.insert((source.clone(), *offset), number);
            }
        }
    }

    /// The unit that a message of this input belongs to: that of the first end at or behind it.
    fn number(&self, source: &TopicPartition, offset: Offset) -> Option<usize> {
        let (end, number) = self.ends.range((source.clone(), offset)..).next()?;
        (end.0 == *source).then_some(*number)
    }

    /// Fills one piece after the other; answers the piece of each unit. A unit that is too large has a piece to itself.
    fn fill(&self, room: Size) -> Vec<usize> {
        let (mut piece, mut taken) = (0, Size::default());
        let place = |size: &Size| {
            if taken.messages > 0 && !taken.plus(*size).is_within(room) {
                (piece, taken) = (piece + 1, Size::default());
            }
            taken = taken.plus(*size);
            piece
        };
        self.sizes.iter().map(place).collect()
    }
}

impl Publication {
    /// The messages and bytes in it.
    pub(crate) fn size(&self, pipeline: &str) -> Size {
        let rows: usize = self.rows.iter().map(|outbound| bytes_of(pipeline, &outbound.row)).sum();
        Size { messages: self.len(), bytes: rows + self.outgoing.bytes() }
    }

    /// Whether all of it must go out at once: it proves a batch of stores.
    pub(crate) fn is_atomic(&self) -> bool {
        self.parts.iter().any(|part| part.batch > 0)
    }

    /// Whether it can be cut further.
    pub(crate) fn is_divisible(&self, pipeline: &str) -> bool {
        !self.is_atomic() && Units::of(self, pipeline).sizes.len() > 1
    }

    /// The publication itself, or its pieces in order where it is too large for `room`.
    pub(crate) fn pieces(self, pipeline: &str, room: Size) -> VecDeque<Self> {
        if room == Size::MAX || self.size(pipeline).is_within(room) {
            return [self].into();
        }
        if self.tasks().len() > 1 {
            return self.split().into_iter().flat_map(|own| own.pieces(pipeline, room)).collect();
        }
        if self.is_atomic() {
            return [self].into();
        }
        self.cut_up(pipeline, room)
    }

    fn cut_up(self, pipeline: &str, room: Size) -> VecDeque<Self> {
        let units = Units::of(&self, pipeline);
        let placed = units.fill(room);
        let last = placed.last().copied().unwrap_or(0);
        let mut pieces: VecDeque<Self> =
            (0..=last).map(|_| Self { is_urgent: self.is_urgent, ..Self::default() }).collect();
        for (origin, lasts) in self.batches {
            if let Some(piece) = units.number(&origin.0, origin.1).and_then(|unit| pieces.get_mut(*placed.get(unit)?)) {
                piece.batches.insert(origin, lasts);
            }
        }
        let piece_of = |source: &TopicPartition, offset: Offset| {
            units.number(source, offset).and_then(|unit| placed.get(unit).copied()).unwrap_or(last)
        };
        for (origin, message) in self.outgoing.with_origins() {
            if let Some(piece) = pieces.get_mut(piece_of(origin.source, origin.offset)) {
                piece.outgoing.push(origin, &message);
            }
        }
        for outbound in self.rows {
            if let Some(piece) = pieces.get_mut(piece_of(&outbound.row.source, outbound.row.source_offset)) {
                piece.rows.push(outbound);
            }
        }
        for part in self.parts {
            let mut reached = BTreeMap::new();
            for ((source, offset), unit) in units.ends.range((part.source.clone(), Offset(i64::MIN))..) {
                if *source != part.source {
                    break;
                }
                // A batch may have come to inputs of this source that were published before.
                if part.from < offset.next() {
                    reached.insert(placed.get(*unit).copied().unwrap_or(last), offset.next());
                }
            }
            // An input without messages moves on with the last piece.
            if reached.last_key_value().is_none_or(|(_, to)| *to < part.to) {
                reached.insert(last, part.to);
            }
            let mut from = part.from;
            for (number, to) in reached {
                if let Some(piece) = pieces.get_mut(number) {
                    piece.parts.push(Part { from, to, ..part.clone() });
                }
                from = to;
            }
        }
        if let Some(first) = pieces.front_mut() {
            first.counts = self.counts;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outbound::outgoing::Origin;
    use crate::engine::outbound::publication::{Outbound, Through};
    use crate::engine::protocol::ownership::AssignmentId;
    use crate::flow::record::{NextOffset, Partition, Timestamp, TopicName};
    use crate::ports::rows::OutboxRow;
    use crate::ports::sink::Message;
    use crate::ports::source::TaskId;

    fn place(topic: &str) -> TopicPartition {
        TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(0))
    }

    fn part(topic: &str, to: i64, through: Through) -> Part {
        let task = TaskId { sub_topology: 0, partition: Partition(0) };
        let (assignment, from, to) = (AssignmentId(1), NextOffset(0), NextOffset(to));
        let (source, marks) = (place(topic), None);
        Part { task, assignment, source, through, from, to, marks, batch: 0 }
    }

    fn notice(topic: &str, offset: i64) -> Outbound {
        let row = OutboxRow {
            source: place(topic),
            source_offset: Offset(offset),
            seq: 0,
            incarnation: 0,
            destination: TopicName::parse("out").unwrap(),
            key: None,
            value: Some(vec![b'x'; 100]),
            headers: Vec::new(),
            created_at: Timestamp(0),
            timestamp: None,
        };
        Outbound { row, input_at: None }
    }

    fn record(publication: &mut Publication, topic: &str, offset: i64, is_tracked: bool) {
        let (source, destination) = (place(topic), TopicName::parse("log").unwrap());
        let (partition, value) = (Some(Partition(0)), Some(b"v".as_slice()));
        let message = Message {
            destination: &destination,
            partition,
            key: None,
            value,
            headers: &[],
            timestamp: None,
            is_tracked,
        };
        publication.outgoing.push(Origin { source: &source, offset: Offset(offset) }, &message);
    }

    /// The parts, notices and other records of each piece.
    type Shown = Vec<(Vec<(String, i64, i64)>, Vec<i64>, Vec<i64>)>;

    fn shown(pieces: VecDeque<Publication>) -> Shown {
        let show = |piece: Publication| {
            let parts =
                piece.parts.iter().map(|part| (part.source.topic.to_string(), part.from.0, part.to.0)).collect();
            let rows = piece.rows.iter().map(|outbound| outbound.row.source_offset.0).collect();
            let others = piece.outgoing.with_origins().map(|(origin, _)| origin.offset.0).collect();
            (parts, rows, others)
        };
        pieces.into_iter().map(show).collect()
    }

    fn messages(messages: usize) -> Size {
        Size { messages, ..Size::MAX }
    }

    #[test]
    fn each_piece_ends_with_the_offset_it_reaches_and_no_input_is_parted() {
        let rows = [0, 3, 3, 3, 7].map(|offset| notice("in", offset)).into();
        let publication =
            Publication { parts: vec![part("in", 9, Through::Database { epoch: 1 })], rows, ..Publication::default() };
        assert!(publication.is_divisible("p"));
        let part = |from, to| vec![("in".to_owned(), from, to)];
        let expected: Shown =
            vec![(part(0, 1), vec![0], vec![]), (part(1, 4), vec![3, 3, 3], vec![]), (part(4, 9), vec![7], vec![])];
        assert_eq!(shown(publication.pieces("p", messages(1))), expected);

        let rows = (0..4).map(|offset| notice("in", offset)).collect();
        let publication = Publication {
            parts: vec![self::part("in", 4, Through::Database { epoch: 1 })],
            rows,
            ..Publication::default()
        };
        let two = publication.size("p").bytes / 2;
        let pieces = shown(publication.pieces("p", Size { bytes: two, ..Size::MAX }));
        assert_eq!(pieces, [(part(0, 2), vec![0, 1], vec![]), (part(2, 4), vec![2, 3], vec![])], "by bytes");
    }

    #[test]
    fn changelog_records_are_cut_in_their_turns_with_the_notices_up_to_them() {
        let rows = [notice("a", 1), notice("a", 5), notice("b", 2), notice("b", 8)].into();
        let mut publication = Publication {
            parts: vec![part("a", 7, Through::Database { epoch: 1 }), part("b", 9, Through::Database { epoch: 1 })],
            rows,
            ..Publication::default()
        };
        for (topic, offset) in [("a", 1), ("a", 1), ("b", 4), ("a", 6)] {
            record(&mut publication, topic, offset, true);
        }
        let part = |topic: &str, from, to| (topic.to_owned(), from, to);
        let expected: Shown = vec![
            (vec![part("a", 0, 2)], vec![1], vec![1, 1]),
            (vec![part("b", 0, 5)], vec![2], vec![4]),
            (vec![part("a", 2, 7)], vec![5], vec![6]),
            (vec![part("b", 5, 9)], vec![8], vec![]),
        ];
        let found = shown(publication.pieces("p", messages(2)));
        assert_eq!(found, expected);
    }

    /// The first batch came to an input of the other source that has no changelog record of its own.
    #[test]
    fn a_piece_takes_the_notices_of_all_inputs_of_its_batches_along() {
        let rows = [notice("a", 0), notice("b", 1), notice("b", 4)].into();
        let mut publication = Publication {
            parts: vec![part("a", 7, Through::Database { epoch: 1 }), part("b", 9, Through::Database { epoch: 1 })],
            rows,
            ..Publication::default()
        };
        for offset in [1, 6] {
            record(&mut publication, "a", offset, true);
        }
        publication.batches.insert((place("a"), Offset(1)), vec![(place("a"), Offset(1)), (place("b"), Offset(2))]);
        // Its place among those of the other source was published before.
        publication.batches.insert((place("a"), Offset(6)), vec![(place("a"), Offset(6)), (place("c"), Offset(2))]);
        publication.parts.push(Part { from: NextOffset(5), to: NextOffset(5), ..part("c", 5, Through::Log) });
        let part = |topic: &str, from, to| (topic.to_owned(), from, to);
        let expected: Shown = vec![
            (vec![part("a", 0, 2), part("b", 0, 3)], vec![0, 1], vec![1]),
            (vec![part("a", 2, 7)], vec![], vec![6]),
            (vec![part("b", 3, 9), part("c", 5, 5)], vec![4], vec![]),
        ];
        assert_eq!(shown(publication.pieces("p", messages(1))), expected);
    }

    #[test]
    fn of_what_was_just_decided_only_that_of_steps_without_stores_is_cut() {
        let log = |is_tracked| {
            let mut publication = Publication { parts: vec![part("in", 3, Through::Log)], ..Publication::default() };
            publication.parts.iter_mut().for_each(|part| part.batch = u64::from(is_tracked));
            (0..3).for_each(|offset| record(&mut publication, "in", offset, is_tracked));
            publication
        };
        assert!(log(false).is_divisible("p") && !log(true).is_divisible("p"));
        assert_eq!(log(false).pieces("p", messages(1)).len(), 3);
        assert_eq!(log(true).pieces("p", messages(1)).len(), 1);
    }
}
