//! The windows of one key that are not forgotten yet, and its clock: the value that the store keeps under the key.

use crate::flow::window::kind::{Shape, Spec};
use crate::flow::window::{Pane, Windowed};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::ops::Range;

/// The windows of one key, by their starts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Windows<V> {
    /// The kind of the windows, in words.
    #[serde(default)]
    pub kind: String,
    /// The latest event time among the records that were taken, in milliseconds since 1970, UTC.
    pub clock_ms: Option<i64>,
    /// Open ones, and closed ones that may still be corrected.
    pub windows: Vec<Working<V>>,
    /// Since when the key may be idle, where windows are closed for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// The time of the partition's clock at which the next window closes, where that is the clock of windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_ms: Option<i64>,
    /// How many were given out to be run over the key's row, beside a table.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub for_row: u64,
}

/// A key without records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// When its last record was handled, by the wall clock, in milliseconds since 1970, UTC.
    pub handled_ms: i64,
    /// The time of the timer that looks whether there was another one.
    pub timer_ms: i64,
}

impl<V> Default for Windows<V> {
    fn default() -> Self {
        Self { kind: String::new(), clock_ms: None, windows: Vec::new(), idle: None, closes_ms: None, for_row: 0 }
    }
}

/// A window whose value may still change.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Working<V> {
    /// Its first millisecond.
    pub start_ms: i64,
    /// The millisecond behind its last one.
    pub end_ms: i64,
    /// Its value up to now.
    pub value: V,
    /// How often its closed value was given out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub emitted: u32,
    /// Whether it has changed since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_changed: bool,
    /// What was told of it while it is open, where that is told every so often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<Early>,
}

/// What was told of an open window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Early {
    /// The clock when it was told last, or else when it began, in milliseconds since 1970, UTC.
    pub since_ms: i64,
    /// Whether it was ever told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_told: bool,
    /// Whether it has changed since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_news: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_none_yet(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The kept windows of a key, as their JSON, without those that have no millisecond from `since_ms` up to `until_ms`, and how many
/// are left.
///
/// # Errors
/// Where the JSON is none of kept windows.
pub(crate) fn windows_within(
    json: &[u8],
    since_ms: Option<i64>,
    until_ms: Option<i64>,
) -> serde_json::Result<(Vec<u8>, usize)> {
    let mut kept: Windows<&RawValue> = serde_json::from_slice(json)?;
    kept.windows.retain(|window| {
        since_ms.is_none_or(|since| since < window.end_ms) && until_ms.is_none_or(|until| window.start_ms < until)
    });
    serde_json::to_vec(&kept).map(|json| (json, kept.windows.len()))
}

/// The span of the first of kept windows, by their JSON: the value may be what cannot be read.
pub(super) fn span_in(json: &[u8]) -> Option<(i64, i64)> {
    let kept: Windows<IgnoredAny> = serde_json::from_slice(json).ok()?;
    kept.windows.first().map(|window| (window.start_ms, window.end_ms))
}

impl<V: Default> Working<V> {
    fn new(start_ms: i64, end_ms: i64) -> Self {
        Self { start_ms, end_ms, value: V::default(), emitted: 0, is_changed: false, early: None }
    }
}

impl<V> Working<V> {
    /// Whether the clock has come to the end of the window and so much behind it.
    pub(super) const fn is_over(&self, after: i64, clock: i64) -> bool {
        self.end_ms.saturating_add(after) <= clock
    }

    /// The time of what is told of the window at a time: within it, so that a window of a step behind this one which spans it has it,
    /// and no later than it is told, where that is within it.
    pub(super) fn time_within(&self, at: i64) -> i64 {
        at.min(self.end_ms.saturating_sub(1)).max(self.start_ms)
    }

    /// Notes a change of an open window that is told every so often.
    pub(super) fn has_news(&mut self, clock: i64) {
        let first = Early { since_ms: clock, is_told: false, has_news: true };
        self.early.get_or_insert(first).has_news = true;
    }

    /// Whether an open window is to be told again. It counts as told then.
    pub(super) fn is_to_be_told(&mut self, every: i64, clock: i64) -> bool {
        let is_due = |early: &Early| early.has_news && early.since_ms.saturating_add(every) <= clock;
        let is_due = self.early.as_ref().is_some_and(is_due);
        if is_due {
            self.early = Some(Early { since_ms: clock, is_told: true, has_news: false });
        }
        is_due
    }

    /// The pane of a window that is closed and has changed since it was given out.
    pub(super) const fn closed_as(&self) -> Pane {
        match self.emitted {
            0 => Pane::Final,
            n => Pane::Correction(n),
        }
    }
}

impl<V> Windows<V> {
    /// The windows that are not closed yet.
    pub(super) fn open(&self) -> impl Iterator<Item = &Working<V>> {
        self.windows.iter().filter(|window| window.is_changed)
    }
}

/// Gives out a window as it is.
pub(super) type GiveOut<'a, V> = &'a mut dyn FnMut(&Working<V>, Pane);

/// The event's time, the key's clock once the event is taken, and how long windows are kept behind their ends.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: i64,
    pub(super) clock: i64,
    pub(super) kept_for: i64,
    /// Whether every window is told with each event that changes it.
    pub(super) is_told_early: bool,
}

impl<V: Default> Windows<V> {
    /// Makes the windows those of `kind`. Those of another kind, of an earlier release, are given out as they are, where they
    /// have changed since they last were: they cannot go on.
    pub(super) fn become_of(&mut self, kind: &str, give_out: GiveOut<'_, V>) {
        if self.kind != kind {
            for window in self.windows.drain(..).filter(|window| window.is_changed) {
                give_out(&window, window.closed_as());
            }
            kind.clone_into(&mut self.kind);
        }
    }

    /// Finds or begins the windows of an event, and answers their places, ascending: none where the event is too late for all
    /// of them. Sessions that become part of another one, or open again, are retracted where they had been given out, and those that were only told early are withdrawn.
    pub(super) fn place<W: Windowed<Value = V>>(
        &mut self,
        algorithm: &W,
        spec: &Spec<W>,
        moment: Moment,
        give_out: GiveOut<'_, V>,
    ) -> Vec<usize> {
        let Moment { at, clock, kept_for, is_told_early } = moment;
        match spec.shape {
            Shape::Aligned { size, every } => {
                let last = at.div_euclid(every) * every;
                let count = (size - (at - last) - 1) / every;
                let starts = (0..=count).rev().map(|back| last.saturating_sub(back * every));
                starts.filter_map(|start| self.aligned(start, size, clock, kept_for)).collect()
            }
            Shape::Session { gap } => {
                let alone = Working::new(at, at.saturating_add(gap).saturating_add(1));
                let found = self.touching(&alone, clock, kept_for);
                if found.is_empty() && alone.is_over(kept_for, clock) {
                    return Vec::new();
                }
                let number = found.start;
                let touched: Vec<Working<V>> = self.windows.drain(found).collect();
                let end_ms = touched.iter().map(|window| window.end_ms).fold(alone.end_ms, i64::max);
                let is_open = !Working { end_ms, ..Working::<()>::new(at, end_ms) }.is_over(spec.grace, clock);
                let start_ms = touched.iter().map(|window| window.start_ms).fold(at, i64::min);
                for window in &touched {
                    let (was_given_out, is_gone) = (window.emitted > 0, window.start_ms != start_ms);
                    if was_given_out && (is_gone || is_open) {
                        give_out(window, Pane::Retraction);
                    } else if (is_told_early || window.early.is_some_and(|early| early.is_told)) && is_gone {
                        give_out(window, Pane::Withdrawal);
                    }
                }
                let merge = |into: &mut V, later: V| spec.merge.map_or((), |merge| merge(algorithm, into, later));
                let mut one = bridged(alone, touched, merge);
                if is_open {
                    one.emitted = 0;
                }
                self.windows.insert(number, Working { start_ms, end_ms, ..one });
                vec![number]
            }
        }
    }

    /// Whether an event is too late for all of its windows of that shape.
    pub(super) fn is_too_late(&self, kind: &str, shape: Shape, (at, clock): (i64, i64), kept_for: i64) -> bool {
        let windows = if self.kind == kind { self.windows.as_slice() } else { &[] };
        match shape {
            Shape::Aligned { size, every } => {
                let last = at.div_euclid(every) * every;
                let holds = |window: &Working<V>| window.start_ms <= at && at < window.end_ms;
                let is_kept = || windows.iter().any(|window| holds(window) && !window.is_over(kept_for, clock));
                Working::<()>::new(last, last.saturating_add(size)).is_over(kept_for, clock) && !is_kept()
            }
            Shape::Session { gap } => {
                let alone = Working::<()>::new(at, at.saturating_add(gap).saturating_add(1));
                let touches = |window: &Working<V>| window.start_ms < alone.end_ms && alone.start_ms < window.end_ms;
                let is_kept = || windows.iter().any(|window| touches(window) && !window.is_over(kept_for, clock));
                alone.is_over(kept_for, clock) && !is_kept()
            }
        }
    }

    fn aligned(&mut self, start: i64, size: i64, clock: i64, kept_for: i64) -> Option<usize> {
        match self.windows.binary_search_by_key(&start, |window| window.start_ms) {
            // The clock of the partition may have passed it by since the key's last event.
            Ok(number) => self.windows.get(number).filter(|window| !window.is_over(kept_for, clock)).map(|_| number),
            Err(number) => {
                let window = Working::new(start, start.saturating_add(size));
                if window.is_over(kept_for, clock) {
                    return None;
                }
                self.windows.insert(number, window);
                Some(number)
            }
        }
    }

    /// The sessions that one of a single event touches, and that are not closed for good. They lie apart from each other, so their
    /// ends are in order too.
    fn touching(&self, alone: &Working<V>, clock: i64, kept_for: i64) -> Range<usize> {
        let is_past = |window: &Working<V>| window.end_ms <= alone.start_ms || window.is_over(kept_for, clock);
        let first = self.windows.partition_point(is_past);
        let last = self.windows.partition_point(|window| window.start_ms < alone.end_ms);
        first..last.max(first)
    }
}

/// One session of an event, `alone`, and the sessions that it touches. It is the one that began first, if that began no later
/// than the event; its bounds are the caller's.
fn bridged<V: Default>(alone: Working<V>, touched: Vec<Working<V>>, merge: impl Fn(&mut V, V)) -> Working<V> {
    let at = alone.start_ms;
    let mut touched = touched.into_iter();
    let mut one = touched.next().unwrap_or(alone);
    if one.start_ms > at {
        one.emitted = 0;
        one.early.iter_mut().for_each(|early| early.is_told = false);
    }
    for later in touched {
        if let Some(early) = later.early {
            let own = one.early.get_or_insert(Early { is_told: false, ..early });
            own.since_ms = own.since_ms.max(early.since_ms);
        }
        merge(&mut one.value, later.value);
    }
    one
}
