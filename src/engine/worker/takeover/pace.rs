//! The pace of a takeover: when a step that could not be taken is tried again.

use crate::engine::task::{Phase, State, Task};
use crate::engine::worker::desk::Desk;
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::time::Duration;

/// The pause before a step that was refused is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(50);
/// The worker's other tasks have this many times as long as a question took that brought no answer (a pending K, a
/// locked position) before the next such question.
pub(super) const PAUSE_FACTOR: u32 = 3;
/// The longest such pause: a question whose answer was lost took seconds, and says nothing about the next one.
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl Desk {
    /// Makes all tasks wait for `pause` that wait in `state`: together they have one part of the worker's time.
    pub(super) fn delay(&mut self, state: State, pause: Duration) {
        let until = self.wiring.clock.elapsed() + pause;
        let waits = |task: &&mut Task| task.state() == state && task.waiting.has_begun();
        for task in self.tasks.values_mut().filter(waits) {
            task.phase.again_at(until);
        }
    }

    /// Notes that a step of the task failed.
    pub(crate) fn note_failed_step(&mut self, id: TaskId, fault: &Fault) {
        let now = self.wiring.clock.elapsed();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        tracing::debug!(task = ?id, state = task.state().label(), error = %fault, "a takeover step is tried again");
        if !task.patience.has_begun() {
            task.waiting.failed(now);
            task.inputs.iter().for_each(|input| self.wiring.status.waits.failed(&input.source, fault));
        }
    }

    /// Makes the task wait for `pause`: the log may have an open transaction where the task reads.
    pub(crate) fn wait_a_little(&mut self, id: TaskId, pause: Duration) {
        let not_before = self.wiring.clock.elapsed() + pause;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.phase.again_at(not_before);
        }
    }

    /// Takes the task into its next phase, whose first step is due after `pause`. False where that one may not follow.
    pub(crate) fn go_on(&mut self, id: TaskId, pause: Duration, next: fn(&mut Phase, Duration) -> bool) -> bool {
        let due_at = self.wiring.clock.elapsed() + pause;
        let has_passed = self.tasks.get_mut(&id).is_some_and(|task| next(&mut task.phase, due_at));
        self.show(id);
        has_passed
    }
}

/// The pause after a step that took `took` and failed.
pub(super) fn pause_after(took: Duration) -> Duration {
    (PAUSE_FACTOR * took).clamp(AGAIN, PAUSE_MAX)
}
