//! A source whose records are gathered in windows, under construction.

use crate::flow::algorithm::Algorithm;
use crate::flow::events::{Plain, ReadEvent};
use crate::flow::record::TopicName;
use crate::flow::step::{LateTo, Update};
use crate::flow::store::Store;
use crate::flow::table::Table;
use crate::flow::topology::builder::Erase;
use crate::flow::topology::source::spec_of;
use crate::flow::topology::{Gathers, Source, StepBuilder, StepKind};
use crate::flow::window::{
    Clock, Emit, InWindows, Late, Terms, UpdateByWindows, WindowKind, Windowed, Windows, millis,
};
use std::sync::Arc;
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

    /// Closes the windows of a key once so much time has passed, by the wall clock, since its last record was taken: at least
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
        let store = store.into();
        let idle_after = self.idle_after;
        let (source, windows, late_topic, gathers) = self.gather(&store, algorithm);
        let timers = windows.has_timers().then(|| format!("{}-timers", store.spec().name));
        source.aggregate_or(store, windows, late_topic).gathering(gathers, timers, idle_after)
    }

    /// Keeps the windows of each key in a store beside the partition, and runs an algorithm over the row of the key with each notice
    /// of a window that is given out: in the database transaction of the record behind which it is given out. The row of an event
    /// stays as it is, and need not be there. A window that is refused with its row is a dead letter of its own.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use std::time::Duration;
    /// # use tidegate::flow::window::{Tumbling, Window, Windowed};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// # #[derive(Deserialize)] struct Reading { watts: f64 }
    /// #[derive(Serialize)]
    /// struct Hour { watts: f64 }
    /// # struct Hours;
    /// # impl Windowed for Hours {
    /// #     type Event = Reading; type Value = f64; type Notices = Option<Hour>;
    /// #     fn add(&self, reading: &Reading, most: &mut f64, _: &mut Context<'_>) -> Result<(), Reject> {
    /// #         *most = most.max(reading.watts);
    /// #         Ok(())
    /// #     }
    /// #     fn emit(&self, most: &f64, _: &Window<'_>) -> Option<Hour> { Some(Hour { watts: *most }) }
    /// # }
    /// #[derive(Serialize, Deserialize)]
    /// struct Device { peak: f64 }
    ///
    /// struct Peaks;
    ///
    /// impl Algorithm for Peaks {
    ///     type Event = Hour;
    ///     type Row = Device;
    ///     type Notices = Option<f64>;
    ///
    ///     fn apply(&self, hour: Hour, device: &mut Device, _: &mut Context<'_>) -> Result<Option<f64>, Reject> {
    ///         let is_more = hour.watts > device.peak;
    ///         device.peak = device.peak.max(hour.watts);
    ///         Ok(is_more.then_some(device.peak))
    ///     }
    /// }
    ///
    /// let mut topology = Topology::new("meters");
    /// topology
    ///     .source("readings")
    ///     .window(Tumbling::of(Duration::from_secs(3_600)).grace(Duration::from_secs(60)))
    ///     .update("devices", "hours", Hours, Peaks)
    ///     .to("peaks");
    /// assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn update<W, A>(
        self,
        table: impl Into<Table>,
        store: impl Into<Store<Windows<W::Value>>>,
        windowed: W,
        algorithm: A,
    ) -> StepBuilder<'t, A>
    where
        W: Windowed,
        A: Algorithm<Event = <W::Notices as IntoIterator>::Item>,
        K: WindowKind<W>,
        S: ReadEvent<W::Event>,
    {
        let store = store.into();
        let idle_after = self.idle_after;
        let (mut source, windows, late_topic, gathers) = self.gather(&store, windowed);
        source.note(idle_after.map(|_| {
            format!("store {}: idle_after() closes windows between two records, which have no offset that the database's position could stand for; leave it out, or let an aggregate keep the windows and an update step read its notices", store.spec().name)
        }));
        source.group.note_unfit(source.events.unfit());
        let Source { group, events, .. } = source;
        let late_to =
            late_topic.clone().map(|topic| LateTo { topic, content_type: group.reading.format.content_type() });
        group.topology.check_map_keys::<Windows<W::Value>>(&format!("store {}", store.spec().name));
        let (name, table) = (&store.spec().name, table.into());
        let (waiting, timers) = (store.named(&format!("{name}-for-row")), format!("{name}-timers"));
        let stores = vec![store.spec().clone(), waiting.spec().clone()];
        let erase: Erase<A> = Box::new(move |chain, _, topology| {
            let update = Update { table: spec_of(table, &chain, topology), chain, events: () };
            StepKind::Rows(Arc::new(UpdateByWindows { update, windows, store, waiting, events, late_to }))
        });
        let step = StepBuilder::new(group, algorithm, stores, erase).late_to(late_topic);
        step.gathering(gathers, Some(timers), None)
    }

    /// The windows with what was said of them, and the source. Mistakes are noted.
    fn gather<W: Windowed>(
        self,
        store: &Store<Windows<W::Value>>,
        algorithm: W,
    ) -> (Source<'t, S>, InWindows<W>, Option<TopicName>, Gathers)
    where
        K: WindowKind<W>,
    {
        let Self { mut source, kind, corrections, emit, late, clock, idle_after, late_to } = self;
        let (name, spec) = (&store.spec().name, kind.into_spec());
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
        let late_topic = late_to.and_then(|topic| source.group.topology.parse(&topic));
        let (corrections, idle_ms) = (millis(corrections), idle_after.map(millis));
        let algorithm = InWindows::new(algorithm, spec, Terms { corrections, emit, late, clock, idle_after: idle_ms });
        let gathers = match clock {
            Clock::PerKey => Gathers::WindowsByKey,
            Clock::PerPartition => Gathers::WindowsByTask,
        };
        (source, algorithm, late_topic, gathers)
    }
}
