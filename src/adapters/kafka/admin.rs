//! Topics as an administrator sees them, for `topics plan` to compare and `topics apply` to change.

use super::fault::{asked_again, by_answer, by_code, by_error, deadline, left};
use super::ffi::{CallError, Entry, Owner};
use super::internal::Internal;
use super::rights::{Operation, Right};
use super::settings::KafkaSettings;
use super::{Quiet, ffi};
use crate::flow::record::TopicName;
use crate::ports::fault::Fault;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::MetadataBroker;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// The deadline of each change.
const WAIT: Duration = Duration::from_secs(30);
/// The deadline of each question.
const ANSWER: Duration = Duration::from_secs(10);
/// The deadline of a question whose answer a start can do without.
const BOUNDS_WAIT: Duration = Duration::from_secs(5);

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

/// An administrator's client. Every call blocks: a question for 10 s at most, a change for 30 s.
pub struct KafkaAdmin {
    coordinators: ffi::Coordinators,
    client: ffi::Parting<AdminClient<Quiet>>,
    settings: KafkaSettings,
    /// A topic was made or got partitions by these connections.
    has_changed: bool,
}

impl KafkaAdmin {
    /// Makes a client; connections follow with the first call.
    ///
    /// # Errors
    /// `Fatal` when the settings will not do.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, Fault> {
        let client = settings.admin()?.create_with_context(Quiet).map_err(|error| by_error(&error, "admin client"))?;
        let coordinators = ffi::Coordinators::default();
        Ok(Self { coordinators, client: ffi::Parting::new(client), settings: settings.clone(), has_changed: false })
    }

    /// Looks whether a change of `topic` came about although its request had no answer, and makes it `again` where it did not. Both
    /// by new connections: a broker that holds a user to a quota of changes reads nothing more of a connection for a while, makes
    /// what it has read, and takes one more change by the next connection. What is not made so keeps its fault, with what is likely
    /// behind it.
    pub(super) fn made_after_all(
        &mut self,
        made: Result<(), Fault>,
        topic: &TopicName,
        is_made: impl Fn(&TopicSpec) -> bool,
        again: impl FnOnce(&Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.has_changed = true;
        let Err(fault) = made else { return Ok(()) };
        if !fault.is_retry() {
            return Err(fault);
        }
        self.reconnect()?;
        self.has_changed = true;
        if self.current(topic).is_ok_and(|found| found.is_some_and(|found| is_made(&found))) || again(self).is_ok() {
            return Ok(());
        }
        self.reconnect()?;
        let until = deadline(ANSWER);
        loop {
            match self.current(topic) {
                Ok(Some(found)) if is_made(&found) => return Ok(()),
                Ok(_) if !left(until).is_zero() => std::thread::sleep(Duration::from_millis(500)),
                _ => return Err(held_back(&fault)),
            }
        }
    }

    /// Whether a topic was made or got partitions by the connections in use.
    pub(super) const fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Goes on with new connections.
    ///
    /// # Errors
    /// The same as [`KafkaAdmin::connect`].
    pub(super) fn reconnect(&mut self) -> Result<(), Fault> {
        *self = Self::connect(&self.settings)?;
        Ok(())
    }

    /// The names of all topics but Kafka's own, sorted.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer.
    pub fn names(&self) -> Result<Vec<TopicName>, Fault> {
        let metadata = self.client.inner().fetch_metadata(None, ANSWER);
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
        let Some((partitions, replicas, entries)) = self.described(name)? else { return Ok(None) };
        let own = entries.into_iter().filter(|entry| entry.is_own);
        let config = own.map(|entry| (entry.name, entry.value)).collect();
        Ok(Some(TopicSpec { name: name.clone(), partitions, replicas, config }))
    }

    /// The value of one setting of a topic, inherited ones included; `None` when there is no such setting.
    ///
    /// # Errors
    /// The same as [`KafkaAdmin::current`]; `Retry` too when there is no such topic.
    pub fn topic_config(&self, topic: &TopicName, setting: &str) -> Result<Option<String>, Fault> {
        let what = format!("topic {topic}: {setting} could not be read");
        let entries = self.settings(topic, &what)?;
        Ok(entries.into_iter().find(|entry| entry.name == setting).map(|entry| entry.value))
    }

    /// The shortest and the longest session timeout, in milliseconds, that the broker accepts from a member of a classic
    /// group; `None` where it does not report them, for instance for want of a right. `topic` is one that exists.
    #[must_use]
    pub fn session_bounds_ms(&self, topic: &TopicName) -> Option<(u32, u32)> {
        let settings = self.broker_settings(topic)?;
        let value = |wanted: &str| settings.iter().find(|entry| entry.name == wanted)?.value.parse().ok();
        Some((value("group.min.session.timeout.ms")?, value("group.max.session.timeout.ms")?))
    }

    /// The longest time, in milliseconds, that the broker lets a transaction take; `None` where it does not report it, for
    /// instance for want of a right. `topic` is one that exists.
    #[must_use]
    pub fn longest_transaction_ms(&self, topic: &TopicName) -> Option<u32> {
        let settings = self.broker_settings(topic)?;
        settings.iter().find(|entry| entry.name == "transaction.max.timeout.ms")?.value.parse().ok()
    }

    /// The settings of a broker that is alive.
    fn broker_settings(&self, topic: &TopicName) -> Option<Vec<Entry>> {
        let metadata = self.client.inner().fetch_metadata(Some(topic.as_str()), BOUNDS_WAIT).ok()?;
        // The one that answered, which is alive, unless it is known by its address alone: its id is -1 then, and that is
        // waited for in vain.
        let ids = || metadata.brokers().iter().map(MetadataBroker::id);
        let broker = ids().find(|id| *id == metadata.orig_broker_id()).or_else(|| ids().next())?;
        ffi::describe_config(self.client.inner(), &Owner::Broker(broker), BOUNDS_WAIT).ok()
    }

    /// The operations that this user may perform on a topic: none where the cluster tells nothing of it for want of a right;
    /// `None` when there is no such topic, or the cluster does not say.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer, `Fatal` when it refuses.
    pub fn allowed(&self, topic: &TopicName) -> Result<Option<Vec<Operation>>, Fault> {
        Ok(match ffi::look_at_topic(self.client.inner(), topic.as_str(), ANSWER)? {
            Ok(found) => found.and_then(|found| found.allowed),
            Err(_) => Some(Vec::new()),
        })
    }

    /// Whether this user is refused what a member of `group` does. Asked by the commit of an offset for a partition that does not
    /// exist, beside `topic`'s: it changes nothing. False too where the group's coordinator does not answer.
    #[must_use]
    pub fn is_denied_group(&self, group: &str, topic: &TopicName) -> bool {
        let nowhere = (topic.as_str(), i32::MAX);
        let answer = ffi::commit_nowhere(&self.coordinators, self.client.inner(), group, nowhere, ANSWER);
        answer.unwrap_or_else(|error| error.code) == Code::GroupAuthorizationFailed
    }

    /// A sentence for each log of the cluster's own that cannot be made or written to, without which no transaction begins or
    /// no group comes about.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer.
    pub fn internal_mistakes(&self) -> Result<Vec<String>, Fault> {
        let metadata =
            self.client.inner().fetch_metadata(None, ANSWER).map_err(|error| by_error(&error, "list of brokers"))?;
        Ok(Internal::look(self.client.inner(), &metadata, BOUNDS_WAIT).mistakes())
    }

    /// Cluster id; empty where the cluster has none.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer.
    pub fn cluster_id(&self) -> Result<String, Fault> {
        self.client.inner().fetch_cluster_id(ANSWER).ok_or_else(|| Fault::retry("the cluster did not tell its id"))
    }

    /// Creates topics. One that exists already is an error.
    ///
    /// # Errors
    /// `Retry` or `Fatal` with the first topic that was refused, in the broker's own words; those before it were created.
    pub fn create(&self, topics: &[TopicSpec]) -> Result<(), Fault> {
        topics.iter().try_for_each(|TopicSpec { name, partitions, replicas, config }| {
            ffi::create_topic(self.client.inner(), name.as_str(), (*partitions, *replicas), config, WAIT)
                .map_err(|error| refused(&error, name, "could not be created", Operation::Create))
        })
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// `Retry` or `Fatal` with the first topic that was refused; those before it were deleted.
    pub fn delete(&self, topics: &[TopicName]) -> Result<(), Fault> {
        topics.iter().try_for_each(|name| {
            ffi::delete_topic(self.client.inner(), name.as_str(), WAIT)
                .map_err(|error| refused(&error, name, "could not be deleted", Operation::Delete))
        })
    }

    /// Sets the given settings of a topic, all or none, and leaves its others as they are.
    ///
    /// # Errors
    /// `Retry` or `Fatal` when refused, in the broker's own words.
    pub fn alter_config(&self, topic: &TopicName, changes: &BTreeMap<String, String>) -> Result<(), Fault> {
        ffi::set_config(self.client.inner(), topic.as_str(), changes, WAIT)
            .map_err(|error| refused(&error, topic, "its settings could not be changed", Operation::AlterConfigs))
    }

    /// Raises a topic's partition count to `count`.
    ///
    /// # Errors
    /// `Retry` or `Fatal` when refused, in the broker's own words.
    pub fn create_partitions(&self, topic: &TopicName, count: i32) -> Result<(), Fault> {
        let total = usize::try_from(count).map_err(|_| Fault::fatal(format!("topic {topic}: {count} partitions")))?;
        ffi::create_partitions(self.client.inner(), topic.as_str(), total, WAIT)
            .map_err(|error| refused(&error, topic, "partitions could not be added", Operation::Alter))
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

    /// Partition count, number of copies and all settings of a topic.
    pub(super) fn described(&self, topic: &TopicName) -> Result<Option<(i32, i32, Vec<Entry>)>, Fault> {
        let Some(found) = ffi::describe_topic(self.client.inner(), topic.as_str(), ANSWER)? else { return Ok(None) };
        let entries = self.settings(topic, &format!("topic {topic}: its settings could not be read"))?;
        Ok(Some((found.partitions, found.replicas, entries)))
    }

    fn settings(&self, topic: &TopicName, what: &str) -> Result<Vec<Entry>, Fault> {
        let needs = [Right::topic(Operation::DescribeConfigs, topic.as_str())];
        asked_again(ANSWER, |left| {
            ffi::describe_config(self.client.inner(), &Owner::Topic(topic.as_str()), left)
                .map_err(|error| by_answer(&error, what, &needs))
        })
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}

/// The fault of a change that had no answer and did not come about.
fn held_back(fault: &Fault) -> Fault {
    Fault::retry(format!(
        "{fault}, and nothing of it is to be seen after a second request: a quota of changes to topics (controller_mutation_rate, shown by \
         `kafka-configs.sh --describe --entity-type users` and `--entity-type clients`) holds requests back, or the brokers are \
         slow; `topics apply` makes what is left"
    ))
}

/// The fault of a change of `topic` that needs the right `operation` on it.
fn refused(error: &CallError, topic: &TopicName, what: &str, operation: Operation) -> Fault {
    by_answer(error, &format!("topic {topic}: {what}"), &[Right::topic(operation, topic.as_str())])
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
