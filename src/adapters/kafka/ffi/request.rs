//! One request of the administration and its one answer.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::ffi::errors::CallError;
use crate::adapters::kafka::ffi::event::Owned;
use crate::adapters::kafka::ffi::queue::OneShot;
use crate::adapters::kafka::ffi::texts::{millis, owned, text};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::ffi::c_char;
use std::time::Duration;

/// Pointers that a request is made of: the client, the options of the request, and the queue that its answer arrives in.
pub(super) struct Parts {
    pub(super) client: *mut sys::rd_kafka_t,
    pub(super) options: *mut sys::rd_kafka_AdminOptions_t,
    pub(super) queue: *mut sys::rd_kafka_queue_t,
}

/// Makes a request by `send` and waits for its answer, a little longer than `wait`. The parts live during `send` only,
/// whose call copies what it is given.
///
/// # Errors
/// The error of the request as a whole. Those of single topics and groups lie within the answer.
pub(super) fn request<C: ClientContext>(
    client: &Client<C>,
    kind: sys::rd_kafka_admin_op_t,
    wait: Duration,
    send: impl FnOnce(&Parts),
) -> Result<Owned, CallError> {
    let silent = || CallError { code: Code::OperationTimedOut, text: "no answer".into() };
    let answers = OneShot::new(client).ok_or_else(silent)?;
    let until = fault::deadline(wait);
    let mut error = [0 as c_char; 256];
    // SAFETY: a live client; the options are destroyed after the call, which copies them, and the answer comes as an event
    // of our queue.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(client.native_ptr(), kind);
        let timeout = millis(wait).max(1);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout, error.as_mut_ptr(), error.len());
        // Refused, and of no use, for what is no change.
        sys::rd_kafka_AdminOptions_set_operation_timeout(options, timeout, error.as_mut_ptr(), error.len());
        send(&Parts { client: client.native_ptr(), options, queue: answers.queue.as_ptr() });
        sys::rd_kafka_AdminOptions_destroy(options);
    }
    // librdkafka answers by itself at the timeout; a little more, so that its words are heard.
    let answer = answers.next(fault::left(until) + Duration::from_millis(200)).ok_or_else(silent)?;
    // SAFETY: the event is ours, and its text is copied.
    let (code, said) = unsafe {
        let event = answer.event.as_ptr();
        (Code::from(sys::rd_kafka_event_error(event)), owned(text(sys::rd_kafka_event_error_string(event))))
    };
    match code {
        Code::NoError => Ok(answer),
        code => Err(CallError { code, text: said }),
    }
}

/// The pointers of a C array, which may be null.
///
/// # Safety
/// `start` is null or the start of `count` elements, which live during the call.
pub(super) unsafe fn pointers<T>(start: *mut *const T, count: usize) -> Vec<*const T> {
    if start.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start.cast_const(), count) }.to_vec()
}
