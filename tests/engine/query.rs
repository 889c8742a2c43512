//! Reads of stores from outside the pipeline, answered by the workers of a running member.

use std::sync::Arc;
use std::time::Duration;
use tidegate::adapters::memory::{LogSettings, MemoryLog, MemoryStores};
use tidegate::engine::commit::{Hook, NoHook};
use tidegate::engine::query::{Queries, Reading, Refusal, Wanted};
use tidegate::engine::settings::EngineSettings;
use tidegate::engine::status::Status;
use tidegate::engine::supervisor::{Member, Ports, Running, WorkerPorts, outputs, subscription};
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{Timestamp, TopicName};
use tidegate::pipelines::usage::topology;
use tidegate::ports::Clock;
use tidegate::ports::changelog::ChangelogReader;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::rows::NoRows;

const PARTITIONS: i32 = 3;

/// A member with threads of its own over the in-process log.
struct World {
    log: MemoryLog,
    clock: Arc<dyn Clock>,
    queries: Queries,
    running: Running,
}

impl World {
    fn new() -> Self {
        let topology = Arc::new(topology());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let log = MemoryLog::with_settings(Arc::clone(&clock), LogSettings::default());
        let events = TopicName::parse("events").unwrap();
        for topic in outputs(&topology).into_iter().chain([events]) {
            log.create_topic(topic.as_str(), PARTITIONS).unwrap();
        }
        let of_changelogs = log.clone();
        let ports = Ports {
            source: Box::new(log.source(subscription(&topology))),
            workers: (0..2)
                .map(|worker| WorkerPorts {
                    rows: Box::new(NoRows),
                    sink: Box::new(log.sink(&format!("usage-{worker}"))),
                    spare: None,
                })
                .collect(),
            clock: Arc::clone(&clock),
            history: None,
            fencer: None,
            stores: Some(Arc::new(MemoryStores::default())),
            changelogs: Some(Arc::new(move || Ok(Box::new(of_changelogs.changelog()) as Box<dyn ChangelogReader>))),
            owner: "a test".into(),
        };
        let settings = EngineSettings { log_age: Duration::from_millis(5), ..EngineSettings::default() };
        let hook: Arc<dyn Hook> = Arc::new(NoHook);
        let member = Member::new(&topology, settings, ports, Arc::new(Status::default()), &hook).unwrap();
        let queries = member.queries();
        Self { log, clock, queries, running: member.spawn() }
    }

    fn send(&self, user: &str, times: usize) {
        let events = TopicName::parse("events").unwrap();
        for n in 0..times {
            let event = format!(r#"{{"userId": "{user}", "units": {n}}}"#);
            self.log.produce(&events, None, Some(event.as_bytes()), &[], Timestamp(1_000)).unwrap();
        }
    }

    /// Reads until `is_so`, ten seconds at most.
    fn read_until(&self, wanted: &Wanted, is_so: impl Fn(&Reading) -> bool) -> Reading {
        let began = self.clock.elapsed();
        loop {
            let reading = self.queries.read("usage", wanted).unwrap();
            if is_so(&reading) {
                return reading;
            }
            assert!(self.clock.elapsed() < began + Duration::from_secs(10), "it does not become so: {reading:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn count(reading: &Reading) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(reading.entries.first()?.value.get()).unwrap();
    value["count"].as_u64()
}

#[test]
fn a_key_is_read_from_its_partition_with_position_and_age() {
    let world = World::new();
    world.send("ada", 7);
    let reading = world.read_until(&Wanted::Key("ada".into()), |reading| count(reading) == Some(7));
    let home = partition_for(b"ada", PARTITIONS);
    let entry = &reading.entries[0];
    assert_eq!((entry.key.as_str(), entry.version, entry.partition), ("ada", 1, home));
    assert_eq!(reading.partitions.len(), 1, "no other partition is asked");
    let standing = &reading.partitions[0];
    assert_eq!(standing.partition, home);
    assert_eq!(standing.inputs[0].source, format!("usage-by-user-repartition-{home}"));
    assert!(standing.inputs[0].next_offset >= 7 && standing.changelog_next_offset >= 1, "{standing:?}");
    assert!(standing.staleness_ms < 10_000, "{standing:?}");
    assert!(reading.elsewhere.is_empty() && reading.unready.is_empty());

    let none = world.queries.read("usage", &Wanted::Key("nobody".into())).unwrap();
    assert!(none.entries.is_empty() && none.unready.is_empty());
    world.running.stop();
    world.running.join(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_prefix_is_read_from_every_partition_and_bounded_in_each() {
    let world = World::new();
    for n in 0..30 {
        world.send(&format!("user-{n:02}"), 1);
    }
    world.send("other", 1);
    let all = Wanted::Prefix { prefix: "user-".into(), count_max: 100 };
    let reading = world.read_until(&all, |reading| reading.entries.len() == 30);
    assert_eq!(reading.partitions.len(), 3);
    assert!(reading.entries.iter().all(|entry| entry.key.starts_with("user-")));
    let few = world.queries.read("usage", &Wanted::Prefix { prefix: String::new(), count_max: 2 }).unwrap();
    assert_eq!(few.entries.len(), 6, "two of each partition");
    let sizes = world.queries.read("usage", &Wanted::Size).unwrap();
    assert!(sizes.entries.is_empty() && sizes.partitions.iter().all(|standing| standing.keys.is_some()));
}

#[test]
fn what_is_not_there_is_refused_or_said_to_be_elsewhere() {
    let world = World::new();
    let wanted = Wanted::Key("ada".into());
    let refusal = world.queries.read("usages", &wanted).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownStore { known: vec!["usage".into()] });
    assert_eq!(refusal.to_string(), "no such store; there are usage");
    world.send("ada", 1);
    world.read_until(&wanted, |reading| count(reading) == Some(1));
    let World { queries, running, .. } = world;
    running.stop();
    running.join(Duration::from_secs(10)).unwrap();
    let reading = queries.read("usage", &wanted).unwrap();
    assert!(reading.entries.is_empty() && reading.elsewhere.len() == 1, "the partition was given up: {reading:?}");
}
