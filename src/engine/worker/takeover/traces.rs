//! The traces of an input that was read before, and of the stores it was read with, apart from its own offset: the
//! changelogs, and the marks in the K of the task's inputs ([`metadata`]).
//!
//! A lost offset must not look like a first start: the stores would count everything again. Nor may a store that is
//! empty, because its changelog was made anew or because it did not exist before, look like a store of a task that has
//! read nothing.

use crate::engine::outbound::outbox::decided;
use crate::engine::protocol::decision::{HaltReason, StartPolicy};
use crate::engine::protocol::metadata::{self, Listed, Marks};
use crate::engine::state::kept::Kept;
use crate::engine::task::{Input, Task};
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::takeover::lane::Takeovers;
use crate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::source::{Committed, Group, TaskId};
use crate::ports::store::Checkpoint;
use std::time::Duration;

/// K of each input of a task, in their order.
type AllCommitted<'a> = &'a [Option<Committed>];

/// Whether anything was ever written into one of the changelogs.
pub(crate) fn is_any_written(group: &dyn Group, changelogs: &[TopicPartition], wait: Duration) -> Result<bool, Fault> {
    for changelog in changelogs {
        if group.bounds(changelog, wait)?.end > NextOffset(0) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Takeovers {
    /// Notes the marks that K of each input carries from here on.
    pub(crate) fn mark(&mut self, desk: &mut Desk, id: TaskId, committed: AllCommitted<'_>) -> Result<(), Fault> {
        let Some(task) = desk.tasks.get(&id) else { return Ok(()) };
        let store = |kept: &Kept| (kept.cache.spec().name.to_string(), kept.log_ids.topic_id.clone());
        let stores: Vec<(String, String)> = task.keyed.iter().flat_map(|keyed| &keyed.kept).map(store).collect();
        let topics: Vec<_> = task.inputs.iter().map(|input| input.source.topic.clone()).collect();
        let mut inputs = Vec::with_capacity(topics.len());
        for topic in topics {
            inputs.push((topic.to_string(), self.ids.of(&desk.wiring, &topic)?.topic_id));
        }
        let Some(task) = desk.tasks.get_mut(&id) else { return Ok(()) };
        let commit = task.commit();
        let mut marks = Vec::with_capacity(inputs.len());
        for (number, (input, (_, topic_id))) in task.inputs.iter().zip(&inputs).enumerate() {
            let begun_with = input.position.as_ref().map(|position| position.partition_count);
            let known = committed.get(number).and_then(Option::as_ref).and_then(metadata::partition_count);
            let partition_count = begun_with.or(known).or_else(|| task.counts.get(number).copied()).unwrap_or(0);
            let topic_id = match commit {
                CommitKind::Rows => None, // the position has it
                CommitKind::Log => Some(topic_id.as_str()),
            };
            let inputs = if stores.is_empty() { &[][..] } else { &inputs };
            let set_back = committed.get(number).and_then(Option::as_ref).and_then(metadata::set_back);
            marks.push(Marks { topic_id, partition_count, inputs, stores: &stores, set_back }.spell().into());
        }
        task.marks = marks;
        Ok(())
    }

    /// Whether an input without an offset was read before all the same: another input's K says so; or the changelogs of
    /// the task were written, or the topic into which it re-keys, and no offset is left.
    pub(crate) fn was_read(
        &mut self,
        desk: &Desk,
        id: TaskId,
        source: &TopicPartition,
        committed: AllCommitted<'_>,
    ) -> Result<bool, Fault> {
        let Some(task) = desk.tasks.get(&id) else { return Ok(false) };
        if task.keyed.is_none() {
            return was_rekeyed(desk, task, committed);
        }
        let topic_id = self.ids.of(&desk.wiring, &source.topic)?.topic_id;
        let lists = |k: &Committed| metadata::lists_input(k, source.topic.as_str(), &topic_id) == Listed::Same;
        if committed.iter().flatten().any(lists) {
            return Ok(true);
        }
        let Some(task) = desk.tasks.get(&id) else { return Ok(false) };
        let is_any = committed.iter().any(Option::is_some) || task.inputs.iter().any(|input| input.position.is_some());
        if is_any {
            return Ok(false);
        }
        let kept = task.keyed.iter().flat_map(|keyed| &keyed.kept);
        let changelogs: Vec<TopicPartition> = kept.map(|kept| kept.changelog.clone()).collect();
        is_any_written(&*desk.wiring.group, &changelogs, desk.wiring.settings.ask_wait)
    }
}

fn has_taken(task: &Task, committed: AllCommitted<'_>) -> bool {
    let positions = task.inputs.iter().filter_map(|input| Some(input.position.as_ref()?.next_offset));
    let offsets = committed.iter().flatten().map(|k| k.next_offset);
    positions.chain(offsets).any(|at| at > NextOffset(0))
}

/// Whether an internal topic of the pipeline holds records that a step without state made of its inputs, while no
/// partition of the inputs has an offset. The first of them to begin has committed one before anything is sent.
fn was_rekeyed(desk: &Desk, task: &Task, committed: AllCommitted<'_>) -> Result<bool, Fault> {
    let wait = desk.wiring.settings.ask_wait;
    let made = task.sub_topology.sent_on_to().first(); // all of them are written at once
    let Some(made) = made.filter(|_| task.commit() == CommitKind::Log && committed.iter().all(Option::is_none)) else {
        return Ok(false);
    };
    let all = |topic: &TopicName, count: i32| -> Vec<TopicPartition> {
        (0..count).map(|number| TopicPartition::new(topic.clone(), Partition(number))).collect()
    };
    let leads = all(&task.sub_topology.lead, task.counts.first().copied().unwrap_or(0));
    let committed = desk.wiring.group.committed(&leads, wait)?;
    if committed.into_iter().any(|k| metadata::known(k).is_some()) {
        return Ok(false);
    }
    let count = desk.wiring.group.partition_count(made, wait)?.unwrap_or(0);
    is_any_written(&*desk.wiring.group, &all(made, count), wait)
}

/// Whether records of the changelog were decided and wait to be published.
fn is_any_awaited(desk: &Desk, db: &mut Database, id: TaskId, changelog: &TopicName) -> Result<bool, Fault> {
    let Some(task) = desk.tasks.get(&id) else { return Ok(false) };
    let positions = task.inputs.iter().filter_map(|input| {
        let position = input.position.as_ref()?;
        Some((input.source.clone(), position.published, position.next_offset))
    });
    for (source, published, next_offset) in positions.collect::<Vec<_>>() {
        let rows = decided(&mut *db.rows, &source, published, next_offset)?;
        if rows.iter().any(|row| row.destination == *changelog) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The start of a partition without a past. A table is complete only from its beginning on; and a partition that was
/// added to a topic which the group reads already is read from its beginning, too: all of it was written since.
pub(crate) fn start_policy(
    desk: &Desk,
    id: TaskId,
    index: usize,
    committed: Option<&Committed>,
) -> Result<StartPolicy, Fault> {
    let Some(task) = desk.tasks.get(&id) else { return Ok(desk.wiring.settings.start) };
    let Some(input) = task.inputs.get(index) else { return Ok(desk.wiring.settings.start) };
    if desk.wiring.settings.start == StartPolicy::Earliest || input.is_table {
        return Ok(StartPolicy::Earliest);
    }
    if committed.is_some() || input.position.is_some() {
        return Ok(desk.wiring.settings.start);
    }
    let TopicPartition { topic, partition } = &input.source;
    let count = task.counts.get(index).copied().unwrap_or(0);
    let others = (0..count).filter(|number| *number != partition.0).map(Partition);
    let others: Vec<TopicPartition> = others.map(|number| TopicPartition::new(topic.clone(), number)).collect();
    let began_before = |k: &Committed| metadata::partition_count(k).is_some_and(|count| count <= partition.0);
    let is_added =
        desk.wiring.group.committed(&others, desk.wiring.settings.ask_wait)?.iter().flatten().any(began_before);
    Ok(if is_added { StartPolicy::Earliest } else { desk.wiring.settings.start })
}

/// A store of the task that is not the one into which the inputs before D or K went, and the reason. Where K names the
/// stores it was made with, K decides, whatever changelogs and disks hold from before: a store that was removed for a
/// while lacks the records read meanwhile. An operator may have accepted the store as it is: with K, or by beginning it
/// anew.
pub(crate) fn mismatched_store(
    desk: &Desk,
    db: &mut Database,
    id: TaskId,
    committed: AllCommitted<'_>,
) -> Result<Option<(HaltReason, String)>, Fault> {
    let Some(task) = desk.tasks.get(&id) else { return Ok(None) };
    let Some(keyed) = task.keyed.as_ref().filter(|_| has_taken(task, committed)) else { return Ok(None) };
    if committed.iter().flatten().any(metadata::accepts_stores) {
        return Ok(None);
    }
    let mut empty: Vec<TopicPartition> = Vec::new();
    for kept in &keyed.kept {
        let checkpoint = kept.cache.checkpoint()?.filter(|checkpoint| checkpoint.log_ids == kept.log_ids);
        if checkpoint.as_ref().is_some_and(Checkpoint::is_begun_anew) {
            continue;
        }
        let (name, topic_id) = (&kept.cache.spec().name, kept.log_ids.topic_id.as_str());
        let ks = committed.iter().zip(&task.inputs).filter_map(|(k, input)| Some((k.as_ref()?, input)));
        let said: Vec<_> = ks.map(|(k, input)| (metadata::lists_store(k, name, topic_id), k, input)).collect();
        let changelog = &kept.changelog;
        // A K that names the partition count would name the stores as well.
        let is_without = |(said, k, _): &&(Listed, &Committed, &Input)| {
            *said == Listed::Not && k.next_offset > NextOffset(0) && metadata::partition_count(k).is_some()
        };
        if let Some((_, _, input)) = said.iter().find(is_without) {
            let message =
                format!("the records of {} up to the group's offset were taken without store {name}", input.source);
            return Ok(Some((HaltReason::StoreAdded, message)));
        }
        if said.iter().any(|(said, ..)| *said == Listed::Same) {
            continue;
        }
        if said.iter().any(|(said, ..)| *said == Listed::Other) {
            let message = format!(
                "the group's offset was committed with another changelog than {changelog}, whose topic id is {topic_id}"
            );
            return Ok(Some((HaltReason::ChangelogRecreated, message)));
        }
        let is_known =
            || is_any_written(&*desk.wiring.group, std::slice::from_ref(changelog), desk.wiring.settings.ask_wait);
        if checkpoint.is_none() && !is_known()? {
            empty.push(changelog.clone());
        }
    }
    for changelog in empty {
        if !is_any_awaited(desk, db, id, &changelog.topic)? {
            let message = format!("{changelog} is empty, and inputs were taken before it was there");
            return Ok(Some((HaltReason::StoreAdded, message)));
        }
    }
    Ok(None)
}
