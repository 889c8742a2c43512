//! A cluster in a map, for tests.

use crate::flow::record::TopicName;
use crate::ports::Fault;
use crate::ports::topics::{FoundTopic, NewTopic, TopicAdmin};
use crate::topics::spec::{Role, TopicSpec};
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Cluster(BTreeMap<TopicName, FoundTopic>);

impl TopicAdmin for Cluster {
    fn describe(&mut self, names: &[TopicName]) -> Result<Vec<Option<FoundTopic>>, Fault> {
        Ok(names.iter().map(|name| self.0.get(name).cloned()).collect())
    }

    fn create(&mut self, topic: &NewTopic) -> Result<(), Fault> {
        let NewTopic { name, partitions, replicas, config } = topic.clone();
        let found = FoundTopic { partitions, replicas, config };
        self.0.insert(name, found).map_or(Ok(()), |_| Err(Fault::fatal("topic already exists")))
    }

    fn alter_config(&mut self, topic: &TopicName, changes: &BTreeMap<String, String>) -> Result<(), Fault> {
        let found = self.0.get_mut(topic).ok_or_else(|| Fault::fatal("unknown topic"))?;
        found.config.extend(changes.clone());
        Ok(())
    }

    fn add_partitions(&mut self, topic: &TopicName, total: i32) -> Result<(), Fault> {
        let found = self.0.get_mut(topic).ok_or_else(|| Fault::fatal("unknown topic"))?;
        found.partitions = total;
        Ok(())
    }
}

pub(crate) fn topic(name: &str) -> TopicSpec {
    TopicSpec {
        file: format!("topics/{name}.yaml").into(),
        line: 1,
        name: TopicName::parse(name).unwrap(),
        role: Role::Input,
        copartition: None,
        is_lead: false,
        key: Some("id".into()),
        partitions: 12,
        replicas: 3,
        config: BTreeMap::from([("retention.ms".into(), "1000".into())]),
    }
}
