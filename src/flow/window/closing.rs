//! Windows that no record of their key closes: timers do, for a key without records, or by the clock of the partition.

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::timer::At;
use crate::flow::window::kept::{Idle, Windows, Working};
use crate::flow::window::{Clock, InWindows, Pane, Windowed};

/// The timer of a key without records.
const IDLE: &str = "\0idle";
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
    pub(super) fn note_next(&self, kept: &mut Windows<W::Value>, context: &mut Context<'_>) -> Result<(), Reject> {
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

    /// Closes what a timer was set for, and gives it out.
    pub(super) fn close(
        &self,
        name: &str,
        kept: &mut Windows<W::Value>,
        context: &mut Context<'_>,
        give_out: &mut dyn FnMut(&Working<W::Value>, Pane),
    ) -> Result<(), Reject> {
        let clock = match name {
            CLOSE if self.terms.clock == Clock::PerKey => None, // of a release before
            CLOSE => {
                kept.closes_ms = None;
                Some(context.event_time_ms()) // however far the partition's clock has come: others are closed in between
            }
            IDLE => self.idle_until(kept, context)?,
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
    fn idle_until(&self, kept: &mut Windows<W::Value>, context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
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
