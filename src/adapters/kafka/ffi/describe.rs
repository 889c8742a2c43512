//! Questions to the cluster: of itself, of a topic, of a group.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::ffi::queue::OneShot;
use crate::adapters::kafka::ffi::texts::{c_string, elements, millis, owned, text};
use crate::ports::fault::Fault;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::ffi::c_char;
use std::ptr;
use std::time::Duration;

/// Waits until the cluster has sent its metadata once, at most `wait`; a cluster that does not answer is found by later
/// calls.
pub(in crate::adapters::kafka) fn await_metadata<C: ClientContext>(client: &Client<C>, wait: Duration) {
    let mut metadata = ptr::null();
    // SAFETY: a live client, and no topic; the answer is ours to destroy, and is null unless the call succeeded.
    unsafe {
        sys::rd_kafka_metadata(client.native_ptr(), 0, ptr::null_mut(), &raw mut metadata, millis(wait));
        if !metadata.is_null() {
            sys::rd_kafka_metadata_destroy(metadata);
        }
    }
}

/// Id and partition count of a topic; `None` when there is no such topic.
///
/// # Errors
/// `Retry` when nobody answered within `wait`, `Fatal` when rights are missing.
pub(in crate::adapters::kafka) fn describe_topic<C: ClientContext>(
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

/// The same as [`describe_topic`], asked of the controller that the client knows now.
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

/// A member of a group: the id of its client, and its assigned partitions.
pub(in crate::adapters::kafka) struct Described {
    /// The client's id.
    pub(in crate::adapters::kafka) client_id: String,
    /// Topics and partition numbers.
    pub(in crate::adapters::kafka) partitions: Vec<(String, i32)>,
}

/// The members of a group of either protocol; none where there is no such group.
///
/// # Errors
/// `Retry` when the coordinator did not answer within `wait`, `Fatal` when rights are missing.
pub(in crate::adapters::kafka) fn describe_group<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    wait: Duration,
) -> Result<Vec<Described>, Fault> {
    fault::asked_again(wait, |left| ask_coordinator(client, group, left))
}

/// The same as [`describe_group`], asked of the coordinator that the client knows now.
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
