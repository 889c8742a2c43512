//! Failures that the client reports: some end the member, some go to the listener, some are only logged.

use crate::adapters::kafka::consumer::KafkaSource;
use crate::adapters::kafka::fault::by_code_of;
use crate::adapters::kafka::ffi::Failure;
use crate::adapters::kafka::is_repetition;
use crate::adapters::kafka::rights::{Operation, Right};
use crate::ports::fault::Fault;
use crate::ports::source::Listener;
use rdkafka::error::RDKafkaErrorCode as Code;

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
                    tracing::warn!("group {}: {code}: {text}; the client tries again", self.group.name());
                }
                Ok(())
            }
            // The client asks to join again, every second and for ever.
            (Code::InvalidSessionTimeout, None) => Err(Fault::fatal(format!(
                "group {}: the broker refuses the session timeout: set session_timeout_ms between its \
                 group.min.session.timeout.ms and its group.max.session.timeout.ms",
                self.group.name()
            ))),
            (Code::InconsistentGroupProtocol | Code::GroupMaxSizeReached, None) => {
                self.refused(*code, listener);
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
}
