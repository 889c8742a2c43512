//! A cluster in a map, for tests.

use crate::flow::record::TopicName;
use crate::ports::Fault;
use crate::ports::topics::{FoundTopic, NewTopic, TopicAdmin};
use crate::topics::spec::{Role, TopicSpec};
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Cluster {
    topics: BTreeMap<TopicName, FoundTopic>,
    /// A setting that is refused, and the broker's sentence.
    pub(crate) refused: Option<(&'static str, &'static str)>,
    /// Changed settings are accepted and not kept.
    pub(crate) is_deaf: bool,
    /// Requests to change settings.
    pub(crate) requests: usize,
}

impl TopicAdmin for Cluster {
    fn describe(&mut self, names: &[TopicName]) -> Result<Vec<Option<FoundTopic>>, Fault> {
        Ok(names.iter().map(|name| self.topics.get(name).cloned()).collect())
    }

    fn create(&mut self, topic: &NewTopic) -> Result<(), Fault> {
        let NewTopic { name, partitions, replicas, config } = topic.clone();
        let found = FoundTopic { partitions, replicas, config };
        self.topics.insert(name, found).map_or(Ok(()), |_| Err(Fault::fatal("topic already exists")))
    }

    fn alter_config(&mut self, topic: &TopicName, changes: &BTreeMap<String, String>) -> Result<(), Fault> {
        self.requests += 1;
        if let Some((_, sentence)) = self.refused.filter(|(key, _)| changes.contains_key(*key)) {
            return Err(Fault::fatal(sentence));
        }
        let found = self.topics.get_mut(topic).ok_or_else(|| Fault::fatal("unknown topic"))?;
        if !self.is_deaf {
            found.config.extend(changes.clone());
        }
        Ok(())
    }

    fn add_partitions(&mut self, topic: &TopicName, total: i32) -> Result<(), Fault> {
        let found = self.topics.get_mut(topic).ok_or_else(|| Fault::fatal("unknown topic"))?;
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
