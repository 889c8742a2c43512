//! A member of a consumer group as a [`Source`].
//!
//! One thread polls librdkafka's event queue. A rebalance is an event among the others: the group waits until it is
//! answered by an (un)assign, so the listener is called between the event and the answer, on the polling thread, with no C
//! frame on the stack. New partitions are assigned at offset 0 and paused at once: nothing is delivered, and nothing is
//! asked of `auto.offset.reset`, until [`Source::start`] seeks to an explicit offset and resumes.

use super::assignment::Topics;
use super::fault::{self, by_code, by_error};
use super::ffi::{self, Event, Failure, Fetched, Queue};
use super::group::KafkaGroup;
use super::partitions::{first_error, list};
use super::settings::{GroupProtocol, KafkaSettings};
use super::{Quiet, log_line};
use crate::flow::record::{Header, NextOffset, Offset, Record, Timestamp, TopicPartition};
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::source::{Group, Listener, Membership, Source, Subscription, TaskId};
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long `start` tries before it answers `Retry`: a fetcher starts within milliseconds of the assignment.
const START_WAIT: Duration = Duration::from_secs(2);
/// How long `close` waits for the group to let go; the broker's session timeout does the rest.
const CLOSE_WAIT: Duration = Duration::from_secs(10);
/// How often a member of the broker-side protocol looks whether its epoch has moved on without a rebalance, and one that has
/// been told nothing yet whether it has been taken in.
const EPOCH_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is told that the group does not let this member join.
const TELL_REFUSAL: Duration = Duration::from_secs(30);

/// A member of a consumer group.
pub struct KafkaSource {
    queue: Queue<BaseConsumer<Quiet>>,
    consumer: Arc<BaseConsumer<Quiet>>,
    topics: Topics,
    group: Arc<KafkaGroup>,
    protocol: GroupProtocol,
    owned: HashSet<TaskId>,
    /// Assigned in librdkafka, which may differ from `owned` for a moment.
    assigned: HashSet<TaskId>,
    started: HashSet<TopicPartition>,
    /// librdkafka has stopped their fetchers after an offset out of range.
    stopped: HashSet<TopicPartition>,
    /// Taken from the queue but not told yet.
    aside: VecDeque<Step>,
    headers: Vec<Header>,
    hint: usize,
    generation: i32,
    epoch_check_at: Instant,
    heartbeat: Duration,
    wake_at: Instant,
    tell_refusal_at: Instant,
    is_closed: bool,
}

/// What one event asks for, once it is no longer borrowed.
enum Step {
    Told,
    Nothing,
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
    Failed(Failure),
}

impl Step {
    /// The step of an event that is no record.
    fn of(event: Event<'_>) -> Self {
        match event {
            Event::Assign(partitions) => Self::Assign(partitions),
            Event::Revoke(partitions) => Self::Revoke(partitions),
            Event::Failure(failure) => Self::Failed(failure),
            Event::Line(level, facility, line) => {
                log_line(level, facility, line);
                Self::Nothing
            }
            Event::Record(_) | Event::Committed(..) | Event::Other => Self::Nothing,
        }
    }
}

impl KafkaSource {
    /// Joins the group. Nothing is assigned before the first [`Source::poll`].
    ///
    /// - `instance_id`: the static member's id, unique in the group (docs/traps.md#static-members); `None` for
    /// a dynamic member.
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
        let consumer = Arc::new(consumer);
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
            tell_refusal_at: fault::deadline(Duration::ZERO),
            is_closed: false,
        })
    }

    /// Takes one event from the queue and tells its record, if it is one.
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
        }
    }

    fn assign(&mut self, partitions: &[(String, i32)], listener: &mut dyn Listener) -> Result<(), Fault> {
        let tasks = self.topics.tasks(partitions);
        let all = self.topics.partitions(&tasks);
        let list = list(all.iter().map(|partition| (partition, 0)))?;
        // An empty list too: the group waits for the answer.
        self.consumer
            .incremental_assign(&list)
            .map_err(|error| Fault::fatal("the client refused an assignment").because(error))?;
        self.assigned.extend(&tasks);
        if !all.is_empty() {
            self.consumer.pause(&list).map_err(|error| by_error(&error, "pause of new partitions"))?;
        }
        self.direct(&all, true)?;
        match ffi::membership(self.consumer.client()) {
            Ok(membership) => {
                tracing::info!(
                    generation = membership.generation(),
                    tasks = tasks.len(),
                    kept = self.owned.len(),
                    "group {}: assigned",
                    membership.group()
                );
                self.generation = membership.generation();
                self.owned.extend(&tasks);
                listener.assigned(&tasks, membership);
            }
            // Fallen out of the group since the event was made; the client will tell of the loss.
            Err(reason) => tracing::warn!("assignment without membership is not told: {reason}"),
        }
        Ok(())
    }

    fn revoke(&mut self, partitions: &[(String, i32)], listener: &mut dyn Listener) -> Result<(), Fault> {
        let tasks = self.topics.tasks(partitions);
        let is_lost = self.consumer.assignment_lost();
        let told: Vec<TaskId> = tasks.iter().copied().filter(|task| self.owned.remove(task)).collect();
        if !told.is_empty() {
            tracing::info!(tasks = told.len(), is_lost, "group {}: revoked", self.group.name());
            if is_lost {
                self.generation = -1;
                listener.lost(&told);
            } else {
                // The join that asks for them back has begun a generation of its own: what is published meanwhile, for them
                // and for the tasks kept, must be committed as its member, or the broker answers IllegalGeneration. They are
                // still ours: cooperative members give a partition to nobody before it was given up.
                if let Some(membership) = self.newer_membership() {
                    listener.assigned(&[], membership);
                }
                listener.revoked(&told);
            }
        }
        let gone: Vec<TaskId> = tasks.iter().copied().filter(|task| self.assigned.remove(task)).collect();
        let all = self.topics.partitions(&gone);
        for partition in &all {
            self.started.remove(partition);
            self.stopped.remove(partition);
        }
        // What lies in a queue of its own would lie there until the partition comes back. The group waits for the answer below
        // whether or not that succeeds.
        if let Err(fault) = self.direct(&all, true) {
            tracing::debug!(error = %fault, "records of a partition given up are kept until it comes back");
        }
        let answer = if matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            self.consumer.incremental_unassign(&list(all.iter().map(|partition| (partition, 0)))?)
        } else {
            self.consumer.unassign()
        };
        answer.map_err(|error| Fault::fatal("the client refused to give partitions up").because(error))
    }

    fn failed(&mut self, failure: &Failure, listener: &mut dyn Listener) -> Result<(), Fault> {
        let Failure { code, is_fatal, text, place } = failure;
        if *is_fatal {
            return Err(Fault::fatal(format!("group {}: {code}: {text}", self.group.name())));
        }
        match (code, place) {
            (Code::AutoOffsetReset, Some((topic, partition, offset))) => {
                let Some((task, number)) = self.topics.find(topic.as_bytes(), *partition, &mut self.hint) else {
                    return Ok(());
                };
                let Some(found) = self.topics.partitions(&[task]).into_iter().nth(number) else { return Ok(()) };
                if self.owned.contains(&task) && self.started.remove(&found) {
                    self.stopped.insert(found);
                    listener.out_of_range(task, number, &format!("{topic}-{partition} at {offset}: {text}"));
                } else {
                    self.stopped.insert(found); // before its first seek: the seek will start the fetcher anew
                }
                Ok(())
            }
            (Code::AutoOffsetReset | Code::PartitionEOF, _) => Ok(()),
            // Connections come and go, and librdkafka reconnects by itself.
            (
                Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::PollExceeded,
                _,
            ) => {
                tracing::warn!("group {}: {code}: {text}", self.group.name());
                Ok(())
            }
            // The client asks to join again, every second and for ever.
            (Code::InvalidSessionTimeout, None) => Err(Fault::fatal(format!(
                "group {}: the broker refuses the session timeout: set session_timeout_ms between its \
                 group.min.session.timeout.ms and its group.max.session.timeout.ms",
                self.group.name()
            ))),
            (Code::InconsistentGroupProtocol, None) => {
                self.refused(
                    "a member of this group id speaks another protocol than cooperative-sticky: end what uses the id beside \
                     this pipeline, or give the pipeline another name",
                );
                Ok(())
            }
            (Code::GroupMaxSizeReached, None) => {
                self.refused("it has as many members as the broker's group.max.size allows: raise that, or run fewer");
                Ok(())
            }
            (code, Some((topic, partition, _))) => Err(by_code(*code, &format!("{topic}-{partition}: {text}"))),
            (code, None) => Err(by_code(*code, &format!("group {}: {text}", self.group.name()))),
        }
    }

    /// The group does not let this member join, for a cause that does not go by itself.
    fn refused(&mut self, why: &str) {
        if fault::left(self.tell_refusal_at).is_zero() {
            self.tell_refusal_at = fault::deadline(TELL_REFUSAL);
            tracing::warn!("group {}: this instance is not let in: {why}", self.group.name());
        }
    }

    /// KIP-848: the member epoch may move on without an event for us. Still ours: the broker gives nothing of a member
    /// to others before that member has acknowledged the revoke, and a lost member keeps no epoch.
    ///
    /// Of either protocol, a member that was taken in and given nothing may hear of no rebalance.
    fn check_epoch(&mut self, listener: &mut dyn Listener) {
        let may_have_moved = self.protocol == GroupProtocol::Consumer && !self.owned.is_empty();
        let is_waiting = self.generation < 0;
        if !(may_have_moved || is_waiting) || !fault::left(self.epoch_check_at).is_zero() {
            return;
        }
        self.epoch_check_at = fault::deadline(EPOCH_CHECK_INTERVAL);
        if self.consumer.assignment_lost() {
            return;
        }
        if let Some(membership) = self.newer_membership() {
            listener.assigned(&[], membership);
        }
    }

    /// The client's own thread looks whether a heartbeat is due when something wakes it, and by itself once a second only:
    /// any question wakes it.
    fn wake(&mut self) {
        if fault::left(self.wake_at).is_zero() {
            self.wake_at = fault::deadline(self.heartbeat);
            let _ = ffi::membership(self.consumer.client()); // the answer is nothing new
        }
    }

    /// The membership, where its generation is above the one last told.
    fn newer_membership(&mut self) -> Option<Membership> {
        let found = ffi::membership(self.consumer.client()).ok();
        let membership = found.filter(|membership| membership.generation() > self.generation)?;
        self.generation = membership.generation();
        Some(membership)
    }

    /// Seeks within [`START_WAIT`]; answers those that the client would not seek.
    fn seek(&self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault> {
        let until = fault::deadline(START_WAIT);
        let mut left: Vec<(TopicPartition, NextOffset)> = positions.to_vec();
        loop {
            let list = list(left.iter().map(|(partition, next)| (partition, next.0)))?;
            let wait = fault::left(until).max(Duration::from_millis(10));
            let sought = self.consumer.seek_partitions(list, wait);
            let sought = sought.map_err(|error| Fault::retry("seek").because(error))?;
            let mut refused = None;
            let states = ffi::states(&sought);
            left.retain(|(partition, _)| {
                let is_it = |(topic, number, _): &&(String, i32, Code)| {
                    topic == partition.topic.as_str() && *number == partition.partition.0
                };
                match states.iter().find(is_it) {
                    Some((_, _, Code::NoError)) => false,
                    other => {
                        refused = Some((partition.clone(), other.map_or(Code::Fail, |(_, _, code)| *code)));
                        true
                    }
                }
            });
            let Some((partition, code)) = refused else { return Ok(()) };
            if fault::left(until).is_zero() {
                return Err(Fault::retry(format!("{partition}: seek: {code}")));
            }
            std::thread::sleep(Duration::from_millis(5)); // until the fetcher has started
        }
    }

    /// Assigns partitions anew whose fetcher librdkafka has stopped; a seek would answer "Erroneous state" for ever.
    ///
    /// Such a call would also answer a rebalance that waits in the queue, before anybody was told of it. So everything
    /// is paused, the queue is emptied, and what it held is told first.
    fn assign_anew(&mut self, stopped: &[TopicPartition]) -> Result<(), Fault> {
        let started: Vec<TopicPartition> = self.started.iter().cloned().collect();
        let others = list(started.iter().map(|partition| (partition, 0)))?;
        if !started.is_empty() {
            self.consumer.pause(&others).map_err(|error| by_error(&error, "pause"))?;
        }
        let rewound = self.set_aside();
        let answer = if self.aside.iter().any(|step| matches!(step, Step::Assign(_) | Step::Revoke(_))) {
            Err(Fault::retry("a rebalance waits to be told"))
        } else {
            let anew = list(stopped.iter().map(|partition| (partition, 0)))?;
            let assigned = self.consumer.incremental_unassign(&anew).and_then(|()| {
                self.consumer.incremental_assign(&anew)?;
                self.consumer.pause(&anew)
            });
            let assigned =
                assigned.map_err(|error| Fault::retry("a partition could not be assigned anew").because(error));
            assigned.and_then(|()| self.direct(stopped, true))
        };
        if !rewound.is_empty() {
            self.seek(&rewound)?;
        }
        if !started.is_empty() {
            self.consumer.resume(&others).map_err(|error| by_error(&error, "resume"))?;
        }
        answer
    }

    /// Empties the queue: events are kept for the next poll, records are to be read again from the answered positions.
    fn set_aside(&mut self) -> Vec<(TopicPartition, NextOffset)> {
        // A question to the client's own thread: when it is answered, the pause before it has taken effect.
        let _ = ffi::membership(self.consumer.client());
        let mut rewound: Vec<(TopicPartition, NextOffset)> = Vec::new();
        let Self { queue, topics, hint, aside, .. } = self;
        while let Some(step) = queue.poll(Duration::ZERO, |event| match event {
            Event::Record(fetched) => {
                let found = topics.find(fetched.topic(), fetched.partition(), hint);
                let place = found.and_then(|(task, number)| topics.partitions(&[task]).into_iter().nth(number));
                if let Some(place) = place
                    && rewound.iter().all(|(other, _)| *other != place)
                {
                    rewound.push((place, NextOffset(fetched.offset())));
                }
                Step::Nothing
            }
            event => Step::of(event),
        }) {
            if !matches!(step, Step::Nothing) {
                aside.push_back(step);
            }
        }
        rewound
    }

    /// Lets the records of `partitions` arrive where this member polls, or keeps them in queues of their own. Said for
    /// every partition that is assigned: whom it was said of once librdkafka does not send to the member by itself again.
    fn direct(&self, partitions: &[TopicPartition], to_us: bool) -> Result<(), Fault> {
        for TopicPartition { topic, partition } in partitions {
            Queue::direct(self.consumer.client(), topic.as_str(), partition.0, to_us.then_some(&self.queue))?;
        }
        Ok(())
    }

    fn require_owned<'a>(&mut self, partitions: impl Iterator<Item = &'a TopicPartition>) -> Result<(), Fault> {
        for TopicPartition { topic, partition } in partitions {
            let found = self.topics.find(topic.as_str().as_bytes(), partition.0, &mut self.hint);
            if !found.is_some_and(|(task, _)| self.owned.contains(&task)) {
                return Err(Fault::retry(format!("{topic}-{partition} is not assigned to this member")));
            }
        }
        Ok(())
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
                tracing::warn!("group {}: while leaving: {fault}", self.group.name());
            }
        }
        failpoint!(K16);
        self.group.leave();
    }
}

/// Tells one record.
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

/// Hears nothing: at the end there is nobody to tell.
struct Deaf;

impl Listener for Deaf {
    fn assigned(&mut self, _: &[TaskId], _: Membership) {}
    fn revoked(&mut self, _: &[TaskId]) {}
    fn lost(&mut self, _: &[TaskId]) {}
    fn record(&mut self, _: TaskId, _: usize, _: Record<'_>) {}
    fn out_of_range(&mut self, _: TaskId, _: usize, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::TopicName;
    use crate::ports::source::CopartitionGroup;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr};

    /// Notes who was told what.
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

    /// Polls until something was told or failed, for 20 s at most.
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
