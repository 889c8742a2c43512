//! One member of a group in the in-process log.

use super::group::Tell;
use super::log::MemoryLog;
use super::partition::Stored;
use super::state::State;
use super::topics::no_such_topic;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::source::{Bounds, Committed, Group, Listener, LogIds, Membership, Source, Subscription, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The identity of this member in its group, shared with [`MemoryGroup`].
#[derive(Clone, Debug, Default)]
struct Seat(Arc<Mutex<Option<(String, i32)>>>);

impl Seat {
    fn set(&self, seat: Option<(String, i32)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seat;
    }

    fn get(&self) -> Option<(String, i32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A partition that is read: known from [`Source::start`] on, until its task moves or it is out of range.
#[derive(Clone, Copy, Debug)]
struct Reading {
    next_offset: NextOffset,
    is_held: bool,
}

/// One member of a consumer group. It joins with its first poll; a member thrown out joins again under a new id.
///
/// Dropped without [`Source::close`] it is a process that died: its partitions move when its session times out.
pub struct MemorySource {
    log: MemoryLog,
    subscription: Subscription,
    seat: Seat,
    member_id: Option<String>,
    tasks: BTreeSet<TaskId>,
    readings: BTreeMap<TopicPartition, Reading>,
    turn: usize,
    address: String,
}

impl fmt::Debug for MemorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySource")
            .field("member_id", &self.member_id)
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}

impl MemoryLog {
    /// A new member, which joins its group with its first poll.
    #[must_use]
    pub fn source(&self, subscription: Subscription) -> MemorySource {
        MemorySource::new(self.clone(), subscription)
    }

    /// The questions about a group, asked by nobody of its members: commits are refused.
    #[must_use]
    pub fn group(&self, group: &str) -> Arc<dyn Group> {
        Arc::new(MemoryGroup::outside(self.clone(), group))
    }
}

/// The result of one look at the log for a member.
enum Sight {
    Rebalance,
    Records(Vec<(TopicPartition, Arc<Stored>)>),
    OutOfRange(TopicPartition, String),
}

impl MemorySource {
    pub(super) fn new(log: MemoryLog, subscription: Subscription) -> Self {
        Self {
            log,
            subscription,
            seat: Seat::default(),
            member_id: None,
            tasks: BTreeSet::new(),
            readings: BTreeMap::new(),
            turn: 0,
            address: String::new(),
        }
    }

    /// Gives the group the address at which this member can be asked for its stores.
    #[must_use]
    pub fn at(self, address: &str) -> Self {
        Self { address: address.into(), ..self }
    }

    /// The member id, once it has joined.
    #[must_use]
    pub fn member_id(&self) -> Option<&str> {
        self.member_id.as_deref()
    }

    /// Dies without leaving the group, as a killed process does.
    pub fn crash(self) {}

    /// Topic number and task of a partition, if a task of ours reads it.
    fn task_of(&self, place: &TopicPartition) -> Option<(TaskId, usize)> {
        self.subscription.groups.iter().enumerate().find_map(|(sub_topology, part)| {
            let mut topics = std::iter::once(&part.lead).chain(&part.companions);
            let topic = topics.position(|topic| *topic == place.topic)?;
            let task = TaskId { sub_topology, partition: place.partition };
            self.tasks.contains(&task).then_some((task, topic))
        })
    }

    /// Takes tasks away from the local state.
    fn drop_tasks(&mut self, tasks: &[TaskId]) {
        for task in tasks {
            self.tasks.remove(task);
        }
        let gone: Vec<TopicPartition> =
            self.readings.keys().filter(|place| self.task_of(place).is_none()).cloned().collect();
        for place in gone {
            self.readings.remove(&place);
        }
    }

    /// Joins if need be, and reports all events that the coordinator has for this member. Answers whether there was any.
    fn tell_rebalance(&mut self, listener: &mut dyn Listener) -> Result<bool, Fault> {
        let group = self.subscription.group.clone();
        let mut has_told = false;
        loop {
            let member_id = self.member_id.get_or_insert_with(|| {
                let now = self.log.elapsed();
                self.log.lock().join(&self.subscription, &self.address, now)
            });
            let member_id = member_id.clone();
            let tell = {
                let mut state = self.log.lock();
                state.seen(&group, &member_id, self.log.elapsed());
                state.tell(&group, &member_id)
            };
            match tell {
                Tell::Nothing => return Ok(has_told),
                Tell::Unknown => {
                    self.member_id = None;
                    self.seat.set(None);
                    let lost: Vec<TaskId> = std::mem::take(&mut self.tasks).into_iter().collect();
                    self.readings.clear();
                    if !lost.is_empty() {
                        listener.lost(&lost);
                    }
                }
                Tell::Revoke(tasks, generation) => {
                    // Kafka does the same: the join that asks for them back has begun a generation of its own.
                    let membership = Membership::new(&group, &member_id, generation, None).map_err(Fault::fatal)?;
                    self.seat.set(Some((member_id.clone(), generation)));
                    listener.assigned(&[], membership);
                    listener.revoked(&tasks);
                    self.drop_tasks(&tasks);
                    self.log.lock().give_up(&group, &member_id, &tasks);
                }
                Tell::Assign(tasks, generation) => {
                    let membership = Membership::new(&group, &member_id, generation, None).map_err(Fault::fatal)?;
                    self.seat.set(Some((member_id, generation)));
                    self.tasks.extend(&tasks);
                    listener.assigned(&tasks, membership);
                }
            }
            has_told = true;
        }
    }

    /// Looks for something to report: a rebalance first, then records of the partitions in turn.
    fn look(&mut self, state: &mut State, records_max: usize) -> Option<Sight> {
        let group = &self.subscription.group;
        if let Some(member_id) = &self.member_id {
            state.seen(group, member_id, self.log.elapsed());
            if state.has_to_tell(group, member_id) {
                return Some(Sight::Rebalance);
            }
        }
        let mut active: Vec<(&TopicPartition, &mut Reading)> =
            self.readings.iter_mut().filter(|(_, reading)| !reading.is_held).collect();
        for (place, reading) in &active {
            // A deleted topic is the next rebalance's business.
            let Some(partition) = state.topics.get(place) else { continue };
            let (start, end, next) = (partition.start(), partition.end(), reading.next_offset.0);
            if next < start || next > end {
                let message = format!("next offset {next} lies outside the log, which has {start} to {end}");
                return Some(Sight::OutOfRange((*place).clone(), message));
            }
        }
        let count = active.len();
        active.rotate_left(self.turn.checked_rem(count).unwrap_or(0));
        self.turn = self.turn.wrapping_add(1);
        let fair_share = records_max.checked_div(count).unwrap_or(0).max(1);
        let mut records = Vec::new();
        loop {
            let before = records.len();
            for (place, reading) in &mut active {
                let share = fair_share.min(records_max - records.len());
                let Some(partition) = state.topics.get(place) else { continue };
                for record in partition.read(reading.next_offset.0, share) {
                    reading.next_offset = record.offset.next();
                    records.push(((*place).clone(), record));
                }
            }
            if records.len() == before {
                break;
            }
        }
        (!records.is_empty()).then_some(Sight::Records(records))
    }
}

fn not_ours(place: &TopicPartition) -> Fault {
    Fault::retry(format!("{place}: not assigned to this member, or not started"))
}

impl Source for MemorySource {
    fn poll(&mut self, wait: Duration, records_max: usize, listener: &mut dyn Listener) -> Result<usize, Fault> {
        if self.tell_rebalance(listener)? {
            // Reports further events at hand, without waiting.
            return self.poll_records(Duration::ZERO, records_max, listener);
        }
        self.poll_records(wait, records_max, listener)
    }

    fn start(&mut self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault> {
        if let Some((place, _)) = positions.iter().find(|(place, _)| self.task_of(place).is_none()) {
            return Err(not_ours(place));
        }
        let mut state = self.log.lock();
        if let Some(left) = state.failing_starts.checked_sub(1) {
            state.failing_starts = left;
            return Err(Fault::retry("a start failed as the test wished"));
        }
        drop(state);
        for (place, next_offset) in positions {
            self.readings.insert(place.clone(), Reading { next_offset: *next_offset, is_held: false });
        }
        Ok(())
    }

    fn hold(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        for place in partitions {
            if let Some(reading) = self.readings.get_mut(place) {
                reading.is_held = true;
            } else if self.task_of(place).is_none() {
                return Err(not_ours(place));
            }
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        for place in partitions {
            self.readings.get_mut(place).ok_or_else(|| not_ours(place))?.is_held = false;
        }
        Ok(())
    }

    fn group(&self) -> Arc<dyn Group> {
        let group = self.subscription.group.clone();
        Arc::new(MemoryGroup { log: self.log.clone(), group, seat: self.seat.clone() })
    }

    fn close(&mut self, listener: &mut dyn Listener) {
        let Some(member_id) = self.member_id.take() else { return };
        let is_member = self.log.members(&self.subscription.group).contains(&member_id);
        let tasks: Vec<TaskId> = std::mem::take(&mut self.tasks).into_iter().collect();
        if !tasks.is_empty() && is_member {
            listener.revoked(&tasks);
        } else if !tasks.is_empty() {
            listener.lost(&tasks);
        }
        self.readings.clear();
        self.seat.set(None);
        self.log.lock().leave(&self.subscription.group, &member_id);
    }
}

impl MemorySource {
    fn poll_records(
        &mut self,
        wait: Duration,
        records_max: usize,
        listener: &mut dyn Listener,
    ) -> Result<usize, Fault> {
        let log = self.log.clone();
        match log.wait_for(wait, |state| self.look(state, records_max)) {
            None => Ok(0),
            Some(Sight::Rebalance) => {
                self.tell_rebalance(listener)?;
                self.poll_records(Duration::ZERO, records_max, listener)
            }
            Some(Sight::OutOfRange(place, message)) => {
                self.readings.remove(&place);
                if let Some((task, topic)) = self.task_of(&place) {
                    listener.out_of_range(task, topic, &message);
                }
                self.poll_records(Duration::ZERO, records_max, listener)
            }
            Some(Sight::Records(records)) => {
                for (place, record) in &records {
                    if let Some((task, topic)) = self.task_of(place) {
                        listener.record(task, topic, record.as_record());
                    }
                }
                Ok(records.len())
            }
        }
    }
}

/// Questions about a group of the in-process log; commits as the member that it was taken from.
#[derive(Clone, Debug)]
pub struct MemoryGroup {
    log: MemoryLog,
    group: String,
    seat: Seat,
}

impl MemoryGroup {
    pub(super) fn outside(log: MemoryLog, group: &str) -> Self {
        Self { log, group: group.into(), seat: Seat::default() }
    }
}

impl Group for MemoryGroup {
    fn committed(&self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Committed>>, Fault> {
        let stable = |state: &mut State| {
            let is_pending = partitions.iter().any(|place| state.transactions.is_pending(&self.group, place));
            let read = || partitions.iter().map(|place| state.groups.committed(&self.group, place)).collect();
            (!is_pending).then(read)
        };
        self.log
            .wait_for(wait, stable)
            .ok_or_else(|| Fault::retry(format!("group {}: a transaction with its offsets is still open", self.group)))
    }

    fn bounds(&self, partition: &TopicPartition, _: Duration) -> Result<Bounds, Fault> {
        self.log.bounds(partition).ok_or_else(|| no_such_topic(&partition.topic))
    }

    fn log_ids(&self, topic: &TopicName, _: Duration) -> Result<LogIds, Fault> {
        let state = self.log.lock();
        let found = state.topics.by_name.get(topic);
        let topic_id = found.map(|found| found.id.clone());
        let topic_id = topic_id.ok_or_else(|| Fault::corrupt(format!("topic {topic}: there is no such topic")))?;
        Ok(LogIds { cluster_id: state.settings.cluster_id.clone(), topic_id })
    }

    fn partition_count(&self, topic: &TopicName, _: Duration) -> Result<Option<i32>, Fault> {
        Ok(self.log.partition_count(topic))
    }

    fn addresses(&self, _: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault> {
        Ok(self.log.lock().groups.addresses(&self.group))
    }

    fn commit(&self, offsets: &[(TopicPartition, Committed)], _: Duration) -> Result<(), Fault> {
        let seat = self.seat.get();
        let (member_id, generation) =
            seat.ok_or_else(|| Fault::fenced(format!("group {}: not a member", self.group)))?;
        let mut state = self.log.lock();
        state.groups.check(&self.group, &member_id, generation)?;
        state.commit_offsets(&self.group, offsets)
    }
}
