//! What relays have in hand and cannot publish: producers that a transaction or a replacement holds, and partitions that are put
//! off. Without it nobody sees that decided messages stay where they are.

use crate::flow::record::TopicPartition;
use crate::ports::Fault;
use crate::ports::obstacle::Reason;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Publishing {
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    begun: u64,
    producers: BTreeMap<String, Busy>,
    put_off: BTreeMap<String, Reason>,
}

/// A producer with a publication in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The number of the publication, another one for each: it does not move on while the number stays.
    pub number: u64,
    /// The last error.
    pub error: Option<String>,
    /// Whether the cause is told of its partitions.
    pub is_told: bool,
}

impl Publishing {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer takes a publication in hand, or the next piece of one.
    pub(crate) fn begin(&self, producer: &str) {
        let mut found = self.lock();
        found.begun += 1;
        let busy = Busy { number: found.begun, error: None, is_told: false };
        found.producers.insert(producer.to_owned(), busy);
    }

    /// Notes the last error of a producer with a publication in hand. `is_told`: whether it is told of the partitions.
    pub(crate) fn failed(&self, producer: &str, fault: &Fault, is_told: bool) {
        if let Some(busy) = self.lock().producers.get_mut(producer) {
            (busy.error, busy.is_told) = (Some(fault.to_string()), is_told);
        }
    }

    /// The producer has nothing in hand any more.
    pub(crate) fn end(&self, producer: &str) {
        self.lock().producers.remove(producer);
    }

    /// What the partition has decided cannot be published and is tried again later.
    pub(crate) fn put_off(&self, source: &TopicPartition, reason: Reason) {
        self.lock().put_off.insert(source.to_string(), reason);
    }

    /// The partition has published, is halted, or is not ours any more.
    pub(crate) fn forget(&self, source: &str) {
        self.lock().put_off.remove(source);
    }

    /// Producers with a publication in hand, by their transactional ids.
    #[must_use]
    pub fn busy(&self) -> BTreeMap<String, Busy> {
        self.lock().producers.clone()
    }

    /// Partitions that are put off, with the reason.
    #[must_use]
    pub fn all_put_off(&self) -> BTreeMap<String, Reason> {
        self.lock().put_off.clone()
    }
}
