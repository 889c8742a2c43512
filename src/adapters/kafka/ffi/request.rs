//! One request of the administration and its one answer.

use crate::adapters::kafka::fault;
use crate::adapters::kafka::ffi::errors::CallError;
use crate::adapters::kafka::ffi::event::Owned;
use crate::adapters::kafka::ffi::queue::{Answers, OneShot};
use crate::adapters::kafka::ffi::texts::{millis, owned, text};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::collections::VecDeque;
use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};
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
    let answers = OneShot::new(client).ok_or_else(silent)?;
    let until = fault::deadline(wait);
    ask(client, kind, &answers.answers, wait, send);
    // librdkafka answers by itself at the timeout; a little more, so that its words are heard.
    said(answers.next(fault::left(until) + Duration::from_millis(200)).ok_or_else(silent)?)
}

fn silent() -> CallError {
    CallError { code: Code::OperationTimedOut, text: "no answer".into() }
}

/// Makes a request that librdkafka answers at `timeout` at the latest.
fn ask<C: ClientContext>(
    client: &Client<C>,
    kind: sys::rd_kafka_admin_op_t,
    answers: &Answers,
    timeout: Duration,
    send: impl FnOnce(&Parts),
) {
    let mut error = [0 as c_char; 256];
    // SAFETY: a live client; the options are destroyed after the call, which copies them, and the answer comes as an event
    // of our queue.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(client.native_ptr(), kind);
        let timeout = millis(timeout).max(1);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout, error.as_mut_ptr(), error.len());
        // Refused, and of no use, for what is no change.
        sys::rd_kafka_AdminOptions_set_operation_timeout(options, timeout, error.as_mut_ptr(), error.len());
        send(&Parts { client: client.native_ptr(), options, queue: answers.queue.as_ptr() });
        sys::rd_kafka_AdminOptions_destroy(options);
    }
}

/// The answer of a request, or the error of it as a whole.
fn said(answer: Owned) -> Result<Owned, CallError> {
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

/// The longest that librdkafka lets a request take.
const PATIENCE: Duration = Duration::from_hours(1);

/// The most requests of a client that nobody waits for any more and that have no answer yet.
const UNANSWERED_MAX: usize = 16;

/// Requests of one client to the coordinators of groups.
///
/// A request that librdkafka ends by its timeout, while it looks for the coordinator or connects to it, is freed, and used once more
/// as soon as the coordinator is there or the client ends: the process is aborted
/// (docs/traps.md#a-question-that-was-given-up-ends-the-process). So these requests have an hour, and whoever waits for a shorter time
/// goes away without the answer. The next one looks for the coordinator anew; only where too many have no answer does it wait for
/// theirs, so that a coordinator that stays away does not make them ever more.
///
/// Declared in front of its client, so that it ends before.
#[derive(Default)]
pub(in crate::adapters::kafka) struct Coordinators {
    unanswered: Mutex<VecDeque<Answers>>,
}

impl Coordinators {
    /// The same as [`request`], without more than `wait`.
    pub(super) fn request<C: ClientContext>(
        &self,
        client: &Client<C>,
        kind: sys::rd_kafka_admin_op_t,
        wait: Duration,
        send: impl FnOnce(&Parts),
    ) -> Result<Owned, CallError> {
        let until = fault::deadline(wait);
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the client lives during the call, here and below.
        unanswered.retain(|before| unsafe { before.next(Duration::ZERO) }.is_none());
        if unanswered.len() >= UNANSWERED_MAX
            && let Some(first) = unanswered.pop_front()
            && unsafe { first.next(fault::left(until)) }.is_none()
        {
            unanswered.push_back(first); // another's turn next time: one that is asleep keeps nobody waiting for good
            return Err(silent());
        }
        let answers = Answers::new(client).ok_or_else(silent)?;
        ask(client, kind, &answers, PATIENCE, send);
        let Some(answer) = (unsafe { answers.next(fault::left(until)) }) else {
            unanswered.push_back(answers);
            return Err(silent());
        };
        said(answer)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};

    #[test]
    fn a_coordinator_that_stays_away_is_asked_a_bounded_number_of_times() {
        let coordinators = Coordinators::default();
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1").create().unwrap();
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let (mut asked, wait) = (0, Duration::from_millis(5));
        for _ in 0..UNANSWERED_MAX + 3 {
            let answer = coordinators.request(consumer.client(), kind, wait, |parts| {
                asked += 1;
                let mut names = [c"scoring".as_ptr()];
                // SAFETY: the name outlives the call, which copies it.
                unsafe {
                    sys::rd_kafka_DescribeConsumerGroups(
                        parts.client,
                        names.as_mut_ptr(),
                        1,
                        parts.options,
                        parts.queue,
                    );
                }
            });
            assert!(answer.is_err_and(|error| error.code == Code::OperationTimedOut));
        }
        assert_eq!(asked, UNANSWERED_MAX, "each of the first looks anew, and the rest wait for these");
    }
}
