//! [`KafkaAdmin`] behind the port `topics`.

use super::admin::{KafkaAdmin, TopicSpec};
use crate::flow::record::TopicName;
use crate::ports::Fault;
use crate::ports::topics::{FoundTopic, NewTopic, TopicAdmin};
use std::collections::BTreeMap;

impl TopicAdmin for KafkaAdmin {
    fn describe(&mut self, names: &[TopicName]) -> Result<Vec<Option<FoundTopic>>, Fault> {
        let found = names.iter().map(|name| {
            let Some((partitions, replicas, entries)) = self.described(name)? else { return Ok(None) };
            let config = entries.into_iter().map(|entry| (entry.name, entry.value)).collect();
            Ok(Some(FoundTopic { partitions, replicas, config }))
        });
        found.collect()
    }

    fn create(&mut self, topic: &NewTopic) -> Result<(), Fault> {
        let NewTopic { name, partitions, replicas, config } = topic.clone();
        Self::create(self, &[TopicSpec { name, partitions, replicas, config }])
    }

    fn alter_config(&mut self, topic: &TopicName, changes: &BTreeMap<String, String>) -> Result<(), Fault> {
        Self::alter_config(self, topic, changes)
    }

    fn add_partitions(&mut self, topic: &TopicName, total: i32) -> Result<(), Fault> {
        self.create_partitions(topic, total)
    }
}
