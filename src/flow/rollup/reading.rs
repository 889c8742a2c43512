//! What devices measure.

use crate::flow::rollup::Point;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One reading of a device.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// The metric's name, one for each unit.
    pub metric: String,
    /// When it was taken, and its value.
    pub point: Point,
}

/// What a device measured at one time: the events of roll-ups that are fed over HTTP, several in a record.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Measured {
    /// The time, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// Values by metric.
    pub metrics: BTreeMap<String, f64>,
}

impl Measured {
    /// The readings, in their order.
    #[must_use]
    pub fn readings(measured: Vec<Self>) -> Vec<Reading> {
        let of_one = |Self { at_ms, metrics }| {
            metrics.into_iter().map(move |(metric, value)| Reading { metric, point: Point { at_ms, value } })
        };
        measured.into_iter().flat_map(of_one).collect()
    }
}
