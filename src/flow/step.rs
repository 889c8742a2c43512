//! Steps, their types erased: bytes, column values and stores in, effects out.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::codec::Format;
use crate::flow::effect::{Applied, Emission, Reject, Stepped};
use crate::flow::events::ReadEvent;
use crate::flow::key::KeyType;
use crate::flow::notice::Announce;
use crate::flow::reading::Reading;
use crate::flow::record::Record;
use crate::flow::route::{Item, Measure, Route};
use crate::flow::row::{RowError, Value, from_values, keep_unchanged, to_values};
use crate::flow::store::Store;
use crate::flow::table::TableSpec;
use crate::flow::threshold::Threshold;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// The code that the engine runs for each record of a sub-topology with rows.
pub trait RowStep: Send + Sync {
    /// The table and the columns, in the order of the values given to [`RowStep::apply`].
    fn table(&self) -> &TableSpec;

    /// Runs the algorithm and the filter over one record and one row, whose values stand in the order of the columns. A
    /// panic is caught by the engine and becomes the record's dead letter.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the record's or the algorithm's fault.
    fn apply(&self, value: Option<&[u8]>, row: &[Value], context: &mut Context<'_>) -> Result<Applied, Reject>;

    /// Runs over a timer of a key that is due and the row of this key, as over a record.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the timer's or the algorithm's fault.
    fn timer(&self, _name: &str, _row: &[Value], _context: &mut Context<'_>) -> Result<Applied, Reject> {
        Err(Reject::skip("no-timer"))
    }
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
    fn timer(&self, _key: &[u8], _name: &str, _context: &mut Context<'_>) -> Result<Stepped, Reject> {
        Err(Reject::skip("no-timer"))
    }
}

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
}

/// [`RowStep`]: a table's row is read and written back.
pub(crate) struct Update<A: Algorithm> {
    pub(crate) chain: Chain<A>,
    pub(crate) reading: Reading,
    pub(crate) table: TableSpec,
}

/// [`LogStep`]: the value under the record's key is read and written back.
pub(crate) struct Aggregate<A: Algorithm, S> {
    pub(crate) chain: Chain<A>,
    pub(crate) events: S,
    pub(crate) store: Store<A::Row>,
    pub(crate) key_type: KeyType,
}

/// [`LogStep`]: an algorithm that keeps nothing under the record's key.
pub(crate) struct Process<A: Algorithm<Row = ()>, S> {
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

impl<A: Algorithm<Event: DeserializeOwned>> RowStep for Update<A> {
    fn table(&self) -> &TableSpec {
        &self.table
    }

    fn apply(&self, value: Option<&[u8]>, row: &[Value], context: &mut Context<'_>) -> Result<Applied, Reject> {
        let event = self.reading.decode::<A::Event>(value)?;
        self.change(row, |state| self.chain.algorithm.apply(event, state, context))
    }

    fn timer(&self, name: &str, row: &[Value], context: &mut Context<'_>) -> Result<Applied, Reject> {
        self.change(row, |state| self.chain.algorithm.timer(name, state, context))
    }
}

impl<A: Algorithm> Update<A> {
    /// Runs the algorithm over a row.
    fn change(
        &self,
        row: &[Value],
        run: impl FnOnce(&mut A::Row) -> Result<A::Notices, Reject>,
    ) -> Result<Applied, Reject> {
        let mut state: A::Row = from_values(row).map_err(|error| unfit(&error))?;
        let columns = &self.table.columns;
        // The row as the struct writes it, so that a column spelt otherwise by the database does not count as changed.
        let mut before = Vec::with_capacity(row.len());
        to_values(&state, columns, &mut before).map_err(|error| unfit(&error))?;
        let notices = run(&mut state)?;
        let mut after = Vec::with_capacity(row.len());
        to_values(&state, columns, &mut after).map_err(|error| unfit(&error))?;
        let mut applied = Applied::default();
        if before != after {
            keep_unchanged(row, &before, &mut after);
            applied.row = Some(after);
        }
        for notice in notices {
            self.chain.decide(notice, &mut applied)?;
        }
        Ok(applied)
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
        let notices = self.chain.algorithm.apply(event, &mut state, context)?;
        let stepped = self.chain.announce(notices)?;
        context.store(&self.store)?.put(key, &state)?;
        Ok(stepped)
    }

    fn timer(&self, key: &[u8], name: &str, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        let key = &*self.key_type.kept_under(key, context.key);
        let mut state = context.store(&self.store)?.get(key)?.unwrap_or_default();
        let notices = self.chain.algorithm.timer(name, &mut state, context)?;
        let stepped = self.chain.announce(notices)?;
        context.store(&self.store)?.put(key, &state)?;
        Ok(stepped)
    }
}

impl<A: Algorithm<Row = ()>, S: ReadEvent<A::Event>> LogStep for Process<A, S> {
    fn key_type(&self) -> Option<KeyType> {
        None
    }

    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        let event = self.events.read(record, context)?;
        let notices = self.chain.algorithm.apply(event, &mut (), context)?;
        self.chain.announce(notices)
    }

    fn timer(&self, _: &[u8], name: &str, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        let notices = self.chain.algorithm.timer(name, &mut (), context)?;
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
        let mut applied = Applied::default();
        for notice in notices {
            self.decide(notice, &mut applied)?;
        }
        Ok(Stepped { emissions: applied.emissions, ..Stepped::default() })
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

fn unfit(error: &RowError) -> Reject {
    match error {
        RowError::NotFinite(_) => Reject::dead_letter("not-finite", error.to_string()),
        RowError::Unfit(_) => Reject::dead_letter("bad-row", error.to_string()),
    }
}
