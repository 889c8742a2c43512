//! A record, borrowed from its event.

use crate::adapters::kafka::ffi::texts::{bytes, owned, text};
use crate::flow::record::Header;
use rdkafka_sys as sys;
use std::ptr;

/// A record, borrowed from its event.
#[derive(Clone, Copy)]
pub(in crate::adapters::kafka) struct Fetched<'a> {
    pub(super) message: &'a sys::rd_kafka_message_t,
}

impl<'a> Fetched<'a> {
    /// The topic's name.
    pub(in crate::adapters::kafka) fn topic(self) -> &'a [u8] {
        // SAFETY: a fetched message has a topic, whose name lives as long as it, and it as long as the message.
        unsafe { text(sys::rd_kafka_topic_name(self.message.rkt)) }
    }

    /// The partition number.
    pub(in crate::adapters::kafka) fn partition(self) -> i32 {
        self.message.partition
    }

    /// The offset.
    pub(in crate::adapters::kafka) fn offset(self) -> i64 {
        self.message.offset
    }

    /// The timestamp in milliseconds since 1970, or -1.
    pub(in crate::adapters::kafka) fn timestamp(self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: reads a field of a live message.
        unsafe { sys::rd_kafka_message_timestamp(self.message, &raw mut kind) }
    }

    /// The key.
    pub(in crate::adapters::kafka) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: null, or `key_len` bytes that live as long as the message.
        unsafe { bytes(self.message.key, self.message.key_len) }
    }

    /// The value.
    pub(in crate::adapters::kafka) fn value(self) -> Option<&'a [u8]> {
        // SAFETY: null, or `len` bytes that live as long as the message.
        unsafe { bytes(self.message.payload, self.message.len) }
    }

    /// Copies the headers into `headers`, which is emptied first. Allocates nothing when there are none.
    pub(in crate::adapters::kafka) fn headers(self, headers: &mut Vec<Header>) {
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
