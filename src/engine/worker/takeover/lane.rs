//! The state of the takeovers, kept from one step to the next.

use crate::engine::worker::ids::KnownIds;
use crate::engine::worker::restore::Restores;
use crate::engine::worker::tables::TableReads;

/// The takeovers of a worker's tasks, from assignment to work.
#[derive(Default)]
pub(crate) struct Takeovers {
    pub(super) ids: KnownIds,
    pub(super) restores: Restores,
    pub(super) tables: TableReads,
}
