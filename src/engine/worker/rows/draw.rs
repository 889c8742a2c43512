//! The draw: the records that a batch of steps with rows takes, and the smaller batches that follow a failure.
//!
//! A transaction may be too large for a limit of the database: its time, its bytes, a lock that another program holds.
//! Offered unchanged it would fail for ever, so a smaller one is tried, down to one record of one partition. A record
//! that fails alone is the trouble of its own partition, where it is set aside and waits. Where no repetition can help,
//! the record becomes a dead letter if the database refused one of its values, or if its step takes longer than the
//! database lets a transaction idle; any other cause halts the partition. The others go on, and their batches grow
//! again. Where a record has timers behind it, fewer fire with each failure, and the number grows again, too; who is to blame, the
//! record or one of them, is sought in [`blame`](crate::engine::worker::rows::blame).
//!
//! A row that another program has locked is found without such trials: the database says which of the rows are locked,
//! and their partitions look from time to time, without waiting, whether they are free.

use crate::engine::outbound::size::Size;
use crate::engine::protocol::decision::HaltReason;
use crate::engine::status::Counter;
use crate::engine::task::order::{first_of, next_of};
use crate::engine::task::{Held, Input, SetAside, Task};
use crate::engine::worker::database::{Database, PAUSE, PAUSE_MAX};
use crate::engine::worker::desk::Desk;
use crate::engine::worker::rows::blame::{Blamed, SLOW_MAX};
use crate::engine::worker::rows::fired::Fired;
use crate::engine::worker::rows::lane::RowsLane;
use crate::engine::worker::rows::prepared::Wanted;
use crate::flow::key::Key;
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most bytes of keys and values of one batch, shared by its inputs; a larger record comes alone.
const BATCH_BYTES: usize = 64 << 20;
/// The inverse of the share of the worker's time that records set aside may take; the others' batches have the rest.
const SET_ASIDE_SHARE: u32 = 5;
const SET_ASIDE_MAX: Duration = Duration::from_secs(30);
/// The number of failures in a row that a record may have alone while other batches are committed.
const ALONE_MAX: u32 = 16;
/// The time between two looks whether a locked row is free.
const HELD_LOOK: Duration = Duration::from_millis(250);

/// The records that one input contributes to a batch.
#[derive(Debug)]
pub(crate) struct Draw {
    pub(crate) task: TaskId,
    pub(crate) input: usize,
    pub(crate) records: usize,
}

/// A task with records for the next batch.
struct Candidate<'a> {
    task: &'a Task,
    /// The records at hand.
    queued: usize,
    /// The time when the oldest of them arrived.
    arrived: Duration,
    /// The last committed batch that had a part of each of its inputs.
    committed_in: u64,
}

impl<'a> Candidate<'a> {
    fn of(task: &'a Task, now: Duration) -> Option<Self> {
        next_of(&task.inputs, now)?;
        let inputs = || task.inputs.iter().filter(|input| input.is_free(now) && input.queued() > 0);
        let arrived = inputs().filter_map(Input::oldest_arrival).min()?;
        let committed_in = inputs().map(|input| input.committed_in).min()?;
        Some(Self { task, queued: inputs().map(Input::queued).sum(), arrived, committed_in })
    }
}

impl RowsLane {
    /// The records for the next batch: none until it is full or its first record is old enough.
    pub(crate) fn draw(&self, desk: &Desk) -> Vec<Draw> {
        let now = desk.wiring.clock.elapsed();
        if desk.wiring.is_relay_behind() {
            return Vec::new();
        }
        let deciding =
            || desk.tasks.values().filter(|task| task.state().is_deciding() && task.commit() == CommitKind::Rows);
        let set_aside = deciding()
            .flat_map(|task| task.inputs.iter().enumerate().map(|(number, input)| (task.id, number, input)))
            .filter(|(_, _, input)| input.queued() > 0 && input.blocked_until <= now && input.set_aside.is_some());
        let mut candidates: Vec<Candidate<'_>> = deciding().filter_map(|task| Candidate::of(task, now)).collect();
        let mut room = self.portion.most(desk.wiring.settings.batch_rows);
        if candidates.iter().any(|candidate| candidate.task.sub_topology.is_stateful()) {
            // A batch with stores is published whole: as many messages at least as records.
            room = room.min(desk.wiring.outstanding.room(Size::MAX).messages).max(1);
        }
        let total: usize = candidates.iter().map(|candidate| candidate.queued).sum();
        let is_aged =
            candidates.iter().any(|candidate| now.saturating_sub(candidate.arrived) >= desk.wiring.settings.batch_age);
        let is_due = total >= room || is_aged;
        let first = set_aside.min_by_key(|(_, _, input)| input.blocked_until);
        // Those set aside and the others take turns. A batch with refused rows is drawn again before the turn ends: the commit of
        // another one would forget the suspects, and it would be refused again each time, for as long as others are due.
        let is_turn = self.was_set_aside == self.was_refused;
        if let Some((task, input, _)) = first.filter(|_| !is_due || is_turn) {
            return vec![Draw { task, input, records: 1 }];
        }
        if !is_due {
            return Vec::new();
        }
        if candidates.len() > room {
            // The tasks that have waited longest for a committed batch come first.
            candidates.sort_by_key(|candidate| candidate.committed_in);
            candidates.truncate(room);
        }
        // The shortest queues come first, so that the unused part of their fair share goes to the longer ones.
        candidates.sort_by_key(|candidate| candidate.queued);
        let mut left = candidates.len();
        let bytes = BATCH_BYTES / left.max(1);
        let mut draws = Vec::with_capacity(left);
        for Candidate { task, queued, .. } in candidates {
            let counts = first_of(&task.inputs, now, queued.min(room.div_ceil(left)), bytes);
            room -= counts.iter().sum::<usize>();
            left -= 1;
            let drawn = counts.into_iter().enumerate().filter(|(_, records)| *records > 0);
            draws.extend(drawn.map(|(input, records)| Draw { task: task.id, input, records }));
        }
        draws
    }

    /// Handles the failure of a batch that was begun at `began`; a smaller one may succeed. A record that was alone is
    /// set aside; where no repetition can help it becomes a dead letter, or halts.
    pub(crate) fn failed(
        &mut self,
        desk: &mut Desk,
        db: &mut Database,
        fault: &Fault,
        draws: &[Draw],
        began: Duration,
        was_at_commit: bool,
    ) {
        desk.wiring.status.add(Counter::DatabaseRetries, 1);
        let records = draws.iter().map(|draw| draw.records).sum();
        let Some(alone) = draws.first().filter(|_| records == 1) else {
            self.portion.failed(records);
            db.back_off(&*desk.wiring.clock, fault);
            return;
        };
        let set_aside = input_of(desk, alone.task, alone.input).and_then(|input| input.set_aside.clone());
        let mut set_aside = set_aside.unwrap_or_else(|| SetAside::new(self.commits));
        set_aside.failures += 1;
        let too_slow = self.over_idle_limit(db, fault, &set_aside);
        set_aside.slow = too_slow.map_or(0, |_| set_aside.slow + 1);
        let too_slow = too_slow.filter(|_| set_aside.slow >= SLOW_MAX);
        let is_final = too_slow.is_some() || self.is_final(fault, &set_aside, was_at_commit);
        let fired = std::mem::take(&mut self.fired);
        let is_too_large = set_aside.slow == 0 && self.is_too_large(fault, &fired);
        let blamed = match too_slow {
            _ if !is_final => Blamed::Nobody,
            Some(limit) => set_aside.blame_slow(fired, self.decide_time, limit),
            None => set_aside.blame_refused(fired, fault.reject(), self.was_set_aside),
        };
        match blamed {
            Blamed::Nobody if is_too_large => self.turn_failed(alone.task),
            Blamed::Nobody | Blamed::Sought => {}
            Blamed::Timer => set_aside.slow = 0,
            Blamed::Record(Some(reject)) if set_aside.reject.is_none() => {
                (set_aside.reject, set_aside.slow) = (Some(reject), 0);
            }
            Blamed::Record(_) => {
                let halt = desk.halt_of(alone.task, alone.input, HaltReason::SchemaChanged, fault.to_string());
                if let Some(halt) = halt {
                    desk.halt(alone.task, halt);
                }
                return;
            }
        }
        let now = desk.wiring.clock.elapsed();
        let took = now.saturating_sub(began);
        let Some(input) = desk.tasks.get_mut(&alone.task).and_then(|task| task.inputs.get_mut(alone.input)) else {
            return;
        };
        let failures = set_aside.failures;
        desk.wiring.status.waits.failed(&input.source, fault);
        input.set_aside = Some(set_aside);
        input.blocked_until = now + pause_of(failures, took);
        if failures.is_power_of_two() {
            let offset = input.next_offset.0;
            tracing::warn!(partition = %input.source, offset, error = %fault, failures, "the database did not take a record that was offered alone; it is offered again by itself, until then its partition waits, the others go on");
        }
    }

    /// Whether a record that was alone may have failed for what its timers make of the transaction: its size, the time of its
    /// statements. Once is chance, and who waits for a lock waits on.
    fn is_too_large(&self, fault: &Fault, fired: &Fired) -> bool {
        self.was_set_aside && fired.is_any() && fault.is_retry() && !fault.is_lock_wait()
    }

    /// The time for which the database lets a transaction idle, where the step of a record that was alone has taken
    /// longer, so that the fault is its own doing. A wait for a lock is not, nor is a failure of a record whose step is
    /// called no more.
    fn over_idle_limit(&self, db: &mut Database, fault: &Fault, set_aside: &SetAside) -> Option<Duration> {
        let is_run = set_aside.reject.is_none() || self.fired.count > 0;
        let is_its_own = fault.is_retry() && !fault.is_lock_wait() && is_run;
        db.rows.idle_max().filter(|limit| is_its_own && self.decide_time > *limit)
    }

    /// Whether a record that has failed alone is not offered again: the database refuses it (a COMMIT that it refuses
    /// may have been about the changes of others), or commits everything but it. A record that waits for a lock waits
    /// on.
    fn is_final(&self, fault: &Fault, set_aside: &SetAside, was_at_commit: bool) -> bool {
        match fault {
            Fault::Corrupt(_) => !was_at_commit || set_aside.failures > 1,
            fault if fault.is_lock_wait() => false,
            _ => set_aside.failures >= ALONE_MAX && self.commits - set_aside.since >= u64::from(ALONE_MAX),
        }
    }
}

pub(super) fn input_of(desk: &Desk, task: TaskId, number: usize) -> Option<&Input> {
    desk.tasks.get(&task)?.inputs.get(number)
}

/// The pause of a record that has failed alone `failures` times, the last time after `took`. At first it is short:
/// mostly the cause was chance, such as a server that was restarted.
fn pause_of(failures: u32, took: Duration) -> Duration {
    let pause = (PAUSE * 2_u32.pow(failures.min(10))).min(PAUSE_MAX);
    if failures > 1 { pause.max(took * (SET_ASIDE_SHARE - 1)).min(SET_ASIDE_MAX) } else { pause }
}

/// Whether the batch has a record that failed alone before.
pub(crate) fn is_set_aside(desk: &mut Desk, draws: &[Draw]) -> bool {
    let is_set_aside =
        |draw: &Draw| input_of(desk, draw.task, draw.input).is_some_and(|input| input.set_aside.is_some());
    draws.iter().any(is_set_aside)
}

/// The locked ones among the rows, by table. Where the database cannot tell, none: a batch finds out.
fn locked(db: &mut Database, keys: BTreeMap<usize, BTreeSet<Key>>) -> BTreeMap<usize, BTreeSet<Key>> {
    let mut out = BTreeMap::new();
    for (table, keys) in keys {
        let keys: Vec<Key> = keys.into_iter().collect();
        if let Ok(locked) = db.rows.locked(table, &keys) {
            out.insert(table, locked.into_iter().collect());
        }
    }
    out
}

/// Makes the partitions wait whose rows are locked by another program and were waited for without success. False where
/// no row is found to be locked.
pub(crate) fn hold(desk: &mut Desk, db: &mut Database, fault: &Fault, wanted: &[Wanted]) -> bool {
    let mut keys: BTreeMap<usize, BTreeSet<Key>> = BTreeMap::new();
    for wanted in wanted {
        keys.entry(wanted.table).or_default().extend(wanted.keys.iter().cloned());
    }
    let locked = locked(db, keys);
    let until = desk.wiring.clock.elapsed() + HELD_LOOK;
    let mut is_held = false;
    for Wanted { task, input, table, keys } in wanted {
        let Some(key) = keys.iter().find(|key| locked.get(table).is_some_and(|locked| locked.contains(*key))) else {
            continue;
        };
        let Some(task) = desk.tasks.get_mut(task) else { continue };
        let Some(input) = task.inputs.get_mut(*input) else { continue };
        tracing::warn!(partition = %input.source, error = %fault, "a row is locked by another program, which the cause names; its record is offered again by itself, until then its partition waits, the others go on");
        desk.wiring.status.waits.failed(&input.source, fault);
        input.held = Some(Held { table: *table, key: key.clone(), looks: 0 });
        input.blocked_until = until;
        is_held = true;
    }
    is_held
}

/// Lets the partitions go on whose locked rows are free by now.
pub(crate) fn look_at_held(desk: &mut Desk, db: &mut Database) {
    let now = desk.wiring.clock.elapsed();
    let mut keys: BTreeMap<usize, BTreeSet<Key>> = BTreeMap::new();
    for input in desk.tasks.values().flat_map(|task| &task.inputs) {
        if let Some(held) = input.held.as_ref().filter(|_| input.blocked_until <= now) {
            keys.entry(held.table).or_default().insert(held.key.clone());
        }
    }
    if keys.is_empty() {
        return;
    }
    let locked = locked(db, keys);
    for input in desk.tasks.values_mut().flat_map(|task| &mut task.inputs) {
        let Some(held) = input.held.as_mut().filter(|_| input.blocked_until <= now) else { continue };
        if !locked.get(&held.table).is_some_and(|locked| locked.contains(&held.key)) {
            input.held = None;
            desk.wiring.status.waits.forget(&input.source.to_string());
            continue;
        }
        held.looks += 1;
        input.blocked_until = now + HELD_LOOK;
        if held.looks.is_power_of_two() {
            tracing::info!(partition = %input.source, looks = held.looks, "its row is still locked by another program");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_fails_alone_is_tried_again_at_once_and_then_leaves_the_others_most_of_the_time() {
        let seconds = Duration::from_secs;
        assert!(pause_of(1, seconds(35)) < Duration::from_millis(100));
        assert_eq!(pause_of(2, seconds(5)), seconds(20));
        assert_eq!(pause_of(3, seconds(35)), seconds(30));
        assert_eq!(pause_of(20, Duration::ZERO), seconds(1));
    }
}
