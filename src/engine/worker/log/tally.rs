//! The tally of a slice: records counted by topic and place until the status gets them.

use crate::engine::status::{Declarations, Streams};
use crate::flow::record::{Record, TopicName};
use crate::ports::rows::Counts;
use std::cell::RefCell;

/// Records that lay where their source declares, counted by topic until the end of the slice, because the status is
/// behind a lock.
#[derive(Default)]
pub(super) struct InPlace(RefCell<Vec<(TopicName, u64, u64)>>);

impl InPlace {
    pub(super) fn note(&self, topic: &TopicName, record: &Record<'_>) {
        let bytes = record.bytes() as u64;
        let mut counted = self.0.borrow_mut();
        if let Some((_, records, sum)) = counted.iter_mut().find(|(other, ..)| other == topic) {
            *records += 1;
            *sum += bytes;
        } else {
            counted.push((topic.clone(), 1, bytes));
        }
    }

    pub(super) fn report(self, declared: &Declarations) {
        for (topic, records, bytes) in self.0.into_inner() {
            declared.in_place(&topic, records, bytes);
        }
    }
}

/// Decided records by source topic, counted in the same way.
#[derive(Default)]
pub(super) struct Decisions(RefCell<Vec<(TopicName, Counts)>>);

impl Decisions {
    pub(super) fn note(&self, topic: &TopicName, counts: Counts) {
        let mut counted = self.0.borrow_mut();
        if let Some((_, sum)) = counted.iter_mut().find(|(other, _)| other == topic) {
            *sum += counts;
        } else {
            counted.push((topic.clone(), counts));
        }
    }

    pub(super) fn report(self, streams: &Streams) {
        for (topic, counts) in self.0.into_inner() {
            streams.decided(&topic, counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Offset, Timestamp};

    #[test]
    fn records_in_their_places_are_counted_by_topic() {
        let topic = |name| TopicName::parse(name).unwrap();
        let record =
            Record { offset: Offset(0), timestamp: Timestamp(0), key: Some(b"k"), value: Some(b"123"), headers: &[] };
        let counted = InPlace::default();
        for name in ["a", "b", "a", "a"] {
            counted.note(&topic(name), &record);
        }
        assert_eq!(counted.0.into_inner(), [(topic("a"), 3, 12), (topic("b"), 1, 4)]);
    }
}
