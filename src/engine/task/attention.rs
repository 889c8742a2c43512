//! Whether a task keeps up with its inputs: only while it does can a key without records be idle.

use crate::flow::record::Timestamp;
use std::time::Duration;

/// What is known of a task's attention to its inputs, by the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attention {
    /// Since when it keeps up. A break counts where it was as long as a key may be without records.
    since: Option<Timestamp>,
    /// Since when it does not, at the moment.
    held: Option<Timestamp>,
}

impl Attention {
    /// The task does not run: it begins anew.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// One more look. `keeps_up`: whatever has come is handled, as far as the task knows.
    pub(crate) fn look(&mut self, keeps_up: bool, now: Timestamp, idle_after: Duration) {
        if !keeps_up {
            self.held.get_or_insert(now);
            return;
        }
        if self.held.take().is_some_and(|held| after(held, idle_after) <= now) {
            self.since = None;
        }
        self.since.get_or_insert(now);
    }

    /// The time from which on a key may be idle; `None` while the task does not keep up.
    pub(crate) fn idle_from(&self, idle_after: Duration) -> Option<Timestamp> {
        self.since.filter(|_| self.held.is_none()).map(|since| after(since, idle_after))
    }
}

fn after(at: Timestamp, time: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_idle_before_the_task_has_kept_up_for_so_long_and_a_long_break_begins_anew() {
        let (mut attention, idle_after) = (Attention::default(), Duration::from_millis(100));
        let mut look = |keeps_up, at| {
            attention.look(keeps_up, Timestamp(at), idle_after);
            attention.idle_from(idle_after).map(|from| from.0)
        };
        assert_eq!([look(false, 0), look(true, 10), look(true, 200)], [None, Some(110), Some(110)]);
        // A burst of records is no break.
        assert_eq!([look(false, 210), look(false, 300), look(true, 309)], [None, None, Some(110)]);
        // Held back for ten times as long.
        assert_eq!([look(false, 400), look(false, 1_400), look(true, 1_401)], [None, None, Some(1_501)]);
        attention.end();
        assert_eq!(attention.idle_from(idle_after), None);
    }
}
