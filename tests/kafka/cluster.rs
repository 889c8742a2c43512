//! A private Kafka for the tests of this binary, and a listener that notes what it hears.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaAdmin, KafkaFeed, KafkaSettings, KafkaSource, TopicSpec};
use tidegate::flow::record::{NextOffset, Partition, Record, TopicName, TopicPartition};
use tidegate::ports::source::{CopartitionGroup, Listener, Membership, Source, Subscription, TaskId};

pub const WAIT: Duration = Duration::from_secs(30);

/// A broker that a test may break.
pub struct Broker {
    dir: PathBuf,
    bootstrap: String,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With variables of `kafka.sh`.
    pub fn start_with(variables: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tidegate-kafka-{}-{number}", std::process::id()));
        let bootstrap = script_with(&["start", dir.to_str().unwrap()], variables);
        Self { dir, bootstrap }
    }

    /// Settings of the user `app`, who may nothing that [`Broker::allow`] does not allow; needs `KAFKA_SECURED`.
    pub fn restricted(&self) -> KafkaSettings {
        let bootstrap_servers = script(&["secured", self.dir.to_str().unwrap()]);
        let mut settings = KafkaSettings { bootstrap_servers, ..KafkaSettings::default() };
        for (name, value) in [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "app"),
            ("sasl.password", "app-secret"),
        ] {
            settings.properties.insert(name.into(), value.into());
        }
        settings
    }

    /// Grants or, with `--remove`, takes rights of the user `app` by Kafka's own tool.
    pub fn allow(&self, arguments: &[&str]) {
        let mut all = vec!["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", &self.bootstrap];
        all.extend(["--force", "--allow-principal", "User:app"]);
        all.extend(arguments);
        script(&all);
    }

    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings { bootstrap_servers: self.bootstrap.clone(), ..KafkaSettings::default() }
    }

    /// `kill`, `restart`, `pause`, `resume`.
    pub fn act(&self, command: &str) {
        script(&[command, self.dir.to_str().unwrap(), "1"]);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        script(&["remove", self.dir.to_str().unwrap()]);
    }
}

fn script(arguments: &[&str]) -> String {
    script_with(arguments, &[])
}

fn script_with(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/kafka.sh");
    let output = Command::new(path)
        .args(arguments)
        .env("TIDEGATE_PARENT_PID", std::process::id().to_string()) // the servers go when this process is gone
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "kafka.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// Settings of the broker that the tests share; `None`, with a line that says so, unless SYSTEM_TESTS=1.
pub fn shared(test: &str) -> Option<KafkaSettings> {
    static SHARED: OnceLock<Broker> = OnceLock::new(); // never dropped: the script's watcher removes it
    wanted(test).then(|| SHARED.get_or_init(Broker::start).settings())
}

pub fn wanted(test: &str) -> bool {
    static LOG: OnceLock<()> = OnceLock::new();
    let wanted = std::env::var("SYSTEM_TESTS").is_ok_and(|value| value == "1");
    if wanted {
        LOG.get_or_init(|| {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().init();
        });
    } else {
        eprintln!("SKIPPED {test}: set SYSTEM_TESTS=1 to run it against a real Kafka");
    }
    wanted
}

pub fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

pub fn place(topic: &TopicName, partition: i32) -> TopicPartition {
    TopicPartition::new(topic.clone(), Partition(partition))
}

/// A new topic whose name begins with `stem`.
pub fn new_topic(settings: &KafkaSettings, stem: &str, partitions: i32) -> TopicName {
    let name = topic(&format!("{stem}-{}", unique()));
    let spec = TopicSpec { name: name.clone(), partitions, replicas: 1, config: BTreeMap::new() };
    KafkaAdmin::connect(settings).unwrap().create(&[spec]).unwrap();
    name
}

pub fn unique() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// `count` records into every partition; record i has value `i`.
pub fn fill(settings: &KafkaSettings, topic: &TopicName, partitions: i32, count: usize) {
    let feed = KafkaFeed::connect(settings).unwrap();
    for partition in 0..partitions {
        for number in 0..count {
            let value = number.to_string();
            feed.send(topic, Some(partition), Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
        }
    }
    feed.flush().unwrap();
}

pub fn subscription(group: &str, lead: &TopicName, companions: &[&TopicName]) -> Subscription {
    let companions = companions.iter().map(|&topic| topic.clone()).collect();
    Subscription { group: group.into(), groups: vec![CopartitionGroup { lead: lead.clone(), companions }] }
}

pub fn task(partition: i32) -> TaskId {
    TaskId { sub_topology: 0, partition: Partition(partition) }
}

/// Notes everything.
#[derive(Default)]
pub struct Notes {
    pub owned: BTreeSet<TaskId>,
    pub newly: Vec<TaskId>,
    pub memberships: Vec<Membership>,
    pub revoked: usize,
    /// Called within each revoke, with the tasks and the last membership heard of.
    pub at_revoke: Option<Box<dyn FnMut(&[TaskId], &Membership)>>,
    pub lost: usize,
    pub records: Vec<(TaskId, usize, i64, String)>,
    pub out_of_range: Vec<(TaskId, usize, String)>,
}

impl Listener for Notes {
    fn assigned(&mut self, tasks: &[TaskId], membership: Membership) {
        for task in tasks {
            assert!(self.owned.insert(*task), "{task:?} was assigned twice");
        }
        self.newly.extend(tasks);
        self.memberships.push(membership);
    }

    fn revoked(&mut self, tasks: &[TaskId]) {
        self.revoked += 1;
        if let (Some(act), Some(membership)) = (&mut self.at_revoke, self.memberships.last()) {
            act(tasks, membership);
        }
        for task in tasks {
            assert!(self.owned.remove(task), "{task:?} was revoked but not owned");
        }
    }

    fn lost(&mut self, tasks: &[TaskId]) {
        self.lost += 1;
        for task in tasks {
            assert!(self.owned.remove(task), "{task:?} was lost but not owned");
        }
    }

    fn record(&mut self, task: TaskId, topic: usize, record: Record<'_>) {
        assert!(self.owned.contains(&task), "a record for {task:?}, which is not owned");
        let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
        self.records.push((task, topic, record.offset.0, value));
    }

    fn out_of_range(&mut self, task: TaskId, topic: usize, message: &str) {
        self.out_of_range.push((task, topic, message.to_owned()));
    }
}

/// A member with its notes.
pub struct Member {
    pub source: KafkaSource,
    pub notes: Notes,
}

impl Member {
    pub fn join(settings: &KafkaSettings, subscription: &Subscription) -> Self {
        Self { source: KafkaSource::join(settings, subscription, None).unwrap(), notes: Notes::default() }
    }

    pub fn poll(&mut self, wait: Duration) {
        self.source.poll(wait, 10_000, &mut self.notes).unwrap();
    }

    /// Polls until `is_so`, 30 s at most.
    pub fn poll_until(&mut self, what: &str, mut is_so: impl FnMut(&Notes) -> bool) {
        let until = Instant::now() + WAIT;
        while !is_so(&self.notes) {
            assert!(
                Instant::now() < until,
                "{what}: owned {:?}, {} records",
                self.notes.owned,
                self.notes.records.len()
            );
            self.poll(Duration::from_millis(20));
        }
    }

    pub fn membership(&self) -> Membership {
        self.notes.memberships.last().unwrap().clone()
    }

    pub fn start(&mut self, topics: &[&TopicName], partition: i32, offset: i64) {
        let positions: Vec<_> = topics.iter().map(|&topic| (place(topic, partition), NextOffset(offset))).collect();
        let until = Instant::now() + WAIT;
        while let Err(fault) = self.source.start(&positions) {
            assert!(fault.is_retry() && Instant::now() < until, "{fault}");
            self.poll(Duration::from_millis(5));
        }
    }
}
