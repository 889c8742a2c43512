//! Opens the stores of a task and makes them whole from their changelogs, before the first record.
//!
//! A restore runs in slices between the batches of the worker's other tasks, so it can be given up at any time: what it has
//! written carries a checkpoint, and the next one goes on from there. Its end is that of the changelog when it began, open
//! transactions included: K was read as committed, and what belongs to K may still wait for its marker there.

use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::state::cache::WriteBack;
use crate::engine::state::restore::{Gathered, Restore, Stands, checkpoint_stands, cut_at};
use crate::engine::state::stores::{Kept, Keyed, START, Search};
use crate::engine::status::{Counter, RestoreStatus};
use crate::engine::task::State;
use crate::engine::worker::Stage;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::flow::topology::SubTopology;
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::source::TaskId;
use crate::ports::store::{Checkpoint, StoreId, Write};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most changelog records of one slice: some milliseconds.
const SLICE: usize = 5_000;
/// How long a slice waits for the log.
const WAIT: Duration = Duration::from_millis(20);
/// How long the log may show nothing new before another task's restore has its turn: longer than any answer takes. An open
/// transaction holds up what lies behind it, and only that.
const STALLED: Duration = Duration::from_secs(1);

/// Why a store cannot be used as it is.
type Doubt = (HaltReason, String);

impl Stage {
    /// Opens every store of the task; the inner error halts it.
    fn open_stores(&mut self, id: TaskId) -> Result<Result<Keyed, Doubt>, Fault> {
        let now = self.clock.elapsed();
        let Some(task) = self.state.tasks.get(&id) else { return Err(Fault::retry("the task is gone")) };
        let specs = task.sub_topology.stores.clone();
        let lead = task.sub_topology.lead.clone();
        let count = task.counts.first().copied().unwrap_or(0);
        let Some(stores) = self.stores.clone() else {
            return Err(Fault::fatal("the pipeline keeps state, and no place was given for it"));
        };
        let mut kept = Vec::with_capacity(specs.len());
        for spec in specs {
            let Some(topic) = self.topology.changelog_topic(&spec) else { continue };
            let found = self.group.partition_count(&topic, self.settings.ask_wait)?;
            let Some(found) = found else {
                return Err(Fault::retry(format!("topic {topic} is gone; `topics apply` creates it, empty")));
            };
            if found != count {
                let message = format!(
                    "{lead} has {count} partitions, {topic} has {found}: the store was built over {found}, and the keys of a topic move when its count changes"
                );
                return Ok(Err((HaltReason::PartitionCountChanged, message)));
            }
            let log_ids = self.log_ids(&topic)?;
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
            let record_bytes_max = self.message_bytes_max.get(&changelog.topic).copied().unwrap_or(usize::MAX);
            let (proved_end, search, is_timed) =
                (NextOffset(0), Search::default(), cache.spec().time_to_live.is_some());
            kept.push(Kept { cache, changelog, log_ids, record_bytes_max, proved_end, search, is_timed });
        }
        Ok(Ok(Keyed::new(kept, Vec::new(), START, now)))
    }

    /// Puts the stores into the task. True when they are there, false when the task halts.
    pub(crate) fn keep_state(&mut self, id: TaskId) -> Result<bool, Fault> {
        let is_stateful = self.state.tasks.get(&id).is_some_and(|task| task.sub_topology.is_stateful());
        if !is_stateful {
            return Ok(true);
        }
        if let Some(task) = self.state.tasks.get_mut(&id) {
            task.keyed = None; // what an earlier try opened
        }
        // What it had begun to restore went with that, and the changelog may have a later end by now.
        self.state.restore.take_if(|restore| restore.task == id);
        self.state.parked.remove(&id);
        match self.open_stores(id)? {
            Ok(keyed) => {
                if let Some(task) = self.state.tasks.get_mut(&id) {
                    task.keyed = Some(keyed);
                }
                Ok(true)
            }
            Err((reason, message)) => {
                if let Some(halt) = self.halt_of(id, 0, reason, message) {
                    self.halt(id, halt);
                }
                Ok(false)
            }
        }
    }

    /// The input offset up to which the task's stores were made, if a store remembers one.
    pub(crate) fn remembered(&self, id: TaskId, source: &TopicPartition) -> Result<Option<NextOffset>, Fault> {
        let Some(keyed) = self.state.tasks.get(&id).and_then(|task| task.keyed.as_ref()) else { return Ok(None) };
        let mut found = None;
        for kept in &keyed.kept {
            let checkpoint = kept.cache.checkpoint()?;
            let inputs = checkpoint.into_iter().flat_map(|checkpoint| checkpoint.inputs);
            found = inputs.filter(|(place, _)| place == source).filter_map(|(_, at)| at).chain(found).max();
        }
        Ok(found)
    }

    fn open_reader(&mut self) -> Result<(), Fault> {
        if self.state.reader.is_none() {
            let Some(open) = &self.changelogs else {
                return Err(Fault::fatal("the pipeline keeps state, and its changelogs cannot be read"));
            };
            self.state.reader = Some(open()?);
        }
        Ok(())
    }

    /// Why a task halts whose changelog ends before its store does. To be asked before an earlier owner's rest is sent into
    /// that changelog, which may make it as long again.
    pub(crate) fn cut_changelog(&mut self, id: TaskId) -> Result<Option<(HaltReason, String)>, Fault> {
        self.open_reader()?;
        let (Some(reader), Some(task)) = (&mut self.state.reader, self.state.tasks.get(&id)) else { return Ok(None) };
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

    /// One slice of the restore of `id`; the task runs when every store is whole. True when it came any further.
    pub(crate) fn restore(&mut self, id: TaskId) -> Result<bool, Fault> {
        self.open_reader()?;
        let now = self.clock.elapsed();
        match &self.state.restore {
            Some(restore) if restore.task == id => return self.restore_slice(id),
            Some(other) if !self.is_restoring(other.task) => self.state.restore = None,
            Some(other) if now.saturating_sub(other.moved_at) < STALLED => return Ok(false), // its turn comes
            Some(_) => self.park()?,
            None => {}
        }
        match self.state.parked.remove(&id) {
            Some(parked) => self.go_on_restoring(Restore { moved_at: now, ..parked }),
            None => self.begin_restore(id, 0),
        }
    }

    /// Puts the restore under way aside, with what it has read in its store.
    fn park(&mut self) -> Result<(), Fault> {
        let Some(mut restore) = self.state.restore.take() else { return Ok(()) };
        if self.write_gathered(&mut restore, false)? {
            self.state.parked.insert(restore.task, restore);
        }
        Ok(())
    }

    fn go_on_restoring(&mut self, restore: Restore) -> Result<bool, Fault> {
        let id = restore.task;
        let keyed = self.state.tasks.get(&id).and_then(|task| task.keyed.as_ref());
        let (Some(kept), Some(reader)) =
            (keyed.and_then(|keyed| keyed.kept.get(restore.store)), &mut self.state.reader)
        else {
            return Ok(false);
        };
        reader.begin(&kept.changelog, restore.position)?;
        self.state.restore = Some(restore);
        self.restore_slice(id)
    }

    fn is_restoring(&self, id: TaskId) -> bool {
        self.state.tasks.get(&id).is_some_and(|task| task.state() == State::Restoring)
    }

    fn begin_restore(&mut self, id: TaskId, store: usize) -> Result<bool, Fault> {
        let rebuild_after = self.settings.store_rebuild_after;
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        self.state.restore = None;
        let Some(task) = self.state.tasks.get_mut(&id) else { return Ok(false) };
        let Some(keyed) = &mut task.keyed else { return Ok(false) };
        let Some(kept) = keyed.kept.get_mut(store) else {
            self.restored(id)?;
            return Ok(true);
        };
        let Some(reader) = &mut self.state.reader else { return Ok(false) };
        let bounds = reader.bounds(&kept.changelog).map_err(waited_for)?;
        let checkpoint = kept.cache.checkpoint()?;
        let age = checkpoint.as_ref().map_or(0, |checkpoint| now.0.saturating_sub(checkpoint.at.0));
        let is_old = u128::try_from(age).unwrap_or(0) > rebuild_after.as_millis();
        let from = match checkpoint_stands(checkpoint.as_ref(), &kept.log_ids, bounds.start, bounds.end, is_old) {
            Stands::From(from) => from,
            Stands::Rebuild(reason) => {
                tracing::warn!(store = %kept.cache.spec().name, partition = %kept.changelog, reason, "the store is rebuilt from its whole changelog");
                kept.cache.clear()?;
                bounds.start
            }
            Stands::Halt(reason, message) => {
                if let Some(halt) = self.halt_of(id, 0, reason, message) {
                    self.halt(id, halt);
                }
                return Ok(true);
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
        self.go_on_restoring(Restore { task: id, store, end, position, moved_at, gathered, since, began: now, status })
    }

    fn restore_slice(&mut self, id: TaskId) -> Result<bool, Fault> {
        let elapsed = self.clock.elapsed();
        let Some(mut restore) = self.state.restore.take() else { return Ok(false) };
        let Some(reader) = &mut self.state.reader else { return Ok(false) };
        let before = restore.position;
        if restore.position < restore.end {
            let Restore { gathered, status, .. } = &mut restore;
            let wait = WAIT.min(self.settings.ask_wait);
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
                        self.halt_over(id, reason, &fault);
                        return Ok(true);
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
        if (is_whole || restore.gathered.is_full()) && !self.write_gathered(&mut restore, is_whole)? {
            return Ok(true);
        }
        self.status.set_restore(id, (!is_whole).then(|| restore.status.clone()));
        if !is_whole {
            let has_moved = restore.position > before;
            if has_moved {
                restore.moved_at = elapsed;
            }
            self.note_restore(id, &restore, has_moved);
            self.state.restore = Some(restore);
            return Ok(has_moved);
        }
        let kept = self.kept_of(&restore);
        let Some(kept) = kept else { return Ok(false) };
        kept.proved_end = kept.proved_end.max(restore.position);
        if let Some(reader) = &mut self.state.reader {
            reader.end();
        }
        let RestoreStatus { store, records, bytes, seconds, .. } = &restore.status;
        tracing::info!(task = ?id, store, records, bytes, seconds, "store restored");
        self.status.add(Counter::RestoredRecords, *records);
        self.begin_restore(id, restore.store + 1)
    }

    fn kept_of(&mut self, restore: &Restore) -> Option<&mut Kept> {
        let keyed = self.state.tasks.get_mut(&restore.task)?.keyed.as_mut()?;
        keyed.kept.get_mut(restore.store)
    }

    /// Says when it has come no further for long.
    fn note_restore(&mut self, id: TaskId, restore: &Restore, has_moved: bool) {
        let now = self.clock.elapsed();
        let Some(task) = self.state.tasks.get_mut(&id) else { return };
        if has_moved {
            task.waiting.end();
            return;
        }
        let (position, end, store) = (restore.position, restore.end, &restore.status.store);
        let fault = Fault::retry(format!(
            "the changelog of store {store} ends at {end} and shows nothing from {position} on; where the brokers are well, a \
             transaction is open there, which ends by its timeout or hangs (KAFKA-20734): `kafka-transactions.sh find-hanging` \
             names it, `abort` ends it"
        ));
        task.waiting.step_in_vain(now, id, task.state().label(), &fault);
    }

    /// Writes what was read into the store, up to where it was read. False when it could not be: the task halts.
    fn write_gathered(&mut self, restore: &mut Restore, is_whole: bool) -> Result<bool, Fault> {
        let gathered = std::mem::take(&mut restore.gathered);
        if gathered.values.is_empty() && !is_whole {
            return Ok(true);
        }
        let at = if is_whole { restore.began } else { restore.since };
        let Some(task) = self.state.tasks.get_mut(&restore.task) else { return Ok(false) };
        // Only a store that is whole has seen all that its inputs did.
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
                self.halt_over(restore.task, reason, &fault);
                Ok(false)
            }
            _ => Err(fault),
        }
    }

    /// Every store is whole, and with them the clock.
    fn restored(&mut self, id: TaskId) -> Result<(), Fault> {
        let now = self.clock.elapsed();
        if let Some(task) = self.state.tasks.get_mut(&id) {
            let inputs = task.inputs.iter().map(|input| input.next_offset).collect();
            // Read before the stores are taken: a disk that does not answer is asked again.
            let time = task.keyed.as_mut().map(Keyed::kept_time).transpose()?;
            if let Some((keyed, time)) = task.keyed.take().zip(time) {
                task.keyed = Some(Keyed::new(keyed.kept, inputs, time, now));
            }
        }
        self.show_stores(id);
        self.go_on_with_tables(id);
        Ok(())
    }

    /// Partition counts of the sources are looked at now and then. With state or a declaration a change halts the task: a key's
    /// records go elsewhere, and its state does not (docs/traps.md#more-partitions). Without, a companion that
    /// outgrows its lead topic is told of.
    pub(crate) fn watch_counts(&mut self) -> Result<(), Fault> {
        let now = self.clock.elapsed();
        if now.saturating_sub(self.state.counts_at) < self.settings.count_check {
            return Ok(());
        }
        self.state.counts_at = now;
        let watched: Vec<(TaskId, Vec<(TopicName, i32)>)> = self
            .state
            .tasks
            .values()
            .filter(|task| task.state() == State::Running && rests_on_counts(&task.sub_topology))
            .map(|task| (task.id, task.sub_topology.sources().cloned().zip(task.counts.iter().copied()).collect()))
            .collect();
        let mut found: BTreeMap<TopicName, i32> = BTreeMap::new();
        for (id, sources) in watched {
            for (number, (topic, was)) in sources.into_iter().enumerate() {
                let is = match found.get(&topic) {
                    Some(count) => *count,
                    None => match self.group.partition_count(&topic, self.settings.ask_wait) {
                        Ok(Some(count)) => *found.entry(topic.clone()).or_insert(count),
                        Ok(None) | Err(_) => continue, // a log that does not answer is seen elsewhere
                    },
                };
                if is != was {
                    self.hand_over_log()?;
                    let message = format!("{topic} was {was} partitions, now {is}");
                    if let Some(halt) = self.halt_of(id, number, HaltReason::PartitionCountChanged, message) {
                        self.halt(id, halt);
                    }
                    break;
                }
            }
        }
        self.watch_companions();
        Ok(())
    }

    /// Says once of each size that a companion has beyond its lead topic, whose numbers are the ones that are assigned.
    fn watch_companions(&mut self) {
        let Self { group, settings, state, .. } = self;
        let count = |topic: &TopicName| group.partition_count(topic, settings.ask_wait).ok().flatten();
        let tasks = state.tasks.values().filter(|task| task.state() == State::Running);
        let subs: BTreeMap<usize, &SubTopology> = tasks
            .filter(|task| !task.sub_topology.companions.is_empty() && !rests_on_counts(&task.sub_topology))
            .map(|task| (task.id.sub_topology, &task.sub_topology))
            .collect();
        for sub in subs.into_values() {
            let Some(lead) = count(&sub.lead) else { continue };
            for companion in &sub.companions {
                let Some(found) = count(companion).filter(|found| *found > lead) else { continue };
                if state.outgrown.insert(companion.clone(), found) != Some(found) {
                    tracing::warn!("{}", unread(&sub.lead, lead, companion, found));
                }
            }
        }
    }
}

/// Whether a changed partition count is more than a question of what is read.
fn rests_on_counts(sub: &SubTopology) -> bool {
    sub.is_stateful() || sub.declared.is_some()
}

fn unread(lead: &TopicName, count: i32, companion: &TopicName, found: i32) -> String {
    let last = found - 1;
    format!(
        "{companion} has {found} partitions, and {lead}, with which it is read, {count}: what lies in its partitions {count} to \
         {last} is read by nobody; give both topics one count, then restart"
    )
}

/// A topic that is not there is waited for: it may only be unknown to the broker that was asked, or be made again.
pub(crate) fn waited_for(fault: Fault) -> Fault {
    match fault {
        Fault::Corrupt(cause) => Fault::Retry(cause),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_of_a_companion_is_told_with_its_numbers() {
        let name = |topic| TopicName::parse(topic).unwrap();
        let told = unread(&name("readings"), 12, &name("corrections"), 24);
        assert!(told.starts_with("corrections has 24 partitions, and readings"), "{told}");
        assert!(told.contains("partitions 12 to 23 is read by nobody"), "{told}");
    }
}
