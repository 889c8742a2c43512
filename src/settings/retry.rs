//! How often a record that asked for it is tried again.

use crate::settings::millis;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of a record's retries: those that the algorithm or `pipeline.missing_row` asks for. A fault of Kafka or of the
/// database is retried without a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetrySettings {
    /// Attempts before the record becomes a dead letter. Default: 10, which with the pause makes about two seconds.
    pub attempts: u32,
    /// The pause before the next attempt, during which the record's partition waits. Default: 200 ms, long enough for a
    /// row that is being inserted right now.
    #[serde(rename = "backoff_ms", with = "millis")]
    pub backoff: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 10, backoff: Duration::from_millis(200) }
    }
}

impl RetrySettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new("retry", "attempts", Allowed::Whole { min: 1, max: 1000 }),
        Rule::new("retry", "backoff_ms", Allowed::Whole { min: 1, max: 60_000 }),
    ];
}
