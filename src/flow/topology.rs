//! Declares a pipeline: sources with their companions, steps, filters, destinations.
//!
//! A sub-topology is what one task runs: a co-partition group (one lead topic and its companions) and one step. Several
//! sub-topologies make a pipeline; each has tasks of its own. A change of key ends one sub-topology in a repartition topic
//! and begins the next one there.

use crate::flow::algorithm::Algorithm;
use crate::flow::key::KeyType;
use crate::flow::partitioning::{Declared, OnViolation};
use crate::flow::record::TopicName;
use crate::flow::row::columns_of;
use crate::flow::step::{Aggregate, Chain, ChangeKey, Filter, Item, LogStep, Process, RowStep, Update};
use crate::flow::store::{Store, StoreSpec};
use crate::flow::table::{Table, TableSpec};
use crate::flow::threshold::Threshold;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::marker::PhantomData;
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
    /// Has no rows: through the log, changelog, outputs and offsets in one transaction.
    Log(Arc<dyn LogStep>),
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
    /// The topic that notices go to, or that re-keyed records go to; `None` for a pipeline that ends in its rows or stores.
    pub destination: Option<TopicName>,
    /// The stores of the step, an aggregate's own first.
    pub stores: Vec<StoreSpec>,
    /// What the lead topic's owner says of its partitioning.
    pub declared: Option<Declared>,
    /// The step's name where it changes the key: its destination is then `<pipeline>-<name>-repartition`.
    pub rekeys: Option<Arc<str>>,
}

impl SubTopology {
    /// Lead topic first, then the companions.
    pub fn sources(&self) -> impl Iterator<Item = &TopicName> {
        std::iter::once(&self.lead).chain(&self.companions)
    }

    /// The table of the step, where it has one.
    #[must_use]
    pub fn table(&self) -> Option<&TableSpec> {
        match &self.step {
            StepKind::Rows(step) => Some(step.table()),
            StepKind::Log(_) => None,
        }
    }

    /// How the keys of its records are spelt.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match &self.step {
            StepKind::Rows(step) => step.table().table.key_type,
            StepKind::Log(step) => step.key_type().unwrap_or(KeyType::Text),
        }
    }

    /// Whether keyed state lies beside its partitions, so that their number must not change.
    #[must_use]
    pub const fn is_stateful(&self) -> bool {
        !self.stores.is_empty()
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
        Source { topology: self, topics, declared: None }
    }

    /// The same pipeline under another name: another group, other transactional ids and internal topics, positions of its
    /// own.
    #[cfg_attr(not(all(feature = "kafka", feature = "postgres")), allow(dead_code, reason = "only `run` has settings"))]
    #[must_use]
    pub(crate) fn renamed(mut self, name: &str) -> Self {
        let internal: BTreeSet<TopicName> = self.internal_topics();
        let (old, new) = (format!("{}-", self.name), format!("{name}-"));
        let rename = |topic: &mut TopicName| {
            let rest = topic.as_str().strip_prefix(&old).filter(|_| internal.contains(topic));
            if let Some(renamed) = rest.and_then(|rest| TopicName::parse(&format!("{new}{rest}")).ok()) {
                *topic = renamed;
            }
        };
        for sub in &mut self.sub_topologies {
            std::iter::once(&mut sub.lead).chain(&mut sub.companions).chain(&mut sub.destination).for_each(rename);
        }
        name.clone_into(&mut self.name);
        self
    }

    /// The repartition topics that this pipeline writes and reads itself.
    #[must_use]
    pub fn internal_topics(&self) -> BTreeSet<TopicName> {
        let subs = self.sub_topologies.iter();
        let rekeyed = subs.clone().filter(|sub| sub.rekeys.is_some()).filter_map(|sub| sub.destination.clone());
        let astray = subs.filter_map(|sub| self.astray_topic(sub));
        rekeyed.chain(astray).collect()
    }

    /// Where records of a declared source go that lie in the wrong partition, under the policy `Repartition`: a companion
    /// of that source.
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

    /// An internal topic: `<pipeline>-<name>-<kind>`; `None` for an illegal name, which [`Topology::validate`] reports.
    fn internal(&self, name: &str, kind: &str) -> Option<TopicName> {
        TopicName::parse(&format!("{}-{name}-{kind}", self.name)).ok()
    }

    /// The tables of all steps with rows, in the order of the sub-topologies.
    #[must_use]
    pub fn tables(&self) -> Vec<TableSpec> {
        self.sub_topologies.iter().filter_map(SubTopology::table).cloned().collect()
    }

    /// The place in [`Topology::tables`] of a sub-topology's table.
    #[must_use]
    pub fn table_index(&self, sub_topology: usize) -> usize {
        self.sub_topologies.iter().take(sub_topology).filter(|sub| sub.table().is_some()).count()
    }

    /// The same pipeline with each step put into another: for whoever watches its runs.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only `demo` watches"))]
    #[must_use]
    pub(crate) fn wrapped(mut self, wrap: impl Fn(Arc<dyn RowStep>) -> Arc<dyn RowStep>) -> Self {
        for sub in &mut self.sub_topologies {
            if let StepKind::Rows(step) = &mut sub.step {
                *step = wrap(Arc::clone(step));
            }
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
        let stores: Vec<&StoreSpec> = self.sub_topologies.iter().flat_map(|sub| &sub.stores).collect();
        for (index, store) in stores.iter().enumerate() {
            if stores.iter().take(index).any(|other| other.name == store.name) {
                errors.push(format!("store {}: belongs to two steps; one store has one owner", store.name));
            }
            if self.changelog_topic(store).is_none() {
                errors.push(format!(
                    "store {:?}: use a name that fits into a topic's: a-z, A-Z, 0-9, '.', '_' and '-'",
                    store.name
                ));
            }
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
    declared: Option<Declared>,
}

impl<'t> Source<'t> {
    /// Adds a companion topic: equal partition count, same keys. The algorithm sees from which topic a record came, and
    /// its state is the place where the two meet: this is how co-partitioned topics are joined.
    pub fn with(mut self, companion: &str) -> Self {
        let topic = self.topology.parse(companion);
        self.topics.push(topic);
        self
    }

    /// Declares that the lead topic is partitioned by its key already: no shuffle is needed, and every record is held
    /// against the declaration.
    pub fn declared(mut self, declared: Declared) -> Self {
        self.declared = Some(declared);
        self
    }

    /// Sends each record on under the key that `key` makes of its event, through the repartition topic
    /// `<pipeline>-<name>-repartition`, so that all records of one key meet in one task. Value, headers and timestamp stay
    /// as they are. What follows reads that topic.
    pub fn key_by<E, K>(self, name: &str, key: impl Fn(&E) -> K + Send + Sync + 'static) -> Self
    where
        E: DeserializeOwned + 'static,
        K: ToString + 'static,
    {
        let topic = self.topology.internal(name, "repartition");
        if topic.is_none() {
            self.topology.errors.push(format!("key_by {name:?}: use a name of a-z, A-Z, 0-9, '.', '_' and '-'"));
        }
        let step = ChangeKey { key, event: PhantomData::<fn() -> E> };
        let topology = self.finish(StepKind::Log(Arc::new(step)), topic.clone(), Vec::new(), Some(name.into()));
        Self { topology, topics: vec![topic], declared: None }
    }

    /// Reads the row named by each record's key, runs the algorithm, writes the row back: database first. Stores come by
    /// `with_store`.
    pub fn update<A: Algorithm>(self, table: impl Into<Table>, algorithm: A) -> StepBuilder<'t, A> {
        StepBuilder::new(self, algorithm, Kind::Update(table.into()))
    }

    /// Keeps a value under each record's key in a store, beside the partition, and runs the algorithm over it: through the
    /// log.
    pub fn aggregate<A: Algorithm<Row: Default>>(
        self,
        store: impl Into<Store<A::Row>>,
        algorithm: A,
    ) -> StepBuilder<'t, A> {
        let store: Store<A::Row> = store.into();
        let stores = vec![store.spec().clone()];
        let erase: Erase<A> = Box::new(move |chain, key_type| Arc::new(Aggregate { chain, store, key_type }));
        StepBuilder { stores, ..StepBuilder::new(self, algorithm, Kind::Log(erase)) }
    }

    /// Runs an algorithm that keeps nothing under the record's key; stores of its own come by `with_store`. Through the
    /// log.
    pub fn process<A: Algorithm<Row = ()>>(self, algorithm: A) -> StepBuilder<'t, A> {
        StepBuilder::new(self, algorithm, Kind::Log(Box::new(|chain, _| Arc::new(Process { chain }))))
    }

    /// Adds the sub-topology; gives the topology back for what follows.
    fn finish(
        self,
        step: StepKind,
        destination: Option<TopicName>,
        stores: Vec<StoreSpec>,
        rekeys: Option<Arc<str>>,
    ) -> &'t mut Topology {
        let Self { topology, topics, declared } = self;
        let mut topics = topics.into_iter().flatten(); // an illegal name was noted when it was given
        let Some(lead) = topics.next() else { return topology };
        let mut sub = SubTopology { lead, companions: topics.collect(), step, destination, stores, declared, rekeys };
        sub.companions.extend(topology.astray_topic(&sub));
        topology.sub_topologies.push(sub);
        topology
    }
}

/// Makes the step of a chain without rows.
type Erase<A> = Box<dyn FnOnce(Chain<A>, KeyType) -> Arc<dyn LogStep>>;

enum Kind<A: Algorithm> {
    Update(Table),
    Log(Erase<A>),
}

/// A step under construction.
#[must_use = "a step does nothing until its chain ends in to() or done()"]
pub struct StepBuilder<'t, A: Algorithm> {
    source: Source<'t>,
    algorithm: A,
    kind: Kind<A>,
    key_type: KeyType,
    stores: Vec<StoreSpec>,
    filters: Vec<Filter<A>>,
}

impl<'t, A: Algorithm> StepBuilder<'t, A> {
    fn new(source: Source<'t>, algorithm: A, kind: Kind<A>) -> Self {
        Self { source, algorithm, kind, key_type: KeyType::Text, stores: Vec::new(), filters: Vec::new() }
    }

    /// How the keys of an aggregate are spelt. Text unless said otherwise; an `update` step's keys are its table's.
    pub const fn keys(mut self, key_type: KeyType) -> Self {
        self.key_type = key_type;
        self
    }

    /// Gives the algorithm a store, to be opened by [`Context::store`](crate::flow::Context::store). Its values lie
    /// beside the partition of the record that writes them; in an `update` step they change with the row or not at all.
    pub fn with_store<V>(mut self, store: &Store<V>) -> Self {
        self.stores.push(store.spec().clone());
        self
    }

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

    /// Ends the chain without a topic: the rows, or the stores, are the result.
    pub fn done(self) {
        self.finish(None);
    }

    fn finish(self, destination: Option<TopicName>) {
        let Self { source, algorithm, kind, key_type, stores, filters } = self;
        let chain = Chain { algorithm, filters, destination: destination.clone() };
        let step = match kind {
            Kind::Update(table) => {
                let columns = columns_of::<A::Row>().unwrap_or_else(|error| {
                    source.topology.errors.push(format!("table {}: {error}", table.name));
                    Vec::new()
                });
                StepKind::Rows(Arc::new(Update { chain, table: TableSpec { table, columns } }))
            }
            Kind::Log(erase) => StepKind::Log(erase(chain, key_type)),
        };
        source.finish(step, destination, stores, None);
    }
}
