//! Crash points: a hook that counts the commit steps and stops an instance at a chosen one, as SIGKILL would.

use crate::engine::protocol::order::{Hook, Step};
use crate::ports::Fault;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts steps over all instances of a driver.
#[derive(Debug, Default)]
pub(super) struct CrashPoint {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    target: Option<(Step, usize)>,
    seen: BTreeMap<Step, usize>,
    crashed: Vec<Step>,
}

impl CrashPoint {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the instance that reaches `step` for the `nth` time from now on, counted from 1 over all instances.
    pub(super) fn arm(&self, step: Step, nth: usize) {
        let mut inner = self.lock();
        inner.target = Some((step, nth));
        inner.seen.clear();
    }

    /// No crash is due any more.
    pub(super) fn disarm(&self) {
        self.lock().target = None;
    }

    /// Counts of each step reached since the last [`CrashPoint::arm`].
    pub(super) fn seen(&self) -> BTreeMap<Step, usize> {
        self.lock().seen.clone()
    }

    /// Number of instances stopped.
    pub(super) fn count(&self) -> usize {
        self.lock().crashed.len()
    }

    /// The steps at which instances were stopped.
    pub(super) fn crashed(&self) -> Vec<Step> {
        self.lock().crashed.clone()
    }
}

impl Hook for CrashPoint {
    fn after(&self, step: Step) -> Result<(), Fault> {
        let mut inner = self.lock();
        let seen = inner.seen.entry(step).or_insert(0);
        *seen += 1;
        let nth = *seen;
        if inner.target == Some((step, nth)) {
            inner.target = None;
            inner.crashed.push(step);
            return Err(Fault::fatal(format!("crash after {step:?}, number {nth}, as the test asked")));
        }
        Ok(())
    }
}
