//! A windowed algorithm as an aggregate: the windows of a key are the value under it.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::effect::{GivenOut, Parts, Reject};
use crate::flow::key::Key;
use crate::flow::net::in_net;
use crate::flow::record::Timestamp;
use crate::flow::window::kept::{Moment, Windows, Working};
use crate::flow::window::kind::Spec;
use crate::flow::window::{Pane, Window, Windowed, millis};
use std::fmt;
use std::time::Duration;

/// When a window is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Emit {
    /// Once it is closed.
    #[default]
    OnClose,
    /// With each event that changes it, too, as [`Pane::Early`].
    OnUpdate,
    /// While it is open, too, as [`Pane::Early`]: with the first record of its key at which it has changed since it was told
    /// last, and the clock has gone on by this time since then, or since its first event. At least a millisecond.
    Every(Duration),
}

/// The clock that closes windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Clock {
    /// Of each key by itself: the latest event time among its records that were taken.
    #[default]
    PerKey,
    /// Of the partition: the highest timestamp of the records that the step's task has decided, whatever their keys. The time of
    /// an event is its record's own timestamp then; [`Windowed::event_time_ms`] is not asked.
    PerPartition,
}

/// The code of a record that is too late for all of its windows.
pub(crate) const LATE: &str = "late";

/// The fate of a record that is too late for all of its windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Late {
    /// It becomes a dead letter with the code `late`: nothing is lost.
    #[default]
    DeadLetter,
    /// It is skipped and counted.
    Skip,
}

/// A windowed algorithm with its windows. Made by
/// [`WindowedSource::aggregate`](crate::flow::topology::WindowedSource::aggregate).
pub struct InWindows<W: Windowed> {
    pub(super) algorithm: W,
    pub(super) spec: Spec<W>,
    pub(super) terms: Terms,
    /// The kind of its windows, in words.
    pub(super) kind: String,
}

/// What was said of windows beside their kind and grace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// How long a closed window may be corrected, in milliseconds.
    pub(crate) corrections: i64,
    pub(crate) emit: Emit,
    pub(crate) late: Late,
    pub(crate) clock: Clock,
    /// The time without a record, in milliseconds, after which the windows of a key are closed.
    pub(crate) idle_after: Option<i64>,
}

impl<W: Windowed> fmt::Debug for InWindows<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InWindows").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// One notice of a windowed algorithm.
pub(super) type NoticeOf<W> = <<W as Windowed>::Notices as IntoIterator>::Item;

/// The notices of the windows that one record or timer gives out, each window's by themselves.
#[derive(Debug)]
pub struct Panes<N>(Vec<GivenOut<N>>);

impl<N> Default for Panes<N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<N> Panes<N> {
    pub(crate) const fn of(parts: Vec<GivenOut<N>>) -> Self {
        Self(parts)
    }

    pub(crate) fn into_parts(self) -> Vec<GivenOut<N>> {
        self.0
    }
}

/// Those that there are, whichever window they tell of.
impl<N> IntoIterator for Panes<N> {
    type Item = N;
    type IntoIter = std::vec::IntoIter<N>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flat_map(|pane| pane.notices.unwrap_or_default()).collect::<Vec<N>>().into_iter()
    }
}

impl<W: Windowed> InWindows<W> {
    pub(crate) fn new(algorithm: W, spec: Spec<W>, terms: Terms) -> Self {
        let kind = spec.kind();
        Self { algorithm, spec, terms, kind }
    }

    /// How long a window is kept behind its end.
    pub(super) const fn kept_for(&self) -> i64 {
        self.spec.grace.saturating_add(self.terms.corrections)
    }

    /// The time of an event.
    fn time_of(&self, event: &W::Event, context: &Context<'_>) -> i64 {
        match self.terms.clock {
            Clock::PerKey => self.algorithm.event_time_ms(event, context),
            Clock::PerPartition => context.event_time_ms(),
        }
    }

    /// The clock that a key's windows go by.
    pub(super) fn clock_of(&self, kept: &Windows<W::Value>, context: &Context<'_>) -> Option<i64> {
        match self.terms.clock {
            Clock::PerKey => kept.clock_ms,
            Clock::PerPartition => kept.clock_ms.max(context.task_clock_ms()),
        }
    }

    /// Makes the notices of one window that is given out. One that its algorithm cannot make is told by a dead letter of its own:
    /// the windows of its key go on without it.
    /// `at`: the time of the record or timer that gives it out.
    fn tell(&self, (key, at): (&Key, i64), window: &Working<W::Value>, pane: Pane, told: &mut Panes<NoticeOf<W>>) {
        let Working { start_ms, end_ms, .. } = *window;
        let emit = || self.algorithm.emit(&window.value, &Window { key, start_ms, end_ms, pane });
        let notices = in_net(|| Ok(emit().into_iter().collect()));
        told.0.push(GivenOut { start_ms, end_ms, at_ms: Some(window.time_within(at)), notices });
    }

    /// Gives out the windows that are closed at that clock, and, with an event, open ones that are to be told: `placed` are those
    /// that it has changed. Where the partition's clock closes windows, an event closes those alone that it has changed: a timer
    /// closes the others behind it, in the order of their ends over all keys. What is over for good is forgotten.
    pub(super) fn give_out<V>(
        &self,
        kept: &mut Windows<V>,
        clock: i64,
        placed: Option<&[usize]>,
        give_out: &mut dyn FnMut(&Working<V>, Pane),
    ) {
        kept.clock_ms = kept.clock_ms.max(Some(clock));
        for (number, window) in kept.windows.iter_mut().enumerate() {
            let is_closed = window.is_over(self.spec.grace, clock);
            let is_placed = placed.map(|placed| placed.binary_search(&number).is_ok());
            let closes = is_placed != Some(false) || self.terms.clock == Clock::PerKey;
            if window.is_changed && is_closed && closes {
                give_out(window, window.closed_as());
                window.emitted = window.emitted.saturating_add(1);
                (window.is_changed, window.early) = (false, None);
            } else if let Some(is_placed) = is_placed.filter(|_| !is_closed)
                && self.tells(window, is_placed, clock)
            {
                give_out(window, Pane::Early);
            }
        }
        kept.windows.retain(|window| window.is_changed || !window.is_over(self.kept_for(), clock));
    }

    /// Whether an open window is told, which the event has changed or not.
    fn tells<V>(&self, window: &mut Working<V>, is_placed: bool, clock: i64) -> bool {
        match self.terms.emit {
            Emit::OnClose => false,
            Emit::OnUpdate => is_placed,
            Emit::Every(time) => {
                if is_placed {
                    window.has_news(clock);
                }
                window.is_to_be_told(millis(time), clock)
            }
        }
    }

    /// Adds an event to its windows, and gives out what is to be told by then.
    ///
    /// # Errors
    /// It is too late, has no time that is taken, or is refused.
    pub(super) fn gather(
        &self,
        event: &W::Event,
        kept: &mut Windows<W::Value>,
        context: &mut Context<'_>,
        give_out: &mut dyn FnMut(&Working<W::Value>, Pane),
    ) -> Result<(), Reject> {
        let Self { algorithm, spec, terms, kind } = self;
        let at = self.time_of(event, context);
        context.check_event_time(Timestamp(at))?;
        let clock = self.clock_of(kept, context).map_or(at, |clock| clock.max(at));
        let kept_for = self.kept_for();
        kept.become_of(kind, give_out);
        let moment = Moment { at, clock, kept_for, is_told_early: terms.emit == Emit::OnUpdate };
        let placed = kept.place(algorithm, spec, moment, give_out);
        if placed.is_empty() {
            return Err(self.too_late(at, clock));
        }
        for number in &placed {
            if let Some(window) = kept.windows.get_mut(*number) {
                self.add(event, window, at, context)?;
            }
        }
        self.give_out(kept, clock, Some(&placed), give_out);
        self.note_handled(kept, context)?;
        self.note_next(kept, context)
    }

    /// Whether an event is too late for all of its windows.
    pub(super) fn refuses(&self, event: &W::Event, kept: &Windows<W::Value>, context: &Context<'_>) -> bool {
        let at = self.time_of(event, context);
        let clock = self.clock_of(kept, context).map_or(at, |clock| clock.max(at));
        let has_time = context.check_event_time(Timestamp(at)).is_ok();
        has_time && kept.is_too_late(&self.kind, self.spec.shape, (at, clock), self.kept_for())
    }

    /// Adds an event to one of its windows.
    fn add(
        &self,
        event: &W::Event,
        window: &mut Working<W::Value>,
        at: i64,
        context: &mut Context<'_>,
    ) -> Result<(), Reject> {
        let of_record = std::mem::replace(&mut context.timestamp, Timestamp(at));
        let added = self.algorithm.add(event, &mut window.value, context);
        context.timestamp = of_record;
        window.is_changed = true;
        added
    }

    fn too_late(&self, at: i64, clock: i64) -> Reject {
        match self.terms.late {
            Late::Skip => Reject::skip(LATE),
            Late::DeadLetter => Reject::dead_letter(
                LATE,
                format!(
                    "its time {} lies {} ms behind the clock of its windows, and all of its windows are closed for good: give them \
                     more grace, or correct them for longer",
                    Timestamp(at).to_rfc3339(),
                    clock.saturating_sub(at)
                ),
            ),
        }
    }
}

impl<W: Windowed> Algorithm for InWindows<W> {
    type Event = W::Event;
    type Row = Windows<W::Value>;
    type Notices = Panes<NoticeOf<W>>;

    fn apply(
        &self,
        event: W::Event,
        kept: &mut Windows<W::Value>,
        context: &mut Context<'_>,
    ) -> Result<Panes<NoticeOf<W>>, Reject> {
        let (mut notices, of) = (Panes::default(), (context.key, context.event_time_ms()));
        self.gather(&event, kept, context, &mut |window, pane| self.tell(of, window, pane, &mut notices))?;
        Ok(notices)
    }

    fn timer(
        &self,
        name: &str,
        kept: &mut Windows<W::Value>,
        context: &mut Context<'_>,
    ) -> Result<Panes<NoticeOf<W>>, Reject> {
        let (mut notices, of) = (Panes::default(), (context.key, context.event_time_ms()));
        self.close(name, kept, context, &mut |window, pane| self.tell(of, window, pane, &mut notices))?;
        Ok(notices)
    }

    fn parts(notices: Panes<NoticeOf<W>>) -> Parts<Panes<NoticeOf<W>>> {
        Parts::Panes(notices.0)
    }

    fn is_too_late(&self, event: &W::Event, kept: &Windows<W::Value>, context: &Context<'_>) -> bool {
        self.refuses(event, kept, context)
    }
}
