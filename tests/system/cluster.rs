//! Clusters that answer and cannot be used: the last word of a command says which step fails, and what helps.

use crate::rig::{World, accounts};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The last word: standard error without the log.
fn message(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let is_log = |line: &&str| [" INFO ", " WARN "].iter().any(|level| line.contains(level));
    text.lines().filter(|line| !is_log(line)).collect::<Vec<_>>().join("\n")
}

fn spawned(mut command: Command) -> std::process::Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn every_command_names_the_address_that_a_broker_sends_its_clients_on_to() {
    let nowhere = "advertised.listeners=CLIENT://kafka-nowhere.invalid:19092";
    let Some(world) = World::with_kafka("advertised", &[("KAFKA_MORE", nowhere)]) else { return };
    world.ok(&["migrate"]);
    world.sql(&accounts(10));
    let commands: &[&[&str]] = &[
        &["run"],
        &["topics", "plan", "--env", "dev"],
        &["topics", "apply", "--env", "dev", "--yes"],
        &["halted"],
        &["audit"],
        &["adopt", "readings-0", "--from-database", "--yes"],
    ];
    let began = Instant::now();
    let running: Vec<_> =
        commands.iter().map(|arguments| spawned(world.command("timeout", &["60"], arguments))).collect();
    for (arguments, child) in commands.iter().zip(running) {
        let output = child.wait_with_output().unwrap();
        let message = message(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        let words = "answered, and sends its clients on to kafka-nowhere.invalid:19092, which does not resolve here";
        assert!(message.starts_with("kafka: ") && message.contains(words), "{arguments:?}: {message}");
        assert!(message.contains("advertised.listeners") && message.contains("kafka.bootstrap_servers: "), "{message}");
        assert!(!message.contains("is it running"), "{arguments:?}: {message}");
    }
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
}

#[test]
fn a_single_broker_with_the_defaults_of_kafka_is_found_before_anything_begins() {
    let defaults = "transaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2";
    let Some(world) = World::with_kafka("defaults", &[("KAFKA_MORE", defaults)]) else { return };
    world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
    world.ok(&["migrate"]);
    world.sql(&accounts(10));
    let began = Instant::now();
    let output = spawned(world.command("timeout", &["60"], &["run"])).wait_with_output().unwrap();
    let message = message(&output);
    assert_eq!(output.status.code(), Some(78), "{message}");
    assert_eq!(
        message,
        "the cluster has 1 broker, and its log of transactions (__transaction_state) is to have 3 copies, so that it cannot be \
         made: set transaction.state.log.replication.factor and transaction.state.log.min.isr to 1 on each broker, and restart it"
    );
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// The table of docs/operations.md, right by right: what is missing is named, and what it lists is enough.
#[test]
fn each_missing_right_is_named_and_the_documented_ones_are_enough() {
    let Some(mut world) = World::with_kafka("rights", &[("KAFKA_SECURED", "1")]) else { return };
    world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
    world.ok(&["migrate"]);
    world.sql(&accounts(10));
    let secured = world.kafka.secured();
    for (name, value) in [
        ("BOOTSTRAP_SERVERS", secured.as_str()),
        ("PROPERTIES__SECURITY_PROTOCOL", "sasl_plaintext"),
        ("PROPERTIES__SASL_MECHANISM", "PLAIN"),
        ("PROPERTIES__SASL_USERNAME", "app"),
        ("PROPERTIES__SASL_PASSWORD", "app-secret"),
    ] {
        world.settings.push((format!("TIDEGATE_KAFKA__{name}"), value.to_owned()));
    }
    let grant = |arguments: &[&str]| {
        let mut all = vec!["--add", "--force", "--allow-principal", "User:app"];
        all.extend(arguments);
        world.kafka.tool("org.apache.kafka.tools.AclCommand", &all);
    };
    let refused = |code: i32, words: &[&str]| {
        let output = spawned(world.command("timeout", &["60"], &["run"])).wait_with_output().unwrap();
        let message = message(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
        message
    };

    let topics = ["readings", "corrections", "large-changes", "readings-dlt", "corrections-dlt"];
    let nothing =
        refused(78, &topics.map(|topic| format!("no right Describe on topic {topic};")).each_ref().map(String::as_str));
    assert_eq!(nothing.lines().count(), 5, "{nothing}");
    grant(&["--operation", "Read", "--topic", "readings"]);
    grant(&[
        "--operation",
        "Write",
        "--topic",
        "large-changes",
        "--topic",
        "readings-dlt",
        "--topic",
        "corrections-dlt",
    ]);
    grant(&["--operation", "Describe", "--topic", "corrections"]);
    let some = refused(
        78,
        &[
            "kafka: the user has no right Read on topic corrections;",
            "kafka: the user has no right DescribeConfigs on topic large-changes;",
            "--operation DescribeConfigs --topic corrections-dlt` grants it",
            "--operation DescribeConfigs --topic readings-dlt` grants it",
        ],
    );
    assert_eq!(some.lines().count(), 4, "{some}");
    grant(&["--operation", "Read", "--topic", "corrections"]);
    let outputs = ["--topic", "large-changes", "--topic", "readings-dlt", "--topic", "corrections-dlt"];
    grant(&[&["--operation", "DescribeConfigs", "--operation", "Read"][..], &outputs].concat());
    refused(1, &["no right Write on transactional id scoring-", "--operation Write --transactional-id scoring-"]);
    grant(&["--operation", "Write", "--resource-pattern-type", "prefixed", "--transactional-id", "scoring-"]);
    refused(1, &["no right Read on group scoring;", "--operation Read --group scoring` grants it"]);
    grant(&["--operation", "Read", "--group", "scoring"]);
    let mut instance = world.instance("allowed");
    world.wait_owners(1);
    assert!(instance.is_running(), "{}", instance.log());
}
