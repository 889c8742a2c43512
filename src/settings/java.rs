//! Client properties as Java spells them, pasted from a service that was there before: each with what is to be set instead.

use Instead::{Nothing, Property, Setting, Told};

/// What stands in for a property of Java's clients.
#[derive(Clone, Copy)]
enum Instead {
    /// The same by librdkafka's name.
    Property(&'static str),
    /// A setting of ours.
    Setting(&'static str),
    /// Nothing, and why.
    Nothing(&'static str),
    /// Another way, in a sentence.
    Told(&'static str),
}

const TLS_OF_OPENSSL: Instead = Nothing("OpenSSL decides it here");
const OF_THE_CODE: Instead = Nothing("the pipeline's code decodes and encodes");
const OF_JMX: Instead = Nothing("there are no classes to load; /status has the numbers");
const OF_THE_LOGIN: Instead = Nothing("there are no classes to load; librdkafka logs in by itself");
const OF_THE_PARTITIONER: Instead = Nothing("the partitioner is murmur2_random, as Java producers partition");
const NO_STREAMS: Instead = Nothing("it is of Kafka Streams");
const NO_REGISTRY: Instead = Nothing("no schema registry is asked; values are what the pipeline's code decodes");
const SMALL_CACHE: Instead = Setting("state.cache_mib");

/// By name, sorted.
const JAVA: [(&str, Instead); 90] = [
    ("application.id", Setting("pipeline.name")),
    ("application.server", Setting("http.advertised_address")),
    ("auto.include.jmx.reporter", OF_JMX),
    ("auto.register.schemas", NO_REGISTRY),
    ("basic.auth.credentials.source", NO_REGISTRY),
    ("basic.auth.user.info", NO_REGISTRY),
    ("bootstrap.controllers", Setting("kafka.bootstrap_servers")),
    ("buffer.memory", Property("queue.buffering.max.kbytes, in KiB")),
    ("buffered.records.per.partition", Setting("engine.queued_records")),
    ("cache.max.bytes.buffering", SMALL_CACHE),
    ("commit.interval.ms", Setting("engine.log_age_ms")),
    ("compression.gzip.level", Property("compression.level")),
    ("compression.lz4.level", Property("compression.level")),
    ("compression.zstd.level", Property("compression.level")),
    ("default.api.timeout.ms", Property("socket.timeout.ms")),
    ("default.deserialization.exception.handler", Nothing("a record that cannot be decoded is a dead letter")),
    ("default.key.serde", OF_THE_CODE),
    ("default.production.exception.handler", Nothing("a message that Kafka refuses halts its partition")),
    ("default.timestamp.extractor", Nothing("the time is the record's timestamp")),
    ("default.value.serde", OF_THE_CODE),
    ("deserialization.exception.handler", Nothing("a record that cannot be decoded is a dead letter")),
    ("exclude.internal.topics", Nothing("topics are named one by one")),
    ("fetch.max.wait.ms", Property("fetch.wait.max.ms")),
    ("interceptor.classes", OF_JMX),
    ("key.deserializer", OF_THE_CODE),
    ("key.serializer", OF_THE_CODE),
    ("max.block.ms", Nothing("nothing blocks here; kafka.transaction_timeout_ms bounds a transaction")),
    ("max.poll.records", Setting("engine.batch_rows")),
    ("max.request.size", Property("message.max.bytes")),
    ("max.task.idle.ms", Setting("engine.merge_wait_ms")),
    ("metadata.max.idle.ms", Nothing("topics in use are never forgotten")),
    ("metric.reporters", OF_JMX),
    ("metrics.num.samples", OF_JMX),
    ("metrics.recording.level", OF_JMX),
    ("metrics.sample.window.ms", OF_JMX),
    ("num.standby.replicas", Nothing("there are no standby copies; a store is restored from its changelog")),
    ("num.stream.threads", Setting("engine.workers")),
    ("partitioner.adaptive.partitioning.enable", OF_THE_PARTITIONER),
    ("partitioner.availability.timeout.ms", OF_THE_PARTITIONER),
    ("partitioner.class", OF_THE_PARTITIONER),
    ("partitioner.ignore.keys", OF_THE_PARTITIONER),
    ("poll.ms", NO_STREAMS),
    ("processing.guarantee", Nothing("it is always exactly once")),
    ("receive.buffer.bytes", Property("socket.receive.buffer.bytes")),
    ("replication.factor", Told("is Java's: give each topic's replicas in topics/")),
    ("repartition.purge.interval.ms", NO_STREAMS),
    ("rocksdb.config.setter", Setting("state.memory_mib")),
    (
        "sasl.jaas.config",
        Told(
            "is Java's: give its username and password as sasl.username and sasl.password, and the module's kind as \
              sasl.mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)",
        ),
    ),
    ("sasl.client.callback.handler.class", OF_THE_LOGIN),
    ("sasl.login.callback.handler.class", OF_THE_LOGIN),
    ("sasl.login.class", OF_THE_LOGIN),
    ("sasl.login.connect.timeout.ms", OF_THE_LOGIN),
    ("sasl.login.read.timeout.ms", OF_THE_LOGIN),
    ("sasl.login.refresh.buffer.seconds", OF_THE_LOGIN),
    ("sasl.login.refresh.min.period.seconds", OF_THE_LOGIN),
    ("sasl.login.refresh.window.factor", OF_THE_LOGIN),
    ("sasl.login.refresh.window.jitter", OF_THE_LOGIN),
    ("sasl.login.retry.backoff.max.ms", OF_THE_LOGIN),
    ("sasl.login.retry.backoff.ms", OF_THE_LOGIN),
    ("schema.registry.basic.auth.user.info", NO_REGISTRY),
    ("schema.registry.url", NO_REGISTRY),
    ("security.providers", TLS_OF_OPENSSL),
    ("send.buffer.bytes", Property("socket.send.buffer.bytes")),
    ("specific.avro.reader", NO_REGISTRY),
    ("ssl.enabled.protocols", TLS_OF_OPENSSL),
    ("ssl.engine.factory.class", TLS_OF_OPENSSL),
    ("ssl.keymanager.algorithm", TLS_OF_OPENSSL),
    ("ssl.keystore.certificate.chain", Property("ssl.certificate.pem")),
    ("ssl.keystore.key", Property("ssl.key.pem")),
    (
        "ssl.keystore.type",
        Nothing("ssl.keystore.location is a PKCS#12 file; PEM files are ssl.certificate.location and ssl.key.location"),
    ),
    ("ssl.protocol", TLS_OF_OPENSSL),
    ("ssl.provider", TLS_OF_OPENSSL),
    ("ssl.secure.random.implementation", TLS_OF_OPENSSL),
    ("ssl.trustmanager.algorithm", TLS_OF_OPENSSL),
    ("ssl.truststore.certificates", Property("ssl.ca.pem")),
    (
        "ssl.truststore.location",
        Told(
            "is Java's: name a PEM file of the CA as ssl.ca.location (`keytool -exportcert -rfc -keystore FILE -alias CA` \
              writes one)",
        ),
    ),
    ("ssl.truststore.password", Nothing("ssl.ca.location is a PEM file, which has none")),
    ("ssl.truststore.type", Nothing("ssl.ca.location is a PEM file")),
    ("state.cleanup.delay.ms", NO_STREAMS),
    ("state.dir", Setting("state.dir")),
    ("statestore.cache.max.bytes", SMALL_CACHE),
    ("task.timeout.ms", NO_STREAMS),
    ("topology.optimization", NO_STREAMS),
    ("transaction.two.phase.commit.enable", Nothing("the database commits first; Kafka's transaction publishes")),
    ("upgrade.from", NO_STREAMS),
    ("use.latest.version", NO_REGISTRY),
    ("value.deserializer", OF_THE_CODE),
    ("value.serializer", OF_THE_CODE),
    ("value.subject.name.strategy", NO_REGISTRY),
    ("windowstore.changelog.additional.retention.ms", NO_STREAMS),
];

/// Prefixes that Kafka Streams, Connect and Spring put before a client's property.
const PREFIXES: [&str; 8] = [
    "spring.kafka.properties.",
    "main.consumer.",
    "restore.consumer.",
    "global.consumer.",
    "consumer.",
    "producer.",
    "admin.",
    "kafka.",
];

/// The sentence about a property that is Java's; `None` for any other.
pub(crate) fn instead(name: &str) -> Option<String> {
    if let Some((_, instead)) = JAVA.iter().find(|(java, _)| java.eq_ignore_ascii_case(name)) {
        return Some(match instead {
            Property(librdkafka) => format!("is Java's name; librdkafka's is {librdkafka}"),
            Setting(path) => format!("has a key of its own: {path}"),
            Nothing(why) => format!("is Java's: {why}; remove it"),
            Told(sentence) => (*sentence).into(),
        });
    }
    let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let prefix = name.strip_suffix(bare).unwrap_or_default();
    Some(format!("one set of properties serves all clients: write {bare} without {prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once_and_is_no_name_of_the_engine() {
        let mut names: Vec<_> = JAVA.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), JAVA.len());
        for (name, _) in JAVA {
            assert!(crate::settings::owned::check(name).is_ok(), "{name} is the engine's");
        }
    }

    #[test]
    fn settings_that_are_named_exist() {
        for (name, instead) in JAVA {
            if let Setting(path) = instead {
                let (section, key) = path.split_once('.').unwrap();
                assert!(crate::settings::schema::Schema::rule(section, key).is_some(), "{name}: {path}");
            }
        }
    }

    #[test]
    fn a_prefix_of_streams_is_taken_off_and_other_names_are_left_alone() {
        let told = "one set of properties serves all clients: write linger.ms without producer.";
        assert_eq!(instead("producer.linger.ms").as_deref(), Some(told));
        assert_eq!(instead("linger.ms"), None);
        assert_eq!(instead("Buffer.Memory"), instead("buffer.memory"));
    }
}
