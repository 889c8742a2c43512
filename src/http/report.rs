//! The numbers as the page and programs get them.

use super::view::{About, Recovery, View};
use crate::engine::status::Halt;
use crate::engine::status::{DeclaredSource, Looked, RestoreStatus, Status, StoreStatus, Violations};
use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::ports::source::TaskId;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::watch;

/// All numbers at one moment. Counts are since the process started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What runs.
    #[serde(flatten)]
    pub about: About,
    /// Tidegate's version.
    pub version: &'static str,
    /// Whether the group has taken us in and every partition that is ours takes records or stands halted.
    pub is_ready: bool,
    /// Records decided and committed.
    pub records: u64,
    /// Records of the last second.
    pub records_per_s: u64,
    /// Records that changed their row.
    pub row_changes: u64,
    /// Notices committed to the outbox.
    pub announced: u64,
    /// Dead letters committed to the outbox.
    pub dead_letters: u64,
    /// Records skipped.
    pub skipped: u64,
    /// Age of a record when the Kafka transaction that tells of it commits; of the last second, `null` without any.
    pub p50_ms: Option<f64>,
    /// As `p50_ms`.
    pub p99_ms: Option<f64>,
    /// Database transactions committed.
    pub database_commits: u64,
    /// Database transactions rolled back and offered again.
    pub database_retries: u64,
    /// Kafka transactions committed.
    pub kafka_commits: u64,
    /// Producers replaced because a transaction's outcome was in doubt.
    pub taints: u64,
    /// Compare-and-sets lost and offsets refused.
    pub fencings: u64,
    /// Outbox rows published at takeovers.
    pub recovered_rows: u64,
    /// The partitions that are ours.
    pub tasks: Vec<TaskReport>,
    /// Those that stand still.
    pub halts: Vec<HaltReport>,
    /// Stores that are being made whole from their changelogs.
    pub restores: Vec<RestoreReport>,
    /// How sources keep to their declared partitioning.
    pub declared: Vec<DeclaredReport>,
    /// How sources lie that declare nothing, where a step keeps something by their keys.
    pub undeclared: Vec<UndeclaredReport>,
    /// Sources whose records lie already where `key_by` sends them: shuffles to remove.
    pub needless_shuffles: Vec<ShuffleReport>,
    /// What the last crash came to, under `demo`; left out under `run`, which has no crash of its own to tell of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_recovery: Option<Recovery>,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskReport {
    /// Which sub-topology, from 0.
    pub sub_topology: usize,
    /// The partition number.
    pub partition: i32,
    /// Its state in words.
    pub state: &'static str,
    /// Its source partitions.
    pub inputs: Vec<InputReport>,
    /// Its stores, once they are whole.
    pub stores: Vec<StoreReport>,
}

/// What one store of a task held when it was last written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// The store.
    pub store: String,
    /// Keys, possibly an estimate.
    pub keys: u64,
    /// Bytes of keys and values, possibly an estimate.
    pub bytes: u64,
}

impl From<StoreStatus> for StoreReport {
    fn from(StoreStatus { store, size }: StoreStatus) -> Self {
        Self { store, keys: size.keys, bytes: size.bytes }
    }
}

/// One restore under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RestoreReport {
    /// Which sub-topology, from 0.
    pub sub_topology: usize,
    /// The partition number.
    pub partition: i32,
    /// The store.
    pub store: String,
    /// The share that is done, from 0 to 1.
    pub share: f64,
    /// Changelog records read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Seconds to go at the speed so far; `null` while nothing has been read.
    pub seconds_left: Option<f64>,
}

impl From<(TaskId, RestoreStatus)> for RestoreReport {
    fn from((id, restore): (TaskId, RestoreStatus)) -> Self {
        Self {
            sub_topology: id.sub_topology,
            partition: id.partition.0,
            share: restore.share(),
            seconds_left: restore.seconds_left(),
            records: restore.records,
            bytes: restore.bytes,
            store: restore.store,
        }
    }
}

/// Records of one declared source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeclaredReport {
    /// Its topic.
    pub source: String,
    /// Records held against the declaration.
    pub checked: u64,
    /// Bytes of the records that lay where they were declared: what a repartition topic would have taken and given again.
    pub bytes_not_shuffled: u64,
    /// Partitions with records that did not.
    pub violations: Vec<ViolationReport>,
}

impl From<(TopicName, DeclaredSource)> for DeclaredReport {
    fn from((topic, found): (TopicName, DeclaredSource)) -> Self {
        let violation = |(partition, violations): (Partition, Violations)| {
            ViolationReport::from((TopicPartition::new(topic.clone(), partition), violations))
        };
        Self {
            source: topic.to_string(),
            checked: found.checked,
            bytes_not_shuffled: found.bytes_not_shuffled,
            violations: found.violations.into_iter().map(violation).collect(),
        }
    }
}

/// Keyed records of one source that declares nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndeclaredReport {
    /// Its topic.
    pub source: String,
    /// The hash by which equal keys would meet.
    pub assumed: &'static str,
    /// Records with a key.
    pub checked: u64,
    /// Of these, records in another partition than that hash names: a join misses them.
    pub elsewhere: u64,
    /// Of those, records that lie where CRC-32 puts them, librdkafka's default.
    pub by_crc32: u64,
}

impl From<(TopicName, Looked)> for UndeclaredReport {
    fn from((topic, looked): (TopicName, Looked)) -> Self {
        let Looked { assumed, checked, elsewhere, by_crc32 } = looked;
        Self { source: topic.to_string(), assumed, checked, elsewhere, by_crc32 }
    }
}

/// A source that is keyed already as it is re-keyed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShuffleReport {
    /// Its topic.
    pub source: String,
    /// Records looked at, a sample: all of them lay in their new key's partition.
    pub sampled: u64,
}

/// Records of one partition that lay elsewhere than declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ViolationReport {
    /// `topic-partition`.
    pub source: String,
    /// How many.
    pub count: u64,
    /// The first one.
    pub first_offset: i64,
    /// Where the first one belongs.
    pub expected_partition: i32,
}

impl From<(TopicPartition, Violations)> for ViolationReport {
    fn from((source, violations): (TopicPartition, Violations)) -> Self {
        let Violations { count, first_offset, expected_partition } = violations;
        Self { source: source.to_string(), count, first_offset, expected_partition }
    }
}

/// One source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputReport {
    /// `topic-partition`.
    pub source: String,
    /// D: what the database has absorbed.
    pub next_offset: i64,
    /// K: the group's offset.
    pub committed_offset: i64,
}

/// One partition that stands still, and what a person can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HaltReport {
    /// `topic-partition`.
    pub source: String,
    /// The stable word.
    pub reason: &'static str,
    /// The reason as a sentence.
    pub sentence: String,
    /// D.
    pub next_offset: Option<i64>,
    /// K.
    pub committed_offset: Option<i64>,
    /// What else is known.
    pub detail: String,
    /// What most likely happened.
    pub cause: &'static str,
    /// What can be done, a line each, with the command to run.
    pub choices: Vec<String>,
}

impl From<&Halt> for HaltReport {
    fn from(halt: &Halt) -> Self {
        Self {
            source: halt.source.to_string(),
            reason: halt.reason.label(),
            sentence: halt.reason.to_string(),
            next_offset: halt.next_offset.map(|d| d.0),
            committed_offset: halt.committed.as_ref().map(|committed| committed.next_offset.0),
            detail: halt.detail.clone(),
            cause: halt.reason.cause(),
            choices: halt.choices.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Takes the numbers now and then, and hands the last ones to whoever listens: a slow reader misses some, nobody waits.
pub(super) struct Reporter {
    view: Arc<dyn View>,
    /// Where the last second began.
    records: u64,
    ages: Vec<u64>,
    latest: watch::Sender<Arc<str>>,
}

impl Reporter {
    pub(super) fn new(view: Arc<dyn View>) -> (Self, watch::Receiver<Arc<str>>) {
        let (records, ages) = (view.status().records.value(), view.status().age_at_publication.snapshot());
        let (latest, reports) = watch::channel(Arc::from("{}"));
        let mut reporter = Self { view, records, ages, latest };
        reporter.report();
        (reporter, reports)
    }

    /// Ends this second and begins the next.
    pub(super) fn report(&mut self) {
        let report = self.take();
        self.records = report.records;
        self.ages = self.view.status().age_at_publication.snapshot();
        // Numbers and texts only: what cannot be said in JSON is not among them.
        self.latest.send_replace(serde_json::to_string(&report).unwrap_or_default().into());
    }

    fn take(&self) -> Report {
        let status: &Status = self.view.status();
        let age = |quantile| {
            let ms = status.age_at_publication.quantile_ms(quantile, Some(&self.ages))?;
            Some((ms * 10.0).round() / 10.0)
        };
        let (tasks, mut stores) = (status.tasks(), status.stores());
        let records = status.records.value();
        Report {
            about: self.view.about(),
            version: env!("CARGO_PKG_VERSION"),
            is_ready: super::health::is_ready(status),
            records,
            records_per_s: records.saturating_sub(self.records),
            row_changes: status.row_changes.value(),
            announced: status.announced.value(),
            dead_letters: status.dead_letters.value(),
            skipped: status.skipped.value(),
            p50_ms: age(0.5),
            p99_ms: age(0.99),
            database_commits: status.database_commits.value(),
            database_retries: status.database_retries.value(),
            kafka_commits: status.kafka_commits.value(),
            taints: status.taints.value(),
            fencings: status.fencings.value(),
            recovered_rows: status.recovered_rows.value(),
            halts: tasks.values().filter_map(|task| task.halt.as_ref()).map(HaltReport::from).collect(),
            tasks: tasks
                .into_iter()
                .map(|(id, task)| TaskReport {
                    sub_topology: id.sub_topology,
                    partition: id.partition.0,
                    state: task.state,
                    inputs: task.inputs.into_iter().map(InputReport::from).collect(),
                    stores: stores.remove(&id).into_iter().flatten().map(StoreReport::from).collect(),
                })
                .collect(),
            restores: status.restores().into_iter().map(RestoreReport::from).collect(),
            declared: status.declared.sources().into_iter().map(DeclaredReport::from).collect(),
            undeclared: status.undeclared.sources().into_iter().map(UndeclaredReport::from).collect(),
            needless_shuffles: status
                .shuffles
                .needless()
                .into_iter()
                .map(|(topic, sampled)| ShuffleReport { source: topic.to_string(), sampled })
                .collect(),
            last_recovery: self.view.last_recovery(),
        }
    }
}

impl From<(String, i64, i64)> for InputReport {
    fn from((source, next_offset, committed_offset): (String, i64, i64)) -> Self {
        Self { source, next_offset, committed_offset }
    }
}
