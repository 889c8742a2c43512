//! The load: 50,000 rows of which 5 % are hot, repeats, poison, missing rows, 20 B to 900 KiB, on two co-partitioned
//! topics. Each record names its expected result in a header, and bears a receipt; `examples/load.rs` takes it.

use super::world::example;
use super::{Random, World, evenly};
use crate::reader::{EXPECT_HEADER, OUTPUT, RECEIPT_HEADER, SOURCES, Servers};
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
/// The place of the companion among the topics.
const COMPANION: usize = 1;
/// Distance of a repeat from its record: within a batch even of a slow feed.
const REPEATED: usize = 20;

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
        let topic = |name: &str, bytes_max: &str| TopicSpec {
            name: TopicName::parse(name).unwrap(),
            partitions: PARTITIONS,
            replicas,
            config: BTreeMap::from([("max.message.bytes".into(), bytes_max.into())]),
        };
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
