//! The table of what is to be announced.

use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};

/// Settings of the outbox table, which is partitioned by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboxSettings {
    /// Width of one table partition in minutes. Default: 60, so that a day keeps two dozen: an hour of a busy pipeline is
    /// some 30 million rows, dropped in one stroke.
    #[serde(rename = "outbox.partition_minutes")]
    pub partition_minutes: u32,
    /// How long published rows stay, in hours: the audit compares them with the topics. Default: 24.
    #[serde(rename = "outbox.retention_hours")]
    pub retention_hours: u32,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self { partition_minutes: 60, retention_hours: 24 }
    }
}

impl OutboxSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new("outbox", "partition_minutes", Allowed::Whole { min: 1, max: 10_080 }),
        Rule::new("outbox", "retention_hours", Allowed::Whole { min: 1, max: 8_760 }),
    ];

    pub(super) fn cross_check(self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        let partitions = self.retention_hours.saturating_mul(60) / self.partition_minutes.max(1);
        let path = "outbox.partition_minutes";
        let value = Some(self.partition_minutes.to_string());
        if partitions == 0 {
            let message = format!("is wider than outbox.retention_hours ({} h) keeps", self.retention_hours);
            problems.add(path, value, message, origin(path));
        } else if partitions > 1_000 {
            // PostgreSQL plans over a few thousand partitions slowly.
            let message = format!("makes {partitions} table partitions in outbox.retention_hours; allowed are 1000");
            problems.add(path, value, message, origin(path));
        }
    }
}
