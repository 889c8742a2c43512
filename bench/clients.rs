//! One job: Kafka clients without an engine: partitions dealt out by hand, transactions by the fast path.

use crate::Outcome;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::producer::{DefaultProducerContext, Producer, ThreadedProducer};
use std::collections::BTreeMap;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

/// A transactional producer whose events a thread of its own serves.
pub type Transactions = ThreadedProducer<DefaultProducerContext>;

/// The partitions of worker `number`: a group would add seconds, not speed.
pub fn share(partitions: i32, workers: usize, number: usize) -> impl Iterator<Item = i32> + Clone {
    (0..partitions).filter(move |partition| usize::try_from(*partition).is_ok_and(|place| place % workers == number))
}

/// A committed reader of these partitions from their start.
pub fn consumer(
    brokers: &str,
    group: &str,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
    is_eof_told: bool,
) -> Outcome<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", is_eof_told.to_string())
        .set("fetch.wait.max.ms", "25")
        .set("fetch.queue.backoff.ms", "2")
        .set("fetch.message.max.bytes", "4194304")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(0))?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// A producer, its predecessor fenced.
pub fn producer(brokers: &str, transactional_id: &str) -> Outcome<Transactions> {
    let producer: Transactions = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", "10000")
        .set("partitioner", "murmur2_random")
        .set("compression.codec", "lz4")
        .set("linger.ms", "5")
        .set("retry.backoff.ms", "2")
        .set("delivery.report.only.error", "true")
        .create()?;
    producer.init_transactions(WAIT)?;
    Ok(producer)
}

/// Ends a transaction: everything acknowledged, offsets last. `next_offsets` by partition of `topic`.
pub fn commit(
    producer: &Transactions,
    metadata: &ConsumerGroupMetadata,
    topic: &str,
    next_offsets: &BTreeMap<i32, i64>,
) -> Outcome {
    flush(producer)?;
    let mut offsets = TopicPartitionList::new();
    for (partition, next_offset) in next_offsets {
        offsets.add_partition_offset(topic, *partition, rdkafka::Offset::Offset(*next_offset))?;
    }
    producer.send_offsets_to_transaction(&offsets, metadata, WAIT)?;
    Ok(producer.commit_transaction(WAIT)?)
}

/// rdkafka's own flush waits in steps of 100 ms; a thread of the producer serves its events meanwhile.
#[expect(unsafe_code, reason = "a C call that rdkafka does not offer")]
pub fn flush(producer: &Transactions) -> Outcome {
    // SAFETY: the producer is alive.
    let code = unsafe { rdkafka_sys::rd_kafka_flush(producer.client().native_ptr(), 30_000) };
    if code == rdkafka_sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        Ok(())
    } else {
        Err(format!("flush: {code:?}").into())
    }
}
