//! Consumer groups as the log's coordinator sees them: members, generations, moves, committed offsets.
//!
//! A move takes two steps, as with Kafka's cooperative assignors: a rebalance makes a plan and opens a generation; the
//! owner gives its task up at its next poll, which opens another generation, and only then the task goes to its new owner.
//! A member belongs to a generation once that was reported to it, and its acts under an earlier one are refused.

use crate::flow::record::TopicPartition;
use crate::ports::fault::Fault;
use crate::ports::source::{Committed, Subscription, TaskId};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) subscription: Subscription,
    pub(super) address: String,
    pub(super) last_poll: Duration,
    pub(super) told_generation: i32,
}

#[derive(Debug)]
pub(super) struct CommittedOffset {
    pub(super) committed: Committed,
    pub(super) written: u64,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    pub(super) generation: i32,
    pub(super) members: BTreeMap<String, Member>,
    pub(super) joins: u64,
    pub(super) plan: BTreeMap<TaskId, String>,
    pub(super) owners: BTreeMap<TaskId, String>,
    pub(super) offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

/// All groups by id.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_id: BTreeMap<String, GroupState>,
}

impl Groups {
    pub(super) fn get(&mut self, group: &str) -> &mut GroupState {
        self.by_id.entry(group.to_owned()).or_default()
    }

    pub(super) fn committed(&self, group: &str, place: &TopicPartition) -> Option<Committed> {
        Some(self.by_id.get(group)?.offsets.get(place)?.committed.clone())
    }

    pub(super) fn members(&self, group: &str) -> Vec<String> {
        self.by_id.get(group).map(|group| group.members.keys().cloned().collect()).unwrap_or_default()
    }

    /// The addresses that the owners of the lead topics' partitions gave when they joined.
    pub(super) fn addresses(&self, group: &str) -> BTreeMap<TopicPartition, String> {
        let Some(group) = self.by_id.get(group) else { return BTreeMap::new() };
        let told = group.owners.iter().filter_map(|(task, owner)| {
            let member = group.members.get(owner).filter(|member| !member.address.is_empty())?;
            let lead = member.subscription.groups.get(task.sub_topology)?.lead.clone();
            Some((TopicPartition::new(lead, task.partition), member.address.clone()))
        });
        told.collect()
    }

    /// Deletes a group that has no members. The count of joins goes on, so that no two members share an id.
    pub(super) fn delete(&mut self, group: &str) -> bool {
        let Some(state) = self.by_id.get_mut(group).filter(|state| state.members.is_empty()) else { return false };
        *state = GroupState { joins: state.joins, ..GroupState::default() };
        true
    }

    /// Refuses a caller that is no member of the group's current generation.
    pub(super) fn check(&self, group: &str, member_id: &str, generation: i32) -> Result<(), Fault> {
        let found = self.by_id.get(group).filter(|group| group.members.contains_key(member_id));
        match found {
            Some(group) if group.generation == generation => Ok(()),
            Some(state) => Err(Fault::fenced(format!(
                "group {group}: generation {generation} is over, the group is at {}",
                state.generation
            ))),
            None => Err(Fault::fenced(format!("group {group}: {member_id} is not a member"))),
        }
    }

    /// Forgets a deleted topic's offsets.
    pub(super) fn forget_topic(&mut self, topic: &crate::flow::record::TopicName) {
        for group in self.by_id.values_mut() {
            group.offsets.retain(|place, _| place.topic != *topic);
        }
    }
}

impl GroupState {
    /// Keeps an offset unless a later write got there first.
    pub(super) fn set_offset(&mut self, place: TopicPartition, committed: Committed, written: u64) {
        let is_newer = self.offsets.get(&place).is_none_or(|found| found.written <= written);
        if is_newer {
            self.offsets.insert(place, CommittedOffset { committed, written });
        }
    }

    pub(super) fn remove_offset(&mut self, place: &TopicPartition) {
        self.offsets.remove(place);
    }

    pub(super) fn remove_member(&mut self, member_id: &str) -> bool {
        self.owners.retain(|_, owner| owner != member_id);
        self.members.remove(member_id).is_some()
    }
}

/// The next event to report to a member.
#[derive(Debug)]
pub(super) enum Tell {
    /// It is not a member (any more).
    Unknown,
    /// Give these up, then call `give_up`. Until then it publishes under this generation.
    Revoke(Vec<TaskId>, i32),
    /// These are new to it, as of this generation.
    Assign(Vec<TaskId>, i32),
    /// Nothing.
    Nothing,
}
