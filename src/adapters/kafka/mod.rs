//! Apache Kafka through librdkafka: the only folder that names rdkafka.
//!
//! [`consumer`] is the port `source`, [`producer`] the port `sink`, [`history`] what the audit reads, [`admin`] what
//! `topics plan` and `apply` need, [`feed`] a plain producer for loads and tests.

pub mod admin;
mod assignment;
pub mod consumer;
mod fault;
pub mod feed;
mod ffi;
mod group;
pub mod history;
pub mod producer;
pub mod settings;
pub mod taint;

pub use admin::{KafkaAdmin, TopicSpec};
pub use consumer::KafkaSource;
pub use feed::KafkaFeed;
pub use history::KafkaHistory;
pub use producer::KafkaSink;
pub use settings::{GroupProtocol, KafkaSettings};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

/// A context that only logs.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("kafka client: {error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}

/// A line of librdkafka's log. Its levels are syslog's; what it calls a failed connection passes by itself.
fn log_line(level: i32, facility: &str, line: &str) {
    match level {
        _ if facility == "CONFWARN" => {} // a property of a consumer is set for a producer too, on purpose
        ..=2 => tracing::error!(facility, "librdkafka: {line}"),
        3..=4 => tracing::warn!(facility, "librdkafka: {line}"),
        5..=6 => tracing::info!(facility, "librdkafka: {line}"),
        _ => tracing::debug!(facility, "librdkafka: {line}"),
    }
}
