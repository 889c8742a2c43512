//! Makes the changes of a plan, one topic after the other; never deletes.

use crate::ports::Fault;
use crate::ports::topics::TopicAdmin;
use crate::topics::plan::{Change, Plan};
use crate::topics::spec::TopicSpec;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The numbers of topics by outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Outcome {
    /// Were as described already.
    pub ok: usize,
    /// Were created.
    pub created: usize,
    /// Were changed.
    pub altered: usize,
    /// Were refused, by Tidegate or by the cluster, in whole or in part.
    pub failed: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ok {}, created {}, altered {}, failed {}", self.ok, self.created, self.altered, self.failed)
    }
}

/// Receives each change with its result.
pub type Report<'r> = dyn FnMut(&TopicSpec, &Change, Result<(), String>) + 'r;

/// Makes the changes of `plan`. `report` receives each change with its result.
pub fn apply(topics: &[TopicSpec], plan: &Plan, admin: &mut dyn TopicAdmin, report: &mut Report<'_>) -> Outcome {
    let mut outcome = Outcome { ok: plan.unchanged, ..Outcome::default() };
    for topic in topics {
        let changes: Vec<_> = plan.changes.iter().filter(|p| p.topic == topic.name.as_str()).collect();
        let (mut is_created, mut is_failed) = (false, false);
        for planned in &changes {
            let made = match &planned.blocked {
                Some(reason) => Err(reason.clone()),
                None => make(topic, &planned.change, admin).map_err(|fault| fault.to_string()),
            };
            is_created |= matches!(planned.change, Change::Create { .. });
            is_failed |= made.is_err();
            report(topic, &planned.change, made);
        }
        match (changes.is_empty(), is_failed, is_created) {
            (true, ..) => {}
            (_, true, _) => outcome.failed += 1,
            (_, _, true) => outcome.created += 1,
            _ => outcome.altered += 1,
        }
    }
    outcome
}

fn make(topic: &TopicSpec, change: &Change, admin: &mut dyn TopicAdmin) -> Result<(), Fault> {
    match change {
        Change::Create { .. } => admin.create(&topic.to_new_topic()),
        Change::Config { key, to, .. } => admin.alter_config(&topic.name, &BTreeMap::from([(key.clone(), to.clone())])),
        Change::Partitions { to, .. } => admin.add_partitions(&topic.name, *to),
        Change::Replicas { .. } => Ok(()), // always blocked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::fake::{Cluster, topic};
    use crate::topics::plan::plan;

    #[test]
    fn what_can_be_made_is_made_and_counted_once_a_topic() {
        let mut cluster = Cluster::default();
        cluster.create(&topic("same").to_new_topic()).unwrap();
        cluster.create(&topic("altered").to_new_topic()).unwrap();
        cluster.create(&topic("refused").to_new_topic()).unwrap();
        let mut altered = topic("altered");
        altered.config.insert("retention.ms".into(), "5".into());
        altered.config.insert("segment.ms".into(), "6".into());
        let mut refused = topic("refused");
        refused.partitions = 24;
        let topics = [topic("same"), topic("new"), altered, refused];

        let mut told = Vec::new();
        let first = plan(&topics, &mut cluster, false).unwrap();
        let outcome = apply(&topics, &first, &mut cluster, &mut |topic, change, made| {
            told.push(format!("{} {} {}", topic.name, change.describe(), made.is_ok()));
        });
        assert_eq!(outcome.to_string(), "ok 1, created 1, altered 1, failed 1");
        assert_eq!(told.len(), 4, "{told:?}");
        let left = plan(&topics, &mut cluster, false).unwrap();
        assert_eq!((left.changes.len(), left.unchanged), (1, 3), "only what was refused is left: {left:?}");

        let second = plan(&topics, &mut cluster, true).unwrap();
        let outcome = apply(&topics, &second, &mut cluster, &mut |_, _, _| {});
        assert_eq!(outcome.to_string(), "ok 3, created 0, altered 1, failed 0");
    }
}
