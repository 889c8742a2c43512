//! The folder against the pipeline: every topic that the topology reads or writes must be there, in the right role. This
//! includes its own internal topics: none of them is ever made by accident.

use crate::flow::Topology;
use crate::flow::record::TopicName;
use crate::flow::store::StoreSpec;
use crate::flow::topology::SubTopology;
use crate::topics::finding::Finding;
use crate::topics::spec::{Role, TopicSpec};
use std::path::Path;

/// Compares the topics of `topology` with the files of `folder`: every finding at once, empty when they agree.
#[must_use]
pub fn compare(topology: &Topology, topics: &[TopicSpec], folder: &Path) -> Vec<Finding> {
    let mut comparison = Comparison { topology, topics, folder, findings: Vec::new() };
    for sub in topology.sub_topologies() {
        comparison.inputs(sub);
        comparison.outputs(sub);
        for store in &sub.stores {
            comparison.changelog(sub, store);
        }
    }
    comparison.findings
}

struct Comparison<'a> {
    topology: &'a Topology,
    topics: &'a [TopicSpec],
    folder: &'a Path,
    findings: Vec<Finding>,
}

impl<'a> Comparison<'a> {
    /// The file of a topic; a finding where there is none or its role is none of `roles`.
    fn look(&mut self, name: &TopicName, roles: &[Role], what: &str) -> Option<&'a TopicSpec> {
        let found = self.topics.iter().find(|topic| topic.name == *name);
        match found {
            None => {
                let message = format!("{name}: no file, but it is {what}");
                self.findings.push(Finding::new(self.folder, 0, message));
            }
            Some(topic) if !roles.contains(&topic.role) => {
                let expected = roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
                self.differs(topic, format!("its role is {}, but it is {what}: expected {expected}", topic.role));
            }
            Some(_) => {}
        }
        found
    }

    fn differs(&mut self, topic: &TopicSpec, message: impl std::fmt::Display) {
        self.findings.push(Finding::new(&topic.file, topic.line, format!("{}: {message}", topic.name)));
    }

    /// The roles that a source may have: a topic that the pipeline writes for itself is no input of others.
    fn source_roles(&self, topic: &TopicName) -> &'static [Role] {
        let is_internal = self.topology.internal_topics().contains(topic);
        if is_internal { &[Role::Repartition] } else { &[Role::Input, Role::Repartition] }
    }

    fn inputs(&mut self, sub: &SubTopology) {
        let pipeline = self.topology.name();
        let what = format!("a lead topic of pipeline {pipeline}");
        let lead = self.look(&sub.lead, self.source_roles(&sub.lead), &what);
        if let Some(topic) = lead.filter(|topic| !topic.is_lead) {
            self.differs(topic, format!("is {what}: set tidegate.io/lead to \"true\""));
        }
        for (name, declared) in sub.declarations() {
            let topic = self.topics.iter().find(|topic| topic.name == *name);
            if let Some(topic) = topic.filter(|topic| topic.partitions != declared.count()) {
                let (have, want) = (topic.partitions, declared.count());
                let message =
                    format!("has {have} partitions, but pipeline {pipeline} declares {want}: make them equal");
                self.differs(topic, message);
            }
        }
        for companion in &sub.companions {
            let is_table = sub.is_table(companion);
            let kind = if is_table { "the table joined with" } else { "a companion of" };
            let what = format!("{kind} {} in pipeline {pipeline}", sub.lead);
            let Some(topic) = self.look(companion, self.source_roles(companion), &what) else { continue };
            if topic.is_lead {
                self.differs(topic, format!("is {what}: set tidegate.io/lead to \"false\""));
            }
            if let Some(lead) = lead.filter(|lead| lead.copartition != topic.copartition || lead.copartition.is_none())
            {
                let group = lead.copartition.as_deref().unwrap_or("<name>");
                let message = format!("is {kind} {}: set tidegate.io/copartition to {group} on both", sub.lead);
                self.differs(topic, message);
                // Within one group the counts are compared already.
                if topic.partitions != lead.partitions {
                    let (have, want) = (topic.partitions, lead.partitions);
                    self.differs(
                        topic,
                        format!("has {have} partitions, but {} has {want}: make them equal", lead.name),
                    );
                }
            }
        }
    }

    fn outputs(&mut self, sub: &SubTopology) {
        for source in sub.sources() {
            let what = format!("the dead-letter topic of {source}");
            self.look(&Topology::dead_letter_topic(source), &[Role::Dlt], &what);
        }
        for (destination, chain) in sub.destinations.iter().zip(&sub.chains) {
            let what = format!("where chain {chain:?} reads the records of {}", sub.lead);
            self.look(destination, &[Role::Repartition], &what);
        }
        for destination in sub.destinations.iter().filter(|_| sub.chains.is_empty()) {
            if let Some(step) = &sub.rekeys {
                let what = format!("where key_by {step:?} sends the records of {}", sub.lead);
                self.look(destination, &[Role::Repartition], &what);
            } else {
                let roles = [Role::Output, Role::Input, Role::Repartition];
                let which = if sub.destinations.len() == 1 { "the" } else { "a" };
                let what = format!("{which} destination of {} in pipeline {}", sub.lead, self.topology.name());
                self.look(destination, &roles, &what);
            }
        }
    }

    /// A changelog partition is the history of the store partition of the same number.
    fn changelog(&mut self, sub: &SubTopology, store: &StoreSpec) {
        let Some(name) = self.topology.changelog_topic(store) else { return };
        let what = format!("the changelog of store {} in pipeline {}", store.name, self.topology.name());
        let lead = self.topics.iter().find(|topic| topic.name == sub.lead);
        let (Some(topic), Some(lead)) = (self.look(&name, &[Role::Changelog], &what), lead) else { return };
        if topic.partitions != lead.partitions {
            let (have, want) = (topic.partitions, lead.partitions);
            self.differs(
                topic,
                format!("has {have} partitions, but it is {what}, and {} has {want}: make them equal", lead.name),
            );
        }
    }
}
