//! A source that is joined with another topic, under construction: events that lie close together in time, or two tables.

use crate::flow::pairing::{InPairs, Paired, Side, Waiting, WithinAndGrace};
use crate::flow::reading::Tombstones;
use crate::flow::store::Store;
use crate::flow::table_join::{Both, Changed, OfTables, TableJoin};
use crate::flow::topology::{Gathers, Source, StepBuilder};
use crate::flow::window::Late;

impl<'t> Source<'t> {
    /// Pairs each record with those of another topic, a stream too, that have its key and lie close to it in time;
    /// [`PairedSource::aggregate`] says what is made of them. The topics must be co-partitioned, as for [`Source::with`].
    pub fn join_within(self, other: &str, within: WithinAndGrace) -> PairedSource<'t> {
        PairedSource { source: self, other: other.to_owned(), within, late: Late::DeadLetter, late_to: None }
    }
}

/// A source in pairs, under construction.
#[must_use = "pairs do nothing until their chain ends in to() or done()"]
pub struct PairedSource<'t> {
    source: Source<'t>,
    other: String,
    within: WithinAndGrace,
    late: Late,
    late_to: Option<String>,
}

impl<'t> PairedSource<'t> {
    /// Says what becomes of a record that comes too late for all others: a dead letter, where nothing is said.
    pub const fn late(mut self, late: Late) -> Self {
        self.late = late;
        self
    }

    /// Publishes a record that comes too late in `topic`, as it came: key, value, time and headers, but for those of Tidegate's
    /// own names. It is no dead letter then, whatever [`PairedSource::late`] says.
    pub fn late_to(mut self, topic: &str) -> Self {
        self.late_to = Some(topic.to_owned());
        self
    }

    /// Keeps the events of each key that wait for others in a store beside the partition, and makes the notices of pairs:
    /// through the log. The store has no time to live, since events are forgotten by themselves. Its timers are kept in a store
    /// named `<store>-timers`.
    pub fn aggregate<P: Paired>(
        self,
        store: impl Into<Store<Option<Waiting<P::Left, P::Right>>>>,
        algorithm: P,
    ) -> StepBuilder<'t, InPairs<P>> {
        let Self { mut source, other, within, late, late_to } = self;
        let store = store.into();
        let name = &store.spec().name;
        source.note(store.spec().time_to_live.map(|_| {
            format!("store {name}: events that wait are forgotten once it is too late for a pair; remove its time_to_live(), which would lose some")
        }));
        let timers = format!("{name}-timers");
        let late_topic = late_to.and_then(|topic| source.group.topology.parse(&topic));
        let algorithm = InPairs { algorithm, reach: within.reach(), late };
        let source = source.events(Side::Left).and(&other, Side::Right);
        source.aggregate_or(store, algorithm, late_topic).gathering(Gathers::Pairs, Some(timers), None)
    }
}

impl<'t> Source<'t> {
    /// Keeps this topic and another one as tables, and tells what both say of a key whenever one of them changes;
    /// [`JoinedTables::aggregate`] says what that is. A record without a value takes its key out of its table. The topics must be
    /// co-partitioned, as for [`Source::with`].
    pub fn join_tables(self, other: &str) -> JoinedTables<'t> {
        JoinedTables { source: self.tombstones(Tombstones::Event), other: other.to_owned() }
    }
}

/// Two table topics as one, under construction.
#[must_use = "joined tables do nothing until their chain ends in to() or done()"]
pub struct JoinedTables<'t> {
    source: Source<'t>,
    other: String,
}

impl<'t> JoinedTables<'t> {
    /// Keeps the values that both tables have for a key in a store beside the partition, and tells what `algorithm` makes of them:
    /// a value with each change, and a tombstone where it makes none any more. Through the log.
    pub fn aggregate<J: TableJoin>(
        self,
        store: impl Into<Store<Option<Both<J::Left, J::Right>>>>,
        algorithm: J,
    ) -> StepBuilder<'t, OfTables<J>> {
        let Self { mut source, other } = self;
        let store = store.into();
        source.note(store.spec().time_to_live.map(|_| {
            let name = &store.spec().name;
            format!("store {name}: a value of a joined table stays until it is deleted, and so does what was told of it; remove its time_to_live()")
        }));
        let source = source.events(Changed::Left).and(&other, Changed::Right);
        source.aggregate(store, OfTables(algorithm))
    }
}
