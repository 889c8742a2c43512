//! Texts, bytes, lists and waits between Rust and C.

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::Duration;

/// Milliseconds as librdkafka wants them, rounded up so that a short wait is not a busy loop.
pub(super) fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(c_int::MAX)
}

/// # Safety
/// `text` is null or ends with a zero byte and lives for `'a`.
pub(super) unsafe fn text<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if text.is_null() { &[] } else { unsafe { CStr::from_ptr(text) }.to_bytes() }
}

pub(super) fn owned(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// # Safety
/// `list` is null or a list that lives during the call.
pub(super) unsafe fn elements(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(String, i32, Code)> {
    // SAFETY: the caller's promise; the array holds `cnt` elements.
    unsafe {
        let Some(list) = list.as_ref() else { return Vec::new() };
        let count = usize::try_from(list.cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        let elements = std::slice::from_raw_parts(list.elems, count);
        elements.iter().map(|element| (owned(text(element.topic)), element.partition, element.err.into())).collect()
    }
}

/// # Safety
/// `start` is null or the start of `length` bytes that live for `'a`.
pub(super) unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}
