//! Steps, and notes of the records in hand, that tell which record they are about: how a simulation learns the order in which
//! records were decided.

use super::death::is_death;
use super::stall::{Idle, has_stalled};
use crate::flow::algorithm::Context;
use crate::flow::effect::{Applied, Reject, Stepped};
use crate::flow::key::KeyType;
use crate::flow::record::{Offset, Partition, Record, TopicName, TopicPartition};
use crate::flow::row::Value;
use crate::flow::step::{LogStep, RowStep};
use crate::flow::store::Unavailable;
use crate::flow::table::TableSpec;
use crate::flow::timer::{Clock, Timer};
use crate::flow::topology::{CommitKind, StepKind, SubTopology, Topology};
use crate::ports::note::{InHand, Mark, Note, Suspect};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What was run: a step over a record, or over a timer, behind the record of its place by event time, in front of it by the wall
/// clock; or the code in front of the step, over a record that the step may never see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Run {
    TakenUp,
    Record,
    Timer(Clock),
}

/// A record that code was run over, and the wall clock that its step was shown, in milliseconds since 1970, 0 without a step; of a
/// timer, the place at which it was run.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) place: TopicPartition,
    pub(super) offset: Offset,
    pub(super) now_ms: i64,
    pub(super) run: Run,
}

impl Application {
    fn of(context: &Context<'_>, run: Run) -> Self {
        let place = TopicPartition::new(context.topic.clone(), Partition(context.partition.0));
        Self { place, offset: context.offset, now_ms: context.now_ms(), run }
    }
}

/// The records that steps were run over since they were last taken, in that order.
#[derive(Debug, Default)]
pub(super) struct Applications {
    records: Mutex<Vec<Application>>,
    /// The records over which instances died.
    died: Mutex<BTreeSet<(TopicPartition, Offset)>>,
    idle: OnceLock<Idle>,
}

impl Applications {
    /// Notes a record and runs its step. One over which its instance dies, or whose stores cannot be read, has not been decided
    /// by that. A step that has stalled outlasts its transaction, however it ended.
    fn note<T>(
        &self,
        context: &mut Context<'_>,
        run: impl FnOnce(&mut Context<'_>) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        self.lock().push(Application::of(context, Run::Record));
        let ended = catch_unwind(AssertUnwindSafe(|| run(context)));
        let unread = Reject::from(Unavailable);
        let is_undecided = match &ended {
            Ok(result) => result.as_ref().is_err_and(|reject| reject.code() == unread.code()),
            Err(panic) => is_death(&**panic),
        };
        if is_undecided
            && let Some(Application { place, offset, .. }) = self.lock().pop()
            && ended.is_err()
        {
            self.died.lock().unwrap_or_else(PoisonError::into_inner).insert((place, offset));
        }
        self.outlast();
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Ends the transaction of a step that has stalled.
    fn outlast(&self) {
        if let Some(idle) = self.idle.get().filter(|_| has_stalled()) {
            idle.outlast();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Application>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the database whose transactions stalling steps outlast.
    pub(super) fn take_time(&self, idle: Idle) {
        drop(self.idle.set(idle));
    }

    /// The records over which instances have died so far.
    pub(super) fn died(&self) -> BTreeSet<(TopicPartition, Offset)> {
        self.died.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn take(&self) -> Vec<Application> {
        std::mem::take(&mut *self.lock())
    }
}

/// The topology with each of its steps watched.
pub(super) fn watched(topology: Topology, applications: &Arc<Applications>) -> Topology {
    topology.with_steps(|step| match step {
        StepKind::Rows(inner) => StepKind::Rows(Arc::new(Watched { inner, applications: Arc::clone(applications) })),
        StepKind::Log(inner) => StepKind::Log(Arc::new(Watched { inner, applications: Arc::clone(applications) })),
    })
}

struct Watched<S: ?Sized> {
    applications: Arc<Applications>,
    inner: Arc<S>,
}

impl RowStep for Watched<dyn RowStep> {
    fn table(&self) -> &TableSpec {
        self.inner.table()
    }

    fn apply(&self, record: &Record<'_>, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        self.applications.note(context, |context| self.inner.apply(record, row, context))
    }

    fn keep(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(), Reject> {
        self.applications.note(context, |context| self.inner.keep(record, context))
    }

    fn window(&self, timer: &Timer, context: &mut Context<'_>) -> Option<(i64, i64)> {
        self.inner.window(timer, context)
    }

    fn give_up(&self, timer: &Timer, context: &mut Context<'_>) -> Result<(), Reject> {
        self.inner.give_up(timer, context)
    }

    /// What one leads to follows from the order of records. One that has stalled outlasts its transaction, however it ended.
    fn timer(&self, timer: &Timer, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        let ended = catch_unwind(AssertUnwindSafe(|| self.inner.timer(timer, row, context)));
        self.applications.outlast();
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl LogStep for Watched<dyn LogStep> {
    fn key_type(&self) -> Option<KeyType> {
        self.inner.key_type()
    }

    fn keeps_by_key(&self) -> bool {
        self.inner.keeps_by_key()
    }

    fn apply(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        self.applications.note(context, |context| self.inner.apply(record, context))
    }

    fn period_ms(&self) -> Option<i64> {
        self.inner.period_ms()
    }

    /// What one leads to follows from the order of records and turns; only when it was run is noted.
    fn timer(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Stepped, Reject> {
        self.applications.lock().push(Application::of(context, Run::Timer(timer.clock)));
        let ended = catch_unwind(AssertUnwindSafe(|| self.inner.timer(timer, context)));
        self.applications.outlast();
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// The note in which the records of steps without rows are watched: those are decided in the order in which they are taken up.
/// `topology`: with the sources by whose numbers records are noted.
pub(super) fn watched_note(
    inner: Arc<dyn Note>,
    topology: &Topology,
    applications: &Arc<Applications>,
) -> Arc<dyn Note> {
    let source = |sub: &SubTopology, topic: &TopicName| (sub.step.commit() == CommitKind::Log).then(|| topic.clone());
    let subs = topology.sub_topologies().iter();
    let sources = subs.flat_map(|sub| sub.sources().map(move |topic| source(sub, topic))).collect();
    Arc::new(WatchedNote { inner, applications: Arc::clone(applications), sources })
}

struct WatchedNote {
    inner: Arc<dyn Note>,
    applications: Arc<Applications>,
    /// The topics by their numbers among all sources; none of a step with rows.
    sources: Arc<[Option<TopicName>]>,
}

impl Note for WatchedNote {
    fn suspects(&self) -> Vec<Suspect> {
        self.inner.suspects()
    }

    fn mark(&self, worker: usize) -> Box<dyn Mark> {
        let (applications, sources) = (Arc::clone(&self.applications), Arc::clone(&self.sources));
        Box::new(WatchedMark { inner: self.inner.mark(worker), applications, sources })
    }

    fn forget(&self, at: InHand) {
        self.inner.forget(at);
    }

    fn end(&self) {
        self.inner.end();
    }
}

struct WatchedMark {
    inner: Box<dyn Mark>,
    applications: Arc<Applications>,
    sources: Arc<[Option<TopicName>]>,
}

impl Mark for WatchedMark {
    /// A timer is no application of its record.
    fn take_up(&self, at: InHand) {
        let source =
            usize::try_from(at.source).ok().filter(|_| at.timer == 0).and_then(|number| self.sources.get(number));
        if let Some(topic) = source.and_then(Option::as_ref) {
            let place = TopicPartition::new(topic.clone(), at.partition);
            self.applications.lock().push(Application { place, offset: at.offset, now_ms: 0, run: Run::TakenUp });
        }
        self.inner.take_up(at);
    }

    fn put_down(&self) {
        self.inner.put_down();
    }
}
