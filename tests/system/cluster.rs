//! Clusters that answer and cannot be used: the last word of a command says which step fails, and what helps.

use crate::rig::{World, accounts};
use std::path::Path;
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
    sent_astray(&world, "timeout", &["80"]);
    // The same where the resolver, which answered at once that there is no such name, says nothing at all.
    let address = format!("127.53.{}.1", std::process::id() % 250);
    let Ok(_silent) = std::net::UdpSocket::bind((address.as_str(), 53)) else {
        return world.note("SKIPPED: no resolver can be played here");
    };
    let settings = world.folder().join("resolv.conf");
    std::fs::write(&settings, format!("nameserver {address}\noptions timeout:5 attempts:2\n")).unwrap();
    let play = "mount --bind \"$0\" /etc/resolv.conf && exec timeout 80 \"$@\"";
    let before = ["--mount", "sh", "-c", play, settings.to_str().unwrap()];
    if !Command::new("unshare").args(before).arg("true").status().is_ok_and(|status| status.success()) {
        return world.note("SKIPPED: unshare makes no room of its own here");
    }
    sent_astray(&world, "unshare", &before);
}

/// Each command, begun by `program`, ends within 70 s and says where the broker sends its clients.
fn sent_astray(world: &World, program: &str, before: &[&str]) {
    let commands: &[&[&str]] = &[
        &["run"],
        &["topics", "plan", "--env", "dev"],
        &["topics", "apply", "--env", "dev", "--yes"],
        &["halted"],
        &["audit"],
        &["adopt", "readings-0", "--from-database", "--yes"],
    ];
    let began = Instant::now();
    let running: Vec<_> = commands.iter().map(|arguments| spawned(world.command(program, before, arguments))).collect();
    for (arguments, child) in commands.iter().zip(running) {
        let output = child.wait_with_output().unwrap();
        let message = message(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        let words = "answered, and sends its clients on to kafka-nowhere.invalid:19092, which does not resolve here";
        assert!(message.starts_with("kafka: ") && message.contains(words), "{arguments:?}: {message}");
        assert!(message.contains("advertised.listeners") && message.contains("kafka.bootstrap_servers: "), "{message}");
        assert!(!message.contains("is it running"), "{arguments:?}: {message}");
    }
    assert!(began.elapsed() < Duration::from_secs(70), "{:?}", began.elapsed());
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

#[test]
fn transactions_longer_than_the_brokers_let_them_be_are_found_before_anything_begins() {
    let Some(world) = World::with_kafka("bounded", &[("KAFKA_MORE", "transaction.max.timeout.ms=5000")]) else {
        return;
    };
    world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
    world.ok(&["migrate"]);
    world.sql(&accounts(10));
    let output = spawned(world.command("timeout", &["60"], &["run"])).wait_with_output().unwrap();
    let message = message(&output);
    assert_eq!(output.status.code(), Some(78), "{message}");
    assert_eq!(
        message,
        "kafka.transaction_timeout_ms is 10000, and the brokers take at most 5000 (transaction.max.timeout.ms): lower \
         kafka.transaction_timeout_ms, or raise transaction.max.timeout.ms on the brokers"
    );
}

#[test]
fn topics_are_made_in_spite_of_a_quota_of_changes_that_holds_requests_back() {
    let Some(world) = World::bare("quota") else { return };
    let apply = ["topics", "apply", "--env", "dev", "--yes"];
    world.ok(&apply);
    for topic in ["corrections", "readings"] {
        world.kafka.tool("org.apache.kafka.tools.TopicCommand", &["--delete", "--topic", topic]);
    }
    // The first change is made, and the next one waits for longer than a request may take.
    let rate =
        ["--alter", "--add-config", "controller_mutation_rate=0.1", "--entity-type", "users", "--entity-default"];
    world.kafka.tool("kafka.admin.ConfigCommand", &rate);
    let output = spawned(world.command("timeout", &["300"], &apply)).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &message(&output);
    assert!(said.ends_with("ok 3, created 2, altered 0, failed 0\n"), "{said}");
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

    let command = format!("`kafka-acls.sh --bootstrap-server {secured} --add --allow-principal User:app --operation");
    let missing = |rights: &[(&str, &str, &str)]| {
        let words: Vec<_> = rights
            .iter()
            .map(|(operation, resource, option)| {
                format!(
                    "kafka: the user has no right {operation} on {resource}; {command} {operation} {option}` grants it"
                )
            })
            .collect();
        let said = refused(78, &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(said.lines().count(), rights.len(), "{said}");
    };
    let ids = (
        "Write",
        "the transactional ids that begin with scoring-",
        "--resource-pattern-type prefixed --transactional-id scoring-",
    );
    let group = ("Read", "group scoring", "--group scoring");

    // One start tells all of them.
    missing(&[
        ("Read", "topic readings", "--topic readings"),
        ("Read", "topic corrections", "--topic corrections"),
        ("Write", "topic large-changes", "--topic large-changes"),
        ("DescribeConfigs", "topic large-changes", "--topic large-changes"),
        ("Write", "topic readings-dlt", "--topic readings-dlt"),
        ("DescribeConfigs", "topic readings-dlt", "--topic readings-dlt"),
        ("Write", "topic corrections-dlt", "--topic corrections-dlt"),
        ("DescribeConfigs", "topic corrections-dlt", "--topic corrections-dlt"),
        ids,
        group,
    ]);
    let outputs = ["--topic", "large-changes", "--topic", "readings-dlt", "--topic", "corrections-dlt"];
    grant(&["--operation", "Read", "--topic", "readings"]);
    grant(&[&["--operation", "Write"][..], &outputs].concat());
    grant(&["--operation", "Describe", "--topic", "corrections", "--group", "scoring"]);
    // The right to one id is none to the others.
    grant(&["--operation", "Write", "--transactional-id", "scoring-0-0-0"]);
    missing(&[
        ("Read", "topic corrections", "--topic corrections"),
        ("DescribeConfigs", "topic large-changes", "--topic large-changes"),
        ("DescribeConfigs", "topic corrections-dlt", "--topic corrections-dlt"),
        ("DescribeConfigs", "topic readings-dlt", "--topic readings-dlt"),
        ids,
        group,
    ]);
    grant(&["--operation", "Read", "--topic", "corrections"]);
    grant(&[&["--operation", "DescribeConfigs", "--operation", "Read"][..], &outputs].concat());
    missing(&[ids, group]);
    grant(&["--operation", "Read", "--group", "scoring"]);
    missing(&[ids]);
    grant(&["--operation", "Write", "--resource-pattern-type", "prefixed", "--transactional-id", "scoring-"]);
    let mut instance = world.instance("allowed");
    world.wait_owners(1);
    assert!(instance.is_running(), "{}", instance.log());
    world.ok(&["halted"]);
    world.ok(&["audit"]);

    // The other commands, each with what `run` does not need.
    let said = |arguments: &[&str]| {
        let output = spawned(world.command("timeout", &["60"], arguments)).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        message(&output) + &String::from_utf8_lossy(&output.stdout)
    };
    let plan = said(&["topics", "plan", "--env", "dev"]);
    for topic in ["readings", "corrections"] {
        let words = format!("topic {topic}: its settings could not be read: the user has no right DescribeConfigs");
        assert!(plan.contains(&words), "{plan}");
    }
    grant(&["--operation", "DescribeConfigs", "--topic", "readings", "--topic", "corrections"]);
    world.ok(&["topics", "plan", "--env", "dev"]);
    let folder = world.folder().join("topics");
    copy_topics(&folder);
    let readings = folder.join("readings.yaml");
    let longer = std::fs::read_to_string(&readings).unwrap().replace("604800000", "604800001");
    std::fs::write(&readings, longer).unwrap();
    let apply = ["topics", "apply", "--dir", folder.to_str().unwrap(), "--env", "dev", "--yes"];
    let denied = said(&apply);
    assert!(denied.contains("the user has no right AlterConfigs on topic readings;"), "{denied}");
    assert!(denied.ends_with("ok 4, created 0, altered 0, failed 1\n"), "{denied}");
    grant(&["--operation", "AlterConfigs", "--topic", "readings"]);
    world.ok(&apply);
}

/// The shipped folder of `scoring`, as a folder that a test may change.
fn copy_topics(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("topics");
    for folder in ["", "env", "schemas"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, to.join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
}

#[test]
fn topics_apply_says_what_the_broker_says_and_equal_values_are_no_difference() {
    let Some(world) = World::bare("apply") else { return };
    let folder = world.folder().join("topics");
    copy_topics(&folder);
    let dir = folder.to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let mut all = vec!["topics", "--dir", &dir];
        all.extend(arguments);
        let output = spawned(world.command("timeout", &["60"], &all)).wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &message(&output))
    };
    let change = |from: &str, to: &str| {
        let file = folder.join("readings.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to)).unwrap();
    };

    // Without --env the files ask for three copies.
    let (code, said) = run(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("only 1 broker(s) are registered"), "{said}");
    assert!(said.contains("no --env was given: if these topics were made with --env dev or --env prod"), "{said}");
    assert_eq!(run(&["apply", "--env", "dev", "--yes"]).0, Some(0));
    let (code, said) = run(&["plan"]);
    assert!(code == Some(3) && said.contains("no --env was given"), "{said}");

    change(
        "cleanup.policy: delete",
        "cleanup.policy: \"compact, delete\"\n    preallocate: FALSE\n    min.cleanable.dirty.ratio: 0",
    );
    change("retention.ms: 604800000", "retention.ms: \"0604800001\"");
    let (code, said) = run(&["apply", "--env", "dev", "--yes"]);
    assert!(code == Some(0) && said.ends_with("ok 4, created 0, altered 1, failed 0\n"), "{said}");
    let (code, said) = run(&["plan", "--env", "dev"]);
    assert_eq!((code, said.as_str()), (Some(0), "as described 5, differences 0, blocked 0\n"));

    // A value that is sound by itself; only this broker knows better.
    change("retention.ms: \"0604800001\"", "retention.ms: 7000\n    remote.storage.enable: true");
    let (code, said) = run(&["apply", "--env", "dev", "--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("failed: readings: remote.storage.enable: false -> true: topic readings"), "{said}");
    assert!(said.contains("Tiered Storage functionality is disabled in the broker"), "{said}");
    assert!(said.ends_with("ok 4, created 0, altered 0, failed 1\n"), "{said}");
    let (code, said) = run(&["plan", "--env", "dev"]);
    assert!(code == Some(3) && said.contains("remote.storage.enable: false -> true"), "{said}");
    assert!(!said.contains("retention.ms"), "the good one was set: {said}");
}
