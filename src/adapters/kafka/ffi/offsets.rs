//! Offsets of a group outside of transactions: commits with the answer for each partition, and a question that waits for none.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::ffi::errors::{CallError, c_string};
use crate::adapters::kafka::ffi::event::Event;
use crate::adapters::kafka::ffi::queue::OneShot;
use crate::adapters::kafka::ffi::request::{Coordinators, pointers};
use crate::adapters::kafka::ffi::texts::{elements, owned, text};
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rdkafka_sys as sys;
use std::ptr;
use std::time::Duration;

/// Commits offsets as the member that this consumer is, within `wait`.
///
/// # Errors
/// The first code that the broker or librdkafka answered.
pub(in crate::adapters::kafka) fn commit<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    wait: Duration,
) -> Result<(), Code> {
    let answers = OneShot::new(client).ok_or(Code::Fail)?;
    // SAFETY: client, list and queue are live; without a callback the answer comes as an event of the queue.
    let error = unsafe {
        sys::rd_kafka_commit_queue(
            client.native_ptr(),
            offsets.ptr(),
            answers.answers.queue.as_ptr(),
            None,
            ptr::null_mut(),
        )
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

/// Asks the coordinator for the offsets of a group as they are, without waiting for transactions that are open for them.
///
/// # Errors
/// Those of the question: the coordinator does not answer, or refuses.
pub(in crate::adapters::kafka) fn ask_unstable<C: ClientContext>(
    coordinators: &Coordinators,
    client: &Client<C>,
    group: &str,
    wait: Duration,
) -> Result<(), CallError> {
    let name = c_string(group)?;
    // SAFETY: the name outlives the call, which copies it; no list asks for all; the answer is ours, destroyed below.
    let asked = unsafe { sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null()) };
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    let answer = coordinators.request(client, kind, wait, |parts| {
        let mut all = [asked];
        // SAFETY: the call copies what it is given.
        unsafe {
            sys::rd_kafka_ListConsumerGroupOffsets(parts.client, all.as_mut_ptr(), 1, parts.options, parts.queue);
        }
    });
    // SAFETY: ours, and not used again.
    unsafe { sys::rd_kafka_ListConsumerGroupOffsets_destroy(asked) };
    let answer = answer?;
    // SAFETY: the event lives to the end of the function; its groups and errors are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let groups = sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
        let [found] = pointers(groups, count)[..] else { return Err(CallError::strange()) };
        let error = sys::rd_kafka_group_result_error(found);
        match if error.is_null() { Code::NoError } else { Code::from(sys::rd_kafka_error_code(error)) } {
            Code::NoError => Ok(()),
            code => Err(CallError { code, text: owned(text(sys::rd_kafka_error_string(error))) }),
        }
    }
}

/// Commits an offset for `partition` of `topic` as no member, within `wait`, and answers what the broker says of it. It is for a
/// partition that does not exist: nothing is changed, and the broker looks at the rights on the group first.
///
/// # Errors
/// Those of the question: the coordinator does not answer, or refuses to be found.
pub(in crate::adapters::kafka) fn commit_nowhere<C: ClientContext>(
    coordinators: &Coordinators,
    client: &Client<C>,
    group: &str,
    (topic, partition): (&str, i32),
    wait: Duration,
) -> Result<Code, CallError> {
    let name = c_string(group)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(0)).map_err(|_| CallError::invalid("no such offset"))?;
    // SAFETY: name and list outlive the call, which copies them; the answer is ours, destroyed below.
    let asked = unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.ptr()) };
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
    let answer = coordinators.request(client, kind, wait, |parts| {
        let mut all = [asked];
        // SAFETY: the call copies what it is given.
        unsafe {
            sys::rd_kafka_AlterConsumerGroupOffsets(parts.client, all.as_mut_ptr(), 1, parts.options, parts.queue);
        }
    });
    // SAFETY: ours, and not used again.
    unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_destroy(asked) };
    let answer = answer?;
    // SAFETY: the event lives to the end of the function; its groups, lists and errors are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let groups = sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
        let [found] = pointers(groups, count)[..] else { return Err(CallError::strange()) };
        let error = sys::rd_kafka_group_result_error(found);
        let of_group = if error.is_null() { Code::NoError } else { Code::from(sys::rd_kafka_error_code(error)) };
        let of_partitions = elements(sys::rd_kafka_group_result_partitions(found)).into_iter().map(|(_, _, code)| code);
        let mut codes = std::iter::once(of_group).chain(of_partitions);
        Ok(codes.find(|code| *code != Code::NoError).unwrap_or(Code::NoError))
    }
}

/// The state of a seek or of a pause, partition by partition.
pub(in crate::adapters::kafka) fn states(list: &TopicPartitionList) -> Vec<(String, i32, Code)> {
    // SAFETY: the list is live.
    unsafe { elements(list.ptr()) }
}
