//! Devices that fall silent, and values that leave their bounds: told once, and once more when it is over.
//!
//! A device has two timers. One goes by the clock of its partition, the highest time of the records that were read there: it fires once
//! the others of the partition are so far ahead of the device's last record. So a replay tells the same, and behind a downtime what the
//! device sent meanwhile is read before the timer can fire. Where a whole partition is quiet that clock stands still, so the other timer
//! goes by the wall clock. It tells only what it knows to be so: it fired in time, so somebody had the partition all along, and nothing
//! was read of the partition since it was looked at last. Otherwise it looks again soon.
//!
//! Neither is moved with each record: each finds, when it fires, when the device was heard last, and goes on from there. And that is
//! noted once in a while only, a thirtieth of the silence, by which an alert may be late.

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::rollup::Reading;
use crate::flow::store::Store;
use crate::flow::timer::At;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The shortest silence that is told.
const SILENCE_MIN: Duration = Duration::from_secs(30);
/// The part of the silence by which what is noted of a device may be old.
const PARTS: i64 = 30;
/// The timer by the clock of the partition.
pub(super) const BY_LOG: &str = "silent";
/// The timer by the wall clock.
pub(super) const BY_WALL: &str = "silent-by-wall";

/// What is told of the devices of a roll-up, in the topic `<name>-alerts`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Watch {
    silence_ms: Option<i64>,
    bounds: BTreeMap<String, Bounds>,
}

/// The bounds of a metric.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Bounds {
    upper: f64,
    lower: f64,
}

/// What is told of a device, which is the record's key.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(tag = "alert", rename_all = "kebab-case")]
pub enum Alert {
    /// Nothing has come of it for as long as is told; once, until something comes.
    Silent {
        /// When it was heard last, or up to a thirtieth of the silence earlier, in milliseconds since 1970, UTC.
        since_ms: i64,
    },
    /// Something has come again.
    Back {
        /// As it was told when it fell silent.
        since_ms: i64,
    },
    /// A value lies above its upper bound; once, until one lies below the lower bound.
    Above {
        /// The metric.
        metric: String,
        /// The time of the reading, in milliseconds since 1970, UTC.
        at_ms: i64,
        /// Its value.
        value: f64,
    },
    /// A value lies below the lower bound again.
    Below {
        /// The metric.
        metric: String,
        /// The time of the reading, in milliseconds since 1970, UTC.
        at_ms: i64,
        /// Its value.
        value: f64,
    },
}

/// What is kept of a device.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub(crate) struct Watched {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heard: Option<Heard>,
    /// The reading of a metric that was told last: its time, and whether it lay above.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    crossed: BTreeMap<String, (i64, bool)>,
}

/// When a device was heard last, or a part of the silence before that. Times are in milliseconds since 1970, UTC.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
struct Heard {
    /// By the clock of its partition.
    at_ms: i64,
    /// By the wall clock of whoever read its record.
    wall_ms: i64,
    /// The clock of its partition, when that was noted or when the timer of the wall clock looked behind that.
    looked_ms: i64,
    is_silent: bool,
}

impl Watched {
    /// Something has come of the device: by the clock of its partition, and by the wall clock.
    fn hear(&mut self, clock: i64, now: i64, silence_ms: i64) -> Vec<Alert> {
        let new = Heard { at_ms: clock, wall_ms: now, looked_ms: clock, is_silent: false };
        let (heard, old) = (self.heard.get_or_insert(new), silence_ms / PARTS);
        let (since_ms, was_told) = (heard.at_ms, std::mem::take(&mut heard.is_silent));
        // It may be the first one of its partition behind the silence itself.
        let was_silent = was_told || clock >= since_ms + told_after(silence_ms);
        // Apart from each other: when it was heard by the clock of the partition is the same in a replay.
        if was_silent || clock > heard.at_ms + old {
            (heard.at_ms, heard.looked_ms) = (clock, clock);
        }
        if was_silent || now > heard.wall_ms + old {
            (heard.wall_ms, heard.looked_ms) = (now, clock);
        }
        let silent = (was_silent && !was_told).then_some(Alert::Silent { since_ms });
        silent.into_iter().chain(was_silent.then_some(Alert::Back { since_ms })).collect()
    }
}

impl Watch {
    /// Tells of a device of which nothing has come for so long, half a minute at least, and of its return.
    #[must_use]
    pub fn silent_after(mut self, silence: Duration) -> Self {
        self.silence_ms = Some(i64::try_from(silence.as_millis()).unwrap_or(i64::MAX / 4));
        self
    }

    /// Tells of a value of the metric above `upper`, and then of one below `lower`.
    #[must_use]
    pub fn above(mut self, metric: &str, upper: f64, lower: f64) -> Self {
        self.bounds.insert(metric.into(), Bounds { upper, lower });
        self
    }

    /// Whether nothing is told.
    pub(crate) fn is_idle(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it.
    pub(crate) fn mistakes(&self, is_metric: impl Fn(&str) -> bool) -> Vec<String> {
        let least = i64::try_from(SILENCE_MIN.as_millis()).unwrap_or(i64::MAX);
        let short = self.silence_ms.filter(|silence_ms| *silence_ms < least);
        let short = short.map(|ms| format!("silent_after(): {ms} ms are less than 30 s; give it more time"));
        let of_bounds = self.bounds.iter().filter_map(|(metric, Bounds { upper, lower })| {
            if !is_metric(metric) {
                return Some(format!("above({metric:?}): there is no such metric; name one that metric() knows"));
            }
            let is_well = lower.is_finite() && upper.is_finite() && lower <= upper;
            (!is_well)
                .then(|| format!("above({metric:?}): the lower bound, {lower}, lies above the upper one, {upper}"))
        });
        short.into_iter().chain(of_bounds).collect()
    }

    /// The readings of a device, in the order of time, that are told: each one that is the first behind its bound.
    fn crossed<'a>(
        &self,
        told: &mut BTreeMap<String, (i64, bool)>,
        readings: impl Iterator<Item = &'a Reading>,
    ) -> Vec<Alert> {
        let mut readings: Vec<_> =
            readings.filter_map(|reading| Some((reading, self.bounds.get(&reading.metric)?))).collect();
        readings.sort_by_key(|(reading, _)| reading.point.at_ms);
        let mut alerts = Vec::new();
        for (Reading { metric, point }, bounds) in readings {
            let (since_ms, is_above) = told.get(metric).copied().unwrap_or((i64::MIN, false));
            let is_crossed = if is_above { point.value < bounds.lower } else { point.value > bounds.upper };
            // What is older than the last alert belongs in front of it.
            if is_crossed && point.at_ms >= since_ms {
                told.insert(metric.clone(), (point.at_ms, !is_above));
                let (metric, at_ms, value) = (metric.clone(), point.at_ms, point.value);
                alerts.push(if is_above {
                    Alert::Below { metric, at_ms, value }
                } else {
                    Alert::Above { metric, at_ms, value }
                });
            }
        }
        alerts
    }
}

/// Watches the devices of a roll-up.
pub(crate) struct Watcher {
    pub(crate) watch: Watch,
    pub(crate) store: Store<Watched>,
}

impl Watcher {
    /// Takes the readings of a record of a device.
    pub(super) fn take<'a>(
        &self,
        readings: impl Iterator<Item = &'a Reading>,
        context: &mut Context<'_>,
    ) -> Result<Vec<Alert>, Reject> {
        let clock = context.task_clock_ms().unwrap_or(i64::MIN).max(context.event_time_ms());
        let (now, device) = (context.now_ms(), context.key().to_string());
        let mut store = context.store(&self.store)?;
        let before = store.get(&device)?.unwrap_or_default();
        let mut watched = before.clone();
        let mut alerts = self.watch.crossed(&mut watched.crossed, readings);
        if let Some(silence_ms) = self.watch.silence_ms {
            let is_timed = watched.heard.is_some_and(|heard| !heard.is_silent);
            alerts.extend(watched.hear(clock, now, silence_ms));
            if !is_timed {
                store.put(&device, &watched)?;
                context.set_timer(BY_LOG, At::Event(clock + told_after(silence_ms)))?;
                context.set_timer(BY_WALL, At::Wall(now + told_after(silence_ms)))?;
                return Ok(alerts);
            }
        }
        if watched != before {
            store.put(&device, &watched)?;
        }
        Ok(alerts)
    }

    /// One of the timers of a device has fired.
    pub(super) fn look(&self, timer: &str, context: &mut Context<'_>) -> Result<Option<Alert>, Reject> {
        let Some(silence_ms) = self.watch.silence_ms else { return Ok(None) };
        let (due, now, device) = (context.event_time_ms(), context.now_ms(), context.key().to_string());
        let clock = context.task_clock_ms().unwrap_or(due);
        let mut store = context.store(&self.store)?;
        let Some(mut watched) = store.get(&device)? else { return Ok(None) };
        let Some(heard) = watched.heard.as_mut().filter(|heard| !heard.is_silent) else { return Ok(None) };
        let since_ms = heard.at_ms;
        let [over, over_by_wall] = [heard.at_ms, heard.wall_ms].map(|at| at + told_after(silence_ms));
        let is_by_log = timer == BY_LOG;
        // Else nobody had the partition meanwhile, or others of it were heard.
        let is_known = now < due + silence_ms / PARTS / 4 && heard.looked_ms == clock;
        heard.is_silent = if is_by_log { clock >= over } else { now >= over_by_wall && is_known };
        let is_told = heard.is_silent;
        if is_by_log && !is_told {
            return context.set_timer(BY_LOG, At::Event(over)).map(|()| None);
        }
        heard.looked_ms = clock;
        store.put(&device, &watched)?;
        if is_told {
            return Ok(Some(Alert::Silent { since_ms }));
        }
        context.set_timer(BY_WALL, At::Wall(over_by_wall.max(now + silence_ms / PARTS * 2))).map(|()| None)
    }
}

/// The time behind which a silence is told: what is noted may be a part of it old.
const fn told_after(silence_ms: i64) -> i64 {
    silence_ms + silence_ms / PARTS
}
