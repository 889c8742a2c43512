//! Opens the stores of a task and makes them whole from their changelogs, before the first record.
//!
//! A restore runs in slices between the batches of the worker's other tasks, so it can be given up at any time: the
//! records that it has written carry a checkpoint, and the next restore goes on from there. Its end is the end of the
//! changelog when it began, open transactions included: K was read as committed, and changelog records that belong to K
//! may still wait for their marker there.

use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::state::cache::WriteBack;
use crate::engine::state::kept::{Kept, START, Search, Timers};
use crate::engine::state::restore::{Gathered, Restore, Stands, checkpoint_stands, cut_at, is_older};
use crate::engine::state::stores::Keyed;
use crate::engine::status::{Counter, RestoreStatus};
use crate::engine::task::State;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::ids::{KnownIds, waited_for};
use crate::engine::worker::progress::Progress;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::Fault;
use crate::ports::changelog::ChangelogReader;
use crate::ports::failpoint::failpoint;
use crate::ports::source::TaskId;
use crate::ports::store::{Checkpoint, StoreId, Write};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most changelog records of one slice: some milliseconds.
const SLICE: usize = 5_000;
/// The wait of a slice for the log.
const WAIT: Duration = Duration::from_millis(20);
/// The time without anything new from the log after which another task's restore has its turn: longer than any answer
/// takes. An open transaction holds up the records behind it, and only those.
const STALLED: Duration = Duration::from_secs(1);

/// The reason why a store cannot be used as it is.
type Doubt = (HaltReason, String);

/// The restores of a worker: one at a time, by one reader.
#[derive(Default)]
pub(crate) struct Restores {
    reader: Option<Box<dyn ChangelogReader>>,
    under_way: Option<Restore>,
    /// Restores that came no further and have let the others go first.
    parked: BTreeMap<TaskId, Restore>,
}

impl Restores {
    /// Opens every store of the task; the inner error halts it.
    fn open_stores(desk: &Desk, ids: &mut KnownIds, id: TaskId) -> Result<Result<Keyed, Doubt>, Fault> {
        let now = desk.wiring.clock.elapsed();
        let Some(task) = desk.tasks.get(&id) else { return Err(Fault::retry("the task is gone")) };
        let specs = task.sub_topology.stores.clone();
        let lead = task.sub_topology.lead.clone();
        let count = task.counts.first().copied().unwrap_or(0);
        let Some(stores) = desk.wiring.stores.clone() else {
            return Err(Fault::fatal("the pipeline keeps state, and no place was given for it"));
        };
        let mut kept = Vec::with_capacity(specs.len());
        for spec in specs {
            let Some(topic) = desk.wiring.topology.changelog_topic(&spec) else { continue };
            let found = desk.wiring.group.partition_count(&topic, desk.wiring.settings.ask_wait)?;
            let Some(found) = found else {
                return Err(Fault::retry(format!("topic {topic} is gone; `topics apply` creates it, empty")));
            };
            if found != count {
                let message = format!(
                    "{lead} has {count} partitions, {topic} has {found}: the store was built over {found}, and the keys of a topic move when its count changes"
                );
                return Ok(Err((HaltReason::PartitionCountChanged, message)));
            }
            let log_ids = ids.of(&desk.wiring, &topic)?;
            // A checkpoint that cannot be understood is found now, while it is known that the store is to blame.
            let opened = stores.open(&StoreId { name: spec.name.clone(), partition: id.partition });
            let opened = opened.and_then(|store| store.checkpoint().map(|_| store));
            let store = match opened {
                Err(fault) => match consequence::of(&fault, Moment::OpenStore) {
                    Consequence::Halt(reason) => return Ok(Err((reason, fault.to_string()))),
                    _ => return Err(fault),
                },
                Ok(opened) => opened,
            };
            let changelog = TopicPartition::new(topic, id.partition);
            let cache = WriteBack::new(store, spec);
            let limit = desk.wiring.limits.of(&changelog.topic);
            let (proved_end, search, has_timers) = (NextOffset(0), Search::default(), cache.spec().timers.is_some());
            let is_timed = has_timers || cache.spec().time_to_live.is_some();
            let timers = has_timers.then_some(Timers::UNKNOWN);
            kept.push(Kept { cache, changelog, log_ids, limit, proved_end, search, is_timed, timers });
        }
        Ok(Ok(Keyed::new(kept, Vec::new(), START, now)))
    }

    /// Puts the stores into the task. True when they are there, false when the task halts.
    pub(crate) fn keep_state(&mut self, desk: &mut Desk, ids: &mut KnownIds, id: TaskId) -> Result<bool, Fault> {
        let is_stateful = desk.tasks.get(&id).is_some_and(|task| task.sub_topology.is_stateful());
        if !is_stateful {
            return Ok(true);
        }
        if let Some(task) = desk.tasks.get_mut(&id) {
            task.keyed = None; // stores that an earlier try opened
        }
        // The restore that had begun went with those stores, and the changelog may have a later end by now.
        self.under_way.take_if(|restore| restore.task == id);
        self.parked.remove(&id);
        match Self::open_stores(desk, ids, id)? {
            Ok(keyed) => {
                if let Some(task) = desk.tasks.get_mut(&id) {
                    task.keyed = Some(keyed);
                }
                Ok(true)
            }
            Err((reason, message)) => {
                if let Some(halt) = desk.halt_of(id, 0, reason, message) {
                    desk.halt(id, halt);
                }
                Ok(false)
            }
        }
    }

    fn open_reader(&mut self, desk: &Desk) -> Result<(), Fault> {
        if self.reader.is_none() {
            let Some(open) = &desk.wiring.changelogs else {
                return Err(Fault::fatal("the pipeline keeps state, and its changelogs cannot be read"));
            };
            self.reader = Some(open()?);
        }
        Ok(())
    }

    /// The halt of a task whose changelog ends before its store does. To be asked before an earlier owner's remainder
    /// is sent into that changelog, which may make it as long again.
    pub(crate) fn cut_changelog(&mut self, desk: &Desk, id: TaskId) -> Result<Option<(HaltReason, String)>, Fault> {
        self.open_reader(desk)?;
        let (Some(reader), Some(task)) = (&mut self.reader, desk.tasks.get(&id)) else { return Ok(None) };
        for kept in task.keyed.iter().flat_map(|keyed| &keyed.kept) {
            let checkpoint = kept.cache.checkpoint()?.filter(|checkpoint| checkpoint.log_ids == kept.log_ids);
            let Some(checkpoint) = checkpoint else { continue };
            let end = reader.bounds(&kept.changelog).map_err(waited_for)?.end;
            if checkpoint.next_offset > end {
                return Ok(Some(cut_at(end, &checkpoint)));
            }
        }
        Ok(None)
    }

    /// One slice of the restore of `id`.
    pub(crate) fn step(&mut self, desk: &mut Desk, id: TaskId) -> Result<Progress, Fault> {
        self.open_reader(desk)?;
        let now = desk.wiring.clock.elapsed();
        match &self.under_way {
            Some(restore) if restore.task == id => return self.restore_slice(desk, id),
            Some(other) if !is_restoring(desk, other.task) => self.under_way = None,
            Some(other) if now.saturating_sub(other.moved_at) < STALLED => return Ok(Progress::Nowhere), // its turn comes
            Some(_) => self.park(desk)?,
            None => {}
        }
        match self.parked.remove(&id) {
            Some(parked) => self.go_on_restoring(desk, Restore { moved_at: now, ..parked }),
            None => self.begin_restore(desk, id, 0),
        }
    }

    /// Puts the current restore aside, with the records that it has read in its store.
    fn park(&mut self, desk: &mut Desk) -> Result<(), Fault> {
        let Some(mut restore) = self.under_way.take() else { return Ok(()) };
        if write_gathered(desk, &mut restore, false)? {
            self.parked.insert(restore.task, restore);
        }
        Ok(())
    }

    fn go_on_restoring(&mut self, desk: &mut Desk, restore: Restore) -> Result<Progress, Fault> {
        let id = restore.task;
        let keyed = desk.tasks.get(&id).and_then(|task| task.keyed.as_ref());
        let (Some(kept), Some(reader)) = (keyed.and_then(|keyed| keyed.kept.get(restore.store)), &mut self.reader)
        else {
            return Ok(Progress::Nowhere);
        };
        reader.begin(&kept.changelog, restore.position)?;
        self.under_way = Some(restore);
        self.restore_slice(desk, id)
    }

    fn begin_restore(&mut self, desk: &mut Desk, id: TaskId, store: usize) -> Result<Progress, Fault> {
        let rebuild_after = desk.wiring.settings.store_rebuild_after;
        let (now, elapsed) = (desk.wiring.clock.now(), desk.wiring.clock.elapsed());
        self.under_way = None;
        let Some(task) = desk.tasks.get_mut(&id) else { return Ok(Progress::Nowhere) };
        let Some(keyed) = &mut task.keyed else { return Ok(Progress::Nowhere) };
        let Some(kept) = keyed.kept.get_mut(store) else {
            restored(desk, id)?;
            return Ok(Progress::Whole);
        };
        let Some(reader) = &mut self.reader else { return Ok(Progress::Nowhere) };
        let bounds = reader.bounds(&kept.changelog).map_err(waited_for)?;
        let checkpoint = kept.cache.checkpoint()?;
        let is_old = checkpoint.as_ref().is_some_and(|checkpoint| is_older(checkpoint, now, rebuild_after));
        let from = match checkpoint_stands(checkpoint.as_ref(), &kept.log_ids, bounds.start, bounds.end, is_old) {
            Stands::From(from) => from,
            Stands::Rebuild(reason) => {
                tracing::warn!(store = %kept.cache.spec().name, partition = %kept.changelog, reason, "the store is rebuilt by itself, from its whole changelog");
                kept.cache.clear()?;
                bounds.start
            }
            Stands::Halt(reason, message) => {
                if let Some(halt) = desk.halt_of(id, 0, reason, message) {
                    desk.halt(id, halt);
                }
                return Ok(Progress::Further);
            }
        };
        kept.proved_end = from;
        let (gathered, since) = (Gathered::default(), kept.cache.checkpoint()?.map_or(now, |checkpoint| checkpoint.at));
        let status = RestoreStatus {
            store: kept.cache.spec().name.to_string(),
            from: from.0,
            position: from.0,
            end: bounds.end.0,
            records: 0,
            bytes: 0,
            began_at: elapsed,
            seconds: 0.0,
        };
        let moved_at = elapsed;
        let (end, position) = (bounds.end, from);
        self.go_on_restoring(
            desk,
            Restore { task: id, store, end, position, moved_at, gathered, since, began: now, status },
        )
    }

    fn restore_slice(&mut self, desk: &mut Desk, id: TaskId) -> Result<Progress, Fault> {
        let elapsed = desk.wiring.clock.elapsed();
        let Some(mut restore) = self.under_way.take() else { return Ok(Progress::Nowhere) };
        let Some(reader) = &mut self.reader else { return Ok(Progress::Nowhere) };
        let before = restore.position;
        if restore.position < restore.end {
            let Restore { gathered, status, .. } = &mut restore;
            let wait = WAIT.min(desk.wiring.settings.ask_wait);
            let read = reader.read(wait, SLICE, &mut |record| {
                let key = record.key.unwrap_or_default();
                status.records += 1;
                status.bytes += (key.len() + record.value.map_or(0, <[u8]>::len)) as u64;
                gathered.insert(key, record.value);
                !gathered.is_full()
            });
            restore.position = match read {
                Err(fault) => match consequence::of(&fault, Moment::ReadChangelog) {
                    Consequence::Halt(reason) => {
                        desk.halt_over(id, reason, &fault);
                        return Ok(Progress::Further);
                    }
                    _ => return Err(fault),
                },
                Ok(position) => position,
            };
        }
        failpoint!(K24);
        let is_whole = restore.position >= restore.end;
        restore.status.position = restore.position.0;
        restore.status.seconds = elapsed.saturating_sub(restore.status.began_at).as_secs_f64();
        if (is_whole || restore.gathered.is_full()) && !write_gathered(desk, &mut restore, is_whole)? {
            return Ok(Progress::Further);
        }
        desk.wiring.status.set_restore(id, (!is_whole).then(|| restore.status.clone()));
        if !is_whole {
            let has_moved = restore.position > before;
            if has_moved {
                restore.moved_at = elapsed;
            }
            note_restore(desk, id, &restore, has_moved);
            self.under_way = Some(restore);
            return Ok(Progress::of(has_moved));
        }
        let kept = kept_of(desk, &restore);
        let Some(kept) = kept else { return Ok(Progress::Nowhere) };
        kept.proved_end = kept.proved_end.max(restore.position);
        if let Some(reader) = &mut self.reader {
            reader.end();
        }
        let RestoreStatus { store, records, bytes, seconds, .. } = &restore.status;
        tracing::info!(task = ?id, store, records, bytes, seconds, "store restored");
        desk.wiring.status.add(Counter::RestoredRecords, *records);
        self.begin_restore(desk, id, restore.store + 1)
    }
}

/// The input offset up to which the task's stores were made, if a store remembers one.
pub(crate) fn remembered(desk: &Desk, id: TaskId, source: &TopicPartition) -> Result<Option<NextOffset>, Fault> {
    let Some(keyed) = desk.tasks.get(&id).and_then(|task| task.keyed.as_ref()) else { return Ok(None) };
    let mut found = None;
    for kept in &keyed.kept {
        let checkpoint = kept.cache.checkpoint()?;
        let inputs = checkpoint.into_iter().flat_map(|checkpoint| checkpoint.inputs);
        found = inputs.filter(|(place, _)| place == source).filter_map(|(_, at)| at).chain(found).max();
    }
    Ok(found)
}

fn is_restoring(desk: &Desk, id: TaskId) -> bool {
    desk.tasks.get(&id).is_some_and(|task| task.state() == State::Restoring)
}

fn kept_of<'a>(desk: &'a mut Desk, restore: &Restore) -> Option<&'a mut Kept> {
    let keyed = desk.tasks.get_mut(&restore.task)?.keyed.as_mut()?;
    keyed.kept.get_mut(restore.store)
}

/// Notes whether a restore has come further.
fn note_restore(desk: &mut Desk, id: TaskId, restore: &Restore, has_moved: bool) {
    let now = desk.wiring.clock.elapsed();
    let Some(task) = desk.tasks.get_mut(&id) else { return };
    if has_moved {
        task.waiting.end();
        task.inputs.iter().for_each(|input| desk.wiring.status.waits.forget(&input.source.to_string()));
        return;
    }
    let (position, end, store) = (restore.position, restore.end, &restore.status.store);
    let fault = Fault::retry(format!(
        "the changelog of store {store} ends at {end} and shows nothing from {position} on; where the brokers are well, a \
         transaction is open there, which ends by its timeout or hangs (KAFKA-20734): `kafka-transactions.sh find-hanging` \
         names it, `abort` ends it"
    ));
    task.waiting.failed(now);
    if let Some(lead) = task.inputs.first() {
        desk.wiring.status.waits.failed(&lead.source, &fault);
    }
}

/// Every store is whole, and with them the clock.
fn restored(desk: &mut Desk, id: TaskId) -> Result<(), Fault> {
    let now = desk.wiring.clock.elapsed();
    if let Some(task) = desk.tasks.get_mut(&id) {
        let inputs = task.inputs.iter().map(|input| input.next_offset).collect();
        // Read before the stores are taken: a disk that does not answer is asked again.
        let time = task.keyed.as_mut().map(Keyed::kept_time).transpose()?;
        if let Some((keyed, time)) = task.keyed.take().zip(time) {
            task.keyed = Some(Keyed::new(keyed.kept, inputs, time, now));
        }
    }
    desk.show_stores(id);
    Ok(())
}

/// Writes the records that were read into the store, up to the offset that was read. False when that failed: the task
/// halts.
fn write_gathered(desk: &mut Desk, restore: &mut Restore, is_whole: bool) -> Result<bool, Fault> {
    let gathered = std::mem::take(&mut restore.gathered);
    if gathered.values.is_empty() && !is_whole {
        return Ok(true);
    }
    let at = if is_whole { restore.began } else { restore.since };
    let Some(task) = desk.tasks.get_mut(&restore.task) else { return Ok(false) };
    // Only a store that is whole has the effects of all its inputs.
    let inputs: Vec<_> = task.inputs.iter().map(|input| (input.source.clone(), Some(input.next_offset))).collect();
    let inputs = if is_whole { inputs } else { Vec::new() };
    let kept = task.keyed.as_mut().and_then(|keyed| keyed.kept.get_mut(restore.store));
    let Some(kept) = kept else { return Ok(false) };
    let writes: Vec<Write<'_>> =
        gathered.values.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    let (next_offset, log_ids) = (restore.position, kept.log_ids.clone());
    let loaded = kept.cache.load(&writes, &Checkpoint { next_offset, log_ids, at, inputs });
    let Err(fault) = loaded else { return Ok(true) };
    match consequence::of(&fault, Moment::FillStore) {
        Consequence::Halt(reason) => {
            desk.halt_over(restore.task, reason, &fault);
            Ok(false)
        }
        _ => Err(fault),
    }
}
