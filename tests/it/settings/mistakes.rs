//! Wrong settings and what is said about each. `FILE` stands for the file's path.

use super::{Scratch, load, sources, topology};
use tidegate::settings::{Need, Settings};

struct Wrong {
    file: &'static str,
    environment: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
    expected: &'static str,
}

const fn file(file: &'static str, expected: &'static str) -> Wrong {
    Wrong { file, environment: &[], flags: &[], expected }
}

const fn environment(environment: &'static [(&'static str, &'static str)], expected: &'static str) -> Wrong {
    Wrong { file: "", environment, flags: &[], expected }
}

const fn flags(flags: &'static [&'static str], expected: &'static str) -> Wrong {
    Wrong { file: "", environment: &[], flags, expected }
}

const WRONG: &[Wrong] = &[
    // Keys that nobody knows.
    file("databse:\n  url: x", "databse.url: unknown key; did you mean database.url? (FILE:2)"),
    file("engine: {wrokers: 2}", "engine.wrokers: unknown key; did you mean engine.workers? (FILE:1)"),
    file("batch_rows: 5", "batch_rows: unknown key; did you mean engine.batch_rows? (FILE:1)"),
    file("colour: blue", "colour: unknown key (FILE:1)"),
    file("colour: {}", "colour: unknown key (FILE:1)"),
    file(
        "pipeline: {thresholds: {large-chnage: 1}}",
        "pipeline.thresholds.large-chnage: unknown threshold; did you mean large-change?; pipeline scoring has: large-change (FILE:1)",
    ),
    environment(
        &[("TIDEGATE_DATABASE__URI", "x")],
        "database.uri: unknown key; did you mean database.url? (environment TIDEGATE_DATABASE__URI)",
    ),
    environment(
        &[("TIDEGATE_WORKERS", "2")],
        "workers: unknown key; did you mean TIDEGATE_ENGINE__WORKERS? (environment TIDEGATE_WORKERS)",
    ),
    flags(&["engine.worker=2"], "engine.worker: unknown key; did you mean engine.workers? (flag --set)"),
    // Values that are no values of their key.
    file("engine:\n  workers: many", "engine.workers: \"many\": expected a whole number from 1 to 64 (FILE:2)"),
    file("engine: {workers: 0}", "engine.workers: \"0\": expected a whole number from 1 to 64 (FILE:1)"),
    file("engine: {workers: 65}", "engine.workers: \"65\": expected a whole number from 1 to 64 (FILE:1)"),
    file("engine: {workers: 2.5}", "engine.workers: \"2.5\": expected a whole number from 1 to 64 (FILE:1)"),
    file("engine: {workers: null}", "engine.workers: \"null\": expected a whole number from 1 to 64 (FILE:1)"),
    file("engine: {workers: [1, 2]}", "engine.workers: expected a whole number from 1 to 64, found a list (FILE:1)"),
    file(
        "engine: {workers: {a: 1}}",
        "engine.workers.a: expected a whole number from 1 to 64, found a mapping (FILE:1)",
    ),
    file(
        "engine: {workers: 99999999999999999999}",
        "engine.workers: \"99999999999999999999\": expected a whole number from 1 to 64 (FILE:1)",
    ),
    file("pipeline: {verdicts: maybe}", "pipeline.verdicts: \"maybe\": expected true or false (FILE:1)"),
    file(
        "pipeline: {missing_row: ignore}",
        "pipeline.missing_row: \"ignore\": expected one of skip, dead-letter, retry; did you mean skip? (FILE:1)",
    ),
    file(
        "pipeline: {start: Latest}",
        "pipeline.start: \"Latest\": expected one of earliest, latest; did you mean latest? (FILE:1)",
    ),
    file(
        "pipeline: {name: \"a b\"}",
        "pipeline.name: \"a b\": expected 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-' (FILE:1)",
    ),
    file(
        "pipeline: {thresholds: {large-change: .nan}}",
        "pipeline.thresholds.large-change: \".nan\": expected a finite number (FILE:1)",
    ),
    file(
        "pipeline: {thresholds: {large-change: NaN}}",
        "pipeline.thresholds.large-change: \"NaN\": expected a finite number (FILE:1)",
    ),
    file("pipeline: {thresholds: 0.5}", "pipeline.thresholds: expected a mapping of names to a finite number (FILE:1)"),
    file(
        "kafka: {bootstrap_servers: localhost}",
        "kafka.bootstrap_servers: \"localhost\": expected host:port, separated by commas; did you mean localhost:9092? (FILE:1)",
    ),
    file(
        "kafka: {session_timeout_ms: 999}",
        "kafka.session_timeout_ms: \"999\": expected a whole number from 1000 to 300000 (FILE:1)",
    ),
    file(
        "kafka: {session_timeout_ms: 10s}",
        "kafka.session_timeout_ms: \"10s\": expected a whole number from 1000 to 300000; write 10000 (FILE:1)",
    ),
    file(
        "kafka: {transaction_timeout_ms: 900001}",
        "kafka.transaction_timeout_ms: \"900001\": expected a whole number from 1000 to 900000 (FILE:1)",
    ),
    file(
        "database: {url: \"mysql://h/db\"}",
        "database.url: \"***\": expected postgres://user:password@host:port/database (FILE:1)",
    ),
    file(
        "database: {schema: My-Schema}",
        "database.schema: \"My-Schema\": expected 1 to 63 characters of a-z, 0-9 and '_', no digit first (FILE:1)",
    ),
    file(
        "http: {address: localhost}",
        "http.address: \"localhost\": expected address:port, for instance 0.0.0.0:8230 (FILE:1)",
    ),
    file("instance: {slot: -1}", "instance.slot: \"-1\": expected a whole number from 0 to 9999, or null (FILE:1)"),
    file(
        "instance: {name: \"a b\"}",
        "instance.name: \"a b\": expected 1 to 255 characters without spaces, or null (FILE:1)",
    ),
    file("log: {level: verbose}", "log.level: \"verbose\": expected one of error, warn, info, debug, trace (FILE:1)"),
    environment(
        &[("TIDEGATE_ENGINE__WORKERS", "x")],
        "engine.workers: \"x\": expected a whole number from 1 to 64 (environment TIDEGATE_ENGINE__WORKERS)",
    ),
    flags(&["log.format=xml"], "log.format: \"xml\": expected one of text, json (flag --set)"),
    flags(&["engine.workers"], "engine.workers: expected path=value (flag --set)"),
    flags(
        &["database.url=postgres://h/d"],
        "database.url: a secret does not belong on a command line, which everybody can list; use TIDEGATE_DATABASE__URL or TIDEGATE_DATABASE__URL_FILE (flag --set)",
    ),
    flags(
        &["kafka.properties.sasl.password=x"],
        "kafka.properties.sasl.password: a secret does not belong on a command line, which everybody can list; use TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD or TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD_FILE (flag --set)",
    ),
    // Properties that are not the user's.
    file(
        "kafka:\n  properties:\n    isolation.level: read_uncommitted",
        "kafka.properties.isolation.level: belongs to the engine: it is read_committed: what was rolled back must not be read; remove it (FILE:3)",
    ),
    file(
        "kafka: {properties: {session.timeout.ms: 1}}",
        "kafka.properties.session.timeout.ms: has a key of its own: kafka.session_timeout_ms (FILE:1)",
    ),
    environment(
        &[("TIDEGATE_KAFKA__PROPERTIES__TRANSACTIONAL_ID", "x")],
        "kafka.properties.transactional.id: belongs to the engine: it follows from pipeline, instance slot and worker; remove it (environment TIDEGATE_KAFKA__PROPERTIES__TRANSACTIONAL_ID)",
    ),
    environment(
        &[("TIDEGATE_KAFKA__PROPERTIES__LOG_LEVEL", "7")],
        "kafka.properties.log_level: belongs to the engine: the transactional producer reads its own debug log to find silent retries; remove it (environment TIDEGATE_KAFKA__PROPERTIES__LOG_LEVEL)",
    ),
    // Properties that are Java's, and others that the client does not have.
    environment(
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_JAAS_CONFIG", "org.apache… password=\"x\";")],
        "kafka.properties.sasl.jaas.config: is Java's: give its username and password as sasl.username and sasl.password, and the module's kind as sasl.mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512) (environment TIDEGATE_KAFKA__PROPERTIES__SASL_JAAS_CONFIG)",
    ),
    file(
        "kafka: {properties: {ssl.truststore.location: /etc/t.jks}}",
        "kafka.properties.ssl.truststore.location: is Java's: name a PEM file of the CA as ssl.ca.location (`keytool -exportcert -rfc -keystore FILE -alias CA` writes one) (FILE:1)",
    ),
    environment(
        &[("TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_PASSWORD", "x")],
        "kafka.properties.ssl.truststore.password: is Java's: ssl.ca.location is a PEM file, which has none; remove it (environment TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_PASSWORD)",
    ),
    file(
        "kafka: {properties: {max.request.size: 1048576}}",
        "kafka.properties.max.request.size: is Java's name; librdkafka's is message.max.bytes (FILE:1)",
    ),
    file(
        "kafka: {properties: {max.poll.records: 500}}",
        "kafka.properties.max.poll.records: has a key of its own: engine.batch_rows (FILE:1)",
    ),
    file(
        "kafka: {properties: {acks: all}}",
        "kafka.properties.acks: belongs to the engine: it is all; remove it (FILE:1)",
    ),
    file(
        "kafka: {properties: {producer.acks: all}}",
        "kafka.properties.producer.acks: one set of properties serves all clients: write acks without producer. (FILE:1)",
    ),
    file(
        "kafka: {properties: {key.deserializer: x}}",
        "kafka.properties.key.deserializer: is Java's: the pipeline's code decodes and encodes; remove it (FILE:1)",
    ),
    #[cfg(feature = "kafka")]
    file(
        "kafka: {properties: {linger.mss: 5}}",
        "kafka.properties.linger.mss: librdkafka has no such property; did you mean linger.ms? (FILE:1)",
    ),
    #[cfg(feature = "kafka")]
    environment(
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_PASWORD", "x")],
        "kafka.properties.sasl.pasword: librdkafka has no such property; did you mean sasl.password? (environment TIDEGATE_KAFKA__PROPERTIES__SASL_PASWORD)",
    ),
    #[cfg(feature = "kafka")]
    file(
        "kafka: {properties: {linger.ms: 10s}}",
        "kafka.properties.linger.ms: \"10s\": expected a number from 0 to 900000 (FILE:1)",
    ),
    #[cfg(feature = "kafka")]
    file(
        "kafka: {properties: {security.protocol: TLS}}",
        "kafka.properties.security.protocol: \"TLS\": expected one of plaintext, ssl, sasl_plaintext, sasl_ssl (FILE:1)",
    ),
    #[cfg(feature = "kafka")]
    file(
        "kafka: {properties: {socket.keepalive.enable: yes}}",
        "kafka.properties.socket.keepalive.enable: \"yes\": expected true or false (FILE:1)",
    ),
    // Times that must lie below others.
    file(
        "kafka: {properties: {socket.timeout.ms: 10000}}",
        "kafka.properties.socket.timeout.ms: \"10000\": expected at most 9900 (kafka.transaction_timeout_ms less 100) (FILE:1)",
    ),
    file(
        "kafka: {properties: {heartbeat.interval.ms: 10000}}",
        "kafka.properties.heartbeat.interval.ms: \"10000\": expected at most 9999 (less than kafka.session_timeout_ms) (FILE:1)",
    ),
    // The filter of the log.
    environment(
        &[("TIDEGATE_LOG", "tidegate=debgu")],
        "TIDEGATE_LOG: \"tidegate=debgu\": expected a level, or levels by module such as tidegate=debug,info (environment TIDEGATE_LOG)",
    ),
    environment(
        &[("TIDEGATE_LOG", "debgu")],
        "TIDEGATE_LOG: \"debgu\": expected a level, or levels by module such as tidegate=debug,info; did you mean debug? (environment TIDEGATE_LOG)",
    ),
    environment(
        &[("TIDEGATE_VERSION", "1")],
        "version: unknown key; every variable that begins with TIDEGATE_ is taken for a setting (environment TIDEGATE_VERSION)",
    ),
    // The URL of the database.
    environment(
        &[("TIDEGATE_DATABASE__URL", "postgres://app:p#w@h/db")],
        "database.url: \"***\": the password holds a character at which a URL ends it: in the password write %23 for # (environment TIDEGATE_DATABASE__URL)",
    ),
    environment(
        &[("TIDEGATE_DATABASE__URL", "postgres://h/db?sslmod=require")],
        "database.url: \"***\": unknown parameter sslmod; did you mean sslmode? (environment TIDEGATE_DATABASE__URL)",
    ),
    // Names and lists in another shape.
    environment(
        &[("TIDEGATE_KAFKA_BOOTSTRAP_SERVERS", "h:1")],
        "kafka_bootstrap_servers: unknown key; did you mean TIDEGATE_KAFKA__BOOTSTRAP_SERVERS? (environment TIDEGATE_KAFKA_BOOTSTRAP_SERVERS)",
    ),
    environment(
        &[("TIDEGATE_KAFKA_PROPERTIES_SASL_PASSWORD", "x")],
        "kafka_properties_sasl_password: unknown key; did you mean TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD? (environment TIDEGATE_KAFKA_PROPERTIES_SASL_PASSWORD)",
    ),
    file(
        "engine.workers: 4",
        "engine.workers: is written as one name; write `engine:` and, indented below it, `workers:` (FILE:1)",
    ),
    file(
        "kafka: {properties: {security: {protocol: SSL}}}",
        "kafka.properties.security: expected a text, found a mapping; write the name whole, security.protocol (FILE:1)",
    ),
    file(
        "kafka: {bootstrap_servers: 'a:1;b:2'}",
        "kafka.bootstrap_servers: \"a:1;b:2\": expected host:port, separated by commas; did you mean a:1,b:2? (FILE:1)",
    ),
    file(
        "http: {address: 'localhost:8230'}",
        "http.address: \"localhost:8230\": expected address:port, for instance 0.0.0.0:8230; did you mean 127.0.0.1:8230? (FILE:1)",
    ),
    // Words of others.
    file(
        "pipeline: {missing_row: insert}",
        "pipeline.missing_row: \"insert\": expected one of skip, dead-letter, retry; Tidegate changes rows and makes none: insert the row where it is known (its service, or a trigger), and choose retry where the record may come first (FILE:1)",
    ),
    file(
        "pipeline: {verdicts: yes}",
        "pipeline.verdicts: \"yes\": expected true or false; did you mean true? (FILE:1)",
    ),
    file(
        "state: {memory_mib: 2GiB}",
        "state.memory_mib: \"2GiB\": expected a whole number from 8 to 1048576; write 2048 (FILE:1)",
    ),
    // Settings that do not go together.
    file(
        "kafka: {group_protocol: consumer, session_timeout_ms: 20000}",
        "kafka.session_timeout_ms: \"20000\": the broker sets it under kafka.group_protocol consumer; remove it (FILE:1)",
    ),
    file(
        "kafka: {group_protocol: consumer, properties: {heartbeat.interval.ms: 1}}",
        "kafka.properties.heartbeat.interval.ms: \"1\": the broker sets it under kafka.group_protocol consumer; remove it (FILE:1)",
    ),
    file(
        "database: {lock_timeout_ms: 40000}",
        "database.lock_timeout_ms: \"40000\": is above database.statement_timeout_ms (30000), which would end the statement first (FILE:1)",
    ),
    file(
        "engine: {batch_rows: 20000}",
        "engine.unpublished_rows: \"10000\": is below engine.batch_rows (20000): no full batch would fit (built-in default)",
    ),
    file(
        "outbox: {partition_minutes: 120, retention_hours: 1}",
        "outbox.partition_minutes: \"120\": is wider than outbox.retention_hours (1 h) keeps (FILE:1)",
    ),
    file(
        "outbox: {partition_minutes: 1, retention_hours: 240}",
        "outbox.partition_minutes: \"1\": makes 14400 table partitions in outbox.retention_hours; allowed are 1000 (FILE:1)",
    ),
    // What nobody sees around a value.
    environment(
        &[("TIDEGATE_DATABASE__URL", "postgres://h/db\n")],
        "database.url: \"***\": ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none (environment TIDEGATE_DATABASE__URL)",
    ),
    environment(
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", "secret\r\n")],
        "kafka.properties.sasl.password: \"***\": ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none (environment TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD)",
    ),
    environment(
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "app\n")],
        "kafka.properties.sasl.username: \"app\\n\": ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none (environment TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME)",
    ),
    environment(
        &[("TIDEGATE_DATABASE__URL", "\u{feff}postgres://h/db")],
        "database.url: \"***\": begins with a byte order mark (U+FEFF), which is not seen and part of the value; remove it (environment TIDEGATE_DATABASE__URL)",
    ),
    environment(
        &[("TIDEGATE_DATABASE__URL", "postgres://u:p@h/db ")],
        "database.url: \"***\": holds a space or a line break; in a password write %20 for a space (environment TIDEGATE_DATABASE__URL)",
    ),
    file(
        "log: {level: info}\n\u{feff}engine: {workers: 2}",
        "file: the settings file is not YAML: a byte order mark (U+FEFF) is not seen and belongs to no YAML: delete it (FILE:2)",
    ),
    file(
        "engine:\n\u{a0} workers: 2",
        "file: the settings file is not YAML: a no-break space (U+00A0) is not seen and belongs to no YAML: delete it (FILE:2)",
    ),
    // Files and secrets that cannot be read.
    file("engine: {workers: 2\nlog: x", "file: the settings file is not YAML: "),
    file(
        "engine:\n  workers: 2\n  workers: 3",
        "file: the settings file is not YAML: workers: the key is there twice (FILE:3)",
    ),
    file(
        "a: &a 1",
        "file: the settings file is not YAML: anchors and aliases are not supported: write the value out at each place (FILE:1)",
    ),
    file("- engine", "file: the settings file is no mapping of sections (FILE:1)"),
    file("engine: 5", "engine: expected a mapping: this is a section (FILE:1)"),
    environment(
        &[("TIDEGATE_DATABASE__URL_FILE", "/nonexistent/url")],
        "database.url: the file cannot be read: No such file or directory (os error 2) (environment TIDEGATE_DATABASE__URL_FILE, file /nonexistent/url)",
    ),
    environment(
        &[("TIDEGATE_DATABASE__URL_FILE", "/x"), ("TIDEGATE_DATABASE__URL", "postgres://h/d")],
        "database.url: set TIDEGATE_DATABASE__URL or TIDEGATE_DATABASE__URL_FILE, not both (environment TIDEGATE_DATABASE__URL_FILE)",
    ),
    environment(
        &[("TIDEGATE_HTTP__ADDRESS_FILE", "/x")],
        "http.address_file: unknown key; did you mean http.address? (environment TIDEGATE_HTTP__ADDRESS_FILE)",
    ),
];

#[test]
fn each_mistake_is_told_with_path_value_allowed_range_and_origin() {
    for wrong in WRONG {
        let yaml = Scratch::new(wrong.file);
        let told = Settings::load(&topology(), sources(Some(&yaml), wrong.environment, wrong.flags))
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .replace(&yaml.0.display().to_string(), "FILE");
        assert!(told.contains(&format!("\n  {}", wrong.expected)), "expected {}\nfound {told}", wrong.expected);
        assert!(told.starts_with("configuration: 1 mistake\n"), "one mistake makes one line: {told}");
    }
    assert!(WRONG.len() >= 30);
}

#[test]
fn all_mistakes_of_all_layers_come_at_once() {
    let problems = load(
        "engine: {workers: 0}\nlog: {level: loud}\ncolour: blue",
        &[("TIDEGATE_RETRY__ATTEMPTS", "0"), ("TIDEGATE_NOTHING", "1")],
        &["outbox.retention_hours=x"],
    )
    .unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    let expected = ["engine.workers", "log.level", "colour", "nothing", "retry.attempts", "outbox.retention_hours"];
    assert_eq!(paths, expected);
    assert!(problems.to_string().starts_with("configuration: 6 mistakes\n"), "{problems}");
}

#[test]
fn mistakes_of_several_settings_together_come_with_the_others_and_no_echo_does() {
    let yaml = "log: {level: loud}\ndatabase: {lock_timeout_ms: 40000, url: nonsense}\nkafka: {bootstrap_server: a:1}";
    let file = Scratch::new(yaml);
    let needs = [Need::Kafka, Need::Database];
    let problems = Settings::load_for(&needs, &topology(), sources(Some(&file), &[], &[])).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["log.level", "database.url", "kafka.bootstrap_server", "database.lock_timeout_ms"]);
}

#[test]
fn half_a_login_is_told_where_kafka_is_needed() {
    let cases = [
        (
            "sasl.username: u",
            "security.protocol: is not set, so that the connection is plain and sasl.username is without effect: set SASL_SSL, SSL or SASL_PLAINTEXT (built-in default)",
        ),
        (
            "security.protocol: SASL_SSL, sasl.username: u",
            "sasl.mechanism: is not set, and SASL_SSL needs it: set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 (librdkafka's default is GSSAPI, Kerberos) (built-in default)",
        ),
        (
            "security.protocol: SASL_SSL, sasl.mechanism: PLAIN, sasl.username: u",
            "sasl.password: is not set, and sasl.mechanism PLAIN needs it: set it, or TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD (built-in default)",
        ),
    ];
    for (properties, expected) in cases {
        let file = Scratch::new(&format!("kafka: {{bootstrap_servers: 'h:1', properties: {{{properties}}}}}"));
        let loaded = Settings::load_for(&[Need::Kafka], &topology(), sources(Some(&file), &[], &[]));
        let told = loaded.map(|_| ()).unwrap_err().to_string();
        assert_eq!(told, format!("configuration: 1 mistake\n  kafka.properties.{expected}"));
    }
}

#[test]
fn a_server_that_is_written_with_another_protocol_is_told() {
    let file = Scratch::new("kafka: {bootstrap_servers: 'SSL://h:1'}");
    let loaded = Settings::load_for(&[Need::Kafka], &topology(), sources(Some(&file), &[], &[]));
    let expected = format!(
        "configuration: 1 mistake\n  kafka.bootstrap_servers: \"SSL://h:1\": differs from kafka.properties.security.protocol, which is plaintext ({}:1)",
        file.0.display()
    );
    assert_eq!(loaded.map(|_| ()).unwrap_err().to_string(), expected);
}

#[test]
fn a_file_that_a_setting_names_is_looked_for_where_it_is_needed() {
    let file = Scratch::new(
        "kafka: {bootstrap_servers: 'h:1', properties: {security.protocol: SSL, ssl.ca.location: /nonexistent/ca}}",
    );
    let url = [("TIDEGATE_DATABASE__URL", "postgres://h/db?sslmode=verify-full&sslrootcert=/nonexistent/root.pem")];
    let told = |needs: &[Need]| {
        let loaded = Settings::load_for(needs, &topology(), sources(Some(&file), &url, &[]));
        loaded.map_or_else(|problems| problems.iter().map(ToString::to_string).collect(), |_| Vec::new())
    };
    assert_eq!(told(&[]), Vec::<String>::new());
    let expected = [
        format!("kafka.properties.ssl.ca.location: \"/nonexistent/ca\": cannot be read: No such file or directory (os error 2) ({}:1)", file.0.display()),
        "database.url: sslrootcert: /nonexistent/root.pem cannot be read: No such file or directory (os error 2) (environment TIDEGATE_DATABASE__URL)".to_owned(),
    ];
    assert_eq!(told(&[Need::Kafka, Need::Database]), expected);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let mut sources = sources(None, &[], &[]);
    sources.file = Some("/nonexistent/tidegate.yaml".into());
    let told = Settings::load(&topology(), sources).unwrap_err().to_string();
    assert!(told.contains("file: the settings file cannot be read: No such file"), "{told}");
    assert!(told.contains("(/nonexistent/tidegate.yaml)"), "{told}");
}

#[test]
fn a_byte_order_mark_in_front_of_a_file_is_no_mistake_and_another_coding_is_told() {
    for text in ["\u{feff}engine:\n  workers: 4\n", "\u{feff}---\nengine:\n  workers: 4\n"] {
        assert_eq!(load(text, &[], &[]).unwrap().engine.workers, 4);
    }
    let file = Scratch::new("");
    std::fs::write(&file.0, b"\xff\xfee\0n\0").unwrap();
    let told = Settings::load(&topology(), sources(Some(&file), &[], &[])).unwrap_err().to_string();
    assert!(told.contains("file: the settings file is UTF-16, by the byte order mark in front: save it as UTF-8 ("));
}

#[test]
fn a_space_around_a_secret_is_noted_and_kept() {
    let settings = load("", &[("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", "secret ")], &[]).unwrap();
    let expected = "kafka.properties.sasl.password: begins or ends with a space (environment TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD)";
    assert_eq!(settings.notes(), [expected]);
    assert_eq!(settings.kafka.properties.value("sasl.password"), Some("secret "));
}

#[test]
fn what_a_command_needs_is_asked_for_with_an_example() {
    let settings = load("", &[], &[]).unwrap();
    let told = settings.require(&[Need::Kafka, Need::Database]).unwrap_err().to_string();
    assert!(told.contains("kafka.bootstrap_servers: is not set; set it in the file, or TIDEGATE_KAFKA__BOOTSTRAP_SERVERS, for example to localhost:9092 (built-in default)"), "{told}");
    assert!(told.contains("database.url: is not set; set it in the file, or TIDEGATE_DATABASE__URL"), "{told}");
    assert!(settings.require(&[]).is_ok());
}
