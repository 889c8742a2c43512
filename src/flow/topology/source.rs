//! A source under construction: the topics that are read together, and the steps that may follow.

use crate::flow::algorithm::Algorithm;
use crate::flow::codec::Format;
use crate::flow::events::{AnyOf, Joined, LeftJoined, Plain, ReadEvent};
use crate::flow::join::TableTopic;
use crate::flow::partitioning::Declared;
use crate::flow::reading::{OnUnreadable, Tombstones};
use crate::flow::record::TopicName;
use crate::flow::row::{columns_of, may_be_none};
use crate::flow::step::{Aggregate, Chain, ChangeKey, LateTo, NoRow, Process, Update};
use crate::flow::store::Store;
use crate::flow::table::{Table, TableSpec};
use crate::flow::topology::builder::{Erase, StepBuilder};
use crate::flow::topology::group::{Group, Outlet};
use crate::flow::topology::{StepKind, Topology};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::sync::Arc;

impl Topology {
    /// Names the lead topic of a source: the one the consumer group subscribes to.
    pub fn source(&mut self, topic: &str) -> Source<'_> {
        let lead = self.parse(topic);
        let events = Plain::default();
        Source { group: Group::new(self, lead, events.reading), events }
    }
}

/// A source under construction. `S` is how the event of its step is read.
///
/// Topics that are read together must be co-partitioned: keys spelt alike, one partitioner, equal partition counts. Then
/// all records of one key meet in one task. The order of records is that of their partition. Between topics the engine
/// takes the record with the smaller timestamp, a table's first where they are equal: of a backlog whichever topic is fetched
/// faster, within `engine.merge_wait_ms`, and later among those that have arrived. When a task starts, table topics are read
/// to the end that they have then, before the first record of the stream. So a record is joined with its table's value at
/// the moment when the record is *handled*: a value that a slow producer of the table sends later is missed, as with Kafka
/// Streams.
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
    pub(super) group: Group<'t>,
    pub(super) events: S,
}

impl<'t> Source<'t> {
    /// Sets the format of the values of all topics of the source: JSON where nothing is said. A table that the source is
    /// joined with has its [own](TableTopic::format).
    pub const fn format(mut self, format: Format) -> Self {
        self.events.reading.format = format;
        self.group.reading.format = format;
        self
    }

    /// Says what a record without a value is, in all topics of the source but tables: unreadable, where nothing is said.
    ///
    /// ```
    /// # use tidegate::flow::{Algorithm, Context, Reject, Tombstones, Topology};
    /// # struct Names;
    /// impl Algorithm for Names {
    ///     type Event = Option<String>; // `None` is a tombstone
    /// #   type Row = i64; type Notices = Option<i64>;
    /// #   fn apply(&self, name: Option<String>, n: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
    /// #       *n = name.map_or(0, |_| *n + 1);
    /// #       Ok(None)
    /// #   }
    ///     // ...
    /// }
    ///
    /// # let mut topology = Topology::new("names");
    /// topology.source("names").tombstones(Tombstones::Event).aggregate("kept", Names).done();
    /// # assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub const fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.events.reading.tombstones = tombstones;
        self.group.reading.tombstones = tombstones;
        self
    }

    /// Says what comes of a record that cannot be read, in all topics of the source but tables: a dead letter, where nothing is
    /// said. Steps behind a change of keys keep to it.
    pub const fn on_unreadable(mut self, policy: OnUnreadable) -> Self {
        self.events.reading.on_unreadable = policy;
        self.group.reading.on_unreadable = policy;
        self
    }

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
    /// algorithm keeps the events of one until the other's event comes.
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
        Source { events: AnyOf::new(self.group.reading, event), group: self.group }
    }

    /// Sends each record on under the key that `key` makes of its event, through the repartition topic
    /// `<pipeline>-<name>-repartition`, so that all records of one key meet in one task. Value, headers and timestamp stay
    /// as they are. The steps that follow read that topic.
    pub fn key_by<E, K>(self, name: &str, key: impl Fn(&E) -> K + Send + Sync + 'static) -> Self
    where
        E: DeserializeOwned + 'static,
        K: ToString + 'static,
    {
        self.keys_by(name, move |event: &E| Some(key(event)))
    }

    /// The same as [`Source::key_by`], for events with no key, one or several: a copy of the record goes to each key in the
    /// order given, and a record without a key ends here. A record dropped here is not written again, so that a filter costs
    /// least before the shuffle.
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
    pub fn keys_by<E, I>(mut self, name: &str, keys: impl Fn(&E) -> I + Send + Sync + 'static) -> Self
    where
        E: DeserializeOwned + 'static,
        I: IntoIterator<Item: ToString> + 'static,
    {
        let reading = self.group.reading;
        self.group.note_unfit(reading.unfit::<E>());
        let topology = &mut *self.group.topology;
        let topic = topology.internal(name, "repartition");
        if topic.is_none() {
            topology.errors.push(format!("key_by or keys_by {name:?}: use a name of a-z, A-Z, 0-9, '.', '_' and '-'"));
        }
        let step = ChangeKey { keys, reading, event: PhantomData::<fn() -> E> };
        let step = StepKind::Log(Arc::new(step));
        let outlet = Outlet {
            destinations: topic.iter().cloned().collect(),
            format: reading.format,
            rekeys: Some(name.into()),
            ..Outlet::default()
        };
        let topology = self.group.finish(step, outlet, Vec::new());
        Self { group: Group::new(topology, topic, reading), events: self.events }
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
    /// record whose key is missing from the table is skipped; one without a key is a dead letter. The store of the table
    /// changes as its step commits: through the log, or in front of `update` through the database, with the rows.
    pub fn join<V>(mut self, table: impl Into<TableTopic<V>>) -> Source<'t, Joined<S, V>>
    where
        V: Serialize + DeserializeOwned + 'static,
    {
        let table = self.group.join(table.into());
        Source { group: self.group, events: Joined { stream: self.events, table } }
    }

    /// The same as [`Source::join`], but a record whose key is missing from the table is handled too: the algorithm's event
    /// is the pair of the stream's event and an `Option`.
    pub fn left_join<V>(mut self, table: impl Into<TableTopic<V>>) -> Source<'t, LeftJoined<S, V>>
    where
        V: Serialize + DeserializeOwned + 'static,
    {
        let table = self.group.join(table.into());
        Source { group: self.group, events: LeftJoined { stream: self.events, table } }
    }

    /// Notes a mistake, if there is one.
    pub(super) fn note(&mut self, mistake: Option<String>) {
        self.group.topology.errors.extend(mistake);
    }

    /// Reads the row named by each record's key, runs the algorithm, writes the row back: database first. Stores come by
    /// `with_store`. Several steps may have one table, each with a struct of its own columns: a row is read, locked and
    /// written once a batch, and a step sees the values that the one before left. A table that the source is joined with
    /// has keys spelt like the rows', and its records touch no row.
    ///
    /// A record whose row is missing follows the setting `pipeline.missing_row`, unless the step makes the row by
    /// [`insert_missing`](StepBuilder::insert_missing). An algorithm whose row is an `Option` may delete it, by `None`.
    pub fn update<A: Algorithm>(mut self, table: impl Into<Table>, algorithm: A) -> StepBuilder<'t, A>
    where
        S: ReadEvent<A::Event>,
    {
        self.group.note_unfit(self.events.unfit());
        let (table, events) = (table.into(), self.events);
        let erase: Erase<A> = Box::new(move |chain, _, topology| {
            let table = spec_of(table, &chain, topology);
            StepKind::Rows(Arc::new(Update { chain, events, table }))
        });
        StepBuilder::new(self.group, algorithm, Vec::new(), erase)
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
        self.aggregate_or(store.into(), algorithm, None)
    }

    /// The same, where records that are too late may have a topic of their own.
    pub(super) fn aggregate_or<A: Algorithm<Row: Default>>(
        mut self,
        store: Store<A::Row>,
        algorithm: A,
        late_topic: Option<TopicName>,
    ) -> StepBuilder<'t, A>
    where
        S: ReadEvent<A::Event>,
    {
        self.group.note_unfit(self.events.unfit());
        let (events, content_type) = (self.events, self.group.reading.format.content_type());
        let late_to = late_topic.clone().map(|topic| LateTo { topic, content_type });
        self.group.topology.check_map_keys::<A::Row>(&format!("store {}", store.spec().name));
        let stores = vec![store.spec().clone()];
        let erase: Erase<A> = Box::new(move |chain, key_type, _| {
            StepKind::Log(Arc::new(Aggregate { chain, events, store, key_type, late_to }))
        });
        StepBuilder::new(self.group, algorithm, stores, erase).late_to(late_topic)
    }

    /// Runs an algorithm that keeps nothing under the record's key; stores of its own come by `with_store`. Through the
    /// log.
    pub fn process<A: Algorithm<Row: NoRow>>(mut self, algorithm: A) -> StepBuilder<'t, A>
    where
        S: ReadEvent<A::Event>,
    {
        self.group.note_unfit(self.events.unfit());
        let events = self.events;
        let erase: Erase<A> = Box::new(move |chain, _, _| StepKind::Log(Arc::new(Process { chain, events })));
        StepBuilder::new(self.group, algorithm, Vec::new(), erase)
    }
}

/// The table of a step with its columns, as the algorithm's row has them. Mistakes are noted.
pub(super) fn spec_of<A: Algorithm>(table: Table, chain: &Chain<A>, topology: &mut Topology) -> TableSpec {
    topology.check_map_keys::<A::Row>(&format!("table {}", table.name));
    topology.errors.extend(table.mistake.iter().map(|mistake| format!("table {}: {mistake}", table.name)));
    let columns = columns_of::<A::Row>().unwrap_or_else(|error| {
        topology.errors.push(format!("table {}: {error}", table.name));
        Vec::new()
    });
    TableSpec { table, columns, inserts: chain.new_row.is_some(), deletes: may_be_none::<A::Row>() }
}
