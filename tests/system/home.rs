//! The pipeline `home` on a real Kafka, a real PostgreSQL and RocksDB: roll-ups of devices, of which one sends what it
//! has kept for a day and a half at once, through kills and a lost disk. All tables and all alerts are held against a computation beside
//! it (`tests/home`).

use crate::rig::{Instance, Random, World, say, until};
use crate::rolled::{self, Load, PORTION_MS, Record};
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate::adapters::kafka::{KafkaFeed, TopicSpec};
use tidegate::flow::record::{Timestamp, TopicName};
use tidegate::flow::rollup::Tier;
use tidegate::pipelines::home::topology;

const PARTITIONS: i32 = 3;
const PORTIONS: i64 = 18;
/// Somebody is killed behind these; the second one's disk is lost.
const KILLS: [i64; 3] = [4, 9, 14];

/// Servers with the pipeline's topics and tables, in a folder of that name.
pub fn prepared(name: &'static str) -> Option<World> {
    let mut world = World::example(name, "home")?;
    for name in ["TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS"] {
        world.settings.retain(|(own, _)| own != name);
        world.settings.push((name.into(), "3000".into()));
    }
    world.settings.push(("TIDEGATE_HTTP__LOGIN".into(), "none".into()));
    let topology = topology();
    let changelogs = topology.changelogs();
    let spec = |name: &TopicName| {
        let mut config = BTreeMap::new();
        if changelogs.contains(name) {
            config.insert("cleanup.policy".into(), "compact".into());
            config.insert("delete.retention.ms".into(), "86400000".into());
        }
        TopicSpec { name: name.clone(), partitions: PARTITIONS, replicas: 1, config }
    };
    let names: BTreeSet<TopicName> = topology.sources().into_iter().chain(topology.outputs()).collect();
    world.create(&names.iter().map(spec).collect::<Vec<_>>());
    world.ok(&["migrate"]);
    Some(world)
}

pub fn send(feed: &KafkaFeed, records: &[Record]) {
    let topic = TopicName::parse("home-readings").unwrap();
    for Record { key, value, at } in records {
        feed.send_at(&topic, None, Some(key.as_bytes()), Some(value.as_bytes()), &[], Some(Timestamp(*at))).unwrap();
    }
    feed.flush().unwrap();
}

pub fn rows(world: &World, tier: Tier) -> BTreeMap<(String, String, i64), Vec<u8>> {
    let rows = world.sql(&format!("SELECT device, metric, start_ms, buckets FROM home_{}", tier.word()));
    let read = |row: &sqlx::postgres::PgRow| {
        let key = (row.get::<String, _>(0), row.get::<String, _>(1), row.get::<i64, _>(2));
        (key, row.get::<Vec<u8>, _>(3))
    };
    rows.iter().map(read).collect()
}

pub fn kill(world: &World, instance: &mut Instance, loses_disk: bool) {
    assert!(instance.is_running(), "{} ended by itself", instance.name);
    instance.kill();
    let name = instance.name.clone();
    if loses_disk {
        std::fs::remove_dir_all(world.folder().join(format!("state-{name}"))).unwrap();
    }
    *instance = world.stateful_instance(&name);
    world.note(&format!("killed {name}{}", if loses_disk { ", and its disk is lost" } else { "" }));
}

/// What a graph tells of all readings, in few columns and in many: how many, the smallest and the largest.
fn graphs(instance: &Instance, load: &Load) {
    for (device, metric, points) in [("device-3", "power", 800), ("cellar", "temperature", 30), ("cellar", "mode", 2)] {
        let readings = load.of(device, metric);
        let (from, to) = (readings.keys().next().unwrap(), readings.keys().next_back().unwrap() + 1);
        let path = format!("/api/series?device={device}&metric={metric}&from={from}&to={to}&points={points}");
        let answer = instance.json(&path).unwrap();
        let columns = answer["columns"].as_array().unwrap_or_else(|| panic!("{path}: {answer}"));
        assert!(columns.len() <= points, "{path}: {}", columns.len());
        let told = |name: &str| columns.iter().filter_map(|column| column[name].as_f64()).collect::<Vec<f64>>();
        let n: f64 = told("n").into_iter().sum();
        assert!((n - readings.len() as f64).abs() < 0.5, "{path}: {n} of {}", readings.len());
        let (least, most) = (readings.values().copied().reduce(f64::min), readings.values().copied().reduce(f64::max));
        assert_eq!(told("min").into_iter().reduce(f64::min), least, "{path}");
        assert_eq!(told("max").into_iter().reduce(f64::max), most, "{path}");
    }
    let unknown: serde_json::Value = instance.json("/api/series?device=cellar&metric=pressure").unwrap();
    assert_eq!(unknown["error"], "home has no metric pressure");
}

/// Readings over HTTP, of which one line is wrong, are told in a graph once their quarter is over.
fn ingested(world: &World, instance: &Instance, feed: &KafkaFeed, at_ms: i64) {
    let lines = format!(
        "power,device=boiler value=5 {at_ms}\npower,device=boiler value= {at_ms}\npower,device=boiler value=7i {}\n",
        at_ms + 60_000
    );
    let answer = instance.post("/api/v2/write?precision=ms", &lines).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("line 2"), "{answer}");
    for _ in 0..2 {
        let json = format!(r#"{{"device":"boiler","at_ms":{},"metrics":{{"power":11,"mode":3}}}}"#, at_ms + 120_000);
        let answer = instance.post("/api/readings", &json).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let answer =
        instance.post("/api/v2/write?precision=ms", &format!("power,device=boiler value=9 {}", at_ms + 180_000));
    assert!(answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 204")), "{answer:?}");
    let over = |n| Record { key: format!("over-{n}"), at: at_ms + 1_500_000, value: "[]".into() };
    send(feed, &(0..64).map(over).collect::<Vec<_>>());
    until("what came over HTTP is told", Duration::from_secs(30), || {
        let path = format!("/api/series?device=boiler&metric=power&from={}&to={}", at_ms - 1, at_ms + 300_000);
        let answer = instance.json(&path)?;
        let columns = answer["columns"].as_array().ok_or_else(|| answer.to_string())?;
        let told = |name: &str| columns.iter().filter_map(|column| column[name].as_f64()).sum::<f64>();
        if (told("n"), told("sum")) == (4.0, 32.0) { Ok(()) } else { Err(answer.to_string()) }
    });
    world.note("readings over HTTP are told once");
}

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// `TIDEGATE_HOME_SEED` repeats a run's choices.
#[test]
fn every_bucket_is_that_of_its_readings_through_kills_a_lost_disk_and_a_device_that_is_a_day_late() {
    let seed = Random::seed("TIDEGATE_HOME_SEED");
    let Some(world) = prepared("home") else { return };
    say(&format!("home: TIDEGATE_HOME_SEED={seed}"));
    let now = now_ms();
    let mut load = Load::new(seed, now - (PORTIONS + 2) * PORTION_MS);
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let mut instances = ["first", "second"].map(|name| world.stateful_instance(name));
    let mut sent = Vec::new();
    for portion in 0..PORTIONS {
        let records = load.next();
        send(&feed, &records);
        sent.extend(records);
        match KILLS.iter().position(|at| *at == portion) {
            Some(kills) => kill(&world, &mut instances[kills % 2], kills == 1),
            None => std::thread::sleep(Duration::from_millis(400)),
        }
    }
    let records = load.end();
    send(&feed, &records);
    sent.extend(records);
    let judged =
        || Tier::ALL.into_iter().map(|tier| load.judge(tier, &rows(&world, tier))).sum::<Result<usize, String>>();
    until("all is rolled up", Duration::from_secs(90), || judged().map(drop));
    let due = rolled::alerts(&sent, PARTITIONS);
    until("each alert is told once", Duration::from_secs(30), || {
        let told = rolled::told(world.messages("home-alerts"));
        let other = due.keys().chain(told.keys()).find(|device| due.get(*device) != told.get(*device));
        other.map_or(Ok(()), |device| Err(format!("{device}: {:?}, and not {:?}", told.get(device), due.get(device))))
    });
    world.note(&format!("{} alerts", due.values().map(Vec::len).sum::<usize>()));
    graphs(&instances[0], &load);
    ingested(&world, &instances[1], &feed, now - 2_000_000);
    // And nothing changes behind that.
    std::thread::sleep(Duration::from_secs(2));
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    world.sql("DELETE FROM home_quarters WHERE device = 'boiler'; DELETE FROM home_hours WHERE device = 'boiler'; DELETE FROM home_days WHERE device = 'boiler'");
    let buckets = judged().unwrap_or_else(|why| panic!("{why}"));
    world.audit();
    world.note(&format!("{} readings, {} kills: {buckets} buckets", load.readings(), KILLS.len()));
}
