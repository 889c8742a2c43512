//! One job: topics, and the backlog in them.

use crate::Outcome;
use crate::load::{Input, notification};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use std::time::{Duration, Instant};

/// Partitions of every topic.
pub const PARTITIONS: i32 = 8;

/// Longest time until the broker reports a created topic.
const VISIBLE_WAIT: Duration = Duration::from_secs(30);

/// The due moment in the notifications of a backlog: 16 digits, as a real one.
const LONG_AGO_US: u64 = 1_000_000_000_000_000;

/// A topic to be created.
pub struct Topic<'a> {
    pub name: &'a str,
    pub partitions: i32,
    /// Whether only the last record of each key is kept in the end.
    pub is_compacted: bool,
}

impl<'a> Topic<'a> {
    /// A topic of [`PARTITIONS`] partitions that keeps everything.
    pub const fn new(name: &'a str) -> Self {
        Self { name, partitions: PARTITIONS, is_compacted: false }
    }
}

/// Creates topics of [`PARTITIONS`] partitions.
pub fn create(brokers: &str, names: &[&str]) -> Outcome {
    create_all(brokers, names.iter().copied().map(Topic::new))
}

/// Creates topics, and waits until the broker reports them: its answer comes before the topics are known to it.
pub fn create_all<'a>(brokers: &str, topics: impl Iterator<Item = Topic<'a>>) -> Outcome {
    let wanted: Vec<Topic<'a>> = topics.collect();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new = |topic: &Topic<'a>| {
        let new = NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(1));
        if topic.is_compacted { new.set("cleanup.policy", "compact") } else { new }
    };
    let topics: Vec<NewTopic<'_>> = wanted.iter().map(new).collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for result in runtime.block_on(admin.create_topics(&topics, &options))? {
        result.map_err(|(name, code)| format!("topic {name}: {code}"))?;
    }
    wanted.iter().try_for_each(|topic| await_topic(&admin, topic))
}

fn await_topic(admin: &AdminClient<DefaultClientContext>, topic: &Topic<'_>) -> Outcome {
    let (begun_at, partitions) = (Instant::now(), usize::try_from(topic.partitions)?);
    while begun_at.elapsed() < VISIBLE_WAIT {
        let metadata = admin.inner().fetch_metadata(Some(topic.name), VISIBLE_WAIT)?;
        let mut topics = metadata.topics().iter();
        let is_led = |found: &MetadataTopic| found.partitions().iter().filter(|one| one.leader() >= 0).count();
        if topics.any(|found| found.error().is_none() && is_led(found) == partitions) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("topic {}: created, but the broker does not tell of it", topic.name).into())
}

/// The names of all topics.
pub fn names(brokers: &str) -> Outcome<Vec<String>> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let metadata = client.fetch_metadata(None, Duration::from_secs(30))?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
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
    offer(producer, BaseRecord::to(topic).key(key.as_bytes()).payload(value.as_bytes()))
}

/// A record of bytes.
pub type BytesRecord<'a> = BaseRecord<'a, [u8], [u8]>;

/// Queues one record; waits while the client's queue is full.
pub fn offer(producer: &ThreadedProducer<DefaultProducerContext>, mut record: BytesRecord<'_>) -> Outcome {
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

/// A producer for a paced load, ready to send to `topic`: the first record does not wait for metadata.
pub fn paced_producer(brokers: &str, topic: &str) -> Outcome<ThreadedProducer<DefaultProducerContext>> {
    // A service would linger too: without it, 2,000 requests a second would keep the broker from the system under test.
    let producer = producer(brokers, "2")?;
    producer.client().fetch_metadata(Some(topic), Duration::from_secs(30))?;
    Ok(producer)
}
