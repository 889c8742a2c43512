//! Apache Kafka through librdkafka: the only folder that names rdkafka.
//!
//! [`consumer`] is the port `source`, [`producer`] the port `sink`. A restore reads by [`changelog`], the audit by
//! [`history`]; repairs write by [`offsets`], and `topics plan` and `apply` use [`admin`]. [`feed`] is a plain producer for
//! loads and tests.

pub mod admin;
mod assignment;
mod bounded;
pub mod changelog;
pub mod consumer;
mod descriptors;
mod fault;
pub mod feed;
mod ffi;
mod grantee;
mod group;
pub mod history;
mod internal;
pub mod offsets;
mod partitions;
mod probe;
pub mod producer;
pub mod properties;
mod reach;
#[cfg(test)]
mod refusals;
mod rights;
pub mod settings;
mod sight;
mod statistics;
pub mod taint;
mod topics;

pub use admin::{KafkaAdmin, TopicSpec};
pub use changelog::KafkaChangelog;
pub use consumer::KafkaSource;
pub use descriptors::too_few_descriptors;
pub use feed::KafkaFeed;
pub use grantee::grantee;
pub use history::KafkaHistory;
pub use offsets::KafkaOffsets;
pub use probe::{Start, try_start};
pub use producer::{KafkaSink, TopicLimits};
pub use reach::{Reach, look};
pub use rights::{Grantee, Operation, Right, not_allowed};
pub use settings::{GroupProtocol, KafkaSettings, MAX_POLL_INTERVAL};

use ffi::Parting;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A consumer that only logs.
type Reader = Parting<BaseConsumer<Quiet>>;

/// A context that only logs.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("kafka client: {error}: {reason}");
    }

    /// Says nothing, where the library's own would log all of it.
    fn stats_raw(&self, _: &[u8]) {}
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

/// A line of librdkafka's log. Its levels are syslog's. None is an error of ours: a relevant one comes back as a fault too,
/// and a fenced producer is ordinary although librdkafka calls it critical (docs/traps.md#fatal-is-ordinary).
fn log_line(level: i32, facility: &str, line: &str) {
    descriptors::hear(line);
    match level {
        _ if facility == "CONFWARN" => {} // a property of a consumer is set for a producer too, on purpose
        ..=6 if facility == "FAIL" && is_repetition(line) => tracing::debug!(facility, "librdkafka: {line}"),
        ..=4 if !matches!(facility, "TXNERR" | "FATAL") => tracing::warn!(facility, "librdkafka: {line}"),
        5..=6 => tracing::info!(facility, "librdkafka: {line}"),
        _ => tracing::debug!(facility, "librdkafka: {line}"),
    }
}

/// The time within which the same trouble with a connection is logged once: each client has a thread a broker, and each of
/// them logs it.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Whether any thread has logged the same a moment ago; the duration in the text does not count.
fn is_repetition(line: &str) -> bool {
    static TOLD: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.retain(|_, until| !fault::left(*until).is_zero());
    let is_told = told.contains_key(trouble(line));
    if !is_told {
        told.insert(trouble(line).to_owned(), fault::deadline(TELL_AGAIN));
    }
    is_told
}

/// `[thrd:…]: name: address: Connect to … failed: … (after …)` without the parts that differ from thread to thread.
fn trouble(line: &str) -> &str {
    let from = line.find("Connect to ").or_else(|| line.find("]: ").map(|at| at + 3)).unwrap_or(0);
    let said = line.get(from..).unwrap_or(line);
    said.split(" (after ").next().unwrap_or(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_with_a_connection_is_one_whatever_thread_says_it() {
        let said = |thread: &str, after: &str| {
            format!(
                "[thrd:{thread}]: {thread}: 127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after {after})"
            )
        };
        assert_eq!(
            trouble(&said("TxnCoordinator", "0ms in state CONNECT")),
            "Connect to ipv4#127.0.0.1:1 failed: Connection refused"
        );
        assert!(!is_repetition(&said("127.0.0.1:1/bootstrap", "0ms in state CONNECT")));
        assert!(is_repetition(&said("TxnCoordinator", "3ms in state CONNECT, 1 identical error(s) suppressed")));
        assert!(!is_repetition("[thrd:a]: 127.0.0.1:2/1: Disconnected (after 5ms in state UP)"));
        assert_eq!(
            trouble("[thrd:a]: 127.0.0.1:2/1: Disconnected (after 5ms in state UP)"),
            "127.0.0.1:2/1: Disconnected"
        );
    }
}
