//! Offsets that stay pending, because a transaction hangs, and their cost to the worker's other partitions.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::adapters::memory::{LogSettings, ManualClock, MemoryLog};
use tidegate::engine::member::{Member, Ports, WorkerPorts};
use tidegate::engine::protocol::order::{Hook, NoHook};
use tidegate::engine::status::Status;
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::ports::rows::NoRows;
use tidegate::ports::source::{Bounds, Committed, Group, Listener, LogIds, Source, Subscription};
use tidegate::ports::{Clock, Fault};
use tidegate::settings::EngineSettings;

const PARTITIONS: i32 = 8;

struct Pass;

impl Algorithm for Pass {
    type Event = Value;
    type Row = ();
    type Notices = Option<Value>;

    fn apply(&self, event: Value, (): &mut (), _: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        Ok(Some(event))
    }
}

/// A source whose group never gets the offsets of any partition but 0.
struct Slow {
    inner: Box<dyn Source>,
    waits: Arc<Waits>,
}

struct Waits {
    clock: Arc<ManualClock>,
    is_pending: AtomicBool,
    asked_ms: AtomicU64,
    answered: Mutex<BTreeMap<i32, Duration>>,
}

struct SlowGroup {
    inner: Arc<dyn Group>,
    waits: Arc<Waits>,
}

impl Source for Slow {
    fn poll(&mut self, wait: Duration, records_max: usize, listener: &mut dyn Listener) -> Result<usize, Fault> {
        self.inner.poll(wait, records_max, listener)
    }

    fn start(&mut self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault> {
        self.inner.start(positions)
    }

    fn hold(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.inner.hold(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.inner.release(partitions)
    }

    fn group(&self) -> Arc<dyn Group> {
        Arc::new(SlowGroup { inner: self.inner.group(), waits: Arc::clone(&self.waits) })
    }

    fn close(&mut self, listener: &mut dyn Listener) {
        self.inner.close(listener);
    }
}

impl Group for SlowGroup {
    fn committed(&self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Committed>>, Fault> {
        let number = partitions.first().map_or(0, |place| place.partition.0);
        if number > 0 && self.waits.is_pending.load(Ordering::Acquire) {
            self.waits.clock.advance(wait);
            self.waits.asked_ms.fetch_add(u64::try_from(wait.as_millis()).unwrap(), Ordering::AcqRel);
            return Err(Fault::retry("pending"));
        }
        self.waits.answered.lock().unwrap().entry(number).or_insert(self.waits.clock.elapsed());
        self.inner.committed(partitions, Duration::ZERO)
    }

    fn bounds(&self, partition: &TopicPartition, wait: Duration) -> Result<Bounds, Fault> {
        self.inner.bounds(partition, wait)
    }

    fn log_ids(&self, topic: &TopicName, wait: Duration) -> Result<LogIds, Fault> {
        self.inner.log_ids(topic, wait)
    }

    fn partition_count(&self, topic: &TopicName, wait: Duration) -> Result<Option<i32>, Fault> {
        self.inner.partition_count(topic, wait)
    }

    fn addresses(&self, wait: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault> {
        self.inner.addresses(wait)
    }

    fn commit(&self, offsets: &[(TopicPartition, Committed)], wait: Duration) -> Result<(), Fault> {
        self.inner.commit(offsets, wait)
    }
}

#[test]
fn pending_offsets_take_a_quarter_of_the_workers_time_however_many_they_are() {
    let mut topology = Topology::new("passing");
    topology.source("in").process(Pass).to("out");
    let clock = Arc::new(ManualClock::default());
    let settings = LogSettings { session_timeout: Duration::from_mins(60), ..LogSettings::default() };
    let log = MemoryLog::with_settings(Arc::clone(&clock) as Arc<dyn Clock>, settings);
    for topic in ["in", "out", "in-dlt"] {
        log.create_topic(topic, PARTITIONS).unwrap();
    }
    let waits = Arc::new(Waits {
        clock: Arc::clone(&clock),
        is_pending: AtomicBool::new(true),
        asked_ms: AtomicU64::new(0),
        answered: Mutex::default(),
    });
    let ports = Ports {
        source: Box::new(Slow { inner: Box::new(log.source(Subscription::of(&topology))), waits: Arc::clone(&waits) }),
        workers: vec![WorkerPorts { rows: Box::new(NoRows), sink: Box::new(log.sink("passing-0")), spare: None }],
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        history: None,
        fencer: None,
        note: None,
        stores: None,
        changelogs: None,
        owner: "a test".into(),
    };
    let hook: Arc<dyn Hook> = Arc::new(NoHook);
    let mut member =
        Member::new(&Arc::new(topology), EngineSettings::default(), ports, Arc::new(Status::default()), &hook).unwrap();
    let mut run = |time: Duration| {
        let until = clock.elapsed() + time;
        while clock.elapsed() < until {
            member.step().unwrap();
            clock.advance(Duration::from_millis(1));
        }
    };
    run(Duration::from_secs(5)); // each was asked for once
    waits.asked_ms.store(0, Ordering::Release);
    let place = TopicPartition::new(TopicName::parse("in").unwrap(), Partition(0));
    let value = json!({"n": 1}).to_string();
    log.produce_to(&place, None, Some(value.as_bytes()), &[], clock.now()).unwrap();
    run(Duration::from_secs(60));
    let asked = waits.asked_ms.load(Ordering::Acquire);
    assert!((2_000..=16_000).contains(&asked), "{asked} ms of a minute");
    assert_eq!(log.read(&TopicName::parse("out").unwrap()).len(), 1, "the partition whose offset is there works on");

    // When one of them is there, the others are asked for at once.
    let ended_at = clock.elapsed();
    waits.is_pending.store(false, Ordering::Release);
    run(Duration::from_secs(2));
    let answered = waits.answered.lock().unwrap().clone();
    let last = answered.values().max().unwrap();
    assert_eq!(answered.len(), 8);
    assert!(*last < ended_at + Duration::from_secs(1), "{:?} after", last.saturating_sub(ended_at));
}
