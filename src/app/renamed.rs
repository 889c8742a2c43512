//! The first start of a pipeline beside another one that reads the same topics: it may be the same pipeline under a new name, and
//! would then change each row a second time.

use crate::adapters::postgres::PostgresSchema;
use crate::app::service::Service;
use crate::flow::topology::SubTopology;
use crate::ports::Fault;

/// Warns once, before the group is joined.
///
/// # Errors
/// `Retry` when the database did not answer.
pub(super) fn look(service: &Service, schema: &mut PostgresSchema) -> Result<(), Fault> {
    let steps = service.topology.sub_topologies().iter().filter(|sub| sub.table().is_some());
    let topics: Vec<String> = steps.flat_map(SubTopology::sources).map(ToString::to_string).collect();
    let others = schema.likely_former(&topics)?;
    if !others.is_empty() {
        tracing::warn!(
            pipeline = service.topology.name(),
            other = others.join(", "),
            set_by = %service.settings.origin_of("pipeline.name"),
            "this pipeline has no positions, and the other one of the same schema has some of its topics; if it was renamed, most likely by a \
             changed pipeline.name, it reads all records that are kept again and changes each row again: stop it and set the old name; if it is \
             another pipeline, let it go on"
        );
    }
    Ok(())
}
