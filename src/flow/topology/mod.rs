//! Declares a pipeline: sources with their companions, steps, filters, destinations.
//!
//! A sub-topology is what one task runs: a co-partition group (one lead topic and its companions) and one step. Several
//! sub-topologies make a pipeline; each has tasks of its own. A change of key ends one sub-topology in a repartition topic
//! and begins the next one there.

mod topics;
mod validate;

use crate::flow::algorithm::Algorithm;
use crate::flow::events::{AnyOf, Joined, LeftJoined, Plain, ReadEvent};
use crate::flow::join::{JoinedTable, Keep, TableTopic, WithTables};
use crate::flow::key::KeyType;
use crate::flow::map_keys::{refusal, unspeakable};
use crate::flow::partitioning::{Declared, KeyHash};
use crate::flow::record::TopicName;
use crate::flow::row::columns_of;
use crate::flow::step::{Aggregate, Chain, ChangeKey, Filter, Item, LogStep, Process, RowStep, Update};
use crate::flow::store::{Store, StoreSpec};
use crate::flow::table::{Table, TableSpec};
use crate::flow::threshold::Threshold;
use serde::Serialize;
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
    pub(super) name: String,
    pub(super) sub_topologies: Vec<SubTopology>,
    pub(super) thresholds: Vec<Threshold>,
    pub(super) errors: Vec<String>,
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
    /// The companions that are kept as tables.
    pub tables: Vec<JoinedTable>,
    /// What the lead topic's owner says of its partitioning.
    pub declared: Option<Declared>,
    /// The step's name where it changes the key: its destination is then `<pipeline>-<name>-repartition`.
    pub rekeys: Option<Arc<str>>,
}

/// Where a step's rows lie among the tables of its pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePlace {
    /// The table in [`Topology::tables`].
    pub table: usize,
    /// The place of each of the step's columns among those of the table; `None` where they are the same.
    pub columns: Option<Vec<usize>>,
    /// The place of the key among the table's columns, where a struct has it.
    pub key: Option<usize>,
    /// The place of the version among the table's columns, where a struct has it.
    pub version: Option<usize>,
}

impl SubTopology {
    /// Lead topic first, then the companions.
    pub fn sources(&self) -> impl Iterator<Item = &TopicName> {
        std::iter::once(&self.lead).chain(&self.companions)
    }

    /// What is declared of the partitioning of its topics.
    pub fn declarations(&self) -> impl Iterator<Item = (&TopicName, &Declared)> {
        let tables = self.tables.iter().map(|table| (&table.topic, &table.declared));
        let all = std::iter::once((&self.lead, &self.declared)).chain(tables);
        all.filter_map(|(topic, declared)| Some((topic, declared.as_ref()?)))
    }

    /// What is declared of the partitioning of one of its topics.
    #[must_use]
    pub fn declaration(&self, topic: &TopicName) -> Option<&Declared> {
        self.declarations().find(|(declared, _)| *declared == topic).map(|(_, found)| found)
    }

    /// How the keys of its topics must be partitioned for equal ones to meet where the step keeps something by key: as its
    /// lead topic declares, otherwise as Java's producers and our own do it.
    pub(crate) fn assumed_hash(&self) -> Option<&KeyHash> {
        static MURMUR2: KeyHash = KeyHash::Murmur2;
        let is_keyed = matches!(&self.step, StepKind::Log(step) if step.key_type().is_some());
        is_keyed.then(|| self.declared.as_ref().map_or(&MURMUR2, Declared::hash))
    }

    /// Whether `topic` is kept as a table.
    #[must_use]
    pub fn is_table(&self, topic: &TopicName) -> bool {
        self.tables.iter().any(|table| table.topic == *topic)
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
        let lead = self.parse(topic);
        Source { group: Group::new(self, lead), events: Plain }
    }

    /// The same pipeline under another name: another group, other transactional ids and internal topics, positions of its
    /// own. Whether those topics' names fit is for [`Topology::validate`] to say.
    #[cfg_attr(not(all(feature = "kafka", feature = "postgres")), allow(dead_code, reason = "only `run` has settings"))]
    #[must_use]
    pub(crate) fn renamed(mut self, name: &str) -> Self {
        let internal: BTreeSet<TopicName> = self.internal_topics();
        let old = format!("{}-", self.name);
        let rename = |topic: &mut TopicName| {
            let rest = topic.as_str().strip_prefix(&old).filter(|_| internal.contains(topic));
            if let Some(renamed) = rest.map(|rest| TopicName::derived(&format!("{name}-{rest}"))) {
                *topic = renamed;
            }
        };
        for sub in &mut self.sub_topologies {
            std::iter::once(&mut sub.lead).chain(&mut sub.companions).chain(&mut sub.destination).for_each(rename);
        }
        name.clone_into(&mut self.name);
        self
    }

    /// The tables of all steps with rows, by name, each once: with the columns of the first step that has it, then those
    /// that other steps add. In this order rows are locked, by every worker and instance.
    #[must_use]
    pub fn tables(&self) -> Vec<TableSpec> {
        self.merged_tables(&mut Vec::new())
    }

    /// As [`Topology::tables`]; what two steps do not agree about is told in `errors`.
    pub(super) fn merged_tables(&self, errors: &mut Vec<String>) -> Vec<TableSpec> {
        let mut tables: Vec<TableSpec> = Vec::new();
        for spec in self.sub_topologies.iter().filter_map(SubTopology::table) {
            match tables.iter_mut().find(|known| known.table.name == spec.table.name) {
                Some(known) => errors.extend(known.merge(spec)),
                None => tables.push(spec.clone()),
            }
        }
        tables.sort_by(|one, next| one.table.name.cmp(&next.table.name));
        tables
    }

    /// Where the rows of a sub-topology's step lie in [`Topology::tables`].
    #[must_use]
    pub fn table_place(&self, sub_topology: usize) -> TablePlace {
        let Some(spec) = self.sub_topologies.get(sub_topology).and_then(SubTopology::table) else {
            return TablePlace::default();
        };
        let tables = self.tables();
        let found = tables.iter().enumerate().find(|(_, known)| known.table.name == spec.table.name);
        let Some((table, whole)) = found else { return TablePlace::default() };
        let place = |name: &String| whole.columns.iter().position(|column| column.name == *name);
        let columns: Vec<usize> = spec.columns.iter().filter_map(|column| place(&column.name)).collect();
        let is_whole = columns.iter().copied().eq(0..whole.columns.len());
        let version = whole.table.version_column.as_ref().and_then(place);
        TablePlace { table, columns: (!is_whole).then_some(columns), key: place(&whole.table.key_column), version }
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

    /// The same pipeline with each step put into another, whatever its kind: for whoever watches a simulation.
    #[must_use]
    pub(crate) fn with_steps(mut self, wrap: impl Fn(StepKind) -> StepKind) -> Self {
        for sub in &mut self.sub_topologies {
            sub.step = wrap(sub.step.clone());
        }
        self
    }

    /// The same pipeline without times to live: for whoever simulates a release.
    #[must_use]
    pub(crate) fn everlasting(mut self) -> Self {
        self.sub_topologies.iter_mut().flat_map(|sub| &mut sub.stores).for_each(|spec| spec.time_to_live = None);
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

    /// Whether JSON can spell the map keys of `T`, which `what` holds.
    fn check_map_keys<T: DeserializeOwned>(&mut self, what: &str) {
        self.errors.extend(unspeakable::<T>().map(|kind| refusal(what, kind)));
    }

    fn parse(&mut self, topic: &str) -> Option<TopicName> {
        TopicName::parse(topic).map_err(|error| self.errors.push(error)).ok()
    }
}

/// A co-partition group under construction.
struct Group<'t> {
    topology: &'t mut Topology,
    /// Lead topic first; an illegal name was noted when it was given.
    topics: Vec<Option<TopicName>>,
    tables: Vec<(JoinedTable, Arc<dyn Keep>)>,
    declared: Option<Declared>,
}

impl<'t> Group<'t> {
    fn new(topology: &'t mut Topology, lead: Option<TopicName>) -> Self {
        Self { topology, topics: vec![lead], tables: Vec::new(), declared: None }
    }

    fn join<V: Serialize + DeserializeOwned + 'static>(&mut self, table: TableTopic<V>) -> Store<V> {
        let TableTopic { topic, store, declared } = table;
        self.topology.check_map_keys::<V>(&format!("table {topic}"));
        let topic = self.topology.parse(&topic);
        if let Some(topic) = &topic {
            let joined = JoinedTable { topic: topic.clone(), store: Arc::clone(&store.spec().name), declared };
            self.tables.push((joined, Arc::new(store.clone())));
        }
        self.topics.push(topic);
        store
    }

    /// Adds the sub-topology; gives the topology back for what follows.
    fn finish(
        self,
        step: StepKind,
        destination: Option<TopicName>,
        mut stores: Vec<StoreSpec>,
        rekeys: Option<Arc<str>>,
    ) -> &'t mut Topology {
        let Self { topology, topics, tables, declared } = self;
        stores.extend(tables.iter().map(|(_, kept)| kept.spec().clone()));
        let tables = tables.into_iter().map(|(table, _)| table).collect();
        let mut topics = topics.into_iter().flatten();
        let Some(lead) = topics.next() else { return topology };
        let companions = topics.collect();
        let mut sub = SubTopology { lead, companions, step, destination, stores, tables, declared, rekeys };
        sub.companions.extend(topology.astray_topic(&sub));
        topology.sub_topologies.push(sub);
        topology
    }
}

/// A source under construction. `S` is how the event of its step is read.
///
/// Topics that are read together must be co-partitioned: keys spelt alike, one partitioner, equal partition counts. Then
/// all records of one key meet in one task. The order of records is that of their partition. Between topics the engine
/// takes the record with the smaller timestamp among those that have arrived, a table's first where they are equal, and
/// does not wait for a topic that is late. When a task starts, table topics are read to the end that they have then, before
/// the first record of the stream. So a record is joined with what its table says when the record is *handled*: one that a
/// slow producer of the table should have sent before it is missed, as with Kafka Streams.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate::flow::{Algorithm, Context, Reject, Topology};
///
/// #[derive(Deserialize)]             struct Order { item: String }
/// #[derive(Serialize, Deserialize)]  struct User { name: String }
/// #[derive(Serialize)]               struct Labelled { item: String, name: String }
///
/// struct Label;
///
/// impl Algorithm for Label {
///     type Event = (Order, User);
///     type Row = ();
///     type Notices = Option<Labelled>;
///
///     fn apply(&self, (order, user): (Order, User), (): &mut (), _: &mut Context<'_>) -> Result<Option<Labelled>, Reject> {
///         Ok(Some(Labelled { item: order.item, name: user.name }))
///     }
/// }
///
/// let mut topology = Topology::new("labels");
/// topology.source("orders").join("users").process(Label).to("labelled-orders");
/// assert_eq!(topology.validate(), Ok(()));
/// ```
#[must_use = "a source does nothing until its chain ends in to() or done()"]
pub struct Source<'t, S = Plain> {
    group: Group<'t>,
    events: S,
}

impl<'t> Source<'t> {
    /// Adds a companion topic: equal partition count, same keys. The algorithm sees from which topic a record came, and
    /// its state is the place where the two meet. Both topics' records are decoded as one type; see [`Source::events`] for
    /// topics whose records differ.
    pub fn with(mut self, companion: &str) -> Self {
        let topic = self.group.topology.parse(companion);
        self.group.topics.push(topic);
        self
    }

    /// Reads several co-partitioned topics, each as its own type: `event` makes the step's event of a record of the lead
    /// topic, and [`Source::and`] adds a topic and does the same for its records. This joins two streams by key: the
    /// algorithm keeps what it has seen of one until the other comes.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// # #[derive(Deserialize)] struct Order { cents: i64 }
    /// # #[derive(Deserialize)] struct Payment { cents: i64 }
    /// enum Movement {
    ///     Ordered(Order),
    ///     Paid(Payment),
    /// }
    /// # struct Balance;
    /// # impl Algorithm for Balance {
    /// #     type Event = Movement; type Row = i64; type Notices = Option<i64>;
    /// #     fn apply(&self, event: Movement, owed: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
    /// #         *owed += match event { Movement::Ordered(order) => order.cents, Movement::Paid(paid) => -paid.cents };
    /// #         Ok(Some(*owed))
    /// #     }
    /// # }
    /// let mut topology = Topology::new("balances");
    /// topology
    ///     .source("orders")
    ///     .events(Movement::Ordered)
    ///     .and("payments", Movement::Paid)
    ///     .aggregate("balances", Balance)
    ///     .done();
    /// # assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn events<P, E>(self, event: impl Fn(P) -> E + Send + Sync + 'static) -> Source<'t, AnyOf<E>>
    where
        P: DeserializeOwned,
        E: 'static,
    {
        Source { group: self.group, events: AnyOf::new(event) }
    }

    /// Sends each record on under the key that `key` makes of its event, through the repartition topic
    /// `<pipeline>-<name>-repartition`, so that all records of one key meet in one task. Value, headers and timestamp stay
    /// as they are. What follows reads that topic.
    pub fn key_by<E, K>(self, name: &str, key: impl Fn(&E) -> K + Send + Sync + 'static) -> Self
    where
        E: DeserializeOwned + 'static,
        K: ToString + 'static,
    {
        self.keys_by(name, move |event: &E| Some(key(event)))
    }

    /// As [`Source::key_by`], for events that concern nobody, one or several: a copy of the record goes to each key in the
    /// order given, and a record without a key ends here. What is dropped here is not written, so that a filter costs least
    /// before the shuffle.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// #[derive(Deserialize)]
    /// struct Transfer {
    ///     from: String,
    ///     to: String,
    ///     cents: i64,
    /// }
    /// # struct Turnover;
    /// # impl Algorithm for Turnover {
    /// #     type Event = Transfer; type Row = i64; type Notices = Option<i64>;
    /// #     fn apply(&self, event: Transfer, sum: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
    /// #         *sum += event.cents;
    /// #         Ok(None)
    /// #     }
    /// # }
    ///
    /// let mut topology = Topology::new("turnover");
    /// topology
    ///     .source("transfers")
    ///     .keys_by("both-sides", |transfer: &Transfer| {
    ///         if transfer.cents == 0 { vec![] } else { vec![transfer.from.clone(), transfer.to.clone()] }
    ///     })
    ///     .aggregate("turnover", Turnover)
    ///     .done();
    /// # assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn keys_by<E, I>(self, name: &str, keys: impl Fn(&E) -> I + Send + Sync + 'static) -> Self
    where
        E: DeserializeOwned + 'static,
        I: IntoIterator<Item: ToString> + 'static,
    {
        let topology = &mut *self.group.topology;
        let topic = topology.internal(name, "repartition");
        if topic.is_none() {
            topology.errors.push(format!("key_by or keys_by {name:?}: use a name of a-z, A-Z, 0-9, '.', '_' and '-'"));
        }
        let step = ChangeKey { keys, event: PhantomData::<fn() -> E> };
        let topology = self.group.finish(StepKind::Log(Arc::new(step)), topic.clone(), Vec::new(), Some(name.into()));
        Self { group: Group::new(topology, topic), events: Plain }
    }

    /// Reads the row named by each record's key, runs the algorithm, writes the row back: database first. Stores come by
    /// `with_store`. Several steps may have one table, each with a struct of the columns that it is about: a row is read,
    /// locked and written once a batch, and a step sees what the one before left.
    pub fn update<A: Algorithm<Event: DeserializeOwned>>(
        self,
        table: impl Into<Table>,
        algorithm: A,
    ) -> StepBuilder<'t, A> {
        let table = table.into();
        let erase: Erase<A> = Box::new(move |chain, _, topology| {
            topology.check_map_keys::<A::Row>(&format!("table {}", table.name));
            let columns = columns_of::<A::Row>().unwrap_or_else(|error| {
                topology.errors.push(format!("table {}: {error}", table.name));
                Vec::new()
            });
            StepKind::Rows(Arc::new(Update { chain, table: TableSpec { table, columns } }))
        });
        StepBuilder::new(self.group, algorithm, Vec::new(), erase)
    }
}

impl<E: 'static> Source<'_, AnyOf<E>> {
    /// Adds a companion topic: equal partition count, same keys. `event` makes the step's event of its records.
    pub fn and<P>(mut self, companion: &str, event: impl Fn(P) -> E + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned,
    {
        let topic = self.group.topology.parse(companion);
        if let Some(topic) = &topic {
            self.events.and(topic.clone(), event);
        }
        self.group.topics.push(topic);
        self
    }
}

impl<'t, S> Source<'t, S> {
    /// Declares that the lead topic is partitioned by its key already: no shuffle is needed, and every record is held
    /// against the declaration before it touches a row or a store. In front of `update` a record that lies elsewhere is
    /// not sent on, so `OnViolation::Repartition` is refused there.
    pub fn declared(mut self, declared: Declared) -> Self {
        self.group.declared = Some(declared);
        self
    }

    /// Joins each record with the value that a table topic has for its key: the algorithm's event is the pair of both. A
    /// record whose key the table lacks is skipped; one without a key is a dead letter. Through the log.
    pub fn join<V>(mut self, table: impl Into<TableTopic<V>>) -> Source<'t, Joined<S, V>>
    where
        V: Serialize + DeserializeOwned + 'static,
    {
        let table = self.group.join(table.into());
        Source { group: self.group, events: Joined { stream: self.events, table } }
    }

    /// As [`Source::join`], but a record whose key the table lacks is handled too: the algorithm's event is the pair of
    /// the stream's event and an `Option`.
    pub fn left_join<V>(mut self, table: impl Into<TableTopic<V>>) -> Source<'t, LeftJoined<S, V>>
    where
        V: Serialize + DeserializeOwned + 'static,
    {
        let table = self.group.join(table.into());
        Source { group: self.group, events: LeftJoined { stream: self.events, table } }
    }

    /// Keeps a value under each record's key in a store, beside the partition, and runs the algorithm over it: through the
    /// log.
    pub fn aggregate<A: Algorithm<Row: Default>>(
        self,
        store: impl Into<Store<A::Row>>,
        algorithm: A,
    ) -> StepBuilder<'t, A>
    where
        S: ReadEvent<A::Event>,
    {
        let (store, events) = (store.into(), self.events);
        self.group.topology.check_map_keys::<A::Row>(&format!("store {}", store.spec().name));
        let stores = vec![store.spec().clone()];
        let erase: Erase<A> =
            Box::new(move |chain, key_type, _| StepKind::Log(Arc::new(Aggregate { chain, events, store, key_type })));
        StepBuilder::new(self.group, algorithm, stores, erase)
    }

    /// Runs an algorithm that keeps nothing under the record's key; stores of its own come by `with_store`. Through the
    /// log.
    pub fn process<A: Algorithm<Row = ()>>(self, algorithm: A) -> StepBuilder<'t, A>
    where
        S: ReadEvent<A::Event>,
    {
        let events = self.events;
        let erase: Erase<A> = Box::new(move |chain, _, _| StepKind::Log(Arc::new(Process { chain, events })));
        StepBuilder::new(self.group, algorithm, Vec::new(), erase)
    }
}

/// Makes the step of a chain; what is wrong is noted in the topology.
type Erase<A> = Box<dyn FnOnce(Chain<A>, KeyType, &mut Topology) -> StepKind>;

/// A step under construction.
#[must_use = "a step does nothing until its chain ends in to() or done()"]
pub struct StepBuilder<'t, A: Algorithm> {
    group: Group<'t>,
    algorithm: A,
    erase: Erase<A>,
    /// As [`StepBuilder::keys`] says.
    key_type: Option<KeyType>,
    stores: Vec<StoreSpec>,
    filters: Vec<Filter<A>>,
}

impl<'t, A: Algorithm> StepBuilder<'t, A> {
    fn new(group: Group<'t>, algorithm: A, stores: Vec<StoreSpec>, erase: Erase<A>) -> Self {
        Self { group, algorithm, erase, key_type: None, stores, filters: Vec::new() }
    }

    /// How the keys of an aggregate or a join are spelt. Text unless said otherwise; an `update` step's keys are its table's,
    /// as [`Table::key`] says.
    pub const fn keys(mut self, key_type: KeyType) -> Self {
        self.key_type = Some(key_type);
        self
    }

    /// Gives the algorithm a store, to be opened by [`Context::store`](crate::flow::Context::store). Its values lie
    /// beside the partition of the record that writes them; in an `update` step they change with the row or not at all.
    pub fn with_store<V: Serialize + DeserializeOwned>(mut self, store: &Store<V>) -> Self {
        self.group.topology.check_map_keys::<V>(&format!("store {}", store.spec().name));
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
        self.group.topology.thresholds.push(threshold.clone());
        self.filters.push(Filter::AtLeast(threshold, Box::new(magnitude)));
        self
    }

    /// Ends the chain: what passes is announced in `topic` under the record's key.
    pub fn to(self, topic: &str) {
        match TopicName::parse(topic) {
            Ok(destination) => self.finish(Some(destination)),
            Err(error) => self.group.topology.errors.push(error),
        }
    }

    /// Ends the chain without a topic: the rows, or the stores, are the result.
    pub fn done(self) {
        self.finish(None);
    }

    fn finish(self, destination: Option<TopicName>) {
        let Self { group, algorithm, erase, key_type: said, stores, filters } = self;
        let chain = Chain { algorithm, filters, destination: destination.clone() };
        let key_type = said.unwrap_or(KeyType::Text);
        let step = erase(chain, key_type, &mut *group.topology);
        if let Some(idle) = said.and_then(|said| idle_keys(said, &step, !group.tables.is_empty())) {
            group.topology.errors.push(idle);
        }
        let step = match step {
            StepKind::Log(step) if !group.tables.is_empty() => {
                let kept = group.tables.iter().map(|(table, kept)| (table.topic.clone(), Arc::clone(kept)));
                StepKind::Log(Arc::new(WithTables { tables: kept.collect(), step, key_type }))
            }
            step => step,
        };
        group.finish(step, destination, stores, None);
    }
}

/// Why `keys()` has no effect where it was said of `step`.
fn idle_keys(said: KeyType, step: &StepKind, is_joined: bool) -> Option<String> {
    match step {
        StepKind::Rows(step) => {
            let TableSpec { table, .. } = step.table();
            (table.key_type != said).then(|| {
                format!(
                    "table {}: keys() says {said}, and an update step's keys are its table's, {}: name the type in Table::key()",
                    table.name, table.key_type
                )
            })
        }
        StepKind::Log(step) if step.key_type().is_none() && !is_joined => {
            Some("keys(): a process step without a join reads no keys; remove it".into())
        }
        StepKind::Log(_) => None,
    }
}
