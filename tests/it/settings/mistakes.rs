//! Wrong settings: several at once, and what a command needs. One by one: `tests/setups`.

use super::{Scratch, load, sources, topology};
use tidegate::settings::{Need, Settings};

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
