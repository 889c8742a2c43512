//! System (c) on a real Kafka: a source that is keyed already is used as it is, and a record in the wrong partition is found
//! before it has an effect, under each policy. No database takes part.

use crate::keyed::{changelog, read, topic, wait_read};
use crate::rig::{Instance, World, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaAdmin, KafkaFeed, TopicSpec};
use tidegate::flow::key::partition_for;

const PARTITIONS: i32 = 12;
const CHANGELOG: &str = "sessions-sessions-changelog";
const REPARTITION: &str = "sessions-clicks-repartition";

/// Clicks, and where they lie: nobody else writes to the topic.
struct Clicks {
    feed: KafkaFeed,
    ends: BTreeMap<i32, i64>,
    count: u64,
    bytes: u64,
}

impl Clicks {
    fn send_to(&mut self, partition: i32, user: &str) -> i64 {
        let value = format!(r#"{{"page":"/{}"}}"#, self.count);
        self.feed.send(&topic("clicks"), Some(partition), Some(user.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        self.count += 1;
        self.bytes += (user.len() + value.len()) as u64;
        let end = self.ends.entry(partition).or_default();
        *end += 1;
        *end - 1
    }

    fn send(&mut self, user: &str) {
        self.send_to(partition_for(user.as_bytes(), PARTITIONS), user);
    }

    /// A record where it does not belong; answers its partition and offset.
    fn plant(&mut self, user: &str) -> (i32, i64) {
        let wrong = (partition_for(user.as_bytes(), PARTITIONS) + 1) % PARTITIONS;
        let offset = self.send_to(wrong, user);
        self.feed.flush().unwrap();
        (wrong, offset)
    }

    fn wait_read(&self, world: &World) {
        self.feed.flush().unwrap();
        wait_read(world, "sessions", "clicks", self.count, Duration::from_secs(60));
    }
}

/// `/status` reports one violation, and names its first record.
fn wait_violation(instance: &Instance, user: &str, (partition, offset): (i32, i64)) -> Value {
    let expected = json!([{
        "source": format!("clicks-{partition}"), "count": 1, "first_offset": offset,
        "expected_partition": partition_for(user.as_bytes(), PARTITIONS),
    }]);
    until("the violation in /status", Duration::from_secs(30), || {
        let declared = instance.status()?["declared"].get(0).cloned().unwrap_or_default();
        if declared["violations"] == expected { Ok(declared) } else { Err(declared.to_string()) }
    })
}

fn stop(instance: &mut Instance) {
    let (status, _) = instance.terminate(Duration::from_secs(20));
    assert!(status.success(), "{status}\n{}", instance.log());
}

#[test]
fn a_declared_source_needs_no_shuffle_and_a_planted_record_is_found_before_it_has_an_effect_under_each_policy() {
    let Some(mut world) = World::keyed("sessions", "sessions") else { return };
    let admin = KafkaAdmin::connect(&world.kafka_settings()).unwrap();
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let mut clicks = Clicks { feed, ends: BTreeMap::new(), count: 0, bytes: 0 };
    let sessions = |world: &World| changelog(world, "sessions", CHANGELOG);

    // Nothing is shuffled.
    let mut instance = world.stateful_instance("only");
    for n in 0..5_000 {
        clicks.send(&format!("u{}", n % 500));
    }
    clicks.wait_read(&world);
    let kept = sessions(&world);
    assert_eq!(kept.len(), 500);
    assert!(kept.values().all(|(_, session)| session["clicks"] == 10), "ten clicks a user");
    let expected =
        json!([{"source": "clicks", "checked": 5_000, "bytes_not_shuffled": clicks.bytes, "violations": []}]);
    until("all of it in /status", Duration::from_secs(5), || {
        let declared = instance.status()?["declared"].take();
        if declared == expected { Ok(()) } else { Err(declared.to_string()) }
    });

    // Stop, the default: the partition stands in front of the record, the others go on.
    let astray = clicks.plant("astray");
    let wrong = astray.0;
    until("the halt", Duration::from_secs(30), || {
        let log = instance.log();
        let is_told = log.contains("wrongly-keyed") && log.contains(&format!("clicks-{wrong}"));
        if is_told { Ok(()) } else { Err("not told".to_owned()) }
    });
    wait_violation(&instance, "astray", astray);
    for n in 0..1_000 {
        let user = format!("u{}", n % 500);
        if partition_for(user.as_bytes(), PARTITIONS) != wrong {
            clicks.send(&user);
        }
    }
    clicks.feed.flush().unwrap();
    until("the other partitions go on", Duration::from_secs(60), || {
        let kept = sessions(&world);
        assert!(!kept.contains_key("astray"), "the planted record had an effect");
        let others = kept.iter().filter(|(_, (partition, _))| *partition != wrong);
        match others.clone().find(|(_, (_, session))| session["clicks"] != 12) {
            Some((user, (_, session))) => Err(format!("{user}: {session}")),
            None => Ok(()),
        }
    });
    assert!(instance.is_running());
    stop(&mut instance);
    let names = admin.names().unwrap();
    assert!(!names.iter().any(|name| name.as_str().contains("repartition")), "{names:?}");

    // Repartition, which the halt proposes: the same record goes where it belongs, and takes effect there.
    let dead = format!("{REPARTITION}-dlt");
    let spec =
        |name: &str| TopicSpec { name: topic(name), partitions: PARTITIONS, replicas: 1, config: BTreeMap::new() };
    admin.create(&[spec(REPARTITION), spec(&dead)]).unwrap();
    world.settings.push(("SESSIONS_ON_VIOLATION".into(), "repartition".into()));
    instance = world.stateful_instance("only");
    wait_violation(&instance, "astray", astray);
    clicks.wait_read(&world);
    wait_read(&world, "sessions", REPARTITION, 1, Duration::from_secs(30));
    let home = partition_for(b"astray", PARTITIONS);
    let mut sent_on = Vec::new();
    read(&world, "sessions", REPARTITION, |record| sent_on.push((record.partition, record.key.unwrap())));
    assert_eq!(sent_on, [(home, b"astray".to_vec())]);
    let kept = sessions(&world);
    assert_eq!((kept["astray"].0, &kept["astray"].1["clicks"]), (home, &json!(1)));
    stop(&mut instance);

    // Warn: it is counted and reported, and handled where it lies.
    world.settings.pop();
    world.settings.push(("SESSIONS_ON_VIOLATION".into(), "warn".into()));
    let before = instance.log().len();
    instance = world.stateful_instance("only");
    let stray = clicks.plant("stray");
    clicks.wait_read(&world);
    let declared = wait_violation(&instance, "stray", stray);
    assert_eq!(declared["checked"], 1);
    let told = instance.log()[before..].matches("lies in another partition than its source declares").count();
    assert_eq!(told, 1, "{}", &instance.log()[before..]);
    let kept = sessions(&world);
    assert_eq!((kept["stray"].0, &kept["stray"].1["clicks"]), (stray.0, &json!(1)));
    assert_eq!(kept["astray"].0, home);
    assert_eq!(kept.len(), 502);
    assert!(instance.is_running());
    stop(&mut instance);
}
