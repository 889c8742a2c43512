//! The content of the topics, for a reader of everything and for a committed one, by plain consumers; and the group's
//! offsets.

use super::{EXPECT_HEADER, PIPELINE, RECEIPT_HEADER, batches};
use crate::laws::{Expect, Fate, Input, Output};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset as KafkaOffset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};
use tidegate::flow::record::{Header, NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::ports::history::Found;

const WAIT: Duration = Duration::from_secs(30);

/// A source partition, L, H and K.
pub(super) type Progress = (TopicPartition, NextOffset, NextOffset, Option<NextOffset>);

pub(super) struct Topics {
    all: BaseConsumer,
    committed: BaseConsumer,
    /// Our numbers of transactions, by partition, producer and the marker's offset.
    transactions: HashMap<(TopicPartition, i64, i64), u64>,
}

impl Topics {
    pub(super) fn connect(bootstrap: &str) -> Result<Self, String> {
        let consumer = |isolation: &str| -> Result<BaseConsumer, String> {
            let mut config = ClientConfig::new();
            config
                .set("bootstrap.servers", bootstrap)
                .set("group.id", PIPELINE) // to ask for its offsets; never joined
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("fetch.wait.max.ms", "50") // an end is reported only then
                .set("isolation.level", isolation);
            config.create().map_err(|error| error.to_string())
        };
        let (all, committed) = (consumer("read_uncommitted")?, consumer("read_committed")?);
        Ok(Self { all, committed, transactions: HashMap::new() })
    }

    pub(super) fn count(&self, topic: &TopicName) -> Result<i32, String> {
        let metadata = self.all.fetch_metadata(Some(topic.as_str()), WAIT).map_err(|error| error.to_string())?;
        let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if count == 0 { Err(format!("there is no topic {topic}")) } else { i32::try_from(count).map_err(text) }
    }

    /// L, H and K. Stable it waits for every pending transaction, which under load there always is; else it is what the
    /// last one that has ended left.
    pub(super) fn progress(&self, topic: &TopicName, is_stable: bool) -> Result<Vec<Progress>, String> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic.as_str(), 0, self.count(topic)? - 1);
        let consumer = if is_stable { &self.committed } else { &self.all };
        let committed = consumer.committed_offsets(asked, WAIT).map_err(text)?;
        let starts = self.offsets(&self.all, topic, KafkaOffset::Beginning)?;
        let ends = self.offsets(&self.all, topic, KafkaOffset::End)?;
        let of = |((place, start), (_, end)): ((TopicPartition, i64), (TopicPartition, i64))| {
            let found = committed.find_partition(topic.as_str(), place.partition.0).map(|found| found.offset());
            let k = if let Some(KafkaOffset::Offset(k)) = found { Some(NextOffset(k)) } else { None };
            (place, NextOffset(start), NextOffset(end), k)
        };
        Ok(starts.into_iter().zip(ends).map(of).collect())
    }

    /// The last stable offset and the end of each partition.
    pub(super) fn stable_ends(&self, topic: &TopicName) -> Result<Vec<(TopicPartition, i64, i64)>, String> {
        let stable = self.offsets(&self.committed, topic, KafkaOffset::End)?;
        let ends = self.offsets(&self.all, topic, KafkaOffset::End)?;
        Ok(stable.into_iter().zip(ends).map(|((place, stable), (_, end))| (place, stable, end)).collect())
    }

    /// One offset of each partition in one question: the start or, as this reader is shown it, the end.
    fn offsets(
        &self,
        consumer: &BaseConsumer,
        topic: &TopicName,
        which: KafkaOffset,
    ) -> Result<Vec<(TopicPartition, i64)>, String> {
        let mut asked = TopicPartitionList::new();
        for partition in 0..self.count(topic)? {
            asked.add_partition_offset(topic.as_str(), partition, which).map_err(text)?;
        }
        let answer = consumer.offsets_for_times(asked, WAIT).map_err(text)?;
        let of = |found: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let place = TopicPartition::new(topic.clone(), Partition(found.partition()));
            match (found.error(), found.offset()) {
                (Ok(()), KafkaOffset::Offset(offset)) => Ok((place, offset)),
                (error, offset) => Err(format!("{place}: {which:?} is {offset:?}, {error:?}")),
            }
        };
        answer.elements().into_iter().map(of).collect()
    }

    /// A source topic whole.
    pub(super) fn inputs(&self, topic: &TopicName) -> Result<Vec<Input>, String> {
        let mut out = Vec::new();
        self.each(&self.committed, topic, |message| {
            let headers = headers_of(message);
            let header = |name: &str| {
                let header = headers.iter().find(|header| header.name == name)?;
                String::from_utf8(header.value.clone()?).ok()
            };
            let id = message.key().and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
            let expect = match (header(EXPECT_HEADER).as_deref(), id) {
                (Some("change"), Some(id)) => Expect::Change(id),
                _ => Expect::DeadLetter, // also what somebody else has sent
            };
            let receipt = header(RECEIPT_HEADER).and_then(|text| text.parse().ok());
            let place = TopicPartition::new(topic.clone(), Partition(message.partition()));
            out.push(Input { place, offset: Offset(message.offset()), expect, receipt });
        })?;
        out.sort_by_key(|input| (input.place.clone(), input.offset));
        Ok(out)
    }

    /// An output topic whole: everything, what became of it, and whether a committed reader sees it.
    pub(super) fn outputs(&mut self, topic: &TopicName) -> Result<Vec<Output>, String> {
        let mut visible = HashSet::new();
        self.each(&self.committed, topic, |message| {
            visible.insert((message.partition(), message.offset()));
        })?;
        let mut out = Vec::new();
        self.each(&self.all, topic, |message| {
            out.push(Output {
                topic: topic.clone(),
                found: Found {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: Timestamp(message.timestamp().to_millis().unwrap_or(-1)),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: headers_of(message),
                },
                transaction: None,
                fate: Fate::Open,
                is_visible: visible.contains(&(message.partition(), message.offset())),
            });
        })?;
        out.sort_by_key(|output| (output.found.partition, output.found.offset));
        self.settle(topic, &mut out)?;
        Ok(out)
    }

    /// Asks the batches and their markers what became of each record.
    fn settle(&mut self, topic: &TopicName, outputs: &mut [Output]) -> Result<(), String> {
        let leaders = self.leaders(topic)?;
        for of_partition in outputs.chunk_by_mut(|one, next| one.found.partition == next.found.partition) {
            let Some(partition) = of_partition.first().map(|first| first.found.partition) else { continue };
            let leader = leaders.get(&partition).ok_or_else(|| format!("{topic}-{partition} has no leader"))?;
            let (start, end) = self.all.fetch_watermarks(topic.as_str(), partition, WAIT).map_err(text)?;
            let batches = batches::read(leader, topic.as_str(), partition, start, end)?;
            for output in of_partition {
                let offset = output.found.offset;
                let at = batches.partition_point(|batch| batch.last < offset);
                let batch = batches.get(at).filter(|batch| batch.first <= offset);
                let batch = batch.ok_or_else(|| format!("{topic}-{partition}: no batch holds {offset}"))?;
                output.fate = batch.fate;
                output.transaction = batch.ended_by.map(|(producer, marker)| {
                    let place = TopicPartition::new(topic.clone(), Partition(partition));
                    let next = self.transactions.len() as u64;
                    *self.transactions.entry((place, producer, marker)).or_insert(next)
                });
            }
        }
        Ok(())
    }

    /// The address of each partition's leader.
    fn leaders(&self, topic: &TopicName) -> Result<BTreeMap<i32, String>, String> {
        let metadata = self.all.fetch_metadata(Some(topic.as_str()), WAIT).map_err(text)?;
        let brokers: HashMap<i32, String> = metadata
            .brokers()
            .iter()
            .map(|broker| (broker.id(), format!("{}:{}", broker.host(), broker.port())))
            .collect();
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.filter_map(|p| Some((p.id(), brokers.get(&p.leader())?.clone()))).collect())
    }

    /// Every record of a topic up to the ends that this reader is shown.
    fn each(
        &self,
        consumer: &BaseConsumer,
        topic: &TopicName,
        mut visit: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), String> {
        let mut whole = TopicPartitionList::new();
        let mut open: HashSet<i32> = (0..self.count(topic)?).collect();
        for partition in &open {
            let added = whole.add_partition_offset(topic.as_str(), *partition, KafkaOffset::Beginning);
            added.map_err(text)?;
        }
        consumer.assign(&whole).map_err(text)?;
        let mut until = Instant::now() + WAIT;
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => {
                    visit(&message);
                    until = Instant::now() + WAIT;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) => return Err(format!("{topic}: {error}")),
                None if Instant::now() > until => return Err(format!("{topic}: {open:?} do not come to an end")),
                None => {}
            }
        }
        consumer.unassign().map_err(text)
    }
}

fn headers_of(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let all = message.headers().into_iter().flat_map(|headers| headers.iter());
    all.map(|header| Header { name: header.key.into(), value: header.value.map(<[u8]>::to_vec) }).collect()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
