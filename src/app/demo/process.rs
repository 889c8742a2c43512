//! A worker of the demo that is killed now and then, and the one that comes after it.

use super::crash::{CrashPoint, Dies};
use super::pipeline::Pipeline;
use super::recovery::{Recoveries, Recovery};
use crate::app::failure::Failure;
use crate::engine::member::Running;
use crate::engine::protocol::order::Hook;
#[cfg(feature = "http")]
use crate::engine::query::Queries;
use crate::engine::status::{Counter, Status};
use crate::ports::Fault;
#[cfg(feature = "http")]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A dead worker is noticed when it has not polled for so long. Kafka's default is 45 s and its smallest 6 s; a demo is in
/// a hurry, and the worker polls every 20 ms.
pub(super) const SESSION: Duration = Duration::from_secs(1);

/// The one worker of a pipeline.
pub(super) struct Process {
    pub(super) pipeline: Pipeline,
    /// The counters of all workers together: the counts of a dead one stay in.
    pub(super) status: Arc<Status>,
    pub(super) recoveries: Recoveries,
    pub(super) crashes: u64,
    /// The stores of whichever worker runs.
    #[cfg(feature = "http")]
    pub(super) queries: Arc<Mutex<Option<Queries>>>,
    dies: Dies,
    worker: Option<Worker>,
    phase: Phase,
}

/// What has become of it.
pub(super) enum News {
    Killed,
    Recovered(Recovery),
}

struct Worker {
    running: Running,
    crash: Arc<CrashPoint>,
}

/// Where the worker is between two crashes.
#[derive(Clone, Copy)]
enum Phase {
    Working,
    /// About to die.
    Dying,
    Recovering(Death),
}

/// The moment of a crash and the counts at it.
#[derive(Clone, Copy)]
struct Death {
    at: Duration,
    recovered_rows: u64,
    repeated: u64,
}

impl Process {
    /// One whose workers die like that. None runs yet.
    pub(super) fn new(pipeline: &Pipeline, dies: Dies) -> Self {
        Self {
            pipeline: pipeline.clone(),
            status: Arc::default(),
            recoveries: Arc::default(),
            crashes: 0,
            #[cfg(feature = "http")]
            queries: Arc::default(),
            dies,
            worker: None,
            phase: Phase::Working,
        }
    }

    /// Starts a worker.
    pub(super) fn start(&mut self) -> Result<(), Fault> {
        let crash = Arc::new(CrashPoint::new(self.dies));
        let hook = Arc::clone(&crash) as Arc<dyn Hook>;
        let member = self.pipeline.member(&self.status, &hook)?;
        #[cfg(feature = "http")]
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).replace(member.queries());
        self.worker = Some(Worker { running: member.spawn(), crash });
        Ok(())
    }

    /// Lets the worker die soon, unless it is about to, or its predecessor's death is not got over yet.
    pub(super) fn arm(&mut self) {
        if let (Phase::Working, Some(worker)) = (self.phase, &self.worker) {
            worker.crash.arm();
            self.phase = Phase::Dying;
        }
    }

    /// Lets a worker live that has not died yet.
    pub(super) fn spare(&mut self) {
        if let Some(worker) = &self.worker {
            worker.crash.spare();
        }
        if matches!(self.phase, Phase::Dying) {
            self.phase = Phase::Working;
        }
    }

    /// Whether everything is read and published, and nothing has to be got over.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Working) && self.pipeline.is_drained()
    }

    /// Kills the worker that stands where it is to die, starts the next, and tells when that one has recovered.
    pub(super) fn watch(&mut self) -> Result<Option<News>, Failure> {
        let Some(worker) = &self.worker else { return Ok(None) };
        let clock = &self.pipeline.clock;
        match self.phase {
            Phase::Dying if worker.crash.is_reached() => {
                worker.running.kill();
                worker.crash.die();
                let at = clock.elapsed();
                let (recovered_rows, repeated) =
                    (self.status.value(Counter::RecoveredRows), self.pipeline.runs.repeated());
                self.phase = Phase::Recovering(Death { at, recovered_rows, repeated });
                if let Some(dead) = self.worker.take() {
                    drop(dead.running.join(Duration::ZERO)); // the fault is the one we gave it
                }
                self.crashes += 1;
                self.status.forget_tasks();
                self.start()?;
                Ok(Some(News::Killed))
            }
            Phase::Recovering(death) if self.has_taken_over() => {
                let recovery = Recovery {
                    took: clock.elapsed().saturating_sub(death.at),
                    published: self.status.value(Counter::RecoveredRows) - death.recovered_rows,
                    repeated: self.pipeline.runs.repeated() - death.repeated,
                };
                self.recoveries.lock().unwrap_or_else(PoisonError::into_inner).push(recovery);
                self.phase = Phase::Working;
                Ok(Some(News::Recovered(recovery)))
            }
            _ if worker.running.is_stopping() => {
                if let Some(ended) = self.worker.take() {
                    ended.running.join(Duration::ZERO)?;
                }
                let name = self.pipeline.topology.name();
                Err(Failure::message(format!("the worker of {name} ended by itself")))
            }
            _ => Ok(None),
        }
    }

    /// Whether every partition takes records: what an earlier worker had decided is published then.
    fn has_taken_over(&self) -> bool {
        self.status.tasks().len() == self.pipeline.tasks() && self.status.is_ready()
    }

    /// Lets the worker publish what is committed, and leave.
    pub(super) fn stop(&mut self, within: Duration) -> Result<(), Fault> {
        let Some(worker) = self.worker.take() else { return Ok(()) };
        worker.running.stop();
        worker.running.join(within)
    }
}
