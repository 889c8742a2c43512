//! The audit's reading of a topic: everything that a committed reader sees, from end to end.

use super::fault::{self, by_code_of, by_error};
use super::ffi::{self, Event, Failure, Queue};
use super::group::{KafkaGroup, start_and_end};
use super::partitions::list;
use super::rights::{Operation, Right};
use super::settings::KafkaSettings;
use super::{Quiet, Reader};
use crate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::history::{Found, TopicHistory};
use crate::ports::source::{Bounds, Group};
use crate::ports::topics::no_topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::sync::Arc;
use std::time::Duration;

/// The deadline of each question, and of a partition that delivers nothing new.
const WAIT: Duration = Duration::from_secs(30);

/// The time to wait for open transactions of a topic: a dead producer's ends by its timeout, at most 15 s, and the broker's
/// sweep of 10 s.
const OPEN_WAIT: Duration = Duration::from_secs(40);

/// A committed reader of whole topics. Never joins the group whose offsets it reads.
pub struct KafkaHistory {
    queue: Queue<Reader>,
    consumer: Arc<Reader>,
    /// Asks for ends: a committed reader would get the last stable offset in place of the end.
    uncommitted: Reader,
    group: KafkaGroup,
}

impl KafkaHistory {
    /// Makes a reader for the positions of `group`.
    ///
    /// # Errors
    /// `Fatal` when the settings will not do.
    pub fn connect(settings: &KafkaSettings, group: &str) -> Result<Self, Fault> {
        let mut config = settings.reader(group)?;
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(|error| by_error(&error, "reader of topics"))?;
        let consumer = Arc::new(Reader::new(consumer));
        let queue = Queue::of_consumer(consumer.client(), consumer.clone())?;
        config.set("isolation.level", "read_uncommitted");
        let uncommitted = config.create_with_context(Quiet).map_err(|error| by_error(&error, "reader of topics"))?;
        let uncommitted = Reader::new(uncommitted);
        Ok(Self { queue, group: KafkaGroup::of_a_person(consumer.clone(), group), consumer, uncommitted })
    }

    /// The questions about the group, asked by nobody of its members.
    #[must_use]
    pub fn group(&self) -> Arc<dyn Group> {
        Arc::new(self.group.clone())
    }

    /// Reads one partition from its start to `end`. The last offsets may be markers of transactions, which no reader is
    /// shown (docs/traps.md#the-end-of-a-partition): the end has come when the client says so at or beyond
    /// `end`, or a record lies there.
    fn each_of(&mut self, place: &TopicPartition, bounds: Bounds, visit: &mut dyn FnMut(Found)) -> Result<(), Fault> {
        if bounds.start >= bounds.end {
            return Ok(());
        }
        let whole = list(std::iter::once((place, bounds.start.0)))?;
        self.consumer.assign(&whole).map_err(|error| by_error(&error, &format!("{place}: assign")))?;
        let mut headers = Vec::new();
        let mut until = fault::deadline(WAIT);
        loop {
            let step = self.queue.poll(Duration::from_millis(500), |event| match event {
                Event::Record(fetched) if fetched.offset() >= bounds.end.0 => Step::Done,
                Event::Record(fetched) => {
                    fetched.headers(&mut headers);
                    visit(Found {
                        partition: fetched.partition(),
                        offset: fetched.offset(),
                        timestamp: Timestamp(fetched.timestamp()),
                        key: fetched.key().map(<[u8]>::to_vec),
                        value: fetched.value().map(<[u8]>::to_vec),
                        headers: headers.clone(),
                    });
                    if fetched.offset().saturating_add(1) >= bounds.end.0 { Step::Done } else { Step::Progress }
                }
                Event::Failure(Failure { code: Code::PartitionEOF, place: Some((_, _, offset)), .. }) => {
                    if offset >= bounds.end.0 { Step::Done } else { Step::Idle }
                }
                Event::Failure(Failure { code, text, place: Some(_), .. }) => Step::Failed(code, text),
                _ => Step::Idle,
            });
            match step {
                Some(Step::Done) => break,
                Some(Step::Progress) => until = fault::deadline(WAIT),
                Some(Step::Failed(code, text)) => {
                    let needs = [Right::topic(Operation::Read, place.topic.as_str())];
                    return Err(by_code_of(code, &format!("{place}: {text}"), &needs));
                }
                Some(Step::Idle) | None if fault::left(until).is_zero() => {
                    return Err(Fault::retry(format!("{place}: nothing new within {} s", WAIT.as_secs())));
                }
                Some(Step::Idle) | None => {}
            }
        }
        self.consumer.unassign().map_err(|error| by_error(&error, &format!("{place}: unassign")))
    }
}

enum Step {
    Progress,
    Done,
    Idle,
    Failed(Code, String),
}

impl KafkaHistory {
    fn places(&self, topic: &TopicName) -> Result<Vec<TopicPartition>, Fault> {
        let found = ffi::describe_topic(self.consumer.client(), topic.as_str(), WAIT)?;
        let found = found.ok_or_else(|| Fault::corrupt(no_topic(topic)))?;
        Ok((0..found.partitions).map(|number| TopicPartition::new(topic.clone(), Partition(number))).collect())
    }
}

impl TopicHistory for KafkaHistory {
    fn await_open(&mut self, topic: &TopicName) -> Result<(), Fault> {
        let until = fault::deadline(OPEN_WAIT);
        for place in self.places(topic)? {
            let end = start_and_end(self.uncommitted.client(), &place, WAIT)?.end;
            while self.group.bounds(&place, WAIT)?.end < end {
                if fault::left(until).is_zero() {
                    return Err(Fault::retry(format!(
                        "{place}: a transaction has been open for {} s and hides what lies behind it; \
                         kafka-transactions.sh find-hanging names its producer",
                        OPEN_WAIT.as_secs()
                    )));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    fn starts(&mut self, topic: &TopicName) -> Result<Vec<NextOffset>, Fault> {
        let places = self.places(topic)?;
        places.iter().map(|place| Ok(self.group.bounds(place, WAIT)?.start)).collect()
    }

    fn each_message(&mut self, topic: &TopicName, visit: &mut dyn FnMut(Found)) -> Result<(), Fault> {
        let places = self.places(topic)?;
        let bounds: Result<Vec<Bounds>, Fault> = places.iter().map(|place| self.group.bounds(place, WAIT)).collect();
        for (place, bounds) in places.iter().zip(bounds?) {
            self.each_of(place, bounds, visit)?;
        }
        Ok(())
    }

    fn progress(&mut self, sources: &[TopicPartition]) -> Result<Vec<(Option<NextOffset>, NextOffset)>, Fault> {
        let committed = self.group.committed(sources, WAIT)?;
        let one = |(source, committed): (&TopicPartition, Option<crate::ports::source::Committed>)| {
            let end = self.group.bounds(source, WAIT)?.end;
            Ok((committed.map(|committed| committed.next_offset), end))
        };
        sources.iter().zip(committed).map(one).collect()
    }
}
