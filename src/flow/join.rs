//! The join of topics: the tables that a stream is joined with, and the store in which each is kept.
//!
//! A table topic is kept in a store beside the partition; a record of the stream is joined with the value that the store
//! holds when the record is handled. Only the stream makes a step run: a change of the table alone publishes nothing.

use crate::flow::algorithm::Context;
use crate::flow::codec::Format;
use crate::flow::effect::{Applied, Reject, Stepped};
use crate::flow::key::KeyType;
use crate::flow::partitioning::Declared;
use crate::flow::reading::OnUnreadable;
use crate::flow::record::{Record, TopicName};
use crate::flow::row::Value;
use crate::flow::step::{LogStep, RowStep};
use crate::flow::store::{Store, StoreSpec};
use crate::flow::table::TableSpec;
use crate::flow::timer::Timer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

// === The table topic ===

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
    pub(crate) format: Format,
    pub(crate) on_unreadable: OnUnreadable,
}

impl<V> TableTopic<V> {
    /// The table that `topic` holds.
    #[must_use]
    pub fn new(topic: &str) -> Self {
        let (format, on_unreadable) = (Format::Json, OnUnreadable::DeadLetter);
        Self { topic: topic.into(), store: Store::new(topic), declared: None, format, on_unreadable }
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

    /// Sets the format of the topic's values; JSON where nothing is said. The store keeps them as JSON all the same.
    #[must_use]
    pub const fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Says what comes of a record of the topic that cannot be read: a dead letter, where nothing is said. Its key keeps the
    /// value that it had.
    #[must_use]
    pub const fn on_unreadable(mut self, policy: OnUnreadable) -> Self {
        self.on_unreadable = policy;
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
    /// The partitioning that the topic's owner declares.
    pub declared: Option<Declared>,
    /// The format of the topic's values.
    pub format: Format,
    /// What comes of a record of the topic that cannot be read.
    pub on_unreadable: OnUnreadable,
}

// === The keeping of a table ===

/// A store that a table topic is kept in, its type erased.
pub(crate) trait Keep: Send + Sync {
    fn spec(&self) -> &StoreSpec;

    /// Applies one record of the table to its store: a tombstone deletes the key, any other record sets it.
    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject>;
}

/// A store, and the format of the topic that it keeps.
pub(crate) struct Kept<V> {
    pub(crate) store: Store<V>,
    pub(crate) format: Format,
}

impl<V: Serialize + DeserializeOwned> Keep for Kept<V> {
    fn spec(&self) -> &StoreSpec {
        self.store.spec()
    }

    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject> {
        let key = record.key.unwrap_or_default();
        let mut opened = context.store(&self.store)?;
        if record.value.is_none() {
            opened.delete(key);
            return Ok(());
        }
        opened.put(key, &self.format.decode::<V>(record.value)?)
    }
}

/// The table topics of a step, each with the store that it is kept in.
pub(crate) type KeptTables = Vec<(TopicName, Arc<dyn Keep>)>;

/// A step that is joined with table topics: their records are kept in their stores, all others are the joined step's.
pub(crate) struct WithTables<S: ?Sized> {
    pub(crate) tables: KeptTables,
    pub(crate) step: Arc<S>,
    /// The spelling of the keys of the stream and of its tables: a join has no use for a record without a key.
    pub(crate) key_type: KeyType,
}

impl<S: ?Sized> WithTables<S> {
    fn table_of(&self, context: &Context<'_>) -> Option<&dyn Keep> {
        self.tables.iter().find(|(topic, _)| topic == context.topic).map(|(_, table)| &**table)
    }

    /// The key under which a record finds its partner, as a record's.
    fn key<'a>(&self, record: &Record<'a>, context: &Context<'_>) -> Cow<'a, [u8]> {
        self.key_type.kept_under(record.key.unwrap_or_default(), context.key)
    }
}

impl LogStep for WithTables<dyn LogStep> {
    fn key_type(&self) -> Option<KeyType> {
        Some(self.key_type)
    }

    fn keeps_by_key(&self) -> bool {
        self.step.keeps_by_key()
    }

    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        let key = self.key(record, context);
        let record = &Record { key: Some(&key), ..*record };
        match self.table_of(context) {
            Some(table) => table.keep(record, context).map(|()| Stepped::default()),
            None => self.step.apply(record, context),
        }
    }

    fn timer(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        self.step.timer(timer, context)
    }

    fn period_ms(&self) -> Option<i64> {
        self.step.period_ms()
    }
}

impl RowStep for WithTables<dyn RowStep> {
    fn table(&self) -> &TableSpec {
        self.step.table()
    }

    fn apply(&self, record: &Record<'_>, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        let key = self.key(record, context);
        self.step.apply(&Record { key: Some(&key), ..*record }, row, context)
    }

    fn window(&self, timer: &Timer, context: &mut Context<'_>) -> Option<(i64, i64)> {
        self.step.window(timer, context)
    }

    fn give_up(&self, timer: &Timer, context: &mut Context<'_>) -> Result<(), Reject> {
        self.step.give_up(timer, context)
    }

    fn timer(&self, timer: &Timer, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        self.step.timer(timer, row, context)
    }

    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject> {
        let key = self.key(record, context);
        let record = &Record { key: Some(&key), ..*record };
        match self.table_of(context) {
            Some(table) => table.keep(record, context),
            None => self.step.keep(record, context),
        }
    }
}
