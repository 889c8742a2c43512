//! Apache Kafka through librdkafka: the only folder that names rdkafka.
//!
//! [`consumer`] is the port `source`, [`producer`] the port `sink`, [`changelog`] what a restore
//! reads, [`history`] what the audit reads, [`offsets`] what repairs
//! write, [`admin`] what `topics plan` and `apply` need, [`feed`] a plain producer for loads and tests.

pub mod admin;
mod assignment;
mod bounded;
pub mod changelog;
pub mod consumer;
mod fault;
pub mod feed;
mod ffi;
mod group;
pub mod history;
pub mod offsets;
pub mod producer;
pub mod settings;
pub mod taint;
mod topics;

pub use admin::{KafkaAdmin, TopicSpec};
pub use changelog::KafkaChangelog;
pub use consumer::KafkaSource;
pub use feed::KafkaFeed;
pub use history::KafkaHistory;
pub use offsets::KafkaOffsets;
pub use producer::KafkaSink;
pub use settings::{GroupProtocol, KafkaSettings};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

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

impl ConsumerContext for Quiet {
    /// Called only while a consumer is dropped that was not closed; [`consumer`] answers rebalances otherwise. Everything
    /// is given up, the companions too, or the client would wait for them for ever.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, _: &mut TopicPartitionList) {
        let answer = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            consumer.incremental_assign(&TopicPartitionList::new())
        } else {
            consumer.assignment().and_then(|all| consumer.incremental_unassign(&all))
        };
        if answer.is_err()
            && let Err(error) = consumer.unassign()
        {
            tracing::debug!("kafka client: unassign at the end: {error}");
        }
    }
}

/// A line of librdkafka's log. Its levels are syslog's. None is an error of ours: what matters comes back as a fault too,
/// and a producer that was fenced, which librdkafka calls critical, is ordinary (hazard H13).
fn log_line(level: i32, facility: &str, line: &str) {
    match level {
        _ if facility == "CONFWARN" => {} // a property of a consumer is set for a producer too, on purpose
        ..=4 if !matches!(facility, "TXNERR" | "FATAL") => tracing::warn!(facility, "librdkafka: {line}"),
        5..=6 => tracing::info!(facility, "librdkafka: {line}"),
        _ => tracing::debug!(facility, "librdkafka: {line}"),
    }
}
