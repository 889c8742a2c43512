//! Latency against throughput.

use crate::settings::millis;
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineSettings {
    /// Threads that commit, each with a database connection and producers of its own. Default: 2, so that one computes
    /// while another waits. Instances times workers beyond the partition count stand idle.
    #[serde(rename = "engine.workers")]
    pub workers: u32,
    /// A batch is closed at this many records. Default: 1000, where a commit's fixed cost has become small.
    #[serde(rename = "engine.batch_rows")]
    pub batch_rows: u32,
    /// A batch is closed at this age, or as soon as the batch before it has committed. Default: 5 ms, below what a commit
    /// takes anyway.
    #[serde(rename = "engine.batch_age_ms", with = "millis")]
    pub batch_age: Duration,
    /// Steps without rows gather for this long before their transaction. Default: 100 ms, what Kafka Streams commits
    /// exactly-once with; shorter is sooner and costs the broker more.
    #[serde(rename = "engine.log_age_ms", with = "millis")]
    pub log_age: Duration,
    /// The database may run ahead of Kafka by this many outbox rows; then reading pauses. Default: 10,000, a second or two
    /// of work to publish after a takeover.
    #[serde(rename = "engine.unpublished_rows")]
    pub unpublished_rows: u32,
    /// Records that may wait in front of one task; then its partitions are held back, until half are left. Default: 20,000,
    /// some megabytes; of large records no more than about 32 MiB wait.
    #[serde(rename = "engine.queued_records")]
    pub queued_records: u32,
    /// Largest value of a record, in bytes; a larger one becomes a dead letter. Default: 1 MiB, Kafka's own limit.
    #[serde(rename = "engine.record_bytes_max")]
    pub record_bytes_max: u32,
    /// How far ahead of this machine's clock the timestamp of a record may be, in milliseconds, in front of a step that has a
    /// store with a time to live; a record from farther away becomes a dead letter, since it would expire what its whole
    /// partition keeps. Default: 5 minutes, more than clocks differ. Brokers as they come refuse timestamps more than an
    /// hour ahead from Kafka 4.0 on.
    #[serde(rename = "engine.event_time_ahead_ms", with = "millis")]
    pub event_time_ahead: Duration,
    /// How long one question to Kafka may take while a partition is taken over, in milliseconds, before the worker turns to
    /// its other partitions. Default: 250; more where the brokers are farther away than that: a takeover asks some five, each
    /// of which has to be answered within it.
    #[serde(rename = "engine.ask_wait_ms", with = "millis")]
    pub ask_wait: Duration,
}

/// What happens to a record whose row does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingRow {
    /// It is counted; the next record is taken.
    Skip,
    /// It becomes a dead letter with the code `missing-row`. The default: nothing vanishes in silence.
    #[default]
    DeadLetter,
    /// It is tried again, a bounded number of times, and its partition waits; then it becomes a dead letter.
    Retry,
}

/// Where a partition without any past starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartPolicy {
    /// At the log's start: with the oldest record that is still there.
    #[default]
    Earliest,
    /// At the log's end: with the first record after the start.
    Latest,
}

/// What happens when records are gone before they were read: D lies before the log's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataLossPolicy {
    /// The partition halts until a person has decided.
    #[default]
    Halt,
    /// Reading goes on at the log's start; the gap is counted and logged.
    Skip,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            workers: 2,
            batch_rows: 1000,
            batch_age: Duration::from_millis(5),
            log_age: Duration::from_millis(100),
            unpublished_rows: 10_000,
            queued_records: 20_000,
            record_bytes_max: 1 << 20,
            event_time_ahead: Duration::from_mins(5),
            ask_wait: Duration::from_millis(250),
        }
    }
}

impl EngineSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new("engine", "workers", Allowed::Whole { min: 1, max: 64 }),
        Rule::new("engine", "batch_rows", Allowed::Whole { min: 1, max: 50_000 }),
        Rule::new("engine", "batch_age_ms", Allowed::Whole { min: 0, max: 60_000 }),
        Rule::new("engine", "log_age_ms", Allowed::Whole { min: 0, max: 60_000 }),
        Rule::new("engine", "unpublished_rows", Allowed::Whole { min: 1, max: 10_000_000 }),
        Rule::new("engine", "queued_records", Allowed::Whole { min: 1, max: 10_000_000 }),
        Rule::new("engine", "record_bytes_max", Allowed::Whole { min: 1, max: 1_000_000_000 }),
        Rule::new("engine", "event_time_ahead_ms", Allowed::Whole { min: 0, max: 3_000_000_000_000 }),
        Rule::new("engine", "ask_wait_ms", Allowed::Whole { min: 10, max: 10_000 }),
    ];

    pub(super) fn cross_check(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        let bounds =
            [("engine.unpublished_rows", self.unpublished_rows), ("engine.queued_records", self.queued_records)];
        for (path, value) in bounds {
            if value < self.batch_rows {
                let message = format!("is below engine.batch_rows ({}): no full batch would fit", self.batch_rows);
                problems.add(path, Some(value.to_string()), message, origin(path));
            }
        }
    }
}
