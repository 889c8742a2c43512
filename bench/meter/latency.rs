//! One job: read the output as a committed reader, and measure how long each notification took from the moment it was
//! due.

use crate::Outcome;
use crate::load::Notice;
use crate::load::pacer::now_us;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Quantiles in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub samples: usize,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Due moments and delays, both in microseconds, of everything read until `is_over` and silence of a second.
pub fn watch(consumer: &BaseConsumer, is_over: &AtomicBool) -> Outcome<Vec<(u64, u64)>> {
    let mut seen = Vec::new();
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(message) => {
                let message = message?;
                let now = now_us();
                let notice: Notice = serde_json::from_slice(message.payload().unwrap_or_default())?;
                seen.push((notice.at, now.saturating_sub(notice.at)));
            }
            None if is_over.load(Ordering::Acquire) => return Ok(seen),
            None => {}
        }
    }
}

/// Exact quantiles of the delays due at `from_us` or later.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
pub fn quantiles(seen: &[(u64, u64)], from_us: u64) -> Latency {
    let mut delays: Vec<u64> = seen.iter().filter(|(at, _)| *at >= from_us).map(|(_, delay)| *delay).collect();
    delays.sort_unstable();
    let at = |quantile: f64| {
        let rank = (delays.len() as f64 * quantile).ceil() as usize;
        delays.get(rank.clamp(1, delays.len().max(1)) - 1).map_or(f64::NAN, |us| *us as f64 / 1e3)
    };
    Latency { samples: delays.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}
