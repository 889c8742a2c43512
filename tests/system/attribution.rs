//! The example `attribution` on a real Kafka: impressions at random, some with clicks in time, some too late, some with none; what
//! must be told of each is computed beside it. Kills, and a lost disk, while impressions wait. No database takes part.

use crate::keyed::{read, topic, wait_read};
use crate::rig::{Random, World, say};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::Timestamp;

const PARTITIONS: i32 = 12;
const IMPRESSIONS: u64 = 6_000;
/// The time within which a click counts, and that for which late ones are waited for, as the example has it.
const WITHIN_MS: i64 = 600_000;
const GRACE_MS: i64 = 3_600_000;
/// The time between two impressions: all of them, and their clicks, come within the grace, so that none is too late however the two
/// topics are read.
const STEP_MS: i64 = 400;
/// The first impression's time, of an hour that has passed: nothing is stamped ahead.
const BEGAN_BEFORE_MS: i64 = 4 * 3_600_000;

/// One record: its time, its impression, and whether it is a click.
type Sent = (i64, u64, bool);

/// The records in the order of their times, and what must be told of each impression: the times of its clicks, or none.
fn drawn(random: &mut Random, began: i64) -> (Vec<Sent>, BTreeMap<String, Vec<Option<i64>>>) {
    let (mut records, mut due) = (Vec::new(), BTreeMap::new());
    for impression in 0..IMPRESSIONS {
        let at = began + STEP_MS * i64::try_from(impression).unwrap();
        records.push((at, impression, false));
        let mut told = Vec::new();
        for _ in 0..random.below(3) {
            let after = match random.below(6) {
                0 => WITHIN_MS,
                1 => WITHIN_MS + 1,
                2 => -1,
                _ => i64::try_from(random.below(WITHIN_MS.unsigned_abs())).unwrap(),
            };
            records.push((at + after, impression, true));
            told.extend((0..=WITHIN_MS).contains(&after).then_some(Some(after)));
        }
        if told.is_empty() {
            told.push(None);
        }
        told.sort_unstable();
        due.insert(format!("i{impression}"), told);
    }
    records.sort_unstable();
    (records, due)
}

/// A key that lies in this partition.
fn key_in(partition: i32) -> String {
    (0..).map(|n| format!("end-{n}")).find(|key| partition_for(key.as_bytes(), PARTITIONS) == partition).unwrap()
}

/// `TIDEGATE_ATTRIBUTION_SEED`.
#[test]
fn each_impression_is_told_with_each_of_its_clicks_or_with_none_through_kills_and_a_lost_disk() {
    let seed = Random::seed("TIDEGATE_ATTRIBUTION_SEED");
    let Some(world) = World::keyed("attribution", "attribution") else { return };
    say(&format!("attribution: TIDEGATE_ATTRIBUTION_SEED={seed}"));
    let mut random = Random::new(seed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let (records, mut due) = drawn(&mut random, i64::try_from(now).unwrap() - BEGAN_BEFORE_MS);
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let send = |is_click: bool, key: &str, at: i64| {
        let (to, value) =
            if is_click { ("clicks", r#"{"position":7}"#) } else { ("impressions", r#"{"advertisement":"shoes"}"#) };
        feed.send_at(&topic(to), None, Some(key.as_bytes()), Some(value.as_bytes()), &[], Some(Timestamp(at))).unwrap();
    };
    let mut instances = vec![world.stateful_instance("first"), world.stateful_instance("second")];
    let (mut kills, all) = (0, records.len());
    for (n, (at, impression, is_click)) in records.iter().enumerate() {
        send(*is_click, &format!("i{impression}"), *at);
        // Three kills while impressions wait; the second one's disk is lost.
        if n == all * (kills + 1) / 4 {
            kills += 1;
            feed.flush().unwrap();
            std::thread::sleep(Duration::from_secs(4));
            let killed = kills % 2;
            instances[killed].kill();
            let name = instances[killed].name.clone();
            if kills == 2 {
                std::fs::remove_dir_all(world.folder().join(format!("state-{name}"))).unwrap();
            }
            instances[killed] = world.stateful_instance(&name);
            world.note(&format!("killed {name} after {n} records"));
        }
    }
    // Two more clicks of each partition move its clock behind every impression; nobody tells of a click alone. One would not do: at
    // most 1,000 timers fire behind a record, and an impression and its clicks have one each.
    feed.flush().unwrap();
    let clicks = records.iter().filter(|(.., is_click)| *is_click).count();
    let sent = |topic: &str, count: usize| {
        wait_read(&world, "attribution", topic, u64::try_from(count).unwrap(), Duration::from_secs(300))
    };
    sent("impressions", all - clicks);
    sent("clicks", clicks);
    let end = records.last().unwrap().0 + WITHIN_MS + GRACE_MS + 1;
    for n in 0..2 {
        (0..PARTITIONS).for_each(|partition| send(true, &key_in(partition), end + n));
    }
    feed.flush().unwrap();
    sent("clicks", clicks + 24);

    let (expected, mut found): (usize, BTreeMap<String, Vec<Option<i64>>>) = (due.len(), BTreeMap::new());
    read(&world, "attribution", "attributed-impressions", |record| {
        let impression = String::from_utf8(record.key.unwrap()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert_eq!(value["advertisement"], "shoes");
        found.entry(impression).or_default().push(value["clicked_after_ms"].as_i64());
    });
    for (impression, mut told) in found {
        told.sort_unstable();
        let wanted = due.remove(&impression);
        assert_eq!(Some(&told), wanted.as_ref(), "{impression}");
    }
    assert!(due.is_empty(), "{} of {expected} are not told, the first {:?}", due.len(), due.first_key_value());
    for dead_letters in ["impressions-dlt", "clicks-dlt"] {
        read(&world, "attribution", dead_letters, |record| panic!("a dead letter: {record:?}"));
    }
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    world.note(&format!("{all} records, {kills} kills and a lost disk: {expected} impressions told, all right"));
}
