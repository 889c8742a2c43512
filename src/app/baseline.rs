//! The base line of the audit, noted beside the running pipeline: it sums the versions of whole tables, and no start waits
//! for that.

use crate::adapters::postgres::PostgresSchema;
use crate::app::service::Service;
use crate::flow::table::Table;
use crate::flow::topology::SubTopology;
use crate::ports::Fault;
use std::time::Duration;

/// The pause after an attempt in vain.
const PAUSE: Duration = Duration::from_mins(1);

/// Begins to note the base lines of the pipeline's tables, on a thread of its own.
///
/// # Errors
/// `Fatal` where the thread cannot start.
pub(super) fn note(service: &Service) -> Result<(), Fault> {
    let topology = &service.topology;
    let sources = |table: &Table| -> Vec<String> {
        let has_it = |sub: &&SubTopology| sub.table().is_some_and(|spec| spec.table.name == table.name);
        let steps = topology.sub_topologies().iter().filter(has_it);
        steps.flat_map(SubTopology::sources).map(ToString::to_string).collect()
    };
    let tables = topology.tables().into_iter().map(|spec| spec.table);
    let tables: Vec<(Table, Vec<String>)> = tables.map(|table| (table.clone(), sources(&table))).collect();
    let schema = service.patient_schema()?;
    // Nobody waits for it: the transaction of a process that ends is rolled back, and the next start begins it anew.
    let started = std::thread::Builder::new().name("baseline".into()).spawn(move || note_all(schema, &tables));
    started.map(drop).map_err(|error| Fault::fatal("the thread baseline could not start").because(error))
}

fn note_all(mut schema: PostgresSchema, tables: &[(Table, Vec<String>)]) {
    while let Err(fault) = schema.note_baselines(tables) {
        if fault.is_lock_wait() {
            tracing::debug!(error = %fault, "another instance notes the base line");
        } else {
            tracing::warn!(error = %fault, "the base line of the audit could not be noted; it is tried again by itself, and until then `audit` compares no row versions");
        }
        std::thread::sleep(PAUSE);
    }
}
