//! Makes the changes of a plan, one topic after the other; never deletes.

use crate::ports::Fault;
use crate::ports::topics::TopicAdmin;
use crate::topics::plan::{Change, Plan, Planned};
use crate::topics::spec::TopicSpec;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
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

impl Outcome {
    /// Counts each topic once; `failed` names those of which a change was not made, or is not to be seen.
    #[must_use]
    pub fn of(plan: &Plan, failed: &BTreeSet<String>) -> Self {
        let mut outcome = Self { ok: plan.unchanged, ..Self::default() };
        let topics: BTreeSet<&str> = plan.changes.iter().map(|planned| planned.topic.as_str()).collect();
        for topic in topics {
            let is_created =
                |planned: &Planned| planned.topic == topic && matches!(planned.change, Change::Create { .. });
            if failed.contains(topic) {
                outcome.failed += 1;
            } else if plan.changes.iter().any(is_created) {
                outcome.created += 1;
            } else {
                outcome.altered += 1;
            }
        }
        outcome
    }
}

/// Makes the changes of `plan`; none of them while one is blocked. `report` receives each change with its result.
pub fn apply(topics: &[TopicSpec], plan: &Plan, admin: &mut dyn TopicAdmin, report: &mut Report<'_>) {
    let is_blocked = plan.blocked() > 0;
    for topic in topics {
        let changes = || plan.changes.iter().filter(|planned| planned.topic == topic.name.as_str());
        if is_blocked {
            for planned in changes() {
                let reason = planned.blocked.clone();
                report(
                    topic,
                    &planned.change,
                    Err(reason.unwrap_or_else(|| "not made, since another is blocked".into())),
                );
            }
            continue;
        }
        let (settings, others): (Vec<_>, Vec<_>) =
            changes().partition(|planned| matches!(planned.change, Change::Config { .. }));
        for planned in others {
            report(topic, &planned.change, make(topic, &planned.change, admin).map_err(|fault| fault.to_string()));
        }
        let changes: Vec<&Change> = settings.into_iter().map(|planned| &planned.change).collect();
        set(topic, &changes, admin, report);
    }
}

fn make(topic: &TopicSpec, change: &Change, admin: &mut dyn TopicAdmin) -> Result<(), Fault> {
    match change {
        Change::Create { .. } => admin.create(&topic.to_new_topic()),
        Change::Partitions { to, .. } => admin.add_partitions(&topic.name, *to),
        Change::Config { .. } | Change::Replicas { .. } => Ok(()), // set together; always blocked
    }
}

/// Sets all settings of a topic at once, since some are checked against each other. Where the broker refuses them, one by one,
/// so that the good ones are set and each wrong one has its own reason.
fn set(topic: &TopicSpec, changes: &[&Change], admin: &mut dyn TopicAdmin, report: &mut Report<'_>) {
    let entry = |change: &Change| match change {
        Change::Config { key, to, .. } => Some((key.clone(), to.clone())),
        _ => None,
    };
    let all: BTreeMap<String, String> = changes.iter().filter_map(|change| entry(change)).collect();
    if all.is_empty() {
        return;
    }
    let together = admin.alter_config(&topic.name, &all);
    let is_refused = together.as_ref().is_err_and(|fault| !fault.is_retry());
    let said = together.map_err(|fault| fault.to_string());
    for change in changes {
        let made = if is_refused && changes.len() > 1 {
            let one = entry(change).into_iter().collect();
            admin.alter_config(&topic.name, &one).map_err(|fault| fault.to_string())
        } else {
            said.clone()
        };
        report(topic, change, made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::fake::{Cluster, topic};
    use crate::topics::plan::plan;

    #[test]
    fn all_changes_are_made_or_none_and_each_topic_is_counted_once() {
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
        let outcome = applied(&topics, &first, &mut cluster, &mut told);
        assert_eq!(outcome.to_string(), "ok 1, created 0, altered 0, failed 3");
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[0], "create: 12 partitions, 3 replicas: not made, since another is blocked");
        let left = plan(&topics, &mut cluster, false).unwrap();
        assert_eq!(left, first, "while one is blocked, none is made");

        let second = plan(&topics, &mut cluster, true).unwrap();
        let outcome = applied(&topics, &second, &mut cluster, &mut Vec::new());
        assert_eq!(outcome.to_string(), "ok 1, created 1, altered 2, failed 0");
        assert_eq!(plan(&topics, &mut cluster, false).unwrap().unchanged, 4);
    }

    fn applied(topics: &[TopicSpec], plan: &Plan, cluster: &mut Cluster, told: &mut Vec<String>) -> Outcome {
        let mut failed = BTreeSet::new();
        apply(topics, plan, cluster, &mut |topic, change, made| {
            if made.is_err() {
                failed.insert(topic.name.to_string());
            }
            told.push(format!("{}: {}", change.describe(), made.err().unwrap_or_else(|| "made".into())));
        });
        Outcome::of(plan, &failed)
    }

    #[test]
    fn settings_are_set_at_once_and_each_that_the_broker_refuses_has_its_own_reason() {
        let mut cluster = Cluster::default();
        cluster.create(&topic("readings").to_new_topic()).unwrap();
        let mut wanted = topic("readings");
        wanted.config.insert("retention.ms".into(), "5".into());
        wanted.config.insert("segment.ms".into(), "6".into());
        let changes = plan(std::slice::from_ref(&wanted), &mut cluster, false).unwrap();
        let mut told = Vec::new();
        let outcome = applied(std::slice::from_ref(&wanted), &changes, &mut cluster, &mut told);
        assert_eq!((outcome.altered, outcome.failed, cluster.requests), (1, 0, 1), "{told:?}");

        wanted.config.insert("flush.ms".into(), "7".into());
        wanted.config.insert("segment.ms".into(), "8".into());
        cluster.refused = Some(("flush.ms", "Invalid value 7 for configuration flush.ms"));
        let changes = plan(std::slice::from_ref(&wanted), &mut cluster, false).unwrap();
        let mut told = Vec::new();
        let outcome = applied(std::slice::from_ref(&wanted), &changes, &mut cluster, &mut told);
        assert_eq!((outcome.altered, outcome.failed), (0, 1));
        let expected =
            ["flush.ms: not set -> 7: Invalid value 7 for configuration flush.ms", "segment.ms: 6 -> 8: made"];
        assert_eq!(told, expected);
    }
}
