//! The timers of a task that its clock has come to.

use crate::engine::state::access::Access;
use crate::engine::state::kept::Timers;
use crate::engine::state::stores::Keyed;
use crate::flow::record::Timestamp;
use crate::flow::store::{StateAccess, Unavailable};
use crate::flow::timer::{BEHIND_ALL, Timer, first_at};
use crate::ports::Fault;

impl Keyed {
    /// The timers that are due, in the order of time, key and name; at most `count_max`.
    ///
    /// # Errors
    /// The store cannot be read, or holds what is no timer.
    pub(crate) fn due(&mut self, count_max: usize) -> Result<Vec<Timer>, Fault> {
        let (clock, mut due, mut is_read) = (self.stream_time, Vec::new(), true);
        for kept in &mut self.kept {
            let Some(Timers { from, .. }) = kept.timers.filter(|timers| timers.from <= clock) else { continue };
            let mut earliest = Timestamp(i64::MAX);
            kept.cache.scan(&first_at(from.0), Some(BEHIND_ALL), clock, &mut |entry, _| {
                let Some(timer) = Timer::read(entry) else {
                    is_read = false;
                    return false;
                };
                earliest = earliest.min(Timestamp(timer.at));
                let is_taken = timer.at <= clock.0 && due.len() < count_max;
                due.extend(is_taken.then_some(timer));
                is_taken
            })?;
            if !is_read {
                return Err(Fault::corrupt(format!("store {}: holds what is no timer", kept.cache.spec().name)));
            }
            kept.timers = Some(Timers { from: earliest, set: Timestamp(i64::MAX) });
        }
        Ok(due)
    }

    /// Whether a timer that is due was set since [`Keyed::due`] was asked.
    pub(crate) fn was_due_set(&self) -> bool {
        self.kept.iter().filter_map(|kept| kept.timers).any(|timers| timers.set <= self.stream_time)
    }
}

impl Access<'_> {
    /// Takes a timer out of its store; false where it is not there any more.
    pub(crate) fn take_timer(&mut self, timer: &Timer) -> Result<bool, Unavailable> {
        let (number, entry, mut is_there) = (self.timers()?, timer.by_time(), false);
        self.get(number, &entry, &mut |found| is_there = found.is_some())?;
        if is_there {
            self.put(number, &entry, None);
            self.put(number, &timer.by_key(), None);
        }
        Ok(is_there)
    }
}
