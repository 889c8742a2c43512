//! What can be tuned about the engine, each default with its reason.
//!
//! A field with a name of serde is a setting, and has a rule below; one that serde skips is fixed for users, and made small by
//! tests.

use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::rule::{Allowed, Rule};
use crate::settings::{mebibytes, millis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineSettings {
    /// What happens to a record whose row does not exist. Default: it becomes a dead letter, so that nothing disappears and
    /// nothing waits.
    #[serde(rename = "pipeline.missing_row")]
    pub missing_row: MissingRow,
    /// Where a new group begins to read. Default: at the earliest record, so that nothing is missed. A group that has
    /// committed goes on from there.
    #[serde(rename = "pipeline.start")]
    pub start: StartPolicy,
    /// What happens when records are gone before they were read (retention, deletion). Default: the partition halts.
    #[serde(rename = "pipeline.on_data_loss")]
    pub on_data_loss: DataLossPolicy,
    /// Whether the decision about each record is kept in the ledger table, also when nothing is announced. Default: no, since
    /// it costs a row a record, which doubles the database's work.
    #[serde(rename = "pipeline.verdicts")]
    pub verdicts: bool,
    /// How often a record is offered again, where the algorithm or `pipeline.missing_row` asks for it, before it becomes a dead
    /// letter. A fault of Kafka or of the database is retried without a bound. Default: 10, with the pauses half a minute.
    #[serde(rename = "retry.attempts")]
    pub retry_attempts: u32,
    /// The pause before the next attempt, doubled each time up to 32 times, during which the record's partition waits.
    /// Default: 200 ms, long enough for a row that is being inserted right now.
    #[serde(rename = "retry.backoff_ms", with = "millis")]
    pub retry_backoff: Duration,
    /// Deaths of a process while the pipeline's code had one record in hand, counted in each instance's `state.dir`, after
    /// which that record becomes a dead letter. Default: 3: one may be chance, a kill from outside, hardly three.
    #[serde(rename = "retry.deaths")]
    pub deaths_max: u32,
    /// Threads that commit, each with a database connection and producers of its own. Default: 2, so that one computes
    /// while another waits: on two cores more only wait (measured by hand: 97,700 records/s with two, 93,400 with four).
    /// Instances times workers beyond the partition count stand idle.
    #[serde(rename = "engine.workers")]
    pub workers: usize,
    /// A batch, one database transaction, is closed at this many records. Default: 1000: from 100 to 1,000 the cost per row
    /// falls by a third, beyond it hardly (measured on `PostgreSQL` 15.18: 36 µs a row of the server with 100, 23 with 1,000,
    /// 21 with 5,000).
    #[serde(rename = "engine.batch_rows")]
    pub batch_rows: usize,
    /// A batch is closed at this age. Default: 5 ms, half of what a commit
    /// takes on a busy disk.
    #[serde(rename = "engine.batch_age_ms", with = "millis")]
    pub batch_age: Duration,
    /// Steps without rows gather for this long before their transaction. Default: 100 ms, what Kafka Streams commits
    /// exactly-once with; shorter is sooner and costs the broker more.
    #[serde(rename = "engine.log_age_ms", with = "millis")]
    pub log_age: Duration,
    /// The database may run ahead of Kafka by this many outbox rows; then reading pauses. Default: 10,000, ten full batches,
    /// a second or two of work to publish after a takeover.
    #[serde(rename = "engine.unpublished_rows")]
    pub unpublished_rows: usize,
    /// Records that may wait in front of one task; then its partitions are held back, until half are left. Default: 20,000,
    /// some megabytes; of large records no more than about 32 MiB wait.
    #[serde(rename = "engine.queued_records")]
    pub queued_records: usize,
    /// Largest value of a record, in bytes; a larger one becomes a dead letter. Default: 1 MiB, Kafka's own limit.
    #[serde(rename = "engine.record_bytes_max")]
    pub record_bytes_max: usize,
    /// How far ahead of this machine's clock the timestamp of a record may be in front of a step that has a store with a time
    /// to live, or timers, and the time of an event in front of windows; a record from farther away becomes a dead letter, since it
    /// would expire what its whole partition keeps, fire its timers, or close its key's windows.
    /// Default: 5 minutes, more than clocks differ, and less than a time to live that anybody would give. Brokers as they come
    /// refuse timestamps more than an hour ahead from Kafka 4.0 on.
    #[serde(rename = "engine.event_time_ahead_ms", with = "millis")]
    pub event_time_ahead: Duration,
    /// How long one question to Kafka may take while a partition is taken over, before the worker turns to its other
    /// partitions. Default: 250 ms; more where the brokers are farther away than that: a takeover asks some five, each of
    /// which has to be answered within it.
    #[serde(rename = "engine.ask_wait_ms", with = "millis")]
    pub ask_wait: Duration,
    /// How often what is committed is written into the stores. After a kill as much is read again from the changelogs.
    /// Default: 5 s: half a million records at 100,000 a second, restored in seconds.
    #[serde(rename = "state.flush_ms", with = "millis")]
    pub store_flush: Duration,
    /// Memory of the values kept in front of the stores of one worker, roughly; what is not yet committed may exceed it.
    /// Default: 64 MiB.
    #[serde(rename = "state.cache_mib", with = "mebibytes")]
    pub cache_bytes: usize,

    /// How this program is called, with the flags that name its settings: the commands that a halt prints begin so.
    #[serde(skip)]
    pub program: String,
    /// A store not written for longer is rebuilt: tombstones may be gone from its changelog (`delete.retention.ms`, 24 h by
    /// default; docs/traps.md#tombstones-go-too).
    #[serde(skip)]
    pub store_rebuild_after: Duration,
    /// How often partition counts are compared with those that state rests on.
    #[serde(skip)]
    pub count_check: Duration,
    /// How many bytes of notices, dead letters and changelog records a worker may be ahead of its Kafka stage: large ones would
    /// take the memory that `unpublished_rows` of them have. 64 MiB: a minute of a slow broker.
    #[serde(skip)]
    pub unpublished_bytes: usize,
    /// Most outbox rows of one Kafka transaction: 10,000 take 16 ms (measured on Kafka 4.3.1).
    #[serde(skip)]
    pub transaction_rows: usize,
    /// Most bytes of one Kafka transaction, unless one input alone announces more. 16 MiB: 2 MB/s bring it to the brokers
    /// within a timeout of 10 s.
    #[serde(skip)]
    pub transaction_bytes: usize,
    /// Most messages of one transaction of steps without rows, where `log_age` does not end it first. At 10,000 it never
    /// did under load: 283,000 records/s in W2, 341,000 at 50,000.
    #[serde(skip)]
    pub log_messages: usize,
    /// Most bytes of one transaction of steps without rows, of its inputs or of what they come to, state included: bounds
    /// what waits in memory, and what must reach the brokers within the timeout.
    #[serde(skip)]
    pub log_bytes: usize,
    /// How long offsets without messages may wait for a transaction of their own: lag tools and takeovers look at K.
    #[serde(skip)]
    pub idle_commit: Duration,
    /// Most time that a revoke may take: a fifth of `max.poll.interval.ms` (docs/protocol.md#takeover).
    #[serde(skip)]
    pub revoke_within: Duration,
    /// How often the offsets of idle inputs are committed again, before the broker lets them expire
    /// (docs/traps.md#offsets-expire).
    #[serde(skip)]
    pub recommit_every: Duration,
    /// Fencings within a minute and without a rebalance that end the process: another instance uses its transactional id.
    #[serde(skip)]
    pub fencings_max: usize,
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
            missing_row: MissingRow::default(),
            start: StartPolicy::default(),
            on_data_loss: DataLossPolicy::default(),
            verdicts: false,
            retry_attempts: 10,
            retry_backoff: Duration::from_millis(200),
            deaths_max: 3,
            workers: 2,
            batch_rows: 1_000,
            batch_age: Duration::from_millis(5),
            log_age: Duration::from_millis(100),
            unpublished_rows: 10_000,
            queued_records: 20_000,
            record_bytes_max: 1 << 20,
            event_time_ahead: Duration::from_mins(5),
            ask_wait: Duration::from_millis(250),
            store_flush: Duration::from_secs(5),
            cache_bytes: 64 << 20,
            program: "tidegate".into(),
            store_rebuild_after: Duration::from_hours(23),
            count_check: Duration::from_secs(5),
            unpublished_bytes: 64 << 20,
            transaction_rows: 10_000,
            transaction_bytes: 16 << 20,
            log_messages: 50_000,
            log_bytes: 16 << 20,
            idle_commit: Duration::from_secs(1),
            revoke_within: Duration::from_mins(1),
            recommit_every: Duration::from_hours(1),
            fencings_max: 5,
        }
    }
}

impl EngineSettings {
    pub(super) const RULES_OF_PIPELINE: &'static [Rule] = &[
        Rule::new("pipeline", "missing_row", Allowed::Choice(&["skip", "dead-letter", "retry"])),
        Rule::new("pipeline", "start", Allowed::Choice(&["earliest", "latest"])),
        Rule::new("pipeline", "on_data_loss", Allowed::Choice(&["halt", "skip"])),
        Rule::new("pipeline", "verdicts", Allowed::Bool),
    ];
    pub(super) const RULES_OF_RETRY: &'static [Rule] = &[
        Rule::new("retry", "attempts", Allowed::Whole { min: 1, max: 1000 }),
        Rule::new("retry", "deaths", Allowed::Whole { min: 1, max: 1000 }),
        Rule::new("retry", "backoff_ms", Allowed::Whole { min: 1, max: 60_000 }),
    ];
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
    pub(super) const RULES_OF_STATE: &'static [Rule] = &[
        Rule::new("state", "flush_ms", Allowed::Whole { min: 0, max: 3_600_000 }),
        Rule::new("state", "cache_mib", Allowed::Whole { min: 1, max: 1_048_576 }),
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
