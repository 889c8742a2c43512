//! The backlogs of tasks with several inputs: what lies at the broker of an input of which nothing is at hand
//! ([`order`](crate::engine::task::order)).
//!
//! The end of each input is asked for when delivery begins, and once more when it is reached, until nothing was added
//! meanwhile: from then on the inputs are live, and nothing is waited for. Neither is what does not come in time.

use crate::engine::task::{Backlog, Input};
use crate::engine::worker::desk::Desk;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::source::TaskId;
use std::time::Duration;

/// The number of times that an end is asked for: each time less was added meanwhile, where records are decided faster than
/// they are written.
const ASKED_MAX: u32 = 10;

impl Desk {
    /// Asks for the ends of the inputs of a task whose delivery begins. One whose end is not told is not waited for.
    pub(super) fn begin_backlogs(&mut self, id: TaskId) {
        if self.sources(id).len() < 2 || self.wiring.settings.merge_wait.is_zero() {
            return;
        }
        for (number, source) in self.sources(id).into_iter().enumerate() {
            self.ask_for_end(id, number, &source, 1);
        }
    }

    /// Looks after the backlogs of the tasks that wait for one.
    pub(super) fn look_at_backlogs(&mut self) {
        let (now, most) = (self.wiring.clock.elapsed(), self.wiring.settings.merge_wait);
        let mut reached = Vec::new();
        for task in self.tasks.values_mut() {
            for (number, input) in task.inputs.iter_mut().enumerate() {
                if let Some(asked) = look_at(input, now, most) {
                    reached.push((task.id, number, input.source.clone(), asked + 1));
                }
            }
        }
        for (id, number, source, asked) in reached {
            self.ask_for_end(id, number, &source, asked);
        }
    }

    fn ask_for_end(&mut self, id: TaskId, number: usize, source: &TopicPartition, asked: u32) {
        let end = self.wiring.group.bounds(source, self.wiring.settings.ask_wait).map(|bounds| bounds.end);
        let input = self.tasks.get_mut(&id).and_then(|task| task.inputs.get_mut(number));
        let Some(input) = input else { return };
        let further = end.ok().filter(|end| input.fetched() < *end);
        input.backlog = further.map(|end: NextOffset| Backlog { end, asked, awaited_since: None });
    }
}

/// Ends the wait for a backlog that does not come; answers how often the end of one that was reached has been asked for.
fn look_at(input: &mut Input, now: Duration, most: Duration) -> Option<u32> {
    let is_awaited = input.is_awaited();
    let has_any = input.queued() > 0;
    let backlog = input.backlog.as_mut()?;
    if has_any {
        backlog.awaited_since = None;
        return None;
    }
    if is_awaited {
        if now.saturating_sub(*backlog.awaited_since.get_or_insert(now)) >= most {
            tracing::debug!(partition = %input.source, end = backlog.end.0, "its records did not come in time; those of the task's other inputs go on");
            input.backlog = None;
        }
        return None;
    }
    let asked = backlog.asked;
    input.backlog = None;
    (asked < ASKED_MAX).then_some(asked)
}
