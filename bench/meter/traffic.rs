//! One job: bytes of records that the broker has taken and given, by topic, from its own counters.

use crate::Outcome;
use crate::rig::Rig;
use std::collections::BTreeMap;

/// Bytes of record batches as they lie in the log, compressed, since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bytes {
    /// Taken from producers.
    pub taken: f64,
    /// Given to consumers.
    pub given: f64,
}

/// The counters of all topics at one moment.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    topics: BTreeMap<String, Bytes>,
}

const BEAN: &str = "kafka.server:type=BrokerTopicMetrics,name=";

impl Traffic {
    /// Asks the broker: starts one of Kafka's tools, so never within a timed stretch.
    pub fn read(rig: &Rig) -> Outcome<Self> {
        let (taken, given) = (format!("{BEAN}BytesInPerSec,topic=*"), format!("{BEAN}BytesOutPerSec,topic=*"));
        let arguments = ["--jmx-url", &rig.counters(), "--one-time", "--attributes", "Count"];
        let beans = ["--report-format", "properties", "--object-name", &taken, "--object-name", &given];
        Ok(Self::of(&Rig::tool("org.apache.kafka.tools.JmxTool", &[&arguments[..], &beans].concat())?))
    }

    /// From lines `<bean>name=BytesInPerSec,topic=<topic>:Count=<n>`.
    fn of(text: &str) -> Self {
        let mut topics: BTreeMap<String, Bytes> = BTreeMap::new();
        let lines = text.lines().filter_map(|line| line.strip_prefix(BEAN)?.rsplit_once(":Count="));
        for (name, count) in lines {
            let (Some((counter, topic)), Ok(count)) = (name.split_once(",topic="), count.parse()) else { continue };
            let bytes = topics.entry(topic.into()).or_default();
            match counter {
                "BytesInPerSec" => bytes.taken = count,
                "BytesOutPerSec" => bytes.given = count,
                _ => {}
            }
        }
        Self { topics }
    }

    /// The bytes of one topic since `before`.
    pub fn of_topic(&self, topic: &str, before: &Self) -> Bytes {
        let of = |traffic: &Self| traffic.topics.get(topic).copied().unwrap_or_default();
        let (now, then) = (of(self), of(before));
        Bytes { taken: now.taken - then.taken, given: now.given - then.given }
    }

    /// The bytes of all topics since `before`; Kafka's own, such as the group's offsets, among them.
    pub fn of_all(&self, before: &Self) -> Bytes {
        let each = self.topics.keys().map(|topic| self.of_topic(topic, before));
        each.fold(Bytes::default(), |sum, one| Bytes { taken: sum.taken + one.taken, given: sum.given + one.given })
    }
}
