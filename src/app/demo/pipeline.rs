//! One pipeline of the demo's world: its rows in a SQLite file, its stores in memory, its topics in the log that all share.

use super::runs::Runs;
use crate::adapters::memory::{MemoryLog, MemoryStores};
use crate::adapters::sqlite::{SqliteHistory, SqliteRows, SqliteSettings};
use crate::engine::audit::{AuditReport, audit};
use crate::engine::member::{Member, Ports, WorkerPorts};
use crate::engine::protocol::order::Hook;
use crate::engine::status::Status;
use crate::flow::Topology;
use crate::flow::record::{Partition, TopicPartition};
use crate::flow::topology::SubTopology;
use crate::ports::changelog::ChangelogReader;
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::history::TopicHistory;
use crate::ports::source::Subscription;
use crate::ports::store::Stores;
use crate::ports::{Clock, Fault};
use crate::settings::engine::EngineSettings;
use std::sync::Arc;

/// Partitions of each topic.
pub(super) const PARTITIONS: i32 = 8;

/// A pipeline, and where its rows, stores and topics are.
#[derive(Clone)]
pub(super) struct Pipeline {
    pub(super) log: MemoryLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) topology: Arc<Topology>,
    pub(super) rows: SqliteSettings,
    /// As on a disk: what is written outlives the worker.
    pub(super) stores: MemoryStores,
    pub(super) runs: Arc<Runs>,
}

impl Pipeline {
    /// A worker. Every one has the same transactional id, so that it fences the one before it.
    pub(super) fn member(&self, status: &Arc<Status>, hook: &Arc<dyn Hook>) -> Result<Member, Fault> {
        let name = self.topology.name();
        let rows = SqliteRows::new(&self.rows, name, name)?;
        let sink = self.log.sink(&format!("{name}-0-0-0"));
        let (log, group) = (self.log.clone(), name.to_owned());
        let history: HistoryFactory = Arc::new(move || Ok(Box::new(log.history(&group)) as Box<dyn TopicHistory>));
        let log = self.log.clone();
        let changelogs: ChangelogFactory = Arc::new(move || Ok(Box::new(log.changelog()) as Box<dyn ChangelogReader>));
        let ports = Ports {
            source: Box::new(self.log.source(Subscription::of(&self.topology))),
            // One: SQLite has one writer, so a second worker would only wait for the first.
            workers: vec![WorkerPorts { rows: Box::new(rows), sink: Box::new(sink), spare: None }],
            clock: Arc::clone(&self.clock),
            history: Some(history),
            stores: Some(Arc::new(self.stores.clone()) as Arc<dyn Stores>),
            changelogs: Some(changelogs),
            fencer: None,
            note: None,
            owner: format!("demo-{}", std::process::id()),
        };
        let settings = EngineSettings { workers: 1, ..EngineSettings::default() };
        Member::new(&self.topology, settings, ports, Arc::clone(status), hook)
    }

    /// The tasks that a worker has once it has taken over what the one before it had.
    pub(super) fn tasks(&self) -> usize {
        usize::try_from(PARTITIONS).unwrap_or(0) * self.topology.sub_topologies().len()
    }

    /// Records in the lead topic of the first step and its companions, earlier demos' included.
    pub(super) fn records(&self) -> i64 {
        let first = self.topology.sub_topologies().iter().take(1);
        // The feeder produces outside transactions, so every offset is a record.
        places(first).filter_map(|place| self.log.bounds(&place)).map(|bounds| bounds.end.0 - bounds.start.0).sum()
    }

    /// Offsets that are not committed yet.
    pub(super) fn backlog(&self) -> i64 {
        let waiting = |place: TopicPartition| {
            let bounds = self.log.bounds(&place)?;
            let committed = self.log.committed(self.topology.name(), &place);
            Some(bounds.end.0 - committed.map_or(bounds.start, |committed| committed.next_offset).0)
        };
        places(self.topology.sub_topologies().iter()).filter_map(waiting).sum()
    }

    /// Whether every source partition is read to its end and published.
    pub(super) fn is_drained(&self) -> bool {
        self.backlog() == 0
    }

    pub(super) fn audit(&self) -> Result<AuditReport, Fault> {
        let mut rows = SqliteHistory::new(&self.rows, self.topology.name())?;
        audit(&self.topology, &mut rows, &mut self.log.history(self.topology.name()))
    }
}

/// The partitions of the sources of some steps.
fn places<'a>(steps: impl Iterator<Item = &'a SubTopology>) -> impl Iterator<Item = TopicPartition> {
    let topics = steps.flat_map(SubTopology::sources);
    topics.flat_map(|topic| (0..PARTITIONS).map(|number| TopicPartition::new(topic.clone(), Partition(number))))
}
