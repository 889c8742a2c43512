//! librdkafka's statistics, as far as they tell of obstacles: quotas that slow a client down, and how far each partition is
//! shown to committed readers.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The interval of the statistics.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// The time that a client must have been held back within one interval to count as slowed down.
const HELD_BACK_MS: u64 = 1_000;
/// The time for which a client counts as slowed down after that was last seen: answers may come minutes apart.
pub(super) const SLOW_FOR: Duration = Duration::from_secs(30);

/// One report of a client.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i32,
    throttle: Option<Window>,
}

/// Times in ms within the interval.
#[derive(Debug, Deserialize)]
struct Window {
    sum: u64,
}

#[derive(Debug, Deserialize)]
struct Topic {
    partitions: BTreeMap<i32, Partition>,
}

/// One partition as its fetcher sees it; negative where unknown.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Partition {
    /// The next offset to fetch.
    pub(super) next_offset: i64,
    /// One past the last offset that committed readers are shown.
    pub(super) ls_offset: i64,
    /// One past the last offset.
    pub(super) hi_offset: i64,
    /// Records fetched and not reported.
    pub(super) fetchq_cnt: i64,
}

impl Partition {
    /// Whether committed records are there that were not reported.
    pub(super) const fn is_behind(&self) -> bool {
        self.fetchq_cnt > 0 || (self.next_offset >= 0 && self.next_offset < self.ls_offset)
    }

    /// Whether everything that is shown was fetched, and something behind it is not shown.
    pub(super) const fn is_hidden(&self) -> bool {
        self.ls_offset >= 0 && self.next_offset >= self.ls_offset && self.ls_offset < self.hi_offset
    }
}

impl Statistics {
    /// Reads a report; nothing where it is not what librdkafka writes.
    pub(super) fn read(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    /// The brokers that have held the client back for a good part of the interval.
    pub(super) fn slowing(&self) -> Vec<i32> {
        let is_slowing = |broker: &&Broker| broker.throttle.as_ref().is_some_and(|window| window.sum >= HELD_BACK_MS);
        self.brokers.values().filter(is_slowing).map(|broker| broker.nodeid).filter(|id| *id >= 0).collect()
    }

    /// One partition.
    pub(super) fn partition(&self, topic: &str, partition: i32) -> Option<Partition> {
        self.topics.get(topic)?.partitions.get(&partition).copied()
    }
}

/// The subject of a quota's obstacle: `broker 1, broker 2`.
pub(super) fn brokers(ids: &[i32]) -> String {
    ids.iter().map(|id| format!("broker {id}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"name":"rdkafka#consumer-1","brokers":{
        "GroupCoordinator":{"name":"GroupCoordinator","nodeid":1,"throttle":{"min":0,"max":0,"avg":0,"sum":0,"cnt":3}},
        "b:1/1":{"nodeid":1,"throttle":{"min":0,"max":700,"avg":500,"sum":1500,"cnt":3}},
        "b:2/2":{"nodeid":2,"throttle":{"min":0,"max":90,"avg":10,"sum":999,"cnt":99}},
        "boot":{"nodeid":-1}},
        "topics":{"readings":{"partitions":{
            "0":{"next_offset":7,"ls_offset":9,"hi_offset":9,"fetchq_cnt":0},
            "1":{"next_offset":9,"ls_offset":9,"hi_offset":12,"fetchq_cnt":0},
            "2":{"next_offset":9,"ls_offset":9,"hi_offset":9,"fetchq_cnt":0},
            "-1":{"next_offset":-1001,"ls_offset":-1001,"hi_offset":-1001,"fetchq_cnt":0}}}}}"#;

    #[test]
    fn statistics_tell_of_quotas_and_of_records_that_are_not_shown() {
        let found = Statistics::read(JSON.as_bytes());
        assert_eq!((found.slowing(), brokers(&[1, 2]).as_str()), (vec![1], "broker 1, broker 2"));
        let of = |partition| found.partition("readings", partition).unwrap();
        let judged = [0, 1, 2, -1].map(|number| (of(number).is_behind(), of(number).is_hidden()));
        assert_eq!(judged, [(true, false), (false, true), (false, false), (false, false)]);
        assert_eq!(found.partition("corrections", 0), None);
        assert!(Statistics::read(b"nonsense").slowing().is_empty());
    }
}
