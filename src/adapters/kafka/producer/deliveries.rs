//! Deliveries of a producer, as the thread that serves its events has seen them.

use crate::adapters::kafka::statistics::{SLOW_FOR, Statistics};
use crate::adapters::kafka::{fault, log_line};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The results seen by the thread that serves the producer's events.
#[derive(Default)]
pub(in crate::adapters::kafka) struct Deliveries {
    seen: Mutex<Seen>,
}

#[derive(Default)]
pub(super) struct Seen {
    /// The first delivery that failed: its topic and why.
    failed: Option<(String, Code)>,
    /// The first error of the client itself.
    pub(super) error: Option<String>,
    /// One past the last offset of each tracked partition; the opaque of a tracked message is its place here plus one.
    pub(super) ends: Vec<i64>,
    /// How long it is believed that brokers hold this producer back.
    slow_until: Option<Instant>,
}

impl Deliveries {
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Seen) -> R) -> R {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether brokers hold this producer back.
    pub(super) fn is_slowed(&self) -> bool {
        self.with(|seen| seen.slow_until.is_some_and(|until| !fault::left(until).is_zero()))
    }

    /// The first delivery that failed since the last call.
    pub(in crate::adapters::kafka) fn take_failed(&self) -> Option<(String, Code)> {
        self.with(|seen| seen.failed.take())
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("producer: {error}: {reason}");
        self.with(|seen| {
            seen.error.get_or_insert_with(|| format!("{error}: {reason}"));
        });
    }

    fn stats_raw(&self, json: &[u8]) {
        let is_slowed = !Statistics::read(json).slowing().is_empty();
        if is_slowed {
            self.with(|seen| seen.slow_until = Some(fault::deadline(SLOW_FOR)));
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    /// Called for failures only (`delivery.report.only.error`), unless offsets are to be reported.
    fn delivery(&self, result: &DeliveryResult<'_>, tracked: usize) {
        match result {
            Ok(_) if tracked == 0 => {}
            Ok(message) => self.with(|seen| {
                if let Some(end) = seen.ends.get_mut(tracked - 1) {
                    *end = (*end).max(message.offset().saturating_add(1));
                }
            }),
            Err((error, message)) => {
                let code = code_of(error);
                self.with(|seen| {
                    seen.failed.get_or_insert_with(|| (message.topic().to_owned(), code));
                });
            }
        }
    }
}

/// The error's code; the library's general one where the wrapper has none.
pub(super) fn code_of(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}
