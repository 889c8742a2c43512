//! A partition whose numbers contradict each other stands still and says so; the others go on.

use crate::rig::{Feed, Instance, World};
use serde_json::Value;
use sqlx::Row as _;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaAdmin;
use tidegate::flow::record::TopicName;

const IDS: i64 = 1_000;
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

fn halted(world: &World) -> Vec<Value> {
    let output = world.run(&["halted", "-o", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(if found.is_empty() { 0 } else { 3 }));
    found
}

/// An instance works some records off and ends; K is D everywhere.
fn history(world: &World, feed: &mut Feed) {
    let mut instance = world.instance("before");
    feed.send(3_000, Duration::ZERO);
    world.judge(feed, Duration::from_secs(30));
    let (status, _) = instance.terminate(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    assert_eq!(halted(world), Vec::<Value>::new());
}

fn next_offset(world: &World, partition: i32) -> i64 {
    world.number(&format!(
        "SELECT next_offset FROM tidegate.position WHERE topic = 'readings' AND partition = {partition}"
    ))
}

/// The line of the log that reports the halt has all of `words`.
fn wait_halt(instance: &mut Instance, words: &[&str]) {
    crate::rig::until(&format!("{words:?} in one line of the log"), Duration::from_secs(20), || {
        let log = instance.log();
        if log.lines().any(|line| words.iter().all(|word| line.contains(word))) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_reset_group_and_a_restored_database_halt_their_partitions_and_no_others() {
    let Some(world) = World::new("halts", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 11);
    history(&world, &mut feed);

    // Partition 3: an operator sets the group back by hand. Partition 5: the database is as it was some records ago.
    let reset = ["--group", "scoring", "--reset-offsets", "--topic", "readings:3", "--to-offset", "5", "--execute"];
    world.kafka.tool(GROUPS, &reset);
    let (d3, d5) = (next_offset(&world, 3), next_offset(&world, 5));
    let saved =
        world.sql("SELECT next_offset, published FROM tidegate.position WHERE topic = 'readings' AND partition = 5");
    let saved_published: i64 = saved[0].try_get_unchecked(1).unwrap();
    world.sql(&format!(
        "UPDATE tidegate.position SET next_offset = {0}, published = {0} WHERE topic = 'readings' AND partition = 5",
        d5 - 20
    ));

    let found = halted(&world);
    let of = |source: &str| found.iter().find(|halt| halt["source"] == source).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found.len(), 2, "{found:?}");
    let (third, fifth) = (of("readings-3"), of("readings-5"));
    assert_eq!(
        (&third["reason"], &third["next_offset"], &third["committed_offset"]),
        (&"group-reset".into(), &d3.into(), &5.into())
    );
    assert_eq!(
        (&fifth["reason"], &fifth["next_offset"], &fifth["committed_offset"]),
        (&"database-went-back".into(), &(d5 - 20).into(), &d5.into())
    );

    let before = world.number("SELECT sum(next_offset)::bigint FROM tidegate.position WHERE partition IN (3, 5)");
    let mut instance = world.instance("halting");
    wait_halt(
        &mut instance,
        &["halted", "readings-3", "group-reset", &format!("next_offset={d3}"), "committed_offset=5"],
    );
    wait_halt(
        &mut instance,
        &[
            "halted",
            "readings-5",
            "database-went-back",
            &format!("next_offset={}", d5 - 20),
            &format!("committed_offset={d5}"),
        ],
    );
    feed.send(3_000, Duration::ZERO);
    crate::rig::until("the others go on", Duration::from_secs(20), || {
        let audit = crate::rig::Audit(serde_json::from_slice(&world.run(&["audit", "-o", "json"]).stdout).unwrap());
        let behind: Vec<String> = audit.behind().iter().map(|p| p["source"].as_str().unwrap().to_owned()).collect();
        if behind.iter().all(|source| source.ends_with("-3") || source.ends_with("-5")) {
            Ok(())
        } else {
            Err(format!("{behind:?}"))
        }
    });
    let after = world.number("SELECT sum(next_offset)::bigint FROM tidegate.position WHERE partition IN (3, 5)");
    assert_eq!(after, before, "a halted partition takes nothing");
    assert!(instance.is_running());
    assert!(instance.terminate(Duration::from_secs(10)).0.success());

    // The commands that the messages propose repair both.
    world.sql(&format!(
        "UPDATE tidegate.position SET next_offset = {d5}, published = {saved_published} WHERE topic = 'readings' AND partition = 5"
    ));
    world.ok(&["adopt", "readings-3", "--from-database", "--yes"]);
    assert_eq!(halted(&world), Vec::<Value>::new());
    let _instance = world.instance("after");
    world.judge(&feed, Duration::from_secs(30));
}

#[test]
fn a_topic_created_anew_halts_every_partition_and_the_process_stays_and_says_so() {
    let Some(world) = World::new("recreated", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 12);
    history(&world, &mut feed);
    let positions = "SELECT string_agg(p::text, ';' ORDER BY topic, partition) FROM \
                     (SELECT topic, partition, next_offset, published FROM tidegate.position) p";
    let text = |world: &World| world.sql(positions)[0].try_get_unchecked::<String, _>(0).unwrap();
    let before = text(&world);

    KafkaAdmin::connect(&world.kafka_settings()).unwrap().delete(&[TopicName::parse("readings").unwrap()]).unwrap();
    crate::rig::until("the topic is created anew", Duration::from_secs(20), || {
        let output = world.run(&["topics", "apply", "--env", "dev", "--yes"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.contains("created 1") { Ok(()) } else { Err(text) }
    });
    feed.send(1_000, Duration::ZERO);
    let mut instance = world.instance("halting");
    instance.stand_still(12, Duration::from_secs(30));
    let log = instance.log();
    assert_eq!(log.matches("topic-recreated").count(), 12, "{log}");
    assert!(instance.is_running(), "{log}");
    assert!(instance.terminate(Duration::from_secs(20)).0.success(), "{log}");
    let found = halted(&world);
    assert_eq!(found.len(), 12, "{found:?}");
    assert!(found.iter().all(|halt| halt["reason"] == "topic-recreated"));
    assert_eq!(text(&world), before, "nothing was taken");
}

#[test]
fn an_altered_table_is_told_also_where_no_instance_runs() {
    let Some(world) = World::new("altered", IDS) else { return };
    world.sql("ALTER TABLE accounts RENAME COLUMN score TO points");
    let found = halted(&world);
    assert!(!found.is_empty() && found.iter().all(|halt| halt["reason"] == "schema-changed"), "{found:?}");
    let detail = found[0]["detail"].as_str().unwrap();
    assert!(detail.contains("column score: missing"), "{detail}");
}

/// A group that was deleted counts its generations from one again, below those of the positions.
#[test]
fn a_deleted_group_whose_generations_begin_again_is_served() {
    let Some(world) = World::new("anew", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 14);
    history(&world, &mut feed);
    world.sql("UPDATE tidegate.position SET generation = 1000");
    world.kafka.tool(GROUPS, &["--delete", "--group", "scoring"]);
    let mut instance = world.instance("deleted");
    feed.send(1_000, Duration::ZERO);
    world.judge(&feed, Duration::from_secs(40));
    let generation = world.number("SELECT max(generation)::bigint FROM tidegate.position");
    assert!(generation < 1_000, "{}", instance.log());
    assert!(instance.terminate(Duration::from_secs(10)).0.success());
    assert_eq!(halted(&world), Vec::<Value>::new());
}

/// A halt that neither database nor group shows, since the statement that fails is asked of nobody else.
#[test]
fn a_halt_that_only_the_instance_sees_is_told_and_where_nobody_tells_it_is_said() {
    let Some(world) = World::new("only-seen", IDS) else { return };
    let text = |code: i32| {
        let output = world.run(&["halted"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    assert!(text(0).starts_with("no partition is halted, by database and group. No instance runs"));
    let mut instance = world.instance("only");
    world.wait_owners(1);
    crate::rig::until("the instance answers for all partitions", Duration::from_secs(20), || {
        let expected = "no partition is halted, by database, group and the answers of 1 instance\n";
        let output = world.run(&["halted"]);
        let text = String::from_utf8(output.stdout).unwrap();
        if text == expected && output.status.success() { Ok(()) } else { Err(text) }
    });

    world.sql("CREATE PUBLICATION all_accounts FOR TABLE accounts");
    world.sql("ALTER TABLE accounts REPLICA IDENTITY NOTHING"); // an UPDATE is refused from here on
    let mut feed = Feed::new(&world, IDS, 21);
    feed.read(7, "1.0");
    feed.flush();
    wait_halt(&mut instance, &["halted", "schema-changed"]);
    crate::rig::until("the halt is told", Duration::from_secs(10), || {
        let found: Vec<Value> = serde_json::from_slice(&world.run(&["halted", "-o", "json"]).stdout).unwrap();
        let is_it = found.len() == 1 && found[0]["reason"] == "schema-changed";
        if is_it { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let told = text(3);
    assert!(told.starts_with("halted  readings-") && told.contains("replica identity"), "{told}");
    assert!(told.contains("stands still with it          corrections-"), "{told}");
    assert!(instance.is_running());

    instance.signal("STOP");
    let told = text(1);
    assert!(told.starts_with("no partition is known to be halted; of 12 it is not known, and 0 instances answered"));
    let silent = |line: &&str| line.starts_with("unknown  readings-") && line.contains("does not answer");
    assert_eq!(told.lines().filter(silent).count(), 12, "{told}");
    instance.signal("CONT");
    assert!(instance.terminate(Duration::from_secs(10)).0.success());
}

#[test]
fn before_migrate_the_commands_that_read_name_it() {
    let Some(world) = World::bare("before-migrate") else { return };
    world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
    for command in ["audit", "halted"] {
        let output = world.run(&[command]);
        let told = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = told.lines().rev().take(2).collect();
        assert_eq!(output.status.code(), Some(1), "{told}");
        let lacks = last[1].starts_with("schema \"tidegate\" of the database ") && last[1].contains(" lacks 0001_");
        assert!(lacks && last[1].contains("migrate` as its owner"), "{told}");
        assert_eq!(last[0], "  database.url: environment TIDEGATE_DATABASE__URL", "{told}");
    }
}
