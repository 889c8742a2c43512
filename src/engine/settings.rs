//! What can be tuned about the engine, each default with its reason.

pub use crate::settings::engine::MissingRow;
use crate::settings::engine::{DataLossPolicy, StartPolicy};
use std::time::Duration;

/// The engine's settings.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// How this program is called, with the flags that name its settings: the commands that a halt prints begin so.
    pub program: String,
    /// Workers a process, each with a database connection and a producer. Two: on two cores more only wait
    /// (measured by hand: 97,700 records/s with two, 93,400 with four).
    pub workers: usize,
    /// Most records of one database transaction. 1,000: from 100 to 1,000 the cost per row falls by a third, beyond it
    /// hardly (measured on PostgreSQL 15.18: 36 µs a row of the server with 100, 23 with 1,000, 21 with 5,000).
    pub batch_rows: usize,
    /// How long the first record of a batch waits for company. 5 ms: half of what a commit takes on a busy disk.
    pub batch_age: Duration,
    /// How long steps without rows gather before their transaction. 100 ms: what Kafka Streams commits exactly-once with.
    pub log_age: Duration,
    /// How often what is proved is written into the stores: after a kill, as much is read again from the changelogs.
    pub store_flush: Duration,
    /// A store not written for longer is rebuilt: tombstones may be gone from its changelog (`delete.retention.ms`, 24 h by
    /// default; docs/traps.md#tombstones-go-too).
    pub store_rebuild_after: Duration,
    /// Bytes of all caches of a worker's stores, roughly.
    pub cache_bytes: usize,
    /// How often partition counts are compared with those that state rests on.
    pub count_check: Duration,
    /// How many outbox rows a worker may be ahead of its Kafka stage. 10,000: ten full batches.
    pub unpublished_rows: usize,
    /// How many bytes of notices, dead letters and changelog records a worker may be ahead of its Kafka stage: large ones would
    /// take the memory that `unpublished_rows` of them have. 64 MiB: a minute of a slow broker.
    pub unpublished_bytes: usize,
    /// Records that may wait in front of a task before its partitions are held back, until half are left.
    pub queued_records: usize,
    /// Most outbox rows of one Kafka transaction: 10,000 take 16 ms (measured on Kafka 4.3.1).
    pub transaction_rows: usize,
    /// Most bytes of one Kafka transaction, unless one input alone announces more. 16 MiB: 2 MB/s bring it to the brokers
    /// within a timeout of 10 s.
    pub transaction_bytes: usize,
    /// Most messages of one transaction of steps without rows, where `log_age` does not end it first. At 10,000 it never
    /// did under load: 283,000 records/s in W2, 341,000 at 50,000.
    pub log_messages: usize,
    /// Most bytes of one transaction of steps without rows, of its inputs or of what they come to, state included: bounds
    /// what waits in memory, and what must reach the brokers within the timeout.
    pub log_bytes: usize,
    /// How long offsets without messages may wait for a transaction of their own: lag tools and takeovers look at K.
    pub idle_commit: Duration,
    /// How often a record is offered again before it becomes a dead letter.
    pub retry_attempts: u32,
    /// The pause before a retry; doubled each time up to 32 times.
    pub retry_backoff: Duration,
    /// Deaths of a process with one record in hand, after which that record is a dead letter. 3: it may have been in hand by
    /// chance when somebody killed the process, hardly three times.
    pub deaths_max: u32,
    /// Missing rows.
    pub missing_row: MissingRow,
    /// First start.
    pub start: StartPolicy,
    /// Inputs deleted before they were read.
    pub on_data_loss: DataLossPolicy,
    /// Whether each record's verdict is kept in the ledger table. Off: it doubles the database's work.
    pub verdicts: bool,
    /// Largest input value in bytes; a larger one is a dead letter. 1 MiB: Kafka's own default limit.
    pub record_bytes_max: usize,
    /// How far ahead of this machine's clock the event time of a record may be where it decides: in front of a step that has a
    /// store with a time to live. One from farther away is a dead letter there.
    /// 5 minutes: more than clocks differ, and less than a time to live that anybody would give.
    pub event_time_ahead: Duration,
    /// Most time that a revoke may take: a fifth of `max.poll.interval.ms` (docs/protocol.md#takeover).
    pub revoke_within: Duration,
    /// How often the offsets of idle inputs are committed again, before the broker lets them expire
    /// (docs/traps.md#offsets-expire).
    pub recommit_every: Duration,
    /// How long one question to the log may take at a takeover before the worker turns to its other tasks.
    pub ask_wait: Duration,
    /// Fencings within a minute and without a rebalance that end the process: another instance uses its transactional id.
    pub fencings_max: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            program: "tidegate".into(),
            workers: 2,
            batch_rows: 1_000,
            batch_age: Duration::from_millis(5),
            log_age: Duration::from_millis(100),
            store_flush: Duration::from_secs(5),
            store_rebuild_after: Duration::from_hours(23),
            cache_bytes: 64 << 20,
            count_check: Duration::from_secs(5),
            unpublished_rows: 10_000,
            unpublished_bytes: 64 << 20,
            queued_records: 20_000,
            transaction_rows: 10_000,
            transaction_bytes: 16 << 20,
            log_messages: 50_000,
            log_bytes: 16 << 20,
            idle_commit: Duration::from_secs(1),
            retry_attempts: 10,
            retry_backoff: Duration::from_millis(200),
            deaths_max: 3,
            missing_row: MissingRow::default(),
            start: StartPolicy::default(),
            on_data_loss: DataLossPolicy::default(),
            verdicts: false,
            record_bytes_max: 1 << 20,
            event_time_ahead: Duration::from_mins(5),
            revoke_within: Duration::from_mins(1),
            recommit_every: Duration::from_hours(1),
            ask_wait: Duration::from_millis(250),
            fencings_max: 5,
        }
    }
}
