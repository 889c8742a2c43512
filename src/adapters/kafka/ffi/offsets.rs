//! Commits of offsets outside of transactions, and the answer for each partition.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::ffi::event::Event;
use crate::adapters::kafka::ffi::queue::OneShot;
use crate::adapters::kafka::ffi::texts::elements;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, TopicPartitionList};
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

/// The state of a seek or of a pause, partition by partition.
pub(in crate::adapters::kafka) fn states(list: &TopicPartitionList) -> Vec<(String, i32, Code)> {
    // SAFETY: the list is live.
    unsafe { elements(list.ptr()) }
}
