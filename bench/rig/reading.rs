//! One job: read a topic as a committed reader, from its start.

use crate::Outcome;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use std::collections::BTreeSet;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

/// A consumer of these partitions from their start; no group.
pub fn reader(
    brokers: &str,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
    is_eof_told: bool,
) -> Outcome<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", is_eof_told.to_string())
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "2")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Shows every record of these partitions, in offset order within each, up to the ends that they have now.
pub fn read_whole(
    brokers: &str,
    topic: &str,
    partitions: impl Iterator<Item = i32> + Clone,
    mut visit: impl FnMut(&BorrowedMessage<'_>) -> Outcome,
) -> Outcome {
    let mut unread: BTreeSet<i32> = partitions.clone().collect();
    let consumer = reader(brokers, topic, partitions, true)?;
    while !unread.is_empty() {
        match consumer.poll(WAIT).ok_or_else(|| format!("topic {topic} cannot be read"))? {
            Err(KafkaError::PartitionEOF(partition)) => {
                unread.remove(&partition);
            }
            message => visit(&message?)?,
        }
    }
    Ok(())
}
