//! What the report has of each source: its dead letters, how it keeps to its partitioning, and what its roll-up has done.

use crate::engine::status::{DeclaredSource, LettersOfCode, Looked, Violations};
use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::flow::rollup::{Counts, RollUp};
use serde::Serialize;

/// The dead letters of one source topic with one code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LettersReport {
    /// The source topic.
    pub source: String,
    /// The code.
    pub code: String,
    /// Number published by this instance.
    pub count: u64,
    /// `topic-partition` of the latest one's record.
    pub latest_source: String,
    /// The offset of that record.
    pub latest_offset: i64,
    /// The cause, as that dead letter tells it.
    pub latest_message: String,
}

impl From<((TopicName, String), LettersOfCode)> for LettersReport {
    fn from(((topic, code), of): ((TopicName, String), LettersOfCode)) -> Self {
        Self {
            source: topic.to_string(),
            code,
            count: of.count,
            latest_source: of.source.to_string(),
            latest_offset: of.offset.0,
            latest_message: of.message,
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

/// What one roll-up has done, as it was decided here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RollUpReport {
    /// Its name.
    pub rollup: String,
    /// Readings that were taken.
    pub readings: u64,
    /// Readings that were there already.
    pub repeated_readings: u64,
    /// Readings that came when the minutes of their quarter were forgotten.
    pub late_readings: u64,
    /// Quarters that were written.
    pub quarters: u64,
    /// Quarters that had been written before.
    pub quarters_again: u64,
    /// Requests that were told to come again.
    pub requests_refused: u64,
}

impl From<&RollUp> for RollUpReport {
    fn from(rollup: &RollUp) -> Self {
        let Counts { readings, repeated, late, quarters, quarters_again, refused } = rollup.counts();
        Self {
            rollup: rollup.name.clone(),
            readings,
            repeated_readings: repeated,
            late_readings: late,
            quarters,
            quarters_again,
            requests_refused: refused,
        }
    }
}
