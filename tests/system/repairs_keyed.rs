//! Every halt of a step with stores that a command mends, provoked on a real Kafka with RocksDB: the command is taken out of
//! the halt's own message and run as it stands.

use crate::repairs::{obey, pick, told};
use crate::rig::{World, until};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaAdmin, KafkaFeed, KafkaHistory};
use tidegate::adapters::rocksdb::{RocksSettings, RocksStores};
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{Partition, TopicName, TopicPartition};
use tidegate::ports::history::TopicHistory as _;
use tidegate::ports::store::{StoreId, Stores as _};

const PARTITIONS: i32 = 12;
const CHANGELOG: &str = "sessions-sessions-changelog";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn place(name: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic(name), Partition(partition))
}

/// A user whose clicks go to this partition.
fn user(partition: i32) -> String {
    (0..).map(|n| format!("u{n}")).find(|user| partition_for(user.as_bytes(), PARTITIONS) == partition).unwrap()
}

struct Scene {
    world: World,
    feed: KafkaFeed,
}

impl Scene {
    fn click(&self, partition: i32, times: usize) {
        for _ in 0..times {
            let (key, value) = (user(partition), r#"{"page":"/"}"#);
            self.feed
                .send(&topic("clicks"), Some(partition), Some(key.as_bytes()), Some(value.as_bytes()), &[])
                .unwrap();
        }
        self.feed.flush().unwrap();
    }

    /// The clicks of each partition's user, as the changelog has them.
    fn counts(&self) -> BTreeMap<i32, i64> {
        let mut out = BTreeMap::new();
        let mut history = KafkaHistory::connect(&self.world.kafka_settings(), "sessions").unwrap();
        history
            .each_message(&topic(CHANGELOG), &mut |record| {
                let Some(value) = record.value else { return };
                if record.key.is_some_and(|key| key == b"\0tidegate\0clock") {
                    return; // the task's clock
                }
                let start = if value[0] == 1 { 2 } else { 10 };
                let session: serde_json::Value = serde_json::from_slice(&value[start..]).unwrap();
                out.insert(record.partition, session["clicks"].as_i64().unwrap());
            })
            .unwrap();
        out
    }

    fn wait_count(&self, partition: i32, count: i64) {
        until(&format!("{count} clicks in partition {partition}"), Duration::from_secs(40), || {
            let found = self.counts().get(&partition).copied();
            if found == Some(count) { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    /// Starts the instance, waits until these partitions have halted, ends it, and runs the command of each halt.
    fn mend(&self, halts: &[(i32, &str, &[&str])]) {
        let mut instance = self.world.stateful_instance("only");
        let before = instance.log().len();
        for (partition, reason, _) in halts {
            let words = (format!("partition=clicks-{partition} "), format!("reason=\"{reason}\""));
            until(&format!("clicks-{partition} halts: {reason}"), Duration::from_secs(40), || {
                let log = instance.log();
                let is_told =
                    |line: &str| line.contains("halted: ") && line.contains(&words.0) && line.contains(&words.1);
                if log[before..].lines().any(is_told) { Ok(()) } else { Err(log) }
            });
        }
        let log = instance.log();
        assert!(instance.terminate(Duration::from_secs(20)).0.success(), "{log}");
        for (partition, reason, words) in halts {
            obey(&self.world, &pick(&told(&log[before..], &format!("clicks-{partition}"), reason), words));
        }
    }

    /// The instance takes all records, `counts` clicks in all, and ends.
    fn run_once(&self, counts: &[(i32, i64)]) {
        let mut instance = self.world.stateful_instance("only");
        counts.iter().for_each(|(partition, count)| self.wait_count(*partition, *count));
        assert!(instance.terminate(Duration::from_secs(20)).0.success(), "{}", instance.log());
    }

    fn admin(&self) -> KafkaAdmin {
        KafkaAdmin::connect(&self.world.kafka_settings()).unwrap()
    }
}

#[test]
fn every_halt_with_stores_is_mended_by_what_it_says() {
    let Some(world) = World::keyed("repair-keyed", "sessions") else { return };
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let scene = Scene { world, feed };
    (0..PARTITIONS).for_each(|partition| scene.click(partition, 10));
    let all: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, 10)).collect();
    scene.run_once(&all);

    // A record astray; offsets lost; a group reset; inputs deleted.
    let astray = (r#"{"page":"/"}"#, user(1));
    scene.feed.send(&topic("clicks"), Some(0), Some(astray.1.as_bytes()), Some(astray.0.as_bytes()), &[]).unwrap();
    scene.world.kafka.tool(GROUPS, &["--group", "sessions", "--delete-offsets", "--topic", "clicks:2"]);
    let reset = ["--group", "sessions", "--reset-offsets", "--topic", "clicks:3", "--to-offset", "4", "--execute"];
    scene.world.kafka.tool(GROUPS, &reset);
    (0..6).for_each(|partition| scene.click(partition, 5));
    scene.admin().delete_records(&place("clicks", 4), 12).unwrap();
    scene.mend(&[
        (0, "wrongly-keyed", &["skip", "--to 11"]),
        (2, "offsets-lost", &["reset", "--to 10"]),
        (3, "group-reset", &["reset", "--to 10"]),
        (4, "inputs-deleted", &["skip", "--to start"]),
    ]);
    scene.run_once(&[(0, 15), (1, 15), (2, 15), (3, 15), (4, 13), (5, 15)]);

    // The changelog is cut and the store is gone: the remaining records count.
    let cut = place(CHANGELOG, 6);
    let end = {
        let history = KafkaHistory::connect(&scene.world.kafka_settings(), "sessions").unwrap();
        history.group().bounds(&cut, Duration::from_secs(10)).unwrap().end.0
    };
    // A broker deletes nothing from a topic that is compacted only.
    for policy in ["compact,delete", "compact"] {
        let change = BTreeMap::from([("cleanup.policy".to_owned(), policy.to_owned())]);
        scene.admin().alter_config(&cut.topic, &change).unwrap();
        if policy != "compact" {
            until("the policy has reached the broker", Duration::from_secs(20), || {
                scene.admin().delete_records(&cut, end).map_err(|fault| fault.to_string())
            });
        }
    }
    let folder = scene.world.folder().join("state-only");
    std::fs::remove_dir_all(&folder).unwrap();
    scene.mend(&[(6, "changelog-truncated", &["state rebuild"])]);
    scene.click(6, 2);
    scene.run_once(&[(6, 2), (7, 10)]);

    // A value on the disk was changed: the changelog still has it.
    {
        let stores = RocksStores::open(&RocksSettings::new(&folder.join("sessions"))).unwrap();
        let mut store = stores.open(&StoreId { name: "sessions".into(), partition: Partition(7) }).unwrap();
        let checkpoint = store.checkpoint().unwrap().unwrap();
        let later: &[u8] = b"\x01\x09{}";
        store.write(&[(user(7).as_bytes(), Some(later))], &checkpoint).unwrap();
    }
    scene.click(7, 1);
    scene.mend(&[(7, "store-unreadable", &["state rebuild"])]);
    scene.run_once(&[(7, 11)]);

    // The changelog is created again: the store gets its contents, which are none.
    scene.admin().delete(&[topic(CHANGELOG)]).unwrap();
    until("the changelog is created anew", Duration::from_secs(20), || {
        let output = scene.world.run(&["topics", "--dir", "topics/sessions", "apply", "--env", "dev", "--yes"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.contains("created 1") { Ok(()) } else { Err(text) }
    });
    let every: Vec<(i32, &str, &[&str])> =
        (0..PARTITIONS).map(|partition| (partition, "changelog-recreated", &["state rebuild"] as &[&str])).collect();
    scene.mend(&every);
    (0..PARTITIONS).for_each(|partition| scene.click(partition, 3));
    scene.run_once(&(0..PARTITIONS).map(|partition| (partition, 3)).collect::<Vec<_>>());

    // The inputs are created again: they are read from their start, on top of the stores' contents.
    scene.admin().delete(&[topic("clicks")]).unwrap();
    until("the inputs are created anew", Duration::from_secs(20), || {
        let output = scene.world.run(&["topics", "--dir", "topics/sessions", "apply", "--env", "dev", "--yes"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.contains("created 1") { Ok(()) } else { Err(text) }
    });
    (0..PARTITIONS).for_each(|partition| scene.click(partition, 2));
    // Kafka forgets the offsets of a deleted topic, so the stores alone remember that there was another one.
    let every: Vec<(i32, &str, &[&str])> =
        (0..PARTITIONS).map(|partition| (partition, "offsets-lost", &["reset", "--to start"] as &[&str])).collect();
    scene.mend(&every);
    scene.run_once(&(0..PARTITIONS).map(|partition| (partition, 5)).collect::<Vec<_>>());
}
