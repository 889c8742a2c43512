//! The log as a consumer group reads it.
//!
//! Fencing: the group assigns a partition to one member at a time, but a member that was stopped may go on after its
//! partitions moved. A [`Membership`] is therefore captured for each assignment and goes with every commit of offsets; the
//! broker refuses one whose generation is over. It does *not* refuse a member of the current generation that commits a
//! partition it no longer owns (docs/traps.md#membership-is-not-ownership): that is the engine's business, which checks the
//! assignment number.

use crate::flow::record::{NextOffset, Partition, Record, TopicName, TopicPartition};
use crate::flow::topology::{SubTopology, Topology};
use crate::ports::fault::Fault;
use crate::ports::obstacle::{ObstacleKind, Reason};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Which topics a group reads, as co-partition groups: the position in this list numbers the sub-topologies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The consumer group.
    pub group: String,
    /// One entry a sub-topology.
    pub groups: Vec<CopartitionGroup>,
}

impl Subscription {
    /// The topics that the group of a pipeline reads.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        let group = |sub: &SubTopology| CopartitionGroup { lead: sub.lead.clone(), companions: sub.companions.clone() };
        Self { group: topology.name().into(), groups: topology.sub_topologies().iter().map(group).collect() }
    }
}

/// A lead topic, which the group subscribes to, and the companions that are assigned with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopartitionGroup {
    /// The topic subscribed to.
    pub lead: TopicName,
    /// Assigned with it, number by number.
    pub companions: Vec<TopicName>,
}

/// One task: a partition number of one sub-topology. It reads that number of the lead topic and of all companions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// Position in [`Subscription::groups`].
    pub sub_topology: usize,
    /// The partition number.
    pub partition: Partition,
}

/// For the log: `partition 3 of sub-topology 0`.
impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of sub-topology {}", self.partition.0, self.sub_topology)
    }
}

/// Proof of membership, captured in the rebalance callback. It cannot be built without a member id and a generation
/// (a commit without them passes the group unchecked: docs/traps.md#a-commit-without-a-member).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    group: String,
    member_id: String,
    generation: i32,
    instance_id: Option<String>,
}

impl Membership {
    /// Builds the proof.
    ///
    /// # Errors
    /// A sentence when the member id is empty or the generation negative.
    pub fn new(group: &str, member_id: &str, generation: i32, instance_id: Option<&str>) -> Result<Self, String> {
        if member_id.is_empty() || generation < 0 {
            return Err(format!(
                "group {group}: membership without member id or generation (found {member_id:?}, {generation})"
            ));
        }
        Ok(Self {
            group: group.into(),
            member_id: member_id.into(),
            generation,
            instance_id: instance_id.map(Into::into),
        })
    }

    /// The consumer group's id.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The member id that the coordinator gave us.
    #[must_use]
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// The group generation (classic protocol) or member epoch (KIP-848).
    #[must_use]
    pub const fn generation(&self) -> i32 {
        self.generation
    }

    /// The static member's id, if any.
    #[must_use]
    pub fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }
}

/// The receiver of the events that [`Source::poll`] reports, on the polling thread and before `poll` returns.
pub trait Listener {
    /// A rebalance is complete. `tasks` are newly ours (none of them perhaps), and are paused: nothing is delivered for
    /// them until [`Source::start`]. `membership` replaces that of the tasks kept, and of those that are about to be revoked
    /// where the generation moved on before they were asked for.
    fn assigned(&mut self, tasks: &[TaskId], membership: Membership);

    /// These tasks are about to move. Blocks, within a bound, until they take no more input. Batches committed to the
    /// database are published if time allows.
    fn revoked(&mut self, tasks: &[TaskId]);

    /// These tasks are gone already: touch nothing.
    fn lost(&mut self, tasks: &[TaskId]);

    /// One record, in offset order within its partition. `topic` counts the topics of the task's sub-topology from the
    /// lead topic, which is 0.
    fn record(&mut self, task: TaskId, topic: usize, record: Record<'_>);

    /// A partition cannot be read on: its next offset lies outside the log.
    fn out_of_range(&mut self, task: TaskId, topic: usize, message: &str);

    /// The obstacles of one kind as the source sees them now, each with its subject; none where the kind is over.
    fn obstacles(&mut self, _kind: ObstacleKind, _found: Vec<(String, Reason)>) {}

    /// The tasks with records in the log, as far as the source knows, that it has not reported.
    fn lagging(&mut self, _tasks: Vec<TaskId>) {}
}

/// One member of a consumer group. Owned by one thread.
pub trait Source: Send {
    /// Waits at most `wait` for an event, reports all events at hand without waiting further (at most `records_max`
    /// records), and returns the number of records that it reported.
    ///
    /// # Errors
    /// `Retry` for trouble that passes by itself; `Fatal` when this member can never read again.
    fn poll(&mut self, wait: Duration, records_max: usize, listener: &mut dyn Listener) -> Result<usize, Fault>;

    /// Reads on from the given positions: the first delivery after an assignment, and after a halt was repaired.
    ///
    /// # Errors
    /// `Retry` when the assignment has changed meanwhile or the log is not ready; offer it again.
    fn start(&mut self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault>;

    /// Holds back the records of these partitions: those already at hand may still be reported, and a bounded number fetched
    /// meanwhile is kept for [`Source::release`]. [`Source::start`] releases, too.
    ///
    /// # Errors
    /// `Retry` when the assignment has changed meanwhile.
    fn hold(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault>;

    /// Undoes [`Source::hold`].
    ///
    /// # Errors
    /// `Retry` when the assignment has changed meanwhile.
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault>;

    /// The questions that other threads may ask.
    fn group(&self) -> Arc<dyn Group>;

    /// Leaves the group, after it has reported the revoke to `listener`.
    fn close(&mut self, listener: &mut dyn Listener);
}

/// The committed offset of a partition with the metadata string that its committer left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// K: the first offset whose outputs are not committed.
    pub next_offset: NextOffset,
    /// `v1 <pipeline> <epoch> <D>` where it is ours.
    pub metadata: String,
}

/// Log start and end of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// L: the first offset still there.
    pub start: NextOffset,
    /// H: one past the last offset that a committed reader can see.
    pub end: NextOffset,
}

/// Which log a partition lies in: a changed id means that the numbers mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogIds {
    /// The cluster's id; empty where the log has none.
    pub cluster_id: String,
    /// The topic's id, which a re-created topic does not share; empty where the log has none.
    pub topic_id: String,
}

/// Questions about the group and its log; every call may be made from any thread.
pub trait Group: Send + Sync {
    /// K of each partition, *stable*: a transaction that is pending for one of them is waited for, since its outcome
    /// decides K. In the order asked.
    ///
    /// # Errors
    /// `Retry` when `wait` was not enough.
    fn committed(&self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Committed>>, Fault>;

    /// L and H.
    ///
    /// # Errors
    /// `Retry` when `wait` was not enough.
    fn bounds(&self, partition: &TopicPartition, wait: Duration) -> Result<Bounds, Fault>;

    /// Cluster and topic id.
    ///
    /// # Errors
    /// `Retry` when `wait` was not enough; `Corrupt` when there is no such topic.
    fn log_ids(&self, topic: &TopicName, wait: Duration) -> Result<LogIds, Fault>;

    /// Partition count of a topic; `None` when there is no such topic.
    ///
    /// # Errors
    /// `Retry` when `wait` was not enough.
    fn partition_count(&self, topic: &TopicName, wait: Duration) -> Result<Option<i32>, Fault>;

    /// The HTTP addresses of the owners of the lead topics' partitions, as each member gave its own to the group when it
    /// joined. Partitions without an owner, or whose owner gave none, are left out.
    ///
    /// # Errors
    /// `Retry` when `wait` was not enough.
    fn addresses(&self, wait: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault>;

    /// The members that are no instance of this pipeline, each by the name of its client, with its partitions.
    ///
    /// # Errors
    /// `Retry` when `wait` was not enough.
    fn strangers(&self, _wait: Duration) -> Result<Vec<(String, Vec<String>)>, Fault> {
        Ok(Vec::new())
    }

    /// Commits offsets outside any transaction, as this member, synchronously. A copy that the client repeats in silence may
    /// arrive late and move K back, which nothing fences: the engine itself commits K in transactions only.
    ///
    /// # Errors
    /// `Fenced` when the broker refuses us as a member; `Retry` when it did not answer.
    fn commit(&self, offsets: &[(TopicPartition, Committed)], wait: Duration) -> Result<(), Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_what_it_was_made_of() {
        let of = |instance| Membership::new("g", "m", 3, instance).unwrap();
        let one = of(Some("i-1"));
        assert_eq!((one.group(), one.member_id(), one.generation(), one.instance_id()), ("g", "m", 3, Some("i-1")));
        assert_eq!(of(None).instance_id(), None);
        assert!(Membership::new("g", "", 3, None).is_err() && Membership::new("g", "m", -1, None).is_err());
    }
}
