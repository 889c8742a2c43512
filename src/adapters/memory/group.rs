//! Consumer groups as the log's coordinator sees them: members, generations, moves, committed offsets.
//!
//! A move takes two steps, as with Kafka's cooperative assignors: a rebalance makes a plan and opens a generation; the
//! owner gives its task up at its next poll, which opens another generation, and only then the task goes to its new owner.
//! A member belongs to a generation once it has been told of it, and what it does as of an earlier one is refused.

use super::assignment::assign;
use super::state::State;
use crate::flow::record::{Partition, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::source::{Committed, Subscription, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug)]
struct Member {
    subscription: Subscription,
    address: String,
    last_poll: Duration,
    told_generation: i32,
}

#[derive(Debug)]
struct CommittedOffset {
    committed: Committed,
    written: u64,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    generation: i32,
    members: BTreeMap<String, Member>,
    joins: u64,
    plan: BTreeMap<TaskId, String>,
    owners: BTreeMap<TaskId, String>,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

/// All groups by id.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: BTreeMap<String, GroupState>,
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

    /// What the owners of the lead topics' partitions told when they joined.
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

    /// Refuses whoever is not a member of the group's current generation.
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

    fn remove_member(&mut self, member_id: &str) -> bool {
        self.owners.retain(|_, owner| owner != member_id);
        self.members.remove(member_id).is_some()
    }
}

/// What a member is to be told next.
#[derive(Debug)]
pub(super) enum Tell {
    /// It is not a member (any more).
    Unknown,
    /// Give these up, then call `give_up`. What is published until then is published as of this generation.
    Revoke(Vec<TaskId>, i32),
    /// These are new to it, as of this generation.
    Assign(Vec<TaskId>, i32),
    /// Nothing.
    Nothing,
}

// === impl State: what members ask for ===

impl State {
    /// Adds a member and answers its id.
    pub(super) fn join(&mut self, subscription: &Subscription, address: &str, now: Duration) -> String {
        let group = self.groups.get(&subscription.group);
        group.joins += 1;
        let member_id = format!("{}-member-{:04}", subscription.group, group.joins);
        let (subscribed, address) = (subscription.clone(), address.to_owned());
        let member = Member { subscription: subscribed, address, last_poll: now, told_generation: -1 };
        group.members.insert(member_id.clone(), member);
        self.rebalance(&subscription.group);
        member_id
    }

    /// Notes that the member is alive.
    pub(super) fn seen(&mut self, group: &str, member_id: &str, now: Duration) {
        if let Some(member) = self.groups.get(group).members.get_mut(member_id) {
            member.last_poll = now;
        }
    }

    /// Whether there is anything to tell the member but records.
    pub(super) fn has_to_tell(&mut self, group: &str, member_id: &str) -> bool {
        let state = self.groups.get(group);
        state.members.get(member_id).is_none_or(|member| member.told_generation != state.generation)
    }

    /// What the member is to be told next; an answer of `Assign` counts as told.
    pub(super) fn tell(&mut self, group: &str, member_id: &str) -> Tell {
        let state = self.groups.get(group);
        let Some(member) = state.members.get_mut(member_id) else { return Tell::Unknown };
        if member.told_generation == state.generation {
            return Tell::Nothing;
        }
        let is_mine = |owner: Option<&String>| owner.is_some_and(|owner| owner == member_id);
        let moving: Vec<TaskId> = state
            .owners
            .iter()
            .filter(|(task, owner)| is_mine(Some(owner)) && !is_mine(state.plan.get(task)))
            .map(|(task, _)| *task)
            .collect();
        if !moving.is_empty() {
            return Tell::Revoke(moving, state.generation);
        }
        member.told_generation = state.generation;
        let new: Vec<TaskId> = state
            .plan
            .iter()
            .filter(|(task, owner)| is_mine(Some(owner)) && !state.owners.contains_key(task))
            .map(|(task, _)| *task)
            .collect();
        for task in &new {
            state.owners.insert(*task, member_id.to_owned());
        }
        Tell::Assign(new, state.generation)
    }

    /// The member has given these tasks up: their new owners get them in the next generation.
    pub(super) fn give_up(&mut self, group: &str, member_id: &str, tasks: &[TaskId]) {
        let state = self.groups.get(group);
        for task in tasks {
            if state.owners.get(task).is_some_and(|owner| owner == member_id) {
                state.owners.remove(task);
            }
        }
        state.generation += 1;
        self.touch();
    }

    /// Removes a member, whether it left or was thrown out.
    pub(super) fn leave(&mut self, group: &str, member_id: &str) {
        if self.groups.get(group).remove_member(member_id) {
            self.rebalance(group);
        }
    }

    /// Throws out members that have not polled for the session timeout.
    pub(super) fn expire_members(&mut self, now: Duration) {
        let timeout = self.settings.session_timeout;
        let is_late = |member: &Member| now.saturating_sub(member.last_poll) > timeout;
        let mut shrunk = Vec::new();
        for (id, group) in &mut self.groups.by_id {
            let late: Vec<String> =
                group.members.iter().filter(|(_, member)| is_late(member)).map(|(id, _)| id.clone()).collect();
            for member_id in &late {
                group.remove_member(member_id);
            }
            if !late.is_empty() {
                shrunk.push(id.clone());
            }
        }
        for group in shrunk {
            self.rebalance(&group);
        }
    }

    /// Rebalances every group that subscribes to a topic which came, went or grew.
    pub(super) fn rebalance_readers_of(&mut self, topic: &crate::flow::record::TopicName) {
        let reads = |group: &GroupState| {
            group.members.values().any(|member| member.subscription.groups.iter().any(|part| part.lead == *topic))
        };
        let readers: Vec<String> =
            self.groups.by_id.iter().filter(|(_, group)| reads(group)).map(|(id, _)| id.clone()).collect();
        for group in readers {
            self.rebalance(&group);
        }
    }

    fn rebalance(&mut self, group: &str) {
        let state = self.groups.get(group);
        state.generation += 1;
        let members: Vec<String> = state.members.keys().cloned().collect();
        // The members of one group are taken to subscribe alike.
        let subscription = state.members.values().last().map(|member| &member.subscription);
        let tasks: BTreeSet<TaskId> = subscription
            .into_iter()
            .flat_map(|subscription| subscription.groups.iter().enumerate())
            .flat_map(|(sub_topology, part)| {
                let count = self.topics.count(&part.lead).unwrap_or(0);
                (0..count).map(move |number| TaskId { sub_topology, partition: Partition(number) })
            })
            .collect();
        let mut current = state.plan.clone();
        current.extend(state.owners.iter().map(|(task, owner)| (*task, owner.clone())));
        state.plan = assign(&tasks, &members, &current);
        self.touch();
    }
}
