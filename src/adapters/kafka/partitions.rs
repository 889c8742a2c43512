//! Lists of partitions in the client's form, and its answer about each.

use super::ffi;
use crate::flow::record::TopicPartition;
use crate::ports::fault::Fault;
use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode as Code;

/// The client's form of a list of partitions with offsets.
pub(super) fn list<'a>(
    partitions: impl Iterator<Item = (&'a TopicPartition, i64)>,
) -> Result<TopicPartitionList, Fault> {
    let mut list = TopicPartitionList::new();
    for (TopicPartition { topic, partition }, offset) in partitions {
        list.add_partition_offset(topic.as_str(), partition.0, rdkafka::Offset::Offset(offset))
            .map_err(|error| Fault::corrupt(format!("{topic}-{partition}: offset {offset}")).because(error))?;
    }
    Ok(list)
}

/// The first partition that the client refused, as a fault.
pub(super) fn first_error(list: &TopicPartitionList, what: &str) -> Result<(), Fault> {
    match ffi::states(list).into_iter().find(|(_, _, code)| *code != Code::NoError) {
        Some((topic, partition, code)) => Err(Fault::retry(format!("{topic}-{partition}: {what}: {code}"))),
        None => Ok(()),
    }
}
