//! The tables of roll-ups.

use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};

/// How long the tiers of roll-ups are kept; days are kept for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollUpSettings {
    /// How long quarters of an hour are kept, in days; null for good. Default: 35, so that a month has them.
    #[serde(rename = "rollup.quarters_days")]
    pub quarters_days: Option<u32>,
    /// How long hours are kept, in days; null for good. Default: 740, so that a year can be laid beside the one before.
    #[serde(rename = "rollup.hours_days")]
    pub hours_days: Option<u32>,
}

impl Default for RollUpSettings {
    fn default() -> Self {
        Self { quarters_days: Some(35), hours_days: Some(740) }
    }
}

impl RollUpSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new("rollup", "quarters_days", Allowed::WholeOrNull { min: 1, max: 36_500 }),
        Rule::new("rollup", "hours_days", Allowed::WholeOrNull { min: 1, max: 36_500 }),
    ];
}
