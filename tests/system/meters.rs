//! The pipeline of `examples/meters.rs` on a real Kafka, a real PostgreSQL and RocksDB: windows that are closed by
//! idleness and by the clock of the partition, timers by the wall clock and beside rows, windows beside rows, ticks,
//! chains, merged sources and joined tables. Each output topic and table is held against a computation beside it
//! (`tests/meters`), through kills and a lost disk.

use crate::rig::{Instance, Random, World, say, until};
use crate::waiting::service::{IDLE_MS, topology};
use crate::waiting::{IDS, Load, Outcome, PARTITIONS, Record, TABLES, whole_ms};
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidegate::adapters::kafka::{KafkaFeed, KafkaHistory, TopicSpec};
use tidegate::flow::record::{Partition, Timestamp, TopicName, TopicPartition};
use tidegate::ports::history::{Found, TopicHistory as _};

const PORTIONS: i64 = 16;
/// Somebody is killed in the middle of these; the second one's disk is lost.
const KILLS: [i64; 3] = [4, 8, 12];
/// The time between two portions: some are handled before the next one comes, and those behind a kill wait for the
/// takeover.
const PAUSE: Duration = Duration::from_millis(600);
const IDLE: Duration = Duration::from_millis(IDLE_MS.unsigned_abs());

impl Outcome for &World {
    fn read(&mut self, topic: &str) -> Vec<Found> {
        self.messages(topic)
    }

    fn rows(&mut self, table: &str, columns: &[&str]) -> BTreeMap<i64, Vec<i64>> {
        let rows = self.sql(&format!("SELECT id, version, {} FROM {table}", columns.join(", ")));
        let at = |row: &sqlx::postgres::PgRow, index| row.try_get_unchecked::<i64, _>(index).unwrap();
        rows.iter().map(|row| (at(row, 0), (1..=columns.len() + 1).map(|index| at(row, index)).collect())).collect()
    }
}

/// Servers with topics and rows, and nobody started.
fn prepared() -> Option<World> {
    let mut world = World::example("meters", "meters")?;
    // Nobody waits longer for the dead than need be.
    for name in ["TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS"] {
        world.settings.retain(|(own, _)| own != name);
        world.settings.push((name.into(), "3000".into()));
    }
    let topology = topology();
    let (changelogs, internal) = (topology.changelogs(), topology.internal_topics());
    let spec = |name: &TopicName| {
        let mut config = BTreeMap::new();
        if changelogs.contains(name) {
            config.insert("cleanup.policy".into(), "compact".into());
            config.insert("delete.retention.ms".into(), "86400000".into());
        }
        if internal.contains(name) {
            config.insert("retention.ms".into(), "-1".into());
        }
        TopicSpec { name: name.clone(), partitions: PARTITIONS, replicas: 1, config }
    };
    let names: BTreeSet<TopicName> = topology.sources().into_iter().chain(topology.outputs()).collect();
    world.create(&names.iter().map(spec).collect::<Vec<_>>());
    world.ok(&["migrate"]);
    for (table, columns) in TABLES {
        let columns: String = columns.iter().map(|name| format!(", {name} bigint NOT NULL DEFAULT 0")).collect();
        world.sql(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, version bigint NOT NULL DEFAULT 0{columns});
             INSERT INTO {table} SELECT id FROM generate_series(0, {IDS} - 1) id"
        ));
    }
    Some(world)
}

/// Sends records, and waits until they are all there; answers how long that took.
fn send(feed: &KafkaFeed, records: &[Record]) -> Duration {
    let began = Instant::now();
    for Record { topic, key, value, at } in records {
        let (topic, value) = (TopicName::parse(topic).unwrap(), value.as_deref().map(str::as_bytes));
        feed.send_at(&topic, None, Some(key.as_bytes()), value, &[], Some(Timestamp(*at))).unwrap();
    }
    feed.flush().unwrap();
    began.elapsed()
}

/// Waits until the group has committed everything that was sent.
fn wait_read(world: &World) {
    let topology = topology();
    let (sources, internal) = (topology.sources(), topology.internal_topics());
    // A repartition topic is written in transactions, and no offset is committed behind its last one.
    let sources = sources.iter().filter(|topic| !internal.contains(topic));
    let of_topic = |topic: &TopicName| {
        let topic = topic.clone();
        (0..PARTITIONS).map(move |number| TopicPartition::new(topic.clone(), Partition(number)))
    };
    let places: Vec<TopicPartition> = sources.flat_map(of_topic).collect();
    let mut history = KafkaHistory::connect(&world.kafka_settings(), topology.name()).unwrap();
    until("every source is read", Duration::from_secs(60), || {
        let progress = history.progress(&places).map_err(|fault| fault.to_string())?;
        let behind = places.iter().zip(progress).find(|(_, (committed, end))| committed.map_or(0, |k| k.0) < end.0);
        behind.map_or(Ok(()), |(place, (committed, end))| Err(format!("{place}: {committed:?} of {end:?}")))
    });
}

fn kill(world: &World, instance: &mut Instance, loses_disk: bool) {
    assert!(instance.is_running(), "{} ended by itself", instance.name);
    instance.kill();
    let name = instance.name.clone();
    if loses_disk {
        std::fs::remove_dir_all(world.folder().join(format!("state-{name}"))).unwrap();
    }
    *instance = world.stateful_instance(&name);
    world.note(&format!("killed {name}{}", if loses_disk { ", and its disk is lost" } else { "" }));
}

/// `TIDEGATE_METERS_SEED` repeats a run's choices.
#[test]
fn everything_that_waits_is_told_once_through_kills_and_a_lost_disk() {
    let seed = Random::seed("TIDEGATE_METERS_SEED");
    let Some(world) = prepared() else { return };
    say(&format!("meters: TIDEGATE_METERS_SEED={seed}"));
    let mut random = Random::new(seed);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let mut load = Load::new(seed, now - whole_ms(PORTIONS));
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let mut instances = ["first", "second"].map(|name| world.stateful_instance(name));
    let (mut sent, mut slow): (BTreeMap<&str, i64>, usize) = (BTreeMap::new(), 0);
    for portion in 0..PORTIONS {
        let records = load.next();
        records.iter().for_each(|record| *sent.entry(record.topic).or_default() += 1);
        // What is idle within a portion is no defect where the portion took its time.
        if send(&feed, &records) > IDLE / 3 {
            load.was_slow();
            slow += 1;
        }
        match KILLS.iter().position(|at| *at == portion) {
            Some(kills) => {
                std::thread::sleep(Duration::from_millis(random.below(100)));
                kill(&world, &mut instances[kills % 2], kills == 1);
            }
            None => std::thread::sleep(PAUSE),
        }
    }
    let end = load.end();
    end.iter().for_each(|record| *sent.entry(record.topic).or_default() += 1);
    send(&feed, &end);
    wait_read(&world);
    until("all is told", Duration::from_secs(60), || load.judge(&mut &world));

    // And nothing is told behind that.
    std::thread::sleep(IDLE);
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    load.judge(&mut &world).unwrap_or_else(|why| panic!("{why}"));
    let audit = world.audit();
    assert_eq!(audit.number("records"), sent["orders"] + sent["usage"], "{:?}", audit.behind());
    let records: i64 = sent.values().sum();
    world.note(&format!("{records} records, {} kills, {slow} slow portions: {}", KILLS.len(), load.sums()));
}
