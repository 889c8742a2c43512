//! A slice of one task: the records that are decided before the other tasks have their turn.

use crate::engine::outbound::limits::AWAITS_LIMIT;
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::event_time::Horizon;
use crate::engine::state::access::Trouble;
use crate::engine::task::order::next_of;
use crate::engine::task::{Input, Task};
use crate::engine::worker::desk::Desk;
use crate::engine::worker::enough::Enough;
use crate::engine::worker::log::LogLane;
use crate::engine::worker::log::firing::fire_due;
use crate::engine::worker::log::open_batch::OpenBatch;
use crate::engine::worker::log::place::{Place, Terms, Verdict};
use crate::engine::worker::log::tally::{Decisions, InPlace};
use crate::engine::worker::looks::Looks;
use crate::engine::worker::wiring::Wiring;
use crate::flow::topology::StepKind;
use crate::ports::Fault;
use crate::ports::note::InHand;
use crate::ports::rows::Counts;
use crate::ports::source::TaskId;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The number of records that one task decides before the others have their turn. Many: its store's entries stay in the
/// processor's cache meanwhile, and more of them are written twice in a transaction. W2 took 4.17 us of own CPU a
/// record with 500, 3.65 with 4,000, 3.46 with 16,000.
const SLICE: usize = 16_000;
/// The bound on the time of a slice where an algorithm is slow.
const SLICE_TIME: Duration = Duration::from_millis(20);

impl LogLane {
    /// Decides some records of one task, the oldest of all its inputs first.
    pub(super) fn decide_slice(&mut self, desk: &mut Desk, id: TaskId) -> Result<bool, Fault> {
        let room = desk.wiring.log_room();
        let Wiring { settings, status, clock, .. } = &desk.wiring;
        let elapsed = clock.elapsed();
        let Some(task) = desk.tasks.get_mut(&id) else { return Ok(false) };
        let terms = Terms::new(&desk.wiring, task);
        let (mut halt, mut unread, mut unfired) = (None, None, None);
        let before: Vec<usize> = task.inputs.iter().map(Input::queued).collect();
        let mut decided = 0;
        let mut enough = Enough::new(&**clock, SLICE_TIME, usize::MAX);
        while decided < SLICE && halt.is_none() && !self.open.is_full(room) {
            let Some(number) = next_of(&task.inputs, elapsed) else { break };
            let rows = self.open.rows.len();
            match decide_next(&terms, task, number, &mut self.open) {
                Ok(Verdict::Decided) => {
                    decided += 1;
                    let own = self.open.rows.len() - rows;
                    match fire_due(&terms, task, number, own, &mut self.open) {
                        Ok(()) => {}
                        Err(Trouble::Lack(message)) => {
                            halt = Some((number, HaltReason::UnknownStore, message, None));
                        }
                        Err(Trouble::Fault(fault)) => match consequence::of(&fault, Moment::ReadStore) {
                            Consequence::End => return Err(fault),
                            Consequence::Halt(reason) => halt = Some((number, reason, fault.to_string(), None)),
                            _ => {
                                unfired = Some(fault);
                                break;
                            }
                        },
                    }
                    if enough.with(0) {
                        break;
                    }
                }
                Ok(Verdict::Later(code)) => {
                    let Some(input) = task.inputs.get_mut(number) else { break };
                    if code == AWAITS_LIMIT {
                        input.await_limit(elapsed);
                        continue;
                    }
                    let pause = settings.retry_backoff * 2_u32.pow(input.attempts.min(5));
                    input.attempts += 1;
                    input.blocked_until = elapsed + pause;
                    tracing::info!(partition = %input.source, offset = input.next_offset.0, code, attempts = input.attempts, "a record will be offered again");
                }
                Ok(Verdict::Halt(reason, message)) => {
                    let past = task.inputs.get(number).and_then(|input| Some(input.first()?.offset.next()));
                    halt = Some((number, reason, message, past));
                }
                Err(fault) => match consequence::of(&fault, Moment::ReadStore) {
                    Consequence::End => return Err(fault),
                    Consequence::Halt(reason) => halt = Some((number, reason, fault.to_string(), None)),
                    _ => {
                        unread = Some(fault);
                        break;
                    }
                },
            }
        }
        terms.in_place.report(&status.declared);
        terms.looks.report(&status.undeclared);
        terms.decisions.report(&status.streams);
        for (input, before) in task.inputs.iter().zip(before) {
            input.in_front.fetch_sub(before - input.queued(), Ordering::AcqRel);
        }
        if decided > 0 {
            self.open.since.get_or_insert(elapsed);
            self.open.tasks.insert(id);
            task.waiting.end();
        }
        if let Some(fault) = unread {
            desk.unread(id, &fault);
        }
        if let Some(fault) = unfired {
            // Published without its timers the record would leave them to the next one, which may never come.
            self.open.forget(id);
            desk.decide_again(id, &fault);
        }
        if let Some((input, reason, message, at)) = halt
            && let Some(halt) = desk.halt_at(id, input, reason, message, None, at)
        {
            desk.halt(id, halt);
        }
        Ok(decided > 0)
    }
}

impl<'a> Terms<'a> {
    /// The terms of the records of a task, at this moment.
    pub(super) fn new(wiring: &'a Wiring, task: &Task) -> Self {
        let Wiring { topology, settings, status, clock, limits, hand, .. } = wiring;
        let (now, sent_on) = (clock.now(), task.sub_topology.sent_on_to().iter());
        Self {
            pipeline: topology.name(),
            now,
            horizon: Horizon::new(now, settings.event_time_ahead),
            settings,
            limits,
            sent_on_limits: sent_on.map(|topic| limits.of(topic)).collect(),
            status,
            hand,
            in_place: InPlace::default(),
            looks: Looks::default(),
            decisions: Decisions::default(),
        }
    }
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
    let at = InHand { source, partition: input.source.partition, offset: record.offset, timer: 0 };
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
        on_unreadable: sub_topology.on_unreadable(&input.source.topic),
    };
    let count = partition_counts.get(number).copied().unwrap_or(0);
    let mut counts = Counts { records: 1, ..Counts::default() };
    let verdict = terms.hand.hold(at, || place.decide(&record, count, keyed.as_mut(), open, &mut counts))?;
    if !matches!(verdict, Verdict::Decided) {
        return Ok(verdict);
    }
    let (from, to) = (input.next_offset, record.offset.next());
    open.reach((*id, *assignment), &input.source, marks.get(number), (from, to));
    open.counts += counts;
    terms.decisions.note(&input.source.topic, counts);
    open.bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    input.next_offset = to;
    input.attempts = 0;
    input.consume(1);
    Ok(Verdict::Decided)
}
