//! One job: topics, and the backlog in them.

use crate::Outcome;
use crate::load::{Input, notification};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use std::time::Duration;

/// Partitions of every topic.
pub const PARTITIONS: i32 = 8;

/// What notifications of a backlog carry as the moment they were due: 16 digits, as a real one.
const LONG_AGO_US: u64 = 1_000_000_000_000_000;

/// Creates topics of [`PARTITIONS`] partitions.
pub fn create(brokers: &str, names: &[&str]) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topics: Vec<_> = names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))).collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for result in runtime.block_on(admin.create_topics(&topics, &options))? {
        result.map_err(|(name, code)| format!("topic {name}: {code}"))?;
    }
    Ok(())
}

/// A producer for loads: idempotent, without transactions, Java's partitioner.
pub fn producer(brokers: &str, linger_ms: &str) -> Outcome<ThreadedProducer<DefaultProducerContext>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("compression.codec", "lz4")
        .set("linger.ms", linger_ms)
        .set("queue.buffering.max.messages", "1000000")
        .create()?)
}

/// Queues one notification; waits while the client's queue is full.
pub fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, id: i64, at_us: u64) -> Outcome {
    let (key, value) = (id.to_string(), notification(id, at_us));
    let mut record = BaseRecord::to(topic).key(&key).payload(&value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Fills an input topic.
pub fn fill(brokers: &str, input: &Input) -> Outcome {
    let producer = producer(brokers, "20")?;
    for id in input.ids() {
        send(&producer, &input.topic, id, LONG_AGO_US)?;
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}

/// Fetches a topic's metadata, so that the first notification does not wait for it.
pub fn producer_is_ready(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str) -> Outcome {
    producer.client().fetch_metadata(Some(topic), Duration::from_secs(30))?;
    Ok(())
}
