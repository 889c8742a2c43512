//! Steps, their types erased: bytes, column values and stores in, effects out.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::codec::Format;
use crate::flow::effect::{Applied, Emission, GivenOut, Pane, Parts, Reject, RowChange, Stepped};
use crate::flow::events::ReadEvent;
use crate::flow::identity::is_ours;
use crate::flow::key::KeyType;
use crate::flow::net::in_net;
use crate::flow::notice::{Announce, Envelope};
use crate::flow::reading::Reading;
use crate::flow::record::{Record, TopicName};
use crate::flow::route::{Item, Measure, Route};
use crate::flow::row::{RowError, Value, from_values, is_none, keep_unchanged, to_values};
use crate::flow::store::Store;
use crate::flow::table::{ColumnSpec, TableSpec};
use crate::flow::threshold::Threshold;
use crate::flow::timer::{Timer, is_own, is_tick};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// The code that the engine runs for each record of a sub-topology with rows.
pub trait RowStep: Send + Sync {
    /// The table and the columns, in the order of the values given to [`RowStep::apply`].
    fn table(&self) -> &TableSpec;

    /// Runs the algorithm and the filter over one record and one row, whose values stand in the order of the columns. `None`
    /// where there is no row: a step whose table does not [insert](TableSpec::inserts) answers with a dead letter
    /// `missing-row`, of which the setting `pipeline.missing_row` makes what it says. A panic is caught by the engine and
    /// becomes the record's dead letter. State is read and written through the context.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the record's or the algorithm's fault.
    fn apply(&self, record: &Record<'_>, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject>;

    /// Keeps one record of a table topic that the step is joined with: in its store, and no row is touched.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the record's fault; where the step is joined with no table.
    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject> {
        let _ = (record, context);
        Err(Reject::dead_letter("no-table", "the step is joined with no table"))
    }

    /// Runs over a timer of a key that is due and the row of this key, as over a record.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the timer's or the algorithm's fault.
    fn timer(&self, timer: &Timer, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        let _ = (timer, row, context);
        Err(Reject::skip("no-timer"))
    }

    /// The window that a timer was set for, by its first millisecond and the one behind its last; `None` where it was set for none.
    /// What it changes in the stores is undone.
    fn window(&self, timer: &Timer, context: &mut Context<'_>) -> Option<(i64, i64)>;

    /// Drops what a timer was set for that has failed, in the stores: no row is touched.
    ///
    /// # Errors
    /// [`Reject`]: the stores stay as they are.
    fn give_up(&self, timer: &Timer, context: &mut Context<'_>) -> Result<(), Reject>;
}

/// The code that the engine runs for each record of a sub-topology without rows. It commits through the log.
pub trait LogStep: Send + Sync {
    /// The spelling of the key of each record; `None` where the step does not ask for a key.
    fn key_type(&self) -> Option<KeyType>;

    /// Whether it keeps a value under each record's key, in its first store.
    fn keeps_by_key(&self) -> bool {
        false
    }

    /// Runs over one record. State is read and written through the context; a reject undoes the writes. A panic is caught by
    /// the engine and becomes the record's dead letter.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the record's or the algorithm's fault.
    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject>;

    /// Runs over a timer of a key that is due, as over a record.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the timer's or the algorithm's fault.
    fn timer(&self, _timer: &Timer, _context: &mut Context<'_>) -> Result<Stepped, Reject> {
        Err(Reject::skip("no-timer"))
    }

    /// The period of its ticks, in milliseconds; `None` where it has none.
    fn period_ms(&self) -> Option<i64> {
        None
    }
}

/// The code of a record whose row is missing.
pub(crate) const MISSING_ROW: &str = "missing-row";

/// Makes the row of a record whose row is missing.
pub(crate) type NewRow<A> = Box<dyn Fn(&Context<'_>) -> <A as Algorithm>::Row + Send + Sync>;

/// Selects the notices that are published.
pub(crate) enum Filter<A: Algorithm> {
    /// A predicate of the notice alone.
    Predicate(Measure<A, bool>),
    /// A magnitude that must reach a threshold which may change while running.
    AtLeast(Threshold, Measure<A, f64>),
}

/// An algorithm, the filters behind it and the topics behind those.
pub(crate) struct Chain<A: Algorithm> {
    pub(crate) algorithm: A,
    pub(crate) filters: Vec<Filter<A>>,
    pub(crate) route: Route<A>,
    /// The format of the notices.
    pub(crate) format: Format,
    /// The row of a record whose row is missing, where the step makes one.
    pub(crate) new_row: Option<NewRow<A>>,
}

/// [`RowStep`]: a table's row is read and written back.
pub(crate) struct Update<A: Algorithm, S> {
    pub(crate) chain: Chain<A>,
    pub(crate) events: S,
    pub(crate) table: TableSpec,
}

/// [`LogStep`]: the value under the record's key is read and written back.
pub(crate) struct Aggregate<A: Algorithm, S> {
    pub(crate) chain: Chain<A>,
    pub(crate) events: S,
    pub(crate) store: Store<A::Row>,
    pub(crate) key_type: KeyType,
    /// Where records go that come too late for their windows, where that is said.
    pub(crate) late_to: Option<LateTo>,
}

/// The topic of records that come too late for their windows.
pub(crate) struct LateTo {
    pub(crate) topic: TopicName,
    /// The media type of the source's format.
    pub(crate) content_type: &'static str,
}

/// The row of an algorithm that has none.
#[diagnostic::on_unimplemented(
    message = "a `process` step keeps nothing, and this algorithm has a row of the type `{Self}`",
    label = "this algorithm's `Row` is not `()`",
    note = "say `type Row = ();`, or keep the value: `aggregate` in a store beside the partition, `update` in a table"
)]
pub trait NoRow: Default {}

impl NoRow for () {}

/// [`LogStep`]: an algorithm that keeps nothing under the record's key.
pub(crate) struct Process<A: Algorithm<Row: NoRow>, S> {
    pub(crate) chain: Chain<A>,
    pub(crate) events: S,
}

/// [`LogStep`]: sends each record on under the keys that are made of its event: none, one or several.
pub(crate) struct ChangeKey<E, F> {
    pub(crate) keys: F,
    pub(crate) reading: Reading,
    pub(crate) event: PhantomData<fn() -> E>,
}

/// [`LogStep`]: sends each record on as it is, to each chain of its source.
pub(crate) struct CopyOn;

impl<A: Algorithm, S: ReadEvent<A::Event>> RowStep for Update<A, S> {
    fn table(&self) -> &TableSpec {
        &self.table
    }

    fn apply(&self, record: &Record<'_>, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        self.check(row, context)?;
        let event = self.events.read(record, context)?;
        self.change(row, context, |state, context| self.chain.algorithm.apply(event, state, context))
    }

    fn timer(&self, timer: &Timer, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        no_own(timer)?;
        self.check(row, context)?;
        timer.runs_in(context);
        self.change(row, context, |state, context| self.chain.algorithm.timer(&timer.name, state, context))
    }

    fn window(&self, _: &Timer, _: &mut Context<'_>) -> Option<(i64, i64)> {
        None
    }

    fn give_up(&self, _: &Timer, _: &mut Context<'_>) -> Result<(), Reject> {
        Ok(())
    }
}

impl<A: Algorithm, S> Update<A, S> {
    /// Refuses a row that is missing and not made.
    pub(crate) fn check(&self, row: Option<&[Value]>, context: &Context<'_>) -> Result<(), Reject> {
        if row.is_some() || self.table.inserts {
            return Ok(());
        }
        Err(Reject::dead_letter(MISSING_ROW, format!("no row with the id {}", context.key().quoted())))
    }

    /// Runs the algorithm over a row, or over the one that is made where it is missing.
    pub(crate) fn change<N: IntoIterator<Item = Item<A>>>(
        &self,
        row: Option<&[Value]>,
        context: &mut Context<'_>,
        run: impl FnOnce(&mut A::Row, &mut Context<'_>) -> Result<N, Reject>,
    ) -> Result<Applied, Reject> {
        let mut state: A::Row = match row {
            Some(row) => from_values(row).map_err(|error| unfit(&error))?,
            None => self.new_row(context)?,
        };
        // The row as the struct writes it, so that a column spelt otherwise by the database does not count as changed.
        let before = self.values(&state)?;
        let notices = run(&mut state, context)?;
        let row = match (row.zip(before), self.values(&state)?) {
            (Some((row, before)), Some(mut after)) if before != after => {
                keep_unchanged(row, &before, &mut after);
                RowChange::Set(after)
            }
            (None, Some(new)) => RowChange::Set(new),
            (Some(_), None) => RowChange::Deleted,
            (Some(_), Some(_)) | (None, None) => RowChange::Kept,
        };
        let mut applied = Applied { row, ..Applied::default() };
        for notice in notices {
            self.chain.decide(notice, &mut applied)?;
        }
        Ok(applied)
    }

    /// The values of the columns; `None` where the row is an `Option` that is `None`.
    fn values(&self, row: &A::Row) -> Result<Option<Vec<Value>>, Reject> {
        if is_none(row) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(self.table.columns.len());
        to_values(row, &self.table.columns, &mut values).map_err(|error| unfit(&error))?;
        Ok(Some(values))
    }

    /// The row of a record whose row is missing. Key and version, where the struct has them, are the engine's: the key as it
    /// is, the version 0.
    fn new_row(&self, context: &Context<'_>) -> Result<A::Row, Reject> {
        let Some(new_row) = &self.chain.new_row else {
            return Err(Reject::dead_letter(MISSING_ROW, format!("no row with the id {}", context.key().quoted())));
        };
        let row = new_row(context);
        let TableSpec { table, columns, .. } = &self.table;
        let own = |ColumnSpec { name, accepts, .. }: &ColumnSpec| {
            let version = (table.version_column.as_ref() == Some(name)).then_some(Value::I64(0));
            let number = table.key_number(name);
            version.or_else(|| number.map(|number| context.key().column(number, accepts.first().copied())))
        };
        if columns.iter().all(|column| own(column).is_none()) {
            return Ok(row);
        }
        let Some(mut values) = self.values(&row)? else { return Ok(row) };
        for (value, column) in values.iter_mut().zip(columns) {
            if let Some(own) = own(column) {
                *value = own;
            }
        }
        from_values(&values).map_err(|error| unfit(&error))
    }
}

impl<A: Algorithm<Row: Default>, S: ReadEvent<A::Event>> LogStep for Aggregate<A, S> {
    fn key_type(&self) -> Option<KeyType> {
        Some(self.key_type)
    }

    fn keeps_by_key(&self) -> bool {
        true
    }

    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        let event = self.events.read(record, context)?;
        let key = &*self.key_type.kept_under(record.key.unwrap_or_default(), context.key);
        let mut state = context.store(&self.store)?.get(key)?.unwrap_or_default();
        if let Some(late_to) = &self.late_to
            && self.chain.algorithm.is_too_late(&event, &state, context)
        {
            return late_to.send(record);
        }
        let notices = self.chain.algorithm.apply(event, &mut state, context)?;
        let stepped = self.chain.announce(notices)?;
        context.store(&self.store)?.put(key, &state)?;
        Ok(stepped)
    }

    fn timer(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        no_tick(timer)?;
        let key = &*self.key_type.kept_under(&timer.key, context.key);
        let mut state = context.store(&self.store)?.get(key)?.unwrap_or_default();
        timer.runs_in(context);
        let notices = self.chain.algorithm.timer(&timer.name, &mut state, context)?;
        let stepped = self.chain.announce(notices)?;
        context.store(&self.store)?.put(key, &state)?;
        Ok(stepped)
    }
}

impl LateTo {
    /// Publishes the record as it came, but for the headers that have the names of ours.
    pub(crate) fn send(&self, record: &Record<'_>) -> Result<Stepped, Reject> {
        let headers = record.headers.iter().filter(|header| !is_ours(&header.name)).cloned().collect();
        let envelope = Envelope { headers, ..Envelope::default() };
        if let Some(fault) = envelope.fault() {
            return Err(Reject::dead_letter("bad-notice", fault));
        }
        let (destination, value) = (self.topic.clone(), record.value.map(<[u8]>::to_vec));
        let (envelope, content_type) = (Some(Box::new(envelope)), self.content_type);
        let emission = Emission { destination, value, envelope, content_type, threshold: None };
        Ok(Stepped { emissions: vec![emission], is_late: true, ..Stepped::default() })
    }
}

impl<A: Algorithm<Row: NoRow>, S: ReadEvent<A::Event>> LogStep for Process<A, S> {
    fn key_type(&self) -> Option<KeyType> {
        None
    }

    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        let event = self.events.read(record, context)?;
        let notices = self.chain.algorithm.apply(event, &mut A::Row::default(), context)?;
        self.chain.announce(notices)
    }

    fn timer(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        no_own(timer)?;
        timer.runs_in(context);
        let notices = self.chain.algorithm.timer(&timer.name, &mut A::Row::default(), context)?;
        self.chain.announce(notices)
    }
}

impl<E, I, F> LogStep for ChangeKey<E, F>
where
    E: DeserializeOwned,
    I: IntoIterator<Item: ToString>,
    F: Fn(&E) -> I + Send + Sync,
{
    fn key_type(&self) -> Option<KeyType> {
        None
    }

    fn apply(&self, record: &Record<'_>, _: &mut Context<'_>) -> Result<Stepped, Reject> {
        let event = self.reading.decode::<E>(record.value)?;
        let sent_on = (self.keys)(&event).into_iter().map(|key| Some(key.to_string().into_bytes())).collect();
        Ok(Stepped { sent_on, ..Stepped::default() })
    }
}

impl LogStep for CopyOn {
    fn key_type(&self) -> Option<KeyType> {
        None
    }

    fn apply(&self, record: &Record<'_>, _: &mut Context<'_>) -> Result<Stepped, Reject> {
        Ok(Stepped { sent_on: [record.key.map(<[u8]>::to_vec)].into_iter().collect(), ..Stepped::default() })
    }
}

impl<A: Algorithm> Chain<A> {
    fn announce(&self, notices: A::Notices) -> Result<Stepped, Reject> {
        let given_out = match A::parts(notices) {
            Parts::Whole(notices) => return Ok(Stepped { emissions: self.told(notices)?, ..Stepped::default() }),
            Parts::Panes(given_out) => given_out,
        };
        let pane = |GivenOut { start_ms, end_ms, at_ms, notices }: GivenOut<Item<A>>| {
            let mut told = notices.and_then(|notices| in_net(|| self.told(notices)));
            for emission in told.iter_mut().flatten() {
                emission.stamp(at_ms);
            }
            Pane { start_ms, end_ms, told }
        };
        Ok(Stepped { panes: given_out.into_iter().map(pane).collect(), ..Stepped::default() })
    }

    fn told(&self, notices: impl IntoIterator<Item = Item<A>>) -> Result<Vec<Emission>, Reject> {
        let mut applied = Applied::default();
        for notice in notices {
            self.decide(notice, &mut applied)?;
        }
        Ok(applied.emissions)
    }

    fn decide(&self, notice: Item<A>, applied: &mut Applied) -> Result<(), Reject> {
        let mut passes = true;
        let mut threshold = None;
        for filter in &self.filters {
            match filter {
                Filter::Predicate(predicate) => passes &= predicate(&notice),
                Filter::AtLeast(limit, magnitude) => {
                    let magnitude = magnitude(&notice);
                    if magnitude.is_nan() {
                        return Err(Reject::dead_letter(
                            "not-finite",
                            format!("the magnitude for {} is NaN", limit.name()),
                        ));
                    }
                    let limit = limit.value();
                    threshold = Some(limit);
                    applied.threshold = threshold;
                    applied.magnitude = Some(applied.magnitude.map_or(magnitude, |m| m.max(magnitude)));
                    passes &= magnitude >= limit;
                }
            }
        }
        // Encoded even when it is not published: a notice that its format cannot express is found at any threshold.
        let destination = if passes { self.route.of(&notice).cloned() } else { None };
        let value = notice.value().map(|value| self.format.encode(value)).transpose()?;
        let envelope = notice.into_envelope();
        if let Some(fault) = envelope.as_ref().and_then(|envelope| envelope.fault()) {
            return Err(Reject::dead_letter("bad-notice", fault));
        }
        if let Some(destination) = destination {
            let content_type = self.format.content_type();
            applied.emissions.push(Emission { destination, value, envelope, content_type, threshold });
        }
        Ok(())
    }
}

/// Skips a timer of a step's own, of windows or pairs or a tick, that an earlier release has left.
fn no_own(timer: &Timer) -> Result<(), Reject> {
    if is_own(&timer.name) { Err(Reject::skip("no-timer")) } else { Ok(()) }
}

/// Skips a tick that a release with [`Every`](crate::flow::every::Every) has left.
fn no_tick(timer: &Timer) -> Result<(), Reject> {
    if is_tick(&timer.name) { Err(Reject::skip("no-timer")) } else { Ok(()) }
}

fn unfit(error: &RowError) -> Reject {
    match error {
        RowError::NotFinite(_) => Reject::dead_letter("not-finite", error.to_string()),
        RowError::Unfit(_) => Reject::dead_letter("bad-row", error.to_string()),
    }
}
