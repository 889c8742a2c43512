//! The load: 50,000 rows of which 5 % are hot, repeats, poison, missing rows, 20 B to 900 KiB, on two co-partitioned
//! topics. Each record names its expected result in a header, and bears a receipt; `examples/load.rs` takes it.

#[cfg(feature = "failpoints")]
use super::until;
use super::world::example;
use super::{Random, World, evenly};
use crate::reader::{EXPECT_HEADER, OUTPUT, RECEIPT_HEADER, SOURCES, Servers};
#[cfg(feature = "failpoints")]
use rdkafka::consumer::{BaseConsumer, Consumer as _};
#[cfg(feature = "failpoints")]
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaAdmin, KafkaFeed, TopicSpec};
use tidegate::flow::record::{Header, TopicName};

const IDS: u64 = 50_000;
const HOT: u64 = IDS / 20;
const PARTITIONS: i32 = 12;
/// A source with none of the load, which a test may delete; the pipeline reads it where [`SPARE_WANTED`] is set.
#[cfg(feature = "failpoints")]
const SPARE: &str = "load-spare";
#[cfg(feature = "failpoints")]
const SPARE_WANTED: &str = "LOAD_SPARE";
/// The place of the companion among the topics.
const COMPANION: usize = 1;
/// Distance of a repeat from its record: within a batch even of a slow feed.
const REPEATED: usize = 20;

/// The time that a question to a broker may take.
#[cfg(feature = "failpoints")]
const WAIT: Duration = Duration::from_secs(30);
/// Members look once a minute which topics there are (`topic.metadata.refresh.interval.ms`).
#[cfg(feature = "failpoints")]
const ASSIGNED_WITHIN: Duration = Duration::from_secs(90);

/// The defects of poisoned records.
const POISONS: [&str; 7] = ["not-json", "no-value", "no-key", "bad-key", "wrong-type", "rejected", "panic"];

/// One producer in one thread.
pub struct Load {
    producer: KafkaFeed,
    topics: [TopicName; 2],
    random: Random,
    recent: VecDeque<(usize, u64)>,
    pub sent: u64,
    /// While it is set, the companion topic gets nothing that can be used.
    pub is_companion_poisoned: Arc<AtomicBool>,
}

impl World {
    /// Servers, topics and tables for the load, with its pipeline. `None` when servers are not wanted.
    pub fn load(name: &'static str) -> Option<Self> {
        Self::example(name, "load").map(|world| world.with_load(1))
    }

    /// The same with variables of `kafka.sh`.
    #[cfg(feature = "failpoints")]
    pub fn load_with_kafka(name: &'static str, variables: &[(&str, &str)]) -> Option<Self> {
        Self::example_with_kafka(name, "load", variables).map(|world| world.with_load(1))
    }

    /// The same on three brokers, each record on all of them.
    #[cfg(feature = "failpoints")]
    pub fn load_on_three_brokers(name: &'static str) -> Option<Self> {
        Self::example_on_three_brokers(name, "load").map(|world| world.with_load(3))
    }

    fn with_load(mut self, replicas: i32) -> Self {
        let world = &mut self;
        world.settings.push(("TIDEGATE_PIPELINE__VERDICTS".into(), "true".into()));
        let topic = |name: &str, bytes_max: &str| spec(name, PARTITIONS, replicas, bytes_max);
        let mut topics = vec![topic(OUTPUT, "1048588")];
        for source in SOURCES {
            topics.push(topic(source, "1048588"));
            topics.push(topic(&format!("{source}-dlt"), "1114124"));
        }
        KafkaAdmin::connect(&world.kafka_settings()).unwrap().create(&topics).unwrap();
        world.ok(&["migrate"]);
        world.sql(include_str!("../../oracle/tables.sql"));
        world.sql(&format!("INSERT INTO things SELECT id FROM generate_series(1, {IDS}) id"));
        self
    }

    /// The same with a source that carries none of the load, of one partition.
    #[cfg(feature = "failpoints")]
    pub fn with_spare(mut self) -> Self {
        self.settings.push((SPARE_WANTED.into(), "1".into()));
        let letters = spec(&format!("{SPARE}-dlt"), 1, 1, "1114124");
        KafkaAdmin::connect(&self.kafka_settings()).unwrap().create(&[letters]).unwrap();
        self.make_spare();
        self
    }

    /// Makes the spare source, or makes it anew.
    #[cfg(feature = "failpoints")]
    pub fn make_spare(&self) {
        let spare = spec(SPARE, 1, 1, "1048588");
        let admin = KafkaAdmin::connect(&self.kafka_settings()).unwrap();
        // A broker may still be deleting the one before.
        until("the spare source is made", WAIT, || {
            admin.create(std::slice::from_ref(&spare)).map_err(|fault| fault.to_string())
        });
    }

    #[cfg(feature = "failpoints")]
    pub fn delete_spare(&self) {
        KafkaAdmin::connect(&self.kafka_settings()).unwrap().delete(&[TopicName::parse(SPARE).unwrap()]).unwrap();
    }

    /// Sends so many records to the spare source, which has had none since it was made, and waits until the group has
    /// taken them.
    #[cfg(feature = "failpoints")]
    pub fn feed_spare(&self, count: i64) {
        let feed = KafkaFeed::connect(&self.kafka_settings()).unwrap();
        let spare = TopicName::parse(SPARE).unwrap();
        for _ in 0..count {
            feed.send(&spare, None, Some(b"1"), Some(b"{}"), &[]).unwrap();
        }
        feed.flush().unwrap();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka.bootstrap)
            .set("group.id", "load") // to ask for its offsets; never joined
            .create()
            .unwrap();
        until("the spare source is read to its end", ASSIGNED_WITHIN, || {
            let mut asked = TopicPartitionList::new();
            asked.add_partition(SPARE, 0);
            let found = consumer.committed_offsets(asked, WAIT).map_err(|error| error.to_string())?;
            let found = found.find_partition(SPARE, 0).map(|found| found.offset());
            if found == Some(Offset::Offset(count)) { Ok(()) } else { Err(format!("{found:?} of {count}")) }
        });
    }

    /// The oracle as a program.
    pub fn oracle(&self) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60"]).arg(example("oracle"));
        command.envs(self.settings.iter().map(|(name, value)| (name, value))).output().unwrap()
    }

    /// For the oracle's reader.
    pub fn servers(&self) -> Servers {
        Servers { bootstrap: self.kafka.bootstrap.clone(), database_url: self.postgres.url.clone() }
    }
}

fn spec(name: &str, partitions: i32, replicas: i32, bytes_max: &str) -> TopicSpec {
    let config = BTreeMap::from([("max.message.bytes".into(), bytes_max.into())]);
    TopicSpec { name: TopicName::parse(name).unwrap(), partitions, replicas, config }
}

impl Load {
    pub fn new(world: &World, seed: u64) -> Self {
        let producer = KafkaFeed::connect(&world.kafka_settings()).unwrap();
        let topics = SOURCES.map(|name| TopicName::parse(name).unwrap());
        let (random, is_companion_poisoned) = (Random::new(seed), Arc::default());
        Self { producer, topics, random, recent: VecDeque::new(), sent: 0, is_companion_poisoned }
    }

    /// So many notifications a second until `act` has come to its end.
    #[cfg(feature = "failpoints")]
    pub fn during(&mut self, per_second: u64, act: impl FnOnce()) {
        super::beside(|| self.send(per_second / 10, Duration::from_millis(100)), act);
    }

    /// `count` notifications, evenly over `during`, all acknowledged at the end.
    pub fn send(&mut self, count: u64, during: Duration) {
        evenly(count, during, || self.one());
        self.producer.flush().unwrap();
    }

    /// The receipts of all that was acknowledged: after [`Load::send`], of all that was sent.
    pub fn accepted(&self) -> Vec<u64> {
        (0..self.sent).collect()
    }

    fn one(&mut self) {
        let (topic, id) = self.next();
        if topic == COMPANION && self.is_companion_poisoned.load(Ordering::Relaxed) {
            return self.poison(topic, id);
        }
        match self.random.below(1_000) {
            0..10 => self.poison(topic, id),
            10 => self.good(topic, IDS + 1 + self.sent, "dead-letter"), // there is no such row
            _ => self.good(topic, id, "change"),
        }
    }

    /// A tenth repeats a recent id in its topic; half of the rest is for the hot ids, and a third for the companion topic.
    fn next(&mut self) -> (usize, u64) {
        let is_repeat = self.random.below(10) == 0 && !self.recent.is_empty();
        let next = if is_repeat {
            self.recent[usize::try_from(self.random.below(self.recent.len() as u64)).unwrap()]
        } else {
            let ids = if self.random.below(2) == 0 { HOT } else { IDS };
            (usize::from(self.random.below(3) == 0), 1 + self.random.below(ids))
        };
        self.recent.push_back(next);
        if self.recent.len() > REPEATED {
            self.recent.pop_front();
        }
        next
    }

    /// Mostly as short as can be, one in a hundred some KiB, one in 2,000 up to 900 KiB.
    fn payload(&mut self) -> String {
        let bytes = match self.random.below(2_000) {
            0 => (100 << 10) + self.random.below(800 << 10) - 100,
            1..20 => self.random.below(10 << 10),
            _ => self.random.below(200),
        };
        "x".repeat(usize::try_from(bytes).unwrap())
    }

    fn good(&mut self, topic: usize, id: u64, expect: &str) {
        let value = format!(r#"{{"payload":"{}"}}"#, self.payload());
        self.record(topic, None, Some(&id.to_string()), Some(&value), expect);
    }

    fn poison(&mut self, topic: usize, id: u64) {
        let poison = POISONS[usize::try_from(self.random.below(POISONS.len() as u64)).unwrap()];
        let asking = format!(r#"{{"poison":"{poison}"}}"#);
        let (key, anywhere) =
            (id.to_string(), i32::try_from(self.random.below(PARTITIONS.unsigned_abs().into())).unwrap());
        let (partition, key, value) = match poison {
            "not-json" => (None, Some(key.as_str()), Some("{\"payload\": ")),
            "no-value" => (None, Some(key.as_str()), None),
            "no-key" => (Some(anywhere), None, Some("{}")),
            "bad-key" => (None, Some("seven"), Some("{}")),
            "wrong-type" => (None, Some(key.as_str()), Some("{\"payload\": 7}")),
            _ => (None, Some(key.as_str()), Some(asking.as_str())),
        };
        self.record(topic, partition, key, value, "dead-letter");
    }

    fn record(&mut self, topic: usize, partition: Option<i32>, key: Option<&str>, value: Option<&str>, expect: &str) {
        let headers = [Header::new(EXPECT_HEADER, expect), Header::new(RECEIPT_HEADER, self.sent.to_string())];
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        self.producer.send(&self.topics[topic], partition, key, value, &headers).unwrap();
        self.sent += 1;
    }
}
