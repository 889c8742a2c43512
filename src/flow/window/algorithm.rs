//! A windowed algorithm as an aggregate: the windows of a key are the value under it.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::effect::Reject;
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
    algorithm: W,
    spec: Spec<W>,
    /// How long a closed window may be corrected, in milliseconds.
    corrections: i64,
    emit: Emit,
    late: Late,
    /// The kind of its windows, in words.
    kind: String,
}

impl<W: Windowed> fmt::Debug for InWindows<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InWindows").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// One notice of a windowed algorithm.
type NoticeOf<W> = <<W as Windowed>::Notices as IntoIterator>::Item;

impl<W: Windowed> InWindows<W> {
    pub(crate) fn new(algorithm: W, spec: Spec<W>, corrections: i64, emit: Emit, late: Late) -> Self {
        let kind = spec.kind();
        Self { algorithm, spec, corrections, emit, late, kind }
    }

    /// How long a window is kept behind its end.
    const fn kept_for(&self) -> i64 {
        self.spec.grace.saturating_add(self.corrections)
    }

    /// Whether an open window is told, which the event has changed or not.
    fn tells(&self, window: &mut Working<W::Value>, is_placed: bool, clock: i64) -> bool {
        match self.emit {
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
        match self.late {
            Late::Skip => Reject::skip(LATE),
            Late::DeadLetter => Reject::dead_letter(
                LATE,
                format!(
                    "its time {} lies {} ms behind its key's clock, and all of its windows are closed for good: give them \
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
    type Notices = Vec<NoticeOf<W>>;

    fn apply(
        &self,
        event: W::Event,
        kept: &mut Windows<W::Value>,
        context: &mut Context<'_>,
    ) -> Result<Vec<NoticeOf<W>>, Reject> {
        let Self { algorithm, spec, emit, kind, .. } = self;
        let at = algorithm.event_time_ms(&event, context);
        context.check_event_time(Timestamp(at))?;
        let clock = kept.clock_ms.map_or(at, |clock| clock.max(at));
        let (mut notices, key) = (Vec::new(), context.key);
        let mut give_out = |window: &Working<W::Value>, pane: Pane| {
            let Working { start_ms, end_ms, .. } = *window;
            notices.extend(algorithm.emit(&window.value, &Window { key, start_ms, end_ms, pane }));
        };
        let kept_for = self.kept_for();
        kept.become_of(kind, &mut give_out);
        let moment = Moment { at, clock, kept_for, is_told_early: *emit == Emit::OnUpdate };
        let placed = kept.place(algorithm, spec, moment, &mut give_out);
        if placed.is_empty() {
            return Err(self.too_late(at, clock));
        }
        for number in &placed {
            if let Some(window) = kept.windows.get_mut(*number) {
                self.add(&event, window, at, context)?;
            }
        }
        kept.clock_ms = Some(clock);
        for (number, window) in kept.windows.iter_mut().enumerate() {
            if window.is_changed && window.is_over(spec.grace, clock) {
                give_out(window, window.closed_as());
                window.emitted = window.emitted.saturating_add(1);
                (window.is_changed, window.early) = (false, None);
            } else if !window.is_over(spec.grace, clock)
                && self.tells(window, placed.binary_search(&number).is_ok(), clock)
            {
                give_out(window, Pane::Early);
            }
        }
        kept.windows.retain(|window| !window.is_over(kept_for, clock));
        Ok(notices)
    }

    fn is_too_late(&self, event: &W::Event, kept: &Windows<W::Value>, context: &Context<'_>) -> bool {
        let at = self.algorithm.event_time_ms(event, context);
        let is_in_time = context.check_event_time(Timestamp(at)).is_ok();
        is_in_time && kept.is_too_late(&self.kind, self.spec.shape, at, self.kept_for())
    }
}
