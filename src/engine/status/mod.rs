//! What this instance is doing, for people: counters, tasks, halts, ages. Written once a batch, read by pages and tests.

pub use crate::engine::protocol::halt::Halt;
use crate::flow::record::{Offset, Partition, TopicName, TopicPartition};
use crate::ports::rows::Counts;
use crate::ports::source::TaskId;
use crate::ports::store::StoreSize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The instance as a whole. All counts are since the process started.
#[derive(Debug, Default)]
pub struct Status {
    /// Rounds of the polling thread: a liveness probe watches that they grow.
    pub polls: Counter,
    /// Records decided and committed.
    pub records: Counter,
    /// Records that changed their row.
    pub row_changes: Counter,
    /// Notices committed to the outbox.
    pub announced: Counter,
    /// Dead letters committed to the outbox.
    pub dead_letters: Counter,
    /// Records skipped.
    pub skipped: Counter,
    /// Database transactions committed.
    pub database_commits: Counter,
    /// Database transactions that were rolled back and offered again.
    pub database_retries: Counter,
    /// Kafka transactions committed.
    pub kafka_commits: Counter,
    /// Producers replaced because a transaction's outcome was in doubt.
    pub taints: Counter,
    /// Compare-and-sets lost and offsets refused.
    pub fencings: Counter,
    /// Outbox rows published at a takeover: their algorithm ran in an earlier owner.
    pub recovered_rows: Counter,
    /// Changelog records read by restores that have ended.
    pub restored_records: Counter,
    /// How sources keep to their declared partitioning.
    pub declared: Declarations,
    /// How sources lie that declare nothing, where a step keeps something by their keys.
    pub undeclared: Undeclared,
    /// Changes of key that may not be needed.
    pub shuffles: Shuffles,
    /// Age of records, from their timestamp to the commit of the Kafka transaction that tells of them.
    pub age_at_publication: Ages,
    is_member: AtomicBool,
    tasks: Mutex<BTreeMap<TaskId, TaskStatus>>,
    restores: Mutex<BTreeMap<TaskId, RestoreStatus>>,
    stores: Mutex<BTreeMap<TaskId, Vec<StoreStatus>>>,
}

/// What one store held when it was last written: what is committed since is not in it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The store.
    pub store: String,
    /// How much it holds.
    pub size: StoreSize,
}

/// How far the restore of one store has come.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreStatus {
    /// The store.
    pub store: String,
    /// The changelog offset it began at.
    pub from: i64,
    /// The next one to read.
    pub position: i64,
    /// The one it ends before.
    pub end: i64,
    /// Records read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// When it began, on the monotonic clock.
    pub began_at: Duration,
    /// How long it has been under way.
    pub seconds: f64,
}

impl RestoreStatus {
    /// The share that is done, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub fn share(&self) -> f64 {
        let whole = (self.end - self.from).max(1) as f64;
        ((self.position - self.from) as f64 / whole).clamp(0.0, 1.0)
    }

    /// Seconds to go at the speed so far; `None` while nothing has been read.
    #[must_use]
    pub fn seconds_left(&self) -> Option<f64> {
        let share = self.share();
        (share > 0.0).then(|| self.seconds * (1.0 - share) / share)
    }
}

/// Records held against their source's declaration.
#[derive(Debug, Default)]
pub struct Declarations {
    sources: Mutex<BTreeMap<TopicName, DeclaredSource>>,
}

/// How one source keeps to its declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredSource {
    /// Records held against it.
    pub checked: u64,
    /// Bytes of keys, values and headers, before compression, of the records that lay where they were declared: what
    /// `key_by` would have written to a repartition topic and read again.
    pub bytes_not_shuffled: u64,
    /// Records that lay elsewhere, by the partition they were found in.
    pub violations: BTreeMap<Partition, Violations>,
}

/// Records of one partition that lay elsewhere than declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violations {
    /// How many.
    pub count: u64,
    /// The first one.
    pub first_offset: i64,
    /// Where it belongs.
    pub expected_partition: i32,
}

/// Records of a share that were held against its source's declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Those that lay where they were declared, and their bytes.
    pub(crate) there: (u64, u64),
    /// Those that lay elsewhere, each with the partition where it belongs.
    pub(crate) elsewhere: Vec<(Offset, i32)>,
}

impl Declarations {
    /// So many records of a source lay where they were declared, with so many bytes in all.
    pub(crate) fn in_place(&self, topic: &TopicName, records: u64, bytes: u64) {
        self.with(topic, |found| {
            found.checked += records;
            found.bytes_not_shuffled += bytes;
        });
    }

    /// What a batch found of one source partition.
    pub(crate) fn held(&self, source: &TopicPartition, held: &Held) {
        let (records, bytes) = held.there;
        if records > 0 {
            self.in_place(&source.topic, records, bytes);
        }
        for (offset, expected) in &held.elsewhere {
            self.violated(source, *offset, *expected);
        }
    }

    pub(crate) fn violated(&self, source: &TopicPartition, offset: Offset, expected: i32) {
        self.with(&source.topic, |found| {
            found.checked += 1;
            let found = found.violations.entry(source.partition).or_insert_with(|| {
                tracing::warn!(partition = %source, offset = offset.0, expected_partition = expected, "a record lies in another partition than its source declares");
                Violations { count: 0, first_offset: offset.0, expected_partition: expected }
            });
            found.count += 1;
        });
    }

    fn with(&self, topic: &TopicName, note: impl FnOnce(&mut DeclaredSource)) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        match sources.get_mut(topic) {
            Some(found) => note(found),
            None => note(sources.entry(topic.clone()).or_default()),
        }
    }

    /// What was found, by source topic: those of which a record has come.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<TopicName, DeclaredSource> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keyed records of sources that declare nothing, by source topic: a join misses keys that another partitioner has placed.
#[derive(Debug, Default)]
pub struct Undeclared {
    sources: Mutex<BTreeMap<TopicName, Looked>>,
}

/// How the keys of one such source lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The hash by which they would all meet.
    pub assumed: &'static str,
    /// Records with a key.
    pub checked: u64,
    /// Of these, records in another partition than that hash names.
    pub elsewhere: u64,
    /// Of those, records that lie where CRC-32 puts them.
    pub by_crc32: u64,
}

impl Undeclared {
    /// Adds what a slice has found. Records that lie elsewhere are told when there are some, and whenever there are ten
    /// times as many.
    pub(crate) fn looked(&self, topic: &TopicName, new: Looked) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sources.entry(topic.clone()).or_default();
        let before = found.elsewhere;
        found.assumed = new.assumed;
        found.checked += new.checked;
        found.elsewhere += new.elsewhere;
        found.by_crc32 += new.by_crc32;
        let Looked { assumed, checked, elsewhere, by_crc32 } = *found;
        drop(sources);
        if before.checked_ilog10() == elsewhere.checked_ilog10() {
            return;
        }
        let likely = if by_crc32 >= elsewhere - elsewhere / 10 {
            "a librdkafka client with its default partitioner (CRC-32: confluent-kafka for Python, Go and .NET): set \
             partitioner=murmur2_random there, or say Declared::crc32 of all topics of the step"
        } else {
            "a partitioner of the producer's own, partitions chosen by hand, or kafkajs's LegacyPartitioner: let all \
             producers use murmur2, or send the topic through key_by()"
        };
        tracing::warn!(%topic, checked, elsewhere, assumed, "keys lie in other partitions than their hash puts them, where a join misses them and a value is kept twice; most likely {likely}");
    }

    /// What was found, by source topic: those of which a keyed record has come.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<TopicName, Looked> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Re-keyed records that were looked at, and how many lay in their new key's partition already, by source topic.
#[derive(Debug, Default)]
pub struct Shuffles {
    sampled: Mutex<BTreeMap<TopicName, (u64, u64)>>,
}

impl Shuffles {
    pub(crate) fn sampled(&self, source: &TopicName, was_there: bool) {
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, there) = sampled.entry(source.clone()).or_default();
        *all += 1;
        *there += u64::from(was_there);
    }

    /// Sampled, and of these already in place, by source topic.
    #[must_use]
    pub fn samples(&self) -> BTreeMap<TopicName, (u64, u64)> {
        self.sampled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sources that are keyed already as they are re-keyed to, and how many of their records were looked at: their
    /// shuffle can be removed. Of some hundred records all must lie in place, which by chance they do not where there is
    /// more than one partition.
    #[must_use]
    pub fn needless(&self) -> BTreeMap<TopicName, u64> {
        let samples = self.samples().into_iter();
        samples.filter(|(_, (all, there))| *all >= 100 && all == there).map(|(topic, (all, _))| (topic, all)).collect()
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Its state in words.
    pub state: &'static str,
    /// Source partition, D and K of each input.
    pub inputs: Vec<(String, i64, i64)>,
    /// Why it stands still.
    pub halt: Option<Halt>,
}

impl Status {
    fn tasks_mut(&self) -> MutexGuard<'_, BTreeMap<TaskId, TaskStatus>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, counts: Counts) {
        let add = |counter: &Counter, n: i64| counter.add(u64::try_from(n).unwrap_or(0));
        add(&self.records, counts.records);
        add(&self.row_changes, counts.row_changes);
        add(&self.announced, counts.announced);
        add(&self.dead_letters, counts.dead_letters);
        add(&self.skipped, counts.skipped);
    }

    pub(crate) fn set_task(&self, id: TaskId, status: TaskStatus) {
        self.tasks_mut().insert(id, status);
    }

    pub(crate) fn remove_task(&self, id: TaskId) {
        self.tasks_mut().remove(&id);
        self.set_restore(id, None);
        self.stores_mut().remove(&id);
    }

    fn stores_mut(&self) -> MutexGuard<'_, BTreeMap<TaskId, Vec<StoreStatus>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_stores(&self, id: TaskId, stores: Vec<StoreStatus>) {
        self.stores_mut().insert(id, stores);
    }

    /// The stores that are whole, by task.
    #[must_use]
    pub fn stores(&self) -> BTreeMap<TaskId, Vec<StoreStatus>> {
        self.stores_mut().clone()
    }

    pub(crate) fn set_restore(&self, id: TaskId, restore: Option<RestoreStatus>) {
        let mut restores = self.restores.lock().unwrap_or_else(PoisonError::into_inner);
        match restore {
            Some(restore) => restores.insert(id, restore),
            None => restores.remove(&id),
        };
    }

    /// The restores under way, by task.
    #[must_use]
    pub fn restores(&self) -> BTreeMap<TaskId, RestoreStatus> {
        self.restores.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets every task: a member of this process was killed and gave nothing up.
    pub fn forget_tasks(&self) {
        self.tasks_mut().clear();
        self.restores.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.stores_mut().clear();
    }

    /// Every task of this instance.
    #[must_use]
    pub fn tasks(&self) -> BTreeMap<TaskId, TaskStatus> {
        self.tasks_mut().clone()
    }

    /// The tasks that stand still.
    #[must_use]
    pub fn halts(&self) -> Vec<Halt> {
        self.tasks_mut().values().filter_map(|task| task.halt.clone()).collect()
    }

    /// Whether there are tasks and all of them stand still.
    #[must_use]
    pub fn is_all_halted(&self) -> bool {
        let tasks = self.tasks_mut();
        !tasks.is_empty() && tasks.values().all(|task| task.halt.is_some())
    }

    /// Notes that the group has taken this instance in, or thrown it out.
    pub fn set_member(&self, is_member: bool) {
        self.is_member.store(is_member, Ordering::Relaxed);
    }

    /// Whether the group has taken this instance in, though it may have given it nothing.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.is_member.load(Ordering::Relaxed)
    }

    /// Whether the group has taken this instance in and every task takes records (or stands still, which alerts but does
    /// not flip readiness).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_member() && self.tasks_mut().values().all(|task| task.halt.is_some() || task.state == "running")
    }
}

/// A histogram of durations: buckets that grow by a tenth, from 0.1 ms to about 24 min.
#[derive(Debug)]
pub struct Ages {
    buckets: Vec<AtomicU64>,
}

const SMALLEST_MS: f64 = 0.1;
const GROWTH: f64 = 1.1;
const BUCKETS: usize = 174;

impl Default for Ages {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Ages {
    /// Adds one duration.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bucket number, clamped below")]
    pub fn add(&self, age: Duration) {
        let ms = age.as_secs_f64() * 1e3;
        let bucket = if ms <= SMALLEST_MS { 0 } else { ((ms / SMALLEST_MS).ln() / GROWTH.ln()).ceil() as usize };
        if let Some(bucket) = self.buckets.get(bucket.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The duration in ms that the share `quantile` (0 to 1) of all durations does not exceed, to within a tenth; `None`
    /// while there are none. Durations counted before `since` was taken are left out.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank")]
    pub fn quantile_ms(&self, quantile: f64, since: Option<&[u64]>) -> Option<f64> {
        let counts: Vec<u64> = self
            .snapshot()
            .iter()
            .enumerate()
            .map(|(index, count)| count - since.and_then(|since| since.get(index)).copied().unwrap_or(0))
            .collect();
        let total: u64 = counts.iter().sum();
        let rank = (total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            if total > 0 && seen >= rank {
                return Some(SMALLEST_MS * GROWTH.powi(i32::try_from(index).unwrap_or(0)));
            }
        }
        None
    }

    /// The buckets' counts, to measure from here on.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_true_to_a_tenth_and_can_start_anew() {
        let ages = Ages::default();
        assert_eq!(ages.quantile_ms(0.5, None), None);
        for ms in 1..=100 {
            ages.add(Duration::from_millis(ms));
        }
        let p50 = ages.quantile_ms(0.5, None).unwrap();
        let p99 = ages.quantile_ms(0.99, None).unwrap();
        assert!((50.0..56.0).contains(&p50), "{p50}");
        assert!((99.0..110.0).contains(&p99), "{p99}");
        let mark = ages.snapshot();
        ages.add(Duration::from_millis(500));
        assert!(ages.quantile_ms(0.5, Some(&mark)).unwrap() > 490.0);
    }

    #[test]
    fn the_longest_age_is_counted_too() {
        let ages = Ages::default();
        ages.add(Duration::from_hours(24));
        assert!(ages.quantile_ms(0.5, None).unwrap() > 1_000_000.0);
    }

    #[test]
    fn a_restore_tells_how_long_it_takes_at_the_speed_so_far() {
        let (store, began_at) = (String::new(), Duration::ZERO);
        let begun =
            RestoreStatus { store, from: 100, position: 100, end: 200, records: 0, bytes: 0, began_at, seconds: 6.0 };
        let at = |position| RestoreStatus { position, ..begun.clone() };
        let left = [100, 125, 150, 200].map(|position| at(position).seconds_left());
        assert_eq!(left, [None, Some(18.0), Some(6.0), Some(0.0)]);
    }
}
