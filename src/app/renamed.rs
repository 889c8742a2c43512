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
        let origin = service.settings.origin_of("pipeline.name").to_string();
        tracing::warn!("{}", told(service.topology.name(), &others, &origin));
    }
    Ok(())
}

fn told(name: &str, others: &[String], origin: &str) -> String {
    let others = others.join(", ");
    format!(
        "pipeline {name} starts for the first time, and its topics are read by {others} in the same schema already: if it was renamed, \
         it reads every record that is kept again and changes each row again; then stop it, and set pipeline.name ({origin}) to the \
         old name. If it is another pipeline, nothing needs to be done"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_pipeline_and_both_next_steps_are_named() {
        let told = told("scores", &["scoring".into()], "environment TIDEGATE_PIPELINE__NAME");
        for part in [
            "pipeline scores starts for the first time",
            "read by scoring in the same schema",
            "changes each row again",
            "set pipeline.name (environment TIDEGATE_PIPELINE__NAME) to the old name",
            "another pipeline",
        ] {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
    }
}
