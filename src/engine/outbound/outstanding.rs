//! The lead of a worker over its relay, and the size of its transactions meanwhile.

use crate::engine::outbound::publication::Publication;
use crate::engine::outbound::size::Size;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Publications handed over and not settled yet, shared by the executor and the relay of a worker, which bound its
/// lead.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    pub(crate) messages: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    /// Most messages and bytes of a transaction while larger ones fail; 0 while they do not.
    pub(crate) messages_max: AtomicUsize,
    pub(crate) bytes_max: AtomicUsize,
}

impl Outstanding {
    /// The size that a transaction may have, where the settings would allow `bound`.
    pub(crate) fn room(&self, bound: Size) -> Size {
        let least = |bound: usize, now: &AtomicUsize| match now.load(Ordering::Acquire) {
            0 => bound,
            now => bound.min(now),
        };
        Size { messages: least(bound.messages, &self.messages_max), bytes: least(bound.bytes, &self.bytes_max) }
    }

    /// Halves the bound after a transaction of this size has failed.
    pub(crate) fn shrink(&self, failed: Size) {
        let Size { messages, bytes } = self.room(Size { messages: failed.messages / 2, bytes: failed.bytes / 2 });
        self.messages_max.store(messages.max(1), Ordering::Release);
        self.bytes_max.store(bytes.max(1), Ordering::Release);
    }

    /// Doubles the bound after a transaction has succeeded, until the settings alone count again.
    pub(crate) fn grow(&self) {
        for most in [&self.messages_max, &self.bytes_max] {
            let now = most.load(Ordering::Acquire);
            if now > 0 {
                most.store(if now < 1 << 40 { now * 2 } else { 0 }, Ordering::Release);
            }
        }
    }

    pub(crate) fn messages(&self) -> usize {
        self.messages.load(Ordering::Acquire)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn add(&self, publication: &Publication) {
        self.messages.fetch_add(publication.len(), Ordering::AcqRel);
        self.bytes.fetch_add(publication.bytes, Ordering::AcqRel);
    }

    pub(crate) fn settled(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}
