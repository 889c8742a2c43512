//! A step under construction: keys, stores, filters and the topic.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::codec::Format;
use crate::flow::every::{Every, Ticking};
use crate::flow::join::{KeptTables, WithTables};
use crate::flow::key::KeyType;
use crate::flow::notice::Announce;
use crate::flow::record::TopicName;
use crate::flow::route::{Item, Measure, Route};
use crate::flow::step::{Chain, Filter, NewRow};
use crate::flow::store::{Store, StoreSpec, TimerKind};
use crate::flow::table::TableSpec;
use crate::flow::threshold::Threshold;
use crate::flow::timer::store_of;
use crate::flow::topology::group::{Group, Outlet};
use crate::flow::topology::{Gathers, StepKind, Topology};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Makes the step of a chain, and notes mistakes in the topology.
pub(super) type Erase<A> = Box<dyn FnOnce(Chain<A>, KeyType, &mut Topology) -> StepKind>;

/// A step under construction.
#[must_use = "a step does nothing until its chain ends in to() or done()"]
pub struct StepBuilder<'t, A: Algorithm> {
    group: Group<'t>,
    algorithm: A,
    erase: Erase<A>,
    /// The spelling set by [`StepBuilder::keys`].
    key_type: Option<KeyType>,
    stores: Vec<StoreSpec>,
    filters: Vec<Filter<A>>,
    format: Format,
    late_to: Option<TopicName>,
    /// The name of the store of its timers, and whether they may go by the wall clock.
    timers: Option<(String, bool)>,
    /// What its algorithm gathers events in, where it does. It sets timers of its own then.
    gathers: Option<Gathers>,
    new_row: Option<NewRow<A>>,
    own_timers: Option<String>,
    /// The time after which a key is idle.
    idle_after: Option<Duration>,
    /// The period of its ticks.
    every: Option<Duration>,
}

impl<'t, A: Algorithm> StepBuilder<'t, A> {
    pub(super) fn new(group: Group<'t>, algorithm: A, stores: Vec<StoreSpec>, erase: Erase<A>) -> Self {
        Self {
            group,
            algorithm,
            erase,
            key_type: None,
            stores,
            filters: Vec::new(),
            format: Format::Json,
            late_to: None,
            timers: None,
            gathers: None,
            new_row: None,
            own_timers: None,
            idle_after: None,
            every: None,
        }
    }

    /// Sets the topic of records that come too late.
    pub(super) fn late_to(mut self, topic: Option<TopicName>) -> Self {
        self.late_to = topic;
        self
    }

    /// The same step as one that gathers events in windows or pairs. `timers`: the store of those that they set, where they do.
    pub(super) fn gathering(mut self, gathers: Gathers, timers: Option<String>, idle_after: Option<Duration>) -> Self {
        (self.gathers, self.own_timers, self.idle_after) = (Some(gathers), timers, idle_after);
        self
    }

    /// Sets the spelling of the keys of an aggregate or a join; the default is text. An `update` step reads keys as its
    /// table declares them by [`Table::key`](crate::flow::Table::key).
    pub const fn keys(mut self, key_type: KeyType) -> Self {
        self.key_type = Some(key_type);
        self
    }

    /// Gives the algorithm a store, to be opened by [`Context::store`](crate::flow::Context::store). Its values lie
    /// beside the partition of the record that writes them; in an `update` step they change with the row or not at all.
    pub fn with_store<V: Serialize + DeserializeOwned>(mut self, store: &Store<V>) -> Self {
        self.group.topology.check_map_keys::<V>(&format!("store {}", store.spec().name));
        self.stores.push(store.spec().clone());
        self
    }

    /// Gives the algorithm timers, to be set by [`Context::set_timer`](crate::flow::Context::set_timer) and handled by
    /// [`Algorithm::timer`]. They are kept in a store of this name beside the partition, with a changelog of its own, and go by
    /// event time: [`At::Event`](crate::flow::At::Event).
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tidegate::flow::{Algorithm, At, Context, Reject, Topology};
    ///
    /// #[derive(Deserialize)] enum Payment { Made { cents: i64 }, Confirmed }
    /// #[derive(Serialize)]   struct Unconfirmed { cents: i64 }
    ///
    /// struct Watch;
    ///
    /// impl Algorithm for Watch {
    ///     type Event = Payment;
    ///     type Row = Option<i64>;
    ///     type Notices = Option<Unconfirmed>;
    ///
    ///     fn apply(&self, payment: Payment, open: &mut Option<i64>, context: &mut Context<'_>) -> Result<Option<Unconfirmed>, Reject> {
    ///         match payment {
    ///             Payment::Made { cents } => {
    ///                 *open = Some(cents);
    ///                 context.set_timer("silent", At::Event(context.event_time_ms() + 600_000))?;
    ///             }
    ///             Payment::Confirmed => {
    ///                 *open = None;
    ///                 context.cancel_timer("silent")?;
    ///             }
    ///         }
    ///         Ok(None)
    ///     }
    ///
    ///     fn timer(&self, _: &str, open: &mut Option<i64>, _: &mut Context<'_>) -> Result<Option<Unconfirmed>, Reject> {
    ///         Ok(open.take().map(|cents| Unconfirmed { cents }))
    ///     }
    /// }
    ///
    /// let mut topology = Topology::new("watch");
    /// topology.source("payments").aggregate("open", Watch).with_timers("deadlines").to("unconfirmed");
    /// assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn with_timers(self, store: &str) -> Self {
        self.with_timers_by(store, false)
    }

    /// The same with timers that may go by the wall clock, too: [`At::Wall`](crate::flow::At::Wall). In steps without rows.
    pub fn with_wall_timers(self, store: &str) -> Self {
        self.with_timers_by(store, true)
    }

    /// Runs [`Algorithm::timer`] once a period of event time, with the name [`EVERY`](crate::flow::EVERY) and without a key: behind
    /// the record that takes the task's clock into another period, counted from 1970, UTC. A pause is one tick. In a `process`
    /// step with timers, beside which the clock is kept; what a tick looks at lies in the step's own stores. A step by key has a
    /// timer for each key in its place.
    pub const fn every(mut self, period: Duration) -> Self
    where
        A::Row: Ticking,
    {
        self.every = Some(period);
        self
    }

    fn with_timers_by(mut self, store: &str, goes_by_wall: bool) -> Self {
        if self.timers.is_some() {
            let error = format!("timers {store}: a step has its timers in one store; call with_timers() once");
            self.group.topology.errors.push(error);
        }
        self.timers = Some((store.into(), goes_by_wall));
        self
    }

    /// Makes the row of a record whose row is missing, in an `update` step: the algorithm gets what `new_row` says, and if it
    /// takes the record the row is inserted, with version 1. Fields for the key and the version are filled in by the engine.
    /// Where `Row` is an `Option`, a row that is still `None` behind the algorithm is not inserted.
    ///
    /// If another program inserts the row at the same time, the record is decided again, with the row that is there.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// #[derive(Serialize, Deserialize, Default)]
    /// struct Account {
    ///     balance: i64,
    /// }
    /// # struct Book;
    /// # impl Algorithm for Book {
    /// #     type Event = i64; type Row = Account; type Notices = Option<i64>;
    /// #     fn apply(&self, cents: i64, row: &mut Account, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
    /// #         row.balance += cents;
    /// #         Ok(Some(row.balance))
    /// #     }
    /// # }
    /// let mut topology = Topology::new("accounts");
    /// topology.source("payments").update("accounts", Book).insert_missing(|_| Account::default()).to("balances");
    /// # assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn insert_missing(mut self, new_row: impl Fn(&Context<'_>) -> A::Row + Send + Sync + 'static) -> Self {
        self.new_row = Some(Box::new(new_row));
        self
    }

    /// Sets the format of the notices; JSON where nothing is said.
    pub const fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Publishes only the notices for which `predicate` holds.
    pub fn filter(mut self, predicate: impl Fn(&Item<A>) -> bool + Send + Sync + 'static) -> Self {
        self.filters.push(Filter::Predicate(Box::new(predicate)));
        self
    }

    /// Publishes only the notices whose magnitude reaches the named threshold. `default` holds until the setting
    /// `pipeline.thresholds.<name>` says otherwise, at start or while running.
    pub fn at_least(
        mut self,
        name: &str,
        default: f64,
        magnitude: impl Fn(&Item<A>) -> f64 + Send + Sync + 'static,
    ) -> Self {
        let threshold = Threshold::new(name, default);
        self.group.topology.thresholds.push(threshold.clone());
        self.filters.push(Filter::AtLeast(threshold, Box::new(magnitude)));
        self
    }

    /// Ends the chain: the notices that pass are published in `topic`, under the record's key where they have none of their
    /// own.
    pub fn to(self, topic: &str) {
        match TopicName::parse(topic) {
            Ok(topic) => self.finish(Route::Topic(topic)),
            Err(error) => self.group.topology.errors.push(error),
        }
    }

    /// Ends the chain without a topic: the rows, or the stores, are the result.
    pub fn done(self) {
        self.finish(Route::Nowhere);
    }

    /// Ends the chain in several topics.
    pub(super) fn end_in(self, topics: &[&str], choose: Measure<A, Option<usize>>) {
        let named: Result<Vec<TopicName>, String> = topics.iter().map(|topic| TopicName::parse(topic)).collect();
        match named {
            Ok(topics) => self.finish(Route::Choice(topics, choose)),
            Err(error) => self.group.topology.errors.push(error),
        }
    }

    /// Notes a mistake, if there is one.
    pub(super) fn note(&mut self, mistake: Option<String>) {
        self.group.topology.errors.extend(mistake);
    }

    fn finish(self, route: Route<A>) {
        let Self {
            group,
            algorithm,
            erase,
            key_type: said,
            mut stores,
            filters,
            format,
            late_to,
            timers,
            gathers,
            new_row,
            own_timers,
            idle_after,
            every,
        } = self;
        let inserts = new_row.is_some();
        let mut destinations = route.topics();
        if let Some(topic) = &late_to {
            group.topology.errors.extend(destinations.contains(topic).then(|| {
                format!("topic {topic}: would take notices and records that are too late; give late_to() another topic")
            }));
            destinations.push(topic.clone());
        }
        let chain = Chain { algorithm, filters, route, format, new_row };
        let key_type = said.unwrap_or(KeyType::Text);
        let step = erase(chain, key_type, &mut *group.topology);
        if let Some(idle) = said.and_then(|said| idle_keys(said, &step, !group.tables.is_empty())) {
            group.topology.errors.push(idle);
        }
        let may_tick = matches!(&step, StepKind::Log(step) if step.key_type().is_none());
        group.topology.errors.extend(every.and_then(|every| no_ticks(every, may_tick, timers.is_some())));
        if let Some((timers, goes_by_wall)) = timers {
            group.topology.errors.extend(no_timers(&timers, goes_by_wall, &step, gathers.is_some()));
            stores.push(store_of(&timers, TimerKind { goes_by_wall, is_own: false }).spec().clone());
        }
        if inserts && matches!(step, StepKind::Log(_)) {
            let idle =
                "insert_missing(): only an update step has rows; an aggregate begins with the default of its value";
            group.topology.errors.push(idle.into());
        }
        let own = TimerKind { goes_by_wall: matches!(step, StepKind::Log(_)), is_own: true };
        stores.extend(own_timers.map(|timers| store_of(&timers, own).spec().clone()));
        let kept = group.tables.iter().map(|(table, kept)| (table.topic.clone(), Arc::clone(kept)));
        let tables: KeptTables = kept.collect();
        let step = match (step, every) {
            (StepKind::Log(step), Some(every)) => {
                let period_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
                StepKind::Log(Arc::new(Every { step, period_ms }))
            }
            (step, _) => step,
        };
        let step = match step {
            step if tables.is_empty() => step,
            StepKind::Log(step) => StepKind::Log(Arc::new(WithTables { tables, step, key_type })),
            StepKind::Rows(step) => {
                let key_type = step.table().table.key_type;
                StepKind::Rows(Arc::new(WithTables { tables, step, key_type }))
            }
        };
        let has_own_keys = <Item<A> as Announce>::MAY_HAVE_KEY;
        group.finish(
            step,
            Outlet { destinations, format, has_own_keys, rekeys: None, late_to, gathers, idle_after },
            stores,
        );
    }
}

/// Why there can be no ticks.
fn no_ticks(period: Duration, may_tick: bool, has_timers: bool) -> Option<String> {
    if !may_tick {
        return Some("every(): it runs a process step for its whole partition, and this step works by key; remove it, and give each key a timer by with_timers() and set_timer(), set once more in timer()".into());
    }
    if period.as_millis() == 0 {
        return Some("every(): its period is less than a millisecond; give it a longer one".into());
    }
    let fault = "every(): the clock of its ticks is kept with timers, and the step has none; add with_timers()";
    (!has_timers).then(|| fault.into())
}

/// Why there can be no timers in `step`.
fn no_timers(store: &str, goes_by_wall: bool, step: &StepKind, gathers: bool) -> Option<String> {
    match step {
        _ if gathers => Some(format!(
            "timers {store}: windows and pairs set their own and have no others; remove with_timers(), or use a step without them"
        )),
        StepKind::Rows(step) if goes_by_wall => Some(format!(
            "timers {store}: the step that updates {} commits through the database, where what fires between two records has no offset that its position could stand for; use with_timers() and event time, or keep timers by the wall clock in an aggregate, whose notices an update step reads",
            step.table().table.name
        )),
        _ => None,
    }
}

/// Why `keys()` has no effect where it was said of `step`.
fn idle_keys(said: KeyType, step: &StepKind, is_joined: bool) -> Option<String> {
    match step {
        StepKind::Rows(step) => {
            let TableSpec { table, .. } = step.table();
            (table.key_type != said).then(|| {
                format!(
                    "table {}: keys() says {said}, and an update step's keys are its table's, {}: name the type in Table::key()",
                    table.name, table.key_type
                )
            })
        }
        StepKind::Log(step) if step.key_type().is_none() && !is_joined => {
            Some("keys(): a process step without a join reads no keys; remove it".into())
        }
        StepKind::Log(_) => None,
    }
}
