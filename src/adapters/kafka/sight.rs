//! Obstacles in the statistics of a client: quotas, and open transactions of others.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::statistics::{EVERY, SLOW_FOR, brokers};
use crate::flow::record::TopicPartition;
use crate::ports::obstacle::Reason;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The time for which an open transaction must hold records back before it is told; with the interval of the statistics it is
/// told within half a minute.
const HIDDEN_FOR: Duration = Duration::from_secs(15);

/// The statistics as they were seen so far.
pub(super) struct Sight {
    pub(super) bootstrap_servers: String,
    /// Partitions with records that are not shown, with their end for committed readers and when that has stood long enough.
    hidden: BTreeMap<TopicPartition, (i64, Instant)>,
    /// The brokers that slow this client down, and how long that is believed.
    slowing: (Vec<i32>, Instant),
}

impl Sight {
    pub(super) fn new(bootstrap_servers: &str) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            hidden: BTreeMap::new(),
            slowing: (Vec::new(), fault::deadline(Duration::ZERO)),
        }
    }

    /// The partitions whose open transactions have held back records for long, given all that hold some back now.
    pub(super) fn hidden_for_long(&mut self, now: BTreeMap<TopicPartition, i64>) -> Vec<(String, Reason)> {
        let before = std::mem::take(&mut self.hidden);
        for (partition, end) in now {
            let since = before.get(&partition).filter(|(before, _)| *before == end).map(|(_, due)| *due);
            let due = since.unwrap_or_else(|| fault::deadline(HIDDEN_FOR.saturating_sub(EVERY)));
            self.hidden.insert(partition, (end, due));
        }
        let is_due = |(_, (_, due)): &(&TopicPartition, &(i64, Instant))| fault::left(*due).is_zero();
        let told = |(partition, (end, _)): (&TopicPartition, &(i64, Instant))| {
            let TopicPartition { topic, partition: number } = partition;
            let cause = format!(
                "a transaction of its producer is open at offset {end}, and everything behind it waits for its end: a commit, an \
                 abort, or the producer's transaction.timeout.ms, unless it hangs (KAFKA-20734)"
            );
            let next = format!(
                "`kafka-transactions.sh --bootstrap-server {} describe-producers --topic {topic} --partition {number}` names the \
                 producer, `find-hanging` whether it hangs, `abort` ends it",
                self.bootstrap_servers
            );
            (partition.to_string(), Reason::new(cause, next))
        };
        self.hidden.iter().filter(is_due).map(told).collect()
    }

    /// The brokers that slow this client down, as far as that is still believed.
    pub(super) fn slowed(&mut self, slowing: Vec<i32>) -> Vec<(String, Reason)> {
        if !slowing.is_empty() {
            self.slowing = (slowing, fault::deadline(SLOW_FOR));
        }
        let (ids, until) = &self.slowing;
        if ids.is_empty() || fault::left(*until).is_zero() {
            return Vec::new();
        }
        vec![(brokers(ids), quota("consumer_byte_rate (or request_percentage)", "reads", &self.bootstrap_servers))]
    }
}

/// The reason of a client that a quota slows down.
pub(super) fn quota(name: &str, what: &str, bootstrap_servers: &str) -> Reason {
    Reason::new(
        format!("a quota of the cluster holds back the {what} of this instance"),
        format!(
            "`kafka-configs.sh --bootstrap-server {bootstrap_servers} --describe --entity-type clients` and `--entity-type users` \
             name it; raise {name}, or expect no more than it allows"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Partition, TopicName};

    #[test]
    fn an_open_transaction_is_told_once_it_has_stood_for_long_and_a_new_one_begins_anew() {
        let mut sight = Sight::new("b:1");
        let at =
            |end| BTreeMap::from([(TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(3)), end)]);
        let past =
            |sight: &mut Sight| sight.hidden.values_mut().for_each(|(_, due)| *due = fault::deadline(Duration::ZERO));
        assert!(sight.hidden_for_long(at(7)).is_empty());
        past(&mut sight);
        let found = sight.hidden_for_long(at(7));
        assert_eq!(found[0].0, "readings-3");
        assert!(
            found[0].1.cause.contains("open at offset 7") && found[0].1.next.contains("--topic readings --partition 3")
        );
        assert!(sight.hidden_for_long(at(9)).is_empty(), "it ended, and another is open");
        past(&mut sight);
        assert!(sight.hidden_for_long(BTreeMap::new()).is_empty());
    }

    #[test]
    fn a_quota_is_believed_for_a_while_after_it_was_seen() {
        let mut sight = Sight::new("b:1");
        assert!(sight.slowed(Vec::new()).is_empty());
        assert_eq!(sight.slowed(vec![1])[0].0, "broker 1");
        assert_eq!(sight.slowed(Vec::new()).len(), 1);
        sight.slowing.1 = fault::deadline(Duration::ZERO);
        assert!(sight.slowed(Vec::new()).is_empty());
    }
}
