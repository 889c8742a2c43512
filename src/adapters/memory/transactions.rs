//! Transactional producers as the log's coordinator sees them: one per transactional id, fenced by its epoch.

use super::partition::{ProducerId, Stored};
use crate::flow::record::TopicPartition;
use crate::ports::fault::Fault;
use crate::ports::journal::JournalRecord;
use crate::ports::source::Committed;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Offsets that wait for the end of their transaction.
#[derive(Clone, Debug)]
pub(super) struct PendingOffset {
    pub(super) group: String,
    pub(super) place: TopicPartition,
    pub(super) committed: Committed,
    pub(super) written: u64,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) since: Duration,
    pub(super) touched: BTreeSet<TopicPartition>,
    pub(super) offsets: Vec<PendingOffset>,
}

#[derive(Debug)]
pub(super) struct Producer {
    pub(super) id: ProducerId,
    pub(super) epoch: u32,
    pub(super) timeout: Duration,
    pub(super) open: Option<Open>,
}

/// All transactional producers.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    pub(super) producers: BTreeMap<String, Producer>,
    pub(super) ids: ProducerId,
}

impl Transactions {
    /// Whether an open transaction decides the group's offset of `place`.
    pub(super) fn is_pending(&self, group: &str, place: &TopicPartition) -> bool {
        let pending = |open: &Open| open.offsets.iter().any(|offset| offset.group == group && offset.place == *place);
        self.producers.values().filter_map(|producer| producer.open.as_ref()).any(pending)
    }

    pub(super) fn open_count(&self) -> usize {
        self.producers.values().filter(|producer| producer.open.is_some()).count()
    }

    pub(super) fn producer(&mut self, transactional_id: &str, epoch: u32) -> Result<&mut Producer, Fault> {
        self.producers.get_mut(transactional_id).filter(|producer| producer.epoch == epoch).ok_or_else(|| {
            Fault::retry(format!("producer {transactional_id}: fenced by a newer producer or its timeout"))
        })
    }
}

impl Producer {
    pub(super) fn open(&mut self, since: Duration) -> &mut Open {
        self.open.get_or_insert_with(|| Open { since, touched: BTreeSet::new(), offsets: Vec::new() })
    }
}

pub(super) fn journal_record(place: &TopicPartition, stored: &Stored) -> JournalRecord {
    JournalRecord {
        place: place.clone(),
        offset: stored.offset,
        timestamp: stored.timestamp,
        key: stored.key.clone(),
        value: stored.value.clone(),
        headers: stored.headers.clone(),
    }
}
