//! Topics made, deleted and given partitions. rdkafka keeps the code of a refusal and drops the broker's sentence.

use crate::adapters::kafka::ffi::errors::{CallError, c_string};
use crate::adapters::kafka::ffi::request::{Parts, pointers, request};
use crate::adapters::kafka::ffi::texts::{owned, text};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::c_char;
use std::ptr::NonNull;
use std::time::Duration;

/// Creates one topic; -1 partitions or replicas ask for the broker's default.
///
/// # Errors
/// That of the request, or of this topic.
pub(in crate::adapters::kafka) fn create_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    (partitions, replicas): (i32, i32),
    config: &BTreeMap<String, String>,
    wait: Duration,
) -> Result<(), CallError> {
    let new = NewTopic::new(topic, partitions, replicas, config)?;
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
    let send = |parts: &Parts| {
        let mut all = [new.0.as_ptr()];
        // SAFETY: the call copies the topic.
        unsafe { sys::rd_kafka_CreateTopics(parts.client, all.as_mut_ptr(), 1, parts.options, parts.queue) };
    };
    let answer = request(client, kind, wait, send)?;
    // SAFETY: the event lives to the end of the function; its results are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_CreateTopics_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let results = sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        one(&pointers(results, count))
    }
}

/// Raises the number of a topic's partitions to `total`.
///
/// # Errors
/// That of the request, or of this topic.
pub(in crate::adapters::kafka) fn create_partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    total: usize,
    wait: Duration,
) -> Result<(), CallError> {
    let name = c_string(topic)?;
    let mut error = [0 as c_char; 512];
    // SAFETY: the name and the buffer outlive the call; the answer is null or ours, destroyed below.
    let new = unsafe { sys::rd_kafka_NewPartitions_new(name.as_ptr(), total, error.as_mut_ptr(), error.len()) };
    // SAFETY: the library ends the text in the buffer with a zero byte.
    let new = NonNull::new(new).ok_or_else(|| CallError::invalid(owned(unsafe { text(error.as_ptr()) })))?;
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS;
    let answer = request(client, kind, wait, |parts| {
        let mut all = [new.as_ptr()];
        // SAFETY: the call copies what it is given.
        unsafe { sys::rd_kafka_CreatePartitions(parts.client, all.as_mut_ptr(), 1, parts.options, parts.queue) };
    });
    // SAFETY: ours, and not used again.
    unsafe { sys::rd_kafka_NewPartitions_destroy(new.as_ptr()) };
    let answer = answer?;
    // SAFETY: the event lives to the end of the function; its results are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_CreatePartitions_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let results = sys::rd_kafka_CreatePartitions_result_topics(result, &raw mut count);
        one(&pointers(results, count))
    }
}

/// Deletes one topic.
///
/// # Errors
/// That of the request, or of this topic.
pub(in crate::adapters::kafka) fn delete_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    wait: Duration,
) -> Result<(), CallError> {
    let name = c_string(topic)?;
    // SAFETY: the name outlives the call, which copies it; the answer is ours, destroyed below.
    let old = unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) };
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETETOPICS;
    let answer = request(client, kind, wait, |parts| {
        let mut all = [old];
        // SAFETY: the call copies what it is given.
        unsafe { sys::rd_kafka_DeleteTopics(parts.client, all.as_mut_ptr(), 1, parts.options, parts.queue) };
    });
    // SAFETY: ours, and not used again.
    unsafe { sys::rd_kafka_DeleteTopic_destroy(old) };
    let answer = answer?;
    // SAFETY: the event lives to the end of the function; its results are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_DeleteTopics_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let results = sys::rd_kafka_DeleteTopics_result_topics(result, &raw mut count);
        one(&pointers(results, count))
    }
}

/// A topic to be made, destroyed when it goes out of scope.
struct NewTopic(NonNull<sys::rd_kafka_NewTopic_t>);

impl Drop for NewTopic {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { sys::rd_kafka_NewTopic_destroy(self.0.as_ptr()) };
    }
}

impl NewTopic {
    fn new(topic: &str, partitions: i32, replicas: i32, config: &BTreeMap<String, String>) -> Result<Self, CallError> {
        let name = c_string(topic)?;
        let mut error = [0 as c_char; 512];
        // SAFETY: the name and the buffer outlive the call; the answer is null or ours.
        let new =
            unsafe { sys::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replicas, error.as_mut_ptr(), error.len()) };
        // SAFETY: the library ends the text in the buffer with a zero byte.
        let new = NonNull::new(new).ok_or_else(|| CallError::invalid(owned(unsafe { text(error.as_ptr()) })))?;
        let new = Self(new);
        for (name, value) in config {
            let (c_name, value) = (c_string(name)?, c_string(value)?);
            // SAFETY: the texts outlive the call, which copies them.
            let code = unsafe { sys::rd_kafka_NewTopic_set_config(new.0.as_ptr(), c_name.as_ptr(), value.as_ptr()) };
            match Code::from(code) {
                Code::NoError => {}
                code => return Err(CallError { code, text: format!("{name} cannot be set") }),
            }
        }
        Ok(new)
    }
}

/// # Safety
/// The results live during the call.
unsafe fn one(results: &[*const sys::rd_kafka_topic_result_t]) -> Result<(), CallError> {
    let [result] = *results else { return Err(CallError::strange()) };
    // SAFETY: the caller's promise; the text is copied.
    unsafe {
        match Code::from(sys::rd_kafka_topic_result_error(result)) {
            Code::NoError => Ok(()),
            code => Err(CallError { code, text: owned(text(sys::rd_kafka_topic_result_error_string(result))) }),
        }
    }
}
