//! The world itself, for the actions and looks of an operator.

use crate::adapters::memory::{ManualClock, MemoryDatabase, MemoryLog, MemoryStores};
use crate::engine::status::Counter;
use crate::engine::status::Status;
use crate::flow::record::{Partition, TopicPartition};
use crate::ports::rows::Position;
use crate::testing::driver::TestDriver;
use crate::testing::driver::operation::parse;
use std::sync::Arc;

impl TestDriver {
    /// The log: topics, groups, offsets.
    #[must_use]
    pub fn log(&mut self) -> &MemoryLog {
        &self.world().log
    }

    /// The simulated clock, for steps that take their time.
    #[doc(hidden)]
    #[must_use]
    pub fn clock(&mut self) -> Arc<ManualClock> {
        Arc::clone(&self.world().clock)
    }

    /// The database: rows, positions, outbox.
    #[must_use]
    pub fn database(&mut self) -> &MemoryDatabase {
        &self.world().database
    }

    /// A value as a store has it once everything is published and written: the last one in its changelog. `None` where
    /// the key is not there, or not in any partition.
    ///
    /// # Panics
    /// When no step has such a store, or the value is not JSON.
    #[must_use]
    pub fn store(&mut self, store: &str, key: &str) -> Option<serde_json::Value> {
        let found = self.plan.topology.sub_topologies().iter().flat_map(|sub| &sub.stores).find(|s| *s.name == *store);
        let spec = found.unwrap_or_else(|| panic!("no step has a store {store}")).clone();
        let topic = self.plan.topology.changelog_topic(&spec).unwrap_or_else(|| panic!("store {store}: a bad name"));
        let records = self.read_raw(topic.as_str());
        let last = records.iter().rev().find(|found| found.key.as_deref() == Some(key.as_bytes()))?;
        let value = last.value.as_deref()?;
        let json = match value.first() {
            Some(1) => value.get(2..),
            _ => value.get(10..),
        };
        Some(
            json.and_then(|json| serde_json::from_slice(json).ok())
                .unwrap_or_else(|| panic!("{store}: not JSON: {value:?}")),
        )
    }

    /// The local disk of an instance: it outlives the instance, as a volume does.
    ///
    /// # Panics
    /// When there is no such instance.
    #[must_use]
    pub fn disk(&mut self, instance: usize) -> MemoryStores {
        let found = self.world().instances.get(instance).map(|instance| instance.stores.clone());
        found.unwrap_or_else(|| panic!("there is no instance {instance}"))
    }

    /// Number of changelog records read by restores, over all instances.
    #[must_use]
    pub fn records_restored(&mut self) -> u64 {
        self.world().instances.iter().map(|instance| instance.status.value(Counter::RestoredRecords)).sum()
    }

    /// The status of an instance, as it reports it.
    ///
    /// # Panics
    /// When there is no such instance.
    #[must_use]
    pub fn status(&mut self, instance: usize) -> Arc<Status> {
        let found = self.world().instances.get(instance).map(|instance| Arc::clone(&instance.status));
        found.unwrap_or_else(|| panic!("there is no instance {instance}"))
    }

    /// The position of a source partition.
    ///
    /// # Panics
    /// When `topic` is not a legal name.
    #[must_use]
    pub fn position(&mut self, topic: &str, partition: i32) -> Option<Position> {
        let name = self.plan.topology.name().to_owned();
        self.world().database.position(&name, &TopicPartition::new(parse(topic), Partition(partition)))
    }
}
