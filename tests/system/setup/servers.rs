//! Clusters, topics and rights that are not as the pipeline needs them, beside a database that is.

use crate::wrong::row::{Row, row, with_environment, with_topics};

const RUN: &[&str] = &["run"];

/// Makes a row of where Kafka is.
const fn cluster(
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
    lines: &'static [&'static str],
) -> Row {
    with_environment(settings, row(name, RUN, 1, lines))
}

pub const WITHOUT_TOPICS: &[Row] = &[
    cluster(
        "a broker that does not answer",
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")],
        &[
            "…kafka: no answer from 127.0.0.1:1: is it running, and reachable from here?",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "a broker's host that does not resolve",
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "kafka-nowhere.invalid:9092")],
        &[
            "…kafka: kafka-nowhere.invalid:9092 does not resolve (failed to lookup address information: Name or service not known): correct the name, or make it known here",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "the database's port for Kafka",
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{server}")],
        &[
            "…kafka: {server} takes connections and answers no question of Kafka's: it hangs, it is no Kafka, or it expects another security.protocol than kafka.properties has",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "TLS of a broker without it",
        &[("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL")],
        &[
            "…kafka: no encrypted connection with {kafka}: …: check security.protocol and ssl.ca.location in kafka.properties",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "a plain connection where the broker wants a login",
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{secured}")],
        &[
            "…kafka: {secured} closes the connection at the first question: it expects another security.protocol than kafka.properties has, or it is no Kafka",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "a plain connection where the broker wants TLS",
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{encrypted}")],
        &[
            "…kafka: {encrypted} closes the connection at the first question: it expects another security.protocol than kafka.properties has, or it is no Kafka",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "TLS without the CA of the broker's certificate",
        &[
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{encrypted}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
        ],
        &[
            "…kafka: no encrypted connection with {encrypted}: …: check security.protocol and ssl.ca.location in kafka.properties",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "TLS with another CA than the broker's",
        &[
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{encrypted}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
            ("TIDEGATE_KAFKA__PROPERTIES__SSL_CA_LOCATION", "{other-ca}"),
        ],
        &[
            "…kafka: no encrypted connection with {encrypted}: …: check security.protocol and ssl.ca.location in kafka.properties",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "TLS of a broker whose certificate is for another name",
        &[
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{encrypted}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
            ("TIDEGATE_KAFKA__PROPERTIES__SSL_CA_LOCATION", "{ca}"),
        ],
        &[
            "…kafka: no encrypted connection with {encrypted}: …: check security.protocol and ssl.ca.location in kafka.properties",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "a broker that sends its clients on to a host that does not resolve",
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{astray}")],
        &[
            "…kafka: {astray} answered, and sends its clients on to no-such-host.invalid:9092, which does not resolve here (failed to lookup address information: Name or service not known): correct advertised.listeners of that broker, or make the name known here",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "a wrong password for Kafka",
        &[
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{secured}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "app"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", "m1staken"),
        ],
        &[
            "…kafka: {secured} refuses the login: SASL authentication error: Authentication failed: Invalid username or password: check sasl.mechanism, sasl.username and sasl.password in kafka.properties",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    cluster(
        "a mechanism that the broker does not offer",
        &[
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{secured}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_MECHANISM", "SCRAM-SHA-512"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "app"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", "app-secret"),
        ],
        &[
            "…kafka: {secured} refuses the login: SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN: check sasl.mechanism, sasl.username and sasl.password in kafka.properties",
            "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
            "  topic corrections: could not be described: …",
        ],
    ),
    with_environment(
        &[
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{encrypted}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
            ("TIDEGATE_KAFKA__PROPERTIES__SSL_CA_LOCATION", "{ca}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "none"),
        ],
        row(
            "no topics, by a connection with TLS that is well",
            RUN,
            78,
            &[
                "topic corrections does not exist; `{program} topics apply` creates it",
                "topic corrections-dlt does not exist; `{program} topics apply` creates it",
                "topic large-changes does not exist; `{program} topics apply` creates it",
                "topic readings does not exist; `{program} topics apply` creates it",
                "topic readings-dlt does not exist; `{program} topics apply` creates it",
            ],
        ),
    ),
    row(
        "no topics",
        RUN,
        78,
        &[
            "topic corrections does not exist; `{program} topics apply` creates it",
            "topic corrections-dlt does not exist; `{program} topics apply` creates it",
            "topic large-changes does not exist; `{program} topics apply` creates it",
            "topic readings does not exist; `{program} topics apply` creates it",
            "topic readings-dlt does not exist; `{program} topics apply` creates it",
        ],
    ),
    with_environment(
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")],
        row(
            "topics planned for a cluster that does not answer",
            &["topics", "plan", "--env", "dev"],
            1,
            &[
                "…kafka: no answer from 127.0.0.1:1: is it running, and reachable from here?",
                "  kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS",
                "  topic corrections-dlt: could not be described: …",
            ],
        ),
    ),
    row(
        "three copies on one broker",
        &["topics", "apply", "--yes"],
        1,
        &[
            "…failed: readings: create: 12 partitions, 3 replicas: topic readings: could not be created: Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only 1 broker(s) are registered…",
            "ok 0, created 0, altered 0, failed 5",
            "no --env was given: if these topics were made with --env dev or --env prod, or are to be, give it each time",
        ],
    ),
    row(
        "a partition of another topic",
        &["adopt", "clicks-0", "--from-group", "--yes"],
        1,
        &["pipeline scoring does not read clicks-0; it reads readings, corrections"],
    ),
];

pub const WITH_WRONG_TOPICS: &[Row] = &[
    row(
        "counts of partitions that do not fit each other",
        RUN,
        78,
        &[
            "topics readings and corrections are read together and need equal partition counts: 12 and 6",
            "topic readings-dlt has 3 partitions, fewer than its source's 12: give it 12",
        ],
    ),
    with_environment(
        &[("TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "120000")],
        row(
            "a session longer than the brokers let in, too",
            RUN,
            78,
            &[
                "topics readings and corrections are read together and need equal partition counts: 12 and 6",
                "topic readings-dlt has 3 partitions, fewer than its source's 12: give it 12",
                "kafka.session_timeout_ms is 120000, and the brokers let in members with 1000 to 60000 (group.min.session.timeout.ms, group.max.session.timeout.ms): set one within the other",
            ],
        ),
    ),
    with_environment(
        &[
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "{secured}"),
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "app"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", "app-secret"),
        ],
        row(
            "no right on any topic",
            RUN,
            78,
            &[
                "kafka: the user has no right Read on topic corrections; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation Read --topic corrections` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right Write on topic corrections-dlt; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation Write --topic corrections-dlt` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right DescribeConfigs on topic corrections-dlt; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation DescribeConfigs --topic corrections-dlt` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right Write on topic large-changes; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation Write --topic large-changes` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right DescribeConfigs on topic large-changes; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation DescribeConfigs --topic large-changes` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right Read on topic readings; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation Read --topic readings` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right Write on topic readings-dlt; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation Write --topic readings-dlt` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right DescribeConfigs on topic readings-dlt; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation DescribeConfigs --topic readings-dlt` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right Read on group scoring; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation Read --group scoring` grants it, and docs/operations.md lists all rights",
                "kafka: the user has no right Write on the transactional ids that begin with scoring-; `kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation Write --resource-pattern-type prefixed --transactional-id scoring-` grants it, and docs/operations.md lists all rights",
            ],
        ),
    ),
];

pub const WITH_TOPICS: &[Row] = &[
    with_environment(
        &[("TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "120000")],
        row(
            "a session longer than the brokers let in",
            RUN,
            78,
            &[
                "kafka.session_timeout_ms is 120000, and the brokers let in members with 1000 to 60000 (group.min.session.timeout.ms, group.max.session.timeout.ms): set one within the other",
            ],
        ),
    ),
    with_topics(
        &[
            ("readings.yaml", "partitions: 12", "partitions: 6"),
            ("corrections.yaml", "partitions: 12", "partitions: 6"),
        ],
        row(
            "fewer partitions than there are",
            &["topics", "--dir", "{folder}/topics", "apply", "--env", "dev", "--yes"],
            1,
            &[
                "TOPIC        CHANGE               NOTE",
                "corrections  partitions: 12 -> 6  blocked: Kafka cannot take partitions away; set partitions to 12 in {folder}/topics/corrections.yaml",
                "readings     partitions: 12 -> 6  blocked: Kafka cannot take partitions away; set partitions to 12 in {folder}/topics/readings.yaml",
                "as described 3, differences 2, blocked 2",
                "failed: corrections: partitions: 12 -> 6: Kafka cannot take partitions away; set partitions to 12 in {folder}/topics/corrections.yaml",
                "failed: readings: partitions: 12 -> 6: Kafka cannot take partitions away; set partitions to 12 in {folder}/topics/readings.yaml",
                "nothing was changed: none of the changes is made while one is blocked, since partitions stay once made",
                "ok 3, created 0, altered 0, failed 2",
            ],
        ),
    ),
    row(
        "a partition beyond the last",
        &["adopt", "readings-12", "--from-group", "--yes"],
        1,
        &["there is no partition readings-12: readings has 12, from 0 on"],
    ),
    row(
        "an offset beyond the end",
        &["reset", "readings-0", "--to", "99", "--yes"],
        1,
        &["reset --to 99: refused, and nothing was changed", "  readings-0: 99 lies beyond the log's end 0"],
    ),
    row(
        "a question that nobody can answer",
        &["reset", "readings-0", "--to", "0"],
        1,
        &[
            "readings-0",
            "  next offset in the database   none -> 0",
            "  committed offset in Kafka     none -> 0",
            "reset --to 0: nobody can be asked here; use --yes to write this without asking, to group scoring of the cluster at {kafka} (kafka.bootstrap_servers: environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS)",
            "   and the database {server}/tidegate, schema \"tidegate\" (database.url: environment TIDEGATE_DATABASE__URL)",
        ],
    ),
    with_environment(
        &[("TIDEGATE_HTTP__ADDRESS", "{server}")],
        row(
            "a port that is taken",
            RUN,
            1,
            &[
                "http: {server} is in use by another process; end that one, or choose another port, for example --set http.address=127.0.0.1:0 for any free one",
            ],
        ),
    ),
];
