//! A member of a consumer group as a [`Source`].
//!
//! One thread polls librdkafka's event queue. A rebalance is an event among the others: the group waits until it is
//! answered by an (un)assign, so the listener is called between the event and the answer, on the polling thread, with no C
//! frame on the stack. New partitions are assigned at offset 0 and paused at once: nothing is delivered, and nothing is
//! asked of `auto.offset.reset`, until [`Source::start`] seeks to an explicit offset and resumes.

mod deaf;
mod failures;
mod obstacles;
mod rebalance;
mod seek;
mod step;

use crate::adapters::kafka::assignment::Topics;
use crate::adapters::kafka::consumer::deaf::Deaf;
use crate::adapters::kafka::consumer::step::Step;
use crate::adapters::kafka::fault::{self, by_error};
use crate::adapters::kafka::ffi::{Event, Fetched, Queue};
use crate::adapters::kafka::group::KafkaGroup;
use crate::adapters::kafka::partitions::{first_error, list};
use crate::adapters::kafka::settings::{GroupProtocol, KafkaSettings};
use crate::adapters::kafka::sight::Sight;
use crate::adapters::kafka::{Quiet, Reader};
use crate::flow::record::{Header, NextOffset, Offset, Record, Timestamp, TopicPartition};
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::source::{Group, Listener, Source, Subscription, TaskId};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time for which `close` waits to leave the group; the broker's session timeout does the rest.
const CLOSE_WAIT: Duration = Duration::from_secs(10);
/// The interval at which a member of the broker-side protocol looks whether its epoch has moved on without a rebalance. A
/// member that has had no assignment yet looks as often whether it has been taken in.
const EPOCH_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A member of a consumer group.
pub struct KafkaSource {
    queue: Queue<Reader>,
    consumer: Arc<Reader>,
    topics: Topics,
    group: Arc<KafkaGroup>,
    protocol: GroupProtocol,
    owned: HashSet<TaskId>,
    /// Assigned in librdkafka, which may differ from `owned` for a moment.
    assigned: HashSet<TaskId>,
    started: HashSet<TopicPartition>,
    /// librdkafka has stopped their fetchers after an offset out of range.
    stopped: HashSet<TopicPartition>,
    /// Taken from the queue but not reported yet.
    aside: VecDeque<Step>,
    headers: Vec<Header>,
    hint: usize,
    generation: i32,
    epoch_check_at: Instant,
    heartbeat: Duration,
    wake_at: Instant,
    sight: Sight,
    is_closed: bool,
}

impl KafkaSource {
    /// Joins the group. Nothing is assigned before the first [`Source::poll`].
    ///
    /// - `instance_id`: the static member's id, unique in the group (docs/traps.md#static-members); `None` for
    ///   a dynamic member.
    ///
    /// # Errors
    /// `Fatal` when the settings, the subscription or the library will not do. A broker that is down is no error.
    pub fn join(
        settings: &KafkaSettings,
        subscription: &Subscription,
        instance_id: Option<&str>,
    ) -> Result<Self, Fault> {
        let what = format!("group {}", subscription.group);
        let topics = Topics::new(subscription).map_err(Fault::fatal)?;
        let config = settings.member(&subscription.group, instance_id)?;
        let consumer: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(|error| by_error(&error, &what))?;
        let consumer = Arc::new(Reader::new(consumer));
        let queue = Queue::of_consumer(consumer.client(), consumer.clone())?;
        consumer.subscribe(&topics.leads()).map_err(|error| by_error(&error, &what))?;
        Ok(Self {
            queue,
            group: Arc::new(KafkaGroup::new(consumer.clone(), &subscription.group)),
            consumer,
            topics,
            protocol: settings.group_protocol,
            owned: HashSet::new(),
            assigned: HashSet::new(),
            started: HashSet::new(),
            stopped: HashSet::new(),
            aside: VecDeque::new(),
            headers: Vec::new(),
            hint: 0,
            generation: -1,
            epoch_check_at: fault::deadline(EPOCH_CHECK_INTERVAL),
            heartbeat: settings.heartbeat(),
            wake_at: fault::deadline(settings.heartbeat()),
            sight: Sight::new(&settings.bootstrap_servers),
            is_closed: false,
        })
    }

    /// Takes one event from the queue and reports its record, if it is one.
    fn step(&mut self, wait: Duration, listener: &mut dyn Listener) -> Option<Step> {
        let Self { queue, topics, headers, hint, .. } = self;
        queue.poll(wait, |event| match event {
            Event::Record(fetched) => tell(fetched, topics, headers, hint, listener),
            event => Step::of(event),
        })
    }

    fn act(&mut self, step: Step, listener: &mut dyn Listener) -> Result<(), Fault> {
        match step {
            Step::Told | Step::Nothing => Ok(()),
            Step::Assign(partitions) => self.assign(&partitions, listener),
            Step::Revoke(partitions) => self.revoke(&partitions, listener),
            Step::Failed(failure) => self.failed(&failure, listener),
            Step::Measured(found) => {
                self.measured(&found, listener);
                Ok(())
            }
        }
    }

    fn close_within(&mut self, wait: Duration, listener: &mut dyn Listener) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        // The client itself is closed when its last handle is dropped, which may be another thread's `Group`.
        self.consumer.unsubscribe();
        let until = fault::deadline(wait);
        while !self.assigned.is_empty() && !fault::left(until).is_zero() {
            let Some(step) = self.step(Duration::from_millis(20), &mut Deaf) else { continue };
            if let Err(fault) = self.act(step, listener) {
                tracing::warn!(
                    "group {}: while leaving: {fault}; the end of its session takes its partitions from it by itself",
                    self.group.name()
                );
            }
        }
        failpoint!(K16);
        self.group.leave();
    }
}

/// Reports one record to the listener.
fn tell(
    fetched: Fetched<'_>,
    topics: &Topics,
    headers: &mut Vec<Header>,
    hint: &mut usize,
    listener: &mut dyn Listener,
) -> Step {
    let Some((task, topic)) = topics.find(fetched.topic(), fetched.partition(), hint) else { return Step::Nothing };
    fetched.headers(headers);
    let record = Record {
        offset: Offset(fetched.offset()),
        timestamp: Timestamp(fetched.timestamp()),
        key: fetched.key(),
        value: fetched.value(),
        headers,
    };
    listener.record(task, topic, record);
    Step::Told
}

impl Source for KafkaSource {
    fn poll(&mut self, wait: Duration, records_max: usize, listener: &mut dyn Listener) -> Result<usize, Fault> {
        while let Some(step) = self.aside.pop_front() {
            self.act(step, listener)?;
        }
        self.check_epoch(listener);
        self.wake();
        let (mut told, mut wait) = (0, wait);
        while told < records_max {
            let Some(step) = self.step(wait, listener) else { break };
            wait = Duration::ZERO;
            match step {
                Step::Told => told += 1,
                other => self.act(other, listener)?,
            }
        }
        Ok(told)
    }

    fn start(&mut self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        self.require_owned(positions.iter().map(|(partition, _)| partition))?;
        let is_stopped = |partition: &&TopicPartition| self.stopped.contains(*partition);
        let stopped: Vec<_> = positions.iter().map(|(partition, _)| partition).filter(is_stopped).cloned().collect();
        if !stopped.is_empty() {
            self.assign_anew(&stopped)?;
            for partition in &stopped {
                self.stopped.remove(partition);
            }
        }
        self.seek(positions)?;
        let all: Vec<TopicPartition> = positions.iter().map(|(partition, _)| partition.clone()).collect();
        self.started.extend(all.iter().cloned());
        self.direct(&all, true)?;
        let list = list(all.iter().map(|partition| (partition, 0)))?;
        self.consumer.resume(&list).map_err(|error| Fault::retry("resume").because(error))?;
        first_error(&list, "resume")
    }

    fn hold(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.require_owned(partitions.iter())?;
        self.direct(partitions, false)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.require_owned(partitions.iter())?;
        self.direct(partitions, true)
    }

    fn group(&self) -> Arc<dyn Group> {
        self.group.clone()
    }

    fn close(&mut self, listener: &mut dyn Listener) {
        self.close_within(CLOSE_WAIT, listener);
    }
}

impl Drop for KafkaSource {
    /// Leaves the group even where nobody closed: the client would otherwise wait for an answer to its last revoke.
    fn drop(&mut self) {
        self.close_within(Duration::from_secs(2), &mut Deaf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::TopicName;
    use crate::ports::source::{CopartitionGroup, Membership};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr};

    /// Notes each assignment that is reported: its number of tasks and its generation.
    #[derive(Default)]
    struct Told(Vec<(usize, i32)>);

    impl Listener for Told {
        fn assigned(&mut self, tasks: &[TaskId], membership: Membership) {
            self.0.push((tasks.len(), membership.generation()));
        }
        fn revoked(&mut self, _: &[TaskId]) {}
        fn lost(&mut self, _: &[TaskId]) {}
        fn record(&mut self, _: TaskId, _: usize, _: Record<'_>) {}
        fn out_of_range(&mut self, _: TaskId, _: usize, _: &str) {}
    }

    fn cluster() -> MockCluster<'static, DefaultProducerContext> {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("orders", 1, 1).unwrap();
        cluster
    }

    fn join(cluster: &MockCluster<'static, DefaultProducerContext>) -> KafkaSource {
        let settings = KafkaSettings { bootstrap_servers: cluster.bootstrap_servers(), ..KafkaSettings::default() };
        let lead = TopicName::parse("orders").unwrap();
        let groups = vec![CopartitionGroup { lead, companions: Vec::new() }];
        KafkaSource::join(&settings, &Subscription { group: "g".into(), groups }, None).unwrap()
    }

    /// Polls until something was reported or failed, for 20 s at most.
    fn outcome(source: &mut KafkaSource, told: &mut Told) -> Result<(), Fault> {
        let until = fault::deadline(Duration::from_secs(20));
        while told.0.is_empty() && !fault::left(until).is_zero() {
            source.poll(Duration::from_millis(20), 10, told)?;
        }
        Ok(())
    }

    #[test]
    fn a_session_timeout_that_the_broker_refuses_ends_the_member_with_the_names_of_its_bounds() {
        let cluster = cluster();
        cluster.request_errors(Request::JoinGroup, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT]);
        let (mut source, mut told) = (join(&cluster), Told::default());
        let fault = outcome(&mut source, &mut told).unwrap_err();
        assert!(matches!(fault, Fault::Fatal(_)) && told.0.is_empty(), "{fault}");
        assert!(fault.to_string().contains("group.min.session.timeout.ms"), "{fault}");
    }

    #[test]
    fn a_member_that_the_group_does_not_let_in_goes_on_asking_and_is_told_when_it_was_taken_in() {
        let cluster = cluster();
        let refusals = [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
        ];
        cluster.request_errors(Request::JoinGroup, &refusals);
        let (mut source, mut told) = (join(&cluster), Told::default());
        outcome(&mut source, &mut told).unwrap();
        assert!(!told.0.is_empty() && told.0[0].1 >= 0, "{:?}", told.0);
    }
}
