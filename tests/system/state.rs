//! What happens to the stores of `usage`: a kill at each of K21 to K25, damaged files, a lost folder, a cut changelog, a
//! changed partition count. Each time the changelog and the stores are what an offline program computes.

use crate::keyed::changelog;
use crate::rig::{Instance, Random, World, say, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaAdmin, KafkaFeed};
use tidegate::flow::record::{Partition, TopicName, TopicPartition};

const USERS: u64 = 1_000;
const CHANGELOG: &str = "usage-usage-changelog";

/// Events of which every sum is known.
struct Scene {
    world: World,
    feed: KafkaFeed,
    random: Random,
    sums: BTreeMap<String, (u64, u64)>,
}

impl Scene {
    fn new(name: &'static str) -> Option<Self> {
        let seed = Random::seed("TIDEGATE_STATE_SEED");
        let mut world = World::keyed(name, "usage")?;
        say(&format!("{name}: TIDEGATE_STATE_SEED={seed}"));
        world.settings.retain(|(name, _)| name != "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS");
        for name in ["TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS"] {
            world.settings.push((name.into(), "3000".into()));
        }
        let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
        Some(Self { world, feed, random: Random::new(seed), sums: BTreeMap::new() })
    }

    fn folder(&self) -> PathBuf {
        self.world.folder().join("state-only")
    }

    fn start(&self, failpoint: &str) -> Instance {
        let folder = format!("state.dir={}", self.folder().display());
        let arguments = ["--set", &folder, "--set", "state.flush_ms=200", "--set", "state.memory_mib=8"];
        self.world.armed_instance("only", failpoint, &arguments)
    }

    fn send(&mut self, events: u64) {
        let topic = TopicName::parse("events").unwrap();
        for _ in 0..events {
            let (user, units) = (format!("u{}", self.random.below(USERS)), self.random.below(50));
            let value = format!(r#"{{"userId":"{user}","units":{units}}}"#);
            self.feed.send(&topic, None, None, Some(value.as_bytes()), &[]).unwrap();
            let sum = self.sums.entry(user).or_default();
            *sum = (sum.0 + 1, sum.1 + units);
        }
        self.feed.flush().unwrap();
    }

    /// The changelog, and what the running instance tells of its store, are the sums.
    fn judge(&self, instance: &Instance) {
        let kept = until("every sum is right", Duration::from_secs(60), || {
            let kept = changelog(&self.world, "usage", CHANGELOG);
            self.compare(kept.iter().map(|(user, (_, value))| (user.as_str(), value))).map(|()| kept)
        });
        until("the store tells them", Duration::from_secs(20), || {
            let log = instance.log();
            let page = log.lines().rev().find_map(|line| line.trim().strip_prefix("page  http://"));
            let address = page.ok_or("no page yet")?;
            let list = ["state", "--address", address, "list", "usage", "--limit", "10000", "-o", "json"];
            let output = self.world.run(&list);
            let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(answer.to_string());
            }
            let entries = answer["entries"].as_array().unwrap().iter();
            self.compare(entries.map(|entry| (entry["key"].as_str().unwrap(), &entry["value"])))
        });
        assert_eq!(kept.len(), self.sums.len());
    }

    fn compare<'a>(&self, kept: impl Iterator<Item = (&'a str, &'a Value)>) -> Result<(), String> {
        let mut seen = 0;
        for (user, value) in kept {
            seen += 1;
            let found = (value["count"].as_u64(), value["units"].as_f64());
            match self.sums.get(user) {
                Some((count, units)) if found == (Some(*count), Some(*units as f64)) => {}
                sum => return Err(format!("{user}: {sum:?}, found {found:?}")),
            }
        }
        if seen == self.sums.len() { Ok(()) } else { Err(format!("{seen} users of {}", self.sums.len())) }
    }

    fn stop(instance: &mut Instance) {
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{status} after {took:?}\n{}", instance.log());
    }
}

/// Changelog records that were read again since `before` bytes of the log.
fn restored(instance: &Instance, before: usize) -> u64 {
    let log = instance.log();
    let lines = log[before..].lines().filter(|line| line.contains("store restored"));
    let records = lines.filter_map(|line| line.split("records=").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    records.sum()
}

#[test]
fn a_kill_at_each_crash_point_of_a_store_leaves_a_replay_from_zero() {
    let Some(mut scene) = Scene::new("stores") else { return };
    let mut instance = scene.start("");
    scene.send(4_000);
    scene.judge(&instance);
    for wish in ["K21=kill@3", "K22=kill@3", "K23=kill@2", "K24=kill@4", "K25=kill@1"] {
        Scene::stop(&mut instance);
        if wish.starts_with("K24") {
            std::fs::remove_dir_all(scene.folder()).unwrap(); // so that there is something to restore
        }
        instance = scene.start(wish);
        // Each key once a commit: enough for a memtable of 2 MiB to be written out.
        for _ in 0..if wish.starts_with("K25") { 60 } else { 3 } {
            scene.send(1_000);
            std::thread::sleep(Duration::from_millis(250));
            if !instance.is_running() {
                break;
            }
        }
        instance.wait_killed(Duration::from_secs(20));
        let before = instance.log().len();
        instance = scene.start("");
        scene.send(500);
        scene.judge(&instance);
        scene.world.note(&format!("{wish}: {} changelog records read again", restored(&instance, before)));
    }
    Scene::stop(&mut instance);
}

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(kind) || name.ends_with(kind)
    };
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(fits).collect()
}

#[test]
fn damaged_files_and_a_lost_folder_leave_a_replay_from_zero() {
    let Some(mut scene) = Scene::new("damage") else { return };
    let mut instance = scene.start("");
    scene.send(4_000);
    scene.judge(&instance);
    // A start writes what it finds in the write-ahead log into sorted files, so that there are some.
    Scene::stop(&mut instance);
    instance = scene.start("");
    scene.send(1_000);
    scene.judge(&instance);
    for kind in [".sst", ".log", "MANIFEST", "CURRENT", "OPTIONS", "IDENTITY", "all of it"] {
        Scene::stop(&mut instance);
        let folder = scene.folder().join("usage");
        if kind == "all of it" {
            std::fs::remove_dir_all(scene.folder()).unwrap();
        } else {
            let files = files(&folder, kind);
            assert!(!files.is_empty(), "no file {kind} in {}", folder.display());
            for file in files {
                let mut bytes = std::fs::read(&file).unwrap();
                // One in 256, so that whoever reads meets one.
                for block in bytes.chunks_mut(256) {
                    let place = scene.random.below(block.len() as u64) as usize;
                    block[place] ^= 1 + scene.random.below(255) as u8;
                }
                std::fs::write(&file, bytes).unwrap();
            }
        }
        let before = instance.log().len();
        instance = scene.start("");
        scene.send(1_000);
        std::thread::sleep(Duration::from_secs(3));
        let has_ended = !instance.is_running();
        if has_ended {
            // Met while running: the process ends, and the next one moves the folder aside.
            assert!(instance.log()[before..].contains("is damaged"), "{}", &instance.log()[before..]);
            instance = scene.start("");
        }
        scene.judge(&instance);
        let is_moved = instance.log()[before..].contains("moved aside for analysis");
        let records = restored(&instance, before);
        scene.world.note(&format!("{kind}: ended {has_ended}, moved aside {is_moved}, {records} records read again"));
        assert!(is_moved || !["MANIFEST", "CURRENT", ".sst"].contains(&kind), "{kind}: the damage was not noticed");
    }
    Scene::stop(&mut instance);
}

#[test]
fn a_changelog_that_was_cut_or_is_not_compacted_and_a_changed_partition_count_are_told() {
    let Some(mut scene) = Scene::new("changelogs") else { return };
    let admin = KafkaAdmin::connect(&scene.world.kafka_settings()).unwrap();
    let topic = TopicName::parse(CHANGELOG).unwrap();
    let policy = |value: &str| BTreeMap::from([("cleanup.policy".to_owned(), value.to_owned())]);
    let mut instance = scene.start("");
    scene.send(3_000);
    scene.judge(&instance);

    // Cut: nobody misses it whose store is whole.
    Scene::stop(&mut instance);
    // The broker refuses it of a compacted topic; it needs an operator who sets the policy first.
    admin.alter_config(&topic, &policy("compact,delete")).unwrap();
    admin.delete_records(&TopicPartition::new(topic.clone(), Partition(3)), 5).unwrap();
    admin.alter_config(&topic, &policy("compact")).unwrap();
    let before = instance.log().len();
    instance = scene.start("");
    instance.wait_log("page  http", Duration::from_secs(10));
    std::thread::sleep(Duration::from_secs(3));
    assert!(!instance.log()[before..].contains("halted:"), "{}", &instance.log()[before..]);
    Scene::stop(&mut instance);

    // Without a store what was cut is lost: that partition stands, the others are restored.
    std::fs::remove_dir_all(scene.folder()).unwrap();
    instance = scene.start("");
    instance.wait_log("changelog-truncated", Duration::from_secs(20));
    assert!(instance.is_running());
    Scene::stop(&mut instance);

    admin.alter_config(&topic, &policy("delete")).unwrap();
    let mut refused = scene.start("");
    assert_eq!(refused.end(Duration::from_secs(20)).code(), Some(78));
    assert!(refused.log().contains("cleanup.policy must be compact, found delete"), "{}", refused.log());
    admin.alter_config(&topic, &policy("compact")).unwrap();

    // Altered live.
    instance = scene.start("");
    instance.wait_log("page  http", Duration::from_secs(10));
    admin.create_partitions(&TopicName::parse("usage-by-user-repartition").unwrap(), 14).unwrap();
    instance.wait_log("partition-count-changed", Duration::from_secs(30));
    let _ = instance.terminate(Duration::from_secs(20));
    let mut refused = scene.start("");
    assert_eq!(refused.end(Duration::from_secs(20)).code(), Some(78));
    assert!(refused.log().contains("make them equal"), "{}", refused.log());
}
