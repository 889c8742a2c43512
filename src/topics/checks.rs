//! Finds the mistakes of a folder of topics that no file shows by itself. No broker is asked.

use crate::topics::finding::Finding;
use crate::topics::spec::{Role, TopicSpec};
use std::collections::BTreeMap;

/// Tombstones of a changelog must stay for 23 h: the engine rebuilds a store that was not written for longer
/// (`store_rebuild_after`), which must be the sooner. Kafka's default is 24 h.
const TOMBSTONES_MS_MIN: i64 = 23 * 3_600_000;

/// Checks the topics against each other: every finding at once, empty when all is well.
#[must_use]
pub fn validate(topics: &[TopicSpec]) -> Vec<Finding> {
    let mut findings = Vec::new();
    names(topics, &mut findings);
    groups(topics, &mut findings);
    for topic in topics {
        dead_letters(topic, topics, &mut findings);
        durability(topic, &mut findings);
        compaction(topic, &mut findings);
    }
    findings
}

fn at(topic: &TopicSpec, message: impl std::fmt::Display) -> Finding {
    Finding::new(&topic.file, topic.line, format!("{}: {message}", topic.name))
}

/// Kafka's metrics write `.` as `_`, so two such names share one series.
fn names(topics: &[TopicSpec], findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<String, &TopicSpec> = BTreeMap::new();
    for topic in topics {
        if let Some(other) = seen.insert(topic.name.as_str().replace('.', "_"), topic) {
            findings.push(at(
                topic,
                if other.name == topic.name {
                    format!("{} describes the same topic", other.file.display())
                } else {
                    format!("differs from {} by '.' and '_' only, which Kafka's metrics do not tell apart", other.name)
                },
            ));
        }
    }
}

fn groups(topics: &[TopicSpec], findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<&str, Vec<&TopicSpec>> = BTreeMap::new();
    for topic in topics {
        match &topic.copartition {
            Some(group) => groups.entry(group).or_default().push(topic),
            None if topic.is_lead => {
                findings.push(at(topic, "is a lead topic without tidegate.io/copartition: name its group"));
            }
            None => {}
        }
    }
    for (group, members) in groups {
        let mut leads = members.iter().filter(|topic| topic.is_lead);
        let Some(lead) = leads.next().or(members.first()) else { continue };
        if !lead.is_lead {
            let message = format!("co-partition group {group} has no lead: exactly one topic needs tidegate.io/lead");
            findings.push(at(lead, message));
        }
        for other in leads {
            let message = format!("co-partition group {group} has a second lead beside {}: allowed is one", lead.name);
            findings.push(at(other, message));
        }
        for topic in &members {
            if topic.partitions != lead.partitions {
                let (have, want) = (topic.partitions, lead.partitions);
                findings.push(at(
                    topic,
                    format!(
                        "has {have} partitions, but {} of co-partition group {group} has {want}: make them equal",
                        lead.name
                    ),
                ));
            }
            if topic.key != lead.key {
                let of = |topic: &TopicSpec| topic.key.clone().unwrap_or_else(|| "nothing".into());
                let (have, want) = (of(topic), of(lead));
                findings.push(at(
                    topic,
                    format!(
                        "is keyed by {have}, but {} of co-partition group {group} by {want}: they must agree",
                        lead.name
                    ),
                ));
            }
            if !matches!(topic.role, Role::Input | Role::Repartition) {
                findings.push(at(topic, format!("is in co-partition group {group}, but its role is {}", topic.role)));
            }
        }
    }
}

/// A dead letter goes to the partition number it came from, with headers around its bytes.
fn dead_letters(topic: &TopicSpec, topics: &[TopicSpec], findings: &mut Vec<Finding>) {
    let Some(source) = topic.name.as_str().strip_suffix("-dlt").filter(|_| topic.role == Role::Dlt) else {
        if topic.role == Role::Dlt {
            findings.push(at(topic, "has the role dlt: its name must end in -dlt"));
        }
        return;
    };
    let Some(source) = topics.iter().find(|other| other.name.as_str() == source) else {
        findings.push(at(topic, format!("there is no topic {source} whose dead letters these would be")));
        return;
    };
    if topic.partitions < source.partitions {
        let (have, want) = (topic.partitions, source.partitions);
        let message =
            format!("has {have} partitions, but {} has {want}: a dead letter keeps its partition number", source.name);
        findings.push(at(topic, message));
    }
    if let (Some(have), Some(want)) = (topic.number("max.message.bytes"), source.number("max.message.bytes"))
        && have < want
    {
        let message =
            format!("max.message.bytes is {have}, but {} allows {want}: its largest record would not fit", source.name);
        findings.push(at(topic, message));
    }
}

fn durability(topic: &TopicSpec, findings: &mut Vec<Finding>) {
    let Some(least) = topic.number("min.insync.replicas") else { return };
    let replicas = topic.replicas;
    if i64::from(replicas) < least {
        // apache/kafka#14594: the smaller of both counts since 3.7.0; tried on 4.3.1, where a transaction was published.
        let message = format!(
            "min.insync.replicas is {least}, and the topic has {replicas} replicas: Kafka from 3.7 on acknowledges what {replicas} \
             have, and an older one refuses every write: lower it to {replicas}, or set replicas to {least}"
        );
        findings.push(at(topic, message));
    }
}

fn compaction(topic: &TopicSpec, findings: &mut Vec<Finding>) {
    let policy = topic.config.get("cleanup.policy").map_or("delete", String::as_str);
    match topic.role {
        Role::Changelog => changelog(topic, findings),
        Role::Repartition => {
            if policy.contains("compact") {
                let message = format!(
                    "is a repartition topic: cleanup.policy must be delete, found {policy}, which would drop records not yet read"
                );
                findings.push(at(topic, message));
            }
            let setting = |name: &str| topic.config.get(name).map(String::as_str);
            let wrong = repartition_settings(setting("retention.ms"), setting("message.timestamp.type"));
            findings.extend(wrong.into_iter().map(|message| at(topic, message)));
        }
        _ => {}
    }
}

fn changelog(topic: &TopicSpec, findings: &mut Vec<Finding>) {
    let policy = topic.config.get("cleanup.policy").map(String::as_str);
    findings.extend(changelog_policy(policy).map(|message| at(topic, message)));
    findings.extend(tombstone_retention(topic.number("delete.retention.ms")).map(|message| at(topic, message)));
}

/// The mistake in the `cleanup.policy` of a changelog; `None` where there is none. A topic without one has Kafka's own
/// default.
#[must_use]
pub fn changelog_policy(policy: Option<&str>) -> Option<String> {
    let policy = policy.unwrap_or("delete");
    (policy.trim() != "compact").then(|| {
        format!(
            "is a changelog: cleanup.policy must be compact, found {policy}, which would delete what the store holds"
        )
    })
}

/// The mistakes in `retention.ms` and `message.timestamp.type` of a repartition topic. A topic without them has Kafka's own
/// defaults: a week, and `CreateTime`.
#[must_use]
pub fn repartition_settings(retention_ms: Option<&str>, timestamp_type: Option<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    let (retention, kind) = (retention_ms.unwrap_or("604800000"), timestamp_type.unwrap_or("CreateTime"));
    if retention.trim() != "-1" {
        wrong.push(format!(
            "is a repartition topic: retention.ms must be -1, found {retention}: it counts from the records' event times, so \
             that of a backlog what is older would be deleted before it is read; bound the topic by retention.bytes"
        ));
    }
    if kind.trim() != "CreateTime" {
        wrong.push(format!(
            "is a repartition topic: message.timestamp.type must be CreateTime, found {kind}, which would replace event times"
        ));
    }
    wrong
}

/// The mistake in the `delete.retention.ms` of a changelog, in milliseconds; `None` where there is none.
#[must_use]
pub fn tombstone_retention(ms: Option<i64>) -> Option<String> {
    let ms = ms.filter(|ms| *ms < TOMBSTONES_MS_MIN)?;
    Some(format!(
        "is a changelog: delete.retention.ms must be {TOMBSTONES_MS_MIN} or more, found {ms}: a store that was away for \
         longer would keep keys that were deleted meanwhile"
    ))
}
