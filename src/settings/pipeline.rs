//! What runs: the pipeline's name and its thresholds.

use crate::flow::record::TopicName;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of the pipeline itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineSettings {
    /// The consumer group's id and the prefix of the transactional ids: a new name starts from the beginning. Default: the
    /// topology's name.
    #[serde(rename = "pipeline.name")]
    pub name: String,
    /// From which magnitude on a change is announced, by threshold. Defaults: those of the topology. May change while running.
    #[serde(rename = "pipeline.thresholds")]
    pub thresholds: BTreeMap<String, f64>,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        Self { name: "pipeline".into(), thresholds: BTreeMap::new() }
    }
}

impl PipelineSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new(
            "pipeline",
            "name",
            Allowed::Text {
                what: "1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'",
                fits: |text| TopicName::parse(text).is_ok(),
            },
        ),
        Rule::map("pipeline", "thresholds", Allowed::Number),
    ];
}
