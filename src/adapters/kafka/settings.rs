//! What the settings come to for librdkafka: its properties for each kind of client. Those that nobody may set, because the
//! exactly-once protocol rests on them, are set last.

use crate::adapters::kafka::properties::own_name;
use crate::ports::fault::Fault;
use crate::ports::guard::{self, Guard};
pub use crate::settings::kafka::{GroupProtocol, KafkaSettings};
use crate::settings::kafka::{SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::time::Duration;

/// The oldest librdkafka that may run this: before 2.10 it lost assignments on commit
/// (docs/traps.md#an-old-client-library).
const LIBRDKAFKA_MIN: i32 = 0x020a_0000;

/// A member that does not poll for this long leaves the group: librdkafka's default, far above the longest batch. A revoke
/// may take a fifth of it.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_mins(5);

const STATISTICS: &str = "statistics.interval.ms";
const HEARTBEAT: &str = "heartbeat.interval.ms";
/// Leaves most of two seconds for the rest of a takeover from a member that leaves in order.
const HEARTBEAT_MS_MAX: u32 = 500;

/// Defaults of the consumer that `properties` may change.
const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    ("fetch.message.max.bytes", "2097152"), // at 1 MiB the batch that is cut off is fetched again: 1.5 times the bytes
    ("fetch.queue.backoff.ms", "5"),        // librdkafka's 1000 stalls a partition for a second once its queue is full
    ("fetch.wait.max.ms", "25"),            // bounds how long a quiet partition holds back the news of a busy one
    ("queued.max.messages.kbytes", "4096"), // one queue for all partitions, and one for each held back
    ("queued.min.messages", "1000"),        // per partition; measured with it: 1.3 M records/s of 100 B
    ("socket.keepalive.enable", "true"),    // a load balancer that forgets a flow is noticed
    ("topic.metadata.refresh.interval.ms", "60000"), // a raised partition count is noticed within a minute
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "200"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "2000"), // librdkafka's 10 s would be added to every broker restart
];

/// Defaults of the producers that `properties` may change.
const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    ("retry.backoff.ms", "2"), // CONCURRENT_TRANSACTIONS while the broker writes markers: 9.2 ms against 3.4 ms
    ("retry.backoff.max.ms", "100"),
    ("linger.ms", "5"),                       // a flush ends it
    ("batch.size", "1000000"),                // librdkafka's; below the broker's default max.message.bytes of 1048588
    ("compression.codec", "lz4"),             // halves the bytes, at 780 MB/s a core by its own figures
    ("message.max.bytes", "10485760"),        // so that the topic's own limit decides
    ("queue.buffering.max.kbytes", "262144"), // bounds memory; librdkafka's is 1 GiB
    ("sticky.partitioning.linger.ms", "10"),
    ("socket.keepalive.enable", "true"),
    ("topic.metadata.refresh.interval.ms", "60000"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "2000"),
];

impl KafkaSettings {
    /// Everything that is wrong with the settings, as one sentence each; empty when they will do. librdkafka itself
    /// refuses unknown names and bad values when a client is made.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.bootstrap_servers.trim().is_empty() {
            errors.push("bootstrap_servers: name at least one broker as host:port".into());
        }
        let ranges = [
            ("session_timeout_ms", self.session_timeout_ms, SESSION_TIMEOUT_MS),
            ("transaction_timeout_ms", self.transaction_timeout_ms, TRANSACTION_TIMEOUT_MS),
        ];
        for (name, value, (low, high)) in ranges {
            if !(low..=high).contains(&i64::from(value)) {
                errors.push(format!("{name}: {value} is not between {low} and {high} milliseconds"));
            }
        }
        errors.extend(self.properties.owned().map(|(name, reason)| format!("properties: {name} {reason}")));
        let too_long = |name: &str, limit: u32| {
            let value: u32 = self.properties.value(name)?.parse().ok()?;
            (value > limit)
                .then(|| format!("properties: {name} must be at most {limit} (transaction_timeout_ms - 100)"))
        };
        errors.extend(too_long("socket.timeout.ms", self.transaction_timeout_ms.saturating_sub(100)));
        errors
    }

    /// The deadline of each call of a transaction.
    #[must_use]
    pub(super) fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms.into())
    }

    /// The value of a producer property as it will be used.
    pub(super) fn producer_property(&self, name: &str) -> Option<&str> {
        let ours = PRODUCER_DEFAULTS.iter().find(|(ours, _)| *ours == name).map(|(_, value)| *value);
        self.property(name).or(ours)
    }

    /// The value that the user gave a property, under either of its names.
    fn property(&self, name: &str) -> Option<&str> {
        let is_it = |other: &str| other == name || own_name(other) == own_name(name);
        self.properties.iter().find(|(other, _)| is_it(other)).map(|(_, value)| value)
    }

    fn base(&self, client_id: &str, defaults: &[(&str, &str)]) -> Result<ClientConfig, Fault> {
        super::ffi::version_at_least(LIBRDKAFKA_MIN)?;
        let errors = self.errors();
        if !errors.is_empty() {
            return Err(Fault::fatal(format!("kafka settings: {}", errors.join("; "))));
        }
        let mut config = ClientConfig::new();
        for (name, value) in defaults.iter().filter(|(name, _)| self.property(name).is_none()) {
            config.set(*name, *value);
        }
        for (name, value) in self.properties.iter() {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", client_id);
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }

    /// Sets the time to wait for one request, unless the properties set it: a transaction has time for a second one. With
    /// librdkafka's minute a partition would stand still that long when the answer to its `Fetch` is lost.
    fn bound_requests(&self, config: &mut ClientConfig) {
        if self.properties.value("socket.timeout.ms").is_none() {
            let request_ms = self.transaction_timeout_ms.saturating_sub(500).max(500);
            config.set("socket.timeout.ms", request_ms.to_string());
        }
    }

    /// Sets the interval of the statistics, by which quotas and open transactions are seen.
    fn measure(&self, config: &mut ClientConfig) {
        if self.properties.value(STATISTICS).is_none() {
            config.set(STATISTICS, super::statistics::EVERY.as_millis().to_string());
        }
    }

    /// A consumer that reads committed records of assigned partitions and commits nothing by itself.
    pub(super) fn reader(&self, group: &str) -> Result<ClientConfig, Fault> {
        let mut config = self.base(group, CONSUMER_DEFAULTS)?;
        self.bound_requests(&mut config);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false");
        Ok(config)
    }

    /// The interval of a member's heartbeats, unless the properties say otherwise. A member hears of a rebalance by the
    /// answer to a heartbeat, so a longer interval would prolong every orderly takeover.
    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis((self.session_timeout_ms / 10).clamp(1, HEARTBEAT_MS_MAX).into())
    }

    /// A member of a group.
    pub(super) fn member(&self, group: &str, instance_id: Option<&str>) -> Result<ClientConfig, Fault> {
        let mut config = self.reader(group)?;
        if guard::is_off(Guard::StableK) {
            config.set("isolation.level", "read_uncommitted");
        }
        config.set("max.poll.interval.ms", MAX_POLL_INTERVAL.as_millis().to_string());
        self.measure(&mut config);
        if !self.advertised_address.is_empty() {
            config.set("client.id", format!("{group}@{}", self.advertised_address));
        }
        match self.group_protocol {
            GroupProtocol::Classic => {
                config
                    .set("group.protocol", "classic")
                    .set("partition.assignment.strategy", "cooperative-sticky")
                    .set("session.timeout.ms", self.session_timeout_ms.to_string());
                if self.properties.value(HEARTBEAT).is_none() {
                    config.set(HEARTBEAT, self.heartbeat().as_millis().to_string());
                }
            }
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        if let Some(instance_id) = instance_id {
            config.set("group.instance.id", instance_id);
        }
        Ok(config)
    }

    /// A producer without transactions.
    pub(super) fn producer(&self, client_id: &str) -> Result<ClientConfig, Fault> {
        let mut config = self.base(client_id, PRODUCER_DEFAULTS)?;
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("allow.auto.create.topics", "false")
            .set("delivery.report.only.error", "true");
        Ok(config)
    }

    /// A producer with transactions, whose debug log shows silent retries (docs/protocol.md#the-late-request).
    pub(super) fn transactional(&self, transactional_id: &str) -> Result<ClientConfig, Fault> {
        let mut config = self.producer(transactional_id)?;
        self.bound_requests(&mut config);
        self.measure(&mut config);
        config
            .set("delivery.report.only.error", (!self.reports_offsets).to_string())
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", self.transaction_timeout_ms.to_string())
            .set("message.timeout.ms", self.transaction_timeout_ms.to_string())
            .set("debug", super::taint::DEBUG_CONTEXTS)
            .set_log_level(RDKafkaLogLevel::Debug);
        Ok(config)
    }

    /// A client for questions and for the administration of topics.
    pub(super) fn admin(&self) -> Result<ClientConfig, Fault> {
        let defaults = [("socket.keepalive.enable", "true"), ("retry.backoff.ms", "20")];
        let mut config = self.base("tidegate-admin", &defaults)?;
        config.set("allow.auto.create.topics", "false");
        self.bound_requests(&mut config); // a coordinator's answer that is lost would hold up a start
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::owned::{ELSEWHERE, FIXED};

    fn named() -> KafkaSettings {
        KafkaSettings { bootstrap_servers: "localhost:9092".into(), ..KafkaSettings::default() }
    }

    #[test]
    fn every_owned_property_is_refused_by_name_and_all_at_once() {
        let mut settings = named();
        let owned = || FIXED.iter().chain(&ELSEWHERE);
        for (name, _) in owned() {
            settings.properties.insert((*name).into(), "x".into());
        }
        let errors = settings.errors();
        assert_eq!(errors.len(), owned().count());
        for (name, reason) in owned() {
            assert!(errors.iter().any(|error| error.contains(name) && error.contains(reason)), "{name}");
        }
        assert!(settings.member("g", None).is_err());
    }

    #[test]
    fn tunables_are_replaced_and_owned_settings_stay() {
        let mut settings = named();
        settings.properties.insert("linger.ms".into(), "1".into());
        settings.properties.insert("fetch.wait.max.ms".into(), "7".into());
        assert_eq!(settings.errors(), Vec::<String>::new());
        let producer = settings.transactional("p-0").unwrap();
        assert_eq!(producer.get("linger.ms"), Some("1"));
        assert_eq!(producer.get("transactional.id"), Some("p-0"));
        assert_eq!(producer.get("acks"), Some("all"));
        assert_eq!(producer.get("socket.timeout.ms"), Some("9500"));
        let member = settings.member("g", Some("slot-1")).unwrap();
        assert_eq!(member.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(member.get("socket.timeout.ms"), Some("9500"));
        assert_eq!(settings.admin().unwrap().get("socket.timeout.ms"), Some("9500"), "a lost answer holds up no start");
        assert_eq!(member.get("isolation.level"), Some("read_committed"));
        assert_eq!(member.get("auto.offset.reset"), Some("error"));
        assert_eq!(member.get("group.instance.id"), Some("slot-1"));
        assert_eq!(member.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    }

    #[test]
    fn a_tunable_is_replaced_under_its_other_name_too() {
        let mut settings = named();
        for (alias, value) in
            [("compression.type", "none"), ("queue.buffering.max.ms", "7"), ("max.partition.fetch.bytes", "1234567")]
        {
            settings.properties.insert(alias.into(), value.into());
        }
        for _ in 0..20 {
            let producer = settings.transactional("p-0").unwrap().create_native_config().unwrap();
            assert_eq!(producer.get("compression.codec").unwrap(), "none");
            assert_eq!(producer.get("queue.buffering.max.ms").unwrap(), "7");
            let member = settings.member("g", None).unwrap().create_native_config().unwrap();
            assert_eq!(member.get("fetch.message.max.bytes").unwrap(), "1234567");
        }
    }

    #[test]
    fn a_member_hears_of_a_rebalance_soon_whatever_its_session_is() {
        let heartbeat = |session_timeout_ms: u32| {
            let settings = KafkaSettings { session_timeout_ms, ..named() };
            settings.member("g", None).unwrap().get(HEARTBEAT).map(str::to_owned)
        };
        assert_eq!(heartbeat(45_000).as_deref(), Some("500"));
        assert_eq!(heartbeat(named().session_timeout_ms).as_deref(), Some("500"));
        assert_eq!(heartbeat(3_000).as_deref(), Some("300"));
        let mut settings = named();
        settings.properties.insert(HEARTBEAT.into(), "1000".into());
        assert_eq!(settings.member("g", None).unwrap().get(HEARTBEAT), Some("1000"));
    }

    #[test]
    fn the_broker_side_protocol_gets_no_client_side_intervals() {
        let settings = KafkaSettings { group_protocol: GroupProtocol::Consumer, ..named() };
        let member = settings.member("g", None).unwrap();
        assert_eq!(member.get("session.timeout.ms"), None);
        assert_eq!(member.get("partition.assignment.strategy"), None);
    }

    #[test]
    fn an_unknown_property_is_refused_by_its_name() {
        let mut settings = named();
        settings.properties.insert("linger.mss".into(), "1".into());
        let fault = crate::adapters::kafka::KafkaFeed::connect(&settings).err().unwrap();
        assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string().contains("linger.mss"), "{fault}");
    }

    #[test]
    fn values_out_of_range_are_all_told() {
        let settings = KafkaSettings {
            bootstrap_servers: " ".into(),
            session_timeout_ms: 1,
            transaction_timeout_ms: 0,
            ..named()
        };
        assert_eq!(settings.errors().len(), 3);
    }

    #[test]
    fn debug_prints_no_secret_property() {
        let mut settings = named();
        settings.properties.insert("sasl.password".into(), "hunter2".into());
        let text = format!("{settings:?}");
        assert!(text.contains("sasl.password") && !text.contains("hunter2"));
    }
}
