//! Timers of steps with rows: those that are due fire behind the record that moved the clock, each over the row of its key.

use crate::engine::outbound::message::{bytes_of, dead_letter_of_timer};
use crate::engine::state::stores::Keyed;
use crate::engine::task::in_hand::Hand;
use crate::engine::worker::rows::batch::Batch;
use crate::engine::worker::rows::entry::{Decided, Rung};
use crate::engine::worker::rows::foreseen::Foreseen;
use crate::engine::worker::rows::record::{Run, decide_run};
use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::terms::{StoreTrouble, TaskStores, Terms};
use crate::engine::worker::rows::writer::Writer;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{Record, Timestamp};
use crate::flow::timer::{Clock, TURN, Timer};
use crate::ports::source::TaskId;
use std::collections::BTreeSet;

impl Batch<'_> {
    /// The tables of steps with timers.
    pub(super) fn tables_with_timers(&self) -> impl Iterator<Item = usize> {
        let has_timers = move |share: &&Share<'_>| self.foreseen.iter().any(|foreseen| foreseen.task == share.task);
        self.shares.iter().filter(has_timers).map(|share| share.table)
    }

    /// The tables and keys of the foreseen timers, one for each.
    pub(super) fn foreseen_places(&self) -> impl Iterator<Item = (usize, Key)> {
        self.foreseen.iter().flat_map(move |foreseen| {
            let share = self.shares.iter().find(|share| share.task == foreseen.task);
            share.into_iter().flat_map(move |share| foreseen.keys(share).map(move |key| (share.table, key)))
        })
    }

    /// The keys of the foreseen timers of a share's task.
    pub(super) fn foreseen_keys(&self, share: usize) -> impl Iterator<Item = Key> {
        let share = self.shares.get(share);
        let of = move |share| self.foreseen.iter().filter(move |foreseen: &&Foreseen| foreseen.task == share);
        share.into_iter().flat_map(move |share| of(share.task).flat_map(move |foreseen| foreseen.keys(share)))
    }

    /// The task of an entry.
    pub(super) fn task_of(&self, number: usize) -> Option<TaskId> {
        Some(self.shares.get(self.entries.get(number)?.share)?.task)
    }

    /// Whether a record would make a timer due whose row was not read. `begun`: the tasks of which the batch has decided a
    /// record.
    pub(super) fn is_beyond(&self, number: usize, stores: &TaskStores, begun: &BTreeSet<TaskId>) -> bool {
        let Some(entry) = self.entries.get(number) else { return false };
        let Some(share) = self.shares.get(entry.share).filter(|share| begun.contains(&share.task)) else {
            return false;
        };
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
        let Some(keyed) = stores.get_mut(&share.task).filter(|keyed| keyed.has_timers()) else { return Ok(()) };
        let mut rung = Rung::default();
        'turn: loop {
            let now = keyed.clock();
            let due = keyed
                .due(Clock::Event, now, TURN - rung.fired)
                .map_err(|fault| StoreTrouble { task: share.task, trouble: fault.into() })?;
            if due.is_empty() || rung.fired == TURN || rung.rows.len() >= TURN {
                break;
            }
            for timer in due {
                if rung.fired == TURN || rung.rows.len() >= TURN {
                    break;
                }
                if self.lacks_row(share, &timer) {
                    break 'turn; // it waits for the next record
                }
                self.ring_one(share, (&record, own), &timer, keyed, rows, &mut rung)?;
                if keyed.was_due_set(Clock::Event, now) {
                    break; // it may come before the next
                }
            }
        }
        if let Some(entry) = self.entries.get_mut(number) {
            entry.rung = rung;
        }
        Ok(())
    }

    /// Whether the row of a timer was not looked for: only where others that were due before it were taken back meanwhile.
    fn lacks_row(&self, share: &Share<'_>, timer: &Timer) -> bool {
        let key = share.step.table().table.key_type.parse(Some(&timer.key));
        key.is_ok_and(|key| self.slot(share.table, &key).is_none())
    }

    /// Fires one timer, unless one before it took it back.
    fn ring_one<E: From<StoreTrouble>>(
        &mut self,
        share: &Share<'_>,
        (behind, own): (&Record<'_>, usize),
        timer: &Timer,
        keyed: &mut Keyed,
        rows: &mut impl Writer<E>,
        rung: &mut Rung,
    ) -> Result<(), E> {
        let trouble = |trouble| StoreTrouble { task: share.task, trouble };
        let (at, key) = (Timestamp(timer.at), Some(&timer.key[..]));
        let record = Record { offset: behind.offset, timestamp: at, key, value: None, headers: &[] };
        let mut access = keyed.open_beside(at);
        let is_there = access.take_timer(timer);
        access.end(is_there == Ok(true)).map_err(trouble)?;
        if is_there != Ok(true) {
            return Ok(());
        }
        rung.fired += 1;
        let number = share.step.table().table.key_type.parse(key).map(|key| self.slot(share.table, &key));
        if let Ok(Some(number)) = number
            && self.slots.get(number).is_some_and(|slot| slot.is_pending)
        {
            self.write_pending(rows)?;
        }
        let in_hand = Hand::of_timer(share.in_hand(behind), rung.fired);
        let first = own + rung.rows.len();
        let run = Run { record: &record, timer: Some(&timer.name), in_hand, first };
        let decided = match number {
            Err(reject) => Err(reject),
            Ok(number) => match number.and_then(|number| Some((number, self.slots.get_mut(number)?))) {
                None => Err(Reject::dead_letter("bad-key", "the key has no slot")),
                Some((number, slot)) => {
                    let checked = self.terms.hand.check(in_hand);
                    let decided = match checked {
                        Ok(()) => decide_run(self.terms, share, &run, slot, Some(&mut *keyed), rows)?,
                        Err(reject) => Err(reject),
                    };
                    if slot.is_contested && !slot.is_pending && slot.must_be_written(rows) {
                        slot.is_pending = true;
                        self.pending.push(number);
                    }
                    decided
                }
            },
        };
        match decided {
            Ok(Decided::Applied { is_changed, mut notices, notice_count, bytes, .. }) => {
                rung.counts.row_changes += i64::from(is_changed);
                rung.counts.announced += notice_count;
                rung.bytes += bytes;
                rung.rows.append(&mut notices);
            }
            Err(Reject::Skip { .. }) | Ok(_) => rung.counts.skipped += 1,
            Err(reject) => {
                let Terms { pipeline, message_bytes_max, now, .. } = self.terms;
                let (place, told) = ((share.source, share.incarnation), (&record, &*timer.name));
                let seq = i32::try_from(first).unwrap_or(i32::MAX);
                let row = dead_letter_of_timer(pipeline, message_bytes_max, place, told, &reject, seq, *now);
                rung.counts.dead_letters += 1;
                rung.bytes += bytes_of(pipeline, &row);
                rung.rows.push(row);
            }
        }
        Ok(())
    }
}
