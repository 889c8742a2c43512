//! librdkafka's error codes by what the caller does next.

use super::ffi::CallError;
use super::rights::{Right, lacking};
use crate::ports::fault::Fault;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::time::{Duration, Instant};

/// No repetition helps: rights are missing, the broker is too old, or the settings do not suit it.
fn is_hopeless(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
            | Code::InvalidTransactionTimeout
            | Code::InvalidGroupId
            | Code::OffsetMetadataTooLarge
    )
}

/// The group refuses us as the member that we were when the membership was captured.
fn is_membership_over(code: Code) -> bool {
    matches!(
        code,
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::RebalanceInProgress
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
    )
}

/// Another producer has the transactional id now, or the broker ended the transaction by its timeout.
pub(super) fn is_producer_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Something was waited for in vain.
pub(super) fn is_timeout(code: Code) -> bool {
    matches!(code, Code::OperationTimedOut | Code::MessageTimedOut)
}

/// The broker that was asked does not lead the partition, or does no longer: the next metadata names another one.
pub(super) fn is_led_elsewhere(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::FencedLeaderEpoch | Code::UnknownLeaderEpoch
        )
    )
}

/// Whether the broker refuses the same offer every time: because of the message, its topic, or the size of the offsets.
fn is_refused(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::InvalidDifferentRecord
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidTopic
            | Code::InvalidTimestamp
            | Code::InvalidRecord
            | Code::InvalidCommitOffsetSize
    )
}

/// The transaction has ended before, by an error that this code does not name.
pub(super) fn is_consequence(code: Code) -> bool {
    matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::State | Code::Fatal)
}

/// The fault of a transaction after any of its calls or deliveries ended with `code`: the table of `docs/errors.md`.
pub(super) fn in_transaction(code: Code, message: String) -> Fault {
    if is_refused(code) { Fault::corrupt(message) } else { sorted(code, message) }
}

/// `Fenced`, `Fatal` or `Retry` for `code`; `what` is the sentence's beginning and names the topic or group.
pub(super) fn by_code(code: Code, what: &str) -> Fault {
    sorted(code, format!("{what}: {code}"))
}

/// The same as [`by_code`] for a request that needs rights: a missing one is named.
pub(super) fn by_code_of(code: Code, what: &str, needs: &[Right<'_>]) -> Fault {
    sorted(code, format!("{what}: {}", words(code, "", needs)))
}

/// The same as [`by_error`] for a request that needs rights: a missing one is named.
pub(super) fn by_error_of(error: &KafkaError, what: &str, needs: &[Right<'_>]) -> Fault {
    match error.rdkafka_error_code().filter(|code| lacking(*code, needs).is_some()) {
        Some(code) => by_code_of(code, what, needs),
        None => by_error(error, what),
    }
}

/// The fault of a question or change that an administrator's request made: the broker's own sentence is kept, and a missing
/// right is named. What a broker has looked at and refused it refuses again: no `Retry`.
pub(super) fn by_answer(error: &CallError, what: &str, needs: &[Right<'_>]) -> Fault {
    let message = format!("{what}: {}", words(error.code, &error.text, needs));
    if is_refused(error.code) || is_refused_change(error.code) {
        Fault::fatal(message)
    } else {
        sorted(error.code, message)
    }
}

/// What is said of an error: the missing right, or the author's own sentence, or the code's description.
pub(super) fn words(code: Code, said: &str, needs: &[Right<'_>]) -> String {
    let described = code.to_string();
    match lacking(code, needs) {
        Some(right) => format!("{right} ({code:?})"),
        None if said.is_empty() || described.contains(said) => described,
        None => format!("{said} ({code:?})"),
    }
}

/// Whether the broker refuses a change of a topic, and would refuse it again.
fn is_refused_change(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidReplicaAssignment
            | Code::InvalidRequest
            | Code::PolicyViolation
            | Code::TopicAlreadyExists
    )
}

fn sorted(code: Code, message: String) -> Fault {
    if is_membership_over(code) {
        Fault::fenced(message)
    } else if is_hopeless(code) {
        Fault::fatal(message)
    } else {
        Fault::retry(message)
    }
}

/// The same as [`by_code`] for an error of the wrapper.
pub(super) fn by_error(error: &KafkaError, what: &str) -> Fault {
    match error {
        // The value is left out: it may be a password.
        KafkaError::ClientConfig(_, description, name, _) => {
            Fault::fatal(format!("{what}: properties: {name}: {description}"))
        }
        KafkaError::ClientCreation(description) => Fault::fatal(format!("{what}: {description}")),
        other => match other.rdkafka_error_code() {
            Some(code) => by_code(code, what),
            None => Fault::retry(format!("{what}: {other}")),
        },
    }
}

/// A moment `wait` from now.
#[expect(clippy::disallowed_methods, reason = "deadlines of blocking calls; no decision about data rests on them")]
pub(super) fn deadline(wait: Duration) -> Instant {
    Instant::now() + wait
}

/// The time left until `until`, zero when it has passed.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(deadline(Duration::ZERO))
}

/// Asks, and asks again while `wait` lasts and the fault is a `Retry`; `ask` gets the rest of the time.
///
/// For what librdkafka asks of one broker and of no other: admin requests, which it fails when the metadata no longer names that
/// broker, as while a cluster comes back (`_DESTROY_BROKER`), and a log's start and end.
pub(super) fn asked_again<T>(wait: Duration, mut ask: impl FnMut(Duration) -> Result<T, Fault>) -> Result<T, Fault> {
    let until = deadline(wait);
    loop {
        match ask(left(until)) {
            Err(fault) if fault.is_retry() && !left(until).is_zero() => {
                std::thread::sleep(left(until).min(Duration::from_millis(50)));
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ffi;
    use super::super::rights::Operation;
    use super::*;
    use crate::adapters::documented;
    use rdkafka::types::RDKafkaConfRes;

    /// The document's word for the outcome of a transaction.
    fn class_of(code: Code) -> &'static str {
        match in_transaction(code, String::new()) {
            Fault::Retry(_) if is_producer_fenced(code) => "Retry, counted",
            fault => fault.class(),
        }
    }

    #[test]
    fn every_code_of_the_library_stands_once_in_the_document_with_its_class() {
        let mut rows = documented::rows("Codes of a transaction");
        let mut others = documented::rows("Codes that cannot come from these calls");
        for (code, name) in ffi::known_codes() {
            let [cell, number] = [format!("`{name}`"), (code as i32).to_string()];
            let class = rows.remove(&cell);
            let is_other = others.remove(&cell);
            match (class, is_other) {
                (Some(row), None) => {
                    assert_eq!((row[1].as_str(), row[3].as_str()), (number.as_str(), class_of(code)), "{name}");
                }
                (None, Some(row)) => {
                    assert_eq!((row[1].as_str(), "Retry"), (number.as_str(), class_of(code)), "{name}: no row needed?");
                }
                (class, _) => {
                    panic!("{name} ({number}) stands {} in the document", class.map_or("nowhere", |_| "twice"))
                }
            }
        }
        assert!(rows.is_empty() && others.is_empty(), "codes that the library does not know: {rows:?} {others:?}");
    }

    #[test]
    fn outside_of_a_transaction_nothing_is_refused() {
        assert!(by_code(Code::MessageSizeTooLarge, "topic t").is_retry());
        assert!(by_code(Code::IllegalGeneration, "group g").is_fenced());
        assert!(matches!(by_code(Code::TopicAuthorizationFailed, "topic t"), Fault::Fatal(_)));
        assert!(by_code(Code::TopicAuthorizationFailed, "topic t").to_string().starts_with("topic t: "));
    }

    #[test]
    fn an_administrators_refusal_keeps_the_brokers_sentence_and_names_a_missing_right() {
        let said = |code, text: &str| {
            let needs = [Right::topic(Operation::AlterConfigs, "readings")];
            by_answer(&CallError { code, text: text.into() }, "topic readings", &needs)
        };
        let refused = said(Code::InvalidConfig, "Invalid value two for configuration min.insync.replicas");
        assert!(matches!(refused, Fault::Fatal(_)));
        assert_eq!(
            refused.to_string(),
            "topic readings: Invalid value two for configuration min.insync.replicas (InvalidConfig)"
        );
        let plain = said(Code::InvalidReplicationFactor, "Broker: Invalid replication factor");
        assert_eq!(
            plain.to_string(),
            "topic readings: InvalidReplicationFactor (Broker: Invalid replication factor)",
            "the code's own description is said once"
        );
        let denied = said(Code::TopicAuthorizationFailed, "Topic authorization failed.").to_string();
        assert!(denied.contains("no right AlterConfigs on topic readings") && !denied.contains("failed."), "{denied}");
        assert!(said(Code::NotController, "").is_retry());
        assert!(said(Code::OperationTimedOut, "Timed out waiting for controller").is_retry());
    }

    #[test]
    fn a_refused_property_is_named_and_its_value_is_not_told() {
        let refused = RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
        let error = KafkaError::ClientConfig(refused, "bad value".into(), "sasl.password".into(), "hunter2".into());
        let fault = by_error(&error, "kafka");
        assert!(matches!(fault, Fault::Fatal(_)));
        assert!(fault.to_string().contains("sasl.password") && !fault.to_string().contains("hunter2"));
    }

    #[test]
    fn what_a_vanished_broker_was_asked_is_asked_again_while_there_is_time() {
        let vanished = || by_code(Code::DestroyBroker, "topic a");
        let mut answers = vec![Ok(7), Err(vanished()), Err(vanished())];
        assert_eq!(asked_again(Duration::from_secs(10), |_| answers.pop().unwrap()).unwrap(), 7);

        let mut asked = 0;
        let mut ask = |fault: Fault| {
            asked += 1;
            Err::<(), _>(fault)
        };
        let refused = asked_again(Duration::from_secs(10), |_| ask(Fault::fatal("no rights"))).unwrap_err();
        assert!(matches!(refused, Fault::Fatal(_)), "{refused}");
        let in_vain = asked_again(Duration::from_millis(120), |_| ask(vanished())).unwrap_err();
        assert!(in_vain.is_retry(), "{in_vain}");
        assert!((3..=5).contains(&asked), "{asked}");
    }
}
