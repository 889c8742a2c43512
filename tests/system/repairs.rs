//! Every halt of a step with rows, provoked on real servers: the command is taken out of the halt's own message, run as
//! it stands with `--yes`, and the stream goes on with the promised effect.

use crate::rig::{Feed, World, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaAdmin, KafkaHistory, KafkaOffsets, KafkaSink};
use tidegate::adapters::postgres::{PostgresPositions, PostgresRows, PostgresSettings};
use tidegate::engine::protocol::metadata;
use tidegate::engine::repair::plan::Action;
use tidegate::engine::repair::{Repair, Step, Tools};
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::pipelines::scoring;
use tidegate::ports::Fault;
use tidegate::ports::repair::Offsets as _;
use tidegate::ports::source::Committed;

const IDS: i64 = 1_000;
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const WAIT: Duration = Duration::from_secs(30);

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(partition))
}

/// The commands in the line of the log that reports this halt, as a person would copy them.
pub fn told(log: &str, source: &str, reason: &str) -> Vec<String> {
    let (source, reason) = (format!("partition={source} "), format!("reason=\"{reason}\""));
    let is_it = |line: &&str| line.contains("halted: ") && line.contains(&source) && line.contains(&reason);
    let line = log.lines().rev().find(is_it).unwrap_or_else(|| panic!("{source} {reason}: not in\n{log}"));
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Picks the command that has all of `words`.
pub fn pick(commands: &[String], words: &[&str]) -> String {
    let found = commands.iter().find(|command| words.iter().all(|word| command.contains(word)));
    found.unwrap_or_else(|| panic!("{words:?} in none of {commands:?}")).clone()
}

/// Runs a line that a halt printed, as it stands and with `--yes`; then again, which changes nothing more.
pub fn obey(world: &World, line: &str) {
    let run = || {
        let output = world.shell(&format!("{line} --yes"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    let first = run();
    assert!(first.contains("ok  "), "{line}: {first}");
    if !line.contains("state rebuild") {
        assert!(run().ends_with("nothing to do\n"), "{line}: a second run has something to do");
    }
}

fn halted(world: &World) -> Vec<Value> {
    let output = world.run(&["halted", "-o", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(if found.is_empty() { 0 } else { 3 }));
    found
}

/// Runs an instance until all of its partitions are halted, and runs the command of each halt: `words`
/// choose among the commands. A task reports its first halted input only; the others are taken from `halted`.
fn mend_all(world: &World, reason: &str, words: &[&str]) -> usize {
    let mut instance = world.instance(&format!("halting-{reason}{}", words.join("")));
    instance.stand_still(12, Duration::from_secs(40));
    assert!(instance.terminate(Duration::from_secs(20)).0.success(), "{}", instance.log());
    let log = instance.log();
    let is_halt = |line: &&str| line.contains("halted: ") && line.contains(reason);
    assert_eq!(log.lines().filter(is_halt).count(), 12, "each task tells of its first halt: {log}");
    let (mut count, mut all) = (0, String::new());
    for halt in halted(world) {
        assert_eq!(halt["reason"], reason, "{halt}");
        let source = halt["source"].as_str().unwrap();
        let is_told =
            log.lines().any(|line| line.contains("halted: ") && line.contains(&format!("partition={source} ")));
        let commands = if is_told {
            told(&log, source, reason)
        } else {
            let choices = halt["choices"].as_array().unwrap().iter();
            choices.filter_map(|choice| Some(choice["command"].as_str()?.to_owned())).collect()
        };
        let line = pick(&commands, words);
        count += 1;
        if count <= 2 {
            obey(world, &line);
            let topics = if reason == "topic-recreated" { "readings" } else { "readings corrections" };
            all = line.replace(source, topics);
        } else if words.contains(&"skip") {
            assert!(world.shell(&format!("{line} --yes")).status.success(), "{line}"); // each to an offset of its own
        }
    }
    if !words.contains(&"skip") {
        assert!(world.shell(&format!("{all} --yes")).status.success(), "{all}"); // the rest of them in one go
    }
    assert_eq!(halted(world), Vec::<Value>::new());
    count
}

/// Times that each id stands in the topic.
fn announced(world: &World) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for found in world.messages("large-changes") {
        *out.entry(found.header("tg_id").unwrap().to_owned()).or_default() += 1;
    }
    out
}

fn wait_caught_up(world: &World) {
    until("everything is read and published", Duration::from_secs(40), || {
        let output = world.run(&["audit", "-o", "json"]);
        let audit = crate::rig::Audit(serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?);
        let behind = format!("{:?}", audit.behind());
        let is_begun = audit.0["partitions"].as_array().is_some_and(|all| all.len() == 24);
        if is_begun && audit.behind().is_empty() { Ok(()) } else { Err(behind) }
    });
}

/// An instance takes all records and ends.
fn run_once(world: &World, name: &str) {
    let mut instance = world.instance(name);
    wait_caught_up(world);
    assert!(instance.terminate(Duration::from_secs(10)).0.success(), "{}", instance.log());
}

const BACKUP: &str = "DROP SCHEMA IF EXISTS backup CASCADE; CREATE SCHEMA backup;
    CREATE TABLE backup.accounts AS TABLE accounts; CREATE TABLE backup.position AS TABLE tidegate.position;
    CREATE TABLE backup.outbox AS TABLE tidegate.outbox";
const RESTORE: &str = "TRUNCATE accounts, tidegate.position, tidegate.outbox;
    INSERT INTO accounts TABLE backup.accounts; INSERT INTO tidegate.position TABLE backup.position;
    INSERT INTO tidegate.outbox TABLE backup.outbox";

#[test]
fn a_database_that_was_restored_or_lost_is_mended_by_what_its_halts_say() {
    let Some(world) = World::new("repair-database", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 21);
    feed.send(2_000, Duration::ZERO);
    run_once(&world, "before");
    world.sql(BACKUP);
    feed.send(2_000, Duration::ZERO);
    run_once(&world, "between");
    let notices = announced(&world);

    world.sql(RESTORE);
    let count = mend_all(&world, "database-went-back", &["replay", "--suppress-output"]);
    assert_eq!(count, 24, "every partition of both topics");
    feed.send(1_000, Duration::ZERO);
    run_once(&world, "caught-up");
    let audit = world.judge(&feed, Duration::from_secs(30));
    assert_eq!(audit.0["repairs"].as_array().unwrap().len(), 24);
    assert!(audit.0["repairs"][0]["who"].as_str().unwrap().contains('@'));
    world.note("restored, recomputed: rows and notices are those of the reference, none twice");

    // The table of positions is gone, the rows are not.
    world.sql(
        "DROP TABLE tidegate.position, tidegate.outbox, tidegate.verdict, tidegate.repair, tidegate.baseline, \
         tidegate.slot, tidegate.migration CASCADE",
    );
    world.ok(&["migrate"]);
    assert_eq!(mend_all(&world, "database-lost", &["adopt", "--from-group"]), 24);
    feed.send(1_000, Duration::ZERO);
    run_once(&world, "adopted");
    world.audit();
    assert_eq!(world.rows(), feed.reference.rows);
    let found = announced(&world);
    assert_eq!(found.len(), feed.reference.notice_count());
    assert!(found.values().all(|count| *count == 1));
    world.note("lost, adopted: rows and notices are those of the reference, none twice");

    world.sql(BACKUP);
    let before = found;
    feed.send(1_000, Duration::ZERO);
    run_once(&world, "between-again");
    world.sql(RESTORE);
    mend_all(&world, "database-went-back", &["replay", "--emit"]);
    run_once(&world, "emitted");
    world.audit();
    assert_eq!(world.rows(), feed.reference.rows);
    let found = announced(&world);
    assert_eq!(found.len(), feed.reference.notice_count(), "the same ids");
    for (id, count) in &found {
        assert_eq!(*count, if before.contains_key(id) { 1 } else { 2 }, "{id}");
    }
    world.note(&format!("restored, announced again: {} notices twice", found.len() - before.len()));

    let rows: i64 = world.number("SELECT sum(version)::bigint FROM backup.accounts");
    world.sql(RESTORE);
    mend_all(&world, "database-went-back", &["skip", "--to"]);
    let versions = "SELECT sum(version)::bigint FROM accounts";
    assert_eq!(world.number(versions), rows, "the rows stay as they are");
    feed.send(100, Duration::ZERO);
    run_once(&world, "skipped");
    world.audit();
    assert_eq!(world.number(versions), rows + 100);
    assert!(notices.keys().all(|id| found.contains_key(id)));
}

fn bounds(world: &World, source: &TopicPartition) -> (i64, i64) {
    let history = KafkaHistory::connect(&world.kafka_settings(), "scoring").unwrap();
    let bounds = history.group().bounds(source, WAIT).unwrap();
    (bounds.start.0, bounds.end.0)
}

fn commit(world: &World, source: &TopicPartition, committed: Committed) {
    let offsets = KafkaOffsets::connect(&world.kafka_settings(), "scoring").unwrap();
    offsets.commit(&[(source.clone(), committed)], WAIT).unwrap();
}

/// The repair of one partition in this process, killed after `step`.
fn killed_after(world: &World, source: &TopicPartition, action: Action, step: Step) {
    let (kafka, postgres) = (world.kafka_settings(), PostgresSettings::new(&world.postgres.url));
    let history = KafkaHistory::connect(&kafka, "scoring").unwrap();
    let tools = Tools {
        positions: Some(Box::new(PostgresPositions::new(&postgres, "scoring").unwrap())),
        rows: Box::new(PostgresRows::new(&postgres, "scoring", "scoring").unwrap()),
        group: history.group(),
        offsets: Box::new(KafkaOffsets::connect(&kafka, "scoring").unwrap()),
        history: Box::new(history),
        sink: Box::new(move || Ok(Box::new(KafkaSink::open(&kafka, "scoring-repair")?))),
    };
    let mut repair = Repair::new(scoring::topology(), "killed@test".into(), tools);
    let plan = repair.plan(source, action).unwrap().unwrap();
    let mut kill = |done| if done == step { Err(Fault::fatal("killed here")) } else { Ok(()) };
    let ended = repair.carry_out(source, action, &plan, &mut kill).unwrap_err();
    assert_eq!(ended.to_string(), "killed here");
}

#[test]
fn every_halt_of_one_partition_is_mended_by_what_it_says() {
    let Some(world) = World::new("repair-group", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 22);
    for name in ["before", "again"] {
        feed.send(1_500, Duration::ZERO); // twice, so that the database has noted a committed offset
        run_once(&world, name);
    }
    feed.send(3_000, Duration::ZERO);
    let before = announced(&world);
    let number = |column: &str, partition: i32| {
        world.number(&format!(
            "SELECT {column} FROM tidegate.position WHERE topic = 'readings' AND partition = {partition}"
        ))
    };
    let edit = |partition: i32, set: &str| {
        world.sql(&format!("UPDATE tidegate.position SET {set} WHERE topic = 'readings' AND partition = {partition}"));
    };
    let ours = |offset: i64| metadata::committed("scoring", 1, NextOffset(offset), None);

    for partition in [0, 1] {
        let source = format!("readings:{partition}");
        let reset = ["--group", "scoring", "--reset-offsets", "--topic", &source, "--to-offset", "5", "--execute"];
        world.kafka.tool(GROUPS, &reset);
    }
    commit(&world, &place("readings", 2), ours(number("published", 2) - 1));
    edit(3, "group_id = 'old-name'");
    edit(4, "cluster_id = 'elsewhere'");
    edit(5, "cluster_id = 'elsewhere'");
    let (d6, (_, h7)) = (number("next_offset", 6), bounds(&world, &place("readings", 7)));
    KafkaAdmin::connect(&world.kafka_settings()).unwrap().delete_records(&place("readings", 6), d6 + 10).unwrap();
    edit(7, &format!("next_offset = {0}, published = {0}", h7 + 100));
    commit(&world, &place("readings", 7), ours(h7 + 100));

    let (d8, h8) = (number("next_offset", 8), bounds(&world, &place("readings", 8)).1);
    let expected: [(i32, &str, &[&str]); 8] = [
        (0, "group-reset", &["adopt", "--from-database"]),
        (1, "group-reset", &["reset", "--to 5 --emit"]),
        (2, "group-went-back", &["adopt", "--from-database"]),
        (3, "group-renamed", &["adopt", "--from-database"]),
        (4, "cluster-changed", &["adopt", "--from-database"]),
        (5, "cluster-changed", &["reset", "--to start"]),
        (6, "inputs-deleted", &["skip", "--to start"]),
        (7, "inputs-truncated", &["reset", &format!("--to {h7}")]),
    ];
    let mut instance = world.instance("halting");
    until("the others go on", Duration::from_secs(30), || {
        let d = number("next_offset", 8);
        if d == h8 { Ok(()) } else { Err(format!("{d} of {d8} to {h8}")) }
    });
    until("all halts are told", Duration::from_secs(20), || {
        let log = instance.log();
        let count = log.lines().filter(|line| line.contains("halted: ")).count();
        if count == expected.len() { Ok(()) } else { Err(format!("{count}")) }
    });
    let log = instance.log();

    // While an instance is in the group nothing is written.
    let line = pick(&told(&log, "readings-0", "group-reset"), expected[0].2);
    let refused = world.shell(&format!("{line} --yes"));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("stop all instances of scoring"), "{why}");
    assert_eq!(world.number("SELECT count(*) FROM tidegate.repair"), 0);
    assert!(instance.terminate(Duration::from_secs(10)).0.success());
    // Nor without a terminal to ask on.
    let refused = world.shell(&line);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && why.contains("use --yes"), "{why}");
    assert_eq!(world.number("SELECT count(*) FROM tidegate.repair"), 0);

    // Killed between the two writes: the same command finishes the work.
    killed_after(&world, &place("readings", 0), Action::AdoptDatabase, Step::WritePosition);
    killed_after(&world, &place("readings", 2), Action::AdoptDatabase, Step::Fence);
    for (partition, reason, words) in expected {
        obey(&world, &pick(&told(&log, &format!("readings-{partition}"), reason), words));
    }
    assert_eq!(halted(&world), Vec::<Value>::new());
    let (d1, d5) = (number("next_offset", 1), number("next_offset", 5));
    assert_eq!((d1, d5), (5, bounds(&world, &place("readings", 5)).0));
    feed.send(1_000, Duration::ZERO);
    run_once(&world, "after");
    let audit = world.audit();
    assert_eq!(audit.0["repairs"].as_array().unwrap().len(), 9, "{}", audit.0["repairs"]);
    let table = world.ok(&["halted"]);
    let repairs = table.lines().skip_while(|line| !line.starts_with("REPAIRED")).skip(1).count();
    assert!(repairs == 9 && table.contains("adopt --from-database"), "{table}");

    let after = announced(&world);
    assert!(after.values().all(|count| *count == 1), "no id stands twice");
    assert!(before.keys().all(|id| after.contains_key(id)));
    let anew = |partition: i32, from: i64| {
        let of = |ids: &BTreeMap<String, usize>, ending: &str| -> Vec<i64> {
            let prefix = format!("scoring/readings/{partition}/");
            let ids = ids.keys().filter_map(|id| id.strip_prefix(&prefix)?.strip_suffix(ending)?.parse().ok());
            ids.collect::<Vec<i64>>()
        };
        let first = of(&before, "/0").into_iter().filter(|offset| *offset >= from).count();
        (first, of(&after, "/0/1").len())
    };
    for partition in [0, 2, 3, 4, 6] {
        assert_eq!(anew(partition, 0).1, 0, "readings-{partition}: nothing is announced under new ids");
    }
    for (partition, from) in [(1, 5), (5, 0)] {
        let (first, again) = anew(partition, from);
        assert!(first > 0 && again > first, "readings-{partition}: {first} before, {again} under new ids");
    }
    assert!(anew(7, 0).1 > 0, "what was written behind the cut has ids of its own");
}

#[test]
fn a_topic_made_anew_is_begun_by_what_its_halts_say() {
    let Some(world) = World::new("repair-topic", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 23);
    feed.send(2_000, Duration::ZERO);
    run_once(&world, "before");
    let before = announced(&world);
    KafkaAdmin::connect(&world.kafka_settings()).unwrap().delete(&[TopicName::parse("readings").unwrap()]).unwrap();
    until("the topic is created anew", Duration::from_secs(20), || {
        let output = world.run(&["topics", "apply", "--env", "dev", "--yes"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.contains("created 1") { Ok(()) } else { Err(text) }
    });
    feed.send(2_000, Duration::ZERO);
    assert_eq!(mend_all(&world, "topic-recreated", &["reset", "--to start"]), 12);
    run_once(&world, "after");
    world.audit();
    assert_eq!(world.rows(), feed.reference.rows, "each record of both topics once");
    let after = announced(&world);
    assert!(after.values().all(|count| *count == 1));
    assert_eq!(after.len(), feed.reference.notice_count());
    assert!(before.keys().all(|id| after.contains_key(id)));
}
