//! Where topics meet: how the event of a step is read from a record, from which topic and joined with what.
//!
//! A table topic is kept in a store beside the partition; a record of the stream is joined with the value that the store
//! holds when the record is handled. Only the stream makes a step run: a change of the table alone announces nothing.

use crate::flow::algorithm::Context;
use crate::flow::codec;
use crate::flow::effect::{Reject, Stepped};
use crate::flow::key::KeyType;
use crate::flow::partitioning::Declared;
use crate::flow::record::{Record, TopicName};
use crate::flow::step::LogStep;
use crate::flow::store::{Store, StoreSpec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// The code of a record that an inner join finds no partner for: it is skipped.
const NO_MATCH: &str = "no-match";

// === What a table is ===

/// A topic of which the last record of each key holds: a value sets its key, a tombstone deletes it.
///
/// It must be co-partitioned with the stream that it is joined with: keys spelt alike, one partitioner, equal partition
/// counts. Its values are kept in a store, which is named like the topic unless [`TableTopic::kept_in`] says otherwise.
/// A record without a key or with a value that does not decode is a dead letter, and the key keeps the value it had.
///
/// ```
/// use tidegate::flow::{Declared, TableTopic};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct User { name: String }
/// let users: TableTopic<User> = TableTopic::new("users").declared(Declared::murmur2(12));
/// ```
pub struct TableTopic<V> {
    pub(crate) topic: String,
    pub(crate) store: Store<V>,
    pub(crate) declared: Option<Declared>,
}

impl<V> TableTopic<V> {
    /// The table that `topic` holds.
    #[must_use]
    pub fn new(topic: &str) -> Self {
        Self { topic: topic.into(), store: Store::new(topic), declared: None }
    }

    /// Keeps its values in `store`: another name, versions, a time to live. Only the table topic should write there.
    #[must_use]
    pub fn kept_in(mut self, store: impl Into<Store<V>>) -> Self {
        self.store = store.into();
        self
    }

    /// Declares how the topic is partitioned, as [`Source::declared`](crate::flow::topology::Source::declared) does for
    /// the stream: where both are declared they are compared with each other, and every record is held against its own
    /// topic's declaration.
    #[must_use]
    pub fn declared(mut self, declared: Declared) -> Self {
        self.declared = Some(declared);
        self
    }
}

impl<V> From<&str> for TableTopic<V> {
    fn from(topic: &str) -> Self {
        Self::new(topic)
    }
}

impl<V> fmt::Debug for TableTopic<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableTopic").field("topic", &self.topic).field("store", &self.store).finish_non_exhaustive()
    }
}

/// A table topic as the engine knows it.
#[derive(Clone, Debug)]
pub struct JoinedTable {
    /// The topic: one of the sub-topology's companions.
    pub topic: TopicName,
    /// The store that holds its values: one of the sub-topology's stores.
    pub store: Arc<str>,
    /// What the topic's owner says of its partitioning.
    pub declared: Option<Declared>,
}

// === How an event is read ===

/// Reads the event of a step from a record and, for a join, from the step's stores. Chosen by the builder:
/// [`Plain`], [`AnyOf`], [`Joined`], [`LeftJoined`].
pub trait ReadEvent<E>: Send + Sync + 'static {
    /// The event.
    ///
    /// # Errors
    /// A dead letter where the record cannot be read; a skip where it has no partner.
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<E, Reject>;
}

/// The event is the record's value, whatever topic it came from.
#[derive(Clone, Copy, Default, Debug)]
pub struct Plain;

impl<E: DeserializeOwned> ReadEvent<E> for Plain {
    fn read(&self, record: &Record<'_>, _: &mut Context<'_>) -> Result<E, Reject> {
        codec::decode(record.value)
    }
}

/// The event of one topic.
type ReadValue<E> = Box<dyn Fn(Option<&[u8]>) -> Result<E, Reject> + Send + Sync>;

/// One type for the events of several topics, each read as its topic's own type first.
pub struct AnyOf<E> {
    /// Of the lead topic, and of the records of it that were sent on.
    lead: ReadValue<E>,
    companions: Vec<(TopicName, ReadValue<E>)>,
}

impl<E: 'static> AnyOf<E> {
    pub(crate) fn new<P: DeserializeOwned>(wrap: impl Fn(P) -> E + Send + Sync + 'static) -> Self {
        Self { lead: reads(wrap), companions: Vec::new() }
    }

    pub(crate) fn and<P: DeserializeOwned>(&mut self, topic: TopicName, wrap: impl Fn(P) -> E + Send + Sync + 'static) {
        self.companions.push((topic, reads(wrap)));
    }
}

fn reads<P: DeserializeOwned, E>(wrap: impl Fn(P) -> E + Send + Sync + 'static) -> ReadValue<E> {
    Box::new(move |value| codec::decode(value).map(&wrap))
}

impl<E> fmt::Debug for AnyOf<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.companions.iter().map(|(topic, _)| topic)).finish()
    }
}

impl<E: 'static> ReadEvent<E> for AnyOf<E> {
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<E, Reject> {
        let companion = self.companions.iter().find(|(topic, _)| topic == context.topic);
        companion.map_or(&self.lead, |(_, read)| read)(record.value)
    }
}

/// A stream's event with the value that a table has for its key; a record without one is skipped.
#[derive(Debug)]
pub struct Joined<S, V> {
    pub(crate) stream: S,
    pub(crate) table: Store<V>,
}

impl<E, S, V> ReadEvent<(E, V)> for Joined<S, V>
where
    S: ReadEvent<E>,
    V: Serialize + DeserializeOwned + 'static,
{
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(E, V), Reject> {
        let event = self.stream.read(record, context)?;
        let value = context.store(&self.table)?.get(record.key.unwrap_or_default())?;
        Ok((event, value.ok_or_else(|| Reject::skip(NO_MATCH))?))
    }
}

/// A stream's event with the value that a table has for its key, if it has one.
#[derive(Debug)]
pub struct LeftJoined<S, V> {
    pub(crate) stream: S,
    pub(crate) table: Store<V>,
}

impl<E, S, V> ReadEvent<(E, Option<V>)> for LeftJoined<S, V>
where
    S: ReadEvent<E>,
    V: Serialize + DeserializeOwned + 'static,
{
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(E, Option<V>), Reject> {
        let event = self.stream.read(record, context)?;
        let value = context.store(&self.table)?.get(record.key.unwrap_or_default())?;
        Ok((event, value))
    }
}

// === How a table is kept ===

/// A store that a table topic is kept in, its type erased.
pub(crate) trait Keep: Send + Sync {
    fn spec(&self) -> &StoreSpec;

    /// Does what one record of the table says.
    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject>;
}

impl<V: Serialize + DeserializeOwned> Keep for Store<V> {
    fn spec(&self) -> &StoreSpec {
        self.spec()
    }

    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject> {
        let key = record.key.unwrap_or_default();
        let mut opened = context.store(self)?;
        if record.value.is_none() {
            opened.delete(key);
            return Ok(());
        }
        opened.put(key, &codec::decode::<V>(record.value)?)
    }
}

/// [`LogStep`]: keeps what the table topics say, and hands everything else to the step that is joined with them.
pub(crate) struct WithTables {
    pub(crate) tables: Vec<(TopicName, Arc<dyn Keep>)>,
    pub(crate) step: Arc<dyn LogStep>,
    /// How the keys of the stream and of its tables are spelt: a join has no use for a record without one.
    pub(crate) key_type: KeyType,
}

impl LogStep for WithTables {
    fn key_type(&self) -> Option<KeyType> {
        Some(self.key_type)
    }

    fn keeps_by_key(&self) -> bool {
        self.step.keeps_by_key()
    }

    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        match self.tables.iter().find(|(topic, _)| topic == context.topic) {
            Some((_, table)) => table.keep(record, context).map(|()| Stepped::default()),
            None => self.step.apply(record, context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::key::Key;
    use crate::flow::record::{Offset, Timestamp};
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Order {
        units: i64,
    }

    #[derive(Deserialize)]
    struct Payment {
        cents: i64,
    }

    #[derive(PartialEq, Debug)]
    enum Movement {
        Ordered(i64),
        Paid(i64),
    }

    #[test]
    fn each_topics_records_are_read_as_its_own_type() {
        let name = |name: &str| TopicName::parse(name).unwrap();
        let mut events = AnyOf::new(|order: Order| Movement::Ordered(order.units));
        events.and(name("payments"), |payment: Payment| Movement::Paid(payment.cents));
        let read = |topic: &str, value: &'static [u8]| {
            let (topic, key) = (name(topic), Key::from("ada"));
            let record = Record {
                offset: Offset(0),
                timestamp: Timestamp(0),
                key: Some(b"ada"),
                value: Some(value),
                headers: &[],
            };
            events.read(&record, &mut Context::example(&topic, &key))
        };
        assert_eq!(read("orders", br#"{"units": 3}"#), Ok(Movement::Ordered(3)));
        assert_eq!(read("payments", br#"{"cents": 5}"#), Ok(Movement::Paid(5)));
        assert_eq!(read("p-orders-repartition", br#"{"units": 4}"#), Ok(Movement::Ordered(4)), "sent on from the lead");
        assert_eq!(read("payments", br#"{"units": 3}"#).unwrap_err().code(), "bad-json");
    }
}
