//! The offsets of a group as an operator writes them: from a client that has not joined.
//!
//! Such a commit names neither member nor generation, and the broker takes it only while the group has no members. Tried on
//! Apache Kafka 4.3.1 with the classic protocol; under KIP-848 it is the same by the broker's source.

use super::fault::{by_code_of, by_error};
use super::ffi;
use super::group::offsets;
use super::rights::{Operation, Right};
use super::settings::KafkaSettings;
use super::{Quiet, Reader};
use crate::flow::record::TopicPartition;
use crate::ports::fault::Fault;
use crate::ports::repair::Offsets;
use crate::ports::source::Committed;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::Duration;

/// [`Offsets`] on Kafka.
pub struct KafkaOffsets {
    coordinators: ffi::Coordinators,
    consumer: Reader,
    group: String,
}

impl KafkaOffsets {
    /// A client for the offsets of `group`, which it never joins.
    ///
    /// # Errors
    /// `Fatal` when the settings will not do.
    pub fn connect(settings: &KafkaSettings, group: &str) -> Result<Self, Fault> {
        let config = settings.reader(group)?;
        let consumer: Result<BaseConsumer<Quiet>, _> = config.create_with_context(Quiet);
        let consumer = consumer.map(Reader::new).map_err(|error| by_error(&error, "client for offsets"))?;
        Ok(Self { coordinators: ffi::Coordinators::default(), consumer, group: group.into() })
    }
}

impl Offsets for KafkaOffsets {
    fn members(&self, wait: Duration) -> Result<usize, Fault> {
        Ok(ffi::describe_group(&self.coordinators, self.consumer.client(), &self.group, wait)?.len())
    }

    fn commit(&self, commits: &[(TopicPartition, Committed)], wait: Duration) -> Result<(), Fault> {
        ffi::commit(self.consumer.client(), &offsets(commits)?, wait).map_err(|code| {
            let needs = [Right::group(Operation::Read, &self.group)];
            by_code_of(code, &format!("group {}: commit of offsets", self.group), &needs)
        })
    }
}
