//! Timers that are due: they fire behind the record that moved the clock, each by itself.
//!
//! What they lead to goes into the open batch under the record's offset, numbered behind the record's own messages. A timer
//! that fails is over: what it wrote is undone, and a dead letter tells of it. The record is decided by then, whatever comes of
//! the timers.

use crate::engine::outbound::message::{bytes_of, dead_letter_of_timer};
use crate::engine::outbound::publication::Outbound;
use crate::engine::state::access::Trouble;
use crate::engine::state::stores::Keyed;
use crate::engine::task::Task;
use crate::engine::task::in_hand::Hand;
use crate::engine::worker::log::open_batch::OpenBatch;
use crate::engine::worker::log::place::{Place, Terms};
use crate::flow::effect::Reject;
use crate::flow::net::in_net;
use crate::flow::record::{Offset, Record, Timestamp};
use crate::flow::timer::Timer;
use crate::flow::topology::StepKind;
use crate::ports::note::InHand;
use crate::ports::rows::Counts;

/// Most timers that fire behind one record; none fires behind as many of their messages either. The others wait for the
/// next one: a transaction has room for what one record leads to.
pub(crate) const TURN: usize = 1_000;

/// The timers that fire behind one record.
struct Turn<'a> {
    place: Place<'a>,
    /// The record's offset.
    offset: Offset,
    /// The number of the next message.
    seq: usize,
    fired: usize,
    counts: Counts,
}

/// Fires the timers of a task that are due behind the last decided record of an input, which led to `own` messages.
///
/// # Errors
/// The trouble that kept the timers from firing: those that have not stay.
pub(super) fn fire_due(
    terms: &Terms<'_>,
    task: &mut Task,
    number: usize,
    own: usize,
    open: &mut OpenBatch,
) -> Result<(), Trouble> {
    let Task { id, sub_topology, inputs, keyed, .. } = task;
    let (StepKind::Log(step), Some(keyed), Some(input)) = (&sub_topology.step, keyed, inputs.get(number)) else {
        return Ok(());
    };
    if input.is_table {
        return Ok(());
    }
    let offset = Offset(input.next_offset.0 - 1);
    let source = terms.hand.source(id.sub_topology, number);
    let place = Place {
        terms,
        sub: sub_topology,
        step: &**step,
        source: &input.source,
        at: InHand { source, partition: input.source.partition, offset },
        is_table: false,
        declared: None,
        assumed: None,
        may_retry: false,
    };
    let mut turn = Turn { place, offset, seq: own, fired: 0, counts: Counts::default() };
    let result = turn.run(own + TURN, keyed, open);
    open.counts += turn.counts;
    terms.decisions.note(&input.source.topic, turn.counts);
    result
}

impl Turn<'_> {
    /// Fires timers until none is due, or the bound is reached.
    fn run(&mut self, seq_max: usize, keyed: &mut Keyed, open: &mut OpenBatch) -> Result<(), Trouble> {
        loop {
            let due = keyed.due(TURN - self.fired)?;
            if due.is_empty() {
                return Ok(());
            }
            for timer in due {
                if self.fired == TURN || self.seq >= seq_max {
                    return Ok(());
                }
                self.fire(&timer, keyed, open)?;
                if keyed.was_due_set() {
                    break; // it may come before the next
                }
            }
        }
    }

    /// Fires one timer, unless one before it took it back.
    fn fire(&mut self, timer: &Timer, keyed: &mut Keyed, open: &mut OpenBatch) -> Result<(), Trouble> {
        let (at, key, rows) = (Timestamp(timer.at), Some(&timer.key[..]), open.rows.len());
        let record = Record { offset: self.offset, timestamp: at, key, value: None, headers: &[] };
        let mut access = keyed.open_beside(at);
        let is_there = access.take_timer(timer);
        if is_there != Ok(true) {
            return access.end(true);
        }
        self.fired += 1;
        let (place, in_hand) = (&self.place, Hand::of_timer(self.place.at, self.fired));
        let terms = place.terms;
        let mut counts = Counts::default();
        let apply = || {
            let key = place.key(&record)?;
            let mut context = place.context(&record, &key, &mut access);
            in_net(|| place.step.timer(&timer.key, &timer.name, &mut context))
        };
        let result = terms.hand.check(in_hand).and_then(|()| terms.hand.hold(in_hand, apply));
        let result = result.and_then(|stepped| access.refusal().map_or(Ok(stepped), Err));
        let result = result.and_then(|stepped| place.take(&record, stepped, self.seq, 0, open, &mut counts));
        open.sent_bytes += access.written_bytes();
        if let Err(trouble) = access.end(result.is_ok()) {
            open.rows.truncate(rows);
            return Err(trouble);
        }
        if let Err(reject) = result {
            counts = Counts::default();
            // Its own writes are undone, and its removal with them.
            let mut access = keyed.open_beside(at);
            let _ = access.take_timer(timer);
            access.end(true)?;
            match reject {
                Reject::Skip { .. } => counts.skipped += 1,
                reject => {
                    let (source, limits) = (place.source, terms.message_bytes_max);
                    let row = dead_letter_of_timer(
                        terms.pipeline,
                        limits,
                        source,
                        (&record, &timer.name),
                        &reject,
                        self.seq,
                        terms.now,
                    );
                    open.sent_bytes += bytes_of(terms.pipeline, &row);
                    open.rows.push(Outbound { row, input_at: None });
                    counts.dead_letters += 1;
                }
            }
        }
        self.seq += open.rows.len() - rows;
        self.counts += counts;
        Ok(())
    }
}
