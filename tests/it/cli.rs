//! The binary from outside: exit codes, help, output.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary in the repository with an environment that holds nothing of ours.
pub fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn tidegate(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(arguments, environment).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn exit_codes_tell_usage_from_configuration_from_failure() {
    let cases: &[(&[&str], &[(&str, &str)], i32)] = &[
        (&["describe"], &[], 0),
        (&["--help"], &[], 0),
        (&["topics", "apply", "--help"], &[], 0),
        (&["--version"], &[], 0),
        (&["config", "show"], &[], 0),
        (&["topics", "validate"], &[], 0),
        (&["topics", "validate", "--env", "prod"], &[], 0),
        (&["topics", "validate", "--env", "nowhere"], &[], 1),
        (&["topics", "validate", "--dir", "src"], &[], 1),
        (&[], &[], 2),
        (&["destroy"], &[], 2),
        (&["describe", "--colour"], &[], 2),
        (&["describe", "-o", "yaml"], &[], 2),
        (&["demo", "--seconds", "0"], &[], 2),
        (&["adopt", "readings-3"], &[], 2),
        (&["reset", "readings-3", "--to", "yesterday"], &[], 2),
        (&["replay", "readings-3"], &[], 2),
        (&["adopt", "readings-3", "--from-group", "--yes"], &[], 78),
        (&["config", "validate"], &[], 78),
        (&["topics", "plan"], &[], 78),
        (&["config", "show", "--set", "engine.workers=0"], &[], 78),
        (&["--config", "/nonexistent.yaml", "config", "show"], &[], 78),
        (&["--config", "/nonexistent.yaml", "describe"], &[], 78),
        (&["--config", "/nonexistent.yaml", "topics", "validate"], &[], 78),
        (&["config", "show"], &[("TIDEGATE_ENGINE__WORKERS", "none")], 78),
        (&["config", "show"], &[("TIDEGATE_CONFIG", "/nonexistent.yaml")], 78),
    ];
    for (arguments, environment, expected) in cases {
        let output = tidegate(arguments, environment);
        assert_eq!(output.status.code(), Some(*expected), "{arguments:?} {environment:?}: {}", err(&output));
    }
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let help = out(&tidegate(&["--help"], &[]));
    for word in [
        "run", "demo", "migrate", "topics", "describe", "halted", "adopt", "reset", "replay", "skip", "audit", "state",
        "config", "78", "--set", "Example:",
    ] {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
    let help = out(&tidegate(&["demo", "--help"], &[]));
    for flag in ["--seconds", "--rate", "--devices", "/graphs", "--no-crashes", "-o, --output"] {
        assert!(help.contains(flag), "{flag} is missing in\n{help}");
    }
}

#[test]
fn describe_tells_topics_table_and_transactional_ids() {
    let text = out(&tidegate(&["describe"], &[]));
    for line in [
        "reads              readings (lead), corrections (companion)",
        "publishes in       large-changes",
        "dead letters in    readings-dlt, corrections-dlt",
        "transactional ids  scoring-<slot>-<worker>-<producer>",
        "threshold          large-change: published from 0.5 on",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let set = ["--set", "pipeline.name=eu", "--set", "pipeline.thresholds.large-change=1.25", "describe"];
    let text = out(&tidegate(&set, &[]));
    for line in ["eu-<slot>-<worker>-<producer>", "threshold          large-change: published from 1.25 on"] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&out(&tidegate(&["describe", "-o", "json"], &[]))).unwrap();
    assert_eq!(json["sub_topologies"][0]["lead"], "readings");
    assert_eq!(json["sub_topologies"][0]["table"]["columns"][0]["types"][0], "double precision");
}

#[test]
fn a_name_that_no_topic_could_have_is_refused_before_any_server_is_asked() {
    let name = "p".repeat(250);
    let environment = [
        ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("TIDEGATE_DATABASE__URL", "postgres://app:app@127.0.0.1:1/db"),
        ("TIDEGATE_PIPELINE__NAME", name.as_str()),
    ];
    for command in [&["run"][..], &["describe"], &["topics", "plan"], &["topics", "validate"], &["halted"]] {
        let output = tidegate(command, &environment);
        let told = err(&output);
        assert_eq!(output.status.code(), Some(78), "{command:?}: {told}");
        assert!(told.contains("pipeline.name: ") && told.contains("1 to 249 characters of a-z"), "{command:?}: {told}");
    }
}

/// `run` asks for topics of this name, so every command has to speak of the same ones.
#[test]
fn the_name_that_the_settings_give_the_pipeline_is_known_to_every_command() {
    let eu = [("TIDEGATE_PIPELINE__NAME", "eu")];
    let text = out(&tidegate(&["describe"], &eu));
    assert!(text.contains("transactional ids  eu-<slot>-<worker>-<producer>"), "{text}");
    let broken = [("TIDEGATE_CONFIG", "/nonexistent.yaml")];
    for arguments in [&["describe"][..], &["topics", "validate"]] {
        assert_eq!(tidegate(arguments, &broken).status.code(), Some(78), "{arguments:?}");
    }
    // The folder itself is named, whatever is asked of it.
    let elsewhere = out(&tidegate(&["topics", "validate", "--dir", "/nonexistent"], &eu));
    assert!(elsewhere.contains("the working directory is") && elsewhere.contains("--dir"), "{elsewhere}");
}

#[test]
fn settings_print_with_their_origins_and_without_their_secrets() {
    let environment = [("TIDEGATE_DATABASE__URL", "postgres://u:c4n4ry@h/db"), ("TIDEGATE_SERVICE_HOST", "10.0.0.1")];
    for format in ["table", "json", "yaml"] {
        let output = tidegate(&["config", "show", "-o", format, "--set", "engine.workers=7"], &environment);
        let text = out(&output) + &err(&output);
        assert!(text.contains("flag --set") && text.contains("environment TIDEGATE_DATABASE__URL"), "{text}");
        assert!(text.contains("***") && !text.contains("c4n4ry"), "{text}");
    }
    let enough = [environment[0], ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "h:9092")];
    let output = tidegate(&["config", "validate"], &enough);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "ok: 44 values, no file\n"));
}

#[test]
fn settings_printed_as_yaml_are_settings_again() {
    let yaml = out(&tidegate(&["config", "show", "-o", "yaml", "--set", "engine.workers=7"], &[]));
    let file = crate::settings::Scratch::new(&yaml);
    let path = file.0.display().to_string();
    let json = out(&tidegate(&["--config", &path, "config", "show", "-o", "json"], &[]));
    let values: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let workers = values.iter().find(|value| value["path"] == "engine.workers").unwrap();
    assert_eq!(workers["value"], 7);
    assert!(workers["origin"].as_str().unwrap().starts_with(&path));
}

#[test]
fn every_mistake_is_on_standard_error_at_once() {
    let output = tidegate(&["config", "show", "--set", "engine.wrokers=1", "--set", "log.level=loud"], &[]);
    assert_eq!(out(&output), "");
    assert_eq!(
        err(&output),
        "configuration: 2 mistakes\n  \
         engine.wrokers: unknown key; did you mean engine.workers? (flag --set)\n  \
         log.level: \"loud\": expected one of error, warn, info, debug, trace (flag --set)\n"
    );
}

#[cfg(all(feature = "kafka", feature = "postgres"))]
#[test]
fn properties_of_java_are_all_told_before_any_server_is_asked_and_no_secret_is() {
    let environment = [
        ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("TIDEGATE_DATABASE__URL", "postgres://app:c4n4ry@127.0.0.1:1/db"),
        ("TIDEGATE_KAFKA__PROPERTIES__SASL_JAAS_CONFIG", "PlainLoginModule required password=\"c4n4ry\";"),
        ("TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_LOCATION", "/etc/trust.jks"),
        ("TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_PASSWORD", "c4n4ry"),
        ("TIDEGATE_KAFKA__PROPERTIES__MAX_REQUEST_SIZE", "1048576"),
        ("TIDEGATE_KAFKA__PROPERTIES__LINGER_MSS", "5"),
    ];
    for command in [vec!["config", "validate"], vec!["run"], vec!["config", "show"], vec!["migrate"]] {
        let output = tidegate(&command, &environment);
        let told = err(&output);
        assert_eq!(output.status.code(), Some(78), "{command:?}: {told}");
        assert!(told.starts_with("configuration: 5 mistakes\n"), "{command:?}: {told}");
        for name in ["linger.ms", "message.max.bytes", "sasl.username", "ssl.ca.location"] {
            assert!(told.contains(name), "{command:?} does not name {name}: {told}");
        }
        assert!(!told.contains("c4n4ry"), "{command:?}: {told}");
    }
}
