//! Readings on their way to the tables: they wait minute by minute until their quarter of an hour is over.
//!
//! Each minute of a device is a value in a store. A quarter has a timer, which makes its buckets of its minutes and gives them out,
//! whole: so a reading that comes later, as long as the minutes are kept, is one more of them, and its quarter is made and given out
//! anew. Another timer deletes the minutes: by a time to live they would expire by the times of their records, which may be older
//! than their quarter's. What comes later than that waits for a while in a store of its own, for others of its quarter, and is given
//! out as an addition.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::effect::Reject;
use crate::flow::notice::Notice;
use crate::flow::record::{Timestamp, TopicName};
use crate::flow::rollup::counted::{Counted, Counts};
use crate::flow::rollup::minute::{MINUTE_MS, Minute, QUARTER_MS, rolled_up, start_of};
use crate::flow::rollup::watch::{BY_LOG, BY_WALL};
use crate::flow::rollup::{Alert, Bucket, Measured, Metered, Metric, Reading, SeriesKey, Tier, Told, Watch, Watcher};
use crate::flow::store::Store;
use crate::flow::timer::At;
use serde::Serialize;
use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A roll-up of a pipeline: its name, and what its metrics are.
#[derive(Clone)]
pub struct RollUp {
    /// Its name, with which its tables begin.
    pub name: String,
    /// The topic that its readings are read from, where they are [`Measured`]s in JSON and come from outside the pipeline.
    pub topic: Option<TopicName>,
    metrics: Arc<dyn Fn(&str) -> Option<Metric> + Send + Sync>,
    counted: Arc<Counted>,
}

impl RollUp {
    pub(crate) fn new<M: Metered>(
        name: &str,
        metered: Arc<M>,
        topic: Option<TopicName>,
        counted: Arc<Counted>,
    ) -> Self {
        let topic = topic.filter(|_| TypeId::of::<M::Event>() == TypeId::of::<Vec<Measured>>());
        Self { name: name.into(), topic, metrics: Arc::new(move |metric| metered.metric(metric)), counted }
    }

    /// What it has done since the process began.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counted.counts()
    }

    /// A request with readings was told to come again.
    pub(crate) fn count_refused(&self) {
        self.counted.add(Counts { refused: 1, ..Counts::default() });
    }

    /// The metric of that name; `None` where there is none, or where the user's code panics.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<Metric> {
        catch_unwind(AssertUnwindSafe(|| (self.metrics)(name))).ok().flatten()
    }

    /// The table of a tier.
    #[must_use]
    pub fn table(&self, tier: Tier) -> String {
        tier.table(&self.name)
    }

    /// The store in which readings wait, minute by minute.
    #[must_use]
    pub fn minutes_store(&self) -> String {
        format!("{}-minutes", self.name)
    }

    /// Whether a store is one of its own, all of which know devices.
    pub(crate) fn has_store(&self, store: &str) -> bool {
        let own = store.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('-'));
        own.is_some_and(|own| ["minutes", "late", "timers", "watched"].contains(&own))
    }

    /// The device whose minutes a store of its own has under keys that begin so, and those of no other device.
    pub(crate) fn device_of<'p>(&self, store: &str, prefix: &'p str) -> Option<&'p str> {
        let has_minutes = store == self.minutes_store() || store == format!("{}-late", self.name);
        prefix.split_once('\0').filter(|_| has_minutes).map(|(device, _)| device)
    }

    /// The quarters of a metric that the minutes of one device make, by their starts. `minutes`: keys of the store in the order of time,
    /// and values as they are kept.
    ///
    /// # Errors
    /// A sentence, where one is none of ours.
    pub fn open(&self, minutes: Vec<(Vec<u8>, String)>, metric: &str) -> Result<BTreeMap<i64, Bucket>, String> {
        let mut quarters: BTreeMap<i64, Vec<(i64, Minute)>> = BTreeMap::new();
        for (key, value) in minutes {
            let start_ms = start_in(&key).ok_or("a key of the store is no minute's")?;
            let minute = serde_json::from_str(&value).map_err(|error| error.to_string())?;
            quarters.entry(start_of(start_ms, QUARTER_MS)).or_default().push((start_ms, minute));
        }
        let mut open = BTreeMap::new();
        for (start_ms, minutes) in quarters {
            let minutes = minutes.iter().map(|(start_ms, minute)| (*start_ms, minute));
            let known = |name: &str| (name == metric).then(|| self.metric(name)).flatten();
            let mut buckets = rolled_up(minutes, known).map_err(|error| error.to_string())?;
            open.extend(buckets.remove(metric).map(|bucket| (start_ms, bucket)));
        }
        Ok(open)
    }
}

impl fmt::Debug for RollUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RollUp").field("name", &self.name).finish_non_exhaustive()
    }
}

/// When quarters are given out, and how long their minutes are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// The time behind its end for which a quarter waits before it is given out first.
    pub grace: Duration,
    /// The time for which a quarter that has changed waits for further changes.
    pub settle: Duration,
    /// The time behind its end for which a quarter's minutes are kept: as long as that a late reading is as good as one in time.
    pub kept: Duration,
}

impl Default for Patience {
    /// 30 seconds, 10 seconds, two hours.
    fn default() -> Self {
        Self { grace: Duration::from_secs(30), settle: Duration::from_secs(10), kept: Duration::from_hours(2) }
    }
}

/// [`Algorithm`]: gathers readings in minutes, and gives out quarters.
pub(crate) struct Gather<M> {
    pub(crate) metered: Arc<M>,
    pub(crate) patience: Patience,
    pub(crate) minutes: Store<Minute>,
    /// Minutes of which others may have been forgotten.
    pub(crate) late: Store<Minute>,
    /// Where devices are watched.
    pub(crate) watcher: Option<Watcher>,
    pub(crate) counted: Arc<Counted>,
}

/// What is given out: quarters, and alerts where devices are watched.
#[derive(Serialize, Clone, PartialEq, Debug)]
#[serde(untagged)]
pub(crate) enum Given {
    Quarter(Told),
    Alert(Alert),
}

/// Begins the name of the timer of a quarter whose minutes are all kept; it fires in front of one of late minutes.
const WHOLE: &str = "a-";
/// Begins the name of the timer of late minutes.
const LATE: &str = "b-";
/// Begins the name of the timer that deletes minutes.
const FORGET: &str = "c-";

impl<M: Metered> Gather<M> {
    pub(crate) fn new(name: &str, metered: Arc<M>, patience: Patience, watch: Watch) -> Self {
        let store = |what: &str| Store::new(&format!("{name}-{what}"));
        let watcher = (!watch.is_idle()).then(|| Watcher { watch, store: Store::new(&format!("{name}-watched")) });
        Self { metered, patience, minutes: store("minutes"), late: store("late"), watcher, counted: Arc::default() }
    }

    /// Takes the readings of one minute, and sees to it that its quarter is given out.
    fn take(&self, start_ms: i64, readings: &[Reading], context: &mut Context<'_>) -> Result<(), Reject> {
        let clock = context.task_clock_ms().unwrap_or(i64::MIN).max(context.event_time_ms());
        let (quarter, settle) = (start_of(start_ms, QUARTER_MS), millis(self.patience.settle).max(1));
        let end = quarter.saturating_add(QUARTER_MS);
        let is_late = end.saturating_add(millis(self.patience.kept)) <= clock;
        let key = place(context.key().to_string().as_bytes(), start_ms);
        let mut store = context.store(if is_late { &self.late } else { &self.minutes })?;
        let mut minute = store.get(&key)?.unwrap_or_default();
        let new = minute.take(readings).map_err(|error| Reject::dead_letter("bad-reading", error.to_string()))?;
        let (taken, all) = (new as u64, readings.len() as u64);
        let late = if is_late { taken } else { 0 };
        self.counted.add(Counts { readings: taken, repeated: all - taken, late, ..Counts::default() });
        if new == 0 {
            return Ok(());
        }
        store.put(&key, &minute)?;
        let closes = end.saturating_add(millis(self.patience.grace));
        // At a multiple: others until then do not put it off.
        let settled = start_of(clock, settle).saturating_add(settle);
        let due = if is_late { settled } else { settled.max(closes) };
        context.set_timer(&format!("{}{quarter}", if is_late { LATE } else { WHOLE }), At::Event(due))
    }
}

impl<M: Metered> Algorithm for Gather<M> {
    type Event = M::Event;
    type Row = ();
    type Notices = Vec<Notice<Given>>;

    fn apply(&self, event: M::Event, (): &mut (), context: &mut Context<'_>) -> Result<Self::Notices, Reject> {
        let device = context.key().to_string();
        if device.is_empty() || device.contains('\0') || context.record_key != Some(device.as_bytes()) {
            let message = format!(
                "{device:?} names no device: it is empty, no UTF-8 text, or has a zero byte, which no text of the database has"
            );
            return Err(Reject::dead_letter("bad-key", message));
        }
        let mut minutes: BTreeMap<i64, Vec<Reading>> = BTreeMap::new();
        for reading in self.metered.readings(event, context)? {
            let Reading { metric: name, point } = &reading;
            let metric = self.metered.metric(name);
            let metric =
                metric.ok_or_else(|| Reject::dead_letter("unknown-metric", format!("there is no metric {name}")))?;
            context.check_event_time(Timestamp(point.at_ms))?;
            metric.bucket(*point).map_err(|error| Reject::dead_letter("bad-reading", format!("{name}: {error}")))?;
            minutes.entry(start_of(point.at_ms, MINUTE_MS)).or_default().push(reading);
        }
        for (start_ms, readings) in &minutes {
            self.take(*start_ms, readings, context)?;
        }
        let Some(watcher) = &self.watcher else { return Ok(Vec::new()) };
        let alerts = watcher.take(minutes.values().flatten(), context)?;
        Ok(alerts.into_iter().map(|alert| Notice::new(Given::Alert(alert))).collect())
    }

    fn timer(&self, name: &str, (): &mut (), context: &mut Context<'_>) -> Result<Self::Notices, Reject> {
        if let (BY_LOG | BY_WALL, Some(watcher)) = (name, &self.watcher) {
            let alert = watcher.look(name, context)?;
            return Ok(alert.map(|alert| Notice::new(Given::Alert(alert))).into_iter().collect());
        }
        let Some(start_ms) = name.get(WHOLE.len()..).and_then(|start| start.parse::<i64>().ok()) else {
            return Ok(Vec::new());
        };
        let (is_addition, is_over) = (name.starts_with(LATE), name.starts_with(FORGET));
        let device = context.key().to_string();
        let [from, to] = [start_ms, start_ms + QUARTER_MS].map(|at_ms| place(device.as_bytes(), at_ms));
        let mut store = context.store(if is_addition { &self.late } else { &self.minutes })?;
        let found = store.range(from, to, usize::MAX)?;
        if is_addition || is_over {
            found.iter().for_each(|(key, _)| store.delete(key));
        }
        if is_over {
            return Ok(Vec::new());
        }
        if !is_addition {
            // Until then it has settled for the last time.
            let Patience { settle, kept, .. } = self.patience;
            let forgets = start_ms + QUARTER_MS + millis(kept) + 2 * millis(settle).max(1);
            context.set_timer(&format!("{FORGET}{start_ms}"), At::Event(forgets))?;
        }
        let minutes = found.iter().filter_map(|(key, minute)| Some((start_in(key)?, minute)));
        let buckets = rolled_up(minutes, |name| self.metered.metric(name));
        let buckets = buckets.map_err(|error| Reject::dead_letter("bad-reading", error.to_string()))?;
        let told = buckets.into_iter().map(|(metric, bucket)| {
            let key =
                SeriesKey { device: device.clone(), metric, start_ms: start_of(start_ms, Tier::Quarters.row_ms()) };
            key.tell(Given::Quarter(Told { start_ms, bucket, is_addition }))
        });
        told.collect()
    }
}

/// The key of a device's minute.
fn place(device: &[u8], start_ms: i64) -> Vec<u8> {
    let mut key = device.to_vec();
    key.push(0);
    key.extend_from_slice(&(start_ms.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    key
}

/// The start of the minute that lies under a key.
fn start_in(key: &[u8]) -> Option<i64> {
    let bytes = key.last_chunk::<8>()?;
    Some((u64::from_be_bytes(*bytes) ^ (1 << 63)).cast_signed())
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
