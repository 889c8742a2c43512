//! librdkafka's own table of its properties, as its document CONFIGURATION.md has it.

use super::texts::owned;
use rdkafka_sys as sys;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

unsafe extern "C" {
    fn open_memstream(text: *mut *mut c_char, length: *mut usize) -> *mut c_void;
    fn fclose(file: *mut c_void) -> c_int;
    fn free(text: *mut c_void);
}

/// The table as text, a line each property, columns parted by `|`; empty where there is no memory for it.
pub(in crate::adapters::kafka) fn property_table() -> String {
    let (mut text, mut length) = (ptr::null_mut::<c_char>(), 0_usize);
    // SAFETY: both places live until the file is closed, which writes them the last time.
    let file = unsafe { open_memstream(&raw mut text, &raw mut length) };
    if file.is_null() {
        return String::new();
    }
    // SAFETY: the file is open, and the library only writes to it.
    unsafe { sys::rd_kafka_conf_properties_show(file.cast()) };
    // SAFETY: it was opened above and is closed once.
    let is_written = unsafe { fclose(file) } == 0;
    if text.is_null() {
        return String::new();
    }
    // SAFETY: after the file was closed, `text` has `length` bytes, which are ours.
    let table = unsafe { super::texts::bytes(text.cast(), length) }.filter(|_| is_written).map(owned);
    // SAFETY: the C library allocated it, and it was copied.
    unsafe { free(text.cast()) };
    table.unwrap_or_default()
}
