//! Decided messages that are not published: a producer that does not come back, or partitions that are put off.

use crate::app::watch::standing::named;
use crate::app::watch::standstill::STANDS;
use crate::engine::status::Publishing;
use crate::ports::obstacle::Reason;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The publications in hand and the partitions put off, since when they are.
#[derive(Debug, Default)]
pub(super) struct Unpublished {
    producers: BTreeMap<String, (u64, Duration)>,
    put_off: BTreeMap<String, Duration>,
}

impl Unpublished {
    /// What has not been published for long, with its cause; partitions with one cause together.
    pub(super) fn look(&mut self, publishing: &Publishing, now: Duration) -> Vec<(String, Reason)> {
        let busy = publishing.busy();
        self.producers.retain(|id, (number, _)| busy.get(id).is_some_and(|busy| busy.number == *number));
        let mut found = Vec::new();
        for (id, busy) in busy {
            let (_, since) = *self.producers.entry(id.clone()).or_insert((busy.number, now));
            let stood = now.saturating_sub(since);
            if stood >= STANDS && !busy.is_told {
                found.push((format!("producer {id}"), hanging(&id, stood, busy.error.as_deref())));
            }
        }
        let put_off = publishing.all_put_off();
        self.put_off.retain(|source, _| put_off.contains_key(source));
        let mut standing: BTreeMap<Reason, BTreeSet<(String, i32)>> = BTreeMap::new();
        for (source, reason) in put_off {
            let since = *self.put_off.entry(source.clone()).or_insert(now);
            if now.saturating_sub(since) >= STANDS
                && let Some((topic, number)) = source.rsplit_once('-')
                && let Ok(number) = number.parse()
            {
                standing.entry(reason).or_default().insert((topic.to_owned(), number));
            }
        }
        found.extend(standing.into_iter().map(|(reason, places)| (named(&places), reason)));
        found
    }
}

/// The reason of a producer that does not come back. The time is told in steps that double.
fn hanging(id: &str, stood: Duration, error: Option<&str>) -> Reason {
    let mut seconds = STANDS.as_secs();
    while seconds * 2 <= stood.as_secs() {
        seconds *= 2;
    }
    let last = error.map_or_else(|| "no call of it has failed".into(), |error| format!("its last error: {error}"));
    Reason::new(
        format!("a transaction of producer {id}, or its replacement, has not come back for {seconds} s; {last}"),
        format!(
            "where the brokers are well, `kafka-transactions.sh … describe --transactional-id {id}` tells what its coordinator \
             waits for, and `find-hanging` names a transaction that hangs; a start under another instance.slot does not wait"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Partition, TopicName, TopicPartition};
    use crate::ports::Fault;

    fn told(found: Vec<(String, Reason)>) -> Vec<String> {
        found.into_iter().map(|(about, reason)| format!("{about}: {}", reason.cause)).collect()
    }

    #[test]
    fn a_producer_that_does_not_come_back_is_told_after_twenty_seconds_with_its_last_error() {
        let (publishing, mut unpublished) = (Publishing::default(), Unpublished::default());
        let mut at = |seconds| told(unpublished.look(&publishing, Duration::from_secs(seconds)));
        publishing.begin("p-0");
        assert!(at(0).is_empty() && at(19).is_empty());
        publishing.failed("p-0", &Fault::retry("concurrent transactions"), false);
        let cause = |seconds| {
            vec![format!(
                "producer p-0: a transaction of producer p-0, or its replacement, has not come back for {seconds} s; \
                 its last error: concurrent transactions"
            )]
        };
        assert_eq!([at(20), at(39), at(40)], [cause(20), cause(20), cause(40)]);
        publishing.begin("p-0"); // a piece is published: the next one
        assert!(at(41).is_empty() && at(60).is_empty());
        publishing.failed("p-0", &Fault::retry("a committed offset"), true);
        assert!(at(62).is_empty(), "told of the partitions already");
        publishing.end("p-0");
        assert!(at(63).is_empty());
    }

    #[test]
    fn partitions_that_are_put_off_are_told_together_whatever_state_they_pass_through() {
        let (publishing, mut unpublished) = (Publishing::default(), Unpublished::default());
        let mut at = |seconds| told(unpublished.look(&publishing, Duration::from_secs(seconds)));
        let source = |number| TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(number));
        for number in 0..3 {
            publishing.put_off(&source(number), Reason::new("topic out is gone", "make it anew"));
        }
        assert!(at(0).is_empty());
        publishing.forget("readings-2");
        assert_eq!(at(20), ["readings 0-1: topic out is gone"]);
    }
}
