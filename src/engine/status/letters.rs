//! The dead letters that this instance has published, by source topic and code. Counted one by one, told now and then: a stream of
//! which nothing can be used must not fill the log.

use crate::flow::record::{Offset, TopicName, TopicPartition};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Codes kept apart in all; an algorithm may make them up without end.
const CODES: usize = 100;
/// The code under which all further ones are counted.
const FURTHER: &str = "(further codes)";

/// Dead letters by source topic and code.
#[derive(Debug, Default)]
pub struct DeadLetters {
    found: Mutex<BTreeMap<(TopicName, String), LettersOfCode>>,
}

/// The dead letters of one source topic with one code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LettersOfCode {
    /// Number published since the process started.
    pub count: u64,
    /// The latest one's record.
    pub source: TopicPartition,
    /// The offset of that record.
    pub offset: Offset,
    /// The cause, as the dead letter tells it.
    pub message: String,
}

impl DeadLetters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TopicName, String), LettersOfCode>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more is published.
    pub(crate) fn published(&self, source: &TopicPartition, offset: Offset, code: &str, message: &str) {
        let mut found = self.lock();
        let mut key = (source.topic.clone(), code.to_owned());
        if found.len() >= CODES && !found.contains_key(&key) {
            key.1 = FURTHER.into();
        }
        let latest = |count| LettersOfCode { count, source: source.clone(), offset, message: message.to_owned() };
        found.entry(key).and_modify(|of| *of = latest(of.count + 1)).or_insert_with(|| latest(1));
    }

    /// All of them.
    #[must_use]
    pub fn by_code(&self) -> BTreeMap<(TopicName, String), LettersOfCode> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;

    #[test]
    fn each_code_of_each_topic_is_counted_with_its_latest_and_their_number_is_bounded() {
        let letters = DeadLetters::default();
        let at = |topic: &str, partition| TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(partition));
        letters.published(&at("readings", 3), Offset(7), "bad-json", "first");
        letters.published(&at("readings", 4), Offset(9), "bad-json", "second");
        letters.published(&at("corrections", 0), Offset(1), "bad-json", "other");
        let found = letters.by_code();
        let readings = &found[&(TopicName::parse("readings").unwrap(), "bad-json".to_owned())];
        let (source, offset, message) = (at("readings", 4), Offset(9), "second".to_owned());
        assert_eq!(readings, &LettersOfCode { count: 2, source, offset, message });
        for number in 0..1_000 {
            letters.published(&at("readings", 0), Offset(number), &format!("code-{number}"), "");
        }
        let found = letters.by_code();
        assert_eq!(found.len(), CODES + 1);
        assert_eq!(found.values().map(|of| of.count).sum::<u64>(), 1_003);
    }
}
