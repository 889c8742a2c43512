//! The folder against a cluster: the changes that would make them equal.

use crate::flow::record::TopicName;
use crate::ports::Fault;
use crate::ports::topics::{FoundTopic, TopicAdmin};
use crate::topics::config;
use crate::topics::spec::TopicSpec;
use serde::Serialize;

/// Every difference between the files and the cluster. Topics that no file describes are not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// The differences, topic by topic.
    pub changes: Vec<Planned>,
    /// The number of topics that are as described.
    pub unchanged: usize,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The topic's name.
    pub topic: String,
    /// The difference, and the change that removes it.
    #[serde(flatten)]
    pub change: Change,
    /// Why `apply` will not make the change; `None` when it will.
    pub blocked: Option<String>,
}

/// A difference between a topic's file and the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// There is no such topic.
    Create {
        /// Its partition count.
        partitions: i32,
        /// Copies of each partition.
        replicas: i32,
    },
    /// A configuration entry has another value.
    Config {
        /// Kafka's name of it.
        key: String,
        /// The cluster's value; `None` where it has no such entry.
        from: Option<String>,
        /// The file's value.
        to: String,
    },
    /// The partition count differs.
    Partitions {
        /// The cluster's partition count.
        from: i32,
        /// The file's partition count.
        to: i32,
    },
    /// The number of copies differs.
    Replicas {
        /// The cluster's number of copies.
        from: i32,
        /// The file's number of copies.
        to: i32,
    },
}

/// Asks the cluster and compares. `allow_repartition` permits more partitions for topics whose records are keyed.
///
/// # Errors
/// The cluster's.
pub fn plan(topics: &[TopicSpec], admin: &mut dyn TopicAdmin, allow_repartition: bool) -> Result<Plan, Fault> {
    let names: Vec<TopicName> = topics.iter().map(|topic| topic.name.clone()).collect();
    let found = admin.describe(&names)?;
    let mut plan = Plan::default();
    for (topic, found) in topics.iter().zip(found) {
        let changes = topic.changes(found.as_ref());
        plan.unchanged += usize::from(changes.is_empty());
        plan.changes.extend(changes.into_iter().map(|change| Planned {
            topic: topic.name.to_string(),
            blocked: topic.blocked(&change, allow_repartition),
            change,
        }));
    }
    Ok(plan)
}

impl Plan {
    /// The number of changes that `apply` will not make. While there is one it makes none: partitions cannot be taken away again,
    /// and topics that are read together need equal counts.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.changes.iter().filter(|planned| planned.blocked.is_some()).count()
    }
}

impl TopicSpec {
    fn changes(&self, found: Option<&FoundTopic>) -> Vec<Change> {
        let Some(found) = found else {
            return vec![Change::Create { partitions: self.partitions, replicas: self.replicas }];
        };
        let mut changes = Vec::new();
        if found.partitions != self.partitions {
            changes.push(Change::Partitions { from: found.partitions, to: self.partitions });
        }
        if found.replicas != self.replicas {
            changes.push(Change::Replicas { from: found.replicas, to: self.replicas });
        }
        for (key, to) in &self.config {
            let from = found.config.get(key);
            if !from.is_some_and(|from| config::is_equal(key, from, to)) {
                changes.push(Change::Config { key: key.clone(), from: from.cloned(), to: to.clone() });
            }
        }
        changes
    }

    fn blocked(&self, change: &Change, allow_repartition: bool) -> Option<String> {
        match change {
            Change::Partitions { from, to } if to < from => {
                Some(format!("Kafka cannot take partitions away; set partitions to {from} in {}", self.file.display()))
            }
            Change::Partitions { .. } if self.is_keyed() && !allow_repartition => Some(
                "records of one key would go to another partition than before and could overtake each other there; \
                 stop the producers, let the group catch up, then use --allow-repartition"
                    .into(),
            ),
            Change::Replicas { .. } => Some("copies are moved by kafka-reassign-partitions.sh, not by Tidegate".into()),
            _ => None,
        }
    }
}

impl Change {
    /// Whether both are about the same thing of a topic, whatever its value was before.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Config { key, .. }, Self::Config { key: other, .. }) => key == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Create { partitions, replicas } => format!("create: {partitions} partitions, {replicas} replicas"),
            Self::Config { key, from: Some(from), to } => format!("{key}: {from} -> {to}"),
            Self::Config { key, from: None, to } => format!("{key}: not set -> {to}"),
            Self::Partitions { from, to } => format!("partitions: {from} -> {to}"),
            Self::Replicas { from, to } => format!("replicas: {from} -> {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::fake::{Cluster, topic};
    use crate::topics::spec::Role;

    fn describe(plan: &Plan) -> Vec<String> {
        plan.changes
            .iter()
            .map(|p| format!("{} {}{}", p.topic, p.change.describe(), if p.blocked.is_some() { " !" } else { "" }))
            .collect()
    }

    #[test]
    fn an_empty_cluster_lacks_every_topic_and_a_full_one_nothing() {
        let topics = [topic("readings"), topic("changes")];
        let mut cluster = Cluster::default();
        let missing = plan(&topics, &mut cluster, false).unwrap();
        assert_eq!(
            describe(&missing),
            ["readings create: 12 partitions, 3 replicas", "changes create: 12 partitions, 3 replicas"]
        );
        for topic in &topics {
            cluster.create(&topic.to_new_topic()).unwrap();
        }
        assert_eq!(plan(&topics, &mut cluster, false).unwrap(), Plan { changes: vec![], unchanged: 2 });
    }

    #[test]
    fn each_difference_is_a_line_and_what_cannot_be_made_says_why() {
        let mut cluster = Cluster::default();
        cluster.create(&topic("readings").to_new_topic()).unwrap();
        let mut wanted = topic("readings");
        wanted.partitions = 24;
        wanted.replicas = 2;
        wanted.config.insert("retention.ms".into(), "5".into());
        let differences = plan(&[wanted.clone()], &mut cluster, false).unwrap();
        let expected =
            ["readings partitions: 12 -> 24 !", "readings replicas: 3 -> 2 !", "readings retention.ms: 1000 -> 5"];
        assert_eq!(describe(&differences), expected);
        assert!(differences.changes[0].blocked.as_ref().unwrap().contains("--allow-repartition"));
        assert!(plan(&[wanted.clone()], &mut cluster, true).unwrap().changes[0].blocked.is_none());

        wanted.partitions = 6;
        let fewer = plan(&[wanted], &mut cluster, true).unwrap();
        assert!(fewer.changes[0].blocked.as_ref().unwrap().contains("cannot take partitions away"));
    }

    #[test]
    fn values_that_a_broker_spells_otherwise_are_no_differences() {
        let mut cluster = Cluster::default();
        let mut wanted = topic("readings");
        let values = |values: [&str; 4]| {
            let names = ["cleanup.policy", "min.cleanable.dirty.ratio", "preallocate", "retention.ms"];
            names.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        wanted.config = values(["compact,delete", "0.0", "false", "604800000"]);
        cluster.create(&wanted.to_new_topic()).unwrap();
        wanted.config = values(["delete, compact", "0", "FALSE", "0604800000"]);
        assert_eq!(plan(&[wanted], &mut cluster, false).unwrap(), Plan { changes: vec![], unchanged: 1 });
    }

    #[test]
    fn more_partitions_for_an_output_need_a_leave_though_its_file_names_no_key() {
        let mut cluster = Cluster::default();
        for role in [Role::Output, Role::Reference, Role::Repartition, Role::Changelog] {
            let mut wanted = topic(&format!("of-{role}"));
            (wanted.key, wanted.role) = (None, role);
            cluster.create(&wanted.to_new_topic()).unwrap();
            wanted.partitions = 24;
            let planned = plan(&[wanted], &mut cluster, false).unwrap();
            assert!(
                planned.changes[0].blocked.as_ref().is_some_and(|why| why.contains("--allow-repartition")),
                "{role}"
            );
        }
    }

    #[test]
    fn more_partitions_for_a_topic_without_keys_need_no_leave() {
        let mut cluster = Cluster::default();
        let mut wanted = topic("logs");
        wanted.key = None;
        cluster.create(&wanted.to_new_topic()).unwrap();
        wanted.partitions = 24;
        assert!(plan(&[wanted], &mut cluster, false).unwrap().changes[0].blocked.is_none());
        let mut dead = topic("readings-dlt");
        dead.role = Role::Dlt;
        cluster.create(&dead.to_new_topic()).unwrap();
        dead.partitions = 24;
        let planned = plan(&[dead], &mut cluster, false).unwrap();
        assert!(
            planned.changes[0].blocked.is_none(),
            "a dead letter keeps the partition number of its record: {planned:?}"
        );
    }
}
