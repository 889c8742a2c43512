//! Every code that the linked library knows, with its name.

use crate::adapters::kafka::ffi::texts::{owned, text};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::ptr;

pub(in crate::adapters::kafka) fn known_codes() -> Vec<(Code, String)> {
    let (mut table, mut len) = (ptr::null(), 0);
    // SAFETY: the library answers a static table of `len` entries, in whose gaps every pointer is null.
    let table = unsafe {
        sys::rd_kafka_get_err_descs(&raw mut table, &raw mut len);
        std::slice::from_raw_parts(table, len)
    };
    let described = table.iter().filter(|entry| !entry.desc.is_null());
    // SAFETY: each described code has a static name.
    described.map(|entry| (Code::from(entry.code), owned(unsafe { text(entry.name) }))).collect()
}
