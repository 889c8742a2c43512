//! Queues that events arrive in: those of a client, and one for the answer of one call.

use crate::adapters::kafka::ffi::errors::c_string;
use crate::adapters::kafka::ffi::event::{Event, Owned};
use crate::adapters::kafka::ffi::texts::millis;
use crate::ports::fault::Fault;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

/// An event queue of a client. Keeps its client alive, as the C library demands.
pub(in crate::adapters::kafka) struct Queue<K> {
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
    pub(in crate::adapters::kafka) fn of_consumer<C: ClientContext>(
        client: &Client<C>,
        keep: Arc<K>,
    ) -> Result<Self, Fault> {
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
    pub(in crate::adapters::kafka) fn direct<C: ClientContext>(
        client: &Client<C>,
        topic: &str,
        partition: i32,
        into: Option<&Self>,
    ) -> Result<(), Fault> {
        let name = c_string(topic).map_err(|error| Fault::fatal(error.text))?;
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
    pub(in crate::adapters::kafka) fn of_logs<C: ClientContext>(
        client: &Client<C>,
        keep: Arc<K>,
    ) -> Result<Self, Fault> {
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
    pub(in crate::adapters::kafka) fn poll<R>(&self, wait: Duration, visit: impl FnOnce(Event<'_>) -> R) -> Option<R> {
        // SAFETY: the queue lives as long as self.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) };
        let event = Owned { event: NonNull::new(event)? };
        Some(visit(event.read()))
    }
}

/// A queue for the answer of one call, whose client lives at least as long.
pub(super) struct OneShot<'a> {
    pub(super) answers: Answers,
    client: PhantomData<&'a ()>,
}

impl<'a> OneShot<'a> {
    pub(super) fn new<C: ClientContext>(client: &'a Client<C>) -> Option<Self> {
        Some(Self { answers: Answers::new(client)?, client: PhantomData })
    }

    pub(super) fn next(&self, wait: Duration) -> Option<Owned> {
        // SAFETY: the borrow keeps the client alive.
        unsafe { self.answers.next(wait) }
    }
}

/// A queue for the answers of a client, which may end before.
pub(super) struct Answers {
    pub(super) queue: NonNull<sys::rd_kafka_queue_t>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Answers {}

impl Drop for Answers {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again; it is counted by itself and touches no client.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

impl Answers {
    pub(super) fn new<C: ClientContext>(client: &Client<C>) -> Option<Self> {
        // SAFETY: a live client; the answer is ours.
        let queue = unsafe { sys::rd_kafka_queue_new(client.native_ptr()) };
        Some(Self { queue: NonNull::new(queue)? })
    }

    /// # Safety
    /// The client lives during the call.
    pub(super) unsafe fn next(&self, wait: Duration) -> Option<Owned> {
        // SAFETY: the queue lives as long as self, and its client by the caller's promise.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) };
        Some(Owned { event: NonNull::new(event)? })
    }
}
