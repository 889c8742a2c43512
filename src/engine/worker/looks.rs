//! Looks at the places of keys where nothing is declared and a step keeps something by key.

use crate::engine::status::{Looked, Undeclared};
use crate::flow::key::crc32_partition_for;
use crate::flow::partitioning::KeyHash;
use crate::flow::record::{Partition, TopicName};
use std::cell::RefCell;

/// Keyed records of sources that declare nothing, held against the hash by which they would have to be partitioned for equal
/// keys to meet: counted by topic until the status gets them, because that is behind a lock.
#[derive(Default)]
pub(crate) struct Looks(RefCell<Vec<(TopicName, Looked)>>);

impl Looks {
    pub(crate) fn note(&self, topic: &TopicName, key: &[u8], hash: &KeyHash, count: i32, found: Partition) {
        let Ok(expected) = hash.place(key, count) else { return };
        let is_elsewhere = expected != found.0;
        let is_crc32 = is_elsewhere && crc32_partition_for(key, count) == found.0;
        let mut counted = self.0.borrow_mut();
        let place = counted.iter().position(|(other, _)| other == topic).unwrap_or_else(|| {
            counted.push((topic.clone(), Looked { assumed: hash.name(), ..Looked::default() }));
            counted.len() - 1
        });
        if let Some((_, looked)) = counted.get_mut(place) {
            looked.checked += 1;
            looked.elsewhere += u64::from(is_elsewhere);
            looked.by_crc32 += u64::from(is_crc32);
        }
    }

    pub(crate) fn report(&self, undeclared: &Undeclared) {
        for (topic, looked) in self.0.take() {
            undeclared.looked(&topic, looked);
        }
    }
}
