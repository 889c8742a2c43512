//! The numbers of partitions of the topics that a producer writes, for messages whose partition does not follow from their key.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::producer::deliveries::code_of;
use crate::flow::record::TopicName;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::MetadataTopic;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The age up to which an answer is believed: that of the client's own metadata, by which keys go
/// (`topic.metadata.refresh.interval.ms`).
const AGE_MAX: Duration = Duration::from_mins(1);

/// What a producer was told, and until when it is believed.
#[derive(Default)]
pub(super) struct PartitionCounts(BTreeMap<TopicName, (i32, Instant)>);

impl PartitionCounts {
    /// The number of partitions of a topic, asked for where it is not known: at least 1.
    pub(super) fn of<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        topic: &TopicName,
        wait: Duration,
    ) -> Result<i32, Code> {
        if let Some((count, until)) = self.0.get(topic)
            && !fault::left(*until).is_zero()
        {
            return Ok(*count);
        }
        // The answer is the client's own news of the topic, too: it refuses no partition that is counted here.
        let metadata = client.fetch_metadata(Some(topic.as_str()), wait).map_err(|error| code_of(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
        if let Some(error) = found.and_then(MetadataTopic::error) {
            return Err(Code::from(error));
        }
        let count = found.and_then(|found| i32::try_from(found.partitions().len()).ok()).filter(|count| *count > 0);
        let count = count.ok_or(Code::UnknownTopicOrPartition)?;
        self.0.insert(topic.clone(), (count, fault::deadline(AGE_MAX)));
        Ok(count)
    }
}
