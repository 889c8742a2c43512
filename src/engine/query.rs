//! Reads of stores from outside the pipeline: by key, by prefix, and how much they hold. Nothing here changes anything.
//!
//! A store belongs to its worker, so a question travels to it through the worker's inbox and is answered between two
//! batches. What is told is proved: committed in the changelog, and what a crash at that moment would leave. A value that
//! is still on its way is not seen, so a reader never sees one that is taken back.
//!
//! Each process answers for the partitions that it owns and names the owners of the others.

use crate::engine::stage::{Stage, ToStage};
use crate::engine::task::State;
use crate::flow::key::KeyType;
use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::flow::store::{StoreSpec, after_prefix};
use crate::flow::topology::{StepKind, SubTopology, Topology};
use crate::ports::Fault;
use crate::ports::source::{Group, TaskId};
use crossbeam_channel::{Sender, bounded};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a worker may take to answer: longer than any batch, so that only one that hangs is given up.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the log may take to say how many partitions a topic has, or who owns one.
const ASK: Duration = Duration::from_secs(2);

/// What is wanted of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The value of one key, spelt as people spell it.
    Key(String),
    /// At most `count_max` keys that begin with `prefix`, in byte order, of each partition.
    Prefix {
        /// The first bytes, as text; empty for all.
        prefix: String,
        /// Bounds the answer.
        count_max: usize,
    },
    /// No value, only how much there is.
    Size,
}

/// What this process can say of a store.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Keys and values, partition by partition in the keys' byte order.
    pub entries: Vec<Entry>,
    /// The partitions that answered.
    pub partitions: Vec<Standing>,
    /// The partitions that other instances must be asked about.
    pub elsewhere: Vec<Elsewhere>,
    /// The partitions that are ours and cannot be read yet.
    pub unready: Vec<Unready>,
}

/// A key with its proved value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The key as text; `0x` and hexadecimal digits where it is none.
    pub key: String,
    /// The version that the value was written in.
    pub version: u8,
    /// The value, as it was written.
    pub value: Box<RawValue>,
    /// Where it lies.
    pub partition: i32,
}

/// How far a partition of a store has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The partition number.
    pub partition: i32,
    /// The store's position: the changelog record before it is the last one proved.
    pub changelog_next_offset: i64,
    /// K of each input: every record below has had its effect on what is told.
    pub inputs: Vec<InputPosition>,
    /// Milliseconds since something was last proved: how old the picture may be at most while records wait.
    pub staleness_ms: u64,
    /// Whether everything that was decided here is proved.
    pub is_caught_up: bool,
    /// Keys on the disk, possibly an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Keys that are committed and not on the disk yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritten_keys: Option<u64>,
    /// Bytes of keys and values on the disk, possibly an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// K of one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPosition {
    /// `topic-partition`.
    pub source: String,
    /// The first record that has had no effect yet.
    pub next_offset: i64,
}

/// A partition that another instance owns, or nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Elsewhere {
    /// The partition number.
    pub partition: i32,
    /// Where its owner can be asked, as `host:port`; `None` where nobody is known to own it.
    pub owner: Option<String>,
}

/// A partition that is ours and not readable yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unready {
    /// The partition number.
    pub partition: i32,
    /// What it is doing, in words.
    pub state: &'static str,
    /// How long a restore has to go, where one is under way.
    pub seconds_left: Option<f64>,
}

/// Why a store cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such store.
    UnknownStore {
        /// Those that there are.
        known: Vec<String>,
    },
    /// The key cannot be one of this store.
    BadKey(String),
    /// The log or a worker did not answer, or what lies there cannot be read.
    Unanswered(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownStore { known } if known.is_empty() => f.write_str("this pipeline keeps no store"),
            Self::UnknownStore { known } => write!(f, "no such store; there are {}", known.join(", ")),
            Self::BadKey(message) | Self::Unanswered(message) => f.write_str(message),
        }
    }
}

/// Reads the stores of one member of the group. Clones ask the same workers.
#[derive(Clone)]
pub struct Queries {
    topology: Arc<Topology>,
    group: Arc<dyn Group>,
    inboxes: Inboxes,
    /// Partition counts as first heard: where one changes, stateful tasks halt.
    counts: Arc<Mutex<HashMap<TopicName, i32>>>,
}

impl fmt::Debug for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queries").field("stores", &self.stores()).finish_non_exhaustive()
    }
}

impl Queries {
    pub(crate) fn new(topology: Arc<Topology>, group: Arc<dyn Group>, inboxes: Inboxes) -> Self {
        Self { topology, group, inboxes, counts: Arc::default() }
    }

    /// The names of the pipeline's stores.
    #[must_use]
    pub fn stores(&self) -> Vec<String> {
        let stores = self.topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
        stores.map(|store| store.name.to_string()).collect()
    }

    /// Reads what this process owns of a store. Blocks until its workers have answered.
    ///
    /// # Errors
    /// [`Refusal`]: nothing is told.
    pub fn read(&self, store: &str, wanted: &Wanted) -> Result<Reading, Refusal> {
        let place = self.place(store).ok_or_else(|| Refusal::UnknownStore { known: self.stores() })?;
        let asked = place.asked(wanted)?;
        let mut reading = Reading::default();
        for partition in self.partitions(&place, &asked)? {
            let task = TaskId { sub_topology: place.sub_topology, partition };
            let Some(inbox) = self.inboxes.of(task) else {
                reading.elsewhere.push(self.elsewhere(&place.sub.lead, partition));
                continue;
            };
            let (answer, answers) = bounded(1);
            let question = Question { task, store: place.store, asked: asked.clone(), answer };
            // A worker that has just lost the partition drops the question, or has ended with its channel.
            let told = inbox.send(ToStage::Query(question)).ok().and_then(|()| answers.recv_timeout(ANSWER).ok());
            match told {
                Some(Ok(Told::Partition(entries, standing))) => {
                    reading.entries.extend(entries.into_iter().map(|entry| place.entry(entry, partition)));
                    reading.partitions.push(standing);
                }
                Some(Ok(Told::Unready(unready))) => reading.unready.push(unready),
                Some(Err(fault)) => return Err(Refusal::Unanswered(fault.to_string())),
                None => {
                    let state = "moving";
                    reading.unready.push(Unready { partition: partition.0, state, seconds_left: None });
                }
            }
        }
        Ok(reading)
    }

    fn place(&self, name: &str) -> Option<Place<'_>> {
        self.topology.sub_topologies().iter().enumerate().find_map(|(sub_topology, sub)| {
            let store = sub.stores.iter().position(|store| *store.name == *name)?;
            Some(Place { sub_topology, sub, store })
        })
    }

    /// The partitions that can hold what is asked for.
    fn partitions(&self, place: &Place<'_>, asked: &Asked) -> Result<Vec<Partition>, Refusal> {
        let count = self.count(&place.sub.lead)?;
        Ok(match asked {
            Asked::Key(key) if place.is_by_record_key() => {
                let declared = place.sub.declared.as_ref();
                let partition = declared.map_or_else(
                    || crate::flow::key::partition_for(key, count),
                    |declared| declared.hash().partition(key, count),
                );
                vec![Partition(partition)]
            }
            _ => (0..count).map(Partition).collect(),
        })
    }

    fn count(&self, lead: &TopicName) -> Result<i32, Refusal> {
        if let Some(count) = self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(lead) {
            return Ok(*count);
        }
        let unanswered = |message: String| Refusal::Unanswered(message);
        let count = self.group.partition_count(lead, ASK).map_err(|fault| unanswered(fault.to_string()))?;
        let count = count.ok_or_else(|| unanswered(format!("there is no topic {lead}")))?;
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).insert(lead.clone(), count);
        Ok(count)
    }

    fn elsewhere(&self, lead: &TopicName, partition: Partition) -> Elsewhere {
        let owner = self.group.owner_address(&TopicPartition::new(lead.clone(), partition), ASK);
        let owner = owner.unwrap_or_else(|fault| {
            tracing::debug!(error = %fault, "the owner of a partition is not known");
            None
        });
        Elsewhere { partition: partition.0, owner }
    }
}

/// A store in the topology.
struct Place<'a> {
    sub_topology: usize,
    sub: &'a SubTopology,
    /// Its place among the step's stores.
    store: usize,
}

impl Place<'_> {
    /// Whether its keys are those of the records: only an aggregate's own store, which is its first. Others are keyed as
    /// the algorithm likes, beside the record that wrote them.
    fn is_by_record_key(&self) -> bool {
        let is_aggregate = matches!(&self.sub.step, StepKind::Log(step) if step.key_type().is_some());
        is_aggregate && self.store == 0
    }

    /// How people spell its keys.
    fn key_type(&self) -> KeyType {
        if self.is_by_record_key() { self.sub.key_type() } else { KeyType::Text }
    }

    fn asked(&self, wanted: &Wanted) -> Result<Asked, Refusal> {
        Ok(match wanted {
            Wanted::Key(text) if self.key_type() == KeyType::I64BigEndian => {
                let number: i64 = text.parse().map_err(|_| Refusal::BadKey(format!("{text:?} is no whole number")))?;
                Asked::Key(number.to_be_bytes().to_vec())
            }
            Wanted::Key(text) => Asked::Key(text.clone().into_bytes()),
            Wanted::Prefix { prefix, count_max } => Asked::Prefix(prefix.clone().into_bytes(), *count_max),
            Wanted::Size => Asked::Size,
        })
    }

    fn entry(&self, (key, version, value): Found, partition: Partition) -> Entry {
        let number = <[u8; 8]>::try_from(&*key).ok().filter(|_| self.key_type() == KeyType::I64BigEndian);
        let key = match (number, String::from_utf8(key)) {
            (Some(number), _) => i64::from_be_bytes(number).to_string(),
            (None, Ok(text)) => text,
            (None, Err(error)) => error.as_bytes().iter().fold("0x".into(), |text, byte| format!("{text}{byte:02x}")),
        };
        Entry { key, version, value, partition: partition.0 }
    }
}

/// Who answers for which task: kept by the router, which gives tasks to workers.
#[derive(Clone, Default)]
pub(crate) struct Inboxes(Arc<Mutex<BTreeMap<TaskId, Sender<ToStage>>>>);

impl Inboxes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Sender<ToStage>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn place(&self, task: TaskId, inbox: Sender<ToStage>) {
        self.lock().insert(task, inbox);
    }

    pub(crate) fn remove(&self, task: TaskId) {
        self.lock().remove(&task);
    }

    fn of(&self, task: TaskId) -> Option<Sender<ToStage>> {
        self.lock().get(&task).cloned()
    }
}

/// What a worker is asked.
pub(crate) struct Question {
    task: TaskId,
    store: usize,
    asked: Asked,
    answer: Sender<Result<Told, Fault>>,
}

#[derive(Clone)]
enum Asked {
    Key(Vec<u8>),
    Prefix(Vec<u8>, usize),
    Size,
}

/// Key, version and JSON.
type Found = (Vec<u8>, u8, Box<RawValue>);

enum Told {
    Partition(Vec<Found>, Standing),
    Unready(Unready),
}

impl Stage {
    /// Answers a question between two batches.
    pub(crate) fn answer(&self, question: Question) {
        let Question { task, store, asked, answer } = question;
        let _ = answer.send(self.tell(task, store, &asked)); // who asked may have given up
    }

    fn tell(&self, id: TaskId, store: usize, asked: &Asked) -> Result<Told, Fault> {
        let partition = id.partition.0;
        let unready = |state| {
            let restore = self.status.restores().remove(&id);
            let seconds_left = restore.and_then(|restore| restore.seconds_left());
            Ok(Told::Unready(Unready { partition, state, seconds_left }))
        };
        let Some(task) = self.state.tasks.get(&id) else { return unready("moving") };
        if !matches!(task.state, State::Running | State::Leaving) {
            return unready(task.state.label());
        }
        let Some(keyed) = &task.keyed else { return unready(task.state.label()) };
        let Some(kept) = keyed.kept.get(store) else { return unready(task.state.label()) };
        let now = keyed.proved_time();
        let mut found = Vec::new();
        match asked {
            Asked::Key(key) => kept.cache.proved(key, now, &mut |value| {
                found.extend(value.map(|value| (key.clone(), value.to_vec())));
            })?,
            Asked::Prefix(prefix, count_max) => {
                kept.cache.scan_proved(prefix, after_prefix(prefix).as_deref(), now, &mut |key, value| {
                    if found.len() < *count_max {
                        found.push((key.to_vec(), value.to_vec()));
                    }
                    found.len() < *count_max
                })?;
            }
            Asked::Size => {}
        }
        let size = matches!(asked, Asked::Size).then(|| kept.cache.size()).transpose()?;
        let spec = kept.cache.spec();
        let entries: Result<Vec<Found>, Fault> = found
            .into_iter()
            .map(|(key, value)| Ok((key, version_of(spec, &value)?, json_of(spec, &value)?)))
            .collect();
        let proved_at = task.inputs.iter().map(|input| input.published_at).max().unwrap_or_default();
        let input = |input: &crate::engine::task::Input| InputPosition {
            source: input.source.to_string(),
            next_offset: input.published.0,
        };
        Ok(Told::Partition(
            entries?,
            Standing {
                partition,
                changelog_next_offset: kept.proved_end.0,
                inputs: task.inputs.iter().map(input).collect(),
                staleness_ms: millis(self.clock.elapsed().saturating_sub(proved_at)),
                is_caught_up: task.is_caught_up(),
                keys: size.map(|size| size.keys),
                unwritten_keys: size.map(|_| kept.cache.unwritten_count() as u64),
                bytes: size.map(|size| size.bytes),
            },
        ))
    }
}

fn version_of(spec: &StoreSpec, value: &[u8]) -> Result<u8, Fault> {
    value.first().copied().ok_or_else(|| Fault::corrupt(format!("store {}: a value without a version", spec.name)))
}

/// The JSON behind the version. A query knows no types, so it tells a value as it was written.
fn json_of(spec: &StoreSpec, value: &[u8]) -> Result<Box<RawValue>, Fault> {
    let json = value.get(1..).unwrap_or_default();
    serde_json::from_slice(json)
        .map_err(|error| Fault::corrupt(format!("store {}: a value is not JSON", spec.name)).because(error))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
