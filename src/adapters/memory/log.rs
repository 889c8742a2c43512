//! The in-process log: a handle that clones, one lock inside.

use super::faults::SinkFault;
use super::partition::Stored;
use super::state::{LogSettings, State, TopicIds};
use super::topics::{Content, Topic};
use crate::flow::record::{Header, NextOffset, Offset, Partition, Record, Timestamp, TopicName, TopicPartition};
use crate::ports::clock::SystemClock;
use crate::ports::history::Found;
use crate::ports::journal::Journal;
use crate::ports::sink::Message;
use crate::ports::source::{Bounds, Committed};
use crate::ports::{Clock, Fault};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The time for which a waiter sleeps before it looks at the injected clock again.
const NAP: Duration = Duration::from_millis(20);

struct Shared {
    state: Mutex<State>,
    changed: Arc<Condvar>,
    clock: Arc<dyn Clock>,
    /// Measures how long a caller has waited; the injected clock may stand still.
    waits: SystemClock,
}

/// Topics, groups and transactions in one process. Clones share the log.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").finish_non_exhaustive()
    }
}

impl MemoryLog {
    /// An empty log with the default settings.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_settings(clock, LogSettings::default())
    }

    /// An empty log.
    #[must_use]
    pub fn with_settings(clock: Arc<dyn Clock>, settings: LogSettings) -> Self {
        let changed = Arc::new(Condvar::new());
        let state = State::new(settings, Arc::clone(&changed));
        let shared = Shared { state: Mutex::new(state), changed, clock, waits: SystemClock::default() };
        Self { shared: Arc::new(shared) }
    }

    /// A log with the content of `journal`; later commits are appended to the journal. Members and producers are not kept,
    /// nor are open transactions: they end as if aborted.
    ///
    /// # Errors
    /// `Corrupt` when the journal cannot be read, or names a partition that its topic does not have.
    pub fn open(clock: Arc<dyn Clock>, settings: LogSettings, mut journal: Box<dyn Journal>) -> Result<Self, Fault> {
        let contents = journal.load()?;
        let log = Self::with_settings(clock, settings);
        {
            let mut state = log.lock();
            for (topic, id, count) in contents.topics {
                state.topics.by_name.insert(topic, Topic::new(id, count.0));
            }
            let unknown =
                |place: &TopicPartition| Fault::corrupt(format!("journal: {place} is not among the topics kept"));
            for record in contents.records {
                let partition = state.topics.get_mut(&record.place).ok_or_else(|| unknown(&record.place))?;
                partition.load(Stored {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
            for (place, end) in contents.ends {
                state.topics.get_mut(&place).ok_or_else(|| unknown(&place))?.load_end(end.0);
            }
            for (group, place, committed) in contents.offsets {
                state.groups.get(&group).set_offset(place, committed, 0);
            }
            state.journal = Some(journal);
        }
        Ok(log)
    }

    /// Creates a topic, or finds it as it is wanted.
    ///
    /// # Errors
    /// `Fatal` for an illegal name, a count below 1, or a topic of that name with another count.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<TopicName, Fault> {
        let topic = TopicName::parse(name).map_err(Fault::fatal)?;
        let mut state = self.lock();
        match state.topics.count(&topic) {
            Some(count) if count == partitions => return Ok(topic),
            Some(count) => {
                return Err(Fault::fatal(format!("topic {topic}: has {count} partitions, not {partitions}")));
            }
            None if partitions < 1 => return Err(Fault::fatal(format!("topic {topic}: {partitions} partitions"))),
            None => {}
        }
        let id = match state.settings.topic_ids {
            TopicIds::Random => uuid::Uuid::new_v4().to_string(),
            TopicIds::Counted => {
                state.topics.created += 1;
                format!("topic-{}", state.topics.created)
            }
        };
        if let Some(journal) = &mut state.journal {
            journal.topic(&topic, &id, Partition(partitions))?;
        }
        state.topics.by_name.insert(topic.clone(), Topic::new(id, partitions));
        state.rebalance_readers_of(&topic);
        state.touch();
        Ok(topic)
    }

    /// Deletes a topic with its records and its committed offsets, as Kafka does; a topic of that name created later has
    /// another id. A journal keeps the topic until then. Answers whether there was one.
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn delete_topic(&self, topic: &TopicName) -> bool {
        let mut state = self.lock();
        let was_there = state.topics.by_name.remove(topic).is_some();
        state.groups.forget_topic(topic);
        state.rebalance_readers_of(topic);
        state.touch();
        was_there
    }

    /// Lets a topic take messages (key, value and headers) of at most `bytes` from now on, as `max.message.bytes` does.
    pub fn limit_messages(&self, topic: &TopicName, bytes: usize) {
        if let Some(topic) = self.lock().topics.by_name.get_mut(topic) {
            topic.message_bytes_max = Some(bytes);
        }
    }

    /// Produces one record outside any transaction: by murmur2 with a key, in turn without one.
    ///
    /// # Errors
    /// `Retry` when there is no such topic or the journal failed; nothing was produced.
    pub fn produce(
        &self,
        topic: &TopicName,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
        timestamp: Timestamp,
    ) -> Result<(Partition, Offset), Fault> {
        let mut state = self.lock();
        let place = state.topics.place(topic, None, key)?;
        let offsets = state.append(&[(place.clone(), Content { key, value, headers, timestamp })])?;
        Ok((place.partition, offsets.first().copied().unwrap_or(Offset(0))))
    }

    /// Produces one record into a partition of the caller's choice.
    ///
    /// # Errors
    /// The same as [`MemoryLog::produce`].
    pub fn produce_to(
        &self,
        place: &TopicPartition,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
        timestamp: Timestamp,
    ) -> Result<Offset, Fault> {
        let offsets = self.lock().append(&[(place.clone(), Content { key, value, headers, timestamp })])?;
        Ok(offsets.first().copied().unwrap_or(Offset(0)))
    }

    /// Produces many records, all or none, and with one entry of the journal: cheap where that waits for a disk.
    ///
    /// # Errors
    /// The same as [`MemoryLog::produce`].
    pub fn produce_all(&self, messages: &[Message<'_>], timestamp: Timestamp) -> Result<(), Fault> {
        let mut state = self.lock();
        let mut contents = Vec::with_capacity(messages.len());
        for Message { destination, partition, key, value, headers, .. } in messages {
            let place = state.topics.place(destination, *partition, *key)?;
            contents.push((place, Content { key: *key, value: *value, headers, timestamp }));
        }
        state.append(&contents).map(|_| ())
    }

    /// Partition count of a topic; `None` when there is no such topic.
    #[must_use]
    pub fn partition_count(&self, topic: &TopicName) -> Option<i32> {
        self.lock().topics.count(topic)
    }

    /// Forgets everything before `offset`, as retention does. A journal does not notice.
    pub fn truncate_before(&self, place: &TopicPartition, offset: NextOffset) {
        let mut state = self.lock();
        if let Some(partition) = state.topics.get_mut(place) {
            partition.truncate_before(offset.0);
        }
        state.touch();
    }

    /// Loses everything from `offset` on, as an unclean leader election does. A journal does not notice.
    pub fn truncate_from(&self, place: &TopicPartition, offset: NextOffset) {
        let mut state = self.lock();
        if let Some(partition) = state.topics.get_mut(place) {
            partition.truncate_from(offset.0);
        }
        state.touch();
    }

    /// Every topic, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicName> {
        let mut topics: Vec<TopicName> = self.lock().topics.by_name.keys().cloned().collect();
        topics.sort();
        topics
    }

    /// The messages that a committed reader finds in a topic now, partition by partition in offset order; none without such
    /// a topic.
    #[must_use]
    pub fn read(&self, topic: &TopicName) -> Vec<Found> {
        let state = self.lock();
        let Some(found) = state.topics.by_name.get(topic) else { return Vec::new() };
        (0..)
            .zip(&found.partitions)
            .flat_map(|(number, partition)| {
                partition.read(0, usize::MAX).map(move |record| Found {
                    partition: number,
                    offset: record.offset.0,
                    timestamp: record.timestamp,
                    key: record.key.clone(),
                    value: record.value.clone(),
                    headers: record.headers.clone(),
                })
            })
            .collect()
    }

    /// Shows every record that a committed reader finds in a topic, partition by partition in offset order.
    pub fn each_record(&self, topic: &TopicName, visit: &mut dyn FnMut(Partition, &Record<'_>)) {
        let state = self.lock();
        let partitions = state.topics.by_name.get(topic).map_or(&[][..], |topic| &topic.partitions);
        for (number, partition) in (0..).zip(partitions) {
            for record in partition.read(0, usize::MAX) {
                visit(Partition(number), &record.as_record());
            }
        }
    }

    /// L and H of a partition, where there is one.
    #[must_use]
    pub fn bounds(&self, place: &TopicPartition) -> Option<Bounds> {
        let state = self.lock();
        let partition = state.topics.get(place)?;
        Some(Bounds { start: NextOffset(partition.start()), end: NextOffset(partition.stable_end()) })
    }

    /// One past the last record that a committed reader finds in a partition; 0 where it finds none.
    #[must_use]
    pub fn visible_end(&self, place: &TopicPartition) -> NextOffset {
        let state = self.lock();
        let last = state.topics.get(place).and_then(|partition| partition.read(0, usize::MAX).last());
        last.map_or(NextOffset(0), |record| record.offset.next())
    }

    /// K as it is, pending transactions ignored.
    #[must_use]
    pub fn committed(&self, group: &str, place: &TopicPartition) -> Option<Committed> {
        self.lock().groups.committed(group, place)
    }

    /// Sets or removes K by hand, as an operator's tool would.
    ///
    /// # Errors
    /// `Retry` when the journal failed. A removal is not journalled.
    pub fn set_committed(
        &self,
        group: &str,
        place: &TopicPartition,
        committed: Option<Committed>,
    ) -> Result<(), Fault> {
        let mut state = self.lock();
        match committed {
            Some(committed) => state.commit_offsets(group, &[(place.clone(), committed)])?,
            None => state.groups.get(group).remove_offset(place),
        }
        state.touch();
        Ok(())
    }

    /// Changes the cluster's id, as if the topics had been moved to another cluster.
    pub fn set_cluster_id(&self, cluster_id: &str) {
        cluster_id.clone_into(&mut self.lock().settings.cluster_id);
    }

    /// Commits every open transaction that holds offsets: commit requests that were on their way when their senders died arrive now.
    pub fn deliver_commits(&self) {
        let mut state = self.lock();
        for (transactional_id, epoch) in state.producers_with_offsets() {
            // A journal that fails leaves the transaction open, as a lost request would.
            drop(state.commit_transaction(&transactional_id, epoch));
        }
    }

    /// Raises the partition count of a topic, as an administrator does while everything runs.
    pub fn add_partitions(&self, topic: &TopicName, total: i32) {
        let mut state = self.lock();
        if let Some(found) = state.topics.by_name.get_mut(topic) {
            found.grow(total);
        }
        state.rebalance_readers_of(topic);
        state.touch();
    }

    /// The members of a group, by the time they joined.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<String> {
        self.lock().groups.members(group)
    }

    /// Deletes a group without members, its offsets included; its generations begin again. Answers whether it could.
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn delete_group(&self, group: &str) -> bool {
        let is_deleted = self.lock().groups.delete(group);
        self.lock().touch();
        is_deleted
    }

    /// Throws a member out at once, as its session timeout would.
    pub fn expire_member(&self, group: &str, member_id: &str) {
        self.lock().leave(group, member_id);
    }

    /// Aborts every transaction that is open, as its timeout would, and fences its producer.
    pub fn expire_transactions(&self) {
        self.lock().expire_transactions(Duration::MAX);
    }

    /// The number of open transactions.
    #[must_use]
    pub fn open_transactions(&self) -> usize {
        self.lock().transactions.open_count()
    }

    /// The next call of the fault's kind, by any producer, fails like that. Faults queue up.
    pub fn fail_next(&self, fault: SinkFault) {
        self.lock().faults.push_back(fault);
    }

    /// The faults that no call has met yet.
    #[must_use]
    pub fn unmet_faults(&self) -> Vec<SinkFault> {
        self.lock().faults.iter().copied().collect()
    }

    /// The next `count` starts of deliveries, by any member, answer `Retry`.
    pub fn fail_next_starts(&self, count: usize) {
        self.lock().failing_starts = count;
    }
}

// === impl MemoryLog: locking and waiting ===

impl MemoryLog {
    /// Locks, and lets time have its effect: sessions and transactions end.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.elapsed();
        if state.expired_to != Some(now) {
            state.expired_to = Some(now);
            state.expire_transactions(now);
            state.expire_members(now);
        }
        state
    }

    /// The injected clock.
    pub(super) fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Asks `question` until it answers or `wait` is over; with a wait of zero once.
    pub(super) fn wait_for<T>(&self, wait: Duration, mut question: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let start = self.shared.waits.elapsed();
        loop {
            let mut state = self.lock();
            if let Some(answer) = question(&mut state) {
                return Some(answer);
            }
            let left = wait.saturating_sub(self.shared.waits.elapsed().saturating_sub(start));
            if left.is_zero() {
                return None;
            }
            // The lock is given back only while it waits, so no change is missed.
            drop(self.shared.changed.wait_timeout(state, left.min(NAP)));
        }
    }
}
