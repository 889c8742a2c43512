//! Which layer wins, and that each value knows where it came from.

use super::{Scratch, load, origin, sources, topology};
use std::time::Duration;
use tidegate::settings::{GroupProtocol, LogFormat, MissingRow, Settings, StartPolicy};

#[test]
fn without_any_source_everything_is_a_default() {
    let settings = Settings::load(&topology(), sources(None, &[], &[])).unwrap();
    assert_eq!(settings.pipeline.name, "scoring");
    assert_eq!(settings.pipeline.thresholds["large-change"], 0.5);
    assert_eq!(settings.engine.missing_row, MissingRow::DeadLetter);
    assert_eq!(settings.engine.start, StartPolicy::Earliest);
    assert_eq!(settings.kafka.session_timeout_ms, 10_000);
    assert_eq!(settings.http.address.to_string(), "127.0.0.1:8230");
    assert_eq!(settings.instance.slot, None);
    assert_eq!(origin(&settings, "engine.workers"), "built-in default");
    assert_eq!(origin(&settings, "pipeline.thresholds.large-change"), "the pipeline's code");
}

#[test]
fn the_whole_file_of_the_documentation_loads() {
    let settings = load(
        r#"
pipeline: { name: scoring, thresholds: { large-change: 0.75 }, missing_row: retry, start: latest, verdicts: true }
retry: { attempts: 3, backoff_ms: 50 }
kafka:
  bootstrap_servers: "a:9092,b:9092"
  group_protocol: classic
  session_timeout_ms: 12000
  transaction_timeout_ms: 15000
  properties: { security.protocol: SASL_SSL, "sasl.mechanism": PLAIN, queued.min.messages: 1000 }
database: { url: "postgres://u:p@h/db", schema: gate, statement_timeout_ms: 20000, lock_timeout_ms: 4000, idle_in_transaction_timeout_ms: 9000 }
engine: { workers: 4, batch_rows: 500, batch_age_ms: 2, unpublished_rows: 5000, queued_records: 10000 }
outbox: { partition_minutes: 30, retention_hours: 12 }
http: { address: "[::1]:9000" }
instance: { slot: 3, name: pod-3 }
log: { format: json, level: debug }
"#,
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(settings.pipeline.thresholds["large-change"], 0.75);
    assert_eq!(settings.engine.missing_row, MissingRow::Retry);
    assert!(settings.engine.verdicts);
    assert_eq!(settings.engine.retry_backoff, Duration::from_millis(50));
    assert_eq!(settings.kafka.group_protocol, GroupProtocol::Classic);
    assert_eq!(settings.kafka.properties.value("queued.min.messages"), Some("1000"));
    assert_eq!(settings.kafka.properties.iter().count(), 3);
    assert_eq!(settings.database.url.expose(), "postgres://u:p@h/db");
    assert_eq!(settings.engine.workers, 4);
    assert_eq!(settings.instance.slot, Some(3));
    assert_eq!(settings.instance.name.as_deref(), Some("pod-3"));
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let file = "engine:\n  workers: 3\n  batch_rows: 300\n  batch_age_ms: 3\n";
    let environment = [("TIDEGATE_ENGINE__WORKERS", "4"), ("TIDEGATE_ENGINE__BATCH_ROWS", "400")];
    let settings = load(file, &environment, &["engine.workers=5"]).unwrap();
    assert_eq!((settings.engine.workers, settings.engine.batch_rows), (5, 400));
    assert_eq!(settings.engine.batch_age, Duration::from_millis(3));
    assert_eq!(settings.engine.queued_records, 20_000);
    assert_eq!(origin(&settings, "engine.workers"), "flag --set");
    assert_eq!(origin(&settings, "engine.batch_rows"), "environment TIDEGATE_ENGINE__BATCH_ROWS");
    assert!(origin(&settings, "engine.batch_age_ms").ends_with(".yaml:4"), "{settings:?}");
    assert_eq!(origin(&settings, "engine.queued_records"), "built-in default");
}

#[test]
fn a_layer_changes_one_entry_of_a_map_and_leaves_the_others() {
    let file = "kafka:\n  properties:\n    client.rack: a\n    sasl.username: file\n";
    let environment = [
        ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "environment"),
        ("TIDEGATE_PIPELINE__THRESHOLDS__LARGE_CHANGE", "2"),
    ];
    let settings = load(file, &environment, &["kafka.properties.sasl.mechanism=PLAIN"]).unwrap();
    let properties: Vec<_> = settings.kafka.properties.iter().collect();
    let expected = [("client.rack", "a"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "environment")];
    assert_eq!(properties, expected);
    assert_eq!(settings.pipeline.thresholds["large-change"], 2.0);
}

#[test]
fn null_takes_a_value_back_and_an_empty_section_is_no_mistake() {
    let settings = load("instance: {slot: 3}\nengine:\nkafka: {properties: }\n", &[], &["instance.slot=null"]).unwrap();
    assert_eq!(settings.instance.slot, None);
    assert_eq!(settings.engine.workers, 2);
}

#[test]
fn variables_of_a_kubernetes_service_are_skipped_with_one_line() {
    let links = [
        ("TIDEGATE_PORT", "tcp://10.0.0.1:8230"),
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_PORT_8230_TCP_ADDR", "10.0.0.1"),
        ("TIDEGATE_CONFIG", "/somewhere"),
        ("TIDEGATE_LOG", "tidegate=debug"),
        ("HOME", "/root"),
    ];
    let settings = load("", &links, &[]).unwrap();
    assert_eq!(settings.notes().len(), 1);
    assert!(settings.notes()[0].contains("TIDEGATE_PORT, TIDEGATE_PORT_8230_TCP_ADDR, TIDEGATE_SERVICE_HOST"));
}

#[test]
fn thresholds_are_read_again_and_nothing_else_is() {
    let file = Scratch::new("pipeline: {thresholds: {large-change: 1}}\nengine: {workers: 3}\n");
    let settings = Settings::load(&topology(), sources(Some(&file), &[], &[])).unwrap();
    assert_eq!(settings.reload_thresholds().unwrap()["large-change"], 1.0);

    std::fs::write(&file.0, "pipeline: {thresholds: {large-change: 2.5}}\nengine: {workers: many}\n").unwrap();
    assert_eq!(settings.reload_thresholds().unwrap()["large-change"], 2.5, "a mistake elsewhere is not its business");

    std::fs::write(&file.0, "pipeline: {thresholds: {large-change: much}}\n").unwrap();
    let problems = settings.reload_thresholds().unwrap_err().to_string();
    assert!(problems.contains("pipeline.thresholds.large-change: \"much\": expected a finite number"), "{problems}");

    std::fs::write(&file.0, "").unwrap();
    assert_eq!(settings.reload_thresholds().unwrap()["large-change"], 0.5, "the topology's own value again");
}

#[test]
fn what_else_changed_in_the_file_is_named_and_waits() {
    let file = Scratch::new("engine: {workers: 3}\nlog: {level: info}\ndatabase: {url: 'postgres://h/a'}\n");
    let environment = [("TIDEGATE_LOG__LEVEL", "warn")];
    let settings = Settings::load(&topology(), sources(Some(&file), &environment, &[])).unwrap();
    assert!(settings.waiting().is_empty());
    let changed = "engine: {workers: 4}\nlog: {level: debug}\npipeline: {thresholds: {large-change: 2}}\n\
                   database: {url: 'postgres://h/b'}\nkafka: {properties: {sasl.password: new}}\n";
    std::fs::write(&file.0, changed).unwrap();
    let waiting: Vec<String> = settings.waiting().into_iter().collect();
    assert_eq!(waiting, ["database.url", "engine.workers", "kafka.properties.sasl.password"]);
    assert_eq!(settings.engine.workers, 3);
}

#[test]
fn the_environment_still_wins_when_thresholds_are_read_again() {
    let file = Scratch::new("");
    let environment = [("TIDEGATE_PIPELINE__THRESHOLDS__LARGE_CHANGE", "9")];
    let settings = Settings::load(&topology(), sources(Some(&file), &environment, &[])).unwrap();
    std::fs::write(&file.0, "pipeline: {thresholds: {large-change: 1}}").unwrap();
    assert_eq!(settings.reload_thresholds().unwrap()["large-change"], 9.0);
}
