//! One partition: records in offset order, open transactions, and the last stable offset.

use crate::flow::record::{Header, Offset, Record, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A record as the log keeps it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) offset: Offset,
    pub(super) timestamp: Timestamp,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<Header>,
}

impl Stored {
    pub(super) fn as_record(&self) -> Record<'_> {
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
        }
    }
}

/// Which transaction a record belongs to while that is open: the producer's number.
pub(super) type ProducerId = u64;

#[derive(Debug)]
struct Entry {
    record: Arc<Stored>,
    open_in: Option<ProducerId>,
}

/// The content of one partition.
///
/// Invariants: entries rise by offset; `start` <= every offset < `end`; `open` holds the first offset of each open
/// transaction that wrote here.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    start: i64,
    end: i64,
    entries: VecDeque<Entry>,
    open: BTreeMap<ProducerId, i64>,
}

impl PartitionLog {
    /// L: the first offset still there.
    pub(super) const fn start(&self) -> i64 {
        self.start
    }

    /// One past the last offset given, open transactions and markers included (Kafka's high watermark).
    pub(super) const fn end(&self) -> i64 {
        self.end
    }

    /// Where a committed reader stops: the first record of the first open transaction.
    pub(super) fn stable_end(&self) -> i64 {
        self.open.values().min().copied().unwrap_or(self.end)
    }

    /// Appends a record at the end, on its own or in an open transaction.
    pub(super) fn append(&mut self, record: impl FnOnce(Offset) -> Stored, open_in: Option<ProducerId>) -> Offset {
        let offset = self.end;
        self.end += 1;
        if let Some(producer) = open_in {
            self.open.entry(producer).or_insert(offset);
        }
        self.entries.push_back(Entry { record: Arc::new(record(Offset(offset))), open_in });
        Offset(offset)
    }

    /// Puts back a record that a journal kept.
    pub(super) fn load(&mut self, record: Stored) {
        self.end = self.end.max(record.offset.0 + 1);
        self.entries.push_back(Entry { record: Arc::new(record), open_in: None });
    }

    /// Moves the end on, over markers and aborted records.
    pub(super) fn load_end(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    /// The records that an open transaction wrote here.
    pub(super) fn open_records(&self, producer: ProducerId) -> impl Iterator<Item = &Stored> {
        let first = self.open.get(&producer).map_or(self.entries.len(), |first| self.position_of(*first));
        self.entries.range(first..).filter(move |entry| entry.open_in == Some(producer)).map(|entry| &*entry.record)
    }

    /// Ends a transaction: its records become visible or vanish, and the marker takes an offset.
    pub(super) fn finish(&mut self, producer: ProducerId, is_commit: bool) {
        let Some(first) = self.open.remove(&producer) else { return };
        self.end += 1;
        // Nothing of it lies before its first record, and the log before that may be long.
        let mut tail = self.entries.split_off(self.position_of(first));
        if is_commit {
            for entry in tail.iter_mut().filter(|entry| entry.open_in == Some(producer)) {
                entry.open_in = None;
            }
        } else {
            tail.retain(|entry| entry.open_in != Some(producer));
        }
        self.entries.append(&mut tail);
    }

    /// Forgets everything before `offset`, as retention does.
    pub(super) fn truncate_before(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.end));
        let first = self.position_of(self.start);
        self.entries.drain(..first);
    }

    /// Loses everything from `offset` on, as an unclean leader election does.
    pub(super) fn truncate_from(&mut self, offset: i64) {
        self.end = self.end.min(offset.max(self.start));
        let first = self.position_of(self.end);
        self.entries.truncate(first);
        let end = self.end;
        self.open.retain(|_, from| *from < end);
    }

    /// At most `count_max` committed records from `from` on.
    pub(super) fn read(&self, from: i64, count_max: usize) -> impl Iterator<Item = Arc<Stored>> {
        let stable_end = self.stable_end();
        self.entries
            .range(self.position_of(from)..)
            .take_while(move |entry| entry.record.offset.0 < stable_end)
            .take(count_max)
            .map(|entry| Arc::clone(&entry.record))
    }

    fn position_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.record.offset.0 < offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: Offset) -> Stored {
        Stored { offset, timestamp: Timestamp(0), key: None, value: None, headers: Vec::new() }
    }

    fn visible(partition: &PartitionLog) -> Vec<i64> {
        partition.read(0, 100).map(|record| record.offset.0).collect()
    }

    #[test]
    fn a_committed_reader_stops_at_the_first_open_transaction_and_never_sees_an_aborted_record() {
        let mut partition = PartitionLog::default();
        partition.append(record, None);
        partition.append(record, Some(7));
        partition.append(record, Some(8));
        partition.append(record, None);
        assert_eq!((visible(&partition), partition.stable_end()), (vec![0], 1));
        partition.finish(8, true);
        assert_eq!(visible(&partition), [0], "the later transaction is committed, the earlier still open");
        partition.finish(7, false);
        assert_eq!(visible(&partition), [0, 2, 3]);
        assert_eq!((partition.stable_end(), partition.end()), (6, 6), "two markers took an offset each");
    }

    #[test]
    fn a_cut_takes_the_end_and_what_lay_behind_it() {
        let mut partition = PartitionLog::default();
        partition.append(record, None);
        partition.append(record, None);
        partition.append(record, Some(7));
        partition.truncate_from(1);
        assert_eq!((partition.end(), partition.stable_end(), visible(&partition)), (1, 1, vec![0]));
        partition.finish(7, true);
        assert_eq!((partition.append(record, None), visible(&partition)), (Offset(1), vec![0, 1]));
    }

    #[test]
    fn retention_moves_the_start_and_nothing_else() {
        let mut partition = PartitionLog::default();
        for _ in 0..4 {
            partition.append(record, None);
        }
        partition.truncate_before(3);
        assert_eq!((partition.start(), partition.end(), visible(&partition)), (3, 4, vec![3]));
        partition.truncate_from(9);
        assert_eq!((partition.end(), visible(&partition)), (4, vec![3]));
        partition.truncate_before(99);
        assert_eq!((partition.start(), visible(&partition)), (4, vec![]));
    }
}
