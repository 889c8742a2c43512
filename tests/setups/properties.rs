//! Properties of the Kafka client that are not its own, or not the user's.

use super::row::{Row, environment, file};

pub const ROWS: &[Row] = &[
    // Properties that are not the user's.
    file(
        "an isolation of the user's",
        "kafka:\n  properties:\n    isolation.level: read_uncommitted",
        &[
            "kafka.properties.isolation.level: belongs to the engine: it is read_committed: what was rolled back must not be read; remove it ({file}:3)",
        ],
    ),
    file(
        "a session as a property",
        "kafka: {properties: {session.timeout.ms: 1}}",
        &["kafka.properties.session.timeout.ms: has a key of its own: kafka.session_timeout_ms ({file}:1)"],
    ),
    environment(
        "a transactional id of the user's",
        &[("TIDEGATE_KAFKA__PROPERTIES__TRANSACTIONAL_ID", "x")],
        &[
            "kafka.properties.transactional.id: belongs to the engine: it follows from pipeline, instance slot and worker; remove it (environment TIDEGATE_KAFKA__PROPERTIES__TRANSACTIONAL_ID)",
        ],
    ),
    environment(
        "librdkafka's log level",
        &[("TIDEGATE_KAFKA__PROPERTIES__LOG_LEVEL", "7")],
        &[
            "kafka.properties.log_level: belongs to the engine: the transactional producer reads its own debug log to find silent retries; remove it (environment TIDEGATE_KAFKA__PROPERTIES__LOG_LEVEL)",
        ],
    ),
    // Properties that are Java's, and others that the client does not have.
    environment(
        "a login for Java",
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_JAAS_CONFIG", "org.apache… password=\"x\";")],
        &[
            "kafka.properties.sasl.jaas.config: is Java's: give its username and password as sasl.username and sasl.password, and the module's kind as sasl.mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512) (environment TIDEGATE_KAFKA__PROPERTIES__SASL_JAAS_CONFIG)",
        ],
    ),
    file(
        "a truststore",
        "kafka: {properties: {ssl.truststore.location: /etc/t.jks}}",
        &[
            "kafka.properties.ssl.truststore.location: is Java's: name a PEM file of the CA as ssl.ca.location (`keytool -exportcert -rfc -keystore FILE -alias CA` writes one) ({file}:1)",
        ],
    ),
    environment(
        "a truststore's password",
        &[("TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_PASSWORD", "x")],
        &[
            "kafka.properties.ssl.truststore.password: is Java's: ssl.ca.location is a PEM file, which has none; remove it (environment TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_PASSWORD)",
        ],
    ),
    file(
        "a request's size by Java's name",
        "kafka: {properties: {max.request.size: 1048576}}",
        &["kafka.properties.max.request.size: is Java's name; librdkafka's is message.max.bytes ({file}:1)"],
    ),
    file(
        "records a poll",
        "kafka: {properties: {max.poll.records: 500}}",
        &["kafka.properties.max.poll.records: has a key of its own: engine.batch_rows ({file}:1)"],
    ),
    file(
        "acks of the user's",
        "kafka: {properties: {acks: all}}",
        &["kafka.properties.acks: belongs to the engine: it is all; remove it ({file}:1)"],
    ),
    file(
        "a property of the producer alone",
        "kafka: {properties: {producer.acks: all}}",
        &[
            "kafka.properties.producer.acks: one set of properties serves all clients: write acks without producer. ({file}:1)",
        ],
    ),
    file(
        "a deserializer",
        "kafka: {properties: {key.deserializer: x}}",
        &[
            "kafka.properties.key.deserializer: is Java's: the pipeline's code decodes and encodes; remove it ({file}:1)",
        ],
    ),
    file(
        "a property with a slip",
        "kafka: {properties: {linger.mss: 5}}",
        &["kafka.properties.linger.mss: librdkafka has no such property; did you mean linger.ms? ({file}:1)"],
    ),
    environment(
        "a secret property with a slip",
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_PASWORD", "x")],
        &[
            "kafka.properties.sasl.pasword: librdkafka has no such property; did you mean sasl.password? (environment TIDEGATE_KAFKA__PROPERTIES__SASL_PASWORD)",
        ],
    ),
    file(
        "a property's time with its unit",
        "kafka: {properties: {linger.ms: 10s}}",
        &["kafka.properties.linger.ms: \"10s\": expected a number from 0 to 900000 ({file}:1)"],
    ),
    file(
        "a protocol that is none",
        "kafka: {properties: {security.protocol: TLS}}",
        &[
            "kafka.properties.security.protocol: \"TLS\": expected one of plaintext, ssl, sasl_plaintext, sasl_ssl ({file}:1)",
        ],
    ),
    file(
        "a yes of YAML for a property",
        "kafka: {properties: {socket.keepalive.enable: yes}}",
        &["kafka.properties.socket.keepalive.enable: \"yes\": expected true or false ({file}:1)"],
    ),
    // Times that must lie below others.
    file(
        "a socket's time above the transaction's",
        "kafka: {properties: {socket.timeout.ms: 10000}}",
        &[
            "kafka.properties.socket.timeout.ms: \"10000\": expected at most 9900 (kafka.transaction_timeout_ms less 100) ({file}:1)",
        ],
    ),
    file(
        "a heartbeat as long as the session",
        "kafka: {properties: {heartbeat.interval.ms: 10000}}",
        &[
            "kafka.properties.heartbeat.interval.ms: \"10000\": expected at most 9999 (less than kafka.session_timeout_ms) ({file}:1)",
        ],
    ),
];
