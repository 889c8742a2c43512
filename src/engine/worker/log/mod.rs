//! Steps without rows: records in, one Kafka transaction of outputs, changelog records and offsets out.
//!
//! Records are decided as they come and gathered in an open batch over all such tasks of the worker. When its age is
//! reached, or it is full, it goes to the relay, and the next one is gathered while the transaction runs. The stores hold
//! proved values only, so a transaction that failed is simply sent again from memory, and a task that is taken away leaves
//! nothing to undo.

pub(crate) mod open_batch;

use crate::engine::mailbox::ToRelay;
use crate::engine::outbound::message::{bytes_of, dead_letter, notice, sent_on};
use crate::engine::outbound::outgoing::{Origin, Outgoing};
use crate::engine::outbound::publication::{Outbound, Part, Publication, Through};
use crate::engine::outbound::size::Size;
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::event_time::Horizon;
use crate::engine::protocol::order::Step;
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::settings::EngineSettings;
use crate::engine::state::stores::{Access, Keyed, Trouble};
use crate::engine::status::{Declarations, Looked, Status, Undeclared};
use crate::engine::task::in_hand::Hand;
use crate::engine::task::{Input, State, Task};
use crate::engine::worker::Stage;
use crate::engine::worker::log::open_batch::OpenBatch;
use crate::engine::worker::rows::record::RECORD_BYTES;
use crate::flow::algorithm::Context;
use crate::flow::effect::{Reject, Stepped};
use crate::flow::key::{Key, KeyType, crc32_partition_for, partition_for};
use crate::flow::net::in_net;
use crate::flow::partitioning::{Declared, KeyHash, OnViolation};
use crate::flow::record::{NextOffset, Offset, Partition, Record, Timestamp, TopicName, TopicPartition};
use crate::flow::step::LogStep;
use crate::flow::store::StateAccess;
use crate::flow::topology::{StepKind, SubTopology};
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::note::InHand;
use crate::ports::rows::Counts;
use crate::ports::sink::Message;
use crate::ports::source::TaskId;
use crossbeam_channel::Sender;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Records that one task decides before the others have their turn. Many: its store's entries stay in the processor's cache
/// meanwhile, and more of them are written twice in a transaction. W2 took 4.17 us of own CPU a record with 500, 3.65 with
/// 4,000, 3.46 with 16,000.
const SLICE: usize = 16_000;
/// How long a slice may take where an algorithm is slow, looked at every [`SLICE_LOOK`] records.
const SLICE_TIME: Duration = Duration::from_millis(20);
const SLICE_LOOK: usize = 50;
/// The pause before a store whose disk did not answer is asked again.
const UNREAD_PAUSE: Duration = Duration::from_secs(1);
/// Of so many re-keyed records one is looked at: whether it lay in its new key's partition already.
const SAMPLE: i64 = 16;

/// What holds for every record.
struct Terms<'a> {
    pipeline: &'a str,
    now: Timestamp,
    horizon: Horizon,
    settings: &'a EngineSettings,
    message_bytes_max: &'a HashMap<TopicName, usize>,
    /// That of the topic that the step re-keys into.
    rekeyed_bytes_max: Option<usize>,
    status: &'a Status,
    hand: &'a Hand,
    in_place: InPlace,
    looks: Looks,
}

/// Records that lay where their source declares, counted by topic until the end of the slice: the status is behind a lock.
#[derive(Default)]
struct InPlace(RefCell<Vec<(TopicName, u64, u64)>>);

impl InPlace {
    fn note(&self, topic: &TopicName, record: &Record<'_>) {
        let bytes = record.bytes() as u64;
        let mut counted = self.0.borrow_mut();
        if let Some((_, records, sum)) = counted.iter_mut().find(|(other, ..)| other == topic) {
            *records += 1;
            *sum += bytes;
        } else {
            counted.push((topic.clone(), 1, bytes));
        }
    }

    fn report(self, declared: &Declarations) {
        for (topic, records, bytes) in self.0.into_inner() {
            declared.in_place(&topic, records, bytes);
        }
    }
}

/// Keyed records of sources that declare nothing, counted likewise.
#[derive(Default)]
struct Looks(RefCell<Vec<(TopicName, Looked)>>);

impl Looks {
    fn note(&self, topic: &TopicName, key: &[u8], hash: &KeyHash, count: i32, found: Partition) {
        let Ok(expected) = hash.place(key, count) else { return };
        let is_elsewhere = expected != found.0;
        let is_crc32 = is_elsewhere && crc32_partition_for(key, count) == found.0;
        let mut counted = self.0.borrow_mut();
        let place = counted.iter().position(|(other, _)| other == topic).unwrap_or_else(|| {
            counted.push((topic.clone(), Looked { assumed: hash.name(), ..Looked::default() }));
            counted.len() - 1
        });
        if let Some((_, looked)) = counted.get_mut(place) {
            looked.checked += 1;
            looked.elsewhere += u64::from(is_elsewhere);
            looked.by_crc32 += u64::from(is_crc32);
        }
    }

    fn report(self, undeclared: &Undeclared) {
        for (topic, looked) in self.0.into_inner() {
            undeclared.looked(&topic, looked);
        }
    }
}

/// Where one record stands.
struct Place<'a> {
    terms: &'a Terms<'a>,
    sub: &'a SubTopology,
    step: &'a dyn LogStep,
    source: &'a TopicPartition,
    /// The record itself, as it is noted.
    at: InHand,
    /// Whether the source is kept as a table: its records say nothing of the streams' time.
    is_table: bool,
    /// What is declared of the partitioning of the record's topic.
    declared: Option<&'a Declared>,
    /// Where nothing is declared: how its keys must be partitioned for them to meet, where the step keeps something by key.
    assumed: Option<&'a KeyHash>,
    may_retry: bool,
}

/// What became of one record.
enum Verdict {
    Decided,
    /// It is offered again later.
    Later(String),
    /// The partition halts in front of it.
    Halt(HaltReason, String),
}

impl Stage {
    /// Decides what waits in front of steps without rows, and hands the open batch over when it is due. True when
    /// something was done.
    pub(crate) fn run_log(&mut self) -> Result<bool, Fault> {
        let now = self.clock.elapsed();
        let mut ids: Vec<TaskId> = self
            .state
            .tasks
            .values()
            .filter(|task| task.state.is_deciding() && matches!(task.sub_topology.step, StepKind::Log(_)))
            .filter(|task| task.inputs.iter().any(|input| input.queued() > 0 && input.blocked_until <= now))
            .map(|task| task.id)
            .collect();
        // Each has its turn, however soon a transaction is full.
        let next = ids.partition_point(|id| Some(*id) <= self.state.decided_last);
        ids.rotate_left(next);
        let mut has_decided = false;
        for id in ids {
            if self.state.open.is_full(self.log_room()) || self.is_log_due() {
                break;
            }
            has_decided |= self.decide_slice(id)?;
            self.state.decided_last = Some(id);
        }
        if self.is_log_due() {
            self.hand_over_log()?;
            return Ok(true);
        }
        Ok(has_decided)
    }

    /// The most of one transaction of steps without rows.
    fn log_room(&self) -> Size {
        let (messages, bytes) = (self.settings.log_messages, self.settings.log_bytes);
        self.outstanding.room(Size { messages, bytes })
    }

    /// Whether the relay is not too far behind for another transaction.
    pub(crate) fn is_log_free(&self) -> bool {
        let Self { settings, outstanding, .. } = self;
        outstanding.messages() < settings.log_messages && outstanding.bytes() < settings.log_bytes
    }

    /// Whether the open batch is old enough or full, and the relay not too far behind for it.
    fn is_log_due(&self) -> bool {
        let Self { state, settings, .. } = self;
        let is_due = || state.open.due(settings.log_age).is_some_and(|due| due <= self.clock.elapsed());
        self.is_log_free() && (state.open.is_full(self.log_room()) || is_due())
    }

    /// Decides some records of one task, the oldest of all its inputs first.
    fn decide_slice(&mut self, id: TaskId) -> Result<bool, Fault> {
        let room = self.log_room();
        let Self { topology, settings, status, clock, state, message_bytes_max, hand, .. } = self;
        let (now, elapsed) = (clock.now(), clock.elapsed());
        let Some(task) = state.tasks.get_mut(&id) else { return Ok(false) };
        let rekeyed = task.sub_topology.destination.as_ref();
        let terms = Terms {
            pipeline: topology.name(),
            now,
            horizon: Horizon::new(now, settings.event_time_ahead),
            settings,
            message_bytes_max,
            rekeyed_bytes_max: rekeyed.and_then(|topic| message_bytes_max.get(topic).copied()),
            status,
            hand,
            in_place: InPlace::default(),
            looks: Looks::default(),
        };
        let (mut halt, mut unread) = (None, None);
        let mut decided = 0;
        while decided < SLICE && halt.is_none() && !state.open.is_full(room) {
            if decided % SLICE_LOOK == SLICE_LOOK - 1 && clock.elapsed().saturating_sub(elapsed) > SLICE_TIME {
                break;
            }
            let Some(number) = oldest(&task.inputs, elapsed) else { break };
            match decide_next(&terms, task, number, &mut state.open) {
                Ok(Verdict::Decided) => {
                    decided += 1;
                }
                Ok(Verdict::Later(code)) => {
                    let Some(input) = task.inputs.get_mut(number) else { break };
                    let pause = settings.retry_backoff * 2_u32.pow(input.attempts.min(5));
                    input.attempts += 1;
                    input.blocked_until = elapsed + pause;
                    tracing::info!(partition = %input.source, offset = input.next_offset.0, code, attempts = input.attempts, "a record will be offered again");
                }
                Ok(Verdict::Halt(reason, message)) => {
                    let past = task.inputs.get(number).and_then(|input| Some(input.first()?.offset.next()));
                    halt = Some((number, reason, message, past));
                }
                Err(Fault::Corrupt(cause)) => {
                    halt = Some((number, HaltReason::StoreUnreadable, Fault::Corrupt(cause).to_string(), None));
                }
                Err(fault @ Fault::Fatal(_)) => return Err(fault),
                Err(fault) => {
                    unread = Some(fault);
                    break;
                }
            }
        }
        terms.in_place.report(&status.declared);
        terms.looks.report(&status.undeclared);
        if decided > 0 {
            task.queued.fetch_sub(decided, Ordering::AcqRel);
            state.open.since.get_or_insert(elapsed);
            state.open.tasks.insert(id);
            task.waiting.end();
        }
        if let Some(fault) = unread {
            self.unread(id, &fault);
        }
        if let Some((input, reason, message, at)) = halt
            && let Some(halt) = self.halt_at(id, input, reason, message, None, at)
        {
            self.halt(id, halt);
        }
        Ok(decided > 0)
    }

    /// The open batch goes to the relay, with one changelog record for each key that it touched.
    pub(crate) fn hand_over_log(&mut self) -> Result<(), Fault> {
        let mut open = std::mem::take(&mut self.state.open);
        if open.parts.is_empty() {
            return Ok(());
        }
        self.hook.after(Step::Apply)?;
        failpoint!(K23);
        let now = self.clock.elapsed();
        let mut failed = Vec::new();
        for id in &open.tasks {
            let Some(task) = self.state.tasks.get_mut(id) else { continue };
            let Some(keyed) = &mut task.keyed else { continue };
            let Some(part) = open.parts.iter().find(|part| part.task == *id) else { continue };
            let origin = Origin { source: &part.source, offset: Offset(part.to.0 - 1) };
            if let Err(fault) = keyed.close(origin, now, &mut open.outgoing) {
                failed.push((*id, fault));
            }
            let batch = keyed.seal(task.inputs.iter().map(|input| input.next_offset).collect());
            open.parts.iter_mut().filter(|part| part.task == *id).for_each(|part| part.batch = batch);
        }
        let OpenBatch { parts, rows, outgoing, counts, .. } = open;
        self.hand_over(Publication { parts, rows, outgoing, counts, ..Publication::default() });
        // What they decided is published all the same.
        failed.into_iter().try_for_each(|(id, fault)| self.store_failed(id, fault))
    }

    /// Looks for expired keys in the stores of one task that nothing comes for, and sends their tombstones in a transaction
    /// that moves no offset, also where the step has rows: these tombstones need no outbox, since whoever does not find them
    /// in the changelog looks for the expired keys again. True when something was done.
    pub(crate) fn search_idle(&mut self) -> Result<bool, Fault> {
        let (now, is_doubtful) = (self.clock.elapsed(), self.state.in_doubt.is_some());
        let is_due = |task: &&mut Task| {
            task.state == State::Running
                && !(is_doubtful && task.has_rows())
                && task.keyed.as_ref().is_some_and(|keyed| keyed.is_idle_search_due(now))
                && task.is_caught_up()
                && task.inputs.iter().all(|input| input.queued() == 0)
        };
        let Some(task) = self.state.tasks.values_mut().find(is_due) else { return Ok(false) };
        let (id, assignment) = (task.id, task.assignment);
        let (Some(input), Some(keyed)) = (task.inputs.first(), &mut task.keyed) else { return Ok(false) };
        let (source, through, at) = (input.source.clone(), input.through(), input.next_offset);
        let mut outgoing = Outgoing::default();
        // As of the record that comes next: where the log holds that one already, this is somebody else's to send.
        let found = keyed.close_idle(Origin { source: &source, offset: Offset(at.0) }, now, &mut outgoing);
        if outgoing.len() > 0 {
            let batch = keyed.seal(task.inputs.iter().map(|input| input.next_offset).collect());
            let marks = task.marks.first().cloned();
            let part = Part { task: id, assignment, source, through, from: at, to: at, marks, batch };
            self.hand_over(Publication { parts: vec![part], outgoing, ..Publication::default() });
        }
        if let Err(fault) = found {
            self.store_failed(id, fault)?;
        }
        Ok(true)
    }

    /// Writes stores whose time has come, and holds the caches to their bound. Stores that cannot be written halt their tasks.
    pub(crate) fn flush_stores(&mut self) -> Result<(), Fault> {
        let now = self.clock.elapsed();
        let bytes_max = self.settings.cache_bytes / self.state.tasks.len().max(1);
        // A batch in doubt is neither undone nor sealed yet.
        let is_doubtful = self.state.in_doubt.is_some();
        let settled = self.state.tasks.values_mut().filter(|task| !(is_doubtful && task.has_rows()));
        settled.filter_map(|task| task.keyed.as_mut()).for_each(|keyed| keyed.bound(bytes_max));
        let due: Vec<TaskId> = self
            .state
            .tasks
            .values()
            .filter(|task| task.state.is_deciding() && !(is_doubtful && task.has_rows()))
            .filter(|task| {
                // An owner has met every tombstone up to now: its checkpoint grows no older than that.
                let (every, anew) = (self.settings.store_flush, self.settings.store_rebuild_after / 8);
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
    fn flush_task(&mut self, id: TaskId) -> Result<(), Fault> {
        let (at, now) = (self.clock.now(), self.clock.elapsed());
        let bytes_max = self.settings.cache_bytes / self.state.tasks.len().max(1);
        let Some(task) = self.state.tasks.get_mut(&id) else { return Ok(()) };
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
        self.hook.after(Step::WriteStore)
    }

    /// A store of the task could not be read: what its disk did not answer is asked for again, after a pause and for as long
    /// as it takes; what cannot be true halts the task.
    pub(crate) fn store_unread(&mut self, id: TaskId, trouble: Trouble) -> Result<(), Fault> {
        match trouble {
            Trouble::Fault(fault @ (Fault::Retry(_) | Fault::Fenced(_))) => {
                self.unread(id, &fault);
                Ok(())
            }
            trouble => self.store_failed(id, trouble),
        }
    }

    fn unread(&mut self, id: TaskId, fault: &Fault) {
        let now = self.clock.elapsed();
        let Some(task) = self.state.tasks.get_mut(&id) else { return };
        if !task.waiting.has_begun() {
            tracing::warn!(task = ?id, error = %fault, "a store cannot be read; its records wait");
        }
        task.waiting.step_in_vain(now, id, task.state.label(), fault);
        for input in &mut task.inputs {
            input.blocked_until = now + UNREAD_PAUSE;
        }
    }

    /// A store of the task cannot be read or written, or was never given to its step: the task halts.
    pub(crate) fn store_failed(&mut self, id: TaskId, trouble: impl Into<Trouble>) -> Result<(), Fault> {
        let (reason, detail) = match trouble.into() {
            Trouble::NoStore(message) => (HaltReason::UnknownStore, message),
            Trouble::Fault(fault @ Fault::Fatal(_)) => return Err(fault),
            Trouble::Fault(fault @ Fault::Corrupt(_)) => (HaltReason::StoreUnreadable, fault.to_string()),
            Trouble::Fault(fault) => (HaltReason::StoreUnwritable, fault.to_string()),
        };
        if let Some(halt) = self.halt_of(id, 0, reason, detail) {
            self.halt(id, halt);
        }
        Ok(())
    }

    /// Tasks that move leave their stores as of what is published; the rest of the worker's open batch goes first.
    pub(crate) fn leave(&mut self, tasks: Vec<TaskId>, ack: Sender<()>) -> Result<(), Fault> {
        self.hand_over_log()?;
        let is_stateful = |id: &TaskId| self.state.tasks.get(id).is_some_and(|task| task.keyed.is_some());
        if !tasks.iter().any(is_stateful) {
            self.forget(&tasks);
            // Behind everything handed over so far, so that it is published first.
            let _ = self.relay.send(ToRelay::Drain { ack });
            return Ok(());
        }
        for id in &tasks {
            self.drop_records(*id, State::Leaving);
        }
        let _ = self.relay.send(ToRelay::Farewell { tasks, ack });
        Ok(())
    }

    /// Everything that these tasks decided is published, or is somebody else's.
    pub(crate) fn farewell(&mut self, tasks: &[TaskId], ack: &Sender<()>) -> Result<(), Fault> {
        // One that came back meanwhile, because the revoke was not waited for, is another task under the same id.
        let is_leaving = |id: &&TaskId| self.state.tasks.get(id).is_some_and(|task| task.state == State::Leaving);
        let leaving: Vec<TaskId> = tasks.iter().filter(is_leaving).copied().collect();
        for id in &leaving {
            if self.state.tasks.get(id).is_some_and(|task| task.keyed.as_ref().is_some_and(Keyed::is_dirty)) {
                self.flush_task(*id)?;
            }
        }
        self.forget(&leaving);
        let _ = ack.send(());
        Ok(())
    }
}

/// The input whose next record is the oldest, among those that may go on; a table's before a stream's of the same time,
/// so that what was written first and within one millisecond is seen.
fn oldest(inputs: &[Input], now: Duration) -> Option<usize> {
    let ready = inputs.iter().enumerate().filter(|(_, input)| input.blocked_until <= now);
    ready
        .filter_map(|(number, input)| Some((input.first()?.timestamp.0, !input.is_table, number)))
        .min()
        .map(|(_, _, number)| number)
}

/// Decides the next record of one input.
fn decide_next(terms: &Terms<'_>, task: &mut Task, number: usize, open: &mut OpenBatch) -> Result<Verdict, Fault> {
    let Task { id, assignment, sub_topology, inputs, keyed, marks, counts: partition_counts, .. } = task;
    let StepKind::Log(step) = &sub_topology.step else {
        return Err(Fault::fatal("a step with rows among those without"));
    };
    let Some(input) = inputs.get_mut(number) else { return Ok(Verdict::Decided) };
    let Some(record) = input.first() else { return Ok(Verdict::Decided) };
    let source = terms.hand.source(id.sub_topology, number);
    let at = InHand { source, partition: input.source.partition, offset: record.offset };
    let place = Place {
        terms,
        sub: sub_topology,
        step: &**step,
        source: &input.source,
        at,
        is_table: input.is_table,
        declared: sub_topology.declaration(&input.source.topic),
        assumed: sub_topology.assumed_hash(),
        may_retry: input.attempts < terms.settings.retry_attempts,
    };
    let count = partition_counts.get(number).copied().unwrap_or(0);
    let mut counts = Counts { records: 1, ..Counts::default() };
    let verdict = terms.hand.hold(at, || place.decide(&record, count, keyed.as_mut(), open, &mut counts))?;
    if !matches!(verdict, Verdict::Decided) {
        return Ok(verdict);
    }
    let (from, to) = (input.next_offset, record.offset.next());
    note_part(open, *id, *assignment, input, marks.get(number), from, to);
    open.counts += counts;
    open.bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    input.next_offset = to;
    input.attempts = 0;
    input.consume(1);
    Ok(Verdict::Decided)
}

/// # Errors
/// A dead letter where `record`, sent on under `key`, would have more bytes than `limit`.
fn fits(record: &Record<'_>, key: &[u8], destination: &TopicName, limit: Option<usize>) -> Result<(), Reject> {
    let bytes = key.len() + record.value.map_or(0, <[u8]>::len);
    if let Some(limit) = limit.filter(|limit| bytes > *limit) {
        let message = format!("a record of {bytes} bytes for {destination}, which takes {limit}");
        return Err(Reject::dead_letter("too-large", message));
    }
    Ok(())
}

/// What one record comes to goes out in one transaction.
fn too_much(bytes: usize) -> Reject {
    let message = format!("notices and copies of {bytes} bytes in all, more than {RECORD_BYTES}");
    Reject::dead_letter("too-large", message)
}

fn note_part(
    open: &mut OpenBatch,
    task: TaskId,
    assignment: AssignmentId,
    input: &Input,
    marks: Option<&Arc<str>>,
    from: NextOffset,
    to: NextOffset,
) {
    // Mostly the last one: a slice is of one task, and its inputs come in runs.
    if let Some(part) = open.parts.iter_mut().rev().find(|part| part.task == task && part.source == input.source) {
        part.to = to;
        return;
    }
    let (source, marks) = (input.source.clone(), marks.cloned());
    open.parts.push(Part { task, assignment, source, through: Through::Log, from, to, marks, batch: 0 });
}

impl Place<'_> {
    fn decide(
        &self,
        record: &Record<'_>,
        count: i32,
        keyed: Option<&mut Keyed>,
        open: &mut OpenBatch,
        counts: &mut Counts,
    ) -> Result<Verdict, Fault> {
        let is_ahead = !self.is_table && !self.terms.horizon.allows(record.timestamp);
        if is_ahead
            && keyed.as_deref().is_some_and(Keyed::is_timed)
            && let Err(reject) = self.terms.horizon.check(record.timestamp)
        {
            return Ok(self.rejected(record, reject, open, counts));
        }
        let mut keyed = keyed;
        let result = match self.check(record, count, open) {
            Ok(Some(verdict)) => return Ok(verdict), // sent on, or nothing yet: another task's clock, or none
            Ok(None) => match self.run(record, count, keyed.as_deref_mut(), open, counts) {
                Ok(result) => result,
                Err(Trouble::NoStore(message)) => return Ok(Verdict::Halt(HaltReason::UnknownStore, message)),
                Err(Trouble::Fault(fault)) => return Err(fault),
            },
            Err(reject) => Err(reject),
        };
        let verdict = match result {
            Ok(()) => Verdict::Decided,
            Err(reject) => self.rejected(record, reject, open, counts),
        };
        if let (Verdict::Decided, false, Some(keyed)) = (&verdict, self.is_table || is_ahead, keyed) {
            keyed.advance(record.timestamp);
        }
        Ok(verdict)
    }

    /// Runs the step; the inner error is the record's fault, and nothing is left of what it did.
    fn run(
        &self,
        record: &Record<'_>,
        count: i32,
        keyed: Option<&mut Keyed>,
        open: &mut OpenBatch,
        counts: &mut Counts,
    ) -> Result<Result<(), Reject>, Trouble> {
        let rows = open.rows.len();
        let mut access = match keyed {
            None => Access::none(record.timestamp),
            Some(keyed) if self.is_table => keyed.open_for_table(record.timestamp),
            Some(keyed) => keyed.open(record.timestamp),
        };
        let result = self
            .apply(record, &mut access)
            .and_then(|stepped| access.refusal().map_or(Ok(stepped), Err))
            .and_then(|stepped| self.take(record, stepped, count, open, counts));
        open.sent_bytes += access.written_bytes(); // changelog records, which join the batch at its end
        if let Err(trouble) = access.end(result.is_ok()) {
            open.rows.truncate(rows);
            return Err(trouble);
        }
        Ok(result)
    }

    /// Size, and the source's declaration: before anything is decoded.
    fn check(&self, record: &Record<'_>, count: i32, open: &mut OpenBatch) -> Result<Option<Verdict>, Reject> {
        let (bytes, limit) = (record.value.map_or(0, <[u8]>::len), self.terms.settings.record_bytes_max);
        if bytes > limit {
            let message = format!("the value has {bytes} bytes, more than engine.record_bytes_max = {limit}");
            return Err(Reject::dead_letter("too-large", message));
        }
        self.terms.hand.check(self.at)?;
        let Some(declared) = self.declared else {
            if let (Some(hash), Some(key)) = (self.assumed.filter(|_| count > 1), record.key) {
                self.terms.looks.note(&self.source.topic, key, hash, count, self.source.partition);
            }
            return Ok(None);
        };
        let expected = declared.place(record.key)?;
        if expected == self.source.partition.0 {
            self.terms.in_place.note(&self.source.topic, record);
            return Ok(None);
        }
        self.terms.status.declared.violated(self.source, record.offset, expected);
        match declared.policy() {
            OnViolation::Warn => Ok(None),
            // A hash of the user's own may name a partition that is none: sent there, it would fail the whole transaction.
            OnViolation::Repartition if (0..declared.count()).contains(&expected) => {
                // The last companion of a source declared so.
                let Some(destination) = self.sub.companions.last() else { return Ok(None) };
                let limit = self.terms.message_bytes_max.get(destination).copied();
                let key = record.key.unwrap_or_default();
                fits(record, key, destination, limit)?;
                self.send_on(record, destination, Some(Partition(expected)), key, open);
                Ok(Some(Verdict::Decided))
            }
            OnViolation::Stop | OnViolation::Repartition => {
                Ok(Some(Verdict::Halt(HaltReason::WronglyKeyed, declared.violation(record.offset, expected))))
            }
        }
    }

    fn apply(&self, record: &Record<'_>, state: &mut Access<'_>) -> Result<Stepped, Reject> {
        let key = match self.step.key_type() {
            Some(key_type) => key_type.parse(record.key)?,
            None => KeyType::Text.parse(record.key).unwrap_or_else(|_| Key::from("")),
        };
        let mut context = Context {
            topic: &self.source.topic,
            partition: self.source.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            now: self.terms.now,
            key: &key,
            state: Some(state as &mut dyn StateAccess),
        };
        in_net(|| self.step.apply(record, &mut context))
    }

    /// Takes what the step came to into the open batch, all of it or nothing.
    fn take(
        &self,
        record: &Record<'_>,
        stepped: Stepped,
        count: i32,
        open: &mut OpenBatch,
        counts: &mut Counts,
    ) -> Result<(), Reject> {
        let pipeline = self.terms.pipeline;
        let (rows, copied, mut sent) = (open.rows.len(), self.fit_all(record, &stepped)?, 0);
        for (seq, emission) in stepped.emissions.into_iter().enumerate() {
            let row = notice(self.source, 0, record, seq, emission, None, self.terms.now);
            let bytes = bytes_of(pipeline, &row);
            if let Some(limit) = self.terms.message_bytes_max.get(&row.destination).filter(|limit| bytes > **limit) {
                let message = format!("a notice of {bytes} bytes for {}, which takes {limit}", row.destination);
                open.rows.truncate(rows);
                return Err(Reject::dead_letter("too-large", message));
            }
            sent += bytes;
            if copied + sent > RECORD_BYTES {
                open.rows.truncate(rows);
                return Err(too_much(copied + sent));
            }
            open.rows.push(Outbound { row, input_at: Some(record.timestamp) });
        }
        open.sent_bytes += sent;
        counts.announced += i64::try_from(open.rows.len() - rows).unwrap_or(i64::MAX);
        if let Some(destination) = &self.sub.destination {
            for key in stepped.rekeyed.iter() {
                if record.offset.0 % SAMPLE == 0 {
                    let was_there = partition_for(key, count) == self.source.partition.0;
                    self.terms.status.shuffles.sampled(&self.source.topic, was_there);
                }
                self.send_on(record, destination, None, key, open);
            }
        }
        Ok(())
    }

    /// Whether the record may be sent on under all of its new keys: told before the first is. Answers the bytes of the copies.
    fn fit_all(&self, record: &Record<'_>, stepped: &Stepped) -> Result<usize, Reject> {
        let Some(destination) = &self.sub.destination else { return Ok(0) };
        let (limit, mut all) = (self.terms.rekeyed_bytes_max, 0);
        for key in stepped.rekeyed.iter() {
            fits(record, key, destination, limit)?;
            all += key.len() + record.value.map_or(0, <[u8]>::len);
        }
        if all > RECORD_BYTES { Err(too_much(all)) } else { Ok(all) }
    }

    /// Sends the record as it is to another topic under `key`; of its headers those that are not read as ours there.
    fn send_on(
        &self,
        record: &Record<'_>,
        destination: &TopicName,
        partition: Option<Partition>,
        key: &[u8],
        open: &mut OpenBatch,
    ) {
        let headers = sent_on(record.headers);
        let message = Message {
            destination,
            partition,
            key: Some(key),
            value: record.value,
            headers: &headers,
            timestamp: Some(record.timestamp),
            is_tracked: false,
        };
        open.outgoing.push(Origin { source: self.source, offset: record.offset }, &message);
    }

    fn rejected(&self, record: &Record<'_>, reject: Reject, open: &mut OpenBatch, counts: &mut Counts) -> Verdict {
        match reject {
            Reject::Skip { .. } => counts.skipped += 1,
            Reject::Retry { code, .. } if self.may_retry => return Verdict::Later(code.into_owned()),
            reject => {
                let limits = self.terms.message_bytes_max;
                let Terms { pipeline, now, .. } = self.terms;
                let row = dead_letter(pipeline, limits, self.source, 0, record, &reject, *now);
                open.sent_bytes += bytes_of(pipeline, &row);
                open.rows.push(Outbound { row, input_at: Some(record.timestamp) });
                counts.dead_letters += 1;
            }
        }
        Verdict::Decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Offset;

    #[test]
    fn records_in_their_places_are_counted_by_topic() {
        let topic = |name| TopicName::parse(name).unwrap();
        let record =
            Record { offset: Offset(0), timestamp: Timestamp(0), key: Some(b"k"), value: Some(b"123"), headers: &[] };
        let counted = InPlace::default();
        for name in ["a", "b", "a", "a"] {
            counted.note(&topic(name), &record);
        }
        assert_eq!(counted.0.into_inner(), [(topic("a"), 3, 12), (topic("b"), 1, 4)]);
    }
}
