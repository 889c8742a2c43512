//! The phase of a task between assignment and work, and the phases that may follow it.
//!
//! ```text
//!            claimed                     table says go               K = D          stores whole
//!  Claiming ─────────→ ReadingCommitted ──────────────→ Publishing ───────→ Restoring ─────────→ CatchingUp
//!   ↑    └─ stale ─→ Stale       └─ table says halt ─→ Halted ←─ corrupt ────────┐                   │ table topics read
//!   └── membership proved ── Proving ←── Draining ←── compare-and-set ───────────┴──── Running ←─────┘
//!                                                                                         └─→ Leaving
//! ```
//! Only a step with rows claims, only one with stores restores, and only one with table topics catches up; the others
//! pass through at once. A phase that decides records (`CatchingUp`, `Running`) may halt, lose a compare-and-set or
//! leave. `Leaving` waits until the decided messages of the task are published, so that its stores can be written as of
//! then: no phase follows it, since the task is another owner's soon and nothing would take it from us again. `Stale`
//! waits for the revoke that must come, and asks now and then whether it is a member after all: it is if its group
//! began to count its generations anew, and then claims over the generation that was found. `Halted` waits for a
//! person. Both give the partition up only when the group takes it. A task whose messages cannot be published yet waits
//! as `PutOff` between `Draining` and `Proving`.

use crate::engine::protocol::halt::Halt;
use crate::engine::status::State;
use std::time::Duration;

impl State {
    /// Whether the next step is tried again at a set time.
    pub(crate) const fn is_timed(self) -> bool {
        matches!(
            self,
            Self::Claiming | Self::Stale | Self::PutOff | Self::ReadingCommitted | Self::Restoring | Self::CatchingUp
        )
    }

    /// Whether the records that a task holds are decided.
    pub(crate) const fn is_deciding(self) -> bool {
        matches!(self, Self::CatchingUp | Self::Running)
    }

    /// Whether a phase of `next` may follow one of this state. [`Phase`] alone knows the exception: a halt in front of
    /// a record.
    const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Leaving => false,
            Self::Halted => matches!(next, Self::Leaving),
            _ if matches!(next, Self::Leaving | Self::Halted) => true,
            Self::Claiming => matches!(next, Self::ReadingCommitted | Self::Stale | Self::Draining),
            Self::ReadingCommitted => {
                matches!(next, Self::Claiming | Self::Stale | Self::Publishing | Self::Draining)
            }
            Self::Publishing => {
                matches!(next, Self::Restoring | Self::CatchingUp | Self::Running | Self::Draining)
            }
            Self::Restoring => matches!(next, Self::CatchingUp | Self::Running | Self::Draining),
            Self::CatchingUp => matches!(next, Self::Running | Self::Draining),
            Self::Running => matches!(next, Self::Draining),
            Self::Draining => matches!(next, Self::PutOff | Self::Proving | Self::Stale),
            Self::PutOff => matches!(next, Self::Proving | Self::Stale | Self::Draining),
            Self::Stale => matches!(next, Self::Proving | Self::Draining),
            Self::Proving => matches!(next, Self::Claiming | Self::Stale | Self::Draining),
        }
    }
}

/// The phase that a task is in. It is left by the methods that name the next one, each of which does nothing, and
/// answers false, where that one may not follow.
#[derive(Debug)]
pub(crate) struct Phase {
    state: State,
    /// The time before which the next step of a timed phase is not tried.
    not_before: Duration,
    /// The halt, where it is halted.
    halt: Option<Halt>,
}

impl Phase {
    /// The first phase of a task that was assigned at `now`.
    pub(super) const fn first(now: Duration) -> Self {
        Self { state: State::Claiming, not_before: now, halt: None }
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// The time when the next step of a timed phase is due.
    pub(crate) const fn not_before(&self) -> Duration {
        self.not_before
    }

    /// The halt, where the task is halted.
    pub(crate) const fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// Whether a takeover may begin anew: not of a task that is leaving or halted, and one that drains is about to
    /// begin. Messages that a task decided before the record that halted it are published all the same: a takeover
    /// meets that record again, behind the messages that it publishes first.
    pub(crate) fn may_begin_anew(&self) -> bool {
        self.state.may_become(State::Draining) || self.halt.as_ref().is_some_and(Halt::is_of_a_record)
    }

    /// Tries the step of this phase again at a later time.
    pub(crate) const fn again_at(&mut self, at: Duration) {
        self.not_before = at;
    }

    pub(crate) fn become_claiming(&mut self, at: Duration) -> bool {
        self.pass(State::Claiming, at)
    }

    pub(crate) fn become_stale(&mut self, at: Duration) -> bool {
        if self.state == State::Stale {
            self.again_at(at);
            return true;
        }
        self.pass(State::Stale, at)
    }

    pub(crate) fn become_reading_committed(&mut self, at: Duration) -> bool {
        self.pass(State::ReadingCommitted, at)
    }

    pub(crate) fn become_publishing(&mut self, at: Duration) -> bool {
        self.pass(State::Publishing, at)
    }

    pub(crate) fn become_restoring(&mut self, at: Duration) -> bool {
        self.pass(State::Restoring, at)
    }

    pub(crate) fn become_catching_up(&mut self, at: Duration) -> bool {
        self.pass(State::CatchingUp, at)
    }

    pub(crate) fn become_running(&mut self, at: Duration) -> bool {
        self.pass(State::Running, at)
    }

    pub(crate) fn become_put_off(&mut self, at: Duration) -> bool {
        self.pass(State::PutOff, at)
    }

    pub(crate) fn become_proving(&mut self, at: Duration) -> bool {
        self.pass(State::Proving, at)
    }

    pub(super) fn become_draining(&mut self, at: Duration) -> bool {
        if self.halt.take_if(|halt| halt.is_of_a_record()).is_some() {
            (self.state, self.not_before) = (State::Draining, at);
            return true;
        }
        self.pass(State::Draining, at)
    }

    pub(super) fn become_leaving(&mut self, at: Duration) -> bool {
        self.pass(State::Leaving, at)
    }

    /// The first reason counts.
    pub(super) fn become_halted(&mut self, halt: Halt, at: Duration) -> bool {
        let has_passed = self.pass(State::Halted, at);
        if has_passed {
            self.halt = Some(halt);
        }
        has_passed
    }

    fn pass(&mut self, next: State, at: Duration) -> bool {
        let may_pass = self.state.may_become(next);
        if may_pass {
            *self = Self { state: next, not_before: at, halt: None };
        } else {
            tracing::debug!(from = self.state.label(), to = next.label(), "a phase that may not follow is left out");
        }
        may_pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::decision::HaltReason;
    use crate::flow::record::{Partition, TopicName, TopicPartition};

    const ALL: [State; 12] = [
        State::Claiming,
        State::Stale,
        State::ReadingCommitted,
        State::Publishing,
        State::Restoring,
        State::CatchingUp,
        State::Running,
        State::Leaving,
        State::Draining,
        State::PutOff,
        State::Proving,
        State::Halted,
    ];

    fn halt(reason: HaltReason) -> Halt {
        let source = TopicPartition::new(TopicName::parse("t").unwrap(), Partition(0));
        Halt { source, reason, next_offset: None, committed: None, detail: String::new(), choices: Vec::new() }
    }

    #[test]
    fn a_task_that_is_leaving_goes_nowhere_else() {
        let mut phase = Phase::first(Duration::ZERO);
        assert!(phase.become_leaving(Duration::ZERO));
        let now = Duration::from_secs(1);
        let all: [fn(&mut Phase, Duration) -> bool; 11] = [
            Phase::become_claiming,
            Phase::become_stale,
            Phase::become_reading_committed,
            Phase::become_publishing,
            Phase::become_restoring,
            Phase::become_catching_up,
            Phase::become_running,
            Phase::become_put_off,
            Phase::become_proving,
            Phase::become_draining,
            |phase, at| phase.become_halted(halt(HaltReason::StoreUnreadable), at),
        ];
        for next in all {
            assert!(!next(&mut phase, now));
            assert_eq!((phase.state(), phase.halt()), (State::Leaving, None));
        }
        assert!(!phase.may_begin_anew());
    }

    #[test]
    fn a_halt_is_left_by_leaving_and_where_a_record_is_to_blame_by_a_takeover() {
        for (reason, may_begin_anew) in [(HaltReason::GroupReset, false), (HaltReason::StoreUnreadable, true)] {
            let mut phase = Phase::first(Duration::ZERO);
            assert!(phase.become_halted(halt(reason), Duration::ZERO));
            assert!(!phase.become_halted(halt(HaltReason::Unpublishable), Duration::ZERO), "the first reason counts");
            assert!(!phase.become_claiming(Duration::ZERO) && !phase.become_running(Duration::ZERO));
            assert_eq!(phase.halt().map(|halt| halt.reason), Some(reason));
            assert_eq!(phase.may_begin_anew(), may_begin_anew);
            assert_eq!(phase.become_draining(Duration::ZERO), may_begin_anew);
            assert_eq!(phase.halt().is_none(), may_begin_anew);
            assert!(phase.become_leaving(Duration::ZERO));
            assert_eq!(phase.halt(), None);
        }
    }

    #[test]
    fn whatever_is_not_halted_or_leaving_may_halt_leave_and_but_for_one_that_drains_begin_anew() {
        let going = ALL.into_iter().filter(|state| !matches!(state, State::Leaving | State::Halted));
        for state in going {
            assert!(state.may_become(State::Leaving) && state.may_become(State::Halted), "{state:?}");
            assert_eq!(state.may_become(State::Draining), state != State::Draining, "{state:?}");
            let ways = ALL.into_iter().filter(|next| state.may_become(*next)).count();
            assert!(ways > 2 && ways < 7, "{state:?}");
        }
        // A takeover begins with the claim, and a claim with the proof or the assignment.
        let to_claim: Vec<State> = ALL.into_iter().filter(|state| state.may_become(State::Claiming)).collect();
        assert_eq!(to_claim, [State::ReadingCommitted, State::Proving]);
        let to_run: Vec<State> = ALL.into_iter().filter(|state| state.may_become(State::Running)).collect();
        assert_eq!(to_run, [State::Publishing, State::Restoring, State::CatchingUp]);
    }
}
