//! Counts the algorithm's runs, so that "none repeated" is a figure and not a promise.

use crate::flow::Context;
use crate::flow::effect::{Applied, Reject};
use crate::flow::record::{Record, TopicName};
use crate::flow::row::Value;
use crate::flow::step::RowStep;
use crate::flow::table::TableSpec;
use crate::flow::timer::Timer;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs over all workers that the demo ever had.
#[derive(Debug, Default)]
pub(super) struct Runs {
    total: AtomicU64,
    repeated: AtomicU64,
    /// The last offset run, by topic and partition: records of a partition come in offset order.
    last: Mutex<HashMap<TopicName, BTreeMap<i32, i64>>>,
}

impl Runs {
    /// Runs of the algorithm.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Runs for a record that it had run for before, whatever had become of the earlier run.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    fn note(&self, context: &Context<'_>) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (partition, offset) = (context.partition(), context.offset());
        let Some(partitions) = last.get_mut(context.topic) else {
            last.insert(context.topic.clone(), BTreeMap::from([(partition, offset)]));
            return;
        };
        let last = partitions.entry(partition).or_insert(-1);
        if offset <= *last {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
        *last = offset.max(*last);
    }
}

/// A step whose runs are counted.
pub(super) struct Counted {
    pub(super) step: Arc<dyn RowStep>,
    pub(super) runs: Arc<Runs>,
}

impl RowStep for Counted {
    fn table(&self) -> &TableSpec {
        self.step.table()
    }

    fn apply(&self, record: &Record<'_>, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        self.runs.note(context);
        self.step.apply(record, row, context)
    }

    /// Runs nothing of the algorithm's.
    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject> {
        self.step.keep(record, context)
    }

    fn timer(&self, timer: &Timer, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        self.step.timer(timer, row, context)
    }

    fn window(&self, timer: &Timer, context: &mut Context<'_>) -> Option<(i64, i64)> {
        self.step.window(timer, context)
    }

    fn give_up(&self, timer: &Timer, context: &mut Context<'_>) -> Result<(), Reject> {
        self.step.give_up(timer, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::Offset;

    #[test]
    fn a_record_run_twice_is_counted_as_repeated() {
        let (runs, topic, key) = (Runs::default(), TopicName::parse("t").unwrap(), Key::from(1));
        for (partition, offset) in [(0, 0), (0, 1), (1, 0), (0, 1), (0, 2)] {
            let mut context = Context::example(&topic, &key);
            context.partition.0 = partition;
            context.offset = Offset(offset);
            runs.note(&context);
        }
        assert_eq!((runs.total(), runs.repeated()), (5, 1));
    }
}
