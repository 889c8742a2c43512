//! Declares a pipeline: sources with their companions, steps, filters, destinations.
//!
//! A sub-topology is what one task runs: a co-partition group (one lead topic and its companions) and one step. Several
//! sub-topologies make a pipeline; each has tasks of its own.

use crate::flow::algorithm::Algorithm;
use crate::flow::record::TopicName;
use crate::flow::row::columns_of;
use crate::flow::step::{Filter, Item, RowStep, Update};
use crate::flow::table::{Table, TableSpec};
use crate::flow::threshold::Threshold;
use std::sync::Arc;

/// A pipeline under construction, and afterwards its description.
///
/// Mistakes (an illegal topic name, a source used twice, a row type without columns) are collected and reported together
/// by [`Topology::validate`], which `run` calls before it connects to anything. Clones share steps and thresholds.
#[derive(Clone)]
pub struct Topology {
    name: String,
    sub_topologies: Vec<SubTopology>,
    thresholds: Vec<Threshold>,
    errors: Vec<String>,
}

/// How a sub-topology commits.
#[derive(Clone)]
pub enum StepKind {
    /// Reads and writes rows: through the database, database first.
    Rows(Arc<dyn RowStep>),
}

/// One co-partition group and its step.
#[derive(Clone)]
pub struct SubTopology {
    /// The topic the consumer group subscribes to.
    pub lead: TopicName,
    /// Topics assigned with it, partition number by partition number.
    pub companions: Vec<TopicName>,
    /// What is done with each record.
    pub step: StepKind,
    /// The topic that notices go to; `None` for a pipeline that ends in its rows.
    pub destination: Option<TopicName>,
}

impl SubTopology {
    /// Lead topic first, then the companions.
    pub fn sources(&self) -> impl Iterator<Item = &TopicName> {
        std::iter::once(&self.lead).chain(&self.companions)
    }

    /// The table of the step.
    #[must_use]
    pub fn table(&self) -> &TableSpec {
        let StepKind::Rows(step) = &self.step;
        step.table()
    }
}

impl Topology {
    /// Starts a pipeline. The name is the consumer group's id and the prefix of every transactional id.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut errors = Vec::new();
        if let Err(error) = TopicName::parse(name) {
            errors.push(format!("pipeline name: {error}"));
        }
        Self { name: name.into(), sub_topologies: Vec::new(), thresholds: Vec::new(), errors }
    }

    /// Names the lead topic of a source: the one the consumer group subscribes to.
    pub fn source(&mut self, topic: &str) -> Source<'_> {
        let topics = vec![self.parse(topic)];
        Source { topology: self, topics }
    }

    /// The same pipeline under another name: another group, other transactional ids, positions of its own.
    #[cfg_attr(not(all(feature = "kafka", feature = "postgres")), allow(dead_code, reason = "only `run` has settings"))]
    #[must_use]
    pub(crate) fn renamed(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The same pipeline with each step put into another: for whoever watches its runs.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only `demo` watches"))]
    #[must_use]
    pub(crate) fn wrapped(mut self, wrap: impl Fn(Arc<dyn RowStep>) -> Arc<dyn RowStep>) -> Self {
        for sub in &mut self.sub_topologies {
            let StepKind::Rows(step) = &mut sub.step;
            *step = wrap(Arc::clone(step));
        }
        self
    }

    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sub-topologies in the order they were declared.
    #[must_use]
    pub fn sub_topologies(&self) -> &[SubTopology] {
        &self.sub_topologies
    }

    /// Every named threshold.
    #[must_use]
    pub fn thresholds(&self) -> &[Threshold] {
        &self.thresholds
    }

    /// Checks the whole declaration.
    ///
    /// # Errors
    /// Every mistake, one sentence each.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut errors = self.errors.clone();
        if self.sub_topologies.is_empty() && errors.is_empty() {
            errors.push(format!(
                "pipeline {}: no source was declared, or its chain does not end in to() or done()",
                self.name
            ));
        }
        let mut seen: Vec<&TopicName> = Vec::new();
        for topic in self.sub_topologies.iter().flat_map(SubTopology::sources) {
            if seen.contains(&topic) {
                errors.push(format!("topic {topic}: is a source twice; one topic has one place in a pipeline"));
            }
            seen.push(topic);
        }
        for (index, threshold) in self.thresholds.iter().enumerate() {
            if self.thresholds.iter().take(index).any(|other| other.name() == threshold.name()) {
                errors.push(format!("threshold {}: the name is used twice", threshold.name()));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The dead-letter topic of a source: `<topic>-dlt`.
    #[must_use]
    pub fn dead_letter_topic(source: &TopicName) -> TopicName {
        let name = format!("{source}-dlt");
        // A source name of more than 245 characters has no dead-letter topic of its own and falls back to itself.
        TopicName::parse(&name).unwrap_or_else(|_| source.clone())
    }

    fn parse(&mut self, topic: &str) -> Option<TopicName> {
        TopicName::parse(topic).map_err(|error| self.errors.push(error)).ok()
    }
}

/// A source under construction.
#[must_use = "a source does nothing until its chain ends in to() or done()"]
pub struct Source<'t> {
    topology: &'t mut Topology,
    topics: Vec<Option<TopicName>>,
}

impl<'t> Source<'t> {
    /// Adds a companion topic: equal partition count, same keys. The algorithm sees from which topic a record came.
    pub fn with(mut self, companion: &str) -> Self {
        let topic = self.topology.parse(companion);
        self.topics.push(topic);
        self
    }

    /// Reads the row named by each record's key, runs the algorithm, writes the row back: database first.
    pub fn update<A: Algorithm>(self, table: impl Into<Table>, algorithm: A) -> UpdateBuilder<'t, A> {
        UpdateBuilder { source: self, table: table.into(), algorithm, filters: Vec::new() }
    }
}

/// An update step under construction.
#[must_use = "an update does nothing until its chain ends in to() or done()"]
pub struct UpdateBuilder<'t, A: Algorithm> {
    source: Source<'t>,
    table: Table,
    algorithm: A,
    filters: Vec<Filter<A>>,
}

impl<A: Algorithm> UpdateBuilder<'_, A> {
    /// Announces only the notices for which `predicate` holds.
    pub fn filter(mut self, predicate: impl Fn(&Item<A>) -> bool + Send + Sync + 'static) -> Self {
        self.filters.push(Filter::Predicate(Box::new(predicate)));
        self
    }

    /// Announces only the notices whose magnitude reaches the named threshold. `default` holds until the setting
    /// `pipeline.thresholds.<name>` says otherwise, at start or while running.
    pub fn at_least(
        mut self,
        name: &str,
        default: f64,
        magnitude: impl Fn(&Item<A>) -> f64 + Send + Sync + 'static,
    ) -> Self {
        let threshold = Threshold::new(name, default);
        self.source.topology.thresholds.push(threshold.clone());
        self.filters.push(Filter::AtLeast(threshold, Box::new(magnitude)));
        self
    }

    /// Ends the chain: what passes is announced in `topic` under the record's key.
    pub fn to(self, topic: &str) {
        match TopicName::parse(topic) {
            Ok(destination) => self.finish(Some(destination)),
            Err(error) => self.source.topology.errors.push(error),
        }
    }

    /// Ends the chain without a topic: the rows are the result.
    pub fn done(self) {
        self.finish(None);
    }

    fn finish(self, destination: Option<TopicName>) {
        let Self { source: Source { topology, topics }, table, algorithm, filters } = self;
        let columns = columns_of::<A::Row>().unwrap_or_else(|error| {
            topology.errors.push(format!("table {}: {error}", table.name));
            Vec::new()
        });
        let mut topics = topics.into_iter().flatten(); // an illegal name was noted when it was given
        let Some(lead) = topics.next() else { return };
        let step = Update { algorithm, table: TableSpec { table, columns }, filters, destination: destination.clone() };
        topology.sub_topologies.push(SubTopology {
            lead,
            companions: topics.collect(),
            step: StepKind::Rows(Arc::new(step)),
            destination,
        });
    }
}
