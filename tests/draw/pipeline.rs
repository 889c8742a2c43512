//! Pipelines that can be drawn, and the algorithm behind all of their steps: it does what each record says.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate::flow::{
    Algorithm, Context, Declared, Key, KeyHash, KeyType, OnViolation, Reject, Store, Table, TableTopic, Topology,
};

/// The place where a record makes the user's code panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Place {
    Decode,
    Apply,
    Notices,
    Filter,
    Magnitude,
    EncodeNotice,
    EncodeRow,
    Key,
}

/// What the algorithm does with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Does {
    #[default]
    Change,
    Nothing,
    Skip,
    Reject,
    /// Asks to be offered again so many times, then changes.
    Retry(u32),
    /// Asks to be offered again for ever.
    RetryForEver,
    /// Does so unless its row has what the constraint refuses, so first once the record before it was refused.
    RetryUnlessRefused,
    Panic(Place),
    /// Kills the process.
    Die,
    /// Announces a number that JSON cannot say.
    NotFinite,
    /// Writes what the table's constraint refuses.
    Refused,
    /// Changes nothing, and deletes its value where it has one of its own.
    Delete,
    /// A notice of so many kilobytes.
    Large(u16),
}

/// A record's value.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Event {
    /// Unique among the records of a schedule.
    pub n: u64,
    #[serde(default)]
    pub does: Does,
    #[serde(default)]
    pub amount: f64,
    /// How many notices it leads to.
    #[serde(default)]
    pub notices: u8,
    /// The keys under which it goes on, where the step changes keys.
    #[serde(default)]
    pub keys: Vec<String>,
    #[serde(default)]
    pub trap: DecodeTrap,
    /// Makes it large.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pad: String,
}

impl Event {
    pub fn new(n: u64, does: Does) -> Self {
        Self { n, does, trap: DecodeTrap(does == Does::Panic(Place::Decode)), ..Self::default() }
    }
}

/// Panics while it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DecodeTrap(bool);

impl Serialize for DecodeTrap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(self.0)
    }
}

impl<'de> Deserialize<'de> for DecodeTrap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_set = bool::deserialize(deserializer)?;
        assert!(!is_set, "decoding was told to panic");
        Ok(Self(is_set))
    }
}

/// Text that panics while it is written, where it says so.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct WriteTrap(String);

impl Serialize for WriteTrap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != "panic", "encoding was told to panic");
        serializer.serialize_str(&self.0)
    }
}

/// A row of a drawn table, and the value of a drawn aggregate. `sum` is said twice, so that a number that is read one
/// unit off shows; `doc` and `note` are never touched by the algorithm.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    pub count: i64,
    pub sum: f64,
    pub mirror: String,
    pub hash: i64,
    pub small: i16,
    /// Left out where it is absent, so that what stands behind it must find its column by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<i64>,
    pub note: String,
    pub doc: Option<serde_json::Value>,
    pub trap: WriteTrap,
}

impl Account {
    pub fn new(sum: f64) -> Self {
        Self { sum, mirror: format!("{sum:?}"), last: Some(0), ..Self::default() }
    }

    /// Whether the sum is the one that was written.
    pub fn is_intact(&self) -> bool {
        format!("{:?}", self.sum) == self.mirror || self.mirror.is_empty()
    }
}

/// The sum above which the tables' constraint refuses a row.
pub const REFUSED: f64 = 1e12;

/// What is announced. It can be read as an [`Event`], so that a further step may read its topic.
#[derive(Debug, Serialize)]
pub struct Notice {
    n: u64,
    amount: f64,
    count: i64,
    hash: i64,
    /// Read by a further step as the number of its own notices.
    notices: u8,
    keys: Vec<String>,
    seen: i64,
    is_intact: bool,
    pad: String,
    #[serde(skip)]
    place: Option<Place>,
    trap_notice: WriteTrap,
}

/// Notices that panic while they are counted out, where they are told to.
pub struct Notices {
    left: std::vec::IntoIter<Notice>,
    panics: bool,
}

impl Iterator for Notices {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        assert!(!self.panics, "the notices were told to panic");
        self.left.next()
    }
}

/// How often each record has asked to be offered again, and whether a number was ever read otherwise than it was written:
/// shared by all instances of a run.
#[derive(Clone, Default)]
pub struct Asked {
    times: Arc<Mutex<HashMap<u64, u32>>>,
    is_spent: bool,
    is_damaged: Arc<AtomicBool>,
}

impl Asked {
    /// Nobody asks any more.
    pub fn spent() -> Self {
        Self { is_spent: true, ..Self::default() }
    }

    fn once_more(&self, n: u64, times: u32) -> bool {
        let mut asked = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(n).or_insert(0);
        let asks = *count < times && !self.is_spent;
        *count += u32::from(asks);
        asks
    }

    /// Whether a number was read otherwise than it was written.
    pub fn has_seen_damage(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }
}

/// What every drawn step does.
struct Steps {
    asked: Asked,
    seen: Option<Store<i64>>,
}

impl Steps {
    fn apply(
        &self,
        event: &Event,
        row: &mut Account,
        joined: i64,
        context: &mut Context<'_>,
    ) -> Result<Notices, Reject> {
        let is_intact = row.is_intact();
        self.asked.is_damaged.fetch_or(!is_intact, Ordering::Relaxed);
        match event.does {
            Does::Skip => return Err(Reject::skip("told-to-skip")),
            Does::Reject => return Err(Reject::dead_letter("told-to-reject", "as the record says")),
            Does::Retry(times) if self.asked.once_more(event.n, times) => {
                return Err(Reject::retry("told-to-retry", "as the record says"));
            }
            Does::RetryUnlessRefused if row.sum <= REFUSED => {
                return Err(Reject::retry("told-to-retry", "as the record says"));
            }
            Does::RetryForEver => return Err(Reject::retry("told-to-retry", "as the record says")),
            Does::Panic(Place::Apply) => panic!("apply was told to panic"),
            // The example `drawn` is a process.
            Does::Die if std::env::var_os("DRAWN").is_some() => std::process::abort(),
            Does::Die => tidegate::testing::die(),
            _ => {}
        }
        let mut seen = 0;
        if let Some(store) = &self.seen {
            let key = context.key().to_string();
            let mut store = context.store(store)?;
            seen = store.add(&key, 1)?;
            seen += 1_000 * i64::try_from(store.prefix("", 100)?.len()).unwrap_or(0);
        }
        if event.does != Does::Nothing && event.does != Does::Delete {
            row.count += 1;
            row.sum += event.amount;
            row.mirror = format!("{:?}", row.sum);
            row.hash = row.hash.wrapping_mul(31).wrapping_add(i64::try_from(event.n).unwrap_or(0)).wrapping_add(joined);
            row.small = row.small.wrapping_add(1);
            row.last = (!event.n.is_multiple_of(4)).then(|| context.event_time_ms() - 1_767_225_600_000);
        }
        match event.does {
            Does::Refused => {
                row.sum = 2.0 * REFUSED;
                row.mirror = format!("{:?}", row.sum);
            }
            Does::Panic(Place::EncodeRow) => row.trap = WriteTrap("panic".into()),
            _ => {}
        }
        let notice = |number: u8| Notice {
            n: event.n * 10 + u64::from(number),
            amount: if event.does == Does::NotFinite { f64::NAN } else { row.sum },
            count: row.count,
            hash: row.hash,
            notices: 1,
            keys: event.keys.clone(),
            seen,
            is_intact,
            pad: match event.does {
                Does::Large(kilobytes) => "x".repeat(1024 * usize::from(kilobytes)),
                _ => String::new(),
            },
            place: match event.does {
                Does::Panic(place) => Some(place),
                _ => None,
            },
            trap_notice: WriteTrap(if event.does == Does::Panic(Place::EncodeNotice) { "panic" } else { "" }.into()),
        };
        let notices: Vec<Notice> = (0..event.notices).map(notice).collect();
        Ok(Notices { left: notices.into_iter(), panics: event.does == Does::Panic(Place::Notices) })
    }
}

/// A value of a drawn table topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    pub n: i64,
}

struct Update(Steps);

impl Algorithm for Update {
    type Event = Event;
    type Row = Account;
    type Notices = Notices;

    fn apply(&self, event: Event, row: &mut Account, context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.apply(&event, row, 0, context)
    }
}

struct Sums(Steps);

impl Algorithm for Sums {
    type Event = Event;
    type Row = Option<Account>;
    type Notices = Notices;

    fn apply(&self, event: Event, row: &mut Option<Account>, context: &mut Context<'_>) -> Result<Notices, Reject> {
        let notices = self.0.apply(&event, row.get_or_insert_default(), 0, context);
        if event.does == Does::Delete {
            *row = None;
        }
        notices
    }
}

struct Pass(Steps);

impl Algorithm for Pass {
    type Event = Event;
    type Row = ();
    type Notices = Notices;

    fn apply(&self, event: Event, (): &mut (), context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.apply(&event, &mut Account::new(0.0), 0, context)
    }
}

struct JoinedSums<T>(Steps, std::marker::PhantomData<fn() -> T>);

/// A joined value, if there is one.
pub trait Partner: Send + Sync + 'static {
    fn n(&self) -> i64;
}

impl Partner for User {
    fn n(&self) -> i64 {
        self.n
    }
}

impl Partner for Option<User> {
    fn n(&self) -> i64 {
        self.as_ref().map_or(-1, |user| user.n)
    }
}

impl<T: Partner> Algorithm for JoinedSums<T> {
    type Event = (Event, T);
    type Row = Option<Account>;
    type Notices = Notices;

    fn apply(
        &self,
        (event, user): (Event, T),
        row: &mut Option<Account>,
        context: &mut Context<'_>,
    ) -> Result<Notices, Reject> {
        self.0.apply(&event, row.get_or_insert_default(), user.n(), context)
    }
}

struct JoinedPass<T>(Steps, std::marker::PhantomData<fn() -> T>);

impl<T: Partner> Algorithm for JoinedPass<T> {
    type Event = (Event, T);
    type Row = ();
    type Notices = Notices;

    fn apply(&self, (event, user): (Event, T), (): &mut (), context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.apply(&event, &mut Account::new(0.0), user.n(), context)
    }
}

// === What is drawn ===

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum StepDraw {
    /// Updates the rows of table 0 or 1.
    Update(u8),
    Aggregate,
    Process,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Join {
    No,
    Inner,
    Left,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Policy {
    Warn,
    Stop,
    Repartition,
}

/// One sub-topology, with the change of key in front of it where there is one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SubDraw {
    pub lead: String,
    pub step: StepDraw,
    pub join: Join,
    /// A second stream under the same key; read by `and` where the flag is set, else by `with`.
    pub companion: Option<bool>,
    pub declared: Option<Policy>,
    pub rekeys: bool,
    pub has_store: bool,
    pub ttl_ms: Option<u64>,
    pub has_filter: bool,
    pub threshold: Option<i64>,
    pub destination: Option<String>,
}

/// A pipeline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PipelineDraw {
    pub partitions: i32,
    pub is_versioned: bool,
    /// The tables' keys are text, not numbers.
    pub has_text_keys: bool,
    pub subs: Vec<SubDraw>,
}

pub const TABLES: [&str; 2] = ["alpha", "beta"];

impl SubDraw {
    pub fn companion_topic(&self) -> String {
        format!("{}-more", self.lead)
    }

    pub fn table_topic(&self) -> String {
        format!("{}-users", self.lead)
    }

    pub const fn has_rows(&self) -> bool {
        matches!(self.step, StepDraw::Update(_))
    }

    /// What is done about records of the lead topic in wrong partitions. In front of a change of keys nothing is declared.
    pub fn declared_as(&self) -> Option<Policy> {
        self.declared.filter(|_| !self.rekeys)
    }

    /// How many stores its step has.
    pub fn store_count(&self) -> usize {
        let kept = usize::from(self.step == StepDraw::Aggregate) + usize::from(self.join != Join::No);
        usize::from(self.has_store) + kept
    }
}

impl PipelineDraw {
    pub fn key_type(&self) -> KeyType {
        if self.has_text_keys { KeyType::Text } else { KeyType::I64 }
    }

    pub fn table(&self, number: u8) -> Table {
        let table = Table::new(TABLES[usize::from(number)]).key("id", self.key_type());
        if self.is_versioned { table } else { table.unversioned() }
    }

    /// The key of a row.
    pub fn key(&self, id: i64) -> Key {
        if self.has_text_keys { Key::from(id.to_string().as_str()) } else { Key::from(id) }
    }

    /// The partition where a record of a step's lead topic belongs.
    pub fn home(&self, _: &SubDraw, key: &str) -> i32 {
        KeyHash::Murmur2.partition(key.as_bytes(), self.partitions)
    }

    pub fn store_count(&self) -> usize {
        self.subs.iter().map(SubDraw::store_count).sum()
    }

    /// The tables that are updated.
    pub fn tables(&self) -> Vec<u8> {
        let tables = self.subs.iter().filter_map(|sub| match sub.step {
            StepDraw::Update(table) => Some(table),
            _ => None,
        });
        tables.collect::<BTreeSet<u8>>().into_iter().collect()
    }

    pub fn topology(&self, asked: &Asked) -> Topology {
        let mut topology = Topology::new("drawn");
        for (number, sub) in self.subs.iter().enumerate() {
            self.add(&mut topology, number, sub, asked);
        }
        topology
    }

    fn add(&self, topology: &mut Topology, number: usize, sub: &SubDraw, asked: &Asked) {
        let ttl = sub.ttl_ms.map(Duration::from_millis);
        let own = Store::new(&format!("seen-{number}"));
        let own = match ttl {
            Some(ttl) => own.time_to_live(ttl),
            None => own,
        };
        let seen = sub.has_store.then_some(own);
        let steps = || Steps { asked: asked.clone(), seen: seen.clone() };
        let mut source = topology.source(&sub.lead);
        if sub.rekeys {
            source = source.keys_by(&format!("by-{number}"), |event: &Event| {
                assert!(event.does != Does::Panic(Place::Key), "the keys were told to panic");
                event.keys.clone()
            });
        }
        let companion = sub.companion_topic();
        if sub.companion == Some(false) {
            source = source.with(&companion);
        }
        if let (Some(policy), false) = (sub.declared, sub.rekeys) {
            source = source.declared(Declared::murmur2(self.partitions).on_violation(match policy {
                Policy::Warn => OnViolation::Warn,
                Policy::Stop => OnViolation::Stop,
                Policy::Repartition => OnViolation::Repartition,
            }));
        }
        let users = || TableTopic::<User>::new(&sub.table_topic());
        let store = || {
            let store = Store::new(&format!("sums-{number}"));
            match ttl {
                Some(ttl) => store.time_to_live(ttl),
                None => store,
            }
        };
        let reads_and = sub.companion == Some(true);
        macro_rules! end {
            ($builder:expr) => {{
                let mut builder = $builder;
                if let Some(store) = &seen {
                    builder = builder.with_store(store);
                }
                if sub.has_filter {
                    builder = builder.filter(|notice| {
                        assert!(notice.place != Some(Place::Filter), "the filter was told to panic");
                        notice.n % 3 != 0
                    });
                }
                if let Some(threshold) = sub.threshold {
                    builder = builder.at_least(&format!("limit-{number}"), threshold as f64, |notice| {
                        assert!(notice.place != Some(Place::Magnitude), "the magnitude was told to panic");
                        notice.amount
                    });
                }
                match &sub.destination {
                    Some(destination) => builder.to(destination),
                    None => builder.done(),
                }
            }};
        }
        macro_rules! joined {
            ($source:expr) => {
                match (sub.join, sub.step) {
                    (Join::No, StepDraw::Process) => end!($source.process(Pass(steps()))),
                    (Join::No, _) => end!($source.aggregate(store(), Sums(steps()))),
                    (Join::Inner, StepDraw::Process) => {
                        end!($source.join(users()).process(JoinedPass::<User>(steps(), std::marker::PhantomData)))
                    }
                    (Join::Inner, _) => {
                        end!(
                            $source
                                .join(users())
                                .aggregate(store(), JoinedSums::<User>(steps(), std::marker::PhantomData))
                        )
                    }
                    (Join::Left, StepDraw::Process) => {
                        end!(
                            $source
                                .left_join(users())
                                .process(JoinedPass::<Option<User>>(steps(), std::marker::PhantomData))
                        )
                    }
                    (Join::Left, _) => end!(
                        $source
                            .left_join(users())
                            .aggregate(store(), JoinedSums::<Option<User>>(steps(), std::marker::PhantomData))
                    ),
                }
            };
        }
        match sub.step {
            StepDraw::Update(table) => end!(source.update(self.table(table), Update(steps()))),
            _ if reads_and => joined!(source.events(|event: Event| event).and(&companion, |event: Event| event)),
            _ => joined!(source),
        }
    }
}
