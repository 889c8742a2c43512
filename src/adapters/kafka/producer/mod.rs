//! A transactional producer as a [`Sink`].
//!
//! The fast path of one transaction (docs/traps.md#a-flush-in-steps-of-100-ms): messages are queued, a direct
//! `rd_kafka_flush` waits for their
//! acknowledgements while a thread of its own serves the delivery reports, the offsets follow, then the commit. rdkafka's own
//! `flush` would add 100 ms to each transaction.
//!
//! A worked failure, and why `taint` exists: the connection breaks after the broker has received `EndTxn(abort)` of
//! transaction 1 but before it has handled it. librdkafka repeats the request on a new connection and is answered;
//! transaction 2 begins, its messages are acknowledged, its offsets are sent. Now the broker handles the first copy. It bears
//! the same producer id and epoch, so it aborts transaction 2, whose commit then answers Ok: messages lost, offsets moved on.
//! So a producer whose log shows a lost connection within a transaction is not used for another one: its successor's epoch
//! is newer, and the broker refuses the copy. The log lines are read from a queue of their own by the thread that
//! commits, so that no line can come too late.

mod counts;
mod deliveries;
mod limits;

pub use limits::TopicLimits;

pub(super) use deliveries::Deliveries;

use crate::adapters::kafka::bounded::Bounded;
use crate::adapters::kafka::fault::{self, by_error, in_transaction, is_consequence, is_producer_fenced, is_timeout};
use crate::adapters::kafka::ffi::{self, CallError, Event, Queue};
use crate::adapters::kafka::group::offsets;
use crate::adapters::kafka::log_line;
use crate::adapters::kafka::producer::deliveries::code_of;
use crate::adapters::kafka::rights::{Operation, Right, lacking};
use crate::adapters::kafka::settings::KafkaSettings;
use crate::adapters::kafka::sight::quota;
use crate::adapters::kafka::taint::TaintWatch;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::guard::{self, Guard};
use crate::ports::obstacle::Reason;
use crate::ports::sink::{Message, Sink, SizeLimit};
use crate::ports::source::{Committed, Membership};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Headroom below a topic's `max.message.bytes` for the batch's header (61 bytes), the record's own fields and the lengths
/// of its headers.
const FRAMING_BYTES: usize = 1_024;
/// The time that the library may take beyond the given timeout before its call is left behind.
const HANGING: Duration = Duration::from_millis(500);
/// The number of producers that hanging calls may leave behind, each with its threads and queues. Beyond that the next one
/// has to wait until one of those calls comes back.
const LEFT_BEHIND_MAX: usize = 8;
/// The first timeout for sending the offsets; doubled after each time that it was too short, up to the transaction's
/// timeout. They take milliseconds. The library waits for a dead group coordinator until its timeout, while a new producer
/// asks for the new coordinator at once.
const OFFSETS_WAIT: Duration = Duration::from_secs(2);
/// The time for which `renew` waits for an abort.
const RENEW_ABORT_WAIT: Duration = Duration::from_millis(300);
/// The time for which `close` waits for an abort; the transaction's timeout does the rest.
const ABORT_WAIT: Duration = Duration::from_secs(5);

/// Answers the transactional id of the producer that is about to start.
pub type Naming = Box<dyn Fn() -> Result<String, Fault> + Send>;

/// A transactional producer.
pub struct KafkaSink {
    settings: KafkaSettings,
    transactional_id: String,
    naming: Naming,
    live: Option<Live>,
    watch: TaintWatch,
    is_fenced: bool,
    /// A request of the transaction may have no answer yet.
    is_unanswered: bool,
    /// What the brokers said of the topics, to this producer or another one of the process.
    topic_limits: TopicLimits,
    /// Partitions that tracked messages of the transaction went to, in the order of [`Seen::ends`](deliveries::Seen::ends).
    tracked: Vec<TopicPartition>,
    /// The timeout for sending the next offsets.
    offsets_wait: Duration,
    /// Producers with a call that has not come back.
    left_behind: Vec<Weak<ThreadedProducer<Deliveries>>>,
    /// `batch.size`, lowered to the smallest `max.message.bytes` of `limits`: a batch above it would be refused whole.
    batch_bytes: usize,
    /// `batch.size` as it is set.
    batch_bytes_max: usize,
    /// `max.message.bytes` of each topic, as it was last asked for.
    limits: BTreeMap<TopicName, usize>,
    counts: counts::PartitionCounts,
}

/// A producer with its log, and the thread for the call that may hang.
struct Live {
    calls: Bounded<Result<(), CallError>>,
    lines: Queue<ThreadedProducer<Deliveries>>,
    producer: Arc<ThreadedProducer<Deliveries>>,
}

impl KafkaSink {
    /// Starts a producer under `transactional_id`. The start ends an open transaction of its predecessor and fences it.
    ///
    /// # Errors
    /// `Retry` when the cluster did not answer in time; `Fatal` when the settings or the rights will not do.
    pub fn open(settings: &KafkaSettings, transactional_id: &str) -> Result<Self, Fault> {
        let name = transactional_id.to_owned();
        Self::open_as(settings, Box::new(move || Ok(name.clone())), TopicLimits::default())
    }

    /// The same under the transactional id that `naming` answers; it is asked again whenever the producer is replaced.
    /// `topic_limits` is shared by the producers of a process.
    ///
    /// # Errors
    /// The same as [`KafkaSink::open`], and those of `naming`.
    pub fn open_as(settings: &KafkaSettings, naming: Naming, topic_limits: TopicLimits) -> Result<Self, Fault> {
        let batch_bytes = settings.producer_property("batch.size").and_then(|value| value.parse().ok());
        let batch_bytes = batch_bytes.unwrap_or(1_000_000);
        let mut sink = Self {
            settings: settings.clone(),
            transactional_id: String::new(),
            naming,
            live: None,
            watch: TaintWatch::default(),
            is_fenced: false,
            is_unanswered: false,
            topic_limits,
            tracked: Vec::new(),
            offsets_wait: OFFSETS_WAIT,
            left_behind: Vec::new(),
            batch_bytes,
            batch_bytes_max: batch_bytes,
            limits: BTreeMap::new(),
            counts: counts::PartitionCounts::default(),
        };
        sink.renew()?;
        Ok(sink)
    }

    fn live(&self) -> Result<&Live, Fault> {
        self.live.as_ref().ok_or_else(|| Fault::retry(format!("producer {} is not started", self.transactional_id)))
    }

    /// Reads the log up to here, and the errors.
    fn catch_up(&mut self) {
        let Self { live: Some(live), watch, .. } = self else { return };
        let read = |event: Event<'_>| {
            if let Event::Line(level, facility, line) = event {
                watch.line(facility, line);
                tracing::trace!(facility, "librdkafka: {line}");
                if level < RDKafkaLogLevel::Debug as i32 {
                    log_line(level, facility, line);
                }
            }
        };
        let mut read = read;
        while live.lines.poll(Duration::ZERO, &mut read).is_some() {}
        let error = live.producer.client().context().with(|seen| seen.error.take());
        if let Some(error) = error
            && self.watch.is_open()
        {
            self.watch.taint(format!("client error: {error}"));
        }
    }

    /// Every error ends the producer's use; its code decides the rest. `needs` are the rights of the call beside the one on the
    /// transactional id, which each call needs.
    fn spoil(&mut self, code: Code, what: &str, needs: &[Right<'_>]) -> Fault {
        let cause = self.cause(code);
        let code = cause.as_ref().map_or(code, code_of);
        self.is_fenced |= is_producer_fenced(code);
        self.is_unanswered |= is_timeout(code);
        let told = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        let own = [Right::transactional_id(&self.transactional_id)];
        let denied = lacking(code, needs).or_else(|| lacking(code, &own));
        let denied = denied.map_or_else(String::new, |right| format!(": {right}"));
        let fault = in_transaction(code, format!("producer {}: {what}{told}{denied}", self.transactional_id));
        if matches!(fault, Fault::Corrupt(_)) {
            self.topic_limits.forget();
        }
        self.catch_up();
        self.watch.taint(fault.to_string());
        fault
    }

    /// The error that ended the transaction, where `code` only says that it has ended: the client purges queued messages and
    /// refuses later ones. It returns the cause to a call that would begin another transaction, and begins none.
    fn cause(&self, code: Code) -> Option<KafkaError> {
        let live = self.live.as_ref().filter(|_| is_consequence(code))?;
        live.producer.begin_transaction().err().filter(|cause| !is_consequence(code_of(cause)))
    }

    fn called(&mut self, result: Result<(), CallError>, call: &str, needs: &[Right<'_>]) -> Result<(), Fault> {
        result.map_err(|CallError { code, text }| self.spoil(code, &format!("{call}: {code}: {text}"), needs))?;
        self.catch_up();
        Ok(())
    }

    /// The opaque of a message: 0, or the place of its partition among the tracked ones plus one.
    fn track(&mut self, message: &Message<'_>) -> Result<usize, Fault> {
        let (true, Some(partition)) = (message.is_tracked, message.partition) else { return Ok(0) };
        // Few, and mostly the last: the records of one task's changelog stand together.
        let is_it = |place: &TopicPartition| place.partition == partition && place.topic == *message.destination;
        if let Some(found) = self.tracked.iter().rposition(is_it) {
            return Ok(found + 1);
        }
        self.tracked.push(TopicPartition::new(message.destination.clone(), partition));
        self.live()?.producer.client().context().with(|seen| seen.ends.push(-1));
        Ok(self.tracked.len())
    }

    /// Aborts an open transaction. True: there was one, and it is aborted.
    ///
    /// Never while a request of the transaction may have no answer yet: should the abort be answered first, librdkafka
    /// 2.12.1 forgets the request and ends the process when it hears of it again (`txn_req_cnt > 0` in
    /// `rd_kafka_txn_handle_AddPartitionsToTxn`).
    fn abort(&self, wait: Duration) -> bool {
        let Some(live) = self.live.as_ref().filter(|_| self.watch.is_open() && !self.is_unanswered) else {
            return false;
        };
        let result = live.producer.abort_transaction(wait);
        if let Err(error) = &result {
            tracing::debug!("producer {}: abort: {error}", self.transactional_id);
        }
        result.is_ok()
    }

    /// The fault of a message that `topic` did not take.
    fn refused(&mut self, code: Code, topic: &str, said: &dyn std::fmt::Display) -> Fault {
        let setting = match code {
            Code::InvalidTimestamp => {
                ": its message.timestamp.before.max.ms or message.timestamp.after.max.ms refuses the time of a message"
            }
            _ => "",
        };
        self.spoil(code, &format!("topic {topic}: {said}{setting}"), &[Right::topic(Operation::Write, topic)])
    }

    fn failed_delivery(&mut self) -> Result<(), Fault> {
        match self.live()?.producer.client().context().take_failed() {
            Some((topic, code)) => Err(self.refused(code, &topic, &code)),
            None => Ok(()),
        }
    }

    /// What keeps the coordinator from starting this producer, and the way out, where `code` says it.
    fn told_of_start(&self, code: Code) -> String {
        if code != Code::ConcurrentTransactions {
            return String::new();
        }
        let (servers, id) = (&self.settings.bootstrap_servers, &self.transactional_id);
        format!(
            ": its coordinator has not ended the transaction of the predecessor with this id yet; that takes as long as the              brokers that lead its partitions do not answer. Start again later, or under another instance.slot;              `kafka-transactions.sh --bootstrap-server {servers} describe --transactional-id {id}` tells what it waits for"
        )
    }

    fn start(&mut self) -> Result<(), Fault> {
        self.counts = counts::PartitionCounts::default(); // the predecessor may have failed by one
        self.transactional_id = (self.naming)()?;
        let what = format!("producer {}", self.transactional_id);
        let mut config = self.settings.transactional(&self.transactional_id)?;
        config.set("batch.size", self.batch_bytes.to_string());
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(|error| by_error(&error, &what))?;
        let producer = Arc::new(producer);
        let lines = Queue::of_logs(producer.client(), producer.clone())?;
        // Wait for the cluster's metadata first: a question for the coordinator that is under way when the bootstrap
        // connection gives place to the broker's own is asked again after 500 ms only.
        ffi::await_metadata(producer.client(), self.settings.transaction_timeout());
        // The predecessor's open transaction is aborted first, which needs the coordinator and its markers.
        let wait = self.settings.transaction_timeout() + Duration::from_secs(10);
        producer.init_transactions(wait).map_err(|error| {
            let code = code_of(&error);
            let denied = lacking(code, &[Right::transactional_id(&self.transactional_id)]);
            let denied = denied.map_or_else(String::new, |right| format!(": {right}"));
            let told = self.told_of_start(code);
            in_transaction(code, format!("{what}: init_transactions: {error}{denied}{told}"))
        })?;
        let calls = Bounded::start("offsets");
        let calls = calls.map_err(|error| Fault::retry(format!("{what}: no thread")).because(error))?;
        self.live = Some(Live { calls, lines, producer });
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn begin(&mut self) -> Result<(), Fault> {
        self.catch_up(); // lines from between the transactions taint nothing
        self.tracked.clear();
        self.live()?.producer.client().context().with(|seen| seen.ends.clear());
        let result = self.live()?.producer.begin_transaction();
        self.watch.begin();
        result.map_err(|error| self.spoil(code_of(&error), &format!("begin: {error}"), &[]))
    }

    fn send(&mut self, message: &Message<'_>) -> Result<(), Fault> {
        let topic = message.destination.as_str();
        let opaque = self.track(message)?;
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, opaque);
        record.timestamp = message.kept_timestamp().map(|timestamp| timestamp.0);
        record.key = message.key;
        record.payload = message.value;
        record.partition = message.partition.map(|partition| partition.0);
        if !message.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(message.headers.len());
            let insert = |all: OwnedHeaders, header: &crate::flow::record::Header| {
                all.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() })
            };
            record = record.headers(message.headers.iter().fold(headers, insert));
        }
        let mut until = None;
        loop {
            match self.live()?.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    let until = *until.get_or_insert_with(|| fault::deadline(self.settings.transaction_timeout()));
                    if fault::left(until).is_zero() {
                        return Err(self.refused(Code::QueueFull, topic, &Code::QueueFull));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(self.refused(code_of(&error), topic, &error)),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let flushed = ffi::flush(self.live()?.producer.client(), self.settings.transaction_timeout());
        self.failed_delivery()?;
        flushed.map_err(|code| self.spoil(code, &format!("flush: {code}"), &[]))
    }

    fn ends(&self) -> Vec<(TopicPartition, NextOffset)> {
        let Some(live) = &self.live else { return Vec::new() };
        live.producer.client().context().with(|seen| {
            let known = self.tracked.iter().zip(&seen.ends).filter(|(_, end)| **end >= 0);
            known.map(|(place, end)| (place.clone(), NextOffset(*end))).collect()
        })
    }

    fn send_offsets(&mut self, commits: &[(TopicPartition, Committed)], membership: &Membership) -> Result<(), Fault> {
        if commits.is_empty() {
            return Ok(());
        }
        let (list, group, membership) = (offsets(commits)?, membership.group(), membership.clone());
        let wait = self.offsets_wait.min(self.settings.transaction_timeout());
        let live = self.live()?;
        let producer = Arc::clone(&live.producer);
        let call = move || ffi::send_offsets(producer.client(), &list, &membership, wait);
        let result = live.calls.call(wait + HANGING, call);
        if result.is_none() {
            let left = Arc::downgrade(&live.producer);
            self.left_behind.push(left);
        }
        let result = result.unwrap_or_else(|| {
            let text = "the client library did not come back in time (librdkafka #5456)".into();
            Err(CallError { code: Code::OperationTimedOut, text })
        });
        let is_late = result.as_ref().is_err_and(|error| is_timeout(error.code));
        self.offsets_wait = if is_late { (2 * wait).min(self.settings.transaction_timeout()) } else { OFFSETS_WAIT };
        let topics: BTreeSet<&TopicName> = commits.iter().map(|(place, _)| &place.topic).collect();
        let mut needs = vec![Right::group(Operation::Read, group)];
        // Which of several topics is meant is not said.
        if let (Some(topic), 1) = (topics.first(), topics.len()) {
            needs.push(Right::topic(Operation::Read, topic.as_str()));
        }
        self.called(result, "send_offsets", &needs)
    }

    fn commit(&mut self) -> Result<(), Fault> {
        failpoint!(K10, after Duration::from_millis(1));
        let result = ffi::commit_transaction(self.live()?.producer.client(), self.settings.transaction_timeout());
        self.called(result, "commit", &[])?;
        self.watch.end();
        self.failed_delivery()
    }

    fn taint(&self) -> Option<String> {
        self.watch.reason().filter(|_| !guard::is_off(Guard::TaintOnTimeout)).map(str::to_owned)
    }

    fn is_fenced(&self) -> bool {
        self.is_fenced
    }

    fn renew(&mut self) -> Result<(), Fault> {
        // The successor's start aborts an open transaction, but then asks again after 500 ms only. A connection that works
        // aborts within milliseconds; the abort's own late copy is refused like any other.
        if self.abort(RENEW_ABORT_WAIT) && guard::is_off(Guard::TaintOnAbort) {
            self.watch = TaintWatch::default();
            return Ok(());
        }
        self.live = None; // purges
        self.left_behind.retain(|producer| producer.strong_count() > 0);
        if self.left_behind.len() >= LEFT_BEHIND_MAX {
            let (id, count) = (&self.transactional_id, self.left_behind.len());
            return Err(Fault::retry(format!(
                "producer {id}: {count} calls of its predecessors have not come back yet"
            )));
        }
        self.start()?;
        self.watch = TaintWatch::default();
        self.is_fenced = false;
        self.is_unanswered = false;
        Ok(())
    }

    fn close(&mut self) {
        self.abort(ABORT_WAIT);
        self.live = None;
        self.watch = TaintWatch::default();
    }

    fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    fn throttled(&self) -> Option<Reason> {
        let is_slowed = self.live.as_ref()?.producer.client().context().is_slowed();
        is_slowed
            .then(|| quota("producer_byte_rate (or request_percentage)", "messages", &self.settings.bootstrap_servers))
    }

    fn partition_count(&mut self, destination: &TopicName) -> Result<i32, Fault> {
        let producer = Arc::clone(&self.live()?.producer);
        let found = self.counts.of(producer.client(), destination, self.settings.transaction_timeout());
        found.map_err(|code| self.refused(code, destination.as_str(), &code))
    }

    fn message_bytes_max(&mut self, destination: &TopicName) -> Result<SizeLimit, Fault> {
        let limit = self.topic_limits.of(&self.settings, destination)?;
        let ours = self.settings.producer_property("message.max.bytes").and_then(|value| value.parse().ok());
        self.limits.insert(destination.clone(), limit);
        let smallest = self.limits.values().min().copied().unwrap_or(usize::MAX);
        let before = std::mem::replace(&mut self.batch_bytes, smallest.min(self.batch_bytes_max));
        if self.batch_bytes != before {
            if self.watch.is_open() {
                self.watch.taint(format!("topic {destination} accepts batches of {limit} bytes"));
            } else {
                self.renew()?;
            }
        }
        let ours = ours.filter(|ours: &usize| *ours < limit);
        Ok(SizeLimit { value: ours.unwrap_or(limit), framing: FRAMING_BYTES, is_own: ours.is_some() })
    }
}
