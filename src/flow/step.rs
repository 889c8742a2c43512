//! A step with rows, its types erased: bytes and column values in, effects out.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::codec;
use crate::flow::effect::{Applied, Emission, Reject};
use crate::flow::record::TopicName;
use crate::flow::row::{RowError, Value, from_values, to_values};
use crate::flow::table::TableSpec;
use crate::flow::threshold::Threshold;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the engine runs for each record of a sub-topology that reads and writes rows.
pub trait RowStep: Send + Sync {
    /// The table and the columns, in the order of the values given to [`RowStep::apply`].
    fn table(&self) -> &TableSpec;

    /// Runs the algorithm and the filter over one record and one row, whose values stand in the order of the columns.
    ///
    /// # Errors
    /// [`Reject`] for anything that is the record's or the algorithm's fault, panics included.
    fn apply(&self, value: Option<&[u8]>, row: &[Value], context: &mut Context<'_>) -> Result<Applied, Reject>;
}

/// The item that a filter sees.
pub(crate) type Item<A> = <<A as Algorithm>::Notices as IntoIterator>::Item;

/// What is asked about a notice.
type Measure<A, T> = Box<dyn Fn(&Item<A>) -> T + Send + Sync>;

/// Which notices are announced.
pub(crate) enum Filter<A: Algorithm> {
    /// A predicate of the notice alone.
    Predicate(Measure<A, bool>),
    /// A magnitude that must reach a threshold which may change while running.
    AtLeast(Threshold, Measure<A, f64>),
}

/// [`RowStep`] for one algorithm, its filters and its destination.
pub(crate) struct Update<A: Algorithm> {
    pub(crate) algorithm: A,
    pub(crate) table: TableSpec,
    pub(crate) filters: Vec<Filter<A>>,
    pub(crate) destination: Option<TopicName>,
}

impl<A: Algorithm> RowStep for Update<A> {
    fn table(&self) -> &TableSpec {
        &self.table
    }

    fn apply(&self, value: Option<&[u8]>, row: &[Value], context: &mut Context<'_>) -> Result<Applied, Reject> {
        let event = codec::decode::<A::Event>(value)?;
        let mut state: A::Row = from_values(row).map_err(|error| unfit(&error))?;
        // The row as the struct writes it, so that a column spelt otherwise by the database does not count as changed.
        let mut before = Vec::with_capacity(row.len());
        to_values(&state, &mut before).map_err(|error| unfit(&error))?;
        let notices = catch_unwind(AssertUnwindSafe(|| self.algorithm.apply(event, &mut state, context)))
            .unwrap_or_else(|panic| Err(Reject::dead_letter("panic", panic_message(&*panic))))?;
        let mut after = Vec::with_capacity(row.len());
        to_values(&state, &mut after).map_err(|error| unfit(&error))?;
        let mut applied = Applied { row: (before != after).then_some(after), ..Applied::default() };
        for notice in notices {
            self.decide(&notice, &mut applied)?;
        }
        Ok(applied)
    }
}

impl<A: Algorithm> Update<A> {
    fn decide(&self, notice: &Item<A>, applied: &mut Applied) -> Result<(), Reject> {
        let mut passes = true;
        let mut threshold = None;
        for filter in &self.filters {
            match filter {
                Filter::Predicate(predicate) => passes &= predicate(notice),
                Filter::AtLeast(limit, magnitude) => {
                    let magnitude = magnitude(notice);
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
        // Encoded even when it is not announced, so that a notice which JSON cannot say is found at any threshold.
        let value = codec::encode(notice)?;
        if let (true, Some(destination)) = (passes, &self.destination) {
            applied.emissions.push(Emission { destination: destination.clone(), value, threshold });
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

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the algorithm panicked: {}", text.unwrap_or("no message"))
}
