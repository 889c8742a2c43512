//! A co-partition group under construction.

use crate::flow::codec::{Format, why_unfit};
use crate::flow::join::{JoinedTable, Keep, Kept, TableTopic};
use crate::flow::partitioning::Declared;
use crate::flow::reading::Reading;
use crate::flow::record::TopicName;
use crate::flow::store::{Store, StoreSpec};
use crate::flow::topology::{Formats, Gathers, StepKind, SubTopology, Topology};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Where the messages of a step go, and in what shape.
#[derive(Default)]
pub(super) struct Outlet {
    pub(super) destinations: Vec<TopicName>,
    pub(super) format: Format,
    pub(super) has_own_keys: bool,
    /// The step's name where it changes the key.
    pub(super) rekeys: Option<Arc<str>>,
    /// The destination that takes records which are too late for their windows.
    pub(super) late_to: Option<TopicName>,
    /// What the step gathers events in.
    pub(super) gathers: Option<Gathers>,
    /// The time after which a key without records is idle.
    pub(super) idle_after: Option<Duration>,
}

/// A co-partition group under construction.
pub(super) struct Group<'t> {
    pub(super) topology: &'t mut Topology,
    /// Lead topic first; an illegal name was noted when it was given.
    pub(super) topics: Vec<Option<TopicName>>,
    pub(super) tables: Vec<(JoinedTable, Arc<dyn Keep>)>,
    pub(super) declared: Option<Declared>,
    /// How the streams' records are read.
    pub(super) reading: Reading,
}

impl<'t> Group<'t> {
    pub(super) fn new(topology: &'t mut Topology, lead: Option<TopicName>, reading: Reading) -> Self {
        Self { topology, topics: vec![lead], tables: Vec::new(), declared: None, reading }
    }

    pub(super) fn join<V: Serialize + DeserializeOwned + 'static>(&mut self, table: TableTopic<V>) -> Store<V> {
        let TableTopic { topic, store, declared, format, on_unreadable } = table;
        self.topology.check_map_keys::<V>(&format!("table {topic}"));
        let unfit = format.unfit::<V>().map(|unfit| format!("table {topic}: {}", why_unfit(format, &unfit)));
        self.topology.errors.extend(unfit);
        let topic = self.topology.parse(&topic);
        if let Some(topic) = &topic {
            let name = Arc::clone(&store.spec().name);
            let joined = JoinedTable { topic: topic.clone(), store: name, declared, format, on_unreadable };
            self.tables.push((joined, Arc::new(Kept { store: store.clone(), format })));
        }
        self.topics.push(topic);
        store
    }

    /// Notes that the type of the streams' events is of another shape than their format, where it is.
    pub(super) fn note_unfit(&mut self, unfit: Option<String>) {
        let lead = self.topics.iter().flatten().next().map_or("", TopicName::as_str);
        let unfit = unfit.map(|unfit| format!("source {lead}: {unfit}"));
        self.topology.errors.extend(unfit);
    }

    /// Adds the sub-topology, and returns the topology for the steps behind it.
    pub(super) fn finish(self, step: StepKind, outlet: Outlet, mut stores: Vec<StoreSpec>) -> &'t mut Topology {
        let Self { topology, topics, tables, declared, reading } = self;
        let Outlet { destinations, format: written, has_own_keys, rekeys, late_to, gathers, idle_after } = outlet;
        stores.extend(tables.iter().map(|(_, kept)| kept.spec().clone()));
        let tables = tables.into_iter().map(|(table, _)| table).collect();
        let mut topics = topics.into_iter().flatten();
        let Some(lead) = topics.next() else { return topology };
        let companions = topics.collect();
        let formats = Formats { read: reading.format, written };
        let on_unreadable = reading.on_unreadable;
        let mut sub = SubTopology {
            lead,
            companions,
            step,
            destinations,
            formats,
            stores,
            tables,
            declared,
            has_own_keys,
            on_unreadable,
            rekeys,
            late_to,
            gathers,
            idle_after,
            chains: Vec::new(),
        };
        sub.companions.extend(topology.astray_topic(&sub));
        topology.sub_topologies.push(sub);
        topology
    }
}
