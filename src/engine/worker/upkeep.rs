//! The upkeep of the stores of all tasks, with rows and without: expired keys, flushes, and failures to read or write.

use crate::engine::mailbox::ToRelay;
use crate::engine::outbound::outgoing::{Origin, Outgoing};
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::order::Step;
use crate::engine::state::access::Trouble;
use crate::engine::state::stores::Keyed;
use crate::engine::task::{State, Task};
use crate::engine::worker::desk::{Act, Desk};
use crate::flow::record::{Offset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::sink::SizeLimit;
use crate::ports::source::TaskId;
use std::collections::HashMap;
use std::time::Duration;

/// The pause before a store whose disk did not answer is asked again.
const UNREAD_PAUSE: Duration = Duration::from_secs(1);

impl Desk {
    /// Looks for expired keys in the stores of one idle task, and sends their tombstones in a transaction that moves no
    /// offset, also where the step has rows: these tombstones need no outbox, since an owner that does not find them in
    /// the changelog looks for the expired keys again. `is_doubtful`: whether a batch of steps with rows is neither
    /// undone nor sealed yet. True when something was done.
    pub(super) fn search_idle(&mut self, is_doubtful: bool) -> Result<bool, Fault> {
        let now = self.wiring.clock.elapsed();
        let is_due = |task: &&mut Task| {
            task.state() == State::Running
                && !(is_doubtful && task.commit().needs_database())
                && task.keyed.as_ref().is_some_and(|keyed| keyed.is_idle_search_due(now))
                && task.is_caught_up()
                && task.inputs.iter().all(|input| input.queued() == 0)
        };
        let Some(task) = self.tasks.values_mut().find(is_due) else { return Ok(false) };
        let (id, assignment) = (task.id, task.assignment);
        let (Some(input), Some(keyed)) = (task.inputs.first(), &mut task.keyed) else { return Ok(false) };
        let (source, through, at) = (input.source.clone(), input.through(), input.next_offset);
        let mut outgoing = Outgoing::default();
        // The origin is the record that comes next: where the log holds it already, the tombstones are another owner's
        // to send.
        let found = keyed.close_idle(Origin { source: &source, offset: Offset(at.0) }, now, &mut outgoing);
        if outgoing.len() > 0 {
            let batch = keyed.seal(task.inputs.iter().map(|input| input.next_offset).collect());
            let marks = task.marks.first().cloned();
            let part = Part { task: id, assignment, source, through, from: at, to: at, marks, batch };
            self.wiring.hand_over(Publication { parts: vec![part], outgoing, ..Publication::default() });
        }
        match found {
            Err(fault) => self.store_unread(id, fault.into())?,
            Ok(()) => self.goes_on(id),
        }
        Ok(true)
    }

    /// Writes stores whose flush is due, and holds the caches to their bound. Stores that cannot be written halt their
    /// tasks. `is_doubtful` as for [`Desk::search_idle`].
    pub(super) fn flush_stores(&mut self, is_doubtful: bool) -> Result<(), Fault> {
        let now = self.wiring.clock.elapsed();
        let bytes_max = self.wiring.settings.cache_bytes / self.tasks.len().max(1);
        let settled = self.tasks.values_mut().filter(|task| !(is_doubtful && task.commit().needs_database()));
        settled.filter_map(|task| task.keyed.as_mut()).for_each(|keyed| keyed.bound(bytes_max));
        let due: Vec<TaskId> = self
            .tasks
            .values()
            .filter(|task| task.state().is_deciding() && !(is_doubtful && task.commit().needs_database()))
            .filter(|task| {
                // A running owner has met every tombstone up to now: its checkpoint is renewed before it is too old.
                let (every, anew) = (self.wiring.settings.store_flush, self.wiring.settings.store_rebuild_after / 8);
                let is_due = |keyed: &Keyed| {
                    now.saturating_sub(keyed.flushed_at) >= if keyed.is_dirty() { every } else { anew.max(every) }
                };
                task.keyed.as_ref().is_some_and(is_due)
            })
            .map(|task| task.id)
            .collect();
        due.into_iter().try_for_each(|id| self.flush_task(id))
    }

    /// Writes the stores of one task.
    pub(super) fn flush_task(&mut self, id: TaskId) -> Result<(), Fault> {
        let (at, now) = (self.wiring.clock.now(), self.wiring.clock.elapsed());
        let bytes_max = self.wiring.settings.cache_bytes / self.tasks.len().max(1);
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        let sources: Vec<TopicPartition> = task.inputs.iter().map(|input| input.source.clone()).collect();
        let Some(keyed) = &mut task.keyed else { return Ok(()) };
        failpoint!(K21);
        if let Err(fault) = keyed.flush(&sources, at, now) {
            return self.store_failed(id, fault);
        }
        let stores = keyed.kept.len().max(1);
        for kept in &mut keyed.kept {
            kept.cache.sweep(bytes_max / stores);
        }
        self.show_stores(id);
        self.wiring.hook.after(Step::WriteStore)
    }

    /// Handles a store of the task that could not be read: a disk that did not answer is asked again, after a pause and
    /// for as long as it takes; a value that cannot be true halts the task.
    pub(crate) fn store_unread(&mut self, id: TaskId, trouble: Trouble) -> Result<(), Fault> {
        match trouble {
            Trouble::Fault(fault) if consequence::of(&fault, Moment::ReadStore) == Consequence::Again => {
                self.unread(id, &fault);
                Ok(())
            }
            trouble => self.store_failed(id, trouble),
        }
    }

    /// Lets the relay ask for the limits by which records were to be rejected although they were read too long ago.
    pub(super) fn ask_limits(&self) {
        let wanted = self.wiring.limits.wanted();
        if !wanted.is_empty() {
            self.wiring.send_to_relay(ToRelay::AskLimits(wanted));
        }
    }

    /// Takes limits that were asked for, and offers the records again that wait for them. `unknown`: why some are not known.
    pub(super) fn learn_limits(&mut self, known: HashMap<TopicName, SizeLimit>, unknown: Option<&Fault>) {
        self.wiring.limits.learn(known);
        for input in self.tasks.values_mut().flat_map(|task| &mut task.inputs) {
            match unknown {
                Some(fault) if input.awaits_limit => self.wiring.status.waits.failed(&input.source, fault),
                _ => input.go_on_with_limit(),
            }
        }
    }

    /// Lets a task decide once more, after a pause, what it has not handed over: the timers behind its last record could not fire.
    pub(super) fn decide_again(&mut self, id: TaskId, fault: &Fault) {
        self.unread(id, fault);
        let now = self.wiring.clock.elapsed();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.put_off_until = now + UNREAD_PAUSE;
        self.acts.push_back(Act::BeginAnew { task: id });
    }

    /// What a task waited for, as [`Desk::unread`] has told, has come.
    pub(super) fn goes_on(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.waiting.has_begun()) else { return };
        task.waiting.end();
        task.inputs.iter().for_each(|input| self.wiring.status.waits.forget(&input.source.to_string()));
    }

    pub(super) fn unread(&mut self, id: TaskId, fault: &Fault) {
        let now = self.wiring.clock.elapsed();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !task.waiting.has_begun() {
            tracing::warn!(task = ?id, error = %fault, "a task cannot go on; its records wait, and it is tried again");
        }
        task.waiting.failed(now);
        for input in &mut task.inputs {
            self.wiring.status.waits.failed(&input.source, fault);
            input.blocked_until = now + UNREAD_PAUSE;
        }
    }

    /// Halts a task one of whose stores cannot be read or written, or was never given to its step.
    pub(super) fn store_failed(&mut self, id: TaskId, trouble: impl Into<Trouble>) -> Result<(), Fault> {
        let (reason, detail) = match trouble.into() {
            Trouble::Lack(message) => (HaltReason::UnknownStore, message),
            Trouble::Fault(fault) => match consequence::of(&fault, Moment::WriteStore) {
                Consequence::Halt(reason) => (reason, fault.to_string()),
                _ => return Err(fault),
            },
        };
        if let Some(halt) = self.halt_of(id, 0, reason, detail) {
            self.halt(id, halt);
        }
        Ok(())
    }
}
