//! Topics as code: the folder `topics/`, its mistakes, and the differences between it and a cluster.
//!
//! The files have the shape of Strimzi's `KafkaTopic`, so that `kubectl apply` and Tidegate read the same ones. Nothing here
//! deletes a topic, and partitions of a keyed topic are raised only when that is asked for by name.

mod apply;
mod checks;
mod config;
mod derived;
mod finding;
mod folder;
mod overlay;
mod plan;
mod spec;

pub use apply::{Outcome, Report, apply};
pub use checks::{changelog_policy, repartition_settings, tombstone_retention, validate};
pub use derived::compare;
pub use finding::Finding;
pub use folder::{environments, read};
pub use plan::{Change, Plan, Planned, plan};
pub use spec::{Role, TopicSpec};

#[cfg(test)]
pub(crate) mod fake;
