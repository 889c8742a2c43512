//! Questions about the group and its log; every call may be made while another thread polls.

use super::Quiet;
use super::consumer::list;
use super::fault::{by_code, by_error};
use super::ffi;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::source::{Bounds, Committed, Group, LogIds};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::groups::GroupInfo;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A group as one of its members, or a mere reader, asks about it.
#[derive(Clone)]
pub(super) struct KafkaGroup {
    consumer: Arc<BaseConsumer<Quiet>>,
    name: String,
    has_left: Arc<AtomicBool>,
}

impl KafkaGroup {
    /// Asks through `consumer`, whose group is called `name`.
    pub(super) fn new(consumer: Arc<BaseConsumer<Quiet>>, name: &str) -> Self {
        Self { consumer, name: name.into(), has_left: Arc::default() }
    }

    /// The member has left: it commits nothing more.
    pub(super) fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// The group's id.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Offsets with their metadata, as the client wants them.
pub(super) fn offsets(offsets: &[(TopicPartition, Committed)]) -> Result<TopicPartitionList, Fault> {
    let all = list(offsets.iter().map(|(partition, committed)| (partition, committed.next_offset.0)))?;
    for (TopicPartition { topic, partition }, committed) in offsets {
        if let Some(mut element) = all.find_partition(topic.as_str(), partition.0) {
            element.set_metadata(&committed.metadata);
        }
    }
    Ok(all)
}

impl Group for KafkaGroup {
    fn committed(&self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Committed>>, Fault> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let what = format!("group {}: committed offsets", self.name);
        let asked = list(partitions.iter().map(|partition| (partition, 0)))?;
        let answer = self.consumer.committed_offsets(asked, wait).map_err(|error| by_error(&error, &what))?;
        let one = |TopicPartition { topic, partition }: &TopicPartition| {
            let element = answer.find_partition(topic.as_str(), partition.0);
            let element = element.ok_or_else(|| Fault::retry(format!("{what}: {topic}-{partition} is missing")))?;
            element.error().map_err(|error| by_error(&error, &format!("{what}: {topic}-{partition}")))?;
            Ok(match element.offset() {
                Offset::Offset(offset) => {
                    Some(Committed { next_offset: NextOffset(offset), metadata: element.metadata().to_owned() })
                }
                _ => None,
            })
        };
        partitions.iter().map(one).collect()
    }

    fn bounds(&self, partition: &TopicPartition, wait: Duration) -> Result<Bounds, Fault> {
        let TopicPartition { topic, partition: number } = partition;
        let (start, end) = self
            .consumer
            .fetch_watermarks(topic.as_str(), number.0, wait)
            .map_err(|error| by_error(&error, &format!("{partition}: start and end")))?;
        Ok(Bounds { start: NextOffset(start), end: NextOffset(end) })
    }

    fn log_ids(&self, topic: &TopicName, wait: Duration) -> Result<LogIds, Fault> {
        let client = self.consumer.client();
        let cluster_id =
            client.fetch_cluster_id(wait).ok_or_else(|| Fault::retry("the cluster did not tell its id"))?;
        let (topic_id, _) = ffi::describe_topic(client, topic.as_str(), wait)?
            .ok_or_else(|| Fault::corrupt(format!("there is no topic {topic}")))?;
        Ok(LogIds { cluster_id, topic_id })
    }

    fn partition_count(&self, topic: &TopicName, wait: Duration) -> Result<Option<i32>, Fault> {
        Ok(ffi::describe_topic(self.consumer.client(), topic.as_str(), wait)?.map(|(_, count)| count))
    }

    fn owner_address(&self, partition: &TopicPartition, wait: Duration) -> Result<Option<String>, Fault> {
        let what = format!("group {}: members", self.name);
        let groups = self.consumer.fetch_group_list(Some(&self.name), wait).map_err(|error| by_error(&error, &what))?;
        let members = groups.groups().iter().flat_map(GroupInfo::members);
        let mut owners = members.filter(|member| assigned(member.assignment().unwrap_or_default(), partition));
        let prefix = format!("{}@", self.name);
        Ok(owners.next().and_then(|owner| owner.client_id().strip_prefix(&prefix)).map(str::to_owned))
    }

    fn commit(&self, commits: &[(TopicPartition, Committed)], wait: Duration) -> Result<(), Fault> {
        if commits.is_empty() {
            return Ok(());
        }
        // A group without members takes a commit from anybody who names neither member nor generation (hazard H3), which
        // is what the client sends before it has joined and after it has left.
        if self.has_left.load(Ordering::Acquire) {
            return Err(Fault::fenced(format!("group {}: this member has left", self.name)));
        }
        ffi::membership(self.consumer.client()).map_err(Fault::fenced)?;
        ffi::commit(self.consumer.client(), &offsets(commits)?, wait)
            .map_err(|code| by_code(code, &format!("group {}: commit of offsets", self.name)))
    }
}

/// Whether an assignment, as the group protocol `consumer` spells it, holds the partition: `[version: i16] [topics: i32]
/// ([name: i16 + bytes] [count: i32] [partition: i32]…)…`, big-endian (`ConsumerProtocolAssignment.json` of Apache Kafka).
fn assigned(bytes: &[u8], wanted: &TopicPartition) -> bool {
    let mut rest = bytes;
    let found = (|| {
        take::<2>(&mut rest)?;
        for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
            let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
            let (name, after) = rest.split_at_checked(length)?;
            rest = after;
            for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
                let number = i32::from_be_bytes(take(&mut rest)?);
                if number == wanted.partition.0 && name == wanted.topic.as_str().as_bytes() {
                    return Some(true);
                }
            }
        }
        None
    })();
    found.unwrap_or(false)
}

/// The next `N` bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;

    #[test]
    fn an_assignment_is_read_as_the_group_protocol_spells_it() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (name, partitions) in [("a", vec![0, 3]), ("bc", vec![7])] {
            bytes.extend_from_slice(&i16::try_from(name.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&i32::try_from(partitions.len()).unwrap().to_be_bytes());
            bytes.extend(partitions.iter().flat_map(|number: &i32| number.to_be_bytes()));
        }
        bytes.extend_from_slice(&(-1_i32).to_be_bytes()); // no user data
        let place = |topic: &str, number| TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(number));
        assert!(assigned(&bytes, &place("a", 3)) && assigned(&bytes, &place("bc", 7)));
        assert!(!assigned(&bytes, &place("a", 7)) && !assigned(&bytes, &place("b", 7)));
        for length in 0..bytes.len() - 4 {
            assert!(!assigned(&bytes[..length], &place("bc", 7)), "cut at {length}");
        }
    }
}
