//! Questions to the cluster: of itself, of a topic, of a group.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::ffi::errors::{CallError, c_string};
use crate::adapters::kafka::ffi::request::{Coordinators, pointers, request};
use crate::adapters::kafka::ffi::texts::{elements, millis, owned, text};
use crate::adapters::kafka::rights::{Operation, Right};
use crate::ports::fault::Fault;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
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

/// A topic as the cluster describes it.
pub(in crate::adapters::kafka) struct DescribedTopic {
    /// Its id.
    pub(in crate::adapters::kafka) id: String,
    /// Its partition count.
    pub(in crate::adapters::kafka) partitions: i32,
    /// The number of copies of its first partition.
    pub(in crate::adapters::kafka) replicas: i32,
    /// The operations that this user may perform on it; `None` where the cluster does not say.
    pub(in crate::adapters::kafka) allowed: Option<Vec<Operation>>,
}

/// Describes a topic; `None` when there is no such topic.
///
/// # Errors
/// `Retry` when nobody answered within `wait`, `Fatal` when rights are missing.
pub(in crate::adapters::kafka) fn describe_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    wait: Duration,
) -> Result<Option<DescribedTopic>, Fault> {
    look_at_topic(client, topic, wait)?.map_err(|Denied(fault)| fault)
}

/// Nothing is told of a topic to a user without the right to it.
pub(in crate::adapters::kafka) struct Denied(Fault);

/// The same as [`describe_topic`], with the want of a right apart from other troubles.
///
/// # Errors
/// `Retry` when nobody answered within `wait`, `Fatal` when the broker refuses.
pub(in crate::adapters::kafka) fn look_at_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    wait: Duration,
) -> Result<Result<Option<DescribedTopic>, Denied>, Fault> {
    fault::asked_again(wait, |left| {
        let described = ask_controller(client, topic, left);
        if described.is_err() {
            // librdkafka asks the broker that the last metadata named as controller. One that is dead by now it would ask
            // until the next metadata, which may be a minute away. An answer that comes later than we wait for it is taken,
            // too.
            await_metadata(client, wait.min(Duration::from_secs(1)));
        }
        let what = format!("topic {topic}: could not be described");
        described.map(Ok).or_else(|error| {
            let fault = fault::by_answer(&error, &what, &[Right::topic(Operation::Describe, topic)]);
            if error.code == Code::TopicAuthorizationFailed { Ok(Err(Denied(fault))) } else { Err(fault) }
        })
    })
}

/// The same as [`describe_topic`], asked of the controller that the client knows now.
fn ask_controller<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    wait: Duration,
) -> Result<Option<DescribedTopic>, CallError> {
    let name = c_string(topic)?;
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let answer = request(client, kind, wait, |parts| {
        let mut names = [name.as_ptr()];
        // SAFETY: the names outlive the collection, which copies them; it is destroyed after the call, which copies it. An
        // error of the option is ours; where it is refused, the operations stay unknown.
        unsafe {
            let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(parts.options, 1);
            if !refused.is_null() {
                sys::rd_kafka_error_destroy(refused);
            }
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            sys::rd_kafka_DescribeTopics(parts.client, topics, parts.options, parts.queue);
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
    })?;
    // SAFETY: the event lives to the end of the function; its topics and their texts are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let Some(description) = pointers(topics, count).first().copied() else { return Ok(None) };
        let error = sys::rd_kafka_TopicDescription_error(description);
        match Code::from(sys::rd_kafka_error_code(error)) {
            Code::NoError => {}
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => return Ok(None),
            code => return Err(CallError { code, text: owned(text(sys::rd_kafka_error_string(error))) }),
        }
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(description, &raw mut count);
        let number = |count| i32::try_from(count).unwrap_or(i32::MAX);
        let mut replicas = 0;
        if let Some(first) = pointers(partitions, count).first().copied() {
            sys::rd_kafka_TopicPartitionInfo_replicas(first, &raw mut replicas);
        }
        let id = sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(description));
        let mut operations = 0;
        let allowed = sys::rd_kafka_TopicDescription_authorized_operations(description, &raw mut operations);
        let allowed = (!allowed.is_null()).then(|| std::slice::from_raw_parts(allowed, operations));
        Ok(Some(DescribedTopic {
            id: owned(text(id)),
            partitions: number(count),
            replicas: number(replicas),
            allowed: allowed.map(|all| all.iter().copied().filter_map(operation).collect()),
        }))
    }
}

/// One of librdkafka's operations as ours; `None` for one that topics do not have.
fn operation(operation: sys::rd_kafka_AclOperation_t) -> Option<Operation> {
    use sys::rd_kafka_AclOperation_t as Acl;
    Some(match operation {
        Acl::RD_KAFKA_ACL_OPERATION_READ => Operation::Read,
        Acl::RD_KAFKA_ACL_OPERATION_WRITE => Operation::Write,
        Acl::RD_KAFKA_ACL_OPERATION_CREATE => Operation::Create,
        Acl::RD_KAFKA_ACL_OPERATION_DELETE => Operation::Delete,
        Acl::RD_KAFKA_ACL_OPERATION_ALTER => Operation::Alter,
        Acl::RD_KAFKA_ACL_OPERATION_DESCRIBE => Operation::Describe,
        Acl::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS => Operation::DescribeConfigs,
        Acl::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS => Operation::AlterConfigs,
        _ => return None,
    })
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
    coordinators: &Coordinators,
    client: &Client<C>,
    group: &str,
    wait: Duration,
) -> Result<Vec<Described>, Fault> {
    let what = format!("group {group}: could not be described");
    fault::asked_again(wait, |left| {
        ask_coordinator(coordinators, client, group, left)
            .map_err(|error| fault::by_answer(&error, &what, &[Right::group(Operation::Describe, group)]))
    })
}

/// The same as [`describe_group`], asked of the coordinator that the client knows now.
fn ask_coordinator<C: ClientContext>(
    coordinators: &Coordinators,
    client: &Client<C>,
    group: &str,
    wait: Duration,
) -> Result<Vec<Described>, CallError> {
    let name = c_string(group)?;
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let answer = coordinators.request(client, kind, wait, |parts| {
        let mut names = [name.as_ptr()];
        // SAFETY: the name outlives the call, which copies it.
        unsafe {
            sys::rd_kafka_DescribeConsumerGroups(parts.client, names.as_mut_ptr(), 1, parts.options, parts.queue);
        }
    })?;
    // SAFETY: the event lives to the end of the function; its groups, members, lists and texts are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let Some(description) = pointers(groups, count).first().copied() else { return Ok(Vec::new()) };
        let error = sys::rd_kafka_ConsumerGroupDescription_error(description);
        match if error.is_null() { Code::NoError } else { Code::from(sys::rd_kafka_error_code(error)) } {
            Code::NoError => {}
            Code::GroupIdNotFound => return Ok(Vec::new()),
            code => return Err(CallError { code, text: owned(text(sys::rd_kafka_error_string(error))) }),
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
