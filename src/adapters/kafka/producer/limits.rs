//! The `max.message.bytes` of topics, asked of the brokers once for all producers of a process: each question takes a client of
//! its own, and a process may have a hundred producers.

use crate::adapters::kafka::admin::KafkaAdmin;
use crate::adapters::kafka::fault;
use crate::adapters::kafka::settings::KafkaSettings;
use crate::flow::record::TopicName;
use crate::ports::fault::Fault;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The age up to which an answer is believed: younger than what the engine asks anew for.
const AGE_MAX: Duration = Duration::from_secs(2);

/// What topics take, in bytes, and until when that is believed.
type Known = HashMap<TopicName, (usize, Instant)>;

/// See the module. Copies are of one memory.
#[derive(Clone, Default, Debug)]
pub struct TopicLimits(Arc<Mutex<Known>>);

impl TopicLimits {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `max.message.bytes` of a topic, asked for where it is not known.
    pub(super) fn of(&self, settings: &KafkaSettings, topic: &TopicName) -> Result<usize, Fault> {
        if let Some(limit) = self.known(topic) {
            return Ok(limit);
        }
        let limit = KafkaAdmin::connect(settings)?.topic_config(topic, "max.message.bytes")?;
        let limit = limit.and_then(|value| value.parse::<usize>().ok());
        let limit = limit.ok_or_else(|| Fault::retry(format!("topic {topic}: its max.message.bytes is unknown")))?;
        self.note(topic, limit);
        Ok(limit)
    }

    fn known(&self, topic: &TopicName) -> Option<usize> {
        self.lock().get(topic).filter(|(_, until)| !fault::left(*until).is_zero()).map(|(bytes, _)| *bytes)
    }

    fn note(&self, topic: &TopicName, bytes: usize) {
        self.lock().insert(topic.clone(), (bytes, fault::deadline(AGE_MAX)));
    }

    /// They may have changed.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_producers_answer_is_every_producers_until_it_is_forgotten() {
        let (first, topic) = (TopicLimits::default(), TopicName::parse("changes").unwrap());
        let second = first.clone();
        assert_eq!(second.known(&topic), None);
        first.note(&topic, 1_000);
        assert_eq!(second.known(&topic), Some(1_000));
        second.forget();
        assert_eq!(first.known(&topic), None);
    }
}
