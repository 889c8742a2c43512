//! One job: send at a fixed rate, whatever the receiver does (open loop); each notification carries the moment it was due.

use crate::Outcome;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Calls `send` with each number from 0 and the moment it is due, `rate` times per second.
pub fn pace(records: u64, rate: u64, mut send: impl FnMut(u64, u64) -> Outcome) -> Outcome {
    let start = now_us();
    for number in 0..records {
        let due = start + number * 1_000_000 / rate;
        while let Some(early) = due.checked_sub(now_us()).filter(|early| *early > 0) {
            std::thread::sleep(Duration::from_micros(early));
        }
        send(number, due)?;
    }
    Ok(())
}
