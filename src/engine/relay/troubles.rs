//! The tasks that fail alone: since when, and for how long each is put off.

use crate::engine::outbound::publication::Publication;
use crate::engine::protocol::ownership::{AssignmentId, Assignments};
use crate::ports::source::TaskId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The pause before a task that was put off is taken over again; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);

const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Most times in a row that a task decides its batch anew, smaller, before it is put off: halved so often, any batch has
/// come down to one message, unless the worker's other tasks let it grow again meanwhile.
const REDUCTIONS_MAX: u32 = 20;

/// The history of a failing task: the time of its first failure, and the number of times that it was put off.
struct Trouble {
    assignment: AssignmentId,
    since: Duration,
    pauses: u32,
    /// How often in a row its batch was to be decided anew, smaller.
    reductions: u32,
}

/// The tasks that fail alone.
#[derive(Default)]
pub(crate) struct Troubles(BTreeMap<TaskId, Trouble>);

/// The answer for a task that is put off.
pub(crate) struct PutOff {
    /// The time since it first failed.
    pub(crate) waited: Duration,
    /// The time at which it is taken over again; `None` where it has failed for too long.
    pub(crate) until: Option<Duration>,
}

impl Troubles {
    /// Whether one of the tasks failed alone when it was last tried.
    pub(crate) fn is_of(&self, publication: &Publication) -> bool {
        !self.0.is_empty() && publication.parts.iter().any(|part| self.0.contains_key(&part.task))
    }

    /// Whether the task failed alone when it was last tried.
    pub(crate) fn has(&self, task: TaskId) -> bool {
        self.0.contains_key(&task)
    }

    /// Splits a publication: the tasks that have failed alone each get one of their own, behind the others.
    pub(crate) fn separate(&self, publication: Publication) -> Vec<Publication> {
        if !self.is_of(&publication) || publication.tasks().len() == 1 {
            return vec![publication];
        }
        let mut sound = Publication::default();
        let mut out = Vec::new();
        for own in publication.split() {
            if self.is_of(&own) { out.push(own) } else { sound.append(own) }
        }
        if !sound.parts.is_empty() {
            out.insert(0, sound);
        }
        out
    }

    /// Puts off a task from `now` on, for longer each time; for good where it has failed for as long as `bound`. Forgets the
    /// tasks that have moved.
    pub(crate) fn put_off(
        &mut self,
        (task, assignment): (TaskId, AssignmentId),
        now: Duration,
        bound: Duration,
        assignments: &Assignments,
    ) -> PutOff {
        self.forget_moved(assignments);
        let trouble = self.0.entry(task).or_insert(Trouble { assignment, since: now, pauses: 0, reductions: 0 });
        let until = now + (PAUSE * 2_u32.pow(trouble.pauses.min(5))).min(PAUSE_MAX);
        trouble.pauses += 1;
        let waited = now.saturating_sub(trouble.since);
        let is_over = waited >= bound;
        if is_over {
            self.0.remove(&task);
        }
        PutOff { waited, until: (!is_over).then_some(until) }
    }

    /// Notes that a task is to decide its batch anew, smaller. False where it was asked for too often in a row.
    pub(crate) fn reduce(
        &mut self,
        (task, assignment): (TaskId, AssignmentId),
        now: Duration,
        assignments: &Assignments,
    ) -> bool {
        self.forget_moved(assignments);
        let trouble = self.0.entry(task).or_insert(Trouble { assignment, since: now, pauses: 0, reductions: 0 });
        trouble.reductions = trouble.reductions.saturating_add(1);
        trouble.reductions <= REDUCTIONS_MAX
    }

    fn forget_moved(&mut self, assignments: &Assignments) {
        self.0.retain(|task, trouble| assignments.membership(*task, trouble.assignment).is_some());
    }

    /// Forgets the tasks of a publication that succeeded.
    pub(crate) fn end(&mut self, publication: &Publication) {
        self.0.retain(|task, _| publication.parts.iter().all(|part| part.task != *task));
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
