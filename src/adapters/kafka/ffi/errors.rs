//! Errors of calls, with the words of their author: librdkafka, or the broker.

use crate::adapters::kafka::ffi::texts::{owned, text};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::ffi::CString;

/// Why a call failed.
#[derive(Debug)]
pub(in crate::adapters::kafka) struct CallError {
    /// The code.
    pub(in crate::adapters::kafka) code: Code,
    /// The broker's sentence where it gave one, otherwise librdkafka's words.
    pub(in crate::adapters::kafka) text: String,
}

impl CallError {
    /// An error in what we were about to send.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, text: text.into() }
    }

    /// An answer that is none to the question.
    pub(super) fn strange() -> Self {
        Self { code: Code::BadMessage, text: "an answer of another kind".into() }
    }
}

/// # Safety
/// `error` is null or an error of librdkafka that nobody else owns.
pub(super) unsafe fn called(error: *mut sys::rd_kafka_error_t) -> Result<(), CallError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's promise; the text is copied before the error is destroyed.
    unsafe {
        let copied = CallError {
            code: sys::rd_kafka_error_code(error).into(),
            text: owned(text(sys::rd_kafka_error_string(error))),
        };
        sys::rd_kafka_error_destroy(error);
        Err(copied)
    }
}

pub(super) fn c_string(text: &str) -> Result<CString, CallError> {
    CString::new(text)
        .map_err(|_| CallError::invalid(format!("{text:?} holds a zero byte, which Kafka's client cannot send")))
}
