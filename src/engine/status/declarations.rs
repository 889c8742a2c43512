//! The placement of records by key: against the declared partitioning, against the assumed one, and before a change of
//! key.

use crate::flow::record::{Offset, Partition, TopicName, TopicPartition};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Records held against their source's declaration.
#[derive(Debug, Default)]
pub struct Declarations {
    sources: Mutex<BTreeMap<TopicName, DeclaredSource>>,
}

/// The record of one source against its declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredSource {
    /// Records held against it.
    pub checked: u64,
    /// Bytes of keys, values and headers, before compression, of the records that lay where they were declared:
    /// `key_by` would have written them to a repartition topic and read them again.
    pub bytes_not_shuffled: u64,
    /// Records that lay elsewhere, by the partition they were found in.
    pub violations: BTreeMap<Partition, Violations>,
}

/// Records of one partition that lay elsewhere than declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violations {
    /// Their number.
    pub count: u64,
    /// The first one.
    pub first_offset: i64,
    /// The partition where it belongs.
    pub expected_partition: i32,
}

/// Records of a share that were held against its source's declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The number of records that lay where they were declared, and their bytes.
    pub(crate) there: (u64, u64),
    /// The records that lay elsewhere, each with the partition where it belongs.
    pub(crate) elsewhere: Vec<(Offset, i32)>,
}

impl Declarations {
    /// Adds `records` of a source that lay where they were declared, with `bytes` in all.
    pub(crate) fn in_place(&self, topic: &TopicName, records: u64, bytes: u64) {
        self.with(topic, |found| {
            found.checked += records;
            found.bytes_not_shuffled += bytes;
        });
    }

    /// Adds the findings of a batch about one source partition.
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
                tracing::warn!(partition = %source, offset = offset.0, expected_partition = expected, "a record lies in another partition than its source declares; most likely its producer has another partitioner: mend it, or declare the source as it is (`OnViolation`)");
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

    /// The findings, by source topic: those of which a record has come.
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

/// The placement of the keys of one such source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The hash by which they would all meet.
    pub assumed: &'static str,
    /// Records with a key.
    pub checked: u64,
    /// Records among these in another partition than that hash names.
    pub elsewhere: u64,
    /// Records among those that lie in the partition of CRC-32.
    pub by_crc32: u64,
}

impl Undeclared {
    /// Adds the findings of a slice. Misplaced records are warned of when there are some, and whenever there are ten
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

    /// The findings, by source topic: those of which a keyed record has come.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<TopicName, Looked> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sampled re-keyed records, and the number of them that lay in their new key's partition already, by source topic.
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

    /// The sources whose records lie already where their new keys belong, each with the number of sampled records:
    /// their shuffle can be removed. All of some hundred records must lie in place, which does not happen by chance
    /// where there is more than one partition.
    #[must_use]
    pub fn needless(&self) -> BTreeMap<TopicName, u64> {
        let samples = self.samples().into_iter();
        samples.filter(|(_, (all, there))| *all >= 100 && all == there).map(|(topic, (all, _))| (topic, all)).collect()
    }
}
