//! Timers of steps with rows: those that are due fire behind the record that moved the clock, each over the row of its key.
//!
//! What they lead to belongs to the batch, numbered behind the record's own messages. A timer that fails is over: what it wrote is
//! undone, its row stays as it was, and a dead letter tells of it.

use crate::engine::outbound::limits::AWAITS_LIMIT;
use crate::engine::outbound::message::{bytes_of, dead_letter_about};
use crate::engine::state::access::Trouble;
use crate::engine::state::stores::Keyed;
use crate::engine::task::in_hand::Hand;
use crate::engine::worker::enough::Enough;
use crate::engine::worker::rows::batch::Batch;
use crate::engine::worker::rows::entry::{Decided, Rung};
use crate::engine::worker::rows::record::{Run, give_up, window_of};
use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::terms::{StoreTrouble, TaskStores, Terms};
use crate::engine::worker::rows::writer::Writer;
use crate::flow::effect::Reject;
use crate::flow::identity::{TIMER_HEADER, WINDOW_HEADER};
use crate::flow::key::Key;
use crate::flow::record::{Record, Timestamp};
use crate::flow::timer::{Clock, TURN, TURN_BYTES, Timer};
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::collections::BTreeSet;
use std::time::Duration;

/// The time behind which no further timer of one record fires.
const TURN_TIME: Duration = Duration::from_millis(500);

impl Batch<'_> {
    /// The tables of steps with timers.
    pub(super) fn tables_with_timers(&self) -> impl Iterator<Item = usize> {
        let has_timers = move |share: &&Share<'_>| self.foreseen.iter().any(|foreseen| foreseen.task == share.task);
        self.shares.iter().filter(has_timers).map(|share| share.table)
    }

    /// The foreseen timers of a share's task that may be run, each with the key of its row.
    fn foreseen_of<'b>(&'b self, share: &'b Share<'b>) -> impl Iterator<Item = (&'b Timer, Key)> {
        let of_task = self.foreseen.iter().filter(move |foreseen| foreseen.task == share.task);
        of_task.flat_map(move |foreseen| foreseen.keys(share)).filter(move |(timer, _)| share.over(timer).is_none())
    }

    /// The tables and keys of the foreseen timers, one for each.
    pub(super) fn foreseen_places(&self) -> impl Iterator<Item = (usize, Key)> {
        self.foreseen.iter().flat_map(move |foreseen| {
            let share = self.shares.iter().find(|share| share.task == foreseen.task);
            share.into_iter().flat_map(move |share| self.foreseen_of(share).map(move |(_, key)| (share.table, key)))
        })
    }

    /// The keys of the foreseen timers of a share's task.
    pub(super) fn foreseen_keys(&self, share: usize) -> impl Iterator<Item = Key> {
        self.shares.get(share).into_iter().flat_map(move |share| self.foreseen_of(share).map(|(_, key)| key))
    }

    /// The foreseen timers whose row this is; none where it is a record's, too.
    pub(super) fn timers_of(&self, table: usize, key: &Key) -> Vec<Timer> {
        let slot = self.slot(table, key);
        if self.entries.iter().any(|entry| entry.slot() == slot) {
            return Vec::new();
        }
        let shares = self.shares.iter().filter(|share| share.table == table);
        let timers = shares.flat_map(|share| self.foreseen_of(share)).filter(|(_, own)| own == key);
        timers.map(|(timer, _)| timer.clone()).collect()
    }

    /// Whether a record would make a timer due whose row was not read. `begun`: the tasks of which the batch has decided a
    /// record.
    pub(super) fn is_beyond(&self, number: usize, stores: &TaskStores, begun: &BTreeSet<TaskId>) -> bool {
        let Some(entry) = self.entries.get(number) else { return false };
        let Some(share) = self.shares.get(entry.share) else { return false };
        if share.is_table || !begun.contains(&share.task) {
            return false;
        }
        let at = entry.record.timestamp;
        let foreseen = self.foreseen.iter().find(|foreseen| foreseen.task == share.task);
        foreseen.is_some_and(|foreseen| {
            let clock = stores.get(&share.task).map_or(at, Keyed::clock);
            let moved = if self.terms.horizon.allows(at) { at.max(clock) } else { clock };
            moved > foreseen.until
        })
    }

    /// Fires the timers that are due behind a decided record.
    pub(super) fn ring<E: From<StoreTrouble>>(
        &mut self,
        number: usize,
        stores: &mut TaskStores,
        enough: &Enough<'_>,
        rows: &mut impl Writer<E>,
    ) -> Result<(), E> {
        let shares = self.shares;
        let Some((share, record, own)) = self.entries.get(number).and_then(|entry| {
            let own = match &entry.decided {
                Decided::Waiting => return None,
                Decided::Applied { notices, .. } => notices.len(),
                Decided::Dead(_) => 1,
                Decided::Skipped(_) | Decided::Unreadable(_) => 0,
            };
            Some((shares.get(entry.share)?, entry.record, own))
        }) else {
            return Ok(());
        };
        let Some(keyed) = stores.get_mut(&share.task).filter(|keyed| !share.is_table && keyed.may_be_due()) else {
            return Ok(());
        };
        let (mut rung, began) = (Rung::default(), enough.now());
        let is_over =
            |rung: &Rung| rung.fired >= share.most_timers || rung.rows.len() >= TURN || rung.bytes >= TURN_BYTES;
        'turn: loop {
            let now = keyed.clock();
            let due = keyed
                .due(Clock::Event, now, TURN)
                .map_err(|fault| StoreTrouble { task: share.task, trouble: fault.into() })?;
            if due.is_empty() || is_over(&rung) {
                break;
            }
            for timer in due {
                // One whose row was not looked for waits for the next record: others that were due before it were taken back.
                let is_late = rung.fired > 0 && enough.now().saturating_sub(began) >= TURN_TIME;
                if is_over(&rung) || is_late || self.lacks_row(share, &timer) {
                    break 'turn;
                }
                if keyed.was_set_before(Clock::Event, Timestamp(timer.at)) {
                    break; // that one may come first
                }
                self.ring_one(share, (&record, own), &timer, keyed, enough, rows, &mut rung)?;
            }
        }
        if let Some(entry) = self.entries.get_mut(number) {
            entry.rung = (rung.fired > 0).then(|| Box::new(rung));
        }
        Ok(())
    }

    fn lacks_row(&self, share: &Share<'_>, timer: &Timer) -> bool {
        if share.over(timer).is_some() {
            return false;
        }
        let key = share.step.table().table.key_type.parse(Some(&timer.key));
        key.is_ok_and(|key| self.slot(share.table, &key).is_none())
    }

    /// Fires one timer, unless one before it took it back.
    #[expect(clippy::too_many_arguments, reason = "the place, the timer, and what it is run with")]
    fn ring_one<E: From<StoreTrouble>>(
        &mut self,
        share: &Share<'_>,
        (behind, own): (&Record<'_>, usize),
        timer: &Timer,
        keyed: &mut Keyed,
        enough: &Enough<'_>,
        rows: &mut impl Writer<E>,
        rung: &mut Rung,
    ) -> Result<(), E> {
        let trouble = |trouble| StoreTrouble { task: share.task, trouble };
        let (at, key) = (Timestamp(timer.at), Some(&timer.key[..]));
        let record = Record { offset: behind.offset, timestamp: at, key, value: None, headers: &[] };
        let mut access = keyed.open_beside(at);
        let is_there = access.take_timer(timer) == Ok(true);
        rung.beside += access.written_bytes();
        access.end(true).map_err(trouble)?;
        if !is_there {
            return Ok(());
        }
        rung.fired += 1;
        let in_hand = Hand::of_timer(share.in_hand(behind), timer);
        let first = own + rung.rows.len();
        let run = Run { record: &record, timer: Some(timer), in_hand, first };
        let began = enough.now();
        let decided = self.run_timer(share, &run, keyed, rows);
        self.fired.note(timer, enough.now().saturating_sub(began));
        let decided = decided?;
        let mut window = None;
        if matches!(&decided, Err(reject) if reject.code() != AWAITS_LIMIT) {
            window = window_of(self.terms, share, &run, keyed);
            rung.bytes += give_up(self.terms, share, &run, keyed)?;
        }
        match decided {
            Ok(Decided::Applied { is_changed, rise, mut notices, notice_count, bytes, .. }) => {
                rung.changed += i64::from(is_changed);
                rung.counts.row_changes += rise;
                rung.counts.announced += notice_count;
                rung.bytes += bytes;
                rung.rows.append(&mut notices);
            }
            // It stays, and the record behind which it fires is decided once more.
            Err(reject) if reject.code() == AWAITS_LIMIT => {
                return Err(trouble(Trouble::Fault(Fault::retry(reject.message()))).into());
            }
            Err(Reject::Skip { .. }) | Ok(_) => rung.counts.skipped += 1,
            Err(reject) => {
                let Terms { pipeline, limits, now, .. } = self.terms;
                let place = (share.source, share.incarnation);
                let seq = i32::try_from(first).unwrap_or(i32::MAX);
                let told = [(TIMER_HEADER, timer.told())].into_iter();
                let told: Vec<_> = told.chain(window.as_deref().map(|span| (WINDOW_HEADER, span))).collect();
                let row = dead_letter_about(pipeline, limits, place, (&record, &told), &reject, seq, *now);
                rung.counts.dead_letters += 1;
                rung.bytes += bytes_of(pipeline, &row);
                rung.rows.push(row);
            }
        }
        Ok(())
    }

    /// Runs a timer over the row of its key, unless the database has ended the transactions of its batches before.
    fn run_timer<E: From<StoreTrouble>>(
        &mut self,
        share: &Share<'_>,
        run: &Run<'_>,
        keyed: &mut Keyed,
        rows: &mut impl Writer<E>,
    ) -> Result<Result<Decided, Reject>, E> {
        if let Some(reject) = run.timer.and_then(|timer| share.over(timer)) {
            return Ok(Err(reject.clone()));
        }
        let number = match share.step.table().table.key_type.parse(run.record.key) {
            Ok(key) => self.slot(share.table, &key),
            Err(reject) => return Ok(Err(reject)),
        };
        let Some(number) = number else { return Ok(Err(Reject::dead_letter("bad-key", "the key has no slot"))) };
        self.write_in_front(number, rows)?;
        if let Err(reject) = self.terms.hand.check(run.in_hand) {
            return Ok(Err(reject));
        }
        self.decide_row(share, run, number, Some(keyed), rows)
    }
}
