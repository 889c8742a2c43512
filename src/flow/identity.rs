//! Deterministic ids: the same record and notice have the same id on every attempt.

use crate::flow::record::{Offset, TopicPartition};
use std::fmt;

/// The header that carries the id of a published notice; `ce_id` carries the same bytes.
pub const ID_HEADER: &str = "tg_id";

/// The header with the version of the row that a notice reports, in decimal digits.
pub const VERSION_HEADER: &str = "tg_version";

/// The header that carries the threshold that a notice passed, where the filter is a named threshold.
pub const THRESHOLD_HEADER: &str = "tg_threshold";

/// Names one notice of one record: `pipeline/topic/partition/source_offset/seq`, with `/incarnation` added once it is above 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoticeId<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The source partition of the input record.
    pub source: &'a TopicPartition,
    /// The input record.
    pub source_offset: Offset,
    /// Which of the record's notices, from 0.
    pub seq: i32,
    /// Number of times that an operator has declared the source partition new.
    pub incarnation: i32,
}

impl fmt::Display for NoticeId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TopicPartition { topic, partition } = self.source;
        write!(f, "{}/{topic}/{partition}/{}/{}", self.pipeline, self.source_offset, self.seq)?;
        if self.incarnation > 0 { write!(f, "/{}", self.incarnation) } else { Ok(()) }
    }
}
