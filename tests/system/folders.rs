//! Troubles of a process of `usage` in the folder of its stores: yesterday's store, whose changelog was compacted since,
//! and a disk that is full. Each time the changelog and the stores are those that an offline program computes.

use crate::keyed::{read, wait_read};
use crate::rig::{Disk, until};
use crate::scene::{CHANGELOG, Scene, restored};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaAdmin;
use tidegate::flow::record::TopicName;

const PARTITIONS: i32 = 12;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Partition and offset of every record that the changelog still has.
fn offsets(scene: &Scene) -> BTreeSet<(i32, i64)> {
    let mut found = BTreeSet::new();
    read(&scene.world, "usage", CHANGELOG, |record| {
        found.insert((record.partition, record.offset));
    });
    found
}

/// Compacts within seconds the records in closed segments: a segment is closed by the first record half a second after
/// its first one, and the cleaner looks twice a second instead of every 15 s.
fn compact_soon(scene: &Scene) {
    let admin = KafkaAdmin::connect(&scene.world.kafka_settings()).unwrap();
    let settings = [("segment.ms", "500"), ("min.cleanable.dirty.ratio", "0.01")];
    let settings: BTreeMap<_, _> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    admin.alter_config(&TopicName::parse(CHANGELOG).unwrap(), &settings).unwrap();
    let cleaner = ["--alter", "--entity-type", "brokers", "--entity-default"];
    let often = ["--add-config", "log.cleaner.backoff.ms=500"];
    scene.world.kafka.tool("kafka.admin.ConfigCommand", &[&cleaner[..], &often].concat());
}

#[test]
fn a_store_of_yesterday_becomes_whole_from_a_changelog_that_was_compacted_since() {
    let Some(mut scene) = Scene::new("yesterday") else { return };
    compact_soon(&scene);
    let mut instance = scene.start("");
    scene.send(4_000);
    scene.judge(&instance);
    Scene::stop(&mut instance);
    let kept = scene.world.folder().join("state-yesterday");
    copy(&scene.folder(), &kept);
    let yesterday = offsets(&scene);

    instance = scene.start("");
    scene.users = 500; // the others are as they were yesterday
    let mut written = BTreeSet::new(); // gathered round by round, since the cleaner is at work already
    for _ in 0..8 {
        scene.send(1_000);
        std::thread::sleep(Duration::from_millis(300));
        written.extend(offsets(&scene).difference(&yesterday));
    }
    scene.judge(&instance);
    std::thread::sleep(Duration::from_millis(600));
    scene.send(1_000); // closes the segments
    scene.judge(&instance);
    until("every partition is compacted", Duration::from_secs(60), || {
        let left = offsets(&scene);
        for partition in 0..PARTITIONS {
            let of_it = written.iter().filter(|(number, _)| *number == partition);
            let (all, gone) = (of_it.clone().count(), of_it.filter(|place| !left.contains(place)).count());
            if gone * 2 < all || all == 0 {
                return Err(format!("partition {partition}: {gone} of {all} records are gone"));
            }
        }
        Ok(())
    });
    Scene::stop(&mut instance);

    std::fs::remove_dir_all(scene.folder()).unwrap();
    std::fs::rename(&kept, scene.folder()).unwrap();
    let before = instance.log().len();
    instance = scene.start("");
    scene.judge(&instance);
    let records = restored(&instance, before);
    assert!(!instance.log()[before..].contains("moved aside"), "{}", &instance.log()[before..]);
    assert!(0 < records && records < written.len() as u64, "{records} read again, {} were written", written.len());
    Scene::stop(&mut instance);

    // The same as from zero.
    std::fs::remove_dir_all(scene.folder()).unwrap();
    let before = instance.log().len();
    instance = scene.start("");
    scene.judge(&instance);
    let (all, more) = (restored(&instance, before), written.len());
    assert!(all > records, "{all} from zero, {records} from yesterday on");
    scene.world.note(&format!("more than {more} written since, {records} read again; {all} from zero"));
    Scene::stop(&mut instance);
}

#[test]
fn a_full_disk_stops_the_tasks_with_the_reason_and_nothing_is_lost() {
    let Some(mut scene) = Scene::new("full-disk") else { return };
    let Some(disk) = Disk::mount(&scene.folder(), 48) else { return };
    scene.users = 8_000;
    let mut instance = scene.start("");
    scene.send(2_000);
    scene.judge(&instance);
    let told = instance.log();
    let ephemeral: Vec<&str> = told.lines().filter(|line| line.contains("does not outlive this machine")).collect();
    assert!(matches!(ephemeral[..], [line] if line.contains("tmpfs") && line.contains("name a folder on a volume")));

    disk.fill();
    // The log that RocksDB writes ahead has some room left.
    until("every task with a store stops", Duration::from_secs(60), || {
        scene.send(2_000);
        let log = instance.log();
        let halts = log.lines().filter(|line| line.contains("halted:") && line.contains("store-unwritable"));
        let mut halts =
            halts.filter(|line| line.contains("no space") && line.contains("make room on the disk of state.dir"));
        // One line for each cause, and one that names the partitions.
        let is_told = halts.next().is_some() && log.contains("store-unwritable: usage-by-user-repartition 0-11");
        if is_told { Ok(()) } else { Err(log) }
    });
    until("the page says so", Duration::from_secs(5), || {
        let status = instance.status()?;
        let reasons = status["halts"].as_array().into_iter().flatten().map(|halt| halt["reason"].as_str());
        if reasons.eq([Some("store-unwritable"); 12]) { Ok(()) } else { Err(status["halts"].to_string()) }
    });
    // The step that keeps no state goes on.
    scene.send(500);
    wait_read(&scene.world, "usage", "events", scene.sent, Duration::from_secs(20));
    assert!(instance.is_running());
    Scene::stop(&mut instance);

    // A process that starts where there is no room says why it cannot, and ends.
    disk.fill();
    let before = instance.log().len();
    let status = scene.start("").end(Duration::from_secs(20));
    let told = instance.log().split_off(before);
    assert_eq!(status.code(), Some(1), "{status}: {told}");
    assert!(told.contains("no space left") && told.contains("make room"), "{told}");

    disk.free();
    let before = instance.log().len();
    instance = scene.start("");
    scene.send(500);
    scene.judge(&instance);
    assert!(!instance.log()[before..].contains("moved aside"), "a full disk damages nothing");
    scene.world.note(&format!("{} events, {} records read again", scene.sent, restored(&instance, before)));
    Scene::stop(&mut instance);
}
