//! System (a) on a real Kafka: a source at random, re-keyed to one aggregator a user. No database takes part.

use crate::rig::{Random, World, say, until};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaFeed, KafkaHistory};
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::ports::history::{Found, TopicHistory};

const PARTITIONS: i32 = 12;

pub fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub fn read(world: &World, group: &str, name: &str, mut visit: impl FnMut(Found)) {
    let mut history = KafkaHistory::connect(&world.kafka_settings(), group).unwrap();
    history.each_message(&topic(name), &mut visit).unwrap();
}

/// Waits until the group has committed everything that a committed reader finds in `name`.
pub fn wait_read(world: &World, group: &str, name: &str, records: u64, within: Duration) {
    until(&format!("{name}: {records} records read by {group}"), within, || {
        let mut ends: HashMap<i32, i64> = HashMap::new();
        let mut found = 0;
        read(world, group, name, |record| {
            found += 1;
            ends.insert(record.partition, record.offset + 1);
        });
        if found < records {
            return Err(format!("{found} are there"));
        }
        let places: Vec<_> = (0..PARTITIONS).map(|n| TopicPartition::new(topic(name), Partition(n))).collect();
        let mut history = KafkaHistory::connect(&world.kafka_settings(), group).unwrap();
        let progress = history.progress(&places).map_err(|fault| fault.to_string())?;
        let is_behind = |(place, (committed, _)): &(&TopicPartition, (Option<NextOffset>, NextOffset))| {
            committed.is_none_or(|k| k.0 < ends.get(&place.partition.0).copied().unwrap_or(0))
        };
        match places.iter().zip(progress).find(is_behind) {
            Some((place, (committed, end))) => Err(format!("{place}: committed {committed:?}, end {end}")),
            None => Ok(()),
        }
    });
}

/// The last value of each key of a changelog, without its envelope, and the partition it lies in.
pub fn changelog(world: &World, group: &str, name: &str) -> BTreeMap<String, (i32, serde_json::Value)> {
    let mut last = BTreeMap::new();
    read(world, group, name, |record| {
        let key = String::from_utf8(record.key.unwrap()).unwrap();
        if key == "\0tidegate\0clock" {
            return; // the task's clock
        }
        match record.value {
            Some(value) => {
                let start = if value[0] == 1 { 2 } else { 10 };
                last.insert(key, (record.partition, serde_json::from_slice(&value[start..]).unwrap()));
            }
            None => {
                last.remove(&key);
            }
        }
    });
    last
}

/// `TIDEGATE_USAGE_EVENTS` (100,000), `TIDEGATE_USAGE_USERS` (10,000), `TIDEGATE_USAGE_SEED`: `make test-long` has a
/// million events of 100,000 users.
#[test]
fn events_at_random_meet_at_one_aggregator_a_user_through_kills_and_a_rebalance() {
    let (events, users) = (number("TIDEGATE_USAGE_EVENTS", 100_000), number("TIDEGATE_USAGE_USERS", 10_000));
    let seed = Random::seed("TIDEGATE_USAGE_SEED");
    let Some(world) = World::keyed("usage", "usage") else { return };
    say(&format!("usage: TIDEGATE_USAGE_SEED={seed} {events} events of {users} users"));
    let mut random = Random::new(seed);
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut places: Vec<(i32, String)> = Vec::new();
    let mut instances = vec![world.stateful_instance("first"), world.stateful_instance("second")];
    let mut acts = 0;
    for n in 0..events {
        let (user, units) = (format!("u{}", random.below(users)), random.below(50));
        let partition = i32::try_from(random.below(PARTITIONS.unsigned_abs().into())).unwrap();
        let value = format!(r#"{{"userId":"{user}","units":{units},"n":{n}}}"#);
        feed.send(&topic("events"), Some(partition), None, Some(value.as_bytes()), &[]).unwrap();
        let sum = sums.entry(user.clone()).or_default();
        *sum = (sum.0 + 1, sum.1 + units);
        places.push((partition, user));
        // Two kills and a rebalance while the events come.
        if n == events * (acts + 1) / 5 {
            acts += 1;
            feed.flush().unwrap();
            std::thread::sleep(Duration::from_secs(4));
            match acts {
                1 | 3 => {
                    let index = usize::from(acts == 3);
                    instances[index].kill();
                    let name = instances[index].name.clone();
                    instances[index] = world.stateful_instance(&name);
                    world.note(&format!("killed {name} after {n} events"));
                }
                2 => instances.push(world.stateful_instance("third")),
                _ => {}
            }
        }
    }
    feed.flush().unwrap();
    wait_read(&world, "usage", "events", events, Duration::from_secs(300));
    wait_read(&world, "usage", "usage-by-user-repartition", events, Duration::from_secs(300));

    let mut seen = vec![false; places.len()];
    let mut last: HashMap<(i32, i32), usize> = HashMap::new();
    read(&world, "usage", "usage-by-user-repartition", |record| {
        let event: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let n = usize::try_from(event["n"].as_u64().unwrap()).unwrap();
        let (source, user) = &places[n];
        assert!(!std::mem::replace(&mut seen[n], true), "event {n} stands twice in the repartition topic");
        assert_eq!(record.key.as_deref(), Some(user.as_bytes()));
        assert_eq!(record.partition, partition_for(user.as_bytes(), PARTITIONS), "{user}: where Java would put it");
        let before = last.insert((*source, record.partition), n);
        assert!(before.is_none_or(|before| before < n), "events of {source} out of order: {before:?} then {n}");
    });
    assert!(seen.iter().all(|seen| *seen), "an event is missing in the repartition topic");

    let kept = changelog(&world, "usage", "usage-usage-changelog");
    assert_eq!(kept.len(), sums.len());
    for (user, (count, units)) in &sums {
        let (partition, value) = &kept[user];
        assert_eq!(*partition, partition_for(user.as_bytes(), PARTITIONS));
        assert_eq!((value["count"].as_u64(), value["units"].as_f64()), (Some(*count), Some(*units as f64)), "{user}");
    }
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    let restored: usize = instances.iter().map(|instance| instance.log().matches("store restored").count()).sum();
    world.note(&format!("{} users right, {restored} restores", sums.len()));
}
