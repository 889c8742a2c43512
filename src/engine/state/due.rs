//! The timers of a task that its clock, or the wall clock, has come to.

use crate::engine::state::access::{Access, Trouble};
use crate::engine::state::kept::{Earliest, Timers};
use crate::engine::state::stores::Keyed;
use crate::flow::record::Timestamp;
use crate::flow::store::{StateAccess, Unavailable};
use crate::flow::timer::{Clock, Timer, first_at};
use crate::ports::Fault;

impl Timers {
    const fn by(&mut self, clock: Clock) -> &mut Earliest {
        match clock {
            Clock::Event => &mut self.event,
            Clock::Wall => &mut self.wall,
        }
    }
}

impl Keyed {
    /// Whether the task's step has timers.
    pub(crate) fn has_timers(&self) -> bool {
        self.kept.iter().any(|kept| kept.timers.is_some())
    }

    /// The task's clock.
    pub(crate) const fn clock(&self) -> Timestamp {
        self.stream_time
    }

    /// Whether a timer may be due by the task's clock: not where no store has timers, nor before the earliest that is known.
    pub(crate) fn may_be_due(&self) -> bool {
        self.kept.iter().filter_map(|kept| kept.timers.as_ref()).any(|timers| timers.event.from <= self.stream_time)
    }

    /// The timers of `clock` that are due at `now`, in the order of time, key and name; at most `count_max`.
    ///
    /// # Errors
    /// The store cannot be read, or holds what is no timer.
    pub(crate) fn due(&mut self, clock: Clock, now: Timestamp, count_max: usize) -> Result<Vec<Timer>, Fault> {
        let (time, mut due, mut is_read) = (self.stream_time, Vec::new(), true);
        for kept in &mut self.kept {
            let Some(timers) = &mut kept.timers else { continue };
            let known = timers.by(clock);
            if known.from > now {
                continue;
            }
            let mut earliest = Timestamp(i64::MAX);
            kept.cache.scan(&first_at(clock, known.from.0), Some(&clock.behind_all()), time, &mut |entry, _| {
                let Some(timer) = Timer::read(entry) else {
                    is_read = false;
                    return false;
                };
                earliest = earliest.min(Timestamp(timer.at));
                let is_taken = timer.at <= now.0 && due.len() < count_max;
                due.extend(is_taken.then_some(timer));
                is_taken
            })?;
            if !is_read {
                return Err(Fault::corrupt(format!("store {}: holds what is no timer", kept.cache.spec().name)));
            }
            *known = Earliest { from: earliest, set: Timestamp(i64::MAX) };
        }
        Ok(due)
    }

    /// Whether a timer for that time or an earlier one was set since [`Keyed::due`] was asked.
    pub(crate) fn was_set_before(&mut self, clock: Clock, at: Timestamp) -> bool {
        self.kept.iter_mut().filter_map(|kept| kept.timers.as_mut()).any(|timers| timers.by(clock).set <= at)
    }

    /// No timer goes by the wall clock before; `None` where there are no timers.
    pub(crate) fn wall_from(&self) -> Option<Timestamp> {
        self.kept.iter().filter_map(|kept| kept.timers).map(|timers| timers.wall.from).min()
    }
}

impl Access<'_> {
    /// Takes a timer out of its store; false where it is not there any more.
    pub(crate) fn take_timer(&mut self, timer: &Timer) -> Result<bool, Unavailable> {
        let Some((number, _)) = self.timers() else { return Ok(false) };
        let (entry, mut is_there) = (timer.by_time(), false);
        self.get(number, &entry, &mut |found| is_there = found.is_some())?;
        if is_there {
            self.put(number, &entry, None);
            self.put(number, &timer.by_key(), None);
        }
        // Left in its store it would fire once more.
        if let Some(reject) = self.refusal() {
            let fault = Fault::retry(format!("a timer cannot be taken out of its store: {}", reject.message()));
            self.trouble.get_or_insert(Trouble::Fault(fault));
            return Err(Unavailable);
        }
        Ok(is_there)
    }
}
