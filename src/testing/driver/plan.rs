//! The plan of a world: everything that it is built from.

use crate::flow::record::TopicName;
use crate::flow::table::TableSpec;
use crate::flow::topology::Topology;
use crate::settings::engine::EngineSettings;
use crate::testing::guard::Guard;
use crate::testing::watch::Applications;
use std::sync::Arc;

/// Everything that a world is built from.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) topology: Arc<Topology>,
    pub(super) settings: EngineSettings,
    pub(super) partitions: i32,
    pub(super) instances: usize,
    pub(super) workers: usize,
    /// The largest messages that topics take from the start on.
    pub(super) limits: Vec<(TopicName, usize)>,
    pub(super) without: Option<Guard>,
    /// Turns of an instance for each turn of its relays.
    pub(super) lag: usize,
    /// Whoever wants to know which records were taken up.
    pub(super) watch: Option<Arc<Applications>>,
}

impl Plan {
    /// The table that a step uses.
    pub(super) fn table(&self, name: &str) -> TableSpec {
        let found = self.topology.tables().into_iter().find(|spec| spec.table.name == name);
        found.unwrap_or_else(|| panic!("no step uses a table {name}"))
    }
}
