//! Timers that are due: they fire behind the record that moved the clock, or between records by the wall clock, each by itself.
//!
//! What they lead to goes into the open batch under the record's offset, numbered behind the record's own messages. A timer
//! that fails is over: what it wrote is undone, and a dead letter tells of it. The record is decided by then, whatever comes of
//! the timers.

use crate::engine::outbound::limits::AWAITS_LIMIT;
use crate::engine::outbound::message::{bytes_of, dead_letter_about};
use crate::engine::outbound::publication::Outbound;
use crate::engine::state::access::Trouble;
use crate::engine::state::stores::Keyed;
use crate::engine::task::in_hand::Hand;
use crate::engine::task::{Input, State, Task};
use crate::engine::worker::desk::Desk;
use crate::engine::worker::log::LogLane;
use crate::engine::worker::log::open_batch::OpenBatch;
use crate::engine::worker::log::place::{Place, Terms};
use crate::flow::effect::Reject;
use crate::flow::identity::TIMER_HEADER;
use crate::flow::key::Key;
use crate::flow::net::in_net;
use crate::flow::reading::OnUnreadable;
use crate::flow::record::{Offset, Record, Timestamp};
use crate::flow::timer::{Clock, LastTurn, TURN, TURN_BYTES, Timer, keep_turn, last_turn, number_in_turn, set_tick};
use crate::flow::topology::{CommitKind, StepKind, SubTopology};
use crate::ports::Fault;
use crate::ports::note::InHand;
use crate::ports::rows::Counts;
use crate::ports::source::TaskId;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The timers that fire behind one record, or in one turn by the wall clock.
struct Turn<'a> {
    place: Place<'a>,
    clock: Clock,
    now: Timestamp,
    /// The record's offset; of a turn, that of the next record.
    offset: Offset,
    /// The number of the first message, and how many there were.
    first: i32,
    messages: usize,
    fired: usize,
    bytes: usize,
    counts: Counts,
}

/// Fires the timers of a task that are due by event time behind the last decided record of an input, which led to `own`
/// messages, and sees to it that the next tick is set.
///
/// # Errors
/// The trouble that kept the timers from firing: those that have not stay. Where it passes, the record is decided once more.
pub(super) fn fire_due(
    terms: &Terms<'_>,
    task: &mut Task,
    number: usize,
    own: usize,
    open: &mut OpenBatch,
) -> Result<(), Trouble> {
    let Task { id, sub_topology, inputs, keyed, .. } = task;
    let StepKind::Log(step) = &sub_topology.step else { return Ok(()) };
    let period_ms = step.period_ms();
    let is_wanted = |keyed: &&mut Keyed| period_ms.is_some() || keyed.may_be_due();
    let (Some(keyed), Some(input)) = (keyed.as_mut().filter(is_wanted), inputs.get(number)) else { return Ok(()) };
    let offset = Offset(input.next_offset.0 - 1);
    let Some(place) = place_of(terms, *id, sub_topology, (number, input), offset) else { return Ok(()) };
    let (clock, now, first) = (Clock::Event, keyed.clock(), i32::try_from(own).unwrap_or(i32::MAX));
    let mut turn =
        Turn { place, clock, now, offset, first, messages: 0, fired: 0, bytes: 0, counts: Counts::default() };
    let result = if keyed.may_be_due() { turn.run(keyed, open) } else { Ok(()) };
    open.counts += turn.counts;
    terms.decisions.note(&input.source.topic, turn.counts);
    result?;
    let Some(period_ms) = period_ms else { return Ok(()) };
    let mut access = keyed.open_beside(now);
    let is_set = set_tick(&mut access, period_ms).is_ok();
    open.sent_bytes += access.written_bytes();
    access.end(is_set)
}

/// The place of timers at an offset of an input; `None` at a table's.
fn place_of<'a>(
    terms: &'a Terms<'a>,
    id: TaskId,
    sub: &'a SubTopology,
    (number, input): (usize, &'a Input),
    offset: Offset,
) -> Option<Place<'a>> {
    let StepKind::Log(step) = &sub.step else { return None };
    let source = terms.hand.source(id.sub_topology, number);
    (!input.is_table).then_some(Place {
        terms,
        sub,
        step: &**step,
        source: &input.source,
        at: InHand { source, partition: input.source.partition, offset, timer: 0 },
        is_table: false,
        declared: None,
        assumed: None,
        may_retry: false,
        on_unreadable: OnUnreadable::DeadLetter, // a timer has no value to be read
    })
}

impl LogLane {
    /// Fires the timers that are due by the wall clock, in one turn of each task that runs: with no record behind it. The turn
    /// goes out with unchanged offsets, and the store keeps it, so that each of its messages has an id of its own. True where
    /// one fired.
    pub(super) fn fire_by_wall(&mut self, desk: &mut Desk) -> Result<bool, Fault> {
        let now = desk.wiring.clock.now();
        look_after_idle(desk, now);
        let due: Vec<TaskId> = self.by_wall(desk).filter(|(_, from)| *from <= now).map(|(task, _)| task.id).collect();
        let mut has_fired = false;
        for id in due {
            if self.open.is_full(desk.wiring.log_room()) {
                break;
            }
            let Some(task) = desk.tasks.get_mut(&id) else { continue };
            let terms = Terms::new(&desk.wiring, task);
            let turns = self.open.turned.len();
            let result = turn_by_wall(&terms, task, &mut self.open);
            terms.decisions.report(&desk.wiring.status.streams);
            if self.open.turned.len() > turns {
                self.open.since.get_or_insert(desk.wiring.clock.elapsed());
                has_fired = true;
            }
            match result {
                Ok(()) => desk.goes_on(id),
                Err(trouble) => desk.store_unread(id, trouble)?,
            }
        }
        Ok(has_fired)
    }

    /// The tasks that may have a turn with the open batch, and the time on the wall clock before which none of their timers
    /// is due.
    fn by_wall<'a>(&'a self, desk: &'a Desk) -> impl Iterator<Item = (&'a Task, Timestamp)> {
        let elapsed = desk.wiring.clock.elapsed();
        let is_free = move |task: &&Task| {
            let is_blocked = task.inputs.iter().any(|input| input.blocked_until > elapsed);
            task.state() == State::Running && !is_blocked && !self.open.turned.contains(&task.id)
        };
        let tasks = desk.tasks.values().filter(|task| task.commit() == CommitKind::Log).filter(is_free);
        tasks.filter_map(|task| {
            let from = task.keyed.as_ref()?.wall_from()?;
            // A key is idle only while its task keeps up.
            let idle_from = match task.sub_topology.idle_after {
                Some(idle_after) => task.attention.idle_from(idle_after)?,
                None => from,
            };
            Some((task, from.max(idle_from)))
        })
    }

    /// How long it takes until a timer may be due by the wall clock. `None` while the open batch is full, which the relay takes.
    pub(crate) fn wall_in(&self, desk: &Desk) -> Option<Duration> {
        if self.open.is_full(desk.wiring.log_room()) {
            return None;
        }
        let (_, from) = self.by_wall(desk).min_by_key(|(_, from)| *from)?;
        let ms = from.0.saturating_sub(desk.wiring.clock.now().0);
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

/// Looks whether the tasks in which keys may be idle keep up with what comes: whatever the log has told of is handled, and the
/// consumer knows of nothing else.
fn look_after_idle(desk: &mut Desk, now: Timestamp) {
    let elapsed = desk.wiring.clock.elapsed();
    let mut lagging = None;
    for task in desk.tasks.values_mut() {
        let Some(idle_after) = task.sub_topology.idle_after else { continue };
        if task.state() != State::Running {
            task.attention.end();
            continue;
        }
        let is_free = task.inputs.iter().all(|input| input.queued() == 0 && input.blocked_until <= elapsed);
        let lagging = lagging.get_or_insert_with(|| desk.wiring.status.lagging());
        let is_any = task.inputs.iter().any(|input| input.in_front.load(Ordering::Acquire) > 0);
        let keeps_up = is_free && !is_any && !lagging.contains(&task.id);
        task.attention.look(keeps_up, now, idle_after);
    }
}

/// One turn of a task, where something is due; it is noted in the open batch.
///
/// # Errors
/// The trouble that ended it: what has fired until then has.
fn turn_by_wall(terms: &Terms<'_>, task: &mut Task, open: &mut OpenBatch) -> Result<(), Trouble> {
    let Task { id, assignment, sub_topology, inputs, keyed, marks, .. } = task;
    let (Some(keyed), Some(input)) = (keyed, inputs.first()) else { return Ok(()) };
    let offset = Offset(input.next_offset.0);
    let Some(place) = place_of(terms, *id, sub_topology, (0, input), offset) else { return Ok(()) };
    if keyed.due(Clock::Wall, terms.now, 1)?.is_empty() {
        return Ok(());
    }
    let mut access = keyed.open_beside(keyed.clock());
    let last = last_turn(&mut access);
    access.end(false)?;
    let before = last.map_or(0, |last| last.messages);
    let (clock, now, first) = (Clock::Wall, terms.now, number_in_turn(before));
    let mut turn =
        Turn { place, clock, now, offset, first, messages: 0, fired: 0, bytes: 0, counts: Counts::default() };
    let result = turn.run(keyed, open);
    if turn.fired == 0 {
        return result;
    }
    let messages = before + i64::try_from(turn.messages).unwrap_or(0);
    let next = inputs.iter().map(|input| input.next_offset.0).collect();
    open.counts += turn.counts;
    terms.decisions.note(&input.source.topic, turn.counts);
    let at = input.next_offset;
    open.reach((*id, *assignment), &input.source, marks.first(), (at, at));
    open.tasks.insert(*id);
    open.turned.insert(*id);
    let mut access = keyed.open_beside(keyed.clock());
    let _ = keep_turn(&mut access, &LastTurn { messages, at_ms: now.0, next });
    access.end(true)?;
    result
}

impl Turn<'_> {
    /// Fires timers until none is due, or the bound is reached.
    fn run(&mut self, keyed: &mut Keyed, open: &mut OpenBatch) -> Result<(), Trouble> {
        loop {
            let due = keyed.due(self.clock, self.now, TURN - self.fired)?;
            if due.is_empty() {
                return Ok(());
            }
            for timer in due {
                if self.fired == TURN || self.messages >= TURN || self.bytes >= TURN_BYTES {
                    return Ok(());
                }
                if keyed.was_set_before(self.clock, Timestamp(timer.at)) {
                    break; // that one may come first
                }
                self.fire(&timer, keyed, open)?;
            }
        }
    }

    /// The number of the next message.
    fn seq(&self) -> i32 {
        self.first.saturating_add(i32::try_from(self.messages).unwrap_or(i32::MAX))
    }

    /// Fires one timer, unless one before it took it back.
    fn fire(&mut self, timer: &Timer, keyed: &mut Keyed, open: &mut OpenBatch) -> Result<(), Trouble> {
        let (at, key, rows) = (Timestamp(timer.at), timer.key(), open.rows.len());
        let record = Record { offset: self.offset, timestamp: at, key, value: None, headers: &[] };
        // What it writes is of its own time, by whichever clock the step's values expire.
        let written_at = if self.clock == Clock::Wall { keyed.clock() } else { at };
        let mut access = keyed.open_beside(written_at);
        let is_there = access.take_timer(timer);
        if is_there != Ok(true) {
            return access.end(true);
        }
        self.fired += 1;
        let taken = access.written_bytes();
        let (place, in_hand) = (&self.place, Hand::of_timer(self.place.at, timer));
        let terms = place.terms;
        let mut counts = Counts::default();
        let apply = || {
            let key = key.map_or_else(|| Ok(Key::from("")), |_| place.key(&record))?;
            let mut context = place.context(&record, &key, &mut access);
            in_net(|| place.step.timer(timer, &mut context))
        };
        let result = terms.hand.check(in_hand).and_then(|()| terms.hand.hold(in_hand, apply));
        let result = result.and_then(|stepped| access.refusal().map_or(Ok(stepped), Err));
        let result = result.and_then(|stepped| place.take(&record, stepped, self.seq(), 0, open, &mut counts));
        open.sent_bytes += access.written_bytes();
        self.bytes += if result.is_ok() { access.written_bytes() - taken } else { 0 };
        if let Err(trouble) = access.end(result.is_ok()) {
            open.rows.truncate(rows);
            return Err(trouble);
        }
        if let Err(reject) = result {
            if reject.code() == AWAITS_LIMIT {
                return Err(Trouble::Fault(Fault::retry(reject.message()))); // it stays
            }
            counts = Counts::default();
            // Its own writes are undone, and its removal with them.
            let mut access = keyed.open_beside(written_at);
            let _ = access.take_timer(timer);
            access.end(true)?;
            match reject {
                Reject::Skip { .. } => counts.skipped += 1,
                reject => {
                    let (source, limits) = ((place.source, 0), terms.limits);
                    let row = dead_letter_about(
                        terms.pipeline,
                        limits,
                        source,
                        (&record, &[(TIMER_HEADER, timer.told())]),
                        &reject,
                        self.seq(),
                        terms.now,
                    );
                    open.sent_bytes += bytes_of(terms.pipeline, &row);
                    open.rows.push(Outbound { row, input_at: None });
                    counts.dead_letters += 1;
                }
            }
        }
        let told = open.rows.get(rows..).unwrap_or_default().iter().map(|told| &told.row);
        let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        self.bytes += told.map(|row| bytes(&row.key) + bytes(&row.value)).sum::<usize>();
        self.messages += open.rows.len() - rows;
        self.counts += counts;
        Ok(())
    }
}
