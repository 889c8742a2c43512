//! Reads of stores from outside the pipeline: by key, by prefix, and how much they hold. Nothing here changes anything.
//!
//! A store belongs to its worker, so a question travels to it through the worker's inbox. Between two batches a worker
//! answers at most one slice of a bounded number of keys and bytes, so that reads never keep it from committing; a long
//! answer is made of many slices, which are put together on the thread that asks, and a question that nobody waits for any
//! more is dropped. What is told is proved: committed in the changelog, and what a crash at that moment would leave. A value
//! that is still on its way is not seen, so a reader never sees one that is taken back.
//!
//! Each process answers for the partitions that it owns and names the owners of the others.

use crate::engine::mailbox::{Inboxes, ToStage};
use crate::engine::state::question::{Asked, Found, Question, Slice, Told};
pub use crate::engine::state::question::{InputPosition, Standing, Unready};
use crate::flow::join::JoinedTable;
use crate::flow::key::KeyType;
use crate::flow::partitioning::{Declared, KeyHash, OnViolation};
use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::flow::store::after_prefix;
use crate::flow::topology::{StepKind, SubTopology, Topology};
use crate::ports::source::{Group, TaskId};
use crate::ports::{Clock, Fault};
use crossbeam_channel::{Receiver, bounded};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How long all workers together may take for one answer: longer than any batch.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the log may take to say how many partitions a topic has, or who owns them.
const ASK: Duration = Duration::from_secs(2);
/// How long the owners are taken to be as the group last told; and once an answer has cast doubt on it.
const OWNERS_KEPT: Duration = Duration::from_secs(5);
const OWNERS_DOUBTED: Duration = Duration::from_secs(1);
/// The slices of one answer, shared out among the partitions; each has at least one.
const SLICES: usize = 256;
/// An answer ends with about so many bytes of keys and values.
const ANSWER_BYTES: usize = 8 << 20;

/// What is wanted of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The value of one key, spelt as people spell it: a number for keys of eight bytes, `0x` and hexadecimal digits for
    /// bytes that are no text, text for all others.
    Key(String),
    /// Keys that begin with `prefix`, ascending by their bytes over all partitions.
    Prefix {
        /// The first bytes, as text; empty for all.
        prefix: String,
        /// Where to go on: the `next` of the answer before. `None` for the first page.
        from: Option<Vec<u8>>,
        /// Bounds the answer, which may be shorter also where there are more keys.
        count_max: usize,
    },
    /// No value, only how much there is.
    Size,
}

/// What this process can say of a store.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The pipeline that the store belongs to.
    pub pipeline: String,
    /// The cluster that the pipeline runs on; empty where the log has no id.
    pub cluster_id: String,
    /// Keys and values, ascending by the keys' bytes, then by partition.
    pub entries: Vec<Entry>,
    /// Where to go on: all entries below this key have been told. `None` at the end.
    pub next: Option<Vec<u8>>,
    /// The partitions that answered.
    pub partitions: Vec<Standing>,
    /// The partitions that are not ours; see [`Queries::owners`].
    pub elsewhere: Vec<i32>,
    /// The partitions that are ours and cannot be read now.
    pub unready: Vec<Unready>,
}

/// A key with its proved value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The key as text; `0x` and hexadecimal digits where it is none.
    pub key: String,
    /// The key's bytes in hexadecimal digits, where `key` is not those bytes as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_bytes: Option<String>,
    /// The version that the value was written in.
    pub version: u8,
    /// The value, as it was written.
    pub value: Box<RawValue>,
    /// Where it lies.
    pub partition: i32,
}

impl Entry {
    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let spelt = self.key_bytes.as_deref().and_then(from_hex);
        spelt.unwrap_or_else(|| self.key.clone().into_bytes())
    }
}

/// Keeps the first `count_max` of entries that ascend, and answers the first key that was left out. The entries of one key,
/// which may lie in several partitions, are kept or left out together, and the first key is always kept.
pub fn cut(entries: &mut Vec<Entry>, count_max: usize) -> Option<Vec<u8>> {
    let first_over = entries.get(count_max)?.bytes();
    let at = entries.partition_point(|entry| entry.bytes() < first_over);
    let at = if at > 0 { at } else { entries.partition_point(|entry| entry.bytes() <= first_over) };
    let next = entries.get(at)?.bytes();
    entries.truncate(at);
    Some(next)
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.extend([byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
        text
    })
}

/// Undoes [`to_hex`]; `None` for anything but pairs of hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
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
    clock: Arc<dyn Clock>,
    inboxes: Inboxes,
    heard: Arc<Heard>,
}

/// What the log has told: asked once, or seldom.
#[derive(Default)]
struct Heard {
    /// Partition counts as first heard: where one changes, stateful tasks halt.
    counts: Mutex<HashMap<TopicName, i32>>,
    cluster_id: OnceLock<String>,
    owners: Mutex<Owners>,
}

/// Who owns what, as the group last told.
#[derive(Default)]
struct Owners {
    asked_at: Option<Duration>,
    is_doubtful: bool,
    addresses: BTreeMap<TopicPartition, String>,
}

impl fmt::Debug for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queries").field("stores", &self.stores()).finish_non_exhaustive()
    }
}

impl Queries {
    pub(crate) fn new(topology: Arc<Topology>, group: Arc<dyn Group>, clock: Arc<dyn Clock>, inboxes: Inboxes) -> Self {
        Self { topology, group, clock, inboxes, heard: Arc::default() }
    }

    /// The names of the pipeline's stores.
    #[must_use]
    pub fn stores(&self) -> Vec<String> {
        let stores = self.topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
        stores.map(|store| store.name.to_string()).collect()
    }

    /// Reads what this process owns of a store. Blocks until its workers have answered, at most a few seconds, or until
    /// `is_gone` says that nobody waits for the answer any more.
    ///
    /// # Errors
    /// [`Refusal`]: nothing is told.
    pub fn read(&self, store: &str, wanted: &Wanted, is_gone: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        let place = self.place(store).ok_or_else(|| Refusal::UnknownStore { known: self.stores() })?;
        let count = self.count(&place.sub.lead)?;
        let mut inquiry = Inquiry {
            queries: self,
            place,
            until: self.clock.elapsed() + ANSWER,
            is_gone,
            is_open: Arc::new(()),
            reading: Reading {
                pipeline: self.topology.name().into(),
                cluster_id: self.cluster_id(&place.sub.lead)?,
                ..Reading::default()
            },
        };
        match wanted {
            Wanted::Key(text) => inquiry.keys(&place.candidates(text)?, count)?,
            Wanted::Prefix { prefix, from, count_max } => {
                let (first, end) = place.range(prefix)?;
                let from = from.clone().map_or(first.clone(), |from| from.max(first));
                inquiry.page(&from, end, *count_max, count)?;
            }
            Wanted::Size => inquiry.size(count)?,
        }
        Ok(inquiry.reading)
    }

    /// Where the owners of these partitions of a store can be asked, as they told the group. A partition is left out that
    /// nobody owns, or whose owner told nothing. The group is asked every few seconds at most.
    #[must_use]
    pub fn owners(&self, store: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        let Some(place) = self.place(store) else { return BTreeMap::new() };
        let mut owners = self.heard.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = if owners.is_doubtful { OWNERS_DOUBTED } else { OWNERS_KEPT };
        let now = self.clock.elapsed();
        if owners.asked_at.is_none_or(|asked_at| now.saturating_sub(asked_at) >= kept) {
            let told = self.group.addresses(ASK);
            owners.asked_at = Some(self.clock.elapsed());
            owners.is_doubtful = told.is_err();
            match told {
                Ok(addresses) => owners.addresses = addresses,
                Err(fault) => tracing::info!(error = %fault, "the group does not say who owns which partitions"),
            }
        }
        let address = |number: &i32| {
            let source = TopicPartition::new(place.sub.lead.clone(), Partition(*number));
            Some((*number, owners.addresses.get(&source)?.clone()))
        };
        partitions.iter().filter_map(address).collect()
    }

    /// An owner was asked in vain: the group is asked anew before long.
    pub fn doubt_owners(&self) {
        self.heard.owners.lock().unwrap_or_else(PoisonError::into_inner).is_doubtful = true;
    }

    fn place(&self, name: &str) -> Option<Place<'_>> {
        self.topology.sub_topologies().iter().enumerate().find_map(|(sub_topology, sub)| {
            let store = sub.stores.iter().position(|store| *store.name == *name)?;
            Some(Place { topology: &self.topology, sub_topology, sub, store })
        })
    }

    fn count(&self, lead: &TopicName) -> Result<i32, Refusal> {
        if let Some(count) = self.heard.counts.lock().unwrap_or_else(PoisonError::into_inner).get(lead) {
            return Ok(*count);
        }
        let count = self.group.partition_count(lead, ASK).map_err(|fault| unanswered(&fault))?;
        let count = count.ok_or_else(|| Refusal::Unanswered(format!("there is no topic {lead}")))?;
        self.heard.counts.lock().unwrap_or_else(PoisonError::into_inner).insert(lead.clone(), count);
        Ok(count)
    }

    fn cluster_id(&self, lead: &TopicName) -> Result<String, Refusal> {
        if let Some(id) = self.heard.cluster_id.get() {
            return Ok(id.clone());
        }
        let id = self.group.log_ids(lead, ASK).map_err(|fault| unanswered(&fault))?.cluster_id;
        Ok(self.heard.cluster_id.get_or_init(|| id).clone())
    }
}

fn unanswered(fault: &Fault) -> Refusal {
    Refusal::Unanswered(fault.to_string())
}

/// One question on its way through the partitions.
struct Inquiry<'a> {
    queries: &'a Queries,
    place: Place<'a>,
    until: Duration,
    is_gone: &'a dyn Fn() -> bool,
    /// Workers drop what is asked for it once it has gone.
    is_open: Arc<()>,
    reading: Reading,
}

/// Where one partition's answer will come from.
type Answers = Receiver<Result<Told, Fault>>;

impl Inquiry<'_> {
    /// The partitions that may have one of `keys` are asked all at once.
    fn keys(&mut self, keys: &[Vec<u8>], count: i32) -> Result<(), Refusal> {
        let hash = self.place.hash();
        let mut by_partition: BTreeMap<i32, Vec<Vec<u8>>> = BTreeMap::new();
        for key in keys {
            // A hash of the user's own may name a partition that is none, or panic.
            let home =
                hash.as_ref().and_then(|hash| hash.place(key, count).ok()).filter(|home| (0..count).contains(home));
            let homes = home.map_or(0..count, |home| home..home + 1);
            homes.for_each(|home| by_partition.entry(home).or_default().push(key.clone()));
        }
        let asked = by_partition.into_iter().map(|(number, keys)| (Partition(number), Asked::Keys(keys)));
        self.all(asked.collect())
    }

    fn size(&mut self, count: i32) -> Result<(), Refusal> {
        self.all((0..count).map(|number| (Partition(number), Asked::Size)).collect())
    }

    /// Asks partitions that each answer in one go.
    fn all(&mut self, asked: Vec<(Partition, Asked)>) -> Result<(), Refusal> {
        let asked: Vec<(Partition, Option<Answers>)> =
            asked.into_iter().map(|(partition, asked)| (partition, self.ask(partition, asked))).collect();
        for (partition, answers) in asked {
            if let Some(answers) = answers
                && let Some((found, _)) = self.hear(partition, &answers, true)?
            {
                let entries: Result<Vec<Entry>, Refusal> =
                    found.into_iter().map(|found| self.place.entry(found, partition)).collect();
                self.reading.entries.extend(entries?);
            }
        }
        self.reading.entries.sort_by_cached_key(|entry| (entry.bytes(), entry.partition));
        Ok(())
    }

    /// Partition by partition and slice by slice; what the page cannot hold is not asked for.
    fn page(&mut self, from: &[u8], end: Option<Vec<u8>>, count_max: usize, count: i32) -> Result<(), Refusal> {
        let slices = (SLICES / usize::try_from(count).unwrap_or(1).max(1)).max(1);
        let mut page = Page { end, ..Page::default() };
        for partition in (0..count).map(Partition) {
            let mut slice_from = Some(from.to_vec());
            for slice in 0..slices {
                let Some(from) = slice_from.take().filter(|from| page.end.as_ref().is_none_or(|end| from < end)) else {
                    break;
                };
                let asked = Asked::Slice { from, to: page.end.clone(), count_max };
                let Some(answers) = self.ask(partition, asked) else { break };
                let Some((found, next)) = self.hear(partition, &answers, slice == 0)? else {
                    // Lost on the way: what was told of it is a part of something that cannot be told.
                    page.entries.retain(|(_, number), _| *number != partition.0);
                    self.reading.partitions.retain(|standing| standing.partition != partition.0);
                    break;
                };
                page.add(found, partition, count_max);
                slice_from = next;
            }
            if let Some(next) = slice_from {
                page.end_at(next);
            }
        }
        self.reading.next = page.next;
        let entries = page.entries.into_iter();
        let entries = entries.map(|((key, number), value)| self.place.entry((key, value), Partition(number)));
        self.reading.entries = entries.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Sends a question to the owner of a partition, where that is us.
    fn ask(&mut self, partition: Partition, asked: Asked) -> Option<Answers> {
        let task = TaskId { sub_topology: self.place.sub_topology, partition };
        let Some(inbox) = self.queries.inboxes.of(task) else {
            self.reading.elsewhere.push(partition.0);
            return None;
        };
        let (answer, answers) = bounded(1);
        let is_open = Arc::downgrade(&self.is_open);
        // Where the worker has ended, so have the answers.
        let _ = inbox.send(ToStage::Query(Question { task, store: self.place.store, asked, answer, is_open }));
        Some(answers)
    }

    /// Waits for an answer and notes how far the partition has come, where it is the first of it: what the later slices
    /// tell has come at least as far.
    fn hear(&mut self, partition: Partition, answers: &Answers, is_first: bool) -> Result<Option<Slice>, Refusal> {
        let left = self.until.saturating_sub(self.queries.clock.elapsed());
        let wait = if (self.is_gone)() { Duration::ZERO } else { left };
        let unready = match answers.recv_timeout(wait) {
            Ok(Ok(Told::Partition(found, next, standing))) => {
                if is_first {
                    self.reading.partitions.push(standing);
                }
                return Ok(Some((found, next)));
            }
            Ok(Ok(Told::Unready(unready))) => unready,
            Ok(Err(fault)) => return Err(unanswered(&fault)),
            Err(error) => {
                // A worker that has just lost the partition drops the question, or has ended with its channel.
                let state = if error.is_timeout() { "busy" } else { "moving" };
                Unready { partition: partition.0, state, seconds_left: None }
            }
        };
        self.reading.unready.push(unready);
        Ok(None)
    }
}

/// The first keys of what has been told so far, over all partitions.
#[derive(Default)]
struct Page {
    entries: BTreeMap<(Vec<u8>, i32), Vec<u8>>,
    bytes: usize,
    /// Keys from here on are not told.
    end: Option<Vec<u8>>,
    next: Option<Vec<u8>>,
}

impl Page {
    fn add(&mut self, found: Vec<Found>, partition: Partition, count_max: usize) {
        for (key, value) in found {
            self.bytes += key.len() + value.len();
            self.entries.insert((key, partition.0), value);
        }
        while self.entries.len() > count_max || self.bytes > ANSWER_BYTES {
            let Some(((last, _), _)) = self.entries.last_key_value() else { return };
            let is_only = self.entries.first_key_value().is_some_and(|((first, _), _)| first == last);
            if is_only {
                return; // one key is told, wherever and however large it is, or the reader would not get on
            }
            let last = last.clone();
            self.end_at(last);
        }
    }

    /// The page ends before `next`.
    fn end_at(&mut self, next: Vec<u8>) {
        if self.end.as_ref().is_some_and(|end| *end <= next) {
            return;
        }
        let cut = self.entries.split_off(&(next.clone(), i32::MIN));
        self.bytes -= cut.iter().map(|((key, _), value)| key.len() + value.len()).sum::<usize>();
        (self.end, self.next) = (Some(next.clone()), Some(next));
    }
}

/// The first key, and the one that follows the last; `None` where the range ends with the store.
type Range = (Vec<u8>, Option<Vec<u8>>);

/// A store in the topology.
#[derive(Clone, Copy)]
struct Place<'a> {
    topology: &'a Topology,
    sub_topology: usize,
    sub: &'a SubTopology,
    /// Its place among the step's stores.
    store: usize,
}

impl Place<'_> {
    /// Whether it is an aggregate's own store, which is the first of the step's. Others, but for those of tables, are keyed
    /// as the algorithm likes, beside the record that wrote them.
    fn is_aggregate(&self) -> bool {
        self.store == 0 && matches!(&self.sub.step, StepKind::Log(step) if step.keeps_by_key())
    }

    /// The table that it keeps, where it is one's: the tables' stores come last.
    fn table(&self) -> Option<&JoinedTable> {
        let others = self.sub.stores.len().checked_sub(self.sub.tables.len())?;
        self.sub.tables.get(self.store.checked_sub(others)?)
    }

    /// How people spell its keys.
    fn key_type(&self) -> KeyType {
        if self.is_aggregate() || self.table().is_some() { self.sub.key_type() } else { KeyType::Text }
    }

    /// By which a key finds its partition; `None` where it may lie in any: its keys are not those of records, or nobody
    /// has said how the records were partitioned, or records that lie elsewhere are handled all the same.
    fn hash(&self) -> Option<KeyHash> {
        let declared = |declared: &Option<Declared>| {
            let declared = declared.as_ref().filter(|declared| declared.policy() != OnViolation::Warn);
            declared.map(|declared| declared.hash().clone())
        };
        let internal = self.topology.internal_topics();
        let ours = |topic| internal.contains(topic).then_some(KeyHash::Murmur2);
        if let Some(table) = self.table() {
            return declared(&table.declared).or_else(|| ours(&table.topic));
        }
        // Of its companions nobody can declare anything.
        let mut companions = self.sub.companions.iter().filter(|topic| !self.sub.is_table(topic));
        if self.is_aggregate() && companions.all(|topic| internal.contains(topic)) {
            return declared(&self.sub.declared).or_else(|| ours(&self.sub.lead));
        }
        None
    }

    /// The keys that `text` may mean.
    fn candidates(&self, text: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let bytes = text.strip_prefix("0x").and_then(from_hex);
        if self.key_type() == KeyType::I64BigEndian {
            let number: Option<i64> = text.parse().ok();
            let key = number.map(|number| number.to_be_bytes().to_vec()).or(bytes);
            return Ok(vec![key.ok_or_else(|| Refusal::BadKey(format!("{text:?} is no whole number")))?]);
        }
        // Keys that are text are never spelt in digits, so that a text which looks like it means itself.
        let bytes = bytes.filter(|bytes| std::str::from_utf8(bytes).is_err());
        Ok(std::iter::once(text.to_owned().into_bytes()).chain(bytes).collect())
    }

    /// The keys that begin with `prefix`.
    fn range(&self, prefix: &str) -> Result<Range, Refusal> {
        if self.key_type() == KeyType::I64BigEndian && !prefix.is_empty() {
            let message = "the keys of this store are numbers of eight bytes, which have no prefix as text";
            return Err(Refusal::BadKey(message.into()));
        }
        Ok((prefix.as_bytes().to_vec(), after_prefix(prefix.as_bytes())))
    }

    fn entry(&self, (key, value): Found, partition: Partition) -> Result<Entry, Refusal> {
        let number = <[u8; 8]>::try_from(&*key).ok().filter(|_| self.key_type() == KeyType::I64BigEndian);
        let (key, key_bytes) = match (number, String::from_utf8(key)) {
            (Some(number), _) => (i64::from_be_bytes(number).to_string(), Some(to_hex(&number))),
            (None, Ok(text)) => (text, None),
            (None, Err(error)) => {
                let hex = to_hex(error.as_bytes());
                (format!("0x{hex}"), Some(hex))
            }
        };
        let name = self.sub.stores.get(self.store).map(|spec| &*spec.name).unwrap_or_default();
        let (version, value) = json_of(name, &value).map_err(|fault| unanswered(&fault))?;
        Ok(Entry { key, key_bytes, version, value, partition: partition.0 })
    }
}

/// Version and JSON. A query knows no types, so it tells a value as it was written.
fn json_of(store: &str, value: &[u8]) -> Result<(u8, Box<RawValue>), Fault> {
    let parts = value.split_first();
    let (version, json) = parts.ok_or_else(|| Fault::corrupt(format!("store {store}: a value without a version")))?;
    let json = serde_json::from_slice(json)
        .map_err(|error| Fault::corrupt(format!("store {store}: a value is not JSON")).because(error))?;
    Ok((*version, json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{NextOffset, Timestamp};
    use crate::ports::source::{Bounds, Committed, LogIds};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A group that counts how often it is asked, and at last does not answer.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Group for Counting {
        fn committed(&self, _: &[TopicPartition], _: Duration) -> Result<Vec<Option<Committed>>, Fault> {
            Ok(Vec::new())
        }

        fn bounds(&self, _: &TopicPartition, _: Duration) -> Result<Bounds, Fault> {
            Ok(Bounds { start: NextOffset(0), end: NextOffset(0) })
        }

        fn log_ids(&self, _: &TopicName, _: Duration) -> Result<LogIds, Fault> {
            Ok(LogIds::default())
        }

        fn partition_count(&self, _: &TopicName, _: Duration) -> Result<Option<i32>, Fault> {
            Ok(Some(2))
        }

        fn addresses(&self, _: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            if number == 2 {
                return Err(Fault::retry("no answer"));
            }
            let lead = TopicName::parse("usage-by-user-repartition").map_err(Fault::fatal)?;
            Ok(BTreeMap::from([(TopicPartition::new(lead, Partition(1)), format!("host:{number}"))]))
        }

        fn commit(&self, _: &[(TopicPartition, Committed)], _: Duration) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[derive(Default)]
    struct Hand(Mutex<Duration>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    #[test]
    fn the_group_is_asked_for_owners_every_few_seconds_however_many_questions_there_are() {
        let (group, hand) = (Arc::new(Counting::default()), Arc::new(Hand::default()));
        let topology = Arc::new(crate::pipelines::usage::topology());
        let queries = Queries::new(
            topology,
            Arc::clone(&group) as Arc<dyn Group>,
            Arc::clone(&hand) as Arc<dyn Clock>,
            Inboxes::default(),
        );
        let owners = |seconds| {
            *hand.0.lock().unwrap() = Duration::from_secs(seconds);
            queries.owners("usage", &[0, 1])
        };
        let told = |number: usize| BTreeMap::from([(1, format!("host:{number}"))]);
        for seconds in 0..5 {
            assert_eq!(owners(seconds), told(0), "{seconds} s");
        }
        queries.doubt_owners();
        assert_eq!((owners(5), owners(5)), (told(1), told(1)));
        assert_eq!(owners(10), told(1), "what was told holds while the group does not answer");
        assert_eq!((owners(10), owners(11)), (told(1), told(3)), "which is asked again soon");
        let reading = queries.read("usage", &Wanted::Size, &|| false).unwrap();
        assert_eq!(reading.elsewhere, [0, 1]);
        assert_eq!(group.0.load(Ordering::Relaxed), 4, "a read asks for no owners");
    }

    #[test]
    fn entries_of_one_key_are_cut_off_together() {
        let entry = |key: &str, partition| {
            let value = RawValue::from_string("1".into()).unwrap();
            Entry { key: key.into(), key_bytes: None, version: 1, value, partition }
        };
        let left = |count_max| {
            let mut entries = vec![entry("a", 0), entry("a", 1), entry("b", 0), entry("c", 0), entry("c", 1)];
            let next = cut(&mut entries, count_max).map(|next| String::from_utf8(next).unwrap());
            (entries.len(), next)
        };
        assert_eq!(left(1), (2, Some("b".into())), "one key is always told");
        assert_eq!(left(2), (2, Some("b".into())));
        assert_eq!(left(3), (3, Some("c".into())));
        assert_eq!(left(4), (3, Some("c".into())));
        assert_eq!(left(5), (5, None));
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(to_hex(&[0, 0x7f, 0xff]), "007fff");
        assert_eq!(from_hex("007fFF"), Some(vec![0, 0x7f, 0xff]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        assert_eq!((from_hex("7"), from_hex("0x"), from_hex("ü0")), (None, None, None));
    }
}
