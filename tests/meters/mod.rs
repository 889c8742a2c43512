//! What the pipeline of `examples/meters.rs` is sent, drawn from a seed, and what must come of it, computed beside it
//! one record after the other. `tests/engine` holds the engine on its models against it, `tests/system` the service on
//! real servers.

mod orders;
mod payments;
#[path = "../../examples/meters.rs"]
pub mod service;
mod silence;
mod tables;
mod windows;

use orders::Orders;
use payments::Payments;
use silence::Silence;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use tables::Tables;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::TopicName;
use tidegate::ports::history::Found;
use tidegate::testing::Random;
use windows::{Clocked, Readings, Usage};

/// Of every topic.
pub const PARTITIONS: i32 = 3;
/// The event time of a portion.
pub const PORTION_MS: i64 = 15_000;
/// Behind every record: what is due by event time is due then.
const LATER_MS: i64 = 3_600_000;
/// The event time that a whole load takes, with what comes at its end, for so many portions.
pub const fn whole_ms(portions: i64) -> i64 {
    portions * PORTION_MS + 2 * LATER_MS
}

/// One record to be sent; its key decides its partition, by murmur2.
pub struct Record {
    pub topic: &'static str,
    pub key: String,
    pub value: Option<String>,
    pub at: i64,
}

impl Record {
    fn new(topic: &'static str, key: impl ToString, value: String, at: i64) -> Self {
        Self { topic, key: key.to_string(), value: Some(value), at }
    }
}

/// What the pipeline has left behind.
pub trait Outcome {
    /// A whole topic, partition by partition, as a committed reader sees it.
    fn read(&mut self, topic: &str) -> Vec<Found>;

    /// The rows of a table by their ids: the version, then these columns.
    fn rows(&mut self, table: &str, columns: &[&str]) -> BTreeMap<i64, Vec<i64>>;
}

/// The ids of the rows of both tables, 0 to one less.
pub const IDS: i64 = 30;
/// The tables with their columns beside `id` and `version`.
pub const TABLES: [(&str, &[&str]); 2] =
    [("accounts", &["open", "confirmed", "lapsed"]), ("meters", &["units", "windows"])];

/// The records of all sources, portion by portion, and what must come of them.
pub struct Load {
    random: Random,
    /// The event time of the next portion.
    from: i64,
    portion: u64,
    readings: Readings,
    clocked: Clocked,
    silence: Silence,
    orders: Orders,
    usage: Usage,
    payments: Payments,
    tables: Tables,
}

impl Load {
    /// The first records are of that time.
    pub fn new(seed: u64, began_ms: i64) -> Self {
        Self {
            random: Random::new(seed),
            from: began_ms - began_ms % PORTION_MS,
            portion: 0,
            readings: Readings::default(),
            clocked: Clocked::default(),
            silence: Silence::default(),
            orders: Orders::default(),
            usage: Usage::default(),
            payments: Payments::default(),
            tables: Tables::default(),
        }
    }

    /// The next portion, some 400 records. Those of a key of `readings` or `heartbeats` are all in one.
    pub fn next(&mut self) -> Vec<Record> {
        let Self { random, from, portion, .. } = self;
        let mut records = self.readings.next(random, *portion, *from);
        records.extend(self.clocked.next(random, *from));
        records.extend(self.silence.next(random, *portion, *from));
        records.extend(self.orders.next(random, *from));
        records.extend(self.usage.next(random, *from));
        records.extend(self.payments.next(random, *portion, *from));
        records.extend(self.tables.next(random, *from));
        self.from += PORTION_MS;
        self.portion += 1;
        records
    }

    /// The last portion, so slowly that some of its keys may have been idle in between.
    pub fn was_slow(&mut self) {
        self.readings.were_slow();
    }

    /// What moves every clock behind all that is due by event time. Records are sent before it, as many as there are.
    pub fn end(&mut self) -> Vec<Record> {
        let at = self.from + LATER_MS;
        let mut records = self.orders.end(at);
        records.extend(self.clocked.end(at));
        records.extend(self.usage.end(at));
        records.extend(self.payments.end(at));
        records
    }

    /// Holds what is there against what must be; an error names the first difference.
    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        self.readings.judge(outcome)?;
        self.clocked.judge(outcome)?;
        self.silence.judge(outcome)?;
        self.orders.judge(outcome)?;
        self.usage.judge(outcome)?;
        self.payments.judge(outcome)?;
        self.tables.judge(outcome)?;
        let topology = service::topology();
        let dead_letters: BTreeSet<TopicName> = topology.dead_letter_topics().collect();
        for topic in dead_letters.iter().filter(|topic| topic.as_str() != windows::USAGE_DLT) {
            if let Some(found) = outcome.read(topic.as_str()).first() {
                return Err(format!("{topic}: {found:?}"));
            }
        }
        Ok(())
    }

    /// How much must have been told, in words.
    pub fn sums(&self) -> String {
        let Self { readings, clocked, silence, orders, usage, payments, tables, .. } = self;
        format!(
            "{} windows of idle keys, {}, {} silent devices, {}, {}, {}, {} changes of tables",
            readings.windows(),
            clocked.sums(),
            silence.devices(),
            orders.sums(),
            usage.sums(),
            payments.sums(),
            tables.changes()
        )
    }
}

fn partition_of(key: &str) -> i32 {
    partition_for(key.as_bytes(), PARTITIONS)
}

/// For each partition a key that lies in it.
fn one_of_each() -> Vec<String> {
    let key_in = |partition| (0..).map(|n| format!("end-{n}")).find(|key| partition_of(key) == partition).unwrap();
    (0..PARTITIONS).map(key_in).collect()
}

fn key_of(found: &Found) -> String {
    String::from_utf8(found.key.clone().unwrap_or_default()).unwrap()
}

/// A field of the value, which is an object of numbers.
fn number(found: &Found, field: &str) -> i64 {
    let value: serde_json::Value = serde_json::from_slice(found.value.as_deref().unwrap()).unwrap();
    value[field].as_i64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

fn text(found: &Found) -> String {
    String::from_utf8(found.value.clone().unwrap_or_default()).unwrap()
}

/// Equality of lists that names the first difference.
fn same<T: PartialEq + Debug>(what: &str, expected: &[T], found: &[T]) -> Result<(), String> {
    let at = (0..expected.len().max(found.len())).find(|at| expected.get(*at) != found.get(*at));
    at.map_or(Ok(()), |at| {
        let (must, is) = (expected.get(at), found.get(at));
        Err(format!("{what}: number {at} of {} must be {must:?}, and of {} it is {is:?}", expected.len(), found.len()))
    })
}
