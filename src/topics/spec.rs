//! One topic as its file describes it.

use crate::flow::record::TopicName;
use crate::ports::topics::NewTopic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One topic as its file describes it, overlay included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The file.
    pub file: PathBuf,
    /// The line of `spec`.
    pub line: usize,
    /// `spec.topicName`, or `metadata.name`.
    pub name: TopicName,
    /// The purpose of the topic.
    pub role: Role,
    /// The co-partition group, if it is in one.
    pub copartition: Option<String>,
    /// The one topic of its group that the consumer group subscribes to.
    pub is_lead: bool,
    /// The meaning of its records' keys, in words.
    pub key: Option<String>,
    /// Partition count.
    pub partitions: i32,
    /// Copies of each partition.
    pub replicas: i32,
    /// Configuration by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// The purpose of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Read by a pipeline.
    Input,
    /// Written by a pipeline.
    Output,
    /// Written and read by one pipeline, to bring records to another key.
    Repartition,
    /// The history of a store.
    Changelog,
    /// Read whole by every instance.
    Reference,
    /// Rejected records of another topic.
    Dlt,
}

impl Role {
    const ALL: [(&'static str, Self); 6] = [
        ("input", Self::Input),
        ("output", Self::Output),
        ("repartition", Self::Repartition),
        ("changelog", Self::Changelog),
        ("reference", Self::Reference),
        ("dlt", Self::Dlt),
    ];

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(word, _)| *word == text).map(|(_, role)| *role);
        found.ok_or_else(|| format!("{text:?} is no role; expected one of {}", Self::words()))
    }

    /// All roles as they are written.
    pub(super) fn words() -> String {
        Self::ALL.map(|(word, _)| word).join(", ")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, role)| role == self).map_or("", |(word, _)| word))
    }
}

impl TopicSpec {
    /// Whether more partitions would bring records of one key to another partition than before. A dead letter keeps the
    /// partition number of its record; an input has keys where its file says so; every other topic has them.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        match self.role {
            Role::Dlt => false,
            Role::Input => self.key.is_some() || self.copartition.is_some(),
            Role::Output | Role::Repartition | Role::Changelog | Role::Reference => true,
        }
    }

    /// A configuration entry that is a whole number.
    pub(super) fn number(&self, key: &str) -> Option<i64> {
        self.config.get(key)?.parse().ok()
    }

    /// The same topic as a request to create it.
    #[must_use]
    pub fn to_new_topic(&self) -> NewTopic {
        NewTopic {
            name: self.name.clone(),
            partitions: self.partitions,
            replicas: self.replicas,
            config: self.config.clone(),
        }
    }
}
