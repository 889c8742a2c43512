//! One job: a group's offsets, at the ends of what it read.

use crate::Outcome;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

/// A client that asks, without joining.
fn client(brokers: &str, group: &str) -> Outcome<BaseConsumer> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create()?)
}

/// The end of each partition, transaction markers included.
pub fn ends(brokers: &str, topic: &str, partitions: i32) -> Outcome<Vec<i64>> {
    let client = client(brokers, "bench-judge")?;
    let end = |partition| Ok(client.fetch_watermarks(topic, partition, WAIT)?.1);
    (0..partitions).map(end).collect()
}

/// The group's offset of each partition; 0 where it has none.
pub fn committed(brokers: &str, group: &str, topic: &str, partitions: i32) -> Outcome<Vec<i64>> {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let committed = client(brokers, group)?.committed_offsets(list, WAIT)?;
    Ok(committed.elements().iter().map(|element| element.offset().to_raw().unwrap_or(0).max(0)).collect())
}

/// Compares the group's offsets with those that are due, by partition.
///
/// # Errors
/// The first that differs.
pub fn compare(brokers: &str, group: &str, topic: &str, due: &[i64]) -> Outcome {
    let found = committed(brokers, group, topic, i32::try_from(due.len())?)?;
    for (partition, (found, due)) in found.iter().zip(due).enumerate() {
        if found != due {
            return Err(format!("judge: group {group}, {topic}-{partition}: offset {found}, where {due} is due").into());
        }
    }
    Ok(())
}
