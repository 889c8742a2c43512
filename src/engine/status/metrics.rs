//! The one table of metrics. `/status`, the page, `docs/metrics.md` and exporters read it.
//!
//! A new counter needs a line here and the place that counts it ([`Status::add`](super::Status::add)); then `make docs`.
//! Record keys are never part of a metric: only sets that are known beforehand (partitions, stores, topics) are.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that Tidegate reports about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name, with the unit last where there is one to add: `p99_ms`.
    pub name: &'static str,
    /// Its kind: whether it grows or goes up and down, and its source.
    pub kind: Kind,
    /// The unit, as a plural.
    pub unit: &'static str,
    /// Its place in the status.
    pub place: Place,
    /// Its meaning, in one sentence.
    pub help: &'static str,
}

/// The kind of a metric: whether it grows or goes up and down, and its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; the engine counts it.
    Counter(Counter),
    /// Only grows; it is kept where its part of the report is.
    Total,
    /// Goes up and down.
    Gauge,
    /// The growth of a counter in the last second: goes up and down.
    Rate(Counter),
    /// The age that this share of the records published in the last second did not exceed.
    Quantile(f64),
}

impl Kind {
    /// The kind in a word that monitoring systems use.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter(_) | Self::Total => "counter",
            Self::Gauge | Self::Rate(_) => "gauge",
            Self::Quantile(_) => "quantile",
        }
    }
}

/// The place of a metric in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A field of `/status`, and a tile of the page with this label.
    Tile(&'static str),
    /// A field of `/status`.
    Field,
    /// A field of a part of `/status`; `[]` stands for each entry of a list.
    Part(&'static str),
    /// Not in `/status`.
    Hidden,
}

impl Metric {
    /// Its path in `/status`; `None` where it is not in there.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        match self.place {
            Place::Tile(_) | Place::Field => Some(self.name.to_owned()),
            Place::Part(part) => Some(format!("{part}.{}", self.name)),
            Place::Hidden => None,
        }
    }
}

/// Makes [`Counter`] and [`METRICS`] of the lines: `counter` has the engine count it, `is` names another kind.
macro_rules! table {
    ($($(counter $counter:ident)? $(is $kind:expr)?, $name:literal, $unit:literal, $place:expr, $help:literal;)+) => {
        /// The counters of the engine, since the process started.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $help] $counter,)?)+
        }

        /// The number of counters.
        const COUNTERS: usize = [$($(Counter::$counter,)?)+].len();

        /// Every metric. Those of `/status` stand in the order in which it has them.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: $(Kind::Counter(Counter::$counter))? $($kind)?,
            unit: $unit,
            place: $place,
            help: $help,
        },)+];
    };
}

const INPUT: Place = Place::Part("tasks[].inputs[]");
const STORE: Place = Place::Part("tasks[].stores[]");
const HALT: Place = Place::Part("halts[]");
const RESTORE: Place = Place::Part("restores[]");
const LETTERS: Place = Place::Part("dead_letter_codes[]");
const DECLARED: Place = Place::Part("declared[]");
const VIOLATION: Place = Place::Part("declared[].violations[]");
const UNDECLARED: Place = Place::Part("undeclared[]");
const SHUFFLE: Place = Place::Part("needless_shuffles[]");
const ROLL_UP: Place = Place::Part("roll_ups[]");
const RECOVERY: Place = Place::Part("last_recovery");

table! {
    counter Polls, "polls", "rounds", Place::Hidden,
        "Rounds of the polling thread: the liveness probe watches that they grow.";
    counter RestoredRecords, "restored_records", "records", Place::Hidden,
        "Changelog records read by restores that have ended.";

    counter Records, "records", "records", Place::Tile("records in"),
        "Records decided and committed.";
    is Kind::Rate(Counter::Records), "records_per_s", "records a second", Place::Tile("records a second"),
        "Records decided and committed in the last second.";
    counter RowChanges, "row_changes", "records", Place::Tile("rows updated"),
        "Records that changed their row.";
    counter Announced, "announced", "notices", Place::Tile("notified"),
        "Notices committed to the outbox, or to the log by a step without rows.";
    counter DeadLetters, "dead_letters", "dead letters", Place::Tile("dead letters"),
        "Dead letters committed to the outbox, or to the log by a step without rows.";
    counter Skipped, "skipped", "records", Place::Tile("skipped"),
        "Records skipped.";
    counter Unreadable, "unreadable", "records", Place::Field,
        "Records that could not be read and were skipped, as their source declares (`OnUnreadable::Skip`).";
    counter Late, "late", "records", Place::Field,
        "Records that were too late for all of their windows, or for a pair, whatever came of them.";
    is Kind::Quantile(0.5), "p50_ms", "ms", Place::Tile("age when told, p50"),
        "Median age of the records published in the last second, from their timestamp to the commit of the Kafka \
         transaction that tells of them; `null` without any.";
    is Kind::Quantile(0.99), "p99_ms", "ms", Place::Tile("age when told, p99"),
        "The age that 99 % of these records did not exceed.";
    counter DatabaseCommits, "database_commits", "transactions", Place::Tile("database commits"),
        "Database transactions committed.";
    counter DatabaseRetries, "database_retries", "transactions", Place::Field,
        "Database transactions that were rolled back and offered again.";
    counter KafkaCommits, "kafka_commits", "transactions", Place::Tile("Kafka commits"),
        "Kafka transactions committed.";
    counter Taints, "taints", "producers", Place::Tile("producers replaced"),
        "Producers replaced because the outcome of a transaction was in doubt.";
    counter Fencings, "fencings", "refusals", Place::Field,
        "Times that the database or the group contradicted a task or a producer, which then proves its membership before it \
         goes on. A refusal by the group may count for the producer and for its tasks.";
    counter RecoveredRows, "recovered_rows", "outbox rows", Place::Tile("published at takeovers"),
        "Outbox rows published at takeovers: an earlier owner ran their algorithm.";

    is Kind::Gauge, "next_offset", "offset", INPUT,
        "The first offset of the source partition that is not decided yet.";
    is Kind::Gauge, "committed_offset", "offset", INPUT,
        "The offset that the group has committed in Kafka; -1 before a takeover has read it; after its claim, until then, the offset noted in the database, a lower bound.";
    is Kind::Gauge, "keys", "keys", STORE,
        "Keys that the store held when it was last written, possibly an estimate.";
    is Kind::Gauge, "bytes", "bytes", STORE,
        "Bytes of keys and values that the store held when it was last written, possibly an estimate.";
    is Kind::Gauge, "next_offset", "offset", HALT,
        "The first offset that is not decided yet, where the partition halted; `null` if unknown.";
    is Kind::Gauge, "committed_offset", "offset", HALT,
        "The offset that the group has committed in Kafka; `null` if unknown.";
    is Kind::Gauge, "share", "share", RESTORE,
        "The share of the restore that is done, from 0 to 1.";
    is Kind::Total, "records", "records", RESTORE,
        "Changelog records read by the restore.";
    is Kind::Total, "bytes", "bytes", RESTORE,
        "Bytes of the keys and values of these records.";
    is Kind::Gauge, "seconds_left", "seconds", RESTORE,
        "Time to go at the speed so far; `null` while nothing has been read.";
    is Kind::Total, "count", "dead letters", LETTERS,
        "Dead letters of one source topic with one code that this instance has published.";
    is Kind::Total, "checked", "records", DECLARED,
        "Records of a declared source that were compared with the declaration.";
    is Kind::Total, "bytes_not_shuffled", "bytes", DECLARED,
        "Bytes of the records that were in the declared partition: a repartition topic would have carried them.";
    is Kind::Total, "count", "records", VIOLATION,
        "Records that were in another partition than declared.";
    is Kind::Total, "checked", "records", UNDECLARED,
        "Records with a key, of a source that declares nothing and whose keys a step relies on.";
    is Kind::Total, "elsewhere", "records", UNDECLARED,
        "Of these, records in another partition than the assumed hash names: a join misses them.";
    is Kind::Total, "by_crc32", "records", UNDECLARED,
        "Of those, records in the partition that CRC-32 names, the default of librdkafka.";
    is Kind::Total, "sampled", "records", SHUFFLE,
        "Records looked at, all of which were already in the partition that `key_by` sends them to.";
    is Kind::Total, "readings", "readings", ROLL_UP,
        "Readings that were taken. Like the others of a roll-up it counts what was decided: once more what is decided once more behind a \
         failure.";
    is Kind::Total, "repeated_readings", "readings", ROLL_UP,
        "Readings of the same device, metric, time and value as one that was there: they change nothing.";
    is Kind::Total, "late_readings", "readings", ROLL_UP,
        "Of those that were taken, readings that came when the minutes of their quarter were forgotten.";
    is Kind::Total, "quarters", "buckets", ROLL_UP,
        "Quarters of an hour, of one metric of one device each, that were written into the table.";
    is Kind::Total, "quarters_again", "buckets", ROLL_UP,
        "Of these, quarters that had been written before: something came late.";
    is Kind::Total, "requests_refused", "requests", ROLL_UP,
        "Requests with readings that were answered with 429: too much was under way.";
    is Kind::Gauge, "took_ms", "ms", RECOVERY,
        "Time from the last crash until every partition took records again; `demo` only.";
    is Kind::Gauge, "published", "outbox rows", RECOVERY,
        "Outbox rows that this recovery published; `demo` only.";
    is Kind::Gauge, "repeated", "runs", RECOVERY,
        "Runs of the algorithm that this recovery repeated; `demo` only.";
}

/// The counters, which many threads add to.
#[derive(Debug)]
pub(super) struct Counters([AtomicU64; COUNTERS]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; COUNTERS])
    }
}

impl Counters {
    pub(super) fn add(&self, counter: Counter, n: u64) {
        if let Some(count) = self.0.get(counter as usize) {
            count.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(super) fn value(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn counted(&self) -> Counted {
        Counted(self.0.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// Every counter as it was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted([u64; COUNTERS]);

impl Counted {
    /// The count of that moment.
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_counter_counts_for_itself() {
        let counters = Counters::default();
        let all: Vec<Counter> = METRICS
            .iter()
            .filter_map(|metric| match metric.kind {
                Kind::Counter(counter) => Some(counter),
                _ => None,
            })
            .collect();
        assert_eq!(all.len(), COUNTERS);
        for (n, counter) in (1..).zip(&all) {
            counters.add(*counter, n);
        }
        let counted = counters.counted();
        for (n, counter) in (1..).zip(all) {
            assert_eq!((counters.value(counter), counted.value(counter)), (n, n), "{counter:?}");
        }
    }

    #[test]
    fn no_two_metrics_are_shown_in_one_place() {
        let paths: BTreeSet<_> = METRICS.iter().map(|metric| metric.path().unwrap_or(metric.name.into())).collect();
        assert_eq!(paths.len(), METRICS.len());
    }
}
