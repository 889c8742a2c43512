//! An event of a queue, read once.

use crate::adapters::kafka::ffi::record::Fetched;
use crate::adapters::kafka::ffi::texts::{elements, owned, text};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::ptr::{self, NonNull};

/// An event, destroyed when it goes out of scope on any path.
pub(super) struct Owned {
    pub(super) event: NonNull<sys::rd_kafka_event_t>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and everything borrowed from it has the lifetime of a borrow of self.
        unsafe { sys::rd_kafka_event_destroy(self.event.as_ptr()) };
    }
}

/// An event that a queue delivers.
pub(in crate::adapters::kafka) enum Event<'a> {
    /// A record.
    Record(Fetched<'a>),
    /// The group gives these partitions. Must be answered by an assign, also when there are none.
    Assign(Vec<(String, i32)>),
    /// The group takes these partitions. Must be answered by an unassign.
    Revoke(Vec<(String, i32)>),
    /// An error, of one partition or of the client.
    Failure(Failure),
    /// A line of the client's log: level (7 is debug), facility, text.
    Line(i32, &'a str, &'a str),
    /// The client's statistics, as JSON.
    Statistics(&'a [u8]),
    /// The end of a plain commit.
    Committed(Code, Vec<(String, i32, Code)>),
    /// Nothing for us.
    Other,
}

/// An error that a queue delivers.
pub(in crate::adapters::kafka) struct Failure {
    /// The code.
    pub(in crate::adapters::kafka) code: Code,
    /// The client is of no use any more.
    pub(in crate::adapters::kafka) is_fatal: bool,
    /// librdkafka's words.
    pub(in crate::adapters::kafka) text: String,
    /// Topic, partition and offset where the error has a place.
    pub(in crate::adapters::kafka) place: Option<(String, i32, i64)>,
}

impl Owned {
    pub(super) fn read(&self) -> Event<'_> {
        let event = self.event.as_ptr();
        // SAFETY: in this function every call reads from the event, which lives as long as the borrow of self. The lists and
        // texts stay the event's; values kept longer are copied. The partition of an error is a copy of its own.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_FETCH => {
                    let message = sys::rd_kafka_event_message_next(event);
                    message.as_ref().map_or(Event::Other, |message| Event::Record(Fetched { message }))
                }
                sys::RD_KAFKA_EVENT_REBALANCE => {
                    let partitions = elements(sys::rd_kafka_event_topic_partition_list(event));
                    let partitions = partitions.into_iter().map(|(topic, partition, _)| (topic, partition)).collect();
                    match sys::rd_kafka_event_error(event) {
                        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assign(partitions),
                        _ => Event::Revoke(partitions),
                    }
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    let place = sys::rd_kafka_event_topic_partition(event);
                    let copied = place.as_ref().map(|place| (owned(text(place.topic)), place.partition, place.offset));
                    if !place.is_null() {
                        sys::rd_kafka_topic_partition_destroy(place);
                    }
                    Event::Failure(Failure {
                        code: sys::rd_kafka_event_error(event).into(),
                        is_fatal: sys::rd_kafka_event_error_is_fatal(event) != 0,
                        text: owned(text(sys::rd_kafka_event_error_string(event))),
                        place: copied,
                    })
                }
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                    if sys::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) != 0 {
                        return Event::Other;
                    }
                    let facility = std::str::from_utf8(text(facility)).unwrap_or("?");
                    let line = std::str::from_utf8(text(line)).unwrap_or("?");
                    Event::Line(level, facility.trim(), line.trim())
                }
                sys::RD_KAFKA_EVENT_STATS => Event::Statistics(text(sys::rd_kafka_event_stats(event))),
                sys::RD_KAFKA_EVENT_OFFSET_COMMIT => Event::Committed(
                    sys::rd_kafka_event_error(event).into(),
                    elements(sys::rd_kafka_event_topic_partition_list(event)),
                ),
                _ => Event::Other,
            }
        }
    }
}
