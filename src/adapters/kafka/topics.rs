//! [`KafkaAdmin`] behind the port `topics`.

use super::admin::{KafkaAdmin, TopicSpec};
use crate::flow::record::TopicName;
use crate::ports::Fault;
use crate::ports::topics::{FoundTopic, NewTopic, TopicAdmin};
use std::collections::BTreeMap;

impl TopicAdmin for KafkaAdmin {
    fn describe(&mut self, names: &[TopicName]) -> Result<Vec<Option<FoundTopic>>, Fault> {
        match self.found(names) {
            // After a change, a quota may have the brokers read nothing more of the connection that it came by.
            Err(fault) if fault.is_retry() && self.has_changed() => {
                self.reconnect()?;
                self.found(names)
            }
            answer => answer,
        }
    }

    fn create(&mut self, topic: &NewTopic) -> Result<(), Fault> {
        let NewTopic { name, partitions, replicas, config } = topic.clone();
        let topics = [TopicSpec { name, partitions, replicas, config }];
        let is_made = |found: &TopicSpec| found.partitions == topic.partitions;
        let made = Self::create(self, &topics);
        self.made_after_all(made, &topic.name, is_made, |admin| Self::create(admin, &topics))
    }

    fn alter_config(&mut self, topic: &TopicName, changes: &BTreeMap<String, String>) -> Result<(), Fault> {
        Self::alter_config(self, topic, changes)
    }

    fn add_partitions(&mut self, topic: &TopicName, total: i32) -> Result<(), Fault> {
        let made = self.create_partitions(topic, total);
        let is_made = |found: &TopicSpec| found.partitions == total;
        self.made_after_all(made, topic, is_made, |admin| admin.create_partitions(topic, total))
    }
}

impl KafkaAdmin {
    /// Each topic as it is; all missing rights are told at once.
    fn found(&self, names: &[TopicName]) -> Result<Vec<Option<FoundTopic>>, Fault> {
        let (mut all, mut refused) = (Vec::with_capacity(names.len()), Vec::new());
        for name in names {
            match self.described(name) {
                Ok(None) => all.push(None),
                Ok(Some((partitions, replicas, entries))) => {
                    let config = entries.into_iter().map(|entry| (entry.name, entry.value)).collect();
                    all.push(Some(FoundTopic { partitions, replicas, config }));
                }
                Err(fault) if fault.is_retry() => return Err(fault),
                Err(fault) => refused.push(fault.to_string()),
            }
        }
        if refused.is_empty() { Ok(all) } else { Err(Fault::fatal(refused.join("\n"))) }
    }
}
