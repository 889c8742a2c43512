//! A plain producer, for loads and tests: idempotent, without transactions.

use super::fault::{self, by_code, by_error};
use super::ffi;
use super::producer::Deliveries;
use super::settings::KafkaSettings;
use crate::flow::record::{Header, Timestamp, TopicName};
use crate::ports::fault::Fault;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use std::time::Duration;

/// The deadline of a flush, and of a full queue.
const WAIT: Duration = Duration::from_mins(1);

/// A plain producer.
pub struct KafkaFeed {
    producer: ThreadedProducer<Deliveries>,
}

impl KafkaFeed {
    /// Makes a producer; connections follow with the first record.
    ///
    /// # Errors
    /// `Fatal` when the settings will not do.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, Fault> {
        let mut config = settings.producer("tidegate-feed")?;
        // With several requests under way librdkafka takes the refusal of a later one for a gap, begins a new epoch, and
        // sends the records again: where a leader changed they are written twice (librdkafka #4953, the likely cause of one
        // such record in the random mix).
        config.set("max.in.flight.requests.per.connection", "1");
        let producer = config.create_with_context(Deliveries::default()).map_err(|error| by_error(&error, "feed"))?;
        Ok(Self { producer })
    }

    /// Queues one record; waits when the queue is full. `partition`: `None` lets the key decide, by murmur2.
    ///
    /// # Errors
    /// `Retry` or `Fatal` when the client refuses it.
    pub fn send(
        &self,
        topic: &TopicName,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), Fault> {
        self.send_at(topic, partition, key, value, headers, None)
    }

    /// The same as [`KafkaFeed::send`], with an event time of the record's own; `None`: now.
    ///
    /// # Errors
    /// The same as [`KafkaFeed::send`].
    pub fn send_at(
        &self,
        topic: &TopicName,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
        at: Option<Timestamp>,
    ) -> Result<(), Fault> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic.as_str(), 0);
        (record.partition, record.key, record.payload) = (partition, key, value);
        record.timestamp = at.map(|at| at.0);
        if !headers.is_empty() {
            let insert = |all: OwnedHeaders, header: &Header| {
                all.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() })
            };
            record = record.headers(headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), insert));
        }
        let mut until = None;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back))
                    if !fault::left(*until.get_or_insert_with(|| fault::deadline(WAIT))).is_zero() =>
                {
                    record = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(by_error(&error, &format!("topic {topic}"))),
            }
        }
    }

    /// Waits until every record has been acknowledged.
    ///
    /// # Errors
    /// `Retry` or `Fatal` with the first topic whose record failed.
    pub fn flush(&self) -> Result<(), Fault> {
        let flushed = ffi::flush(self.producer.client(), WAIT);
        if let Some((topic, code)) = self.producer.client().context().take_failed() {
            return Err(by_code(code, &format!("topic {topic}")));
        }
        flushed.map_err(|code| by_code(code, "flush"))
    }
}
