//! Obstacles on purpose, each by another program's means, and how instances tell of one (docs/operations.md#obstacles).

use super::{Instance, World, in_time, until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate::ports::obstacle::ObstacleKind;

/// The time within which an obstacle is told.
pub const HALF_A_MINUTE: Duration = Duration::from_secs(30);
/// The time for which a question to a server may take.
const WAIT: Duration = Duration::from_secs(30);

pub fn assert_tells(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

/// A member of the group that is no instance of ours, named `another-program`. It leaves when it is dropped.
pub struct Stranger {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// Joins `group` for `topic`, and waits until it has a partition. `strategy` is librdkafka's word: with `range`, the
    /// default of many clients, it speaks another protocol than ours.
    pub fn join(world: &World, group: &str, topic: &str, strategy: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &world.kafka.bootstrap)
            .set("group.id", group)
            .set("client.id", "another-program")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .set("partition.assignment.strategy", strategy)
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        until("the other program is a member", WAIT, || {
            let _ = consumer.poll(Duration::from_millis(100));
            if consumer.assignment().unwrap().count() > 0 { Ok(()) } else { Err("no partition".into()) }
        });
        let is_over = Arc::<AtomicBool>::default();
        let is_over_too = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while !is_over_too.load(Ordering::Acquire) {
                let _ = consumer.poll(Duration::from_millis(100));
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A transaction of another program that stays open.
pub struct OpenTransaction {
    producer: BaseProducer,
    bootstrap: String,
}

impl OpenTransaction {
    fn begin(world: &World) -> Self {
        let bootstrap = world.kafka.bootstrap.clone();
        let producer = Self::producer(&bootstrap);
        producer.begin_transaction().unwrap();
        Self { producer, bootstrap }
    }

    /// Answers once the last transaction of the id has its end in every partition.
    fn producer(bootstrap: &str) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("transactional.id", "another-program")
            .set("transaction.timeout.ms", "300000") // it does not end by itself
            .create()
            .unwrap();
        producer.init_transactions(WAIT).unwrap();
        producer
    }

    /// A record of it lies in this partition.
    pub fn record(world: &World, topic: &str, partition: i32) -> Self {
        let transaction = Self::begin(world);
        let record = BaseRecord::to(topic).partition(partition).key("9").payload("{\"value\": 1.0}");
        transaction.producer.send(record).map_err(|(error, _)| error).unwrap();
        transaction.producer.flush(WAIT).unwrap();
        transaction
    }

    /// An offset of `group` for each of these partitions is part of it.
    #[cfg(feature = "failpoints")]
    pub fn offsets(world: &World, group: &str, sources: &[(String, i32)]) -> Self {
        let transaction = Self::begin(world);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &world.kafka.bootstrap)
            .set("group.id", group) // never joined
            .create()
            .unwrap();
        let mut offsets = rdkafka::TopicPartitionList::new();
        for (topic, partition) in sources {
            offsets.add_partition_offset(topic, *partition, rdkafka::Offset::Offset(1)).unwrap();
        }
        let member = consumer.group_metadata().unwrap();
        transaction.producer.send_offsets_to_transaction(&offsets, &member, WAIT).unwrap();
        transaction
    }

    /// What is written afterwards lies behind its end.
    pub fn abort(self) {
        self.producer.abort_transaction(WAIT).unwrap();
        drop(Self::producer(&self.bootstrap));
    }
}

/// A quota of all clients that have none of their own.
pub struct Quota<'a> {
    world: &'a World,
    name: &'static str,
}

impl<'a> Quota<'a> {
    /// Bytes a second; `name` is `consumer_byte_rate` or `producer_byte_rate`.
    pub fn set(world: &'a World, name: &'static str, bytes: u64) -> Self {
        configure(world, &["--entity-default", "--alter", "--add-config", &format!("{name}={bytes}")]);
        Self { world, name }
    }

    /// Gives a client so much that no quota slows it down.
    #[cfg(feature = "failpoints")]
    pub fn exempt(world: &World, client: &str) {
        let much = "producer_byte_rate=1000000000,consumer_byte_rate=1000000000";
        configure(world, &["--entity-name", client, "--alter", "--add-config", much]);
    }

    pub fn lift(self) {
        configure(self.world, &["--entity-default", "--alter", "--delete-config", self.name]);
    }
}

fn configure(world: &World, change: &[&str]) {
    world.kafka.tool("kafka.admin.ConfigCommand", &[&["--entity-type", "clients"], change].concat());
}

/// One instance's telling of an obstacle: its log from a moment on, `/status`, and `/readyz`.
pub struct Telling {
    kind: ObstacleKind,
    began: Instant,
    /// How long the log was when it began.
    mark: usize,
}

impl Telling {
    /// From now on. A line that stood there before does not count.
    pub fn of(kind: ObstacleKind, instance: &Instance) -> Self {
        Self { kind, began: Instant::now(), mark: instance.log().len() }
    }

    /// From the start of an instance of this name, which is yet to come.
    pub fn of_next(kind: ObstacleKind, world: &World, name: &str) -> Self {
        let log = std::fs::read(world.folder().join(format!("{name}.log"))).unwrap_or_default();
        Self { kind, began: Instant::now(), mark: log.len() }
    }

    /// The line of the log, if it is there.
    pub fn line(&self, instance: &Instance) -> Result<String, String> {
        let words = format!("kind=\"{}\"", self.kind.label());
        let log = instance.log();
        let line = log.get(self.mark..).unwrap_or_default().lines().find(|line| line.contains(&words));
        line.map(str::to_owned).ok_or_else(|| format!("{} logs no {words}", instance.name))
    }

    /// Demands that one of the instances tells of it within half a minute, in its log and in `/status`, each time with cause and
    /// next command. Answers which, its line, and the time it took.
    pub fn demand(tellings: &[Self], instances: &[&Instance]) -> (usize, String, Duration) {
        let began = tellings[0].began;
        let left = HALF_A_MINUTE.saturating_sub(began.elapsed());
        let kind = tellings[0].kind.label();
        let (at, line) = until(&format!("{kind} is told"), left, || {
            let lines = tellings.iter().zip(instances).map(|(telling, instance)| telling.line(instance));
            let found = lines.enumerate().find_map(|(at, line)| Some((at, line.ok()?)));
            found.ok_or_else(|| format!("no log of {} has it", instances.len()))
        });
        let took = began.elapsed();
        assert_tells(&line, &["WARN", tellings[0].kind.sentence(), "about=", "cause=", "next="]);
        until(&format!("/status tells of {kind}"), Duration::from_secs(3), || {
            let entries = standing(instances[at], tellings[0].kind)?;
            let is_whole = |entry: &Value| ["about", "cause", "next"].iter().all(|field| entry[*field].is_string());
            if entries.iter().any(is_whole) { Ok(()) } else { Err(format!("{entries:?}")) }
        });
        (at, line, took)
    }

    /// Demands the same of one instance; its line.
    pub fn demand_of(self, instance: &Instance) -> String {
        Self::demand(&[self], &[instance]).1
    }
}

/// The entries of `/status` of one kind.
fn standing(instance: &Instance, kind: ObstacleKind) -> Result<Vec<Value>, String> {
    let status = instance.status()?;
    let all = status["obstacles"].as_array().ok_or_else(|| format!("no obstacles in {status}"))?;
    Ok(all.iter().filter(|entry| entry["kind"] == kind.label()).cloned().collect())
}

impl Instance {
    /// Waits until nothing of an obstacle of this kind is left in `/status`, and the instance is ready.
    pub fn wait_rid_of(&self, kind: ObstacleKind, within: Duration) {
        let is_rid = || {
            let (left, readiness) = (standing(self, kind)?, self.readiness()?);
            let is_ready = readiness.starts_with("HTTP/1.1 200");
            if left.is_empty() && is_ready { Ok(()) } else { Err(format!("{left:?}, {readiness}")) }
        };
        let rid = in_time(within, is_rid);
        assert_eq!(rid, Ok(()), "{} is rid of {}\n{}", self.name, kind.label(), self.log());
    }
}
