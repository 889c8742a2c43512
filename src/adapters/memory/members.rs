//! The requests of members to their group: to join, to get the next event, to give up, to leave.

use super::assignment::assign;
use super::group::{GroupState, Member, Tell};
use super::state::State;
use crate::flow::record::Partition;
use crate::ports::source::{Subscription, TaskId};
use std::collections::BTreeSet;
use std::time::Duration;

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

    /// Whether anything but records is to be reported to the member.
    pub(super) fn has_to_tell(&mut self, group: &str, member_id: &str) -> bool {
        let state = self.groups.get(group);
        state.members.get(member_id).is_none_or(|member| member.told_generation != state.generation)
    }

    /// The next event for the member; an answer of `Assign` counts as reported.
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

    /// Members poll until `time` has passed.
    pub(super) fn keep_sessions(&mut self, time: Duration) {
        let members = self.groups.by_id.values_mut().flat_map(|group| group.members.values_mut());
        members.for_each(|member| member.last_poll += time);
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
