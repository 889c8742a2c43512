//! Topics as an administrator sees them: looked at, created, changed; never deleted.

use crate::flow::record::TopicName;
use crate::ports::fault::Fault;
use std::collections::BTreeMap;

/// The sentence about a topic that the brokers do not know.
pub(crate) fn no_topic(topic: &TopicName) -> String {
    format!(
        "there is no topic {topic}: make it anew (`topics apply` creates what is described), or take it out of the pipeline"
    )
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// Its partition count.
    pub partitions: i32,
    /// Copies of each partition.
    pub replicas: i32,
    /// Configuration by Kafka's names; an absent entry has the broker's default.
    pub config: BTreeMap<String, String>,
}

/// A topic as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTopic {
    /// Its partition count.
    pub partitions: i32,
    /// Copies of its first partition.
    pub replicas: i32,
    /// The whole configuration in force, the broker's defaults included.
    pub config: BTreeMap<String, String>,
}

/// An administrator's connection. Calls block.
pub trait TopicAdmin {
    /// Looks at topics, in the order asked; `None` where there is no such topic.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer; `Fatal` when it refused.
    fn describe(&mut self, names: &[TopicName]) -> Result<Vec<Option<FoundTopic>>, Fault>;

    /// Creates a topic.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer; `Fatal` when it refused, also because the topic is there.
    fn create(&mut self, topic: &NewTopic) -> Result<(), Fault>;

    /// Sets the given entries and leaves every other one as it is.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer; `Fatal` when it refused.
    fn alter_config(&mut self, topic: &TopicName, changes: &BTreeMap<String, String>) -> Result<(), Fault>;

    /// Raises the partition count to `total`.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer; `Fatal` when it refused.
    fn add_partitions(&mut self, topic: &TopicName, total: i32) -> Result<(), Fault>;
}
