//! Drawn pipelines as processes on a real Kafka, a real PostgreSQL and RocksDB: killed, stopped, frozen, and judged by the
//! same interpreter as the simulation (`tests/draw`), which takes the records of each partition one by one.

use crate::pipeline::{Asked, REFUSED, TABLES, Tables};
use crate::real::REST;
use crate::rig::{Instance, Proof, World, in_time, say, until};
use crate::scenario::{DOC, Scenario, first_row};
use serde_json::Value as Json;
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidegate::adapters::kafka::{KafkaChangelog, KafkaFeed, KafkaHistory, TopicSpec};

use tidegate::flow::record::{Header, NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::flow::row::Value;
use tidegate::flow::table::{ColumnType, TableSpec};
use tidegate::flow::{Key, Topology};
use tidegate::ports::changelog::ChangelogReader as _;
use tidegate::ports::history::TopicHistory as _;
use tidegate::testing::{Act, Event, Message, Observed, Progress, Row, Sending, Standstill};

/// Longest time of a pipeline to read all that was sent once everybody is up: a session, a transaction of the dead, the
/// retries of a record that asks for ever, and a restore.
const TO_REST: Duration = Duration::from_secs(60);
/// A frozen instance whose session is over has lost its partitions.
const SESSION: Duration = Duration::from_secs(3);
/// Number of scenarios run at a time; the rig lets no more worlds be.
const LANES: usize = 2;
const NAMES: [&str; 3] = ["first", "second", "third"];

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A scenario under way.
struct Run {
    scenario: Scenario,
    topology: Topology,
    instances: Vec<Option<Instance>>,
    feed: KafkaFeed,
    history: KafkaHistory,
    reader: KafkaChangelog,
    /// Partitions of the topics that are sent to and read.
    sources: Vec<TopicPartition>,
    first_rows: BTreeMap<(String, Key), Row>,
    met: Met,
    frozen: BTreeMap<usize, Instant>,
    world: World, // last: dropped after the instances are gone
}

impl Run {
    /// Servers with topics and tables, and nobody started.
    fn new(name: &'static str, scenario: Scenario) -> Option<Self> {
        let mut world = World::example(name, "drawn")?;
        let file = world.folder().join("scenario.json");
        std::fs::write(&file, serde_json::to_string(&scenario.pipeline).unwrap()).unwrap();
        world.settings.push(("DRAWN".into(), file.display().to_string()));
        for (name, value) in settings(&scenario) {
            world.settings.retain(|(own, _)| own != name);
            world.settings.push((name.into(), value));
        }
        let topology = scenario.pipeline.topology(&Asked::default());
        topology.validate().unwrap_or_else(|errors| panic!("the topology is not valid: {errors:?}"));
        let topics = topology.sub_topologies().iter().flat_map(|sub| sub.sources().cloned());
        let sources: BTreeSet<TopicName> = topics.collect();
        create_topics(&world, &scenario, &topology, &sources);
        if topology.tables().is_empty() {
            world.settings.retain(|(name, _)| name != "TIDEGATE_DATABASE__URL");
        } else {
            world.ok(&["migrate"]);
        }
        for (name, spec) in tables(&scenario, &topology) {
            world.sql(&table(&scenario, name, &spec));
        }
        let partitions = scenario.pipeline.partitions;
        let places =
            sources.iter().flat_map(|topic| (0..partitions).map(|n| TopicPartition::new(topic.clone(), Partition(n))));
        let sources = places.collect();
        let first_rows = rows(&world, &scenario, &topology);
        let kafka = world.kafka_settings();
        let feed = KafkaFeed::connect(&kafka).unwrap();
        let history = KafkaHistory::connect(&kafka, topology.name()).unwrap();
        let reader = KafkaChangelog::connect(&kafka).unwrap();
        let instances = (0..scenario.knobs.instances).map(|_| None).collect();
        Some(Self {
            scenario,
            topology,
            instances,
            feed,
            history,
            reader,
            sources,
            first_rows,
            met: Met::default(),
            frozen: BTreeMap::new(),
            world,
        })
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Send(sending) => self.send(sending),
            Act::Turns(turns) => {
                self.feed.flush().unwrap();
                if *turns >= REST {
                    self.rest().unwrap_or_else(|why| panic!("it does not come to rest: {why}"));
                }
            }
            Act::Pass(ms) => std::thread::sleep(Duration::from_millis(*ms)),
            Act::Kill(number) => {
                let mut instance = self.instances[*number].take().unwrap();
                assert!(instance.is_running(), "{} ended by itself\n{}", instance.name, instance.log());
                instance.kill();
                self.met.kills += 1;
            }
            Act::Stop(number) => {
                let mut instance = self.instances[*number].take().unwrap();
                instance.signal("TERM");
                end(&mut instance);
            }
            Act::Start(number) => self.start(*number),
            Act::Freeze(number) => {
                self.instances[*number].as_ref().unwrap().signal("STOP");
                self.frozen.insert(*number, Instant::now());
            }
            Act::Thaw(number) => {
                let since = self.frozen.remove(number).unwrap();
                self.met.freezes += usize::from(since.elapsed() > SESSION);
                self.instances[*number].as_ref().unwrap().signal("CONT");
            }
            Act::LoseDisk(number) => {
                let folder = self.world.folder().join(format!("state-{}", NAMES[*number]));
                self.met.lost_disks += usize::from(std::fs::remove_dir_all(folder).is_ok()); // it may not have had one
            }
            other => panic!("{other:?} is not for real servers"),
        }
    }

    fn start(&mut self, number: usize) {
        if self.instances[number].is_none() {
            self.instances[number] = Some(self.world.stateful_instance(NAMES[number]));
        }
    }

    fn send(&self, sending: &Sending) {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
        let header = |(name, value): &(String, Option<String>)| Header { name: name.clone(), value: bytes(value) };
        let headers: Vec<Header> = sending.headers.iter().map(header).collect();
        let (key, value) = (sending.key.as_deref().map(str::as_bytes), sending.value.as_deref().map(str::as_bytes));
        let at = Timestamp(now_ms() + sending.after_ms);
        self.feed.send_at(&topic(&sending.topic), sending.partition, key, value, &headers, Some(at)).unwrap();
    }

    /// Waits until every source is read to its end, and K is where D is. The error names the obstacle.
    fn rest(&mut self) -> Result<(), String> {
        let mut before = Vec::new();
        in_time(TO_REST, || {
            let now = self.progress()?;
            let has_moved = std::mem::replace(&mut before, now.clone()) != now;
            if let Some((place, progress)) = now.iter().find(|(_, progress)| progress.decided != progress.committed) {
                return Err(format!("{place}: {progress:?}"));
            }
            if has_moved {
                return Err(format!("it moves: {now:?}"));
            }
            for (place, progress) in &now {
                let last = read(&mut self.reader, place)?.last().map(|last| last.offset);
                if last.is_some_and(|last| progress.decided.is_none_or(|at| at.is_before(last))) {
                    return Err(format!("{place}: {progress:?}, the last record is at {last:?}"));
                }
            }
            Ok(())
        })
    }

    fn progress(&mut self) -> Result<Vec<(TopicPartition, Progress)>, String> {
        let committed = self.history.progress(&self.sources).map_err(|fault| fault.to_string())?;
        let mut decided: BTreeMap<(String, i32), i64> = BTreeMap::new();
        if !self.topology.tables().is_empty() {
            for row in self.world.sql("SELECT topic, partition::bigint, next_offset FROM tidegate.position") {
                let number = |at: usize| row.try_get_unchecked::<i64, _>(at).unwrap();
                decided.insert((row.try_get_unchecked(0).unwrap(), i32::try_from(number(1)).unwrap()), number(2));
            }
        }
        let subs = self.topology.sub_topologies();
        let has_rows =
            |topic: &TopicName| subs.iter().any(|sub| sub.table().is_some() && sub.sources().any(|t| t == topic));
        let places = self.sources.iter().zip(committed).map(|(place, (committed, _))| {
            let own = decided.get(&(place.topic.as_str().to_owned(), place.partition.0)).copied().map(NextOffset);
            let decided = if has_rows(&place.topic) { own } else { committed };
            (place.clone(), Progress { decided, committed, ..Progress::default() })
        });
        Ok(places.collect())
    }

    /// Everybody is up, everything is read; then everybody leaves, and their traces are read.
    fn finish(&mut self) -> Observed {
        (0..self.instances.len()).for_each(|number| self.start(number));
        self.feed.flush().unwrap();
        let rest = self.rest();
        let mut halts: Vec<Standstill> = Vec::new();
        for instance in self.instances.iter_mut().flatten() {
            assert!(instance.is_running(), "{} ended by itself\n{}", instance.name, instance.log());
            let status = until("the page", Duration::from_secs(10), || instance.status());
            halts.extend(status["halts"].as_array().unwrap().iter().map(standstill));
        }
        let mut instances: Vec<Instance> = self.instances.iter_mut().filter_map(Option::take).collect();
        instances.iter().for_each(|instance| instance.signal("TERM"));
        instances.iter_mut().for_each(end);
        let mut open: Vec<String> = rest.err().into_iter().collect();
        let topics = self.sources.iter().map(|place| place.topic.clone()).chain(self.topology.outputs());
        let mut log = BTreeMap::new();
        for topic in topics.collect::<BTreeSet<_>>() {
            open.extend(self.history.await_open(&topic).err().map(|fault| fault.to_string()));
            for number in 0..self.scenario.pipeline.partitions {
                let place = TopicPartition::new(topic.clone(), Partition(number));
                let messages = read(&mut self.reader, &place).unwrap_or_else(|why| panic!("{why}"));
                log.insert(place, messages);
            }
        }
        let shape = self.scenario.shape();
        let progress = self.progress().unwrap_or_else(|why| panic!("{why}")).into_iter().collect();
        let thresholds = self.topology.thresholds().iter();
        let observed = Observed {
            made: BTreeSet::new(),
            partitions: shape.partitions,
            settings: shape.settings,
            limits: shape.limits.into_iter().collect(),
            now_ms: now_ms(),
            first_rows: self.first_rows.clone(),
            thresholds: thresholds.map(|threshold| (threshold.name().to_owned(), threshold.value())).collect(),
            struck: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            died: BTreeSet::new(),
            must_halt: BTreeSet::new(),
            events: Vec::<Event>::new(),
            handled: BTreeMap::new(),
            rows: rows(&self.world, &self.scenario, &self.topology),
            log,
            gone: BTreeMap::new(),
            progress,
            halts,
            open,
            inside: None,
        };
        observed.partition_by_partition(&self.topology)
    }
}

/// It was asked to leave, and must do so in peace; one that has joined no group yet ends at once, as by the signal. One that was
/// started some milliseconds ago and has written nothing yet may not answer signals: the signal itself ends it.
fn end(instance: &mut Instance) {
    let status = instance.end(Duration::from_secs(20));
    let has_no_answer = status.signal() == Some(15) && !instance.has_spoken();
    let is_peaceful = status.success() || status.code() == Some(143) || has_no_answer;
    assert!(is_peaceful, "{} ended with {status}\n{}", instance.name, instance.log());
}

fn standstill(halt: &Json) -> Standstill {
    let text = |name: &str| halt[name].as_str().unwrap_or_default().to_owned();
    let source = text("source");
    let (topic_name, partition) = source.rsplit_once('-').unwrap();
    let source = TopicPartition::new(topic(topic_name), Partition(partition.parse().unwrap()));
    Standstill { source, reason: text("reason"), detail: text("detail") }
}

/// The drawn settings, as environment variables of a service.
fn settings(scenario: &Scenario) -> Vec<(&'static str, String)> {
    let knobs = &scenario.knobs;
    let missing_row = ["skip", "dead-letter", "retry"][usize::from(knobs.missing_row % 3)];
    vec![
        ("TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", SESSION.as_millis().to_string()),
        ("TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS", "3000".into()),
        ("TIDEGATE_ENGINE__WORKERS", knobs.workers.to_string()),
        ("TIDEGATE_ENGINE__BATCH_ROWS", knobs.batch_rows.to_string()),
        ("TIDEGATE_ENGINE__BATCH_AGE_MS", knobs.batch_age_ms.to_string()),
        ("TIDEGATE_ENGINE__LOG_AGE_MS", knobs.log_age_ms.to_string()),
        ("TIDEGATE_ENGINE__UNPUBLISHED_ROWS", knobs.unpublished_rows.to_string()),
        ("TIDEGATE_ENGINE__QUEUED_RECORDS", knobs.queued_records.to_string()),
        ("TIDEGATE_ENGINE__RECORD_BYTES_MAX", scenario.shape().settings.record_bytes_max.to_string()),
        ("TIDEGATE_STATE__FLUSH_MS", knobs.flush_ms.to_string()),
        ("TIDEGATE_STATE__MEMORY_MIB", "8".into()),
        ("TIDEGATE_RETRY__ATTEMPTS", knobs.retry_attempts.to_string()),
        ("TIDEGATE_RETRY__BACKOFF_MS", "20".into()),
        ("TIDEGATE_PIPELINE__MISSING_ROW", missing_row.into()),
        ("TIDEGATE_PIPELINE__VERDICTS", knobs.verdicts.to_string()),
    ]
}

/// Every topic takes records from the future, which brokers refuse otherwise: they are the engine's to refuse.
fn create_topics(world: &World, scenario: &Scenario, topology: &Topology, sources: &BTreeSet<TopicName>) {
    let (compacted, limits) = (topology.changelogs(), scenario.shape().limits);
    let spec = |name: &TopicName| {
        let mut config = BTreeMap::from([("message.timestamp.after.max.ms".to_owned(), i64::MAX.to_string())]);
        if compacted.contains(name) {
            config.insert("cleanup.policy".into(), "compact".into());
            config.insert("delete.retention.ms".into(), "86400000".into());
        }
        if topology.internal_topics().contains(name) {
            config.insert("retention.ms".into(), "-1".into());
        }
        if let Some((_, bytes)) = limits.iter().find(|(limited, _)| *limited == *name.as_str()) {
            config.insert("max.message.bytes".into(), bytes.to_string());
        }
        TopicSpec { name: name.clone(), partitions: scenario.pipeline.partitions, replicas: 1, config }
    };
    let names: BTreeSet<TopicName> = sources.iter().cloned().chain(topology.outputs()).collect();
    world.create(&names.iter().map(spec).collect::<Vec<_>>());
}

/// The drawn tables by their names.
fn tables(scenario: &Scenario, topology: &Topology) -> Vec<(&'static str, TableSpec)> {
    let spec = |number: u8| topology.tables().into_iter().find(|spec| spec.table == scenario.pipeline.table(number));
    let numbers = scenario.pipeline.tables().into_iter();
    numbers.map(|number| (TABLES[usize::from(number)], spec(number).unwrap())).collect()
}

/// A drawn table with its rows, and the constraint that refuses a sum.
fn table(scenario: &Scenario, name: &str, spec: &TableSpec) -> String {
    let key = if scenario.pipeline.has_text_keys { "text" } else { "bigint" };
    let mut sql = format!("CREATE TABLE {name} (id {key} PRIMARY KEY");
    if scenario.pipeline.is_versioned {
        sql += ", version bigint NOT NULL";
    }
    for column in &spec.columns {
        let null = if column.is_nullable { "" } else { " NOT NULL" };
        let _ = write!(sql, ", {} {}{null}", column.name, column.accepts[0]);
    }
    let check =
        if scenario.pipeline.tables == Tables::Keep { String::new() } else { format!(", CHECK (sum <= {REFUSED:?})") };
    let _ = write!(sql, "{check});");
    if scenario.pipeline.tables == Tables::Round {
        let _ = write!(
            sql,
            "CREATE FUNCTION {name}_rounds() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN NEW.sum := floor(NEW.sum * 4) / 4; NEW.mirror := ''; RETURN NEW; END$$; \
             CREATE TRIGGER rounds BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION {name}_rounds();"
        );
    }
    for id in 0..scenario.rows {
        let row = serde_json::to_value(first_row(id)).unwrap();
        let literal = |name: &str| match &row[name] {
            _ if name == "doc" => format!("'{DOC}'"), // its text as it stands: JSON read by a program has other numbers
            Json::Null => "NULL".into(),
            Json::String(text) => format!("'{text}'"),
            other => format!("'{other}'"),
        };
        let values = spec.columns.iter().map(|column| format!(", {}", literal(&column.name))).collect::<String>();
        let version = if scenario.pipeline.is_versioned { ", 0" } else { "" };
        let _ = write!(sql, "INSERT INTO {name} VALUES ('{id}'{version}{values});");
    }
    sql
}

/// Every row of the tables.
fn rows(world: &World, scenario: &Scenario, topology: &Topology) -> BTreeMap<(String, Key), Row> {
    let mut found = BTreeMap::new();
    for (name, spec) in tables(scenario, topology) {
        let columns: Vec<String> = spec.columns.iter().map(|column| format!("{}::text", column.name)).collect();
        let version = if scenario.pipeline.is_versioned { "version" } else { "0::bigint" };
        for row in world.sql(&format!("SELECT id::text, {version}, {} FROM {name}", columns.join(", "))) {
            let text = |at: usize| row.try_get_unchecked::<Option<String>, _>(at).unwrap();
            let values = spec.columns.iter().zip(2..).map(|(column, at)| {
                (column.name.clone(), text(at).map_or(Value::Null, |text| value(column.accepts[0], text)))
            });
            let id = text(0).unwrap();
            let key =
                if scenario.pipeline.has_text_keys { Key::from(&*id) } else { Key::from(id.parse::<i64>().unwrap()) };
            let version = row.try_get_unchecked(1).unwrap();
            found.insert((name.to_owned(), key), Row { version, values: values.collect() });
        }
    }
    found
}

/// A value from the text that PostgreSQL writes.
fn value(kind: ColumnType, text: String) -> Value {
    match kind {
        ColumnType::I16 => Value::I16(text.parse().unwrap()),
        ColumnType::I64 => Value::I64(text.parse().unwrap()),
        ColumnType::F64 => Value::F64(text.parse().unwrap()),
        ColumnType::Text => Value::Text(text),
        ColumnType::Json => Value::Json(text),
        other => panic!("drawn tables have no {other}"),
    }
}

/// A partition to its end, as a committed reader sees it.
fn read(reader: &mut KafkaChangelog, place: &TopicPartition) -> Result<Vec<Message>, String> {
    let mut found = Vec::new();
    let told = |fault: tidegate::ports::Fault| format!("{place}: {fault}");
    let bounds = reader.bounds(place).map_err(told)?;
    if bounds.start < bounds.end {
        reader.begin(place, bounds.start).map_err(told)?;
        let began = Instant::now();
        loop {
            let mut visit = |record: &tidegate::flow::record::Record<'_>| {
                found.push(Message::of(record));
                true
            };
            let at = reader.read(Duration::from_millis(200), 10_000, &mut visit).map_err(told)?;
            if at >= bounds.end {
                break;
            }
            if began.elapsed() > Duration::from_secs(20) {
                return Err(format!("{place}: read to {at}, and it ends at {}", bounds.end));
            }
        }
        reader.end();
    }
    Ok(found)
}

/// Drawn algorithms panic by the thousand where the interpreter runs them, and the harness would print it all.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<&str>().copied().unwrap_or_default();
            if !text.ends_with("told to panic") {
                before(info);
            }
        }));
    });
}

/// A seed, as a cell of the long run.
#[derive(Clone)]
struct Seed(u64);

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}", self.0)
    }
}

/// Counts of the events that instances went through.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    seeds: usize,
    kills: usize,
    /// Past the session.
    freezes: usize,
    /// With something on them.
    lost_disks: usize,
    /// Pipelines with a step in windows.
    windowed: usize,
}

impl Met {
    const fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.kills += other.kills;
        self.freezes += other.freezes;
        self.lost_disks += other.lost_disks;
        self.windowed += other.windowed;
    }
}

/// Plays the seed's scenario and judges it; `None` when the time for new ones is over.
fn play(seed: &Seed) -> Option<Met> {
    let scenario = Scenario::for_real_servers(seed.0);
    let name: &'static str = Box::leak(format!("drawn-{}", seed.0).into_boxed_str());
    let mut run = Run::new(name, scenario)?;
    let mut proof = Proof::new("drawn", seed.0);
    if !proof.begin(seed) {
        return None;
    }
    (0..run.instances.len()).for_each(|number| run.start(number));
    for act in run.scenario.acts.clone() {
        run.act(&act);
    }
    let observed = run.finish();
    let findings = run.scenario.judge(&observed);
    if !findings.is_empty() {
        let simulated = run.scenario.run(false).findings;
        let file = run.world.folder().join("observed.txt");
        std::fs::write(&file, format!("{observed:#?}")).unwrap();
        let told = findings.iter().map(|finding| format!("{}: {}", finding.kind, finding.detail));
        let told: Vec<String> = told.collect();
        let kinds: Vec<&str> = simulated.iter().map(|finding| finding.kind).collect();
        panic!("{seed}: {}\nthe simulation of the same: {kinds:?}; {}", told.join("\n"), file.display());
    }
    let count = |topics: &BTreeSet<TopicName>| -> usize {
        observed.log.iter().filter(|(place, _)| topics.contains(&place.topic)).map(|(_, messages)| messages.len()).sum()
    };
    let read: usize = run.sources.iter().filter_map(|place| observed.log.get(place)).map(Vec::len).sum();
    let written = count(&run.topology.outputs());
    run.world.note(&format!("{seed}: {read} records read, {written} written, {:?}, no finding", run.met));
    proof.end(&[("records", read.into()), ("kills", run.met.kills.into())]);
    proof.clean();
    let windowed = usize::from(run.scenario.pipeline.subs.iter().any(|sub| sub.window.is_some()));
    Some(Met { seeds: 1, windowed, ..run.met })
}

/// `TIDEGATE_DRAWN_SEED`: the first seed (0). `TIDEGATE_DRAWN_SEEDS`: how many, 8 or, in the long run, 60.
#[test]
fn drawn_pipelines_leave_behind_what_each_record_says_through_kills() {
    if !crate::rig::is_wanted("drawn") {
        return;
    }
    hush();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("TIDEGATE_DRAWN_SEED").unwrap_or(0);
    let proof = Proof::new("drawn", first);
    let count = number("TIDEGATE_DRAWN_SEEDS").unwrap_or(if proof.is_kept() { 60 } else { 8 });
    let seeds = proof.plan(&(first..first + count).map(Seed).collect::<Vec<_>>());
    say(&format!("drawn: TIDEGATE_DRAWN_SEED={first} TIDEGATE_DRAWN_SEEDS={count}"));
    let (next, failed, met) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Met::default()));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                // Each in a thread of its own: one that fails keeps its logs, and the others go on.
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match std::thread::scope(|scope| scope.spawn(|| play(seed)).join()) {
                        Ok(Some(one)) => met.lock().unwrap().add(one),
                        Ok(None) => return,
                        Err(_) => failed.lock().unwrap().push(seed.0),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds with findings: {failed:?}");
    let met = met.into_inner().unwrap();
    say(&format!("drawn: {met:?}"));
    if proof.is_kept() {
        return; // until its time is over
    }
    assert_eq!(met.seeds, seeds.len(), "each seed is played");
    if first == 0 && count >= 8 {
        assert!(met.kills > 0 && met.freezes > 0 && met.lost_disks > 0 && met.windowed > 0, "{met:?}");
    }
}
