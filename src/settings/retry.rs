//! How often a record is tried again.

use crate::settings::millis;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of a record's retries: those that the algorithm or `pipeline.missing_row` asks for, and those after a death of
/// the process. A fault of Kafka or of the database is retried without a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetrySettings {
    /// Attempts before the record becomes a dead letter. Default: 10, which with the pause makes about two seconds.
    #[serde(rename = "retry.attempts")]
    pub attempts: u32,
    /// The pause before the next attempt, during which the record's partition waits. Default: 200 ms, long enough for a
    /// row that is being inserted right now.
    #[serde(rename = "retry.backoff_ms", with = "millis")]
    pub backoff: Duration,
    /// Deaths of a process while the pipeline's code had one record in hand, counted in each instance's `state.dir`, after
    /// which that record becomes a dead letter. Default: 3: one may be chance, a kill from outside, hardly three.
    #[serde(rename = "retry.deaths")]
    pub deaths: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 10, backoff: Duration::from_millis(200), deaths: 3 }
    }
}

impl RetrySettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new("retry", "attempts", Allowed::Whole { min: 1, max: 1000 }),
        Rule::new("retry", "deaths", Allowed::Whole { min: 1, max: 1000 }),
        Rule::new("retry", "backoff_ms", Allowed::Whole { min: 1, max: 60_000 }),
    ];
}
