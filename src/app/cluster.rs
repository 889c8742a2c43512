//! What the cluster must allow and have before `run` writes anything: rights on the topics, the group and the transactional ids,
//! transactions as long as ours, and the logs that the brokers keep for themselves.

use crate::adapters::kafka::{Grantee, KafkaAdmin, Operation, Right, Start, grantee, not_allowed, try_start};
use crate::app::failure::Failure;
use crate::app::service::Service;
use crate::flow::Topology;
use crate::flow::record::TopicName;
use crate::ports::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// Looks at rights, bounds and logs; everything that is missing comes in one message.
pub(super) fn check(service: &Service) -> Result<(), Failure> {
    let mistakes = mistakes(service).map_err(|fault| service.kafka_said(fault))?;
    if mistakes.is_empty() { Ok(()) } else { Err(Failure::Setup(mistakes)) }
}

fn mistakes(service: &Service) -> Result<Vec<String>, Fault> {
    let admin = KafkaAdmin::connect(&service.kafka)?;
    let grantee = grantee(&service.kafka);
    let mut mistakes = Vec::new();
    for (topic, needed) in needed(&service.topology) {
        match admin.allowed(&topic) {
            Ok(None) => {}
            Ok(Some(allowed)) => mistakes.extend(missing(&topic, &needed, &allowed, &grantee)),
            Err(fault) if fault.is_retry() => return Err(fault),
            Err(fault) => mistakes.push(fault.to_string()),
        }
    }
    let Some(lead) = service.topology.sub_topologies().first().map(|sub| &sub.lead) else { return Ok(mistakes) };
    let name = service.topology.name();
    if admin.is_denied_group(name, lead) {
        mistakes.push(lacked(&Right::group(Operation::Read, name), &grantee));
    }
    let internal = admin.internal_mistakes()?;
    if internal.is_empty() {
        mistakes.extend(check_producer(service, &admin, lead, &grantee)?);
    }
    mistakes.extend(internal);
    Ok(mistakes)
}

/// Whether producers may begin. Without the cluster's log of transactions none would be answered.
fn check_producer(
    service: &Service,
    admin: &KafkaAdmin,
    lead: &TopicName,
    grantee: &Grantee,
) -> Result<Option<String>, Fault> {
    let prefix = format!("{}-", service.topology.name());
    // No slot, worker or repair has this id: nobody is fenced.
    Ok(match try_start(&service.kafka, &format!("{prefix}rights"))? {
        Start::Open => None,
        Start::Denied => Some(lacked(&Right::transactional_ids(&prefix), grantee)),
        Start::TooLong => {
            Some(transaction_mistake(service.kafka.transaction_timeout_ms, admin.longest_transaction_ms(lead)))
        }
    })
}

fn lacked(right: &Right<'_>, grantee: &Grantee) -> String {
    format!("kafka: {}", right.missing(grantee))
}

fn transaction_mistake(ours_ms: u32, longest_ms: Option<u32>) -> String {
    let bound = longest_ms.map_or_else(
        || {
            "take only shorter ones (transaction.max.timeout.ms; the right DescribeConfigs on the cluster shows it)"
                .into()
        },
        |longest| format!("take at most {longest} (transaction.max.timeout.ms)"),
    );
    format!(
        "kafka.transaction_timeout_ms is {ours_ms}, and the brokers {bound}: lower kafka.transaction_timeout_ms, or raise \
         transaction.max.timeout.ms on the brokers"
    )
}

/// A sentence for each operation on `topic` that is not allowed.
fn missing(topic: &TopicName, needed: &BTreeSet<Operation>, allowed: &[Operation], grantee: &Grantee) -> Vec<String> {
    let needed: Vec<Operation> = needed.iter().copied().collect();
    let told = |operation| lacked(&Right::topic(operation, topic.as_str()), grantee);
    not_allowed(&needed, allowed).into_iter().map(told).collect()
}

/// The operations that `run` performs on each topic.
fn needed(topology: &Topology) -> BTreeMap<TopicName, BTreeSet<Operation>> {
    use Operation::{DescribeConfigs, Read, Write};
    let mut needed: BTreeMap<TopicName, BTreeSet<Operation>> = BTreeMap::new();
    for topic in topology.sources().into_iter().chain(topology.changelogs()) {
        needed.entry(topic).or_default().insert(Read);
    }
    for topic in topology.outputs() {
        needed.entry(topic).or_default().extend([Write, DescribeConfigs]);
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::{scoring, usage};
    use Operation::{Describe, DescribeConfigs, Read, Write};

    #[test]
    fn sources_are_read_outputs_written_and_what_the_pipeline_makes_for_itself_both() {
        let of = |topology: &Topology| {
            let all = needed(topology).into_iter();
            all.map(|(topic, needed)| (topic.to_string(), needed.into_iter().collect())).collect::<Vec<_>>()
        };
        let (reads, writes, both) = (vec![Read], vec![Write, DescribeConfigs], vec![Read, Write, DescribeConfigs]);
        let expected = |all: &[(&str, &Vec<Operation>)]| {
            all.iter().map(|(topic, needed)| ((*topic).to_owned(), (*needed).clone())).collect::<Vec<_>>()
        };
        let of_scoring = [
            ("corrections", &reads),
            ("corrections-dlt", &writes),
            ("large-changes", &writes),
            ("readings", &reads),
            ("readings-dlt", &writes),
        ];
        assert_eq!(of(&scoring::topology()), expected(&of_scoring));
        let of_usage = [
            ("events", &reads),
            ("events-dlt", &writes),
            ("usage-by-user-repartition", &both),
            ("usage-by-user-repartition-dlt", &writes),
            ("usage-updates", &writes),
            ("usage-usage-changelog", &both),
        ];
        assert_eq!(of(&usage::topology()), expected(&of_usage));
    }

    #[test]
    fn each_missing_right_is_a_sentence_of_its_own() {
        let topic = TopicName::parse("large-changes").unwrap();
        let needed = BTreeSet::from([Write, DescribeConfigs]);
        let grantee = Grantee::default();
        let told = missing(&topic, &needed, &[Describe], &grantee);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("kafka: the user has no right Write on topic large-changes; `kafka-acls.sh"),
            "{told:?}"
        );
        assert_eq!(missing(&topic, &needed, &[Write, DescribeConfigs], &grantee), [""; 0]);
        assert_eq!(missing(&topic, &needed, &[], &grantee).len(), 2, "a topic of which nothing is told lacks all");
    }

    #[test]
    fn a_transaction_that_may_not_take_so_long_is_told_with_both_settings() {
        let told = transaction_mistake(10_000, Some(5_000));
        assert!(
            told.starts_with("kafka.transaction_timeout_ms is 10000, and the brokers take at most 5000 ("),
            "{told}"
        );
        assert!(told.contains("raise transaction.max.timeout.ms"), "{told}");
        assert!(transaction_mistake(10_000, None).contains("the right DescribeConfigs on the cluster"), "{told}");
    }
}
