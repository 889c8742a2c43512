//! Readings as they lie in their topic: read here by themselves, so that nothing of the operator's is trusted.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What a device told of one time.
#[derive(Deserialize)]
pub(super) struct Sent {
    pub(super) at_ms: i64,
    pub(super) metrics: BTreeMap<String, f64>,
}

/// The readings of a record's value.
pub(super) fn parse(value: Option<&[u8]>) -> Option<Vec<Sent>> {
    serde_json::from_slice(value?).ok()
}
