//! The content of the log, behind its lock. `members` and `producing` add the requests of members and producers.

use super::faults::SinkFault;
use super::group::Groups;
use super::topics::{Content, Topics, no_such_topic};
use super::transactions::{Transactions, journal_record};
use crate::flow::record::{NextOffset, Offset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::journal::{Journal, JournalEntry};
use crate::ports::source::Committed;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// The source of a topic's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TopicIds {
    /// Random, as a broker makes it: no two are ever equal.
    #[default]
    Random,
    /// Counted up, so that two runs of one schedule are equal. Never with a journal, which does not keep the count.
    Counted,
}

/// The settings of a log, fixed at its creation.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Answered by [`Group::log_ids`](crate::ports::source::Group::log_ids).
    pub cluster_id: String,
    /// A member that does not poll for longer loses its partitions. Kafka's default, 45 s.
    pub session_timeout: Duration,
    /// A transaction that is open for longer is aborted and its producer fenced. 15 s: between a service's 10 s
    /// and Kafka's minute.
    pub transaction_timeout: Duration,
    /// The largest message: key, value and headers. Kafka's default, 1,048,588 bytes.
    pub message_bytes_max: usize,
    /// The source of its topics' ids.
    pub topic_ids: TopicIds,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            cluster_id: "in-process".into(),
            session_timeout: Duration::from_secs(45),
            transaction_timeout: Duration::from_secs(15),
            message_bytes_max: 1_048_588,
            topic_ids: TopicIds::Random,
        }
    }
}

/// The log's content, behind the lock.
pub(super) struct State {
    pub(super) settings: LogSettings,
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) transactions: Transactions,
    pub(super) journal: Option<Box<dyn Journal>>,
    pub(super) faults: VecDeque<SinkFault>,
    /// The number of next starts of deliveries that fail.
    pub(super) failing_starts: usize,
    /// Counts writes of committed offsets: the later one wins.
    pub(super) writes: u64,
    /// The time up to which sessions and transactions were searched for expired ones.
    pub(super) expired_to: Option<Duration>,
    changed: Arc<Condvar>,
}

impl State {
    pub(super) fn new(settings: LogSettings, changed: Arc<Condvar>) -> Self {
        Self {
            settings,
            topics: Topics::default(),
            groups: Groups::default(),
            transactions: Transactions::default(),
            journal: None,
            faults: VecDeque::new(),
            failing_starts: 0,
            writes: 0,
            expired_to: None,
            changed,
        }
    }

    /// Wakes all threads that wait for a change.
    pub(super) fn touch(&self) {
        self.changed.notify_all();
    }

    /// The largest message that a topic takes; `None` where there is no such topic.
    pub(super) fn message_bytes_max(&self, topic: &TopicName) -> Option<usize> {
        let topic = self.topics.by_name.get(topic)?;
        Some(topic.message_bytes_max.unwrap_or(self.settings.message_bytes_max))
    }

    /// Appends records outside any transaction, all or none: journal first.
    pub(super) fn append(&mut self, contents: &[(TopicPartition, Content<'_>)]) -> Result<Vec<Offset>, Fault> {
        let mut ends: BTreeMap<&TopicPartition, i64> = BTreeMap::new();
        let mut entry = JournalEntry::default();
        for (place, content) in contents {
            let found = self.topics.get(place).ok_or_else(|| no_such_topic(&place.topic))?;
            let end = ends.entry(place).or_insert_with(|| found.end());
            if self.journal.is_some() {
                entry.records.push(journal_record(place, &content.store(Offset(*end))));
            }
            *end += 1;
        }
        if let Some(journal) = &mut self.journal {
            entry.ends = ends.into_iter().map(|(place, end)| (place.clone(), NextOffset(end))).collect();
            journal.append(&entry)?;
        }
        let offsets = contents.iter().map(|(place, content)| self.topics.append(place, content, None)).collect();
        self.touch();
        offsets
    }

    /// Keeps offsets that were committed outside any transaction.
    pub(super) fn commit_offsets(&mut self, group: &str, offsets: &[(TopicPartition, Committed)]) -> Result<(), Fault> {
        if let Some(journal) = &mut self.journal {
            let kept = |(place, committed): &(_, Committed)| {
                (group.to_owned(), TopicPartition::clone(place), committed.clone())
            };
            journal.append(&JournalEntry { offsets: offsets.iter().map(kept).collect(), ..JournalEntry::default() })?;
        }
        for (place, committed) in offsets {
            self.writes += 1;
            let written = self.writes;
            self.groups.get(group).set_offset(place.clone(), committed.clone(), written);
        }
        self.touch();
        Ok(())
    }
}
