//! Declares a pipeline: sources with their companions, steps, filters, destinations.
//!
//! A task runs one sub-topology: a co-partition group (one lead topic and its companions) and one step. Several
//! sub-topologies make a pipeline; each has tasks of its own. A change of key ends one sub-topology in a repartition topic
//! and begins the next one there.

mod branch;
mod builder;
mod chains;
mod group;
mod paired;
mod rolled;
mod source;
mod topics;
mod validate;
mod windowed;

pub use branch::Branches;
pub use builder::StepBuilder;
pub use chains::Chains;
pub use paired::{JoinedTables, PairedSource};
pub use source::Source;
pub use windowed::WindowedSource;

use crate::flow::codec::Format;
use crate::flow::join::JoinedTable;
use crate::flow::key::KeyType;
use crate::flow::map_keys::{refusal, unspellable_keys};
use crate::flow::partitioning::{Declared, KeyHash};
use crate::flow::reading::OnUnreadable;
use crate::flow::record::TopicName;
use crate::flow::rollup::RollUp;
use crate::flow::step::{LogStep, RowStep};
use crate::flow::store::StoreSpec;
use crate::flow::table::TableSpec;
use crate::flow::threshold::Threshold;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A pipeline under construction, and afterwards its description.
///
/// Mistakes (an illegal topic name, a source used twice, a row type without columns) are collected and reported together
/// by [`Topology::validate`], which `run` calls before it connects to anything. Clones share steps and thresholds.
#[derive(Clone)]
pub struct Topology {
    pub(super) name: String,
    pub(super) sub_topologies: Vec<SubTopology>,
    pub(super) thresholds: Vec<Threshold>,
    pub(super) roll_ups: Vec<RollUp>,
    pub(super) errors: Vec<String>,
}

/// The step of a sub-topology, by the way it commits.
#[derive(Clone)]
pub enum StepKind {
    /// Reads and writes rows: through the database, database first.
    Rows(Arc<dyn RowStep>),
    /// Has no rows: through the log, changelog, outputs and offsets in one transaction.
    Log(Arc<dyn LogStep>),
}

/// The commit that makes the effects of a step come true. Where each kind has an answer of its own it is decided by a `match`,
/// which another kind does not pass the compiler without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitKind {
    /// A database transaction of rows, outbox and positions; the relay publishes its messages.
    Rows,
    /// One Kafka transaction of outputs, changelog records and offsets.
    Log,
}

impl CommitKind {
    /// Whether a task decides and is taken over with the database's help, and waits where the database does not answer.
    #[must_use]
    pub const fn needs_database(self) -> bool {
        match self {
            Self::Rows => true,
            Self::Log => false,
        }
    }
}

impl StepKind {
    /// The commit of the step.
    #[must_use]
    pub const fn commit(&self) -> CommitKind {
        match self {
            Self::Rows(_) => CommitKind::Rows,
            Self::Log(_) => CommitKind::Log,
        }
    }
}

/// One co-partition group and its step.
#[derive(Clone)]
pub struct SubTopology {
    /// The topic the consumer group subscribes to.
    pub lead: TopicName,
    /// Topics assigned with it, partition number by partition number.
    pub companions: Vec<TopicName>,
    /// The code that is run for each record.
    pub step: StepKind,
    /// The topics that notices go to, or the one that re-keyed records go to; none where the step ends in its rows or stores.
    pub destinations: Vec<TopicName>,
    /// The formats of its streams and of its destination.
    pub formats: Formats,
    /// The stores of the step, an aggregate's own first.
    pub stores: Vec<StoreSpec>,
    /// The companions that are kept as tables.
    pub tables: Vec<JoinedTable>,
    /// The partitioning that the lead topic's owner declares.
    pub declared: Option<Declared>,
    /// Whether its notices may have keys of their own, so that those of its records say nothing of its destinations'.
    pub has_own_keys: bool,
    /// What comes of a record of its streams that cannot be read. Tables say so themselves.
    pub on_unreadable: OnUnreadable,
    /// The step's name where it changes the key: its only destination is then `<pipeline>-<name>-repartition`.
    pub rekeys: Option<Arc<str>>,
    /// The destination, the last one, of records that are too late for their windows: in the format of its streams.
    pub late_to: Option<TopicName>,
    /// What its algorithm gathers events in, for which a record may come too late.
    pub gathers: Option<Gathers>,
    /// The time without a record after which a key of it is idle, where that closes its windows.
    pub idle_after: Option<Duration>,
    /// The names of the chains for each of which it copies its records, where it does: its destinations are then the topics
    /// that they read, in this order.
    pub chains: Vec<Arc<str>>,
}

/// What a step gathers events in. A record may come too late for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gathers {
    /// Windows by the clock of each key.
    WindowsByKey,
    /// Windows by the clock of the task.
    WindowsByTask,
    /// Pairs of events of two streams, by the clock of the task.
    Pairs,
}

impl Gathers {
    /// Whether it is the clock of its task by which a record may come too late, and not one of the record's key.
    #[must_use]
    pub const fn go_by_task(self) -> bool {
        matches!(self, Self::WindowsByTask | Self::Pairs)
    }
}

/// The formats of the values that a step reads and writes. Tables have their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Formats {
    /// Of the lead topic and its companions, without tables.
    pub read: Format,
    /// Of the destinations.
    pub written: Format,
}

/// The place of a step's rows among the tables of its pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePlace {
    /// The table in [`Topology::tables`].
    pub table: usize,
    /// The number of the table's columns.
    pub width: usize,
    /// The place of each of the step's columns among those of the table; `None` where they are the same.
    pub columns: Option<Vec<usize>>,
    /// The places of the key's columns among the table's, where a struct has them, each behind its number in the key.
    pub keys: Vec<(usize, usize)>,
    /// The place of the version among the table's columns, where a struct has it.
    pub version: Option<usize>,
}

impl SubTopology {
    /// Lead topic first, then the companions.
    pub fn sources(&self) -> impl Iterator<Item = &TopicName> {
        std::iter::once(&self.lead).chain(&self.companions)
    }

    /// The declarations of its topics' partitioning, each with its topic.
    pub fn declarations(&self) -> impl Iterator<Item = (&TopicName, &Declared)> {
        let tables = self.tables.iter().map(|table| (&table.topic, &table.declared));
        let all = std::iter::once((&self.lead, &self.declared)).chain(tables);
        all.filter_map(|(topic, declared)| Some((topic, declared.as_ref()?)))
    }

    /// The declaration of the partitioning of one of its topics.
    #[must_use]
    pub fn declaration(&self, topic: &TopicName) -> Option<&Declared> {
        self.declarations().find(|(declared, _)| *declared == topic).map(|(_, found)| found)
    }

    /// The hash by which its topics must be partitioned for equal keys to meet, where the step keeps something by key. The
    /// lead topic's declaration decides, otherwise the hash of Java's producers and our own.
    pub(crate) fn assumed_hash(&self) -> Option<&KeyHash> {
        static MURMUR2: KeyHash = KeyHash::Murmur2;
        let is_keyed = match &self.step {
            StepKind::Log(step) => step.key_type().is_some(),
            StepKind::Rows(_) => !self.tables.is_empty(),
        };
        is_keyed.then(|| self.declared.as_ref().map_or(&MURMUR2, Declared::hash))
    }

    /// What comes of a record of one of its topics that cannot be read.
    #[must_use]
    pub fn on_unreadable(&self, topic: &TopicName) -> OnUnreadable {
        self.tables.iter().find(|table| table.topic == *topic).map_or(self.on_unreadable, |table| table.on_unreadable)
    }

    /// The topics in which its records themselves go on: under other keys, or as they are.
    #[must_use]
    pub fn sent_on_to(&self) -> &[TopicName] {
        if self.rekeys.is_some() || !self.chains.is_empty() { &self.destinations } else { &[] }
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

    /// The spelling of the keys of its records.
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
        Self { name: name.into(), sub_topologies: Vec::new(), thresholds: Vec::new(), roll_ups: Vec::new(), errors }
    }

    /// Its roll-ups, in the order in which they were declared.
    #[must_use]
    pub fn roll_ups(&self) -> &[RollUp] {
        &self.roll_ups
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
            std::iter::once(&mut sub.lead)
                .chain(&mut sub.companions)
                .chain(&mut sub.destinations)
                .chain(&mut sub.late_to)
                .for_each(rename);
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

    /// The same as [`Topology::tables`]; differences between two steps about one table are reported in `errors`.
    pub(super) fn merged_tables(&self, errors: &mut Vec<String>) -> Vec<TableSpec> {
        let mut tables: Vec<TableSpec> = Vec::new();
        for spec in self.sub_topologies.iter().filter_map(SubTopology::table) {
            match tables.iter_mut().find(|known| known.table.name == spec.table.name) {
                Some(known) => errors.extend(known.merge(spec)),
                None => tables.push(spec.clone()),
            }
        }
        for spec in self.sub_topologies.iter().filter_map(SubTopology::table).filter(|spec| spec.inserts) {
            let whole = tables.iter().find(|whole| whole.table.name == spec.table.name);
            let lacks =
                |name: &&String| spec.is_written(name) && spec.columns.iter().all(|column| column.name != **name);
            let columns = whole.into_iter().flat_map(|whole| &whole.columns).map(|column| &column.name);
            errors.extend(columns.filter(lacks).map(|name| {
                let table = &spec.table.name;
                format!(
                    "table {table}: the step with insert_missing has no field {name}, which another step of the table has: \
                     give its struct the field, so that a new row has a value for it"
                )
            }));
        }
        tables.sort_by(|one, next| one.table.name.cmp(&next.table.name));
        tables
    }

    /// The place of the rows of a sub-topology's step in [`Topology::tables`].
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
        let keys = whole.columns.iter().enumerate();
        let keys = keys.filter_map(|(at, column)| Some((whole.table.key_number(&column.name)?, at))).collect();
        TablePlace { table, width: whole.columns.len(), columns: (!is_whole).then_some(columns), keys, version }
    }

    /// The same pipeline with each step with rows wrapped in another, for an observer of its runs.
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

    /// The same pipeline with each step of any kind wrapped in another, for the observer of a simulation.
    #[must_use]
    pub(crate) fn with_steps(mut self, wrap: impl Fn(StepKind) -> StepKind) -> Self {
        for sub in &mut self.sub_topologies {
            sub.step = wrap(sub.step.clone());
        }
        self
    }

    /// The same pipeline without times to live, for the simulation of a release.
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

    /// Whether JSON can spell the map keys of `T`; `what` names the holder in the error.
    fn check_map_keys<T: DeserializeOwned>(&mut self, what: &str) {
        self.errors.extend(unspellable_keys::<T>().map(|kind| refusal(what, kind)));
    }

    fn parse(&mut self, topic: &str) -> Option<TopicName> {
        TopicName::parse(topic).map_err(|error| self.errors.push(error)).ok()
    }
}
