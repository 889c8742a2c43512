//! What the cluster must allow and have before `run` writes anything: rights on the topics, and the logs that the brokers keep
//! for themselves.

use crate::adapters::kafka::{KafkaAdmin, Operation, Right, not_allowed};
use crate::app::failure::Failure;
use crate::app::service::Service;
use crate::flow::Topology;
use crate::flow::record::TopicName;
use crate::ports::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// Looks at rights and logs; everything that is missing comes in one message.
pub(super) fn check(service: &Service) -> Result<(), Failure> {
    let mistakes = mistakes(service).map_err(|fault| service.kafka_said(fault))?;
    if mistakes.is_empty() { Ok(()) } else { Err(Failure::Setup(mistakes)) }
}

fn mistakes(service: &Service) -> Result<Vec<String>, Fault> {
    let admin = KafkaAdmin::connect(&service.kafka)?;
    let mut mistakes = Vec::new();
    for (topic, needed) in needed(&service.topology) {
        match admin.allowed(&topic) {
            Ok(None) => {}
            Ok(Some(allowed)) => mistakes.extend(missing(&topic, &needed, &allowed)),
            Err(fault) if fault.is_retry() => return Err(fault),
            Err(fault) => mistakes.push(fault.to_string()),
        }
    }
    mistakes.extend(admin.internal_mistakes()?);
    Ok(mistakes)
}

/// A sentence for each operation on `topic` that is not allowed.
fn missing(topic: &TopicName, needed: &BTreeSet<Operation>, allowed: &[Operation]) -> Vec<String> {
    let needed: Vec<Operation> = needed.iter().copied().collect();
    let told = |operation| format!("kafka: {}", Right::topic(operation, topic.as_str()));
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
        let told = missing(&topic, &needed, &[Describe]);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("kafka: the user has no right Write on topic large-changes; `kafka-acls.sh"),
            "{told:?}"
        );
        assert_eq!(missing(&topic, &needed, &[Write, DescribeConfigs]), [""; 0]);
    }
}
