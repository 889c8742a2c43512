//! How Kafka is reached, and which client properties are ours.

use crate::settings::millis;
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::properties::Properties;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of the Kafka clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas. No default: only you know it.
    pub bootstrap_servers: String,
    /// Who runs the group. Default: `classic`, which every broker in use has.
    pub group_protocol: GroupProtocol,
    /// After so much silence the group takes an instance for dead. Default: 10 s; Kafka's 45 s would leave a dead instance's
    /// partitions idle for that long. The broker owns it under `group_protocol: consumer`.
    #[serde(rename = "session_timeout_ms", with = "millis")]
    pub session_timeout: Duration,
    /// After so long the broker aborts a dead instance's open transaction, which until then hides what comes after it from
    /// committed readers. Default: 10 s; a transaction covers publishing only, never the algorithm.
    #[serde(rename = "transaction_timeout_ms", with = "millis")]
    pub transaction_timeout: Duration,
    /// Further librdkafka properties. Those on which the guarantee rests are refused.
    pub properties: Properties,
}

/// Which group protocol is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// Members agree on the assignment (cooperative-sticky).
    #[default]
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: String::new(),
            group_protocol: GroupProtocol::default(),
            session_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(10),
            properties: Properties::default(),
        }
    }
}

/// Properties on which the guarantee rests, with what they are fixed to.
const FIXED: [(&str, &str); 11] = [
    ("auto.offset.reset", "error (pipeline.start decides where a new group begins)"),
    ("enable.auto.commit", "false: offsets are committed with what was published"),
    ("enable.auto.offset.store", "false: offsets are committed with what was published"),
    ("enable.gapless.guarantee", "its default: a failed record ends the transaction as it is"),
    ("enable.idempotence", "true: without it a retry may write a record twice"),
    ("group.id", "the pipeline's name (pipeline.name)"),
    ("group.instance.id", "none: a static member does not leave when it stops"),
    ("isolation.level", "read_committed: what was rolled back must not be read"),
    ("partition.assignment.strategy", "cooperative-sticky: the others go on during a rebalance"),
    ("partitioner", "murmur2_random: all producers of a keyed topic must agree"),
    ("transactional.id", "pipeline, slot and worker: a successor fences its predecessor by it"),
];

/// Properties that have a key of their own.
const ELSEWHERE: [(&str, &str); 5] = [
    ("bootstrap.servers", "kafka.bootstrap_servers"),
    ("group.protocol", "kafka.group_protocol"),
    ("metadata.broker.list", "kafka.bootstrap_servers"),
    ("session.timeout.ms", "kafka.session_timeout_ms"),
    ("transaction.timeout.ms", "kafka.transaction_timeout_ms"),
];

impl KafkaSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new(
            "kafka",
            "bootstrap_servers",
            Allowed::Text { what: "host:port, separated by commas", fits: are_servers },
        ),
        Rule::new("kafka", "group_protocol", Allowed::Choice(&["classic", "consumer"])),
        // The broker's own limits: group.min.session.timeout.ms and group.max.session.timeout.ms.
        Rule::new("kafka", "session_timeout_ms", Allowed::Whole { min: 6_000, max: 1_800_000 }),
        // Up to the broker's transaction.max.timeout.ms; below a second a pause of the process would end transactions.
        Rule::new("kafka", "transaction_timeout_ms", Allowed::Whole { min: 1_000, max: 900_000 }),
        Rule::map("kafka", "properties", Allowed::Text { what: "a text", fits: |_| true }),
    ];

    /// Refuses what is not the user's to set, by name and with the reason.
    pub(super) fn check_property(name: &str) -> Result<(), String> {
        if let Some((_, value)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
            return Err(format!("is fixed by Tidegate to {value}; remove it"));
        }
        if let Some((_, path)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
            return Err(format!("has a key of its own: {path}"));
        }
        Ok(())
    }

    pub(super) fn cross_check(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        if self.group_protocol != GroupProtocol::Consumer {
            return;
        }
        const MESSAGE: &str = "the broker sets it under kafka.group_protocol consumer; remove it";
        let session = "kafka.session_timeout_ms";
        if origin(session) != Origin::Default {
            problems.add(session, Some(self.session_timeout.as_millis().to_string()), MESSAGE, origin(session));
        }
        for name in ["heartbeat.interval.ms", "group.protocol.type"] {
            if let Some(value) = self.properties.value(name) {
                let path = format!("kafka.properties.{name}");
                let origin = origin(&path);
                problems.add(path, Some(value.into()), MESSAGE, origin);
            }
        }
    }
}

/// Empty, or `host:port` separated by commas.
fn are_servers(text: &str) -> bool {
    let is_server = |server: &str| {
        let server = server.trim();
        server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    text.is_empty() || text.split(',').all(is_server)
}
