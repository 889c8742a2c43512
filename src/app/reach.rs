//! The last word of a command that Kafka did not answer: which step towards the cluster fails, and what helps.

use crate::adapters::kafka::look;
use crate::app::failure::Failure;
use crate::ports::Fault;
use crate::settings::Settings;

/// Says what was not answered and why.
pub(super) fn kafka_said(fault: Fault, settings: &Settings) -> Failure {
    if !fault.is_retry() {
        return Failure::Fault(fault);
    }
    match cause(settings) {
        Some(cause) => told(&cause, settings, &fault),
        None => Failure::message(format!("kafka: {fault}")),
    }
}

/// The same for a fault of which it is not known whether it is Kafka's: added only where Kafka has a trouble.
pub(super) fn explained(failure: Failure, settings: &Settings) -> Failure {
    match failure {
        Failure::Fault(fault) if fault.is_retry() => match cause(settings) {
            Some(cause) => told(&cause, settings, &fault),
            None => Failure::Fault(fault),
        },
        other => other,
    }
}

fn cause(settings: &Settings) -> Option<String> {
    if settings.kafka.bootstrap_servers.trim().is_empty() {
        return None; // nobody was asked
    }
    look(&settings.kafka).cause()
}

fn told(cause: &str, settings: &Settings, fault: &Fault) -> Failure {
    let path = "kafka.bootstrap_servers";
    let origin = settings.origin_of(path);
    Failure::message(format!("kafka: {cause}\n  {path}: {origin}\n  {fault}"))
}
