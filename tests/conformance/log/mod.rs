//! The behaviour of every log, as sentences.

mod delivery;
mod groups;
mod offsets;
mod questions;
mod records;
mod transactions;

pub use delivery::*;
pub use groups::*;
pub use offsets::*;
pub use questions::*;
pub use records::*;
pub use transactions::*;

use crate::member::{Member, text};
use crate::{eventually, unique};
use std::time::Duration;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{Header, NextOffset, Partition, TopicName, TopicPartition};
use tidegate::ports::history::{Found, TopicHistory};
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::{Bounds, Committed, CopartitionGroup, Group, Membership, Source, Subscription};

/// A log that a test can furnish.
pub trait LogBench {
    /// Creates a topic under exactly this name.
    fn create_topic(&self, name: &str, partitions: i32) -> TopicName;
    /// Deletes a topic.
    fn delete_topic(&self, topic: &TopicName);
    /// Forgets everything before the offset, as retention does.
    fn truncate_before(&self, place: &TopicPartition, offset: i64);
    /// Produces outside any transaction, durably.
    fn produce(&self, place: &TopicPartition, key: Option<&[u8]>, value: Option<&[u8]>);
    /// A new member.
    fn source(&self, subscription: &Subscription) -> Box<dyn Source>;
    /// A new transactional producer.
    fn sink(&self, transactional_id: &str) -> Box<dyn Sink>;
    /// The history of the topics, as the audit reads it.
    fn history(&self, group: &str) -> Box<dyn TopicHistory>;
}

const SOON: Duration = Duration::from_secs(20);
const AT_ONCE: Duration = Duration::from_millis(300);

/// One topic, one group, one member to ask.
struct Scene<'a> {
    bench: &'a dyn LogBench,
    topic: TopicName,
    group: String,
}

impl<'a> Scene<'a> {
    fn new(bench: &'a dyn LogBench, partitions: i32) -> Self {
        let topic = bench.create_topic(&unique("topic"), partitions);
        Self { bench, topic, group: unique("group") }
    }

    fn place(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), Partition(partition))
    }

    fn member(&self) -> Member {
        let lead = CopartitionGroup { lead: self.topic.clone(), companions: Vec::new() };
        Member::new(self.bench.source(&Subscription { group: self.group.clone(), groups: vec![lead] }))
    }

    /// A member that owns all partitions and reads them from the start.
    fn reader(&self, partitions: i32) -> Member {
        let mut member = self.member();
        member.own(usize::try_from(partitions).unwrap());
        member.start(&(0..partitions).map(|number| (self.place(number), 0)).collect::<Vec<_>>());
        member
    }

    fn produce(&self, partition: i32, values: &[&str]) {
        values.iter().for_each(|value| self.bench.produce(&self.place(partition), Some(b"k"), Some(value.as_bytes())));
    }

    fn sink(&self) -> Box<dyn Sink> {
        self.bench.sink(&unique("sink"))
    }

    /// The values that a committed reader finds, once there are `count`.
    #[track_caller]
    fn visible(&self, count: usize) -> Vec<String> {
        found(self.bench, &self.topic, count).iter().map(|found| text(found.value.as_deref())).collect()
    }
}

/// Messages that a committed reader finds, once there are `count`: a broker writes the markers of a transaction after it
/// has answered the commit.
#[track_caller]
fn found(bench: &dyn LogBench, topic: &TopicName, count: usize) -> Vec<Found> {
    let found = eventually(&format!("{count} messages in {topic}"), || {
        let mut out = Vec::new();
        bench.history("nobody").each_message(topic, &mut |found| out.push(found)).expect("history");
        (out.len() >= count).then_some(out)
    });
    assert_eq!(found.len(), count, "{found:?}");
    found
}

fn send(sink: &mut dyn Sink, topic: &TopicName, value: &str) {
    let message = Message {
        destination: topic,
        partition: None,
        key: Some(b"k"),
        value: Some(value.as_bytes()),
        headers: &[],
        timestamp: None,
        is_tracked: false,
    };
    sink.send(&message).expect("send");
}

fn publish(sink: &mut dyn Sink, topic: &TopicName, values: &[&str]) {
    sink.begin().expect("begin");
    values.iter().for_each(|value| send(sink, topic, value));
    sink.flush().expect("flush");
    sink.commit().expect("commit");
}

/// Begins and fills a transaction, all acknowledged, and leaves it open.
fn leave_open(sink: &mut dyn Sink, topic: &TopicName, values: &[&str]) {
    sink.begin().expect("begin");
    values.iter().for_each(|value| send(sink, topic, value));
    sink.flush().expect("flush");
}

fn k(offset: i64) -> Committed {
    Committed { next_offset: NextOffset(offset), metadata: format!("v1 test 1 {offset}") }
}

fn committed(group: &dyn Group, place: &TopicPartition) -> Option<i64> {
    let answer = group.committed(std::slice::from_ref(place), SOON).expect("committed");
    answer[0].as_ref().map(|committed| committed.next_offset.0)
}

/// Polls until all members know of one generation.
fn settle(members: &mut [&mut Member]) {
    let mut calm = 0;
    eventually("one generation", || {
        members.iter_mut().for_each(|member| member.poll());
        let generations: Vec<i32> = members.iter().map(|member| member.membership().generation()).collect();
        calm = if generations.windows(2).all(|pair| pair[0] == pair[1]) { calm + 1 } else { 0 };
        (calm > 20).then_some(())
    });
}
