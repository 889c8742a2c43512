//! The turns in which timers fired by the wall clock, as the engine has kept them in its changelogs: when, and in front of
//! which records.

use crate::flow::record::{Offset, Partition, TopicPartition};
use crate::flow::timer::{LAST_TURN, LastTurn};
use crate::flow::topology::Topology;
use crate::testing::observed::Observed;
use std::collections::VecDeque;

/// The turns of one task, in their order.
struct OfTask {
    inputs: Vec<TopicPartition>,
    left: VecDeque<LastTurn>,
}

/// The turns of all tasks that are still to come.
pub(super) struct Turns(Vec<OfTask>);

impl Turns {
    pub(super) fn of(observed: &Observed, topology: &Topology) -> Self {
        let mut all = Vec::new();
        for sub in topology.sub_topologies() {
            let Some(changelog) =
                sub.stores.iter().find(|store| store.has_timers).and_then(|store| topology.changelog_topic(store))
            else {
                continue;
            };
            for partition in (0..observed.partitions).map(Partition) {
                let place = TopicPartition::new(changelog.clone(), partition);
                let messages = observed.log.get(&place).into_iter().flatten();
                let turns = messages.filter(|message| message.key.as_deref() == Some(LAST_TURN));
                // Behind the byte of the envelope and that of the version.
                let left = turns.filter_map(|turn| serde_json::from_slice(turn.value.as_deref()?.get(2..)?).ok());
                let inputs = sub.sources().map(|topic| TopicPartition::new(topic.clone(), partition)).collect();
                all.push(OfTask { inputs, left: left.collect() });
            }
        }
        Self(all)
    }

    /// The turns that lie in front of a record and were not asked for yet, each with the first input of its task.
    pub(super) fn in_front_of(&mut self, place: &TopicPartition, offset: Offset) -> Vec<(TopicPartition, LastTurn)> {
        let mut out = Vec::new();
        for task in &mut self.0 {
            let Some(input) = task.inputs.iter().position(|input| input == place) else { continue };
            let is_before = |turn: &mut LastTurn| turn.next.get(input).is_none_or(|next| *next <= offset.0);
            while let Some(turn) = task.left.pop_front_if(is_before) {
                out.extend(task.inputs.first().map(|first| (first.clone(), turn)));
            }
        }
        out
    }

    /// Those that are left.
    pub(super) fn rest(self) -> Vec<(TopicPartition, LastTurn)> {
        let mut out = Vec::new();
        for OfTask { inputs, left } in self.0 {
            out.extend(left.into_iter().filter_map(|turn| Some((inputs.first()?.clone(), turn))));
        }
        out
    }
}
