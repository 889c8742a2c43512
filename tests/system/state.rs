//! Troubles of the stores of `usage`: a kill at each of K21 to K25, damaged files, a lost folder, a cut changelog, a
//! changed partition count. Each time the changelog and the stores are those that an offline program computes.

use crate::rig::{Proof, Random, until};
use crate::scene::{CHANGELOG, Scene, restored};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate::adapters::kafka::KafkaAdmin;
use tidegate::flow::record::{Partition, TopicName, TopicPartition};

#[test]
fn a_kill_at_each_crash_point_of_a_store_leaves_a_replay_from_zero() {
    let mut proof = Proof::new("kill", Random::seed("TIDEGATE_STATE_SEED"));
    let wishes = ["K21=kill@3", "K22=kill@3", "K23=kill@2", "K24=kill@4", "K25=kill@1"];
    let cells = proof.plan(&wishes.map(|wish| format!("keyed {wish}")));
    if cells.is_empty() {
        return;
    }
    let Some(mut scene) = Scene::new("stores") else { return };
    let mut instance = scene.start("");
    scene.send(4_000);
    scene.judge(&instance);
    for cell in cells {
        if !proof.begin(&cell) {
            break;
        }
        let wish = cell.trim_start_matches("keyed ");
        Scene::stop(&mut instance);
        if wish.starts_with("K24") {
            std::fs::remove_dir_all(scene.folder()).unwrap(); // so that there is something to restore
        }
        instance = scene.start(wish);
        // K25 needs a write while a memtable is written out, which takes milliseconds: one of 2 MiB fills up again and again.
        let (rounds, events, users) = if wish.starts_with("K25") { (60, 4_000, 8_000) } else { (3, 1_000, 1_000) };
        scene.users = users;
        for _ in 0..rounds {
            scene.send(events);
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
        let restored = restored(&instance, before);
        scene.world.note(&format!("{wish}: {restored} changelog records read again"));
        proof.end(&[("restored", restored.into())]);
    }
    Scene::stop(&mut instance);
    proof.clean();
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
    // A start writes the contents of the write-ahead log into sorted files, so that there are some.
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
                // One in 256, so that every reader meets one.
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

    // Without a store the records that were cut are lost: that partition halts, the others are restored.
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

    // Altered live: only when this start has printed its page has it looked at the counts.
    let before = instance.log().len();
    instance = scene.start("");
    until("it runs", Duration::from_secs(10), || {
        let log = instance.log();
        if log[before..].contains("page  http") { Ok(()) } else { Err(log[before..].to_owned()) }
    });
    admin.create_partitions(&TopicName::parse("usage-by-user-repartition").unwrap(), 14).unwrap();
    instance.wait_log("partition-count-changed", Duration::from_secs(30));
    let _ = instance.terminate(Duration::from_secs(20));
    let mut refused = scene.start("");
    assert_eq!(refused.end(Duration::from_secs(20)).code(), Some(78));
    assert!(refused.log().contains("make them equal"), "{}", refused.log());
}
