//! The calls of librdkafka that rdkafka hides or spoils, each behind a safe function. The only file with unsafe code beside
//! `adapters/note/words.rs`.
//!
//! Why not rdkafka's own: its consumer poll drops the partition of an error and gives a rebalance to a callback in the
//! middle of a poll; its `flush` waits in steps of 100 ms; its group metadata is opaque; its log lines arrive on whatever
//! thread polls, so that a commit could be answered before the line that taints it was read; and `DescribeTopics` and a
//! commit with a deadline are missing.
#![expect(unsafe_code, reason = "C calls that rdkafka 0.39 does not offer; every block says why it is sound")]

use super::fault;
use crate::flow::record::Header;
use crate::ports::fault::Fault;
use crate::ports::source::Membership;
use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

/// Refuses to run with an older librdkafka than `version` (`0xMMmmrrff`).
///
/// # Errors
/// `Fatal`.
pub(super) fn version_at_least(version: i32) -> Result<(), Fault> {
    // SAFETY: takes nothing and reads a constant of the library.
    let found = unsafe { sys::rd_kafka_version() };
    if found < version {
        return Err(Fault::fatal(format!(
            "librdkafka {found:#010x} is too old, {version:#010x} is needed: older ones lose assignments on commit"
        )));
    }
    Ok(())
}

/// Milliseconds as librdkafka wants them, rounded up so that a short wait is not a busy loop.
fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(c_int::MAX)
}

/// # Safety
/// `text` is null or ends with a zero byte and lives for `'a`.
unsafe fn text<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if text.is_null() { &[] } else { unsafe { CStr::from_ptr(text) }.to_bytes() }
}

fn owned(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn c_string(text: &str) -> Result<CString, Fault> {
    CString::new(text)
        .map_err(|_| Fault::fatal(format!("{text:?} holds a zero byte, which Kafka's client cannot send")))
}

/// An event queue of a client. Keeps its client alive, as the C library demands.
pub(super) struct Queue<K> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    _client: Arc<K>, // after the queue: `drop` destroys the queue first
}

// SAFETY: librdkafka's queues are thread-safe (documented in rdkafka.h, "thread safety"); `K` is what the Arc shares.
unsafe impl<K: Send + Sync> Send for Queue<K> {}

impl<K> Drop for Queue<K> {
    fn drop(&mut self) {
        // SAFETY: the pointer is ours, came from the library and is not used again; the client still lives.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

impl<K> Queue<K> {
    /// The queue that a consumer's records, rebalances, errors and log lines arrive in.
    ///
    /// # Errors
    /// `Fatal` when the client is no consumer.
    pub(super) fn of_consumer<C: ClientContext>(client: &Client<C>, keep: Arc<K>) -> Result<Self, Fault> {
        // SAFETY: a live client; the answer is null or a reference of our own.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) };
        let queue = NonNull::new(queue).ok_or_else(|| Fault::fatal("librdkafka gave no consumer queue"))?;
        Ok(Self { queue, _client: keep })
    }

    /// Lets the records of one partition arrive in `into`, those that lie in its own queue first, or keeps them in its own
    /// queue from now on.
    ///
    /// # Errors
    /// `Retry` when the client does not know the partition.
    pub(super) fn direct<C: ClientContext>(
        client: &Client<C>,
        topic: &str,
        partition: i32,
        into: Option<&Self>,
    ) -> Result<(), Fault> {
        let name = c_string(topic)?;
        let into = into.map_or(ptr::null_mut(), |queue| queue.queue.as_ptr());
        // SAFETY: a live client and a text that outlives the call; the answer is null or a reference of our own, destroyed
        // after the call that reads it, and librdkafka takes a reference of its own on `into`.
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(client.native_ptr(), name.as_ptr(), partition);
            if queue.is_null() {
                return Err(Fault::retry(format!("{topic}-{partition} is not known to the client")));
            }
            sys::rd_kafka_queue_forward(queue, into);
            sys::rd_kafka_queue_destroy(queue);
        }
        Ok(())
    }

    /// A new queue that the client's log lines arrive in from now on, and nothing else.
    ///
    /// # Errors
    /// `Fatal` when librdkafka refuses.
    pub(super) fn of_logs<C: ClientContext>(client: &Client<C>, keep: Arc<K>) -> Result<Self, Fault> {
        // SAFETY: a live client; the queue is ours, and librdkafka takes a reference of its own when it forwards to it.
        let (queue, error) = unsafe {
            let queue = sys::rd_kafka_queue_new(client.native_ptr());
            (queue, sys::rd_kafka_set_log_queue(client.native_ptr(), queue))
        };
        let queue = NonNull::new(queue).ok_or_else(|| Fault::fatal("librdkafka gave no log queue"))?;
        let queue = Self { queue, _client: keep };
        match Code::from(error) {
            Code::NoError => Ok(queue),
            code => Err(Fault::fatal(format!("librdkafka refused the log queue: {code}"))),
        }
    }

    /// Takes one event within `wait` and shows it to `visit`.
    pub(super) fn poll<R>(&self, wait: Duration, visit: impl FnOnce(Event<'_>) -> R) -> Option<R> {
        // SAFETY: the queue lives as long as self.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) };
        let event = Owned { event: NonNull::new(event)? };
        Some(visit(event.read()))
    }
}

/// An event, destroyed when it goes out of scope, whatever happens in between.
struct Owned {
    event: NonNull<sys::rd_kafka_event_t>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and everything borrowed from it has the lifetime of a borrow of self.
        unsafe { sys::rd_kafka_event_destroy(self.event.as_ptr()) };
    }
}

/// What a queue tells.
pub(super) enum Event<'a> {
    /// A record.
    Record(Fetched<'a>),
    /// The group gives these partitions. Must be answered by an assign, also when there are none.
    Assign(Vec<(String, i32)>),
    /// The group takes these partitions. Must be answered by an unassign.
    Revoke(Vec<(String, i32)>),
    /// An error, of one partition or of the client.
    Failure(Failure),
    /// A line of the client's log: level (7 is debug), facility, text.
    Line(i32, &'a str, &'a str),
    /// The end of a plain commit.
    Committed(Code, Vec<(String, i32, Code)>),
    /// Nothing for us.
    Other,
}

/// An error that a queue tells.
pub(super) struct Failure {
    /// The code.
    pub(super) code: Code,
    /// The client is of no use any more.
    pub(super) is_fatal: bool,
    /// librdkafka's words.
    pub(super) text: String,
    /// Topic, partition and offset where the error has a place.
    pub(super) place: Option<(String, i32, i64)>,
}

impl Owned {
    fn read(&self) -> Event<'_> {
        let event = self.event.as_ptr();
        // SAFETY: in this function every call reads from the event, which lives as long as the borrow of self. The lists
        // and texts stay the event's; what is kept longer is copied. The partition of an error is a copy of its own.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_FETCH => {
                    let message = sys::rd_kafka_event_message_next(event);
                    message.as_ref().map_or(Event::Other, |message| Event::Record(Fetched { message }))
                }
                sys::RD_KAFKA_EVENT_REBALANCE => {
                    let partitions = elements(sys::rd_kafka_event_topic_partition_list(event));
                    let partitions = partitions.into_iter().map(|(topic, partition, _)| (topic, partition)).collect();
                    match sys::rd_kafka_event_error(event) {
                        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assign(partitions),
                        _ => Event::Revoke(partitions),
                    }
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    let place = sys::rd_kafka_event_topic_partition(event);
                    let copied = place.as_ref().map(|place| (owned(text(place.topic)), place.partition, place.offset));
                    if !place.is_null() {
                        sys::rd_kafka_topic_partition_destroy(place);
                    }
                    Event::Failure(Failure {
                        code: sys::rd_kafka_event_error(event).into(),
                        is_fatal: sys::rd_kafka_event_error_is_fatal(event) != 0,
                        text: owned(text(sys::rd_kafka_event_error_string(event))),
                        place: copied,
                    })
                }
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                    if sys::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) != 0 {
                        return Event::Other;
                    }
                    let facility = std::str::from_utf8(text(facility)).unwrap_or("?");
                    let line = std::str::from_utf8(text(line)).unwrap_or("?");
                    Event::Line(level, facility.trim(), line.trim())
                }
                sys::RD_KAFKA_EVENT_OFFSET_COMMIT => Event::Committed(
                    sys::rd_kafka_event_error(event).into(),
                    elements(sys::rd_kafka_event_topic_partition_list(event)),
                ),
                _ => Event::Other,
            }
        }
    }
}

/// # Safety
/// `list` is null or a list that lives during the call.
unsafe fn elements(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(String, i32, Code)> {
    // SAFETY: the caller's promise; the array holds `cnt` elements.
    unsafe {
        let Some(list) = list.as_ref() else { return Vec::new() };
        let count = usize::try_from(list.cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        let elements = std::slice::from_raw_parts(list.elems, count);
        elements.iter().map(|element| (owned(text(element.topic)), element.partition, element.err.into())).collect()
    }
}

/// A record, borrowed from its event.
#[derive(Clone, Copy)]
pub(super) struct Fetched<'a> {
    message: &'a sys::rd_kafka_message_t,
}

impl<'a> Fetched<'a> {
    /// The topic's name.
    pub(super) fn topic(self) -> &'a [u8] {
        // SAFETY: a fetched message has a topic, whose name lives as long as it, and it as long as the message.
        unsafe { text(sys::rd_kafka_topic_name(self.message.rkt)) }
    }

    /// The partition number.
    pub(super) fn partition(self) -> i32 {
        self.message.partition
    }

    /// The offset.
    pub(super) fn offset(self) -> i64 {
        self.message.offset
    }

    /// The timestamp in milliseconds since 1970, or -1.
    pub(super) fn timestamp(self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: reads a field of a live message.
        unsafe { sys::rd_kafka_message_timestamp(self.message, &raw mut kind) }
    }

    /// The key.
    pub(super) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: null, or `key_len` bytes that live as long as the message.
        unsafe { bytes(self.message.key, self.message.key_len) }
    }

    /// The value.
    pub(super) fn value(self) -> Option<&'a [u8]> {
        // SAFETY: null, or `len` bytes that live as long as the message.
        unsafe { bytes(self.message.payload, self.message.len) }
    }

    /// Copies the headers into `headers`, which is emptied first. Allocates nothing when there are none.
    pub(super) fn headers(self, headers: &mut Vec<Header>) {
        headers.clear();
        let mut list = ptr::null_mut();
        // SAFETY: parses the headers of a live message once, which keeps them; librdkafka declares the message const,
        // and no other thread sees it.
        let error = unsafe { sys::rd_kafka_message_headers(self.message, &raw mut list) };
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the list belongs to the message; name and value are its, and are copied before the next step.
            let header = unsafe {
                match sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size) {
                    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                        Header { name: owned(text(name)), value: bytes(value, size).map(<[u8]>::to_vec) }
                    }
                    _ => return,
                }
            };
            headers.push(header);
        }
    }
}

/// # Safety
/// `start` is null or the start of `length` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// Group metadata of librdkafka.
struct GroupMetadata {
    metadata: NonNull<sys::rd_kafka_consumer_group_metadata_t>,
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.metadata.as_ptr()) };
    }
}

/// Who this consumer is to its group, now.
///
/// # Errors
/// A sentence when it is no member.
pub(super) fn membership<C: ClientContext>(client: &Client<C>) -> Result<Membership, String> {
    // SAFETY: a live client; the answer is null or ours. The texts live as long as the metadata.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(client.native_ptr());
        let metadata = GroupMetadata { metadata: NonNull::new(metadata).ok_or("the client is in no group")? };
        let raw = metadata.metadata.as_ptr();
        let group = owned(text(sys::rd_kafka_consumer_group_metadata_group_id(raw)));
        let member_id = owned(text(sys::rd_kafka_consumer_group_metadata_member_id(raw)));
        let instance_id = owned(text(sys::rd_kafka_consumer_group_metadata_group_instance_id(raw)));
        let generation = sys::rd_kafka_consumer_group_metadata_generation_id(raw);
        Membership::new(&group, &member_id, generation, (!instance_id.is_empty()).then_some(instance_id.as_str()))
    }
}

/// Why a call of a transaction failed.
#[derive(Debug)]
pub(super) struct CallError {
    /// The code.
    pub(super) code: Code,
    /// librdkafka's words.
    pub(super) text: String,
}

/// # Safety
/// `error` is null or an error of librdkafka that nobody else owns.
unsafe fn called(error: *mut sys::rd_kafka_error_t) -> Result<(), CallError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's promise; the text is copied before the error is destroyed.
    unsafe {
        let copied = CallError {
            code: sys::rd_kafka_error_code(error).into(),
            text: owned(text(sys::rd_kafka_error_string(error))),
        };
        sys::rd_kafka_error_destroy(error);
        Err(copied)
    }
}

/// Adds offsets to the open transaction, in the name of a membership captured earlier.
///
/// # Errors
/// [`CallError`]; a name with a zero byte is `InvalidArgument`.
pub(super) fn send_offsets<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    membership: &Membership,
    wait: Duration,
) -> Result<(), CallError> {
    let c_string = |text: &str| {
        CString::new(text).map_err(|_| CallError { code: Code::InvalidArgument, text: "zero byte in a name".into() })
    };
    let group = c_string(membership.group())?;
    let member_id = c_string(membership.member_id())?;
    let instance_id = membership.instance_id().map(c_string).transpose()?;
    // SAFETY: the strings outlive the calls, which copy them; the metadata is destroyed after its use; client and list
    // are live.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata_new_with_genid(
            group.as_ptr(),
            membership.generation(),
            member_id.as_ptr(),
            instance_id.as_ref().map_or(ptr::null(), |id| id.as_ptr()),
        );
        let Some(metadata) = NonNull::new(metadata) else {
            return Err(CallError { code: Code::InvalidArgument, text: "no group metadata".into() });
        };
        let metadata = GroupMetadata { metadata };
        called(sys::rd_kafka_send_offsets_to_transaction(
            client.native_ptr(),
            offsets.ptr(),
            metadata.metadata.as_ptr(),
            millis(wait),
        ))
    }
}

/// Commits the open transaction, without rdkafka's flush before it, which may take as long again.
///
/// # Errors
/// [`CallError`].
pub(super) fn commit_transaction<C: ClientContext>(client: &Client<C>, wait: Duration) -> Result<(), CallError> {
    // SAFETY: a live client; the error is ours.
    unsafe { called(sys::rd_kafka_commit_transaction(client.native_ptr(), millis(wait))) }
}

/// Waits until all messages are acknowledged or have failed (rdkafka's own waits in steps of 100 ms:
/// docs/traps.md#a-flush-in-steps-of-100-ms).
/// Another thread must serve the delivery reports meanwhile.
///
/// # Errors
/// The code, `OperationTimedOut` above all.
pub(super) fn flush<C: ClientContext>(client: &Client<C>, wait: Duration) -> Result<(), Code> {
    // SAFETY: a live client.
    let error = unsafe { sys::rd_kafka_flush(client.native_ptr(), millis(wait)) };
    match Code::from(error) {
        Code::NoError => Ok(()),
        code => Err(code),
    }
}

/// Waits until the cluster has told about itself once, at most `wait`; whether it did is of no interest here.
pub(super) fn await_metadata<C: ClientContext>(client: &Client<C>, wait: Duration) {
    let mut metadata = ptr::null();
    // SAFETY: a live client, and no topic; the answer is ours to destroy, and is null unless the call succeeded.
    unsafe {
        sys::rd_kafka_metadata(client.native_ptr(), 0, ptr::null_mut(), &raw mut metadata, millis(wait));
        if !metadata.is_null() {
            sys::rd_kafka_metadata_destroy(metadata);
        }
    }
}

/// Commits offsets as the member that this consumer is, within `wait`.
///
/// # Errors
/// The first code that the broker or librdkafka answered.
pub(super) fn commit<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    wait: Duration,
) -> Result<(), Code> {
    let answers = OneShot::new(client).ok_or(Code::Fail)?;
    // SAFETY: client, list and queue are live; without a callback the answer comes as an event of the queue.
    let error = unsafe {
        sys::rd_kafka_commit_queue(client.native_ptr(), offsets.ptr(), answers.queue.as_ptr(), None, ptr::null_mut())
    };
    match Code::from(error) {
        Code::NoError => {}
        code => return Err(code),
    }
    let until = fault::deadline(wait);
    loop {
        let answer = answers.next(fault::left(until)).ok_or(Code::OperationTimedOut)?;
        if let Event::Committed(code, partitions) = answer.read() {
            let codes = std::iter::once(code).chain(partitions.into_iter().map(|(_, _, code)| code));
            return codes.into_iter().find(|code| *code != Code::NoError).map_or(Ok(()), Err);
        }
    }
}

/// A queue for the answer of one call.
struct OneShot<'a> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    client: PhantomData<&'a ()>,
}

impl Drop for OneShot<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again; the borrow keeps the client alive.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

impl<'a> OneShot<'a> {
    fn new<C: ClientContext>(client: &'a Client<C>) -> Option<Self> {
        // SAFETY: a live client; the answer is ours.
        let queue = unsafe { sys::rd_kafka_queue_new(client.native_ptr()) };
        Some(Self { queue: NonNull::new(queue)?, client: PhantomData })
    }

    fn next(&self, wait: Duration) -> Option<Owned> {
        // SAFETY: the queue lives as long as self.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) };
        Some(Owned { event: NonNull::new(event)? })
    }
}

/// Id and partition count of a topic; `None` when there is no such topic.
///
/// # Errors
/// `Retry` when nobody answered within `wait`, `Fatal` when rights are missing.
pub(super) fn describe_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    wait: Duration,
) -> Result<Option<(String, i32)>, Fault> {
    fault::asked_again(wait, |left| {
        let described = ask_controller(client, topic, left);
        if described.is_err() {
            // librdkafka asks the broker that the last metadata named as controller. One that is dead by now it would ask
            // until the next metadata, which may be a minute away. An answer that comes later than we wait for it is taken,
            // too.
            await_metadata(client, wait.min(Duration::from_secs(1)));
        }
        described
    })
}

/// As [`describe_topic`], of the controller as the client knows it.
fn ask_controller<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    wait: Duration,
) -> Result<Option<(String, i32)>, Fault> {
    let what = format!("topic {topic}: could not be described");
    let name = c_string(topic)?;
    let mut names = [name.as_ptr()];
    let answers = OneShot::new(client).ok_or_else(|| Fault::retry(what.clone()))?;
    let until = fault::deadline(wait);
    // SAFETY: the names outlive the collection, which copies them; collection and options are destroyed after the call,
    // which copies them too; the answer comes as an event of our queue.
    unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = sys::rd_kafka_AdminOptions_new(
            client.native_ptr(),
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut error = [0 as c_char; 256];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait).max(1), error.as_mut_ptr(), error.len());
        sys::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, answers.queue.as_ptr());
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
    }
    // librdkafka answers by itself at the timeout; a little more, so that its words are heard.
    let answer = answers.next(fault::left(until) + Duration::from_millis(200));
    let answer = answer.ok_or_else(|| Fault::retry(format!("{what}: no answer")))?;
    let event = answer.event.as_ptr();
    // SAFETY: the event lives to the end of the function; its topics and their texts are its own and are copied.
    unsafe {
        match Code::from(sys::rd_kafka_event_error(event)) {
            Code::NoError => {}
            code => return Err(fault::by_code(code, &what)),
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(Fault::retry(format!("{what}: an answer of another kind")));
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Ok(None);
        }
        let description = *topics;
        match Code::from(sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description))) {
            Code::NoError => {}
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => return Ok(None),
            code => return Err(fault::by_code(code, &what)),
        }
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
        let id = sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(description));
        Ok(Some((owned(text(id)), i32::try_from(partitions).unwrap_or(i32::MAX))))
    }
}

/// A member of a group: the id of its client, and what it was given of the topics that it subscribes to.
pub(super) struct Described {
    /// The client's id.
    pub(super) client_id: String,
    /// Topics and partition numbers.
    pub(super) partitions: Vec<(String, i32)>,
}

/// The members of a group, whichever protocol it speaks; none where there is no such group.
///
/// # Errors
/// `Retry` when the coordinator did not answer within `wait`, `Fatal` when rights are missing.
pub(super) fn describe_group<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    wait: Duration,
) -> Result<Vec<Described>, Fault> {
    fault::asked_again(wait, |left| ask_coordinator(client, group, left))
}

/// As [`describe_group`], of the coordinator as the client knows it.
fn ask_coordinator<C: ClientContext>(client: &Client<C>, group: &str, wait: Duration) -> Result<Vec<Described>, Fault> {
    let what = format!("group {group}: could not be described");
    let name = c_string(group)?;
    let mut names = [name.as_ptr()];
    let answers = OneShot::new(client).ok_or_else(|| Fault::retry(what.clone()))?;
    let until = fault::deadline(wait);
    // SAFETY: the name outlives the call, which copies it, as it does the options, which are destroyed after it; the answer
    // comes as an event of our queue.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(
            client.native_ptr(),
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
        );
        let mut error = [0 as c_char; 256];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait).max(1), error.as_mut_ptr(), error.len());
        sys::rd_kafka_DescribeConsumerGroups(
            client.native_ptr(),
            names.as_mut_ptr(),
            names.len(),
            options,
            answers.queue.as_ptr(),
        );
        sys::rd_kafka_AdminOptions_destroy(options);
    }
    let answer = answers.next(fault::left(until) + Duration::from_millis(200));
    let answer = answer.ok_or_else(|| Fault::retry(format!("{what}: no answer")))?;
    let event = answer.event.as_ptr();
    // SAFETY: the event lives to the end of the function; its groups, members, lists and texts are its own and are copied.
    unsafe {
        match Code::from(sys::rd_kafka_event_error(event)) {
            Code::NoError => {}
            code => return Err(fault::by_code(code, &what)),
        }
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
        if result.is_null() {
            return Err(Fault::retry(format!("{what}: an answer of another kind")));
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Ok(Vec::new());
        }
        let description = *groups;
        let error = sys::rd_kafka_ConsumerGroupDescription_error(description);
        match if error.is_null() { Code::NoError } else { Code::from(sys::rd_kafka_error_code(error)) } {
            Code::NoError => {}
            Code::GroupIdNotFound => return Ok(Vec::new()),
            code => return Err(fault::by_code(code, &what)),
        }
        let members = 0..sys::rd_kafka_ConsumerGroupDescription_member_count(description);
        let member = |number| {
            let member = sys::rd_kafka_ConsumerGroupDescription_member(description, number);
            let assignment = sys::rd_kafka_MemberDescription_assignment(member);
            let partitions = if assignment.is_null() {
                Vec::new()
            } else {
                elements(sys::rd_kafka_MemberAssignment_partitions(assignment))
            };
            Described {
                client_id: owned(text(sys::rd_kafka_MemberDescription_client_id(member))),
                partitions: partitions.into_iter().map(|(topic, partition, _)| (topic, partition)).collect(),
            }
        };
        Ok(members.map(member).collect())
    }
}

/// The state of a seek or of a pause, partition by partition.
pub(super) fn states(list: &TopicPartitionList) -> Vec<(String, i32, Code)> {
    // SAFETY: the list is live.
    unsafe { elements(list.ptr()) }
}

/// Every code that the linked library knows, with its name.
#[cfg(test)]
pub(super) fn known_codes() -> Vec<(Code, String)> {
    let (mut table, mut len) = (ptr::null(), 0);
    // SAFETY: the library answers a static table of `len` entries, in whose gaps every pointer is null.
    let table = unsafe {
        sys::rd_kafka_get_err_descs(&raw mut table, &raw mut len);
        std::slice::from_raw_parts(table, len)
    };
    let described = table.iter().filter(|entry| !entry.desc.is_null());
    // SAFETY: what is described has a static name.
    described.map(|entry| (Code::from(entry.code), owned(unsafe { text(entry.name) }))).collect()
}
