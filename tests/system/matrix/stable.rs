//! The last stable offsets: within 30 s of a fault's end each must have passed the end that its partition had then.

use crate::rig::until;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(10);

type Ends = BTreeMap<(String, i32), i64>;

/// A reader of everything and a committed one of the same topics.
pub struct Stable {
    topics: &'static [&'static str],
    all: BaseConsumer,
    committed: BaseConsumer,
    noted: Option<(Instant, Ends)>,
}

impl Stable {
    pub fn connect(bootstrap: &str, topics: &'static [&'static str]) -> Self {
        let reader = |isolation: &str| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", bootstrap).set("group.id", "stable"); // never joined
            config.set("isolation.level", isolation).create().unwrap()
        };
        Self { topics, all: reader("read_uncommitted"), committed: reader("read_committed"), noted: None }
    }

    /// The ends of this moment.
    pub fn note(&mut self) {
        let ends = until("the ends of all partitions", WITHIN, || self.ends(&self.all));
        assert!(ends.len() > self.topics.len(), "{ends:?}");
        self.noted = Some((Instant::now(), ends));
    }

    /// Waits until the ends that were noted are stable.
    pub fn wait(&mut self) {
        let Some((at, noted)) = self.noted.take() else { return };
        until("the last stable offsets move", WITHIN.saturating_sub(at.elapsed()), || {
            let stable = self.ends(&self.committed)?;
            let stuck: Vec<_> = noted.iter().filter(|(place, end)| stable.get(place) < Some(end)).collect();
            if stuck.is_empty() { Ok(()) } else { Err(format!("{stuck:?}")) }
        });
    }

    fn ends(&self, consumer: &BaseConsumer) -> Result<Ends, String> {
        let mut asked = TopicPartitionList::new();
        for topic in self.topics {
            let metadata = consumer.fetch_metadata(Some(topic), WAIT).map_err(|error| error.to_string())?;
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                asked.add_partition_offset(topic, partition.id(), Offset::End).unwrap();
            }
        }
        let answer = consumer.offsets_for_times(asked, WAIT).map_err(|error| error.to_string())?;
        let end = |found: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let place = (found.topic().to_owned(), found.partition());
            match (found.error(), found.offset()) {
                (Ok(()), Offset::Offset(end)) => Ok((place, end)),
                other => Err(format!("{place:?}: {other:?}")),
            }
        };
        answer.elements().into_iter().map(end).collect()
    }
}
