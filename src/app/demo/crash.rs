//! Where the demo's worker dies: after a database commit whose notifications are not published.
//!
//! A log that answers at once leaves little between the two. So the log stalls first, as a broker does now and then: the
//! Kafka stage stops with its messages sent and its transaction open, the database stage goes on committing, and after
//! [`STALL`] its next commit is the last thing that the worker does. From there on every thread of it is frozen, as by
//! SIGSTOP, until the demo has declared the process dead; then each ends at the step where it stands.
//!
//! A worker that dies [`Dies::Anywhere`] does so at whichever step comes next, in whatever thread.

use crate::engine::protocol::order::{Hook, Step};
use crate::ports::clock::SystemClock;
use crate::ports::{Clock, Fault};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Time that the log stalls before the crash: about ten commits.
const STALL: Duration = Duration::from_millis(100);

/// Where a worker dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dies {
    /// Behind a database commit whose notifications are not published.
    BehindCommit,
    /// At the step that comes next.
    Anywhere,
}

/// The hook of one worker. It dies once.
#[derive(Debug)]
pub(super) struct CrashPoint {
    dies: Dies,
    clock: SystemClock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Alive,
    /// The log stalls; the worker dies with its first commit from this moment on.
    Armed {
        dies_at: Duration,
    },
    /// Committed, and frozen.
    Reached,
    Dead,
}

impl CrashPoint {
    /// The hook of a worker that lives as yet.
    pub(super) fn new(dies: Dies) -> Self {
        Self { dies, clock: SystemClock::default(), state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    /// Lets the worker die soon.
    pub(super) fn arm(&self) {
        self.set(State::Armed { dies_at: self.clock.elapsed() + STALL });
    }

    /// Whether the worker stands frozen behind its commit.
    pub(super) fn is_reached(&self) -> bool {
        *self.lock() == State::Reached
    }

    /// Ends the frozen threads. The member must have been killed before, or they would say goodbye.
    pub(super) fn die(&self) {
        self.set(State::Dead);
    }

    /// Lets a worker live that has not died yet.
    pub(super) fn spare(&self) {
        self.set(State::Alive);
    }
}

impl Hook for CrashPoint {
    fn after(&self, step: Step) -> Result<(), Fault> {
        let mut state = self.lock();
        if let State::Armed { dies_at } = *state
            && (step == Step::CommitDatabase || self.dies == Dies::Anywhere)
            && self.clock.elapsed() >= dies_at
        {
            *state = State::Reached;
        }
        let is_frozen = |state: State| match state {
            State::Armed { .. } => step == Step::Produce && self.dies == Dies::BehindCommit,
            State::Reached => true,
            State::Alive | State::Dead => false,
        };
        while is_frozen(*state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match *state {
            State::Dead => Err(Fault::fatal("killed by the demo")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_dies_behind_a_commit_and_every_thread_with_it() {
        let point = CrashPoint::new(Dies::BehindCommit);
        assert!(point.after(Step::CommitDatabase).is_ok());
        point.set(State::Armed { dies_at: Duration::ZERO });
        std::thread::scope(|scope| {
            let relay = scope.spawn(|| point.after(Step::Produce));
            let stage = scope.spawn(|| point.after(Step::CommitDatabase));
            while !point.is_reached() {
                std::thread::yield_now();
            }
            assert!(!relay.is_finished() && !stage.is_finished());
            point.die();
            assert!(relay.join().unwrap().is_err());
            assert!(stage.join().unwrap().is_err());
        });
        assert!(point.after(Step::Claim).is_err());
    }

    #[test]
    fn a_worker_that_dies_anywhere_goes_on_until_then_and_dies_at_the_next_step() {
        let point = CrashPoint::new(Dies::Anywhere);
        point.set(State::Armed { dies_at: Duration::MAX });
        assert!(point.after(Step::Produce).is_ok());
        point.set(State::Armed { dies_at: Duration::ZERO });
        std::thread::scope(|scope| {
            let relay = scope.spawn(|| point.after(Step::Produce));
            while !point.is_reached() {
                std::thread::yield_now();
            }
            assert!(!relay.is_finished());
            point.die();
            assert!(relay.join().unwrap().is_err());
        });
    }
}
