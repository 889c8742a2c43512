//! The folder against the pipeline: what the topology reads and writes must be there, in the right role.

use crate::flow::Topology;
use crate::flow::record::TopicName;
use crate::topics::finding::Finding;
use crate::topics::spec::{Role, TopicSpec};
use std::path::Path;

/// Compares what `topology` derives with the files of `folder`: every finding at once, empty when they agree.
#[must_use]
pub fn compare(topology: &Topology, topics: &[TopicSpec], folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut look = |name: &TopicName, roles: &[Role], what: String| {
        let found = topics.iter().find(|topic| topic.name == *name);
        match found {
            None => findings.push(Finding::new(folder, 0, format!("{name}: no file, but it is {what}"))),
            Some(topic) if !roles.contains(&topic.role) => {
                let expected = roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
                let message = format!("{name}: its role is {}, but it is {what}: expected {expected}", topic.role);
                findings.push(Finding::new(&topic.file, topic.line, message));
            }
            Some(_) => {}
        }
        found
    };
    let pipeline = topology.name();
    let mut mismatches = Vec::new();
    for sub in topology.sub_topologies() {
        let inputs = [Role::Input, Role::Repartition];
        let lead = look(&sub.lead, &inputs, format!("a lead topic of pipeline {pipeline}"));
        if let Some(topic) = lead.filter(|topic| !topic.is_lead) {
            mismatches
                .push((topic, format!("is a lead topic of pipeline {pipeline}: set tidegate.io/lead to \"true\"")));
        }
        for companion in &sub.companions {
            let found = look(companion, &inputs, format!("a companion of {} in pipeline {pipeline}", sub.lead));
            let Some(topic) = found else { continue };
            if topic.is_lead {
                let message =
                    format!("is a companion of {} in pipeline {pipeline}: set tidegate.io/lead to \"false\"", sub.lead);
                mismatches.push((topic, message));
            }
            if let Some(lead) = lead.filter(|lead| lead.copartition != topic.copartition || lead.copartition.is_none())
            {
                let group = lead.copartition.as_deref().unwrap_or("<name>");
                let message = format!("is a companion of {}: set tidegate.io/copartition to {group} on both", sub.lead);
                mismatches.push((topic, message));
            }
        }
        for source in sub.sources() {
            look(&Topology::dead_letter_topic(source), &[Role::Dlt], format!("the dead-letter topic of {source}"));
        }
        if let Some(destination) = &sub.destination {
            let roles = [Role::Output, Role::Input, Role::Repartition];
            look(destination, &roles, format!("the destination of {} in pipeline {pipeline}", sub.lead));
        }
    }
    let mismatches = mismatches
        .into_iter()
        .map(|(topic, message)| Finding::new(&topic.file, topic.line, format!("{}: {message}", topic.name)));
    findings.extend(mismatches);
    findings
}
