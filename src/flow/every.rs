//! Punctuation: a step whose algorithm is run for its whole partition, once a period of event time.
//!
//! A tick is a timer without a key. The engine sets it behind each record of a stream where none is set, whatever became of the record:
//! for the next whole period of the task's clock. So a pause is one tick, however many periods have passed.

use crate::flow::algorithm::Context;
use crate::flow::effect::{Reject, Stepped};
use crate::flow::key::KeyType;
use crate::flow::record::Record;
use crate::flow::step::LogStep;
use crate::flow::timer::{Timer, is_tick};
use std::sync::Arc;

/// The name with which [`Algorithm::timer`](crate::flow::Algorithm::timer) is run once a period.
pub const EVERY: &str = "every";

/// The row of an algorithm whose step can tick.
#[diagnostic::on_unimplemented(
    message = "`every` runs a `process` step once for its whole partition, and this step has a row of the type `{Self}` for each key",
    label = "this algorithm's `Row` is not `()`",
    note = "remove `every`, and give each key a timer: `with_timers`, `Context::set_timer` in `apply`, and once more in `timer`; or let a `process` step with a store of its own tick"
)]
pub trait Ticking {}

impl Ticking for () {}

/// [`LogStep`]: another one with ticks.
pub(crate) struct Every {
    pub(crate) step: Arc<dyn LogStep>,
    pub(crate) period_ms: i64,
}

impl LogStep for Every {
    fn key_type(&self) -> Option<KeyType> {
        self.step.key_type()
    }

    fn keeps_by_key(&self) -> bool {
        self.step.keeps_by_key()
    }

    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        self.step.apply(record, context)
    }

    fn timer(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        if !is_tick(&timer.name) {
            return self.step.timer(timer, context);
        }
        self.step.timer(&Timer { name: EVERY.into(), ..timer.clone() }, context)
    }

    fn period_ms(&self) -> Option<i64> {
        Some(self.period_ms)
    }
}
