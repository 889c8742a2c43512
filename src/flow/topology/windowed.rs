//! A source whose records are gathered in windows, under construction.

use crate::flow::events::{Plain, ReadEvent};
use crate::flow::store::Store;
use crate::flow::topology::{Source, StepBuilder};
use crate::flow::window::{Emit, InWindows, Late, WindowKind, Windowed, Windows, millis};
use std::time::Duration;

impl<'t, S> Source<'t, S> {
    /// Gathers the records of each key in windows of event time; [`WindowedSource::aggregate`] says what is made of them.
    pub const fn window<K>(self, kind: K) -> WindowedSource<'t, K, S> {
        let (emit, late) = (Emit::OnClose, Late::DeadLetter);
        WindowedSource { source: self, kind, corrections: Duration::ZERO, emit, late }
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
        let Self { mut source, kind, corrections, emit, late } = self;
        let (store, spec) = (store.into(), kind.into_spec());
        let name = &store.spec().name;
        source.note(spec.fault().map(|fault| format!("store {name}: {fault}")));
        source.note(store.spec().time_to_live.map(|_| {
            format!("store {name}: windows are forgotten once they are closed for good; remove its time_to_live(), which would lose open ones")
        }));
        source.aggregate(store, InWindows::new(algorithm, spec, millis(corrections), emit, late)).windowed()
    }
}
