//! Apache Kafka under the suite.

use crate::log::LogBench;
use crate::suite::log_suite;
use crate::{eventually, servers};
use std::collections::BTreeMap;
use tidegate::adapters::kafka::{
    GroupProtocol, KafkaAdmin, KafkaFeed, KafkaHistory, KafkaSettings, KafkaSink, KafkaSource, TopicSpec,
};
use tidegate::flow::record::{TopicName, TopicPartition};
use tidegate::ports::history::TopicHistory;
use tidegate::ports::sink::Sink;
use tidegate::ports::source::{Source, Subscription};

log_suite!(kafka_log, super::Broker::open(super::GroupProtocol::Classic));
log_suite!(kafka_log_kip_848, super::Broker::open(super::GroupProtocol::Consumer));

pub struct Broker {
    settings: KafkaSettings,
    admin: KafkaAdmin,
    feed: KafkaFeed,
}

impl Broker {
    pub fn open(group_protocol: GroupProtocol) -> Option<Self> {
        servers::is_wanted("Apache Kafka").then(|| {
            let settings = KafkaSettings {
                bootstrap_servers: servers::kafka().into(),
                group_protocol,
                ..KafkaSettings::default()
            };
            let admin = KafkaAdmin::connect(&settings).unwrap();
            let feed = KafkaFeed::connect(&settings).unwrap();
            Self { settings, admin, feed }
        })
    }
}

impl LogBench for Broker {
    fn create_topic(&self, name: &str, partitions: i32) -> TopicName {
        let name = TopicName::parse(name).unwrap();
        let spec = TopicSpec { name: name.clone(), partitions, replicas: 1, config: BTreeMap::new() };
        // One of the same name that is still being deleted stands in the way for a moment.
        eventually("a new topic", || self.admin.create(std::slice::from_ref(&spec)).ok());
        // Created is not yet known to every client: it is when its partitions can be described.
        eventually("a topic that is known", || self.admin.current(&name).ok().flatten());
        name
    }

    fn delete_topic(&self, topic: &TopicName) {
        self.admin.delete(std::slice::from_ref(topic)).unwrap();
    }

    fn truncate_before(&self, place: &TopicPartition, offset: i64) {
        self.admin.delete_records(place, offset).unwrap();
    }

    fn produce(&self, place: &TopicPartition, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.feed.send(&place.topic, Some(place.partition.0), key, value, &[]).unwrap();
        self.feed.flush().unwrap();
    }

    fn source(&self, subscription: &Subscription) -> Box<dyn Source> {
        Box::new(KafkaSource::join(&self.settings, subscription, None).unwrap())
    }

    fn sink(&self, transactional_id: &str) -> Box<dyn Sink> {
        Box::new(eventually("a producer", || KafkaSink::open(&self.settings, transactional_id).ok()))
    }

    fn history(&self, group: &str) -> Box<dyn TopicHistory> {
        Box::new(KafkaHistory::connect(&self.settings, group).unwrap())
    }
}
