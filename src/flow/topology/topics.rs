//! Every topic of a pipeline: those that it reads, those that it writes, and those that it makes for itself.

use crate::flow::codec::Format;
use crate::flow::key::KeyType;
use crate::flow::partitioning::OnViolation;
use crate::flow::record::TopicName;
use crate::flow::store::StoreSpec;
use crate::flow::topology::{SubTopology, Topology};
use std::collections::BTreeSet;

impl Topology {
    /// The format of a topic's values: as the pipeline writes them, or else as it reads them; a dead letter's is its record's.
    /// JSON for any other topic.
    #[must_use]
    pub fn format_of(&self, topic: &TopicName) -> Format {
        let subs = || self.sub_topologies.iter();
        let of = |sub: &SubTopology| {
            if sub.late_to.as_ref() == Some(topic) { sub.formats.read } else { sub.formats.written }
        };
        let written = subs().find(|sub| sub.destinations.contains(topic)).map(of);
        let read = |topic: &TopicName| {
            let table = subs().flat_map(|sub| &sub.tables).find(|table| table.topic == *topic);
            let source = || subs().find(|sub| sub.sources().any(|source| source == topic));
            table.map(|table| table.format).or_else(|| source().map(|sub| sub.formats.read))
        };
        let of_dead_letters = || {
            let sources =
                subs().flat_map(SubTopology::sources).find(|source| Self::dead_letter_topic(source) == *topic);
            sources.and_then(read)
        };
        written.or_else(|| read(topic)).or_else(of_dead_letters).unwrap_or_default()
    }

    /// The spelling of a topic's keys: as a step reads them, or else as the step that writes the topic does; a dead letter's is
    /// its record's. Text for any other topic.
    #[must_use]
    pub fn key_type_of(&self, topic: &TopicName) -> KeyType {
        let of_source = |topic: &TopicName| {
            self.sub_topologies
                .iter()
                .find(|sub| sub.sources().any(|source| source == topic))
                .map(SubTopology::key_type)
        };
        let written = || self.sub_topologies.iter().find(|sub| sub.destinations.contains(topic));
        let of_dead_letters = || {
            let mut sources = self.sub_topologies.iter().flat_map(SubTopology::sources);
            sources.find(|source| Self::dead_letter_topic(source) == *topic).and_then(of_source)
        };
        let written = || written().filter(|sub| sub.rekeys.is_none()).map(SubTopology::key_type);
        of_source(topic).or_else(written).or_else(of_dead_letters).unwrap_or(KeyType::Text)
    }

    /// All sources of the pipeline, by their numbers.
    #[must_use]
    pub fn sources(&self) -> Vec<TopicName> {
        self.sub_topologies.iter().flat_map(SubTopology::sources).cloned().collect()
    }

    /// Every topic that the pipeline writes: destinations, internal topics, changelogs and dead-letter topics, sorted.
    #[must_use]
    pub fn outputs(&self) -> BTreeSet<TopicName> {
        let destinations = self.sub_topologies.iter().flat_map(|sub| sub.destinations.clone());
        let written = destinations.chain(self.dead_letter_topics());
        written.chain(self.internal_topics()).chain(self.changelogs()).collect()
    }

    /// The changelogs of the pipeline's stores, sorted.
    #[must_use]
    pub fn changelogs(&self) -> BTreeSet<TopicName> {
        let stores = self.sub_topologies.iter().flat_map(|sub| &sub.stores);
        stores.filter_map(|store| self.changelog_topic(store)).collect()
    }

    /// The dead-letter topics of the pipeline's sources.
    pub fn dead_letter_topics(&self) -> impl Iterator<Item = TopicName> {
        self.sub_topologies.iter().flat_map(SubTopology::sources).map(Self::dead_letter_topic)
    }

    /// The repartition topics that this pipeline writes and reads itself.
    #[must_use]
    pub fn internal_topics(&self) -> BTreeSet<TopicName> {
        let subs = self.sub_topologies.iter();
        let rekeyed = subs.clone().flat_map(|sub| sub.sent_on_to().to_vec());
        let astray = subs.filter_map(|sub| self.astray_topic(sub));
        rekeyed.chain(astray).collect()
    }

    /// The topic for misplaced records of a declared source, under the policy `Repartition`: a companion of that
    /// source.
    #[must_use]
    pub fn astray_topic(&self, sub: &SubTopology) -> Option<TopicName> {
        let is_sent_on =
            sub.declared.as_ref().is_some_and(|declared| declared.on_violation == OnViolation::Repartition);
        if is_sent_on { self.internal(sub.lead.as_str(), "repartition") } else { None }
    }

    /// The changelog of a store: `<pipeline>-<store>-changelog`.
    #[must_use]
    pub fn changelog_topic(&self, store: &StoreSpec) -> Option<TopicName> {
        self.internal(&store.name, "changelog")
    }

    /// An internal topic: `<pipeline>-<name>-<kind>`; `None` for an illegal name. [`Topology::validate`] reports that, and a
    /// name that is too long.
    pub(super) fn internal(&self, name: &str, kind: &str) -> Option<TopicName> {
        TopicName::is_spelt_well(name).then(|| TopicName::derived(&format!("{}-{name}-{kind}", self.name)))
    }

    /// The dead-letter topic of a source: `<topic>-dlt`.
    #[must_use]
    pub fn dead_letter_topic(source: &TopicName) -> TopicName {
        TopicName::derived(&format!("{source}-dlt"))
    }
}
