//! Failures that the client reports: some end the member, some go to the listener, some are only logged.

use crate::adapters::kafka::consumer::KafkaSource;
use crate::adapters::kafka::fault::{self, by_code_of};
use crate::adapters::kafka::ffi::Failure;
use crate::adapters::kafka::is_repetition;
use crate::adapters::kafka::rights::{Operation, Right};
use crate::ports::fault::Fault;
use crate::ports::source::Listener;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::Duration;

/// The interval between warnings that the group does not let this member join.
const TELL_REFUSAL: Duration = Duration::from_secs(30);

impl KafkaSource {
    pub(super) fn failed(&mut self, failure: &Failure, listener: &mut dyn Listener) -> Result<(), Fault> {
        let Failure { code, is_fatal, text, place } = failure;
        if *is_fatal {
            return Err(Fault::fatal(format!("group {}: {code}: {text}", self.group.name())));
        }
        match (code, place) {
            (Code::AutoOffsetReset, Some((topic, partition, offset))) => {
                let Some((task, number)) = self.topics.find(topic.as_bytes(), *partition, &mut self.hint) else {
                    return Ok(());
                };
                let Some(found) = self.topics.partitions(&[task]).into_iter().nth(number) else { return Ok(()) };
                if self.owned.contains(&task) && self.started.remove(&found) {
                    self.stopped.insert(found);
                    listener.out_of_range(task, number, &format!("{topic}-{partition} at {offset}: {text}"));
                } else {
                    self.stopped.insert(found); // before its first seek: the seek will start the fetcher again
                }
                Ok(())
            }
            (Code::AutoOffsetReset | Code::PartitionEOF, _) => Ok(()),
            // Connections come and go, and librdkafka reconnects by itself: with each attempt, ten times a second and more.
            (
                Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::PollExceeded,
                _,
            ) => {
                if is_repetition(&code.to_string()) {
                    tracing::debug!("group {}: {code}: {text}", self.group.name());
                } else {
                    tracing::warn!("group {}: {code}: {text}", self.group.name());
                }
                Ok(())
            }
            // The client asks to join again, every second and for ever.
            (Code::InvalidSessionTimeout, None) => Err(Fault::fatal(format!(
                "group {}: the broker refuses the session timeout: set session_timeout_ms between its \
                 group.min.session.timeout.ms and its group.max.session.timeout.ms",
                self.group.name()
            ))),
            (Code::InconsistentGroupProtocol, None) => {
                self.refused(
                    "a member of this group id speaks another protocol than cooperative-sticky: end what uses the id beside \
                     this pipeline, or give the pipeline another name",
                );
                Ok(())
            }
            (Code::GroupMaxSizeReached, None) => {
                self.refused("it has as many members as the broker's group.max.size allows: raise that, or run fewer");
                Ok(())
            }
            (code, Some((topic, partition, _))) => {
                let needs = [Right::topic(Operation::Read, topic)];
                Err(by_code_of(*code, &format!("{topic}-{partition}: {text}"), &needs))
            }
            (code, None) => {
                let needs = [Right::group(Operation::Read, self.group.name())];
                Err(by_code_of(*code, &format!("group {}: {text}", self.group.name()), &needs))
            }
        }
    }

    /// The group does not let this member join, for a cause that does not go by itself.
    fn refused(&mut self, why: &str) {
        if fault::left(self.tell_refusal_at).is_zero() {
            self.tell_refusal_at = fault::deadline(TELL_REFUSAL);
            tracing::warn!("group {}: this instance is not let in: {why}", self.group.name());
        }
    }
}
