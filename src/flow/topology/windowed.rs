//! A source whose records are gathered in windows, under construction.

use crate::flow::events::{Plain, ReadEvent};
use crate::flow::store::Store;
use crate::flow::topology::{Gathers, Source, StepBuilder};
use crate::flow::window::{Clock, Emit, InWindows, Late, Terms, WindowKind, Windowed, Windows, millis};
use std::time::Duration;

impl<'t, S> Source<'t, S> {
    /// Gathers the records of each key in windows of event time; [`WindowedSource::aggregate`] says what is made of them.
    pub const fn window<K>(self, kind: K) -> WindowedSource<'t, K, S> {
        let (corrections, idle_after, late_to) = (Duration::ZERO, None, None);
        let (emit, late, clock) = (Emit::OnClose, Late::DeadLetter, Clock::PerKey);
        WindowedSource { source: self, kind, corrections, emit, late, clock, idle_after, late_to }
    }
}

/// A source in windows, under construction.
#[must_use = "windows do nothing until their chain ends in to() or done()"]
pub struct WindowedSource<'t, K, S = Plain> {
    source: Source<'t, S>,
    kind: K,
    corrections: Duration,
    emit: Emit,
    late: Late,
    clock: Clock,
    idle_after: Option<Duration>,
    late_to: Option<String>,
}

impl<'t, K, S> WindowedSource<'t, K, S> {
    /// Says when a window is given out: once it is closed, where nothing is said.
    pub const fn emit(mut self, emit: Emit) -> Self {
        self.emit = emit;
        self
    }

    /// Lets an event that comes so long after its window was closed change it all the same: the window is given out once
    /// more, whole, as a [`Pane::Correction`](crate::flow::window::Pane::Correction).
    pub const fn corrections_for(mut self, time: Duration) -> Self {
        self.corrections = time;
        self
    }

    /// Says what becomes of a record that is too late for all of its windows: a dead letter, where nothing is said.
    pub const fn late(mut self, late: Late) -> Self {
        self.late = late;
        self
    }

    /// Says whose clock closes windows: each key's own, where nothing is said.
    pub const fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Closes the windows of a key once so much time has passed, by the wall clock, since its last record was handled: at least
    /// a millisecond. It passes only while the task of the partition keeps up with its inputs.
    pub const fn idle_after(mut self, time: Duration) -> Self {
        self.idle_after = Some(time);
        self
    }

    /// Publishes a record that is too late for all of its windows in `topic`, as it came: key, value, time and headers, but for
    /// those of Tidegate's own names. It is no dead letter then, whatever [`WindowedSource::late`] says.
    pub fn late_to(mut self, topic: &str) -> Self {
        self.late_to = Some(topic.to_owned());
        self
    }

    /// Keeps the windows of each key, with the key's clock, in a store beside the partition, and gives them out: through the
    /// log. The store has no time to live, since windows are forgotten by themselves.
    pub fn aggregate<W: Windowed>(
        self,
        store: impl Into<Store<Windows<W::Value>>>,
        algorithm: W,
    ) -> StepBuilder<'t, InWindows<W>>
    where
        K: WindowKind<W>,
        S: ReadEvent<W::Event>,
    {
        let Self { mut source, kind, corrections, emit, late, clock, idle_after, late_to } = self;
        let (store, spec) = (store.into(), kind.into_spec());
        let name = &store.spec().name;
        let is_idle = matches!(emit, Emit::Every(time) if millis(time) < 1);
        source.note(is_idle.then(|| {
            format!("store {name}: Emit::Every() is told a time of at least 1 ms; Emit::OnUpdate tells of each event")
        }));
        source.note(spec.fault().map(|fault| format!("store {name}: {fault}")));
        source.note(store.spec().time_to_live.map(|_| {
            format!("store {name}: windows are forgotten once they are closed for good; remove its time_to_live(), which would lose open ones")
        }));
        source.note(
            idle_after
                .filter(|time| millis(*time) < 1)
                .map(|_| format!("store {name}: idle_after() is told a time of at least 1 ms")),
        );
        let timers = format!("{name}-timers");
        let late_topic = late_to.and_then(|topic| source.group.topology.parse(&topic));
        let (corrections, idle_ms) = (millis(corrections), idle_after.map(millis));
        let algorithm = InWindows::new(algorithm, spec, Terms { corrections, emit, late, clock, idle_after: idle_ms });
        let timers = algorithm.has_timers().then_some(timers);
        let gathers = match clock {
            Clock::PerKey => Gathers::WindowsByKey,
            Clock::PerPartition => Gathers::WindowsByTask,
        };
        source.aggregate_or(store, algorithm, late_topic).gathering(gathers, timers, idle_after)
    }
}
