//! Windows that no record of their key closes: timers do, for a key without records, or by the clock of the partition.

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::timer::At;
use crate::flow::window::kept::{Idle, Windows, Working};
use crate::flow::window::{Clock, InWindows, Pane, Windowed};

/// The timer of a key without records.
const IDLE: &str = "\0idle";
/// The same, as a release before has named it.
const IDLE_BEFORE: &str = "idle";
/// The timer of the next window that the partition's clock closes.
const CLOSE: &str = "\0close";

impl<W: Windowed> InWindows<W> {
    /// Whether a step with these windows has timers.
    pub(crate) const fn has_timers(&self) -> bool {
        self.terms.idle_after.is_some() || matches!(self.terms.clock, Clock::PerPartition)
    }

    /// Notes when a record of the key was handled, and sees to it that a timer looks for the next one. One that is set already
    /// stays: it moves itself once it fires, so that not every record writes it anew.
    pub(super) fn note_handled(&self, kept: &mut Windows<W::Value>, context: &mut Context<'_>) -> Result<(), Reject> {
        let Some(idle_after) = self.terms.idle_after else { return Ok(()) };
        let handled_ms = context.now_ms();
        let due = handled_ms.saturating_add(idle_after);
        // A timer that has passed may be gone: one that failed is over.
        let is_set = |idle: &Idle| handled_ms < idle.timer_ms && idle.timer_ms <= due;
        let mut timer_ms = kept.idle.filter(is_set).map(|idle| idle.timer_ms);
        if timer_ms.is_none() && kept.open().next().is_some() {
            context.set_own_timer(IDLE, At::Wall(due))?;
            timer_ms = Some(due);
        }
        kept.idle = timer_ms.map(|timer_ms| Idle { handled_ms, timer_ms });
        Ok(())
    }

    /// Sees to it that a timer closes the next window by the partition's clock, or where all are closed, forgets them once none can
    /// be corrected any more.
    pub(super) fn note_next<V>(&self, kept: &mut Windows<V>, context: &mut Context<'_>) -> Result<(), Reject> {
        if self.terms.clock == Clock::PerKey {
            return Ok(());
        }
        let closes = kept.open().map(|window| window.end_ms.saturating_add(self.spec.grace)).min();
        let last = || kept.windows.iter().map(|window| window.end_ms.saturating_add(self.kept_for())).max();
        let next = closes.or_else(last);
        // One that has passed may be gone: a timer that failed is over.
        let is_ahead = |next: &i64| context.task_clock_ms().is_none_or(|clock| clock < *next);
        match next {
            _ if next == kept.closes_ms && next.as_ref().is_none_or(is_ahead) => {}
            Some(next) => context.set_own_timer(CLOSE, At::Event(next))?,
            None => context.cancel_own_timer(CLOSE)?,
        }
        kept.closes_ms = next;
        Ok(())
    }

    /// Closes what a timer was set for, and gives it out, whatever the values are read as.
    pub(super) fn close<V>(
        &self,
        name: &str,
        kept: &mut Windows<V>,
        context: &mut Context<'_>,
        give_out: &mut dyn FnMut(&Working<V>, Pane),
    ) -> Result<(), Reject> {
        let clock = match name {
            CLOSE if self.terms.clock == Clock::PerKey => None, // of a release before
            CLOSE => {
                kept.closes_ms = None;
                Some(context.event_time_ms()) // however far the partition's clock has come: others are closed in between
            }
            IDLE | IDLE_BEFORE => self.idle_until(kept, context)?,
            _ => None, // of a release before
        };
        if let Some(clock) = clock {
            kept.become_of(&self.kind, give_out);
            self.give_out(kept, clock, None, give_out);
        }
        self.note_next(kept, context)
    }

    /// The clock that closes every window of a key which is idle; none where a record has come since the timer was set: it is
    /// moved then.
    fn idle_until<V>(&self, kept: &mut Windows<V>, context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        let Some((idle_after, idle)) = self.terms.idle_after.zip(kept.idle.take()) else { return Ok(None) };
        let Some(last) = kept.open().map(|window| window.end_ms.saturating_add(self.spec.grace)).max() else {
            return Ok(None);
        };
        let timer_ms = idle.handled_ms.saturating_add(idle_after);
        if timer_ms > context.event_time_ms() {
            context.set_own_timer(IDLE, At::Wall(timer_ms))?;
            kept.idle = Some(Idle { timer_ms, ..idle });
            return Ok(None);
        }
        Ok(kept.clock_ms.max(Some(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::example::ExampleStores;
    use crate::flow::key::Key;
    use crate::flow::record::TopicName;
    use crate::flow::window::algorithm::Terms;
    use crate::flow::window::kind::WindowKind as _;
    use crate::flow::window::{Tumbling, Window};
    use std::time::Duration;

    struct Count;

    impl Windowed for Count {
        type Event = ();
        type Value = u64;
        type Notices = Option<u64>;

        fn add(&self, (): &(), count: &mut u64, _: &mut Context<'_>) -> Result<(), Reject> {
            *count += 1;
            Ok(())
        }

        fn emit(&self, count: &u64, _: &Window<'_>) -> Option<u64> {
            Some(*count)
        }
    }

    /// By a timer of each name that ever was, or is of others.
    #[test]
    fn an_idle_key_is_closed_by_the_timer_that_a_release_before_has_set_and_by_no_other() {
        let spec = Tumbling::of(Duration::from_millis(10)).grace(Duration::ZERO).into_spec();
        let windows = InWindows::new(Count, spec, Terms { idle_after: Some(1_000), ..Terms::default() });
        let (topic, key) = (TopicName::parse("readings").unwrap(), Key::from("a"));
        let mut stores = ExampleStores::new();
        for (name, is_closed) in [(IDLE, true), (IDLE_BEFORE, true), ("\0for-row-1-final", false)] {
            let mut kept = Windows::<u64> { kind: windows.kind.clone(), ..Windows::default() };
            kept.windows.push(Working { start_ms: 0, end_ms: 10, value: 1, emitted: 0, is_changed: true, early: None });
            (kept.clock_ms, kept.idle) = (Some(5), Some(Idle { handled_ms: 5, timer_ms: 1_005 }));
            let mut context = Context::example(&topic, &key).at(1_005).with_stores(&mut stores);
            let mut told = 0;
            windows.close(name, &mut kept, &mut context, &mut |_, _| told += 1).unwrap();
            assert_eq!(told, i32::from(is_closed), "{name:?}");
        }
    }
}
