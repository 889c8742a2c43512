//! How Kafka is reached.

#[cfg(feature = "kafka")]
pub(crate) use crate::flow::nearest::nearest;
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::properties::Properties;
use crate::settings::rule::{Allowed, Rule};
use crate::settings::{security, servers};
use serde::{Deserialize, Serialize};

/// Settings of the Kafka clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// `host:port` of one or more brokers, separated by commas. No default: only you know it.
    #[serde(rename = "kafka.bootstrap_servers")]
    pub bootstrap_servers: String,
    /// How the members of the group agree. Default: `classic`, which every broker in use has.
    #[serde(rename = "kafka.group_protocol")]
    pub group_protocol: GroupProtocol,
    /// After this silence, in milliseconds, the group takes an instance for dead and gives its partitions to others.
    /// Default: 10 s; Kafka's 45 s would leave a dead instance's partitions idle for that long. The broker owns it under
    /// `group_protocol: consumer`.
    #[serde(rename = "kafka.session_timeout_ms")]
    pub session_timeout_ms: u32,
    /// After so long, in milliseconds, the broker aborts a dead instance's open transaction, which until then hides what
    /// comes after it from committed readers; a takeover behind it waits, plus the broker's sweep interval of 10 s. Also the
    /// deadline of each call of a transaction. Default: 10 s; a transaction covers publishing only, never the algorithm.
    #[serde(rename = "kafka.transaction_timeout_ms")]
    pub transaction_timeout_ms: u32,
    /// Further settings of librdkafka by their own names, such as `security.protocol`. Those on which the guarantee rests
    /// are refused.
    #[serde(rename = "kafka.properties")]
    pub properties: Properties,
    /// Not for users. Whether producers learn the offsets of what they sent: needed where changelogs are written, and a
    /// tenth of a microsecond a message.
    #[serde(skip)]
    pub reports_offsets: bool,
    /// Not for users. `host:port` where this member can be asked for its stores; empty where it cannot. The group is told
    /// by the client's id, which every member can read.
    #[serde(skip)]
    pub advertised_address: String,
}

/// How the members of a group agree on who has which partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// The clients compute the assignment, with `cooperative-sticky`. The default: librdkafka 2.12.1 has silent stalls
    /// under the other one (docs/traps.md#the-broker-side-protocol).
    #[default]
    Classic,
    /// The broker computes it (KIP-848). Session timeout and heartbeats are then settings of the broker.
    Consumer,
}

/// Up to the time after which a member that does not poll leaves the group (`max.poll.interval.ms`, 5 minutes); the broker's
/// `group.min.session.timeout.ms` is 6 s unless it was lowered.
pub(crate) const SESSION_TIMEOUT_MS: (i64, i64) = (1_000, 300_000);
/// Up to the broker's `transaction.max.timeout.ms`; below a second a pause of the process would end transactions.
pub(crate) const TRANSACTION_TIMEOUT_MS: (i64, i64) = (1_000, 900_000);

const OF_THE_BROKER: &str = "the broker sets it under kafka.group_protocol consumer; remove it";

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: String::new(),
            group_protocol: GroupProtocol::default(),
            session_timeout_ms: 10_000,
            transaction_timeout_ms: 10_000,
            properties: Properties::default(),
            reports_offsets: false,
            advertised_address: String::new(),
        }
    }
}

impl KafkaSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new(
            "kafka",
            "bootstrap_servers",
            Allowed::Told { what: "host:port, separated by commas", mistake: servers::mistake },
        ),
        Rule::new("kafka", "group_protocol", Allowed::Choice(&["classic", "consumer"])),
        Rule::new("kafka", "session_timeout_ms", Allowed::within(SESSION_TIMEOUT_MS)),
        Rule::new("kafka", "transaction_timeout_ms", Allowed::within(TRANSACTION_TIMEOUT_MS)),
        Rule::map("kafka", "properties", Allowed::Text { what: "a text", fits: |_| true }),
    ];

    pub(super) fn cross_check(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        self.cross_check_times(origin, problems);
        if self.group_protocol != GroupProtocol::Consumer {
            return;
        }
        let session = "kafka.session_timeout_ms";
        if origin(session) != Origin::Default {
            problems.add(session, Some(self.session_timeout_ms.to_string()), OF_THE_BROKER, origin(session));
        }
        for name in ["heartbeat.interval.ms", "group.protocol.type"] {
            if let Some(value) = self.properties.value(name) {
                let path = format!("kafka.properties.{name}");
                let origin = origin(&path);
                problems.add(path, Some(value.into()), OF_THE_BROKER, origin);
            }
        }
    }
}

impl KafkaSettings {
    /// Times that must lie below others.
    fn cross_check_times(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        let request_max = self.transaction_timeout_ms.saturating_sub(100);
        let bounds = [
            ("socket.timeout.ms", request_max, "kafka.transaction_timeout_ms less 100"),
            ("heartbeat.interval.ms", self.session_timeout_ms.saturating_sub(1), "less than kafka.session_timeout_ms"),
        ];
        for (name, most, what) in bounds {
            let Some(text) = self.properties.value(name) else { continue };
            if text.parse::<u32>().is_ok_and(|value| value > most) {
                let path = format!("kafka.properties.{name}");
                let origin = origin(&path);
                problems.add(path, Some(text.into()), format!("expected at most {most} ({what})"), origin);
            }
        }
    }

    /// Looks for what a connection needs: both halves of a login, and the files that the properties name.
    pub(super) fn check_needs(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        let protocol = self.properties.value("security.protocol").unwrap_or("plaintext");
        if let Some(server) = servers::of_another_protocol(&self.bootstrap_servers, protocol) {
            let path = "kafka.bootstrap_servers";
            let message = format!("differs from kafka.properties.security.protocol, which is {protocol}");
            problems.add(path, Some(server.into()), message, origin(path));
        }
        for (name, sentence) in security::mistakes(&self.properties) {
            let path = format!("kafka.properties.{name}");
            let origin = origin(&path);
            problems.add(path, None, sentence, origin);
        }
        for (name, file, why) in security::unusable(&self.properties) {
            let path = format!("kafka.properties.{name}");
            let origin = origin(&path);
            problems.add(path, Some(file.into()), why, origin);
        }
    }
}
