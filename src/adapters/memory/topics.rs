//! Topics: their ids, their partitions, and which partition a message goes to.

use super::partition::{PartitionLog, ProducerId, Stored};
use crate::flow::key::partition_for;
use crate::flow::record::{Header, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use std::collections::BTreeMap;

/// The content of a message on its way in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [Header],
    pub(super) timestamp: Timestamp,
}

impl Content<'_> {
    pub(super) fn store(&self, offset: Offset) -> Stored {
        Stored {
            offset,
            timestamp: self.timestamp,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers.to_vec(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len)).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: String,
    pub(super) partitions: Vec<PartitionLog>,
    /// Its own `max.message.bytes`, where it has one.
    pub(super) message_bytes_max: Option<usize>,
    keyless: i32,
}

impl Topic {
    pub(super) fn new(id: String, count: i32) -> Self {
        let partitions = (0..count).map(|_| PartitionLog::default()).collect();
        Self { id, partitions, message_bytes_max: None, keyless: 0 }
    }

    pub(super) fn grow(&mut self, total: i32) {
        let total = usize::try_from(total).unwrap_or(0).max(self.partitions.len());
        self.partitions.resize_with(total, PartitionLog::default);
    }

    pub(super) fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// By murmur2 with a key, in turn without one.
    fn choose(&mut self, key: Option<&[u8]>) -> Partition {
        let count = self.count();
        Partition(key.map_or_else(
            || {
                let turn = self.keyless;
                self.keyless = turn.wrapping_add(1).max(0);
                turn.checked_rem(count).unwrap_or(0)
            },
            |key| partition_for(key, count),
        ))
    }
}

/// All topics of the log.
#[derive(Debug, Default)]
pub(super) struct Topics {
    pub(super) by_name: BTreeMap<TopicName, Topic>,
    /// The number of topics ever created with a counted id.
    pub(super) created: u64,
}

impl Topics {
    pub(super) fn count(&self, topic: &TopicName) -> Option<i32> {
        self.by_name.get(topic).map(Topic::count)
    }

    pub(super) fn get(&self, place: &TopicPartition) -> Option<&PartitionLog> {
        let number = usize::try_from(place.partition.0).ok()?;
        self.by_name.get(&place.topic)?.partitions.get(number)
    }

    pub(super) fn get_mut(&mut self, place: &TopicPartition) -> Option<&mut PartitionLog> {
        let number = usize::try_from(place.partition.0).ok()?;
        self.by_name.get_mut(&place.topic)?.partitions.get_mut(number)
    }

    /// The partition a message goes to.
    pub(super) fn place(
        &mut self,
        topic: &TopicName,
        partition: Option<Partition>,
        key: Option<&[u8]>,
    ) -> Result<TopicPartition, Fault> {
        let found = self.by_name.get_mut(topic).ok_or_else(|| no_such_topic(topic))?;
        Ok(TopicPartition::new(topic.clone(), partition.unwrap_or_else(|| found.choose(key))))
    }

    pub(super) fn append(
        &mut self,
        place: &TopicPartition,
        content: &Content<'_>,
        open_in: Option<ProducerId>,
    ) -> Result<Offset, Fault> {
        let partition = self.get_mut(place).ok_or_else(|| no_such_topic(&place.topic))?;
        Ok(partition.append(|offset| content.store(offset), open_in))
    }
}

pub(super) fn no_such_topic(topic: &TopicName) -> Fault {
    Fault::retry(format!("topic {topic}: no such topic or partition in the in-process log"))
}
