//! Obstacles that a member of the group sees: a group that does not take it in, quotas, open transactions of others.

use crate::adapters::kafka::consumer::KafkaSource;
use crate::adapters::kafka::statistics::Statistics;
use crate::ports::obstacle::{ObstacleKind, Reason};
use crate::ports::source::{Listener, TaskId};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::collections::{BTreeMap, BTreeSet};

impl KafkaSource {
    /// Takes in the client's statistics.
    pub(super) fn measured(&mut self, found: &Statistics, listener: &mut dyn Listener) {
        let Self { sight, topics, owned, started, .. } = self;
        let mut lagging: BTreeSet<TaskId> = BTreeSet::new();
        let mut hidden = BTreeMap::new();
        for partition in started.iter() {
            let (name, number) = (partition.topic.as_str(), partition.partition.0);
            let Some(seen) = found.partition(name, number) else { continue };
            let task = topics.find(name.as_bytes(), number, &mut 0).map(|(task, _)| task);
            lagging.extend(task.filter(|task| owned.contains(task) && seen.is_behind()));
            if seen.is_hidden() {
                hidden.insert(partition.clone(), seen.ls_offset);
            }
        }
        listener.lagging(lagging.into_iter().collect());
        listener.obstacles(ObstacleKind::OpenTransaction, sight.hidden_for_long(hidden));
        listener.obstacles(ObstacleKind::Throttled, sight.slowed(found.slowing()));
    }

    /// The group does not let this member join, for a cause that does not go by itself.
    pub(super) fn refused(&self, code: Code, listener: &mut dyn Listener) {
        let (group, servers) = (self.group.name(), &self.sight.bootstrap_servers);
        let members =
            format!("`kafka-consumer-groups.sh --bootstrap-server {servers} --describe --group {group} --members`");
        let reason = if code == Code::GroupMaxSizeReached {
            let cause = "it has as many members as the broker's group.max.size allows";
            Reason::new(cause, format!("raise group.max.size, or run fewer instances; {members} lists them"))
        } else {
            let cause = "a member of this group id speaks another protocol than cooperative-sticky";
            let next = format!(
                "end what uses the id beside this pipeline, or set another pipeline.name; {members} lists them"
            );
            Reason::new(cause, next)
        };
        listener.obstacles(ObstacleKind::NotAdmitted, vec![(format!("group {group}"), reason)]);
    }
}
