//! Events of the pipeline `usage` of which every sum is known, and the judge of its changelog and its store.

use crate::keyed::changelog;
use crate::rig::{Instance, Random, World, say, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::record::TopicName;

/// The history of the store.
pub const CHANGELOG: &str = "usage-usage-changelog";

/// One instance and its feed.
pub struct Scene {
    pub world: World,
    pub random: Random,
    /// Among how many users the events are spread.
    pub users: u64,
    /// Number of events sent.
    pub sent: u64,
    feed: KafkaFeed,
    sums: BTreeMap<String, (u64, u64)>,
}

impl Scene {
    pub fn new(name: &'static str) -> Option<Self> {
        let seed = Random::seed("TIDEGATE_STATE_SEED");
        let mut world = World::keyed(name, "usage")?;
        say(&format!("{name}: TIDEGATE_STATE_SEED={seed}"));
        world.settings.retain(|(name, _)| name != "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS");
        for name in ["TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS"] {
            world.settings.push((name.into(), "3000".into()));
        }
        let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
        let random = Random::new(seed);
        Some(Self { world, random, users: 1_000, sent: 0, feed, sums: BTreeMap::new() })
    }

    pub fn folder(&self) -> PathBuf {
        self.world.folder().join("state-only")
    }

    pub fn start(&self, failpoint: &str) -> Instance {
        let folder = format!("state.dir={}", self.folder().display());
        let arguments = ["--set", &folder, "--set", "state.flush_ms=200", "--set", "state.memory_mib=8"];
        self.world.armed_instance("only", failpoint, &arguments)
    }

    pub fn send(&mut self, events: u64) {
        let topic = TopicName::parse("events").unwrap();
        for _ in 0..events {
            let (user, units) = (format!("u{}", self.random.below(self.users)), self.random.below(50));
            let value = format!(r#"{{"userId":"{user}","units":{units}}}"#);
            self.feed.send(&topic, None, None, Some(value.as_bytes()), &[]).unwrap();
            let sum = self.sums.entry(user).or_default();
            *sum = (sum.0 + 1, sum.1 + units);
        }
        self.feed.flush().unwrap();
        self.sent += events;
    }

    /// The changelog, and the store as the running instance reports it, are the sums.
    pub fn judge(&self, instance: &Instance) {
        let kept = until("every sum is right", Duration::from_secs(60), || {
            let kept = changelog(&self.world, "usage", CHANGELOG);
            self.compare(kept.iter().map(|(user, (_, value))| (user.as_str(), value))).map(|()| kept)
        });
        until("the store tells them", Duration::from_secs(20), || {
            let address = instance.page()?;
            let list = ["state", "--address", &address, "list", "usage", "--limit", "10000", "-o", "json"];
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

    pub fn stop(instance: &mut Instance) {
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{status} after {took:?}\n{}", instance.log());
    }
}

/// Changelog records that were read again since `before` bytes of the log.
pub fn restored(instance: &Instance, before: usize) -> u64 {
    let log = instance.log();
    let lines = log[before..].lines().filter(|line| line.contains("store restored"));
    let records = lines.filter_map(|line| line.split("records=").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    records.sum()
}
