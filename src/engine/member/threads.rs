//! A running member: its threads, and their end.

use crate::engine::status::{Counter, Status};
use crate::ports::Fault;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The time between two looks at something that is waited for.
pub(super) const STEP: Duration = Duration::from_millis(10);

/// The time that the polling thread has to leave the group: the bound above, and an answer of its coordinator.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(15);

/// The parts that all threads of a running member share.
pub(super) struct Shared {
    pub(super) is_stopping: AtomicBool,
    pub(super) is_killed: AtomicBool,
    /// A stop that did not publish in time what is committed.
    pub(super) is_unfinished: AtomicBool,
    pub(super) fault: Mutex<Option<Fault>>,
}

impl Shared {
    pub(super) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.is_stopping.store(true, Ordering::Release);
    }
}

/// A thread whose fault or panic ends the member: a dead poll thread behind a healthy page would be worse
/// (docs/traps.md#a-dead-polling-thread).
pub(super) fn guarded(
    shared: &Arc<Shared>,
    name: &str,
    run: impl FnOnce() -> Result<(), Fault> + Send + 'static,
) -> JoinHandle<()> {
    let shared_too = Arc::clone(shared);
    let label = name.to_owned();
    let body = move || match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => shared_too.fail(fault),
        Err(_) => shared_too.fail(Fault::fatal(format!("thread {label} panicked; see the message above"))),
    };
    match std::thread::Builder::new().name(name.into()).spawn(body) {
        Ok(handle) => handle,
        Err(error) => {
            shared.fail(Fault::fatal(format!("thread {name} could not start")).because(error));
            std::thread::spawn(|| {})
        }
    }
}

/// A running member. Dropped without [`Running::join`] it is killed.
pub struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) poll: Option<JoinHandle<()>>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) is_abandoned: Arc<AtomicBool>,
    pub(super) status: Arc<Status>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// Asks for a graceful stop: no more input, publish everything that is committed, leave the group.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
    }

    /// Ends the member as SIGKILL ends a process: nothing more is published, closed or logged. The group notices when
    /// the session times out, and an open transaction stays open until a successor starts. Returns at once; each thread
    /// ends at its next check, and a thread within a call to a server finishes that call. Until [`Running::join`] has
    /// seen the end of the polling thread, it may still answer a rebalance, which a dead process does not.
    pub fn kill(&self) {
        self.shared.is_killed.store(true, Ordering::Release);
        self.shared.is_stopping.store(true, Ordering::Release);
        self.is_abandoned.store(true, Ordering::Release);
    }

    /// Whether the member has ended or is about to.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Acquire)
    }

    /// Counts the polling thread's rounds: a liveness probe watches that it grows.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        self.status.value(Counter::Polls)
    }

    /// Waits until the member has ended, at most `within`: a thread that waits for a dead server is left behind, and
    /// must not keep the process. The polling thread is given 15 s in any case.
    ///
    /// # Errors
    /// The fault that ended it. `Retry` where a stop did not finish in time: nothing is lost, and the next owner publishes
    /// the rest.
    pub fn join(mut self, within: Duration) -> Result<(), Fault> {
        // The workers end once the poller has ended their inboxes.
        let mut waited = Duration::ZERO;
        while self.poll.as_ref().is_some_and(|poll| !poll.is_finished()) && waited < within.max(CLOSE_WITHIN) {
            std::thread::sleep(STEP);
            waited += STEP;
        }
        while self.threads.iter().any(|thread| !thread.is_finished()) && waited < within {
            std::thread::sleep(STEP);
            waited += STEP;
        }
        self.is_abandoned.store(true, Ordering::Release);
        let (ended, left): (Vec<_>, Vec<_>) =
            self.poll.take().into_iter().chain(self.threads.drain(..)).partition(JoinHandle::is_finished);
        for thread in ended {
            let _ = thread.join(); // its panic was turned into a fault
        }
        if let Some(fault) = self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(fault);
        }
        let is_whole = left.is_empty() && !self.shared.is_unfinished.load(Ordering::Acquire);
        if is_whole || self.shared.is_killed() {
            return Ok(());
        }
        Err(Fault::retry(format!(
            "the stop did not finish: {} of this instance's threads wait for a server, and not all that is committed was published; \
             nothing is lost, the next owner publishes the rest",
            left.len()
        )))
    }
}
