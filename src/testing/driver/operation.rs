//! Deeds: all that a test does to the world, kept so that it can be done again.

use crate::flow::key::Key;
use crate::flow::record::{Header, TopicName};
use crate::flow::row::Value;
use std::time::Duration;

/// A record that a test sends, with everything that a producer may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The partition; by murmur2 of the key where it is left out.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<Header>,
    /// The record's timestamp in milliseconds since 1970; the driver's clock where it is left out.
    pub timestamp_ms: Option<i64>,
}

/// An operation of the test on the world, kept so that it can be repeated with a crash in between.
#[derive(Clone)]
pub(super) enum Operation {
    Row { table: String, key: Key, values: Vec<Value> },
    RowFirst { table: String, key: Key, values: Vec<Value> },
    Delete { table: String, key: Key },
    Send { topic: String, sent: Sent },
    Threshold { name: String, value: f64 },
    Advance(Duration),
    Settle,
}

pub(super) fn parse(topic: &str) -> TopicName {
    TopicName::parse(topic).unwrap_or_else(|error| panic!("{error}"))
}
