//! Questions about the group and its log; every call may be made while another thread polls.

use super::Reader;
use super::fault::{self, by_code_of, by_error_of, is_timeout};
use super::ffi;
use super::partitions::list;
use super::rights::{Operation, Right};
use crate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::source::{Bounds, Committed, Group, LogIds};
use crate::ports::topics::no_topic;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A group as one of its members, or a mere reader, asks about it.
#[derive(Clone)]
pub(super) struct KafkaGroup {
    coordinators: Arc<ffi::Coordinators>,
    consumer: Arc<Reader>,
    name: String,
    has_left: Arc<AtomicBool>,
    /// It asks for a person, who is told why no answer came, and is no member, whose time is short.
    tells_why: bool,
}

/// The time for the question whether it is an open transaction that offsets wait for.
const WHY: Duration = Duration::from_secs(3);

impl KafkaGroup {
    /// Asks through `consumer`, whose group is called `name`.
    pub(super) fn new(consumer: Arc<Reader>, name: &str) -> Self {
        Self { coordinators: Arc::default(), consumer, name: name.into(), has_left: Arc::default(), tells_why: false }
    }

    /// The same for the command of a person.
    pub(super) fn of_a_person(consumer: Arc<Reader>, name: &str) -> Self {
        Self { tells_why: true, ..Self::new(consumer, name) }
    }

    /// Whether the group's coordinator answers once it need not wait for open transactions.
    fn is_held(&self, error: &KafkaError) -> bool {
        let is_late = error.rdkafka_error_code().is_some_and(is_timeout);
        self.tells_why
            && is_late
            && ffi::ask_unstable(&self.coordinators, self.consumer.client(), &self.name, WHY).is_ok()
    }

    /// The member has left: it commits nothing more.
    pub(super) fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// The group's id.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Offsets with their metadata, as the client wants them.
pub(super) fn offsets(offsets: &[(TopicPartition, Committed)]) -> Result<TopicPartitionList, Fault> {
    let all = list(offsets.iter().map(|(partition, committed)| (partition, committed.next_offset.0)))?;
    for (TopicPartition { topic, partition }, committed) in offsets {
        if let Some(mut element) = all.find_partition(topic.as_str(), partition.0) {
            element.set_metadata(&committed.metadata);
        }
    }
    Ok(all)
}

/// The fault of a question whose answer waits for the end of a transaction.
fn held(group: &str, partitions: &[TopicPartition], wait: Duration) -> Fault {
    let named: Vec<String> = partitions.iter().take(3).map(ToString::to_string).collect();
    let more = if partitions.len() > named.len() { ", …" } else { "" };
    Fault::retry(format!(
        "group {group}: an open transaction holds the committed offset of {}{more}, and has not ended within {} s; it ends by \
         kafka.transaction_timeout_ms, or it hangs (KAFKA-20734): `kafka-transactions.sh find-hanging` names it, `abort` ends \
         it",
        named.join(", "),
        wait.as_secs()
    ))
}

/// The log start and end of `partition` for this client's isolation level, asked again while `wait` lasts: right after the leader
/// has moved, the broker that led before answers that it does not lead, and librdkafka passes that on.
pub(super) fn start_and_end<C: ClientContext>(
    client: &Client<C>,
    partition: &TopicPartition,
    wait: Duration,
) -> Result<Bounds, Fault> {
    let TopicPartition { topic, partition: number } = partition;
    let needs = [Right::topic(Operation::Describe, topic.as_str())];
    let fault_of = |error: &KafkaError| by_error_of(error, &format!("{partition}: start and end"), &needs);
    let answer = fault::asked_again(wait, |left| match client.fetch_watermarks(topic.as_str(), number.0, left) {
        Err(error) if fault::is_led_elsewhere(&error) => Err(fault_of(&error)),
        answer => Ok(answer),
    })?;
    let (start, end) = answer.map_err(|error| fault_of(&error))?;
    Ok(Bounds { start: NextOffset(start), end: NextOffset(end) })
}

impl Group for KafkaGroup {
    fn committed(&self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Committed>>, Fault> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let what = format!("group {}: committed offsets", self.name);
        let asked = list(partitions.iter().map(|partition| (partition, 0)))?;
        let of_group = Right::group(Operation::Describe, &self.name);
        let answer = self.consumer.committed_offsets(asked, wait).map_err(|error| {
            if self.is_held(&error) {
                held(&self.name, partitions, wait)
            } else {
                by_error_of(&error, &what, &[of_group])
            }
        })?;
        let one = |TopicPartition { topic, partition }: &TopicPartition| {
            let element = answer.find_partition(topic.as_str(), partition.0);
            let element = element.ok_or_else(|| Fault::retry(format!("{what}: {topic}-{partition} is missing")))?;
            let needs = [of_group, Right::topic(Operation::Describe, topic.as_str())];
            element.error().map_err(|error| by_error_of(&error, &format!("{what}: {topic}-{partition}"), &needs))?;
            Ok(match element.offset() {
                Offset::Offset(offset) => {
                    Some(Committed { next_offset: NextOffset(offset), metadata: element.metadata().to_owned() })
                }
                _ => None,
            })
        };
        partitions.iter().map(one).collect()
    }

    fn bounds(&self, partition: &TopicPartition, wait: Duration) -> Result<Bounds, Fault> {
        start_and_end(self.consumer.client(), partition, wait)
    }

    fn log_ids(&self, topic: &TopicName, wait: Duration) -> Result<LogIds, Fault> {
        let client = self.consumer.client();
        let cluster_id =
            client.fetch_cluster_id(wait).ok_or_else(|| Fault::retry("the cluster did not tell its id"))?;
        let found =
            ffi::describe_topic(client, topic.as_str(), wait)?.ok_or_else(|| Fault::corrupt(no_topic(topic)))?;
        Ok(LogIds { cluster_id, topic_id: found.id })
    }

    fn partition_count(&self, topic: &TopicName, wait: Duration) -> Result<Option<i32>, Fault> {
        Ok(ffi::describe_topic(self.consumer.client(), topic.as_str(), wait)?.map(|found| found.partitions))
    }

    fn addresses(&self, wait: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault> {
        let members = ffi::describe_group(&self.coordinators, self.consumer.client(), &self.name, wait)?;
        let prefix = format!("{}@", self.name);
        let mut addresses = BTreeMap::new();
        for member in members {
            let Some(address) = member.client_id.strip_prefix(&prefix) else { continue };
            for (topic, partition) in member.partitions {
                if let Ok(topic) = TopicName::parse(&topic) {
                    addresses.insert(TopicPartition::new(topic, Partition(partition)), address.to_owned());
                }
            }
        }
        Ok(addresses)
    }

    fn strangers(&self, wait: Duration) -> Result<Vec<(String, Vec<String>)>, Fault> {
        let members = ffi::describe_group(&self.coordinators, self.consumer.client(), &self.name, wait)?;
        let is_ours =
            |client: &str| client.strip_prefix(&self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'));
        let strangers = members.into_iter().filter(|member| !is_ours(&member.client_id));
        let named = |(topic, partition): (String, i32)| format!("{topic}-{partition}");
        Ok(strangers.map(|member| (member.client_id, member.partitions.into_iter().map(named).collect())).collect())
    }

    fn commit(&self, commits: &[(TopicPartition, Committed)], wait: Duration) -> Result<(), Fault> {
        if commits.is_empty() {
            return Ok(());
        }
        // A group without members takes a commit that names neither member nor generation
        // (docs/traps.md#a-commit-without-a-member). The client sends such a commit before it has joined and after it has
        // left.
        if self.has_left.load(Ordering::Acquire) {
            return Err(Fault::fenced(format!("group {}: this member has left", self.name)));
        }
        ffi::membership(self.consumer.client()).map_err(Fault::fenced)?;
        ffi::commit(self.consumer.client(), &offsets(commits)?, wait).map_err(|code| {
            let needs = [Right::group(Operation::Read, &self.name)];
            by_code_of(code, &format!("group {}: commit of offsets", self.name), &needs)
        })
    }
}
