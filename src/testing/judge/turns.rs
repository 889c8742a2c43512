//! The turns in which timers fired by the wall clock, as the engine has kept them in its changelogs: when, and in front of
//! which records.

use crate::flow::record::{Offset, Partition, TopicPartition};
use crate::flow::timer::{LAST_TURN, LastTurn};
use crate::flow::topology::Topology;
use crate::testing::observed::{Event, Observed};
use std::collections::{BTreeMap, VecDeque};

/// The turns of one task, in their order.
struct OfTask {
    inputs: Vec<TopicPartition>,
    /// Behind the last decided record of each input.
    reached: Vec<i64>,
    left: VecDeque<LastTurn>,
}

/// The turns of all tasks that are still to come.
pub(super) struct Turns {
    tasks: Vec<OfTask>,
    /// How often each place and time is still to be seen.
    sights: BTreeMap<(TopicPartition, Offset, i64), usize>,
}

impl Turns {
    pub(super) fn of(observed: &Observed, topology: &Topology) -> Self {
        let mut all = Vec::new();
        for sub in topology.sub_topologies() {
            let Some(changelog) = sub
                .stores
                .iter()
                .find(|store| store.timers.is_some())
                .and_then(|store| topology.changelog_topic(store))
            else {
                continue;
            };
            for partition in (0..observed.partitions).map(Partition) {
                let place = TopicPartition::new(changelog.clone(), partition);
                let messages = observed.log.get(&place).into_iter().flatten();
                let turns = messages.filter(|message| message.key.as_deref() == Some(LAST_TURN));
                // Behind the byte of the envelope and that of the version.
                let left = turns.filter_map(|turn| serde_json::from_slice(turn.value.as_deref()?.get(2..)?).ok());
                let inputs: Vec<TopicPartition> =
                    sub.sources().map(|topic| TopicPartition::new(topic.clone(), partition)).collect();
                all.push(OfTask { reached: vec![0; inputs.len()], inputs, left: left.collect() });
            }
        }
        let mut sights = BTreeMap::new();
        for event in &observed.events {
            if let Event::Turned(place, offset, at_ms) = event {
                *sights.entry((place.clone(), *offset, *at_ms)).or_default() += 1;
            }
        }
        Self { tasks: all, sights }
    }

    /// The turns that lie in front of a record and were not asked for yet, each with the first input of its task. The place of an
    /// offset without a record is not known among those of other inputs: a turn waits until all have come to it.
    pub(super) fn in_front_of(&mut self, place: &TopicPartition, offset: Offset) -> Vec<(TopicPartition, LastTurn)> {
        let mut out = Vec::new();
        for task in &mut self.tasks {
            let Some(input) = task.inputs.iter().position(|input| input == place) else { continue };
            let reached = &task.reached;
            let has_come = |(number, next): (usize, &i64)| {
                let at = if number == input { offset.0 } else { reached.get(number).copied().unwrap_or(i64::MAX) };
                *next <= at
            };
            let is_before = |turn: &mut LastTurn| turn.next.iter().enumerate().all(has_come);
            while let Some(turn) = task.left.pop_front_if(is_before) {
                out.extend(task.inputs.first().map(|first| (first.clone(), turn)));
            }
        }
        self.pass(place, offset);
        out
    }

    /// An offset was decided. One without a record is decided with the record before it, so it tells of no turn: one that
    /// lies in front of it may come much later.
    pub(super) fn pass(&mut self, place: &TopicPartition, offset: Offset) {
        for task in &mut self.tasks {
            if let Some(input) = task.inputs.iter().position(|input| input == place)
                && let Some(reached) = task.reached.get_mut(input)
            {
                *reached = offset.0 + 1;
            }
        }
    }

    /// The turns that were had by the time at which a timer was run at that place, and were not asked for yet: what a timer does
    /// may depend on a threshold that was set since, or on a release. An attempt that came to nothing is none of them.
    pub(super) fn seen(&mut self, place: &TopicPartition, offset: Offset, at_ms: i64) -> Vec<LastTurn> {
        let left = self.sights.get_mut(&(place.clone(), offset, at_ms));
        let is_last = left.is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        });
        let task = self.tasks.iter_mut().find(|task| task.inputs.first() == Some(place)).filter(|_| is_last);
        let Some(OfTask { left, .. }) = task else { return Vec::new() };
        let is_it = |turn: &LastTurn| (turn.at_ms, turn.next.first()) == (at_ms, Some(&offset.0));
        let count = left.iter().position(is_it).map_or(0, |number| number + 1);
        left.drain(..count).collect()
    }

    /// Those that are left.
    pub(super) fn rest(self) -> Vec<(TopicPartition, LastTurn)> {
        let mut out = Vec::new();
        for OfTask { inputs, left, .. } in self.tasks {
            out.extend(left.into_iter().filter_map(|turn| Some((inputs.first()?.clone(), turn))));
        }
        out
    }
}
