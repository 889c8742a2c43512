//! One job: send at a fixed rate, whatever the receiver does (open loop); each notification carries the moment it was due.

use crate::Outcome;
use crate::load::Input;
use crate::rig::topics;
use rdkafka::producer::Producer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Sends the whole input at `rate` notifications per second.
pub fn pace(brokers: &str, input: &Input, rate: u64) -> Outcome {
    // As a service would: without any linger, 2,000 requests a second would keep the broker from the system under test.
    let producer = topics::producer(brokers, "2")?;
    topics::producer_is_ready(&producer, &input.topic)?;
    let start = now_us();
    for (number, id) in (0..).zip(input.ids()) {
        let due = start + number * 1_000_000 / rate;
        while let Some(early) = due.checked_sub(now_us()).filter(|early| *early > 0) {
            std::thread::sleep(Duration::from_micros(early));
        }
        topics::send(&producer, &input.topic, id, due)?;
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(())
}
