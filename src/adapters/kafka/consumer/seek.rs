//! Seeks: the offsets that partitions are read from, and the queue that their records arrive in.

use crate::adapters::kafka::consumer::KafkaSource;
use crate::adapters::kafka::consumer::step::Step;
use crate::adapters::kafka::fault::{self, by_error};
use crate::adapters::kafka::ffi::{self, Event, Queue};
use crate::adapters::kafka::partitions::list;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::fault::Fault;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::Duration;

/// The time for which `start` tries before it answers `Retry`: a fetcher starts within milliseconds of the assignment.
const START_WAIT: Duration = Duration::from_secs(2);

impl KafkaSource {
    /// Seeks within [`START_WAIT`]; answers those that the client would not seek.
    pub(super) fn seek(&self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault> {
        let until = fault::deadline(START_WAIT);
        let mut left: Vec<(TopicPartition, NextOffset)> = positions.to_vec();
        loop {
            let list = list(left.iter().map(|(partition, next)| (partition, next.0)))?;
            let wait = fault::left(until).max(Duration::from_millis(10));
            let sought = self.consumer.seek_partitions(list, wait);
            let sought = sought.map_err(|error| Fault::retry("seek").because(error))?;
            let mut refused = None;
            let states = ffi::states(&sought);
            left.retain(|(partition, _)| {
                let is_it = |(topic, number, _): &&(String, i32, Code)| {
                    topic == partition.topic.as_str() && *number == partition.partition.0
                };
                match states.iter().find(is_it) {
                    Some((_, _, Code::NoError)) => false,
                    other => {
                        refused = Some((partition.clone(), other.map_or(Code::Fail, |(_, _, code)| *code)));
                        true
                    }
                }
            });
            let Some((partition, code)) = refused else { return Ok(()) };
            if fault::left(until).is_zero() {
                return Err(Fault::retry(format!("{partition}: seek: {code}")));
            }
            std::thread::sleep(Duration::from_millis(5)); // until the fetcher has started
        }
    }

    /// Assigns again the partitions whose fetcher librdkafka has stopped; a seek would answer "Erroneous state" for ever.
    ///
    /// Such a call would also answer a rebalance that waits in the queue, before it was reported. So everything is paused,
    /// the queue is emptied, and its events are reported first.
    pub(super) fn assign_anew(&mut self, stopped: &[TopicPartition]) -> Result<(), Fault> {
        let started: Vec<TopicPartition> = self.started.iter().cloned().collect();
        let others = list(started.iter().map(|partition| (partition, 0)))?;
        if !started.is_empty() {
            self.consumer.pause(&others).map_err(|error| by_error(&error, "pause"))?;
        }
        let rewound = self.set_aside();
        let answer = if self.aside.iter().any(|step| matches!(step, Step::Assign(_) | Step::Revoke(_))) {
            Err(Fault::retry("a rebalance waits to be told"))
        } else {
            let anew = list(stopped.iter().map(|partition| (partition, 0)))?;
            let assigned = self.consumer.incremental_unassign(&anew).and_then(|()| {
                self.consumer.incremental_assign(&anew)?;
                self.consumer.pause(&anew)
            });
            let assigned =
                assigned.map_err(|error| Fault::retry("a partition could not be assigned anew").because(error));
            assigned.and_then(|()| self.direct(stopped, true))
        };
        if !rewound.is_empty() {
            self.seek(&rewound)?;
        }
        if !started.is_empty() {
            self.consumer.resume(&others).map_err(|error| by_error(&error, "resume"))?;
        }
        answer
    }

    /// Empties the queue: events are kept for the next poll, records are to be read again from the answered positions.
    fn set_aside(&mut self) -> Vec<(TopicPartition, NextOffset)> {
        // A question to the client's own thread: when it is answered, the pause before it has taken effect.
        let _ = ffi::membership(self.consumer.client());
        let mut rewound: Vec<(TopicPartition, NextOffset)> = Vec::new();
        let Self { queue, topics, hint, aside, .. } = self;
        while let Some(step) = queue.poll(Duration::ZERO, |event| match event {
            Event::Record(fetched) => {
                let found = topics.find(fetched.topic(), fetched.partition(), hint);
                let place = found.and_then(|(task, number)| topics.partitions(&[task]).into_iter().nth(number));
                if let Some(place) = place
                    && rewound.iter().all(|(other, _)| *other != place)
                {
                    rewound.push((place, NextOffset(fetched.offset())));
                }
                Step::Nothing
            }
            event => Step::of(event),
        }) {
            if !matches!(step, Step::Nothing) {
                aside.push_back(step);
            }
        }
        rewound
    }

    /// Lets the records of `partitions` arrive where this member polls, or keeps them in queues of their own. Said for
    /// every partition that is assigned: whom it was said of once librdkafka does not send to the member by itself again.
    pub(super) fn direct(&self, partitions: &[TopicPartition], to_us: bool) -> Result<(), Fault> {
        for TopicPartition { topic, partition } in partitions {
            Queue::direct(self.consumer.client(), topic.as_str(), partition.0, to_us.then_some(&self.queue))?;
        }
        Ok(())
    }

    pub(super) fn require_owned<'a>(
        &mut self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<(), Fault> {
        for TopicPartition { topic, partition } in partitions {
            let found = self.topics.find(topic.as_str().as_bytes(), partition.0, &mut self.hint);
            if !found.is_some_and(|(task, _)| self.owned.contains(&task)) {
                return Err(Fault::retry(format!("{topic}-{partition} is not assigned to this member")));
            }
        }
        Ok(())
    }
}
