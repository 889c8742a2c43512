//! Pipelines that can be drawn, and the algorithm behind all of their steps: it does what each record says.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate::flow::pairing::{Pair, Paired, Within};
use tidegate::flow::row::Value;
use tidegate::flow::topology::{Source, StepBuilder};
use tidegate::flow::window::{Clock, Emit, Hopping, Late, Merge, Pane, Session, Tumbling, Window, Windowed};
use tidegate::flow::{
    self, Algorithm, At, Context, Declared, Format, Key, KeyHash, KeyType, OnUnreadable, OnViolation, Reject, Store,
    Table, TableJoin, TableTopic, Tombstones, Topology,
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
    Route,
}

/// The action of the algorithm on a record.
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
    /// Does so unless its row has a value that the constraint refuses, so first once the record before it was refused.
    RetryUnlessRefused,
    Panic(Place),
    /// Kills the process.
    Die,
    /// Takes longer than the database lets a transaction idle, then changes.
    Stall,
    /// Publishes a number that JSON cannot say.
    NotFinite,
    /// Writes a value that the table's constraint refuses.
    Refused,
    /// Sets the sum to nothing, which the constraint takes again, whatever stood there.
    Cure,
    /// Changes nothing, and deletes its value where it has one of its own.
    Delete,
    /// Changes, also the column that the table may make itself.
    Touch,
    /// A notice of so many kilobytes.
    Large(u16),
}

/// A record's value: JSON, which a source may also have as a text or as bytes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Event {
    /// Unique among the records of a schedule.
    pub n: u64,
    #[serde(default)]
    pub does: Does,
    #[serde(default)]
    pub amount: f64,
    /// Number of notices that it leads to.
    #[serde(default)]
    pub notices: u8,
    /// The keys under which it goes on, where the step changes keys.
    #[serde(default)]
    pub keys: Vec<String>,
    #[serde(default)]
    pub trap: DecodeTrap,
    /// What its notices have of their own, where the step has no windows.
    #[serde(default, skip_serializing_if = "Own::is_nothing")]
    pub own: Own,
    /// Makes it large.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pad: String,
    /// What it does to the timers of a step that has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<TimerDraw>,
}

/// What notices have of their own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Own {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Their time, so many milliseconds after the record's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<i64>,
    /// The name of a header behind those of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    #[serde(default)]
    pub is_tombstone: bool,
    /// The text by which they are partitioned in place of their key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<String>,
}

impl Own {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether no message can be so.
    pub fn is_refused(&self, record_at: i64) -> bool {
        let is_ours = self.header.as_ref().is_some_and(|name| name != OWN_HEADER);
        is_ours || self.after_ms.is_some_and(|after| record_at + after < 0)
    }

    fn dress(&self, notice: Notice, context: &Context<'_>) -> flow::Notice<Notice> {
        if self.is_nothing() {
            return notice.into();
        }
        let dressed = if self.is_tombstone { flow::Notice::tombstone() } else { flow::Notice::new(notice) };
        let mut dressed = dressed.headers(context.headers());
        if let Some(key) = &self.key {
            dressed = dressed.key(key);
        }
        if let Some(text) = &self.partition_by {
            dressed = dressed.partition_by(text);
        }
        if let Some(after) = self.after_ms {
            dressed = dressed.at(context.event_time_ms() + after);
        }
        match &self.header {
            Some(name) => dressed.header(name, "own"),
            None => dressed,
        }
    }
}

/// The header that a notice may have of its own.
pub const OWN_HEADER: &str = "unit";

/// A timer that a record sets or takes back. Its name says what it does; see [`Steps::timer`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimerDraw {
    pub name: String,
    /// So long behind the record's time; none takes it back.
    pub after_ms: Option<i64>,
    /// By the wall clock.
    #[serde(default)]
    pub is_by_wall: bool,
}

/// The names of drawn timers.
pub const TIMERS: [&str; 11] =
    ["plain", "plain", "plain", "other", "again", "skip", "refuse", "panic", "die", "stall", "exceed"];
/// The time from which a timer sets another one.
pub const AGAIN_MS: i64 = 100;

impl Event {
    pub fn new(n: u64, does: Does) -> Self {
        Self { n, does, trap: DecodeTrap(does == Does::Panic(Place::Decode)), ..Self::default() }
    }

    /// The event that a tombstone is, where it is one.
    pub fn of_tombstone() -> Self {
        Self { amount: 0.5, notices: 1, ..Self::new(999_983, Does::Change) }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadEvent)
    }
}

/// Reads an event in each of the formats.
struct ReadEvent;

impl<'de> Visitor<'de> for ReadEvent {
    type Value = Event;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Event, A::Error> {
        Event::deserialize(MapAccessDeserializer::new(map))
    }

    /// A tombstone, where it is an event.
    fn visit_unit<E: Error>(self) -> Result<Event, E> {
        Ok(Event::of_tombstone())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Event, E> {
        serde_json::from_str(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Event, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        serde_json::from_slice(&bytes).map_err(A::Error::custom)
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
    /// Left out where it is absent, so that the fields behind it must find their columns by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<i64>,
    pub note: String,
    pub doc: Option<serde_json::Value>,
    /// Twice the count, where the table makes it.
    #[serde(default)]
    pub twice: i64,
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

/// The value of a notice. It can be read as an [`Event`], so that a further step may read its topic.
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
    /// Bytes of the record's last header of this name.
    trace: usize,
    is_intact: bool,
    pad: String,
    /// The timer that leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rings: Option<String>,
    #[serde(skip)]
    place: Option<Place>,
    trap_notice: WriteTrap,
}

/// The content of a notice; none of a tombstone.
trait Content {
    fn content(&self) -> Option<&Notice>;
}

impl Content for Notice {
    fn content(&self) -> Option<&Notice> {
        Some(self)
    }
}

impl Content for flow::Notice<Notice> {
    fn content(&self) -> Option<&Notice> {
        self.value()
    }
}

/// Which of the topics of a step gets a notice: tombstones the first one.
fn lane(notice: Option<&Notice>) -> u64 {
    notice.map_or(0, |notice| {
        assert!(notice.place != Some(Place::Route), "the route was told to panic");
        notice.n % 4
    })
}

/// Notices that panic while they are counted out, where the record asks for it.
pub struct Notices {
    left: std::vec::IntoIter<flow::Notice<Notice>>,
    panics: bool,
}

impl Iterator for Notices {
    type Item = flow::Notice<Notice>;

    fn next(&mut self) -> Option<flow::Notice<Notice>> {
        assert!(!self.panics, "the notices were told to panic");
        self.left.next()
    }
}

/// Count of requests by each record to be offered again, and whether a number was ever read otherwise than it was
/// written: shared by all instances of a run.
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

/// The algorithm of every drawn step.
struct Steps {
    asked: Asked,
    seen: Option<Store<i64>>,
    last: Option<Store<u64>>,
    has_timers: bool,
    /// Whether those that a record says may go by the wall clock; else by event time.
    goes_by_wall: bool,
}

impl Steps {
    /// A timer counts in the row as a record does, by the length of its name.
    fn timer(&self, name: &str, row: &mut Account, context: &mut Context<'_>) -> Result<Notices, Reject> {
        let (at, length) = (context.event_time_ms(), name.len());
        if let Some(last) = &self.last {
            let key = context.key().to_string();
            context.store(last)?.put(&key, &(length as u64))?;
        }
        row.count += 1;
        row.hash = row.hash.wrapping_mul(31).wrapping_add(i64::try_from(length).unwrap_or(0));
        row.small = row.small.wrapping_add(1);
        match name {
            "again" => context.set_timer("plain", At::Event(at + AGAIN_MS))?,
            "skip" => return Err(Reject::skip("told-to-skip")),
            "refuse" => return Err(Reject::dead_letter("told-to-refuse", "as the timer says")),
            "panic" => panic!("a timer was told to panic"),
            "die" if std::env::var_os("DRAWN").is_some() => std::process::abort(),
            "die" => tidegate::testing::die(),
            "stall" => tidegate::testing::stall(),
            "exceed" => {
                row.sum = 2.0 * REFUSED;
                row.mirror = format!("{:?}", row.sum);
            }
            _ => {}
        }
        let notice = Notice {
            n: at.unsigned_abs(),
            amount: row.sum,
            count: row.count,
            hash: row.hash,
            notices: 1,
            keys: Vec::new(),
            seen: 0,
            trace: 0,
            is_intact: row.is_intact(),
            pad: String::new(),
            rings: Some(name.to_owned()),
            place: None,
            trap_notice: WriteTrap::default(),
        };
        Ok(Notices { left: vec![notice.into()].into_iter(), panics: false })
    }

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
            Does::Stall => tidegate::testing::stall(),
            _ => {}
        }
        let mut seen = 0;
        if let Some(store) = &self.seen {
            let key = context.key().to_string();
            let mut store = context.store(store)?;
            if event.does == Does::Delete {
                store.delete(&key);
            } else {
                seen = store.add(&key, 1)?;
            }
            let count = store.prefix("", 100)?.len() + 1_000 * store.range("1", "4", 100)?.len();
            seen += 1_000 * i64::try_from(count).unwrap_or(0);
        }
        if let Some(last) = &self.last {
            let key = context.key().to_string();
            let mut last = context.store(last)?;
            let before = last.get(&key)?.unwrap_or(0);
            last.put(&key, &event.n)?;
            seen += 1_000_000_000 * i64::try_from(before).unwrap_or(0);
        }
        if event.does != Does::Nothing && event.does != Does::Delete {
            row.count += 1;
            row.sum += event.amount;
            row.mirror = format!("{:?}", row.sum);
            row.hash = row.hash.wrapping_mul(31).wrapping_add(i64::try_from(event.n).unwrap_or(0)).wrapping_add(joined);
            row.small = row.small.wrapping_add(1);
            row.twice = row.twice.wrapping_add(i64::from(event.does == Does::Touch));
            row.last = (!event.n.is_multiple_of(4)).then(|| context.event_time_ms() - 1_767_225_600_000);
        }
        match event.does {
            Does::Refused => {
                row.sum = 2.0 * REFUSED;
                row.mirror = format!("{:?}", row.sum);
            }
            Does::Cure => {
                row.sum = 0.0;
                row.mirror = format!("{:?}", row.sum);
            }
            Does::Panic(Place::EncodeRow) => row.trap = WriteTrap("panic".into()),
            _ => {}
        }
        match event.timer.as_ref().filter(|_| self.has_timers) {
            Some(TimerDraw { name, after_ms: Some(after), is_by_wall }) => {
                let at = context.event_time_ms() + after;
                let is_by_wall = *is_by_wall && self.goes_by_wall;
                context.set_timer(name, if is_by_wall { At::Wall(at) } else { At::Event(at) })?;
            }
            Some(TimerDraw { name, after_ms: None, .. }) => context.cancel_timer(name)?,
            None => {}
        }
        let notice = |number: u8| Notice {
            n: event.n * 10 + u64::from(number),
            amount: if event.does == Does::NotFinite { f64::NAN } else { row.sum },
            count: row.count,
            hash: row.hash,
            notices: 1,
            keys: event.keys.clone(),
            seen,
            trace: context.header("trace").map_or(0, <[u8]>::len),
            is_intact,
            pad: match event.does {
                Does::Large(kilobytes) => "x".repeat(1024 * usize::from(kilobytes)),
                _ => String::new(),
            },
            rings: None,
            place: match event.does {
                Does::Panic(place) => Some(place),
                _ => None,
            },
            trap_notice: WriteTrap(if event.does == Does::Panic(Place::EncodeNotice) { "panic" } else { "" }.into()),
        };
        let dressed = |number| event.own.dress(notice(number), context);
        let notices: Vec<flow::Notice<Notice>> = (0..event.notices).map(dressed).collect();
        Ok(Notices { left: notices.into_iter(), panics: event.does == Does::Panic(Place::Notices) })
    }
}

/// A value of a drawn table topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    pub n: i64,
}

/// A drawn step with rows: what it makes of an event, with the number that its tables say.
trait Changes: Send + Sync + 'static {
    type Row: Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static;

    fn change(
        &self,
        event: &Event,
        row: &mut Self::Row,
        joined: i64,
        context: &mut Context<'_>,
    ) -> Result<Notices, Reject>;

    fn timer(&self, name: &str, row: &mut Self::Row, context: &mut Context<'_>) -> Result<Notices, Reject>;
}

/// Its algorithm: of an event alone, or behind a join with its partner, or with two.
struct Rows<E, C>(C, PhantomData<fn() -> E>);

impl<E: Carries, C: Changes> Algorithm for Rows<E, C> {
    type Event = E;
    type Row = C::Row;
    type Notices = Notices;

    fn apply(&self, event: E, row: &mut C::Row, context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.change(event.event(), row, event.joined(), context)
    }

    fn timer(&self, name: &str, row: &mut C::Row, context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.timer(name, row, context)
    }
}

struct Update(Steps);

impl Changes for Update {
    type Row = Account;

    fn change(
        &self,
        event: &Event,
        row: &mut Account,
        joined: i64,
        context: &mut Context<'_>,
    ) -> Result<Notices, Reject> {
        self.0.apply(event, row, joined, context)
    }

    fn timer(&self, name: &str, row: &mut Account, context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.timer(name, row, context)
    }
}

/// The same of some columns only.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Slim {
    mirror: String,
    count: i64,
    sum: f64,
}

/// The same with the row's version, which the engine alone writes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Numbered {
    sum: f64,
    version: i64,
    count: i64,
    mirror: String,
}

struct NumberedUpdate(Steps);

impl Changes for NumberedUpdate {
    type Row = Numbered;

    fn change(
        &self,
        event: &Event,
        row: &mut Numbered,
        joined: i64,
        context: &mut Context<'_>,
    ) -> Result<Notices, Reject> {
        let Numbered { sum, count, mirror, version } = row.clone();
        let mut account = Account { count, sum, mirror, ..Account::default() };
        // The notice shows which version was read.
        let notices = self.0.apply(event, &mut account, shown_with(version, joined), context)?;
        (row.sum, row.count, row.mirror) = (account.sum, account.count, account.mirror);
        Ok(notices)
    }

    fn timer(&self, name: &str, row: &mut Numbered, context: &mut Context<'_>) -> Result<Notices, Reject> {
        let Numbered { sum, count, mirror, .. } = row.clone();
        let mut account = Account { count, sum, mirror, ..Account::default() };
        let notices = self.0.timer(name, &mut account, context)?;
        (row.count, row.sum, row.mirror) = (account.count, account.sum, account.mirror);
        Ok(notices)
    }
}

/// The number by which a step that is shown its row's version tells of it, and of what its tables say.
pub const fn shown_with(version: i64, joined: i64) -> i64 {
    version + 1_000 * joined
}

struct SlimUpdate(Steps);

impl Changes for SlimUpdate {
    type Row = Slim;

    fn change(&self, event: &Event, row: &mut Slim, joined: i64, context: &mut Context<'_>) -> Result<Notices, Reject> {
        let Slim { mirror, count, sum } = row.clone();
        let mut account = Account { count, sum, mirror, ..Account::default() };
        let notices = self.0.apply(event, &mut account, joined, context)?;
        (row.sum, row.count, row.mirror) = (account.sum, account.count, account.mirror);
        Ok(notices)
    }

    fn timer(&self, name: &str, row: &mut Slim, context: &mut Context<'_>) -> Result<Notices, Reject> {
        let Slim { mirror, count, sum } = row.clone();
        let mut account = Account { count, sum, mirror, ..Account::default() };
        let notices = self.0.timer(name, &mut account, context)?;
        (row.count, row.sum, row.mirror) = (account.count, account.sum, account.mirror);
        Ok(notices)
    }
}

/// The same where a record that says so deletes its row, and one that does nothing makes none.
struct MayDelete<A>(A);

impl<A: Algorithm<Event: Carries, Row: Clone + Fresh>> Algorithm for MayDelete<A> {
    type Event = A::Event;
    type Row = Option<A::Row>;
    type Notices = A::Notices;

    fn apply(
        &self,
        event: A::Event,
        row: &mut Option<A::Row>,
        context: &mut Context<'_>,
    ) -> Result<A::Notices, Reject> {
        let does = event.event().does;
        let mut inner = row.clone().unwrap_or_else(|| A::Row::fresh().unversioned());
        let notices = self.0.apply(event, &mut inner, context)?;
        *row = match does {
            Does::Delete => None,
            Does::Nothing => row.take(),
            _ => Some(inner),
        };
        Ok(notices)
    }

    fn timer(&self, name: &str, row: &mut Option<A::Row>, context: &mut Context<'_>) -> Result<A::Notices, Reject> {
        let mut inner = row.clone().unwrap_or_else(|| A::Row::fresh().unversioned());
        let notices = self.0.timer(name, &mut inner, context)?;
        *row = Some(inner);
        Ok(notices)
    }
}

/// A row that is new.
trait Fresh: Sized {
    fn fresh() -> Self;

    /// The same as the algorithm makes it for itself, where no row is.
    fn unversioned(self) -> Self {
        self
    }
}

impl Fresh for Account {
    fn fresh() -> Self {
        Self::new(0.0)
    }
}

impl Fresh for Slim {
    fn fresh() -> Self {
        Self { mirror: "0.0".into(), count: 0, sum: 0.0 }
    }
}

impl Fresh for Numbered {
    fn fresh() -> Self {
        Self { sum: 0.0, version: 77, count: 0, mirror: "0.0".into() } // the version is the engine's
    }

    fn unversioned(self) -> Self {
        Self { version: 0, ..self }
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

    fn timer(&self, name: &str, row: &mut Option<Account>, context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.timer(name, row.get_or_insert_default(), context)
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

    fn timer(&self, name: &str, (): &mut (), context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.timer(name, &mut Account::new(0.0), context)
    }
}

/// The event of a drawn step in windows or with rows: with a partner, or two, behind a join.
pub trait Carries: Send + Sync + 'static {
    fn event(&self) -> &Event;
    fn joined(&self) -> i64;
}

impl Carries for Event {
    fn event(&self) -> &Event {
        self
    }

    fn joined(&self) -> i64 {
        0
    }
}

impl<T: Partner> Carries for (Event, T) {
    fn event(&self) -> &Event {
        &self.0
    }

    fn joined(&self) -> i64 {
        self.1.n()
    }
}

impl<T: Partner> Carries for ((Event, T), Option<User>) {
    fn event(&self) -> &Event {
        &self.0.0
    }

    fn joined(&self) -> i64 {
        self.0.1.n() * 1_000 + self.1.n()
    }
}

/// Windows, some of which may not be told.
struct WindowSums<E> {
    steps: Steps,
    is_fragile: bool,
    is_deadly: bool,
    event: PhantomData<fn() -> E>,
}

impl<E: Carries> Windowed for WindowSums<E> {
    type Event = E;
    type Value = Account;
    type Notices = Option<Notice>;

    /// The notices of the record itself are not asked for.
    fn add(&self, event: &E, value: &mut Account, context: &mut Context<'_>) -> Result<(), Reject> {
        self.steps.apply(event.event(), value, event.joined(), context).map(drop)
    }

    fn emit(&self, value: &Account, window: &Window<'_>) -> Option<Notice> {
        if self.is_fragile && breaks(value.count) {
            match value.hash.rem_euclid(6) {
                0 if self.is_deadly => tidegate::testing::die(),
                1 if self.is_deadly => tidegate::testing::stall(),
                _ => panic!("a drawn panic"),
            }
        }
        Some(Notice {
            n: window.start_ms.unsigned_abs(),
            amount: value.sum,
            count: value.count,
            hash: value.hash,
            notices: 1,
            keys: Vec::new(),
            seen: pane_number(window.pane),
            trace: 0,
            is_intact: value.is_intact(),
            pad: String::new(),
            rings: None,
            place: None,
            trap_notice: WriteTrap::default(),
        })
    }
}

impl<E: Carries> Merge for WindowSums<E> {
    fn merge(&self, into: &mut Account, later: Account) {
        into.count += later.count;
        into.sum += later.sum;
        into.mirror = format!("{:?}", into.sum);
        into.hash = into.hash.wrapping_mul(31).wrapping_add(later.hash);
    }
}

/// The row of a key beside its windows: it tells of each as it was given out.
struct WindowRows;

impl Algorithm for WindowRows {
    type Event = Notice;
    type Row = Account;
    type Notices = Option<Notice>;

    fn apply(&self, window: Notice, row: &mut Account, _: &mut Context<'_>) -> Result<Option<Notice>, Reject> {
        row.count += 1;
        row.sum = if window.amount >= REFUSED { 2.0 * REFUSED } else { row.sum + 0.125 };
        row.mirror = format!("{:?}", row.sum);
        row.hash = row.hash.wrapping_mul(31).wrapping_add(window.seen);
        row.small = row.small.wrapping_add(1);
        Ok(Some(window))
    }
}

/// Pairs of two streams, some of which cannot be told.
struct Couples {
    is_fragile: bool,
}

impl Couples {
    fn notice(n: u64, amount: f64, count: i64, hash: i64) -> Notice {
        Notice {
            n,
            amount,
            count,
            hash,
            notices: 1,
            keys: Vec::new(),
            seen: 0,
            trace: 0,
            is_intact: true,
            pad: String::new(),
            rings: None,
            place: None,
            trap_notice: WriteTrap::default(),
        }
    }

    fn alone(&self, event: &Event, count: i64, at_ms: Option<i64>) -> Option<Notice> {
        assert!(!self.is_fragile || event.n % 3 != 1, "a drawn panic");
        Some(Self::notice(event.n, event.amount, count, at_ms.unwrap_or(0)))
    }
}

/// Two tables as one, whose algorithm panics over some values: a value where the lead topic has one.
struct Tabled;

impl TableJoin for Tabled {
    type Left = Event;
    type Right = Event;
    type Value = Notice;

    fn join(&self, left: Option<&Event>, right: Option<&Event>, _: &Key) -> Option<Notice> {
        let left = left?;
        let panics = |event: &Event| event.does == Does::Panic(Place::Notices);
        assert!(!panics(left) && !right.is_some_and(panics), "a drawn panic");
        let (n, amount) =
            right.map_or((left.n, left.amount), |right| (PairingDraw::number(left, right), left.amount + right.amount));
        Some(Couples::notice(n, amount, if right.is_some() { 4 } else { 5 }, 0))
    }
}

impl Paired for Couples {
    type Left = Event;
    type Right = Event;
    type Notices = Option<Notice>;

    fn pair(&self, left: &Event, right: &Event, pair: &Pair<'_>) -> Option<Notice> {
        let panics = |event: &Event| event.does == Does::Panic(Place::Notices);
        assert!(!panics(left) && !panics(right), "a drawn panic");
        let hash = pair.left_ms.unwrap_or(0).wrapping_mul(31).wrapping_add(pair.right_ms.unwrap_or(0));
        Some(Self::notice(PairingDraw::number(left, right), left.amount + right.amount, 1, hash))
    }

    fn left_alone(&self, left: &Event, pair: &Pair<'_>) -> Option<Notice> {
        self.alone(left, 2, pair.left_ms)
    }

    fn right_alone(&self, right: &Event, pair: &Pair<'_>) -> Option<Notice> {
        self.alone(right, 3, pair.right_ms)
    }
}

/// Why a window was given out, in a notice.
pub const fn pane_number(pane: Pane) -> i64 {
    match pane {
        Pane::Early => 1,
        Pane::Final => 2,
        Pane::Retraction => 3,
        Pane::Withdrawal => 4,
        Pane::Correction(n) => 10 + n as i64,
    }
}

struct JoinedSums<T>(Steps, PhantomData<fn() -> T>);

/// A joined value, if there is one.
pub trait Partner: Send + Sync + 'static {
    fn n(&self) -> i64;
}

impl Partner for User {
    fn n(&self) -> i64 {
        self.n
    }
}

/// Two tables: a partner of any join in the first one, and of a left join in the second.
impl<T: Partner> Partner for (T, Option<User>) {
    fn n(&self) -> i64 {
        self.0.n() * 1_000 + self.1.n()
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

    fn timer(&self, name: &str, row: &mut Option<Account>, context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.timer(name, row.get_or_insert_default(), context)
    }
}

/// The same where two tables are joined with the stream one after the other.
struct JoinedTwice<A>(A);

impl<T: Partner, A: Algorithm<Event = (Event, (T, Option<User>))>> Algorithm
    for JoinedTwice<(A, PhantomData<fn() -> T>)>
{
    type Event = ((Event, T), Option<User>);
    type Row = A::Row;
    type Notices = A::Notices;

    fn apply(
        &self,
        ((event, one), other): ((Event, T), Option<User>),
        row: &mut A::Row,
        context: &mut Context<'_>,
    ) -> Result<A::Notices, Reject> {
        self.0.0.apply((event, (one, other)), row, context)
    }

    fn timer(&self, name: &str, row: &mut A::Row, context: &mut Context<'_>) -> Result<A::Notices, Reject> {
        self.0.0.timer(name, row, context)
    }
}

struct JoinedPass<T>(Steps, PhantomData<fn() -> T>);

impl<T: Partner> Algorithm for JoinedPass<T> {
    type Event = (Event, T);
    type Row = ();
    type Notices = Notices;

    fn apply(&self, (event, user): (Event, T), (): &mut (), context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.apply(&event, &mut Account::new(0.0), user.n(), context)
    }

    fn timer(&self, name: &str, (): &mut (), context: &mut Context<'_>) -> Result<Notices, Reject> {
        self.0.timer(name, &mut Account::new(0.0), context)
    }
}

// === The drawn parts ===

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

/// Windows of an aggregate, or beside rows, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WindowDraw {
    pub shape: Spans,
    pub grace_ms: u64,
    pub corrections_ms: u64,
    pub is_early: bool,
    pub skips_late: bool,
    /// An open window is told again once the clock has gone on so far.
    #[serde(default)]
    pub every_ms: Option<u64>,
    /// Late records have a topic of their own.
    #[serde(default)]
    pub keeps_late: bool,
    /// They go by the clock of the partition.
    #[serde(default)]
    pub by_partition: bool,
    /// Those of a key without records are closed after this time.
    #[serde(default)]
    pub idle_ms: Option<u64>,
    /// Some cannot be told: their algorithm panics.
    #[serde(default)]
    pub is_fragile: bool,
    /// Of those beside rows some kill the process instead, or outlast their transaction.
    #[serde(default)]
    pub is_deadly: bool,
}

/// Whether a window of so many changes cannot be told, where some cannot.
pub const fn breaks(count: i64) -> bool {
    count % 3 == 1
}

impl WindowDraw {
    /// Whether its step keeps timers.
    pub const fn has_timers(&self) -> bool {
        self.by_partition || self.idle_ms.is_some()
    }
}

/// Pairs of the lead topic and its companion, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairingDraw {
    pub before_ms: u64,
    pub after_ms: u64,
    pub grace_ms: u64,
    pub skips_late: bool,
    /// Late records have a topic of their own.
    pub keeps_late: bool,
    /// Some that stay alone cannot be told: their algorithm panics.
    pub is_fragile: bool,
}

impl PairingDraw {
    /// The number of a pair's notice.
    pub const fn number(left: &Event, right: &Event) -> u64 {
        left.n.wrapping_mul(1_000_003).wrapping_add(right.n)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Spans {
    Tumbling(u64),
    /// The size, and how often one begins.
    Hopping(u64, u64),
    Session(u64),
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
    /// Each copy goes on under the record's keys once more.
    #[serde(default)]
    pub rekeys_twice: bool,
    /// A step with rows has a struct of some columns only.
    #[serde(default)]
    pub is_slim: bool,
    /// The struct has the row's version too, where its table has one.
    #[serde(default)]
    pub has_version: bool,
    /// Another own store, without a time to live.
    #[serde(default)]
    pub has_last: bool,
    /// The keys of a step without rows are those of the tables, not text.
    #[serde(default)]
    pub is_typed: bool,
    /// The hash that its declarations name.
    #[serde(default)]
    pub hash: Hash,
    /// Another table that is joined with the stream.
    #[serde(default)]
    pub has_second_table: bool,
    /// The declaration of its table.
    #[serde(default)]
    pub table_declared: Option<Policy>,
    #[serde(default)]
    pub table_ttl_ms: Option<u64>,
    /// The output of an earlier step, read as this one's table.
    #[serde(default)]
    pub table_of: Option<String>,
    /// The same, read as its companion.
    #[serde(default)]
    pub companion_of: Option<String>,
    /// The windows of an aggregate, or beside rows.
    #[serde(default)]
    pub window: Option<WindowDraw>,
    /// The pairs of an aggregate's two streams.
    #[serde(default)]
    pub pairing: Option<PairingDraw>,
    /// Its two streams are tables, which it joins.
    #[serde(default)]
    pub joins_tables: bool,
    /// The format of its lead topic and companion.
    #[serde(default)]
    pub format: Values,
    /// Its notices go to more topics than its destination.
    #[serde(default)]
    pub routed: Option<Routed>,
    /// It is one of the chains of its lead topic.
    #[serde(default)]
    pub is_chain: bool,
    /// Its companion by `with` is one by `merge`, where the flag is set under the keys of its records.
    #[serde(default)]
    pub merges: Option<bool>,
    /// What comes of records that cannot be read, its tables' too.
    #[serde(default)]
    pub unread: Unread,
    /// What a record of a stream without a value is.
    #[serde(default)]
    pub tombstones: Nothing,
    /// Its algorithm sets timers.
    #[serde(default)]
    pub has_timers: bool,
    /// A step with rows makes those that are missing.
    #[serde(default)]
    pub inserts: bool,
    /// A step with rows deletes the row of a record that says so.
    #[serde(default)]
    pub deletes: bool,
    /// The period of its ticks.
    #[serde(default)]
    pub every_ms: Option<u64>,
}

/// A step with ticks, where it has some.
fn ticking<A: Algorithm<Row = ()>>(step: StepBuilder<'_, A>, every_ms: Option<u64>) -> StepBuilder<'_, A> {
    match every_ms {
        Some(every) => step.every(Duration::from_millis(every)),
        None => step,
    }
}

/// How the notices of a step come into its three topics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Routed {
    Route,
    Branch,
    /// Those for the third topic are dropped.
    BranchOnly,
}

/// What comes of a record that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Unread {
    #[default]
    Letter,
    Skip,
    Halt,
}

impl Unread {
    const fn of(self) -> OnUnreadable {
        match self {
            Self::Letter => OnUnreadable::DeadLetter,
            Self::Skip => OnUnreadable::Skip,
            Self::Halt => OnUnreadable::Halt,
        }
    }
}

/// What a record without a value is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Nothing {
    #[default]
    Unreadable,
    Skip,
    Event,
}

impl Nothing {
    const fn of(self) -> Tombstones {
        match self {
            Self::Unreadable => Tombstones::Unreadable,
            Self::Skip => Tombstones::Skip,
            Self::Event => Tombstones::Event,
        }
    }
}

/// The format of a source's values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Values {
    #[default]
    Json,
    Text,
    Bytes,
}

impl Values {
    const fn of(self) -> Format {
        match self {
            Self::Json => Format::Json,
            Self::Text => Format::Text,
            Self::Bytes => Format::Bytes,
        }
    }
}

/// The hash that decides the partition of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Hash {
    #[default]
    Murmur2,
    Crc32,
    /// By the key's last byte; it panics at [`BOOM`].
    Own,
}

/// The key at which the hash of a pipeline's own panics.
pub const BOOM: &str = "boom";

impl Hash {
    pub fn of(self) -> KeyHash {
        match self {
            Self::Murmur2 => KeyHash::Murmur2,
            Self::Crc32 => KeyHash::Crc32,
            Self::Own => KeyHash::Custom(
                "own",
                Arc::new(|key: &[u8], count: i32| {
                    assert!(key != BOOM.as_bytes(), "the hash was told to panic");
                    i32::from(key.last().copied().unwrap_or(0)) % count.max(1)
                }),
            ),
        }
    }
}

/// Spelling of the tables' keys, where they are neither decimal numbers nor text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Spelling {
    #[default]
    Plain,
    Uuid,
    BigEndian,
    /// Four bytes.
    Small,
    /// The sixteen bytes of a UUID.
    UuidBytes,
    /// Bytes of any kind.
    Raw,
    /// A number in a JSON object.
    Field,
    /// A text in a JSON object, beside its schema.
    TextField,
    /// A number and a text in a JSON object, a column each.
    Compound,
}

impl Spelling {
    /// Whether keys that a change of keys writes, which are text, can be of this spelling.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Plain | Self::Uuid | Self::Raw)
    }

    /// Whether the id is a part of the key.
    pub const fn is_field(self) -> bool {
        matches!(self, Self::Field | Self::TextField | Self::Compound)
    }
}

/// A key of two columns.
#[derive(Serialize, Deserialize)]
struct DrawnKey {
    tenant: i64,
    code: String,
}

/// The tables' treatment of the values written into them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Tables {
    /// They refuse a row whose sum is too large.
    #[default]
    Check,
    /// They keep whatever is written.
    Keep,
    /// Like [`Tables::Check`], and a sum is rounded down to quarters, as by a trigger.
    Round,
}

impl Tables {
    /// Changes a row's values as writing them would.
    pub fn round(self, values: &mut BTreeMap<String, Value>) {
        if self == Self::Round
            && let Some(Value::F64(sum)) = values.get_mut("sum")
        {
            *sum = (*sum * 4.0).floor() / 4.0;
            values.insert("mirror".into(), Value::Text(String::new()));
        }
    }

    /// Whether the constraint refuses a row.
    pub fn refuse(self, values: &BTreeMap<String, Value>) -> bool {
        self != Self::Keep && matches!(values.get("sum"), Some(Value::F64(sum)) if *sum > REFUSED)
    }
}

/// Makes the column that a table makes itself of the others of a row, where the row has it.
pub fn make_twice(values: &mut BTreeMap<String, Value>) {
    let Some(Value::I64(count)) = values.get("count") else { return };
    let twice = 2 * count;
    if let Some(made) = values.get_mut("twice") {
        *made = Value::I64(twice);
    }
}

/// A pipeline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PipelineDraw {
    pub partitions: i32,
    #[serde(default)]
    pub tables: Tables,
    pub is_versioned: bool,
    /// The tables' keys are text, not numbers.
    pub has_text_keys: bool,
    #[serde(default)]
    pub spelling: Spelling,
    /// The tables make one of their columns themselves.
    #[serde(default)]
    pub makes_column: bool,
    pub subs: Vec<SubDraw>,
}

/// The name of a step's chain.
fn chain(number: usize) -> String {
    format!("c-{number}")
}

pub const TABLES: [&str; 2] = ["alpha", "beta"];

impl SubDraw {
    pub fn companion_topic(&self) -> String {
        self.companion_of.clone().unwrap_or_else(|| format!("{}-more", self.lead))
    }

    pub fn table_topic(&self) -> String {
        self.table_of.clone().unwrap_or_else(|| format!("{}-users", self.lead))
    }

    pub fn second_table_topic(&self) -> String {
        format!("{}-teams", self.lead)
    }

    /// Whether the records of its companion go on under keys of their own.
    pub fn merges_rekeyed(&self) -> bool {
        self.companion == Some(false) && self.merges == Some(true)
    }

    pub fn more_topic(&self) -> String {
        format!("{}-b", self.destination.as_deref().unwrap_or_default())
    }

    pub fn rest_topic(&self) -> String {
        format!("{}-c", self.destination.as_deref().unwrap_or_default())
    }

    /// Every topic that its notices go to.
    pub fn destinations(&self) -> Vec<String> {
        let more = self.routed.map(|_| self.more_topic());
        let rest = self.routed.filter(|routed| *routed != Routed::BranchOnly).map(|_| self.rest_topic());
        self.destination.iter().cloned().chain(more).chain(rest).take_while(|_| self.destination.is_some()).collect()
    }

    pub fn is_joined(&self) -> bool {
        self.join != Join::No
    }

    pub fn has_two_tables(&self) -> bool {
        self.is_joined() && self.has_second_table
    }

    /// Whether a topic is one of its tables.
    pub fn is_table(&self, topic: &str) -> bool {
        (self.is_joined() && self.table_topic() == topic)
            || (self.has_two_tables() && self.second_table_topic() == topic)
    }

    /// Whether it reads a topic.
    pub fn reads(&self, topic: &str) -> bool {
        self.lead == topic || (self.companion.is_some() && self.companion_topic() == topic) || self.is_table(topic)
    }

    pub const fn has_rows(&self) -> bool {
        matches!(self.step, StepDraw::Update(_))
    }

    /// The policy for records of the lead topic in wrong partitions. In front of a change of keys nothing is declared.
    pub fn declared_as(&self) -> Option<Policy> {
        self.declared.filter(|_| !self.rekeys)
    }

    /// The hash that a declaration names; without one producers use Kafka's own.
    pub fn hash_said(&self) -> Hash {
        if self.declared_as().is_some() { self.hash } else { Hash::Murmur2 }
    }

    /// Whether its algorithm or its windows set timers.
    pub fn keeps_timers(&self) -> bool {
        let has_windows = self.window.is_some_and(|window| window.has_timers() || self.has_rows());
        self.has_timers || self.pairing.is_some() || has_windows
    }

    /// Whether its notices tell of windows or of pairs, and not of its records.
    pub const fn gives_out(&self) -> bool {
        self.window.is_some() || self.pairing.is_some()
    }

    /// Whether its notices tell of something else than what its records say of notices.
    pub const fn tells_otherwise(&self) -> bool {
        self.gives_out() || self.joins_tables
    }

    /// Whether any record may close them.
    pub fn gives_out_by_partition(&self) -> bool {
        self.pairing.is_some() || self.window.is_some_and(|window| window.by_partition)
    }

    /// Number of stores of its step.
    pub fn store_count(&self) -> usize {
        let tables = usize::from(self.is_joined()) + usize::from(self.has_two_tables());
        let own = usize::from(self.has_store) + usize::from(self.has_last) + usize::from(self.keeps_timers());
        let of_windows = 2 * usize::from(self.window.is_some() && self.has_rows());
        usize::from(self.step == StepDraw::Aggregate) + of_windows + tables + own
    }
}

impl PipelineDraw {
    pub fn key_type(&self) -> KeyType {
        match self.spelling {
            Spelling::Uuid => KeyType::Uuid,
            Spelling::BigEndian => KeyType::I64BigEndian,
            Spelling::Small => KeyType::I32BigEndian,
            Spelling::UuidBytes => KeyType::UuidBytes,
            Spelling::Raw => KeyType::Bytes,
            Spelling::Field => KeyType::Field("id"),
            Spelling::TextField => KeyType::TextField("id"),
            Spelling::Compound => KeyType::fields_of::<DrawnKey>().unwrap_or_default(),
            Spelling::Plain if self.has_text_keys => KeyType::Text,
            Spelling::Plain => KeyType::I64,
        }
    }

    /// The type as which a step reads the keys of its records, where it does.
    pub fn read_keys(&self, sub: &SubDraw) -> Option<KeyType> {
        let of_log = if sub.is_typed { self.key_type() } else { KeyType::Text };
        match sub.step {
            StepDraw::Update(_) => Some(self.key_type()),
            StepDraw::Process if sub.join == Join::No => None,
            _ => Some(of_log),
        }
    }

    /// A small number as a record's key.
    pub fn spell(&self, id: u64) -> String {
        match self.spelling {
            Spelling::Plain => id.to_string(),
            Spelling::Uuid => format!("00000000-0000-4000-8000-{id:012}"),
            // All bytes are below 128: text as well.
            Spelling::BigEndian => String::from_utf8_lossy(&id.to_be_bytes()).into_owned(),
            Spelling::Small => String::from_utf8_lossy(&id.to_be_bytes()[4..]).into_owned(),
            Spelling::UuidBytes => String::from_utf8_lossy(&u128::from(id).to_be_bytes()).into_owned(),
            Spelling::Raw => format!("\u{1}{id}"),
            Spelling::Field => format!("{{\"id\":{id}}}"),
            Spelling::TextField => format!("{{\"schema\":{{}},\"payload\":{{\"id\":\"n{id}\"}}}}"),
            Spelling::Compound => format!("{{\"tenant\":{},\"code\":\"c{id}\"}}", id / 2),
        }
    }

    pub fn table(&self, number: u8) -> Table {
        let table = Table::new(TABLES[usize::from(number)]).key("id", self.key_type());
        if self.is_versioned { table } else { table.unversioned() }
    }

    /// The key of a row.
    pub fn key(&self, id: i64) -> Key {
        let spelt = self.spell(id.unsigned_abs());
        self.key_type().parse(Some(spelt.as_bytes())).unwrap_or_else(|_| Key::from(id))
    }

    /// The partition where a record of a step's lead topic belongs.
    pub fn home(&self, sub: &SubDraw, key: &str) -> i32 {
        sub.hash_said().of().partition(key.as_bytes(), self.partitions)
    }

    /// Whether the pipeline writes a topic itself.
    pub fn is_written(&self, topic: &str) -> bool {
        let is_of = |sub: &SubDraw| {
            sub.destinations().iter().any(|own| own == topic)
                || topic.strip_suffix("-dlt").is_some_and(|of| sub.reads(of))
        };
        self.subs.iter().any(is_of)
    }

    pub fn store_count(&self) -> usize {
        self.subs.iter().map(SubDraw::store_count).sum()
    }

    /// Whether a step's struct has its row's version.
    pub const fn shows_version(&self, sub: &SubDraw) -> bool {
        self.is_versioned && sub.has_rows() && sub.is_slim && sub.has_version
    }

    /// Whether a record that touches the column that its table makes is refused.
    pub const fn has_made_column(&self, sub: &SubDraw) -> bool {
        self.makes_column && sub.has_rows() && !sub.is_slim
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
            let mut others = self.subs.iter().enumerate().filter(|(_, other)| other.is_chain && other.lead == sub.lead);
            if !sub.is_chain {
                self.add(topology.source(&sub.lead).format(sub.format.of()), number, sub, asked);
            } else if let Some((first, _)) = others.next().filter(|(first, _)| *first == number) {
                let source = topology.source(&sub.lead).format(sub.format.of());
                let chains = source.chain(&chain(first), |source| self.add(source, first, sub, asked));
                others.fold(chains, |chains, (number, sub)| {
                    chains.chain(&chain(number), |source| self.add(source, number, sub, asked))
                });
            }
        }
        topology
    }

    fn add(&self, mut source: Source<'_>, number: usize, sub: &SubDraw, asked: &Asked) {
        let ttl = sub.ttl_ms.map(Duration::from_millis);
        let own = Store::new(&format!("seen-{number}"));
        let own = match ttl {
            Some(ttl) => own.time_to_live(ttl),
            None => own,
        };
        let seen = sub.has_store.then_some(own);
        let last = sub.has_last.then(|| Store::new(&format!("last-{number}")));
        let (has_timers, goes_by_wall) = (sub.has_timers, !sub.has_rows());
        let steps = || Steps { asked: asked.clone(), seen: seen.clone(), last: last.clone(), has_timers, goes_by_wall };
        source = source.tombstones(sub.tombstones.of()).on_unreadable(sub.unread.of());
        if sub.rekeys {
            source = source.keys_by(&format!("by-{number}"), |event: &Event| {
                assert!(event.does != Does::Panic(Place::Key), "the keys were told to panic");
                event.keys.clone()
            });
        }
        if sub.rekeys && sub.rekeys_twice {
            source = source.keys_by(&format!("by-{number}-again"), |event: &Event| event.keys.clone());
        }
        let companion = sub.companion_topic();
        if sub.companion == Some(false) {
            source = match sub.merges {
                None => source.with(&companion),
                Some(false) => source.merge(&companion, |topic| topic),
                Some(true) => source.merge(&companion, |topic| {
                    topic.keys_by(&format!("merged-{number}"), |event: &Event| event.keys.clone())
                }),
            };
        }
        let declared = |policy: Policy| {
            Declared::new(sub.hash_said().of(), self.partitions).on_violation(match policy {
                Policy::Warn => OnViolation::Warn,
                Policy::Stop => OnViolation::Stop,
                Policy::Repartition => OnViolation::Repartition,
            })
        };
        if let Some(policy) = sub.declared_as() {
            source = source.declared(declared(policy));
        }
        let users = || {
            let topic = sub.table_topic();
            let table = TableTopic::<User>::new(&topic).on_unreadable(sub.unread.of());
            let table = match sub.table_ttl_ms {
                Some(ms) => {
                    table.kept_in(Store::new(&format!("kept-{number}")).time_to_live(Duration::from_millis(ms)))
                }
                None => table,
            };
            match sub.table_declared {
                Some(policy) => table.declared(declared(policy)),
                None => table,
            }
        };
        let teams = || TableTopic::<User>::new(&sub.second_table_topic()).on_unreadable(sub.unread.of());
        let store = || {
            let store = Store::new(&format!("sums-{number}"));
            match ttl {
                Some(ttl) => store.time_to_live(ttl),
                None => store,
            }
        };
        let windows = || Store::new(&format!("sums-{number}"));
        let reads_and = sub.companion == Some(true);
        macro_rules! end {
            ($builder:expr) => {
                self.end($builder, sub, number, (seen.as_ref(), last.as_ref()))
            };
        }
        macro_rules! windowed {
            ($source:expr, $event:ty) => {{
                let ms = Duration::from_millis;
                let drawn = sub.window.unwrap_or(WindowDraw {
                    shape: Spans::Tumbling(1),
                    grace_ms: 0,
                    corrections_ms: 0,
                    is_early: false,
                    skips_late: false,
                    every_ms: None,
                    keeps_late: false,
                    by_partition: false,
                    idle_ms: None,
                    is_fragile: false,
                    is_deadly: false,
                });
                let emit = match drawn.every_ms {
                    Some(every) => Emit::Every(ms(every)),
                    None if drawn.is_early => Emit::OnUpdate,
                    None => Emit::OnClose,
                };
                let clock = if drawn.by_partition { Clock::PerPartition } else { Clock::PerKey };
                let late = if drawn.skips_late { Late::Skip } else { Late::DeadLetter };
                macro_rules! of {
                    ($kind:expr) => {{
                        let windowed =
                            $source.window($kind.grace(ms(drawn.grace_ms))).emit(emit).late(late).clock(clock);
                        let windowed = match drawn.idle_ms {
                            Some(idle) => windowed.idle_after(ms(idle)),
                            None => windowed,
                        };
                        let windowed = windowed.corrections_for(ms(drawn.corrections_ms));
                        let windowed =
                            if drawn.keeps_late { windowed.late_to(&format!("late-{number}")) } else { windowed };
                        let sums = WindowSums::<$event> {
                            steps: steps(),
                            is_fragile: drawn.is_fragile,
                            is_deadly: drawn.is_deadly && sub.has_rows(),
                            event: PhantomData,
                        };
                        match (sub.step, sub.inserts) {
                            (StepDraw::Update(table), false) => {
                                end!(windowed.update(self.table(table), windows(), sums, WindowRows))
                            }
                            (StepDraw::Update(table), true) => {
                                let step = windowed.update(self.table(table), windows(), sums, WindowRows);
                                end!(step.insert_missing(|_| Account::fresh()))
                            }
                            _ => end!(windowed.aggregate(windows(), sums)),
                        }
                    }};
                }
                match drawn.shape {
                    Spans::Tumbling(size) => of!(Tumbling::of(ms(size))),
                    Spans::Hopping(size, every) => of!(Hopping::of(ms(size)).every(ms(every))),
                    Spans::Session(gap) => of!(Session::gap(ms(gap))),
                }
            }};
        }
        macro_rules! lives {
            ($source:expr, $table:expr, $event:ty, $step:expr, $row:ty) => {{
                let (table, step) = (self.table($table), Rows::<$event, _>($step, PhantomData));
                match (sub.inserts, sub.deletes) {
                    (false, false) => end!($source.update(table, step)),
                    (true, false) => end!($source.update(table, step).insert_missing(|_| <$row>::fresh())),
                    (false, true) => end!($source.update(table, MayDelete(step))),
                    (true, true) => end!($source.update(table, MayDelete(step)).insert_missing(|_| None)),
                }
            }};
        }
        macro_rules! rows {
            ($source:expr, $table:expr, $event:ty) => {
                if self.shows_version(sub) {
                    lives!($source, $table, $event, NumberedUpdate(steps()), Numbered)
                } else if sub.is_slim {
                    lives!($source, $table, $event, SlimUpdate(steps()), Slim)
                } else {
                    lives!($source, $table, $event, Update(steps()), Account)
                }
            };
        }
        // A step that is joined with one table, or with two.
        macro_rules! with_tables {
            ($joined:expr, $partner:ty) => {
                match (sub.step, sub.has_second_table) {
                    (StepDraw::Update(_), false) if sub.window.is_some() => windowed!($joined, (Event, $partner)),
                    (StepDraw::Update(_), true) if sub.window.is_some() => {
                        windowed!($joined.left_join(teams()), ((Event, $partner), Option<User>))
                    }
                    (StepDraw::Update(table), false) => rows!($joined, table, (Event, $partner)),
                    (StepDraw::Update(table), true) => {
                        rows!($joined.left_join(teams()), table, ((Event, $partner), Option<User>))
                    }
                    (StepDraw::Process, false) => {
                        end!(ticking($joined.process(JoinedPass::<$partner>(steps(), PhantomData)), sub.every_ms))
                    }
                    (_, false) if sub.window.is_some() => windowed!($joined, (Event, $partner)),
                    (_, true) if sub.window.is_some() => {
                        windowed!($joined.left_join(teams()), ((Event, $partner), Option<User>))
                    }
                    (_, false) => end!($joined.aggregate(store(), JoinedSums::<$partner>(steps(), PhantomData))),
                    (StepDraw::Process, true) => {
                        let step = JoinedPass::<($partner, Option<User>)>(steps(), PhantomData);
                        let step = $joined.left_join(teams()).process(JoinedTwice((step, PhantomData)));
                        end!(ticking(step, sub.every_ms))
                    }
                    (_, true) => {
                        let step = JoinedSums::<($partner, Option<User>)>(steps(), PhantomData);
                        end!($joined.left_join(teams()).aggregate(store(), JoinedTwice((step, PhantomData))))
                    }
                }
            };
        }
        macro_rules! joined {
            ($source:expr) => {
                match (sub.join, sub.step) {
                    (Join::No, StepDraw::Update(_)) if sub.window.is_some() => windowed!($source, Event),
                    (Join::No, StepDraw::Update(table)) => rows!($source, table, Event),
                    (Join::No, StepDraw::Process) => end!(ticking($source.process(Pass(steps())), sub.every_ms)),
                    (Join::No, _) if sub.window.is_some() => windowed!($source, Event),
                    (Join::No, _) => end!($source.aggregate(store(), Sums(steps()))),
                    (Join::Inner, _) => with_tables!($source.join(users()), User),
                    (Join::Left, _) => with_tables!($source.left_join(users()), Option<User>),
                }
            };
        }
        if let Some(drawn) = sub.pairing {
            let ms = Duration::from_millis;
            let within = Within::between(ms(drawn.before_ms), ms(drawn.after_ms)).grace(ms(drawn.grace_ms));
            let late = if drawn.skips_late { Late::Skip } else { Late::DeadLetter };
            let paired = source.join_within(&companion, within).late(late);
            let paired = if drawn.keeps_late { paired.late_to(&format!("late-{number}")) } else { paired };
            let couples = Couples { is_fragile: drawn.is_fragile };
            return end!(paired.aggregate(format!("sums-{number}").as_str(), couples));
        }
        if sub.joins_tables {
            return end!(source.join_tables(&companion).aggregate(format!("sums-{number}").as_str(), Tabled));
        }
        match reads_and {
            true => joined!(source.events(|event: Event| event).and(&companion, |event: Event| event)),
            false => joined!(source),
        }
    }
}

impl PipelineDraw {
    /// What every step has behind its algorithm. A function, since a copy of it for each kind of step would need more stack than a
    /// test has.
    fn end<A>(
        &self,
        mut builder: StepBuilder<'_, A>,
        sub: &SubDraw,
        number: usize,
        (seen, last): (Option<&Store<i64>>, Option<&Store<u64>>),
    ) where
        A: Algorithm<Notices: IntoIterator<Item: Content>>,
    {
        if let Some(store) = seen {
            builder = builder.with_store(store);
        }
        if let Some(store) = last {
            builder = builder.with_store(store);
        }
        if sub.has_timers {
            let timers = format!("timers-{number}");
            builder = if sub.has_rows() { builder.with_timers(&timers) } else { builder.with_wall_timers(&timers) };
        }
        if sub.is_typed && !sub.has_rows() && self.read_keys(sub).is_some() {
            builder = builder.keys(self.key_type());
        }
        if sub.has_filter {
            builder = builder.filter(|notice| {
                notice.content().is_none_or(|notice| {
                    assert!(notice.place != Some(Place::Filter), "the filter was told to panic");
                    notice.n % 3 != 0
                })
            });
        }
        if let Some(threshold) = sub.threshold {
            builder = builder.at_least(&format!("limit-{number}"), threshold as f64, |notice| {
                notice.content().map_or(f64::MAX, |notice| {
                    assert!(notice.place != Some(Place::Magnitude), "the magnitude was told to panic");
                    notice.amount
                })
            });
        }
        let (more, rest) = (sub.more_topic(), sub.rest_topic());
        match (&sub.destination, sub.routed) {
            (Some(first), Some(Routed::Route)) => {
                builder.route([first, &more, &rest], |notice, [first, more, rest]| match lane(notice.content()) {
                    0 => first,
                    1 => more,
                    _ => rest,
                });
            }
            (Some(first), Some(with)) => {
                let branches = builder.branch(first, |notice| lane(notice.content()) == 0);
                let branches = branches.branch(&more, |notice| lane(notice.content()) == 1);
                if with == Routed::Branch { branches.to(&rest) } else { branches.done() }
            }
            (Some(destination), None) => builder.to(destination),
            (None, _) => builder.done(),
        }
    }
}
