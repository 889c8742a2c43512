//! Topics as an administrator sees them, for `topics plan` to compare and `topics apply` to change.

use super::fault::{asked_again, by_code, by_error};
use super::{Quiet, ffi};
use crate::flow::record::TopicName;
use crate::ports::fault::Fault;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::MetadataBroker;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// The deadline of each question and change.
const WAIT: Duration = Duration::from_secs(30);
/// The deadline of a question whose answer a start can do without.
const BOUNDS_WAIT: Duration = Duration::from_secs(5);

use super::settings::KafkaSettings;

/// A topic as it is or shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: TopicName,
    /// The number of partitions.
    pub partitions: i32,
    /// The number of copies of each partition; -1 asks for the broker's default.
    pub replicas: i32,
    /// The settings that differ from the broker's defaults, by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// An administrator's client. Every call blocks, 30 s at most.
pub struct KafkaAdmin {
    client: AdminClient<Quiet>,
}

impl KafkaAdmin {
    /// Makes a client; connections follow with the first call.
    ///
    /// # Errors
    /// `Fatal` when the settings will not do.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, Fault> {
        let client = settings.admin()?.create_with_context(Quiet).map_err(|error| by_error(&error, "admin client"))?;
        Ok(Self { client })
    }

    /// The names of all topics but Kafka's own, sorted.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer.
    pub fn names(&self) -> Result<Vec<TopicName>, Fault> {
        let metadata = self.client.inner().fetch_metadata(None, WAIT);
        let metadata = metadata.map_err(|error| by_error(&error, "list of topics"))?;
        let names = metadata.topics().iter().filter_map(|topic| TopicName::parse(topic.name()).ok());
        let mut names: Vec<TopicName> = names.filter(|name| !name.as_str().starts_with("__")).collect();
        names.sort();
        Ok(names)
    }

    /// The topic as it is; `None` when there is none. `config` holds only the settings made for the topic itself.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer, `Fatal` when rights are missing.
    pub fn current(&self, name: &TopicName) -> Result<Option<TopicSpec>, Fault> {
        let Some((_, partitions)) = ffi::describe_topic(self.client.inner(), name.as_str(), WAIT)? else {
            return Ok(None);
        };
        let what = format!("topic {name}");
        let metadata = self.client.inner().fetch_metadata(Some(name.as_str()), WAIT);
        let metadata = metadata.map_err(|error| by_error(&error, &what))?;
        let first = metadata.topics().first().and_then(|topic| topic.partitions().first());
        let replicas = first.map_or(0, |partition| i32::try_from(partition.replicas().len()).unwrap_or(i32::MAX));
        let config = self.settings(name)?.into_iter();
        let config = config.filter(|(_, _, is_own)| *is_own).map(|(name, value, _)| (name, value)).collect();
        Ok(Some(TopicSpec { name: name.clone(), partitions, replicas, config }))
    }

    /// The value of one setting of a topic, inherited ones included; `None` when there is no such setting.
    ///
    /// # Errors
    /// The same as [`KafkaAdmin::current`]; `Retry` too when there is no such topic.
    pub fn topic_config(&self, topic: &TopicName, setting: &str) -> Result<Option<String>, Fault> {
        Ok(self.settings(topic)?.into_iter().find(|(name, _, _)| name == setting).map(|(_, value, _)| value))
    }

    /// The shortest and the longest session timeout, in milliseconds, that the broker accepts from a member of a classic
    /// group; `None` where it does not report them, for instance for want of a right. `topic` is one that exists.
    #[must_use]
    pub fn session_bounds_ms(&self, topic: &TopicName) -> Option<(u32, u32)> {
        let metadata = self.client.inner().fetch_metadata(Some(topic.as_str()), BOUNDS_WAIT).ok()?;
        // The one that answered, which is alive, unless it is known by its address alone: its id is -1 then, and that is
        // waited for in vain.
        let ids = || metadata.brokers().iter().map(MetadataBroker::id);
        let broker = ids().find(|id| *id == metadata.orig_broker_id()).or_else(|| ids().next())?;
        let settings = self.described(&ResourceSpecifier::Broker(broker), "settings of a broker", BOUNDS_WAIT).ok()?;
        let value = |wanted: &str| settings.iter().find(|(name, _, _)| name == wanted)?.1.parse().ok();
        Some((value("group.min.session.timeout.ms")?, value("group.max.session.timeout.ms")?))
    }

    /// Cluster id; empty where the cluster has none.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer.
    pub fn cluster_id(&self) -> Result<String, Fault> {
        self.client.inner().fetch_cluster_id(WAIT).ok_or_else(|| Fault::retry("the cluster did not tell its id"))
    }

    /// Creates topics. One that exists already is an error.
    ///
    /// # Errors
    /// `Retry` or `Fatal` with the first topic that was refused; others may have been created.
    pub fn create(&self, topics: &[TopicSpec]) -> Result<(), Fault> {
        let new = topics.iter().map(|topic| {
            let replicas = TopicReplication::Fixed(topic.replicas);
            let new = NewTopic::new(topic.name.as_str(), topic.partitions, replicas);
            topic.config.iter().fold(new, |new, (name, value)| new.set(name, value))
        });
        let new: Vec<NewTopic<'_>> = new.collect();
        let results = block_on(self.client.create_topics(&new, &options()));
        refused(results.map_err(|error| by_error(&error, "creation of topics"))?, "could not be created")
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// `Retry` or `Fatal` with the first topic that was refused.
    pub fn delete(&self, topics: &[TopicName]) -> Result<(), Fault> {
        let names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
        let results = block_on(self.client.delete_topics(&names, &options()));
        refused(results.map_err(|error| by_error(&error, "deletion of topics"))?, "could not be deleted")
    }

    /// Sets the given settings of a topic and leaves its others as they are.
    ///
    /// # Errors
    /// `Retry` or `Fatal` when refused.
    pub fn alter_config(&self, topic: &TopicName, changes: &BTreeMap<String, String>) -> Result<(), Fault> {
        // The call of this client replaces all settings, so the present ones go along.
        let present = self.settings(topic)?.into_iter().filter(|(_, _, is_own)| *is_own);
        let mut all: BTreeMap<String, String> = present.map(|(name, value, _)| (name, value)).collect();
        all.extend(changes.clone());
        let alter = AlterConfig::new(ResourceSpecifier::Topic(topic.as_str()));
        let alter = all.iter().fold(alter, |alter, (name, value)| alter.set(name, value));
        let results = block_on(self.client.alter_configs([&alter], &options()));
        let what = format!("topic {topic}: its settings could not be changed");
        for result in results.map_err(|error| by_error(&error, &what))? {
            result.map_err(|(_, code)| by_code(code, &what))?;
        }
        Ok(())
    }

    /// Raises a topic's partition count to `count`.
    ///
    /// # Errors
    /// `Retry` or `Fatal` when refused.
    pub fn create_partitions(&self, topic: &TopicName, count: i32) -> Result<(), Fault> {
        let count = usize::try_from(count).map_err(|_| Fault::fatal(format!("topic {topic}: {count} partitions")))?;
        let new = NewPartitions::new(topic.as_str(), count);
        let results = block_on(self.client.create_partitions([&new], &options()));
        let what = format!("topic {topic}: partitions could not be added");
        refused(results.map_err(|error| by_error(&error, &what))?, "partitions could not be added")
    }

    /// Deletes the records of one partition below `offset`, as retention would.
    ///
    /// # Errors
    /// `Retry` or `Fatal` when refused.
    pub fn delete_records(&self, partition: &crate::flow::record::TopicPartition, offset: i64) -> Result<(), Fault> {
        let list = super::partitions::list(std::iter::once((partition, offset)))?;
        let what = format!("{partition}: records could not be deleted");
        let answer =
            block_on(self.client.delete_records(&list, &options())).map_err(|error| by_error(&error, &what))?;
        match ffi::states(&answer).into_iter().find(|(_, _, code)| *code != Code::NoError) {
            Some((_, _, code)) => Err(by_code(code, &what)),
            None => Ok(()),
        }
    }

    /// Name, value, and whether it was set for the topic itself.
    pub(super) fn settings(&self, topic: &TopicName) -> Result<Vec<(String, String, bool)>, Fault> {
        self.described(&ResourceSpecifier::Topic(topic.as_str()), &format!("topic {topic}: settings"), WAIT)
    }

    /// The same as [`KafkaAdmin::settings`], for a topic or a broker.
    fn described(
        &self,
        asked: &ResourceSpecifier<'_>,
        what: &str,
        wait: Duration,
    ) -> Result<Vec<(String, String, bool)>, Fault> {
        let answer = asked_again(wait, |left| {
            let options = AdminOptions::new().request_timeout(Some(left));
            block_on(self.client.describe_configs([asked], &options)).map_err(|error| by_error(&error, what))
        });
        let mut settings = Vec::new();
        for resource in answer? {
            let ConfigResource { entries, .. } = resource.map_err(|code| by_code(code, what))?;
            settings.extend(entries.into_iter().filter_map(|entry| {
                let is_own = matches!(entry.source, ConfigSource::DynamicTopic);
                Some((entry.name, entry.value?, is_own))
            }));
        }
        Ok(settings)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}

fn refused(results: Vec<Result<String, (String, Code)>>, what: &str) -> Result<(), Fault> {
    for result in results {
        result.map_err(|(topic, code)| by_code(code, &format!("topic {topic}: {what}")))?;
    }
    Ok(())
}

/// Waits for a future of rdkafka's, whose work is done by a thread of its own: no runtime is needed.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
