//! Records of each source, by whether anything came of them: a source all of whose records are rejected looks healthy by
//! every other number.

use crate::flow::record::TopicName;
use crate::ports::rows::Counts;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Decided records by source topic.
#[derive(Debug, Default)]
pub struct Streams {
    decided: Mutex<BTreeMap<TopicName, Stream>>,
}

/// The records of one source topic since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Number of records that were used, or skipped on purpose.
    pub used: u64,
    /// Number of records that became dead letters.
    pub rejected: u64,
}

impl Streams {
    /// Adds the records of one source that a batch decided.
    pub(crate) fn decided(&self, topic: &TopicName, counts: Counts) {
        let rejected = u64::try_from(counts.dead_letters).unwrap_or(0);
        let used = u64::try_from(counts.records).unwrap_or(0).saturating_sub(rejected);
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = decided.get_mut(topic) {
            (stream.used, stream.rejected) = (stream.used + used, stream.rejected + rejected);
        } else {
            decided.insert(topic.clone(), Stream { used, rejected });
        }
    }

    /// All of them.
    #[must_use]
    pub fn by_topic(&self) -> BTreeMap<TopicName, Stream> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_used_or_rejected() {
        let (streams, topic) = (Streams::default(), TopicName::parse("readings").unwrap());
        streams.decided(&topic, Counts { records: 5, dead_letters: 2, skipped: 1, ..Counts::default() });
        streams.decided(&topic, Counts { records: 3, dead_letters: 3, ..Counts::default() });
        assert_eq!(streams.by_topic()[&topic], Stream { used: 3, rejected: 5 });
    }
}
