//! Changelogs, and table topics, as a restore reads them: one partition at a time, committed records only, to an end that
//! is not the last stable offset.

use super::fault::{by_code_of, by_error};
use super::ffi::{self, Event, Failure, Queue};
use super::group::start_and_end;
use super::partitions::list;
use super::rights::{Operation, Right};
use super::settings::KafkaSettings;
use super::{Quiet, Reader};
use crate::flow::record::{Header, NextOffset, Offset, Record, Timestamp, TopicPartition};
use crate::ports::changelog::ChangelogReader;
use crate::ports::fault::Fault;
use crate::ports::source::Bounds;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::sync::Arc;
use std::time::Duration;

/// The deadline of each question.
const WAIT: Duration = Duration::from_secs(5);

/// Reads changelogs. Never joins a group.
pub struct KafkaChangelog {
    queue: Queue<Reader>,
    consumer: Arc<Reader>,
    /// Asks for ends: a committed reader would get the last stable offset in place of the end.
    uncommitted: Reader,
    reading: Option<(TopicPartition, NextOffset)>,
    headers: Vec<Header>,
}

/// The kind of one event of the queue.
enum Taken {
    /// A record, and more are wanted.
    Record,
    /// A record, and no more are wanted.
    LastRecord,
    /// Nothing to show.
    Other,
}

impl KafkaChangelog {
    /// Makes a reader.
    ///
    /// # Errors
    /// `Fatal` when the settings will not do.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, Fault> {
        let mut config = settings.reader("tidegate-restore")?;
        config.set("enable.partition.eof", "true");
        let make = |config: &rdkafka::ClientConfig| {
            let made: Result<BaseConsumer<Quiet>, _> = config.create_with_context(Quiet);
            made.map(Reader::new).map_err(|error| by_error(&error, "reader of changelogs"))
        };
        let consumer = Arc::new(make(&config)?);
        let queue = Queue::of_consumer(consumer.client(), consumer.clone())?;
        let uncommitted = make(config.set("isolation.level", "read_uncommitted"))?;
        Ok(Self { queue, consumer, uncommitted, reading: None, headers: Vec::new() })
    }

    /// Takes one event, if there is one.
    fn step(&mut self, wait: Duration, visit: &mut dyn FnMut(&Record<'_>) -> bool) -> Result<Option<Taken>, Fault> {
        let Self { queue, reading, headers, .. } = self;
        let Some((place, position)) = reading else { return Ok(None) };
        let told = queue.poll(wait, |event| match event {
            Event::Record(fetched) => {
                // One of an earlier partition may still be in the queue.
                if fetched.partition() != place.partition.0 || fetched.topic() != place.topic.as_str().as_bytes() {
                    return Ok(Taken::Other);
                }
                fetched.headers(headers);
                *position = NextOffset(fetched.offset().saturating_add(1));
                let wants_more = visit(&Record {
                    offset: Offset(fetched.offset()),
                    timestamp: Timestamp(fetched.timestamp()),
                    key: fetched.key(),
                    value: fetched.value(),
                    headers,
                });
                Ok(if wants_more { Taken::Record } else { Taken::LastRecord })
            }
            // Markers and aborted records are shown to nobody, but the end that the client reports lies behind them.
            Event::Failure(Failure { code: Code::PartitionEOF, place: Some((topic, number, offset)), .. }) => {
                if topic == place.topic.as_str() && number == place.partition.0 {
                    *position = NextOffset(position.0.max(offset));
                }
                Ok(Taken::Other)
            }
            Event::Failure(Failure { code: Code::AutoOffsetReset, text, .. }) => {
                Err(Fault::corrupt(format!("{place}: records were deleted while they were read: {text}")))
            }
            Event::Failure(Failure { code, text, place: Some(_), .. }) => {
                let needs = [Right::topic(Operation::Read, place.topic.as_str())];
                Err(by_code_of(code, &format!("{place}: {text}"), &needs))
            }
            _ => Ok(Taken::Other),
        });
        told.transpose()
    }
}

impl ChangelogReader for KafkaChangelog {
    fn bounds(&mut self, place: &TopicPartition) -> Result<Bounds, Fault> {
        let topic = place.topic.as_str();
        // A topic that is not there would be a partition unknown, for which the client asks again and again.
        if ffi::describe_topic(self.consumer.client(), topic, WAIT)?.is_none() {
            return Err(Fault::corrupt(format!("there is no topic {topic}")));
        }
        start_and_end(self.uncommitted.client(), place, WAIT)
    }

    fn begin(&mut self, place: &TopicPartition, from: NextOffset) -> Result<(), Fault> {
        let one = list(std::iter::once((place, from.0)))?;
        self.consumer.assign(&one).map_err(|error| by_error(&error, &format!("{place}: assign")))?;
        self.reading = Some((place.clone(), from));
        Ok(())
    }

    fn read(
        &mut self,
        wait: Duration,
        records_max: usize,
        visit: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Result<NextOffset, Fault> {
        let (mut shown, mut wait) = (0, wait);
        while shown < records_max {
            match self.step(wait, visit)? {
                None | Some(Taken::LastRecord) => break,
                Some(Taken::Record) => shown += 1,
                Some(Taken::Other) => {}
            }
            wait = Duration::ZERO;
        }
        match &self.reading {
            Some((_, position)) => Ok(*position),
            None => Err(Fault::retry("no changelog is being read")),
        }
    }

    fn end(&mut self) {
        self.reading = None;
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!("reader of changelogs: unassign: {error}");
        }
    }
}
