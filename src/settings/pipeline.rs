//! What runs, and what it does with odd records.

use crate::flow::record::TopicName;
use crate::settings::engine::{DataLossPolicy, MissingRow, StartPolicy};
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
    /// What happens to a notification whose row does not exist. Default: it becomes a dead letter, so that nothing
    /// disappears and nothing waits.
    #[serde(rename = "pipeline.missing_row")]
    pub missing_row: MissingRow,
    /// Where a new group begins to read. Default: at the earliest record, so that nothing is missed. A group that has
    /// committed goes on from there.
    #[serde(rename = "pipeline.start")]
    pub start: StartPolicy,
    /// What happens when records are gone before they were read (retention, deletion). Default: the partition halts.
    #[serde(rename = "pipeline.on_data_loss")]
    pub on_data_loss: DataLossPolicy,
    /// Whether the decision about each record is kept, also when nothing is announced. Default: no, since it costs a row
    /// a record.
    #[serde(rename = "pipeline.verdicts")]
    pub verdicts: bool,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        Self {
            name: "pipeline".into(),
            thresholds: BTreeMap::new(),
            missing_row: MissingRow::default(),
            start: StartPolicy::default(),
            on_data_loss: DataLossPolicy::default(),
            verdicts: false,
        }
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
        Rule::new("pipeline", "missing_row", Allowed::Choice(&["skip", "dead-letter", "retry"])),
        Rule::new("pipeline", "start", Allowed::Choice(&["earliest", "latest"])),
        Rule::new("pipeline", "on_data_loss", Allowed::Choice(&["halt", "skip"])),
        Rule::new("pipeline", "verdicts", Allowed::Bool),
    ];
}
