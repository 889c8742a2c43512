//! The requests of transactional producers to the log: to begin, to append, to commit, to abort.

use super::state::State;
use super::topics::Content;
use super::transactions::{Open, PendingOffset, Producer, Transactions, journal_record};
use crate::flow::record::{NextOffset, Offset, Partition, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::journal::JournalEntry;
use crate::ports::source::{Committed, Membership};
use std::time::Duration;

impl State {
    /// Starts a producer: ends its predecessor's transaction and fences it. Answers the epoch of the new one.
    pub(super) fn init_producer(&mut self, transactional_id: &str, timeout: Duration) -> u32 {
        self.abort_open(transactional_id);
        self.transactions.ids += 1;
        let id = self.transactions.ids;
        let producer = self.transactions.producers.entry(transactional_id.to_owned()).or_insert(Producer {
            id,
            epoch: 0,
            timeout,
            open: None,
        });
        producer.epoch += 1;
        producer.timeout = timeout;
        self.touch();
        producer_epoch(&self.transactions, transactional_id)
    }

    /// Whether the producer is still the one.
    pub(super) fn check_producer(&mut self, transactional_id: &str, epoch: u32) -> Result<(), Fault> {
        self.transactions.producer(transactional_id, epoch).map(|_| ())
    }

    /// Appends a record in the producer's transaction.
    pub(super) fn append_in(
        &mut self,
        (transactional_id, epoch): (&str, u32),
        (topic, partition): (&TopicName, Option<Partition>),
        content: &Content<'_>,
        now: Duration,
    ) -> Result<Offset, Fault> {
        let producer = self.transactions.producer(transactional_id, epoch)?;
        let place = self.topics.place(topic, partition, content.key)?;
        let offset = self.topics.append(&place, content, Some(producer.id))?;
        producer.open(now).touched.insert(place);
        Ok(offset)
    }

    /// Adds the group's offsets to the producer's transaction. The member must be of the current generation, as in Kafka;
    /// whether it owns the partitions is not asked.
    pub(super) fn offsets_in(
        &mut self,
        (transactional_id, epoch): (&str, u32),
        offsets: &[(TopicPartition, Committed)],
        membership: &Membership,
        now: Duration,
    ) -> Result<(), Fault> {
        let producer = self.transactions.producer(transactional_id, epoch)?;
        self.groups.check(membership.group(), membership.member_id(), membership.generation())?;
        let open = producer.open(now);
        for (place, committed) in offsets {
            self.writes += 1;
            open.offsets.push(PendingOffset {
                group: membership.group().to_owned(),
                place: place.clone(),
                committed: committed.clone(),
                written: self.writes,
            });
        }
        Ok(())
    }

    /// Commits the producer's open transaction: journal first, so that a failure leaves everything as it was.
    pub(super) fn commit_transaction(&mut self, transactional_id: &str, epoch: u32) -> Result<(), Fault> {
        let producer = self.transactions.producer(transactional_id, epoch)?;
        let Some(open) = &producer.open else { return Ok(()) };
        if let Some(journal) = &mut self.journal {
            let mut entry = JournalEntry::default();
            for place in &open.touched {
                let Some(partition) = self.topics.get(place) else { continue };
                entry.records.extend(partition.open_records(producer.id).map(|stored| journal_record(place, stored)));
                entry.ends.push((place.clone(), NextOffset(partition.end() + 1)));
            }
            let kept = |offset: &PendingOffset| (offset.group.clone(), offset.place.clone(), offset.committed.clone());
            entry.offsets = open.offsets.iter().map(kept).collect();
            journal.append(&entry)?;
        }
        let id = producer.id;
        if let Some(open) = producer.open.take() {
            for place in &open.touched {
                if let Some(partition) = self.topics.get_mut(place) {
                    partition.finish(id, true);
                }
            }
            for offset in open.offsets {
                self.groups.get(&offset.group).set_offset(offset.place, offset.committed, offset.written);
            }
        }
        self.touch();
        Ok(())
    }

    /// The producers whose open transactions hold offsets, with their epochs: offsets are sent last, so only these may have
    /// asked for a commit.
    pub(super) fn producers_with_offsets(&self) -> Vec<(String, u32)> {
        let has_offsets = |producer: &Producer| producer.open.as_ref().is_some_and(|open| !open.offsets.is_empty());
        let open = self.transactions.producers.iter().filter(|(_, producer)| has_offsets(producer));
        open.map(|(transactional_id, producer)| (transactional_id.clone(), producer.epoch)).collect()
    }

    /// Aborts the producer's open transaction, if the producer was not replaced.
    pub(super) fn abort_transaction(&mut self, transactional_id: &str, epoch: u32) {
        if self.transactions.producer(transactional_id, epoch).is_ok() {
            self.abort_open(transactional_id);
        }
    }

    /// Aborts transactions that are open for longer than their producer's timeout, and fences their producers.
    pub(super) fn expire_transactions(&mut self, now: Duration) {
        let mut expired = Vec::new();
        for (transactional_id, producer) in &mut self.transactions.producers {
            let is_late = |open: &Open| now.saturating_sub(open.since) > producer.timeout;
            if producer.open.as_ref().is_some_and(is_late) {
                producer.epoch += 1;
                expired.push(transactional_id.clone());
            }
        }
        for transactional_id in expired {
            self.abort_open(&transactional_id);
        }
    }

    fn abort_open(&mut self, transactional_id: &str) {
        let Some(producer) = self.transactions.producers.get_mut(transactional_id) else { return };
        let Some(open) = producer.open.take() else { return };
        let mut entry = JournalEntry::default();
        for place in open.touched {
            if let Some(partition) = self.topics.get_mut(&place) {
                partition.finish(producer.id, false);
                entry.ends.push((place, NextOffset(partition.end())));
            }
        }
        if let Some(journal) = &mut self.journal {
            // Should this fail, the offsets of records that nobody could see are given again after a restart.
            drop(journal.append(&entry));
        }
        self.touch();
    }
}

fn producer_epoch(transactions: &Transactions, transactional_id: &str) -> u32 {
    transactions.producers.get(transactional_id).map_or(0, |producer| producer.epoch)
}
