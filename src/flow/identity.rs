//! Deterministic ids: the same record and notice have the same id on every attempt.

use crate::flow::record::{Offset, TopicPartition};
use std::fmt;

/// The header that carries the id of a published notice; `ce_id` carries the same bytes.
pub const ID_HEADER: &str = "tg_id";

/// The header with the version of the row that a notice reports, in decimal digits.
pub const VERSION_HEADER: &str = "tg_version";

/// The header that carries the threshold that a notice passed, where the filter is a named threshold.
pub const THRESHOLD_HEADER: &str = "tg_threshold";

/// Holds the bytes that decide the partition of a notice's message in place of its key. It stays in the outbox: the message
/// does not have it.
pub(crate) const PARTITION_HEADER: &str = "tg_partition_by";

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

/// Begins the names of headers that have a meaning for Tidegate.
pub(crate) const OWN_PREFIX: &str = "tg_";

/// Marks a dead letter; Spring Kafka's prefix, so that its tools read ours.
pub(crate) const DEAD_LETTER_PREFIX: &str = "kafka_dlt-";

/// The name of the timer that a dead letter tells of.
pub(crate) const TIMER_HEADER: &str = "tg_timer";

/// The span of the window that a dead letter tells of.
pub(crate) const WINDOW_HEADER: &str = "tg_window";

/// The value of that header: `start/end`, both in milliseconds since 1970, UTC.
pub(crate) fn span_of(start_ms: i64, end_ms: i64) -> String {
    format!("{start_ms}/{end_ms}")
}

/// The header with the media type of a notice. Its outbox row holds it where it is not JSON.
pub(crate) const CONTENT_TYPE_HEADER: &str = "content-type";

/// The names of the other headers that each notice has: the CloudEvents attributes (Kafka binding, binary mode).
pub(crate) const EVENT_HEADERS: [&str; 5] = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"];

/// Whether only Tidegate may write a header of this name on any message: on a record that was sent to us it is another
/// pipeline's, or of an earlier life of the same record.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(OWN_PREFIX) || name.starts_with(DEAD_LETTER_PREFIX)
}

/// Whether Tidegate writes a header of this name on notices.
pub(crate) fn is_ours(name: &str) -> bool {
    is_reserved(name) || name == CONTENT_TYPE_HEADER || EVENT_HEADERS.contains(&name)
}
