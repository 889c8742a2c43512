//! librdkafka's error codes by what the caller does next.

use crate::ports::fault::Fault;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::time::{Duration, Instant};

/// No repetition helps: rights are missing, or the broker is too old.
pub(super) fn is_hopeless(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::InvalidTransactionTimeout
    )
}

/// The group refuses us as the member that we were when the membership was captured.
pub(super) fn is_membership_over(code: Code) -> bool {
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

/// `Fenced`, `Fatal` or `Retry` for `code`; `what` is the sentence's beginning and names the topic or group.
pub(super) fn by_code(code: Code, what: &str) -> Fault {
    let message = format!("{what}: {code}");
    if is_membership_over(code) {
        Fault::fenced(message)
    } else if is_hopeless(code) {
        Fault::fatal(message)
    } else {
        Fault::retry(message)
    }
}

/// As [`by_code`] for an error of the wrapper.
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

/// What is left until `deadline`, zero when it has passed.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(deadline(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::types::RDKafkaConfRes;

    #[test]
    fn codes_are_sorted_by_what_the_caller_does_next() {
        for code in [Code::IllegalGeneration, Code::UnknownMemberId, Code::FencedInstanceId, Code::RebalanceInProgress]
        {
            assert!(by_code(code, "group g").is_fenced(), "{code}");
        }
        for code in [Code::TopicAuthorizationFailed, Code::TransactionalIdAuthorizationFailed, Code::UnsupportedVersion]
        {
            assert!(matches!(by_code(code, "topic t"), Fault::Fatal(_)), "{code}");
        }
        for code in
            [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch, Code::OperationTimedOut, Code::Fail]
        {
            assert!(by_code(code, "producer p").is_retry(), "{code}: ordinary, the producer is renewed");
        }
        assert!(is_producer_fenced(Code::Fenced) && is_producer_fenced(Code::ProducerFenced));
        assert!(!is_producer_fenced(Code::IllegalGeneration), "the group's business, not the producer's");
        assert!(by_code(Code::TopicAuthorizationFailed, "topic t").to_string().starts_with("topic t: "));
    }

    #[test]
    fn a_refused_property_is_named_and_its_value_is_not_told() {
        let refused = RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
        let error = KafkaError::ClientConfig(refused, "bad value".into(), "sasl.password".into(), "hunter2".into());
        let fault = by_error(&error, "kafka");
        assert!(matches!(fault, Fault::Fatal(_)));
        assert!(fault.to_string().contains("sasl.password") && !fault.to_string().contains("hunter2"));
    }
}
