//! Rebalances: tasks that a member is given, and tasks that are taken from it.

use crate::adapters::kafka::consumer::{EPOCH_CHECK_INTERVAL, KafkaSource};
use crate::adapters::kafka::fault::{self, by_error};
use crate::adapters::kafka::ffi;
use crate::adapters::kafka::partitions::list;
use crate::adapters::kafka::settings::GroupProtocol;
use crate::ports::fault::Fault;
use crate::ports::source::{Listener, Membership, TaskId};
use rdkafka::consumer::{Consumer, RebalanceProtocol};

impl KafkaSource {
    pub(super) fn assign(&mut self, partitions: &[(String, i32)], listener: &mut dyn Listener) -> Result<(), Fault> {
        let tasks = self.topics.tasks(partitions);
        let all = self.topics.partitions(&tasks);
        let list = list(all.iter().map(|partition| (partition, 0)))?;
        // An empty list too: the group waits for the answer.
        self.consumer
            .incremental_assign(&list)
            .map_err(|error| Fault::fatal("the client refused an assignment").because(error))?;
        self.assigned.extend(&tasks);
        if !all.is_empty() {
            self.consumer.pause(&list).map_err(|error| by_error(&error, "pause of new partitions"))?;
        }
        self.direct(&all, true)?;
        match ffi::membership(self.consumer.client()) {
            Ok(membership) => {
                tracing::info!(
                    generation = membership.generation(),
                    tasks = tasks.len(),
                    kept = self.owned.len(),
                    "group {}: assigned",
                    membership.group()
                );
                self.generation = membership.generation();
                self.owned.extend(&tasks);
                listener.assigned(&tasks, membership);
            }
            // Fallen out of the group since the event was made; the client will report the loss.
            Err(reason) => {
                tracing::warn!("assignment without membership is passed over, and the group assigns again: {reason}");
            }
        }
        Ok(())
    }

    pub(super) fn revoke(&mut self, partitions: &[(String, i32)], listener: &mut dyn Listener) -> Result<(), Fault> {
        let tasks = self.topics.tasks(partitions);
        let is_lost = self.consumer.assignment_lost();
        let told: Vec<TaskId> = tasks.iter().copied().filter(|task| self.owned.remove(task)).collect();
        if !told.is_empty() {
            tracing::info!(tasks = told.len(), is_lost, "group {}: revoked", self.group.name());
            if is_lost {
                self.generation = -1;
                listener.lost(&told);
            } else {
                // The join that asks for them back has begun a generation of its own. Publications meanwhile, for them and
                // for the tasks kept, must be committed as its member, or the broker answers IllegalGeneration. They are
                // still ours: cooperative members give a partition to nobody before it was given up.
                if let Some(membership) = self.newer_membership() {
                    listener.assigned(&[], membership);
                }
                listener.revoked(&told);
            }
        }
        let gone: Vec<TaskId> = tasks.iter().copied().filter(|task| self.assigned.remove(task)).collect();
        let all = self.topics.partitions(&gone);
        for partition in &all {
            self.started.remove(partition);
            self.stopped.remove(partition);
        }
        // Records in a queue of the partition's own would lie there until the partition comes back. The group waits for the
        // answer below whether or not that succeeds.
        if let Err(fault) = self.direct(&all, true) {
            tracing::debug!(error = %fault, "records of a partition given up are kept until it comes back");
        }
        let answer = if matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            self.consumer.incremental_unassign(&list(all.iter().map(|partition| (partition, 0)))?)
        } else {
            self.consumer.unassign()
        };
        answer.map_err(|error| Fault::fatal("the client refused to give partitions up").because(error))
    }

    /// KIP-848: the member epoch may move on without an event for us. Still ours: the broker gives nothing of a member
    /// to others before that member has acknowledged the revoke, and a lost member keeps no epoch.
    ///
    /// Under either protocol a member that was taken in and given no partition may hear of no rebalance.
    pub(super) fn check_epoch(&mut self, listener: &mut dyn Listener) {
        let may_have_moved = self.protocol == GroupProtocol::Consumer && !self.owned.is_empty();
        let is_waiting = self.generation < 0;
        if !(may_have_moved || is_waiting) || !fault::left(self.epoch_check_at).is_zero() {
            return;
        }
        self.epoch_check_at = fault::deadline(EPOCH_CHECK_INTERVAL);
        if self.consumer.assignment_lost() {
            return;
        }
        if let Some(membership) = self.newer_membership() {
            listener.assigned(&[], membership);
        }
    }

    /// The client's own thread looks whether a heartbeat is due when something wakes it, and by itself once a second only:
    /// any question wakes it.
    pub(super) fn wake(&mut self) {
        if fault::left(self.wake_at).is_zero() {
            self.wake_at = fault::deadline(self.heartbeat);
            let _ = ffi::membership(self.consumer.client()); // the answer is nothing new
        }
    }

    /// The membership, where its generation is above the one last reported.
    fn newer_membership(&mut self) -> Option<Membership> {
        let found = ffi::membership(self.consumer.client()).ok();
        let membership = found.filter(|membership| membership.generation() > self.generation)?;
        self.generation = membership.generation();
        Some(membership)
    }
}
