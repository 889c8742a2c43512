//! Gives every part of a member its thread; and the work of the polling thread.

use crate::engine::mailbox::ToSource;
use crate::engine::member::router::{Guided, Router, Starts};
use crate::engine::member::threads::{Running, STEP, Shared, guarded};
use crate::engine::member::{Member, POLL_RECORDS, Worker};
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::query::Queries;
use crate::engine::status::{Counter, Status};
use crate::ports::Fault;
use crate::ports::source::Source;
use crate::settings::engine::EngineSettings;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The bound on one poll's wait for records: the longest that a finished takeover waits to be started.
const POLL: Duration = Duration::from_millis(20);

/// The time that the workers have, once the process is to end, to publish everything that is committed: the next owner
/// publishes the remainder.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The polling thread.
pub(super) struct Poller {
    pub(super) source: Box<dyn Source>,
    pub(super) router: Router,
    pub(super) commands: Receiver<ToSource>,
    pub(super) starts: Starts,
    pub(super) queries: Queries,
    pub(super) settings: Arc<EngineSettings>,
    pub(super) status: Arc<Status>,
    pub(super) shared: Arc<Shared>,
    pub(super) stops: Vec<Arc<AtomicBool>>,
}

impl Poller {
    pub(super) fn run(self) -> Result<(), Fault> {
        let Self { source, router, commands, starts, queries, settings, status, shared, stops } = self;
        let within = settings.revoke_within;
        // The same serving code as in one thread; the workers have threads of their own.
        let mut member = Member {
            source,
            router,
            commands,
            starts,
            workers: Vec::new(),
            queries,
            settings,
            status,
            is_abandoned: Arc::default(),
        };
        let result = member.poll_until_stopped(&shared, within);
        if shared.is_killed() {
            return result;
        }
        let wait = |acks: &Receiver<()>, count| {
            let is_whole = wait_for(acks, count, (within, STOP_WITHIN), &|| true);
            shared.is_unfinished.fetch_or(!is_whole, Ordering::AcqRel);
        };
        member.source.close(&mut Guided { router: &mut member.router, wait });
        for stop in stops {
            stop.store(true, Ordering::Release);
        }
        result
    }
}

/// Waits for the acknowledgement of each worker: at most `within` for all of them together, and where the process is to
/// end at most `stop_within` from then on. False where one is missing: the next owner publishes what it has not.
pub(super) fn wait_for(
    acks: &Receiver<()>,
    count: usize,
    (within, stop_within): (Duration, Duration),
    is_stopping: &dyn Fn() -> bool,
) -> bool {
    let (mut missing, mut waited, mut stopping) = (count, Duration::ZERO, Duration::ZERO);
    while missing > 0 {
        match acks.recv_timeout(STEP) {
            Ok(()) => missing -= 1,
            Err(RecvTimeoutError::Timeout) if waited < within && stopping < stop_within => {
                waited += STEP;
                stopping += if is_stopping() { STEP } else { Duration::ZERO };
            }
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(
                    waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                    missing,
                    "a revoke did not finish in time, since a worker waits for a server or for the pipeline's own code; the next owner publishes the rest"
                );
                return false;
            }
            Err(RecvTimeoutError::Disconnected) => return false, // a worker has ended, and said why
        }
    }
    true
}

impl Member {
    /// Gives every part its thread and returns the handle.
    #[must_use]
    pub fn spawn(self) -> Running {
        let Self { source, router, commands, starts, workers, queries, settings, status, is_abandoned } = self;
        let shared = Arc::new(Shared {
            is_stopping: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
            is_unfinished: AtomicBool::new(false),
            fault: Mutex::new(None),
        });
        let status_too = Arc::clone(&status);
        let mut threads = Vec::new();
        let mut stops = Vec::new();
        for (number, Worker { mut executor, mut relay }) in workers.into_iter().enumerate() {
            let is_stopped = Arc::new(AtomicBool::new(false));
            stops.push(Arc::clone(&is_stopped));
            let (stop, life) = (Arc::clone(&is_stopped), Arc::clone(&shared));
            threads.push(guarded(&shared, &format!("executor-{number}"), move || {
                while !stop.load(Ordering::Acquire) && !life.is_killed() {
                    if let Some(wait) = executor.step()?
                        && !executor.wait(wait)?
                    {
                        break;
                    }
                }
                Ok(())
            }));
            let life = Arc::clone(&shared);
            threads.push(guarded(&shared, &format!("relay-{number}"), move || {
                while !is_stopped.load(Ordering::Acquire) && !life.is_killed() {
                    if let Some(wait) = relay.step()?
                        && !relay.wait(wait.min(Duration::from_millis(500)))?
                    {
                        break;
                    }
                }
                if !life.is_killed() {
                    relay.producers.close();
                }
                Ok(())
            }));
        }
        let shared_too = Arc::clone(&shared);
        let poller = Poller { source, router, commands, starts, queries, settings, status, shared: shared_too, stops };
        let poll = guarded(&shared, "poll", move || poller.run());
        Running { shared, poll: Some(poll), threads, is_abandoned, status: status_too }
    }

    fn poll_until_stopped(&mut self, shared: &Shared, within: Duration) -> Result<(), Fault> {
        while !shared.is_stopping.load(Ordering::Acquire) {
            let is_stopping = || shared.is_stopping.load(Ordering::Acquire);
            let wait = |acks: &Receiver<()>, count| {
                wait_for(acks, count, (within, STOP_WITHIN), &is_stopping);
            };
            let mut guided = Guided { router: &mut self.router, wait };
            match self.source.poll(POLL, POLL_RECORDS, &mut guided) {
                Ok(_) => {}
                Err(fault) if consequence::of(&fault, Moment::Poll) == Consequence::End => return Err(fault),
                Err(fault) => tracing::debug!(error = %fault, "the log could not be read; trying again"),
            }
            self.router.flush();
            self.serve_source();
            self.status.add(Counter::Polls, 1);
        }
        Ok(())
    }
}
