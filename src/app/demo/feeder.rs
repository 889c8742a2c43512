//! Feeds the demo: readings around a value that drifts, and now and then a correction. The same every time.

use crate::adapters::memory::MemoryLog;
use crate::engine::status::{Counter, Status};
use crate::flow::record::TopicName;
use crate::ports::sink::Message;
use crate::ports::{Clock, Fault};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rows of `accounts`.
pub(super) const ACCOUNTS: u32 = 1_000;
/// Interval at which records are produced: small against the latencies shown.
const TICK: Duration = Duration::from_millis(5);
/// Most records of one tick, so that the log is not held for long.
const TICK_RECORDS: u64 = 5_000;
/// Records that may wait for the worker; then the feeder waits. Some ten megabytes.
const WAITING_MAX: u64 = 100_000;
/// One record in so many is a correction.
const CORRECTION_EVERY: u64 = 50;
/// Standard deviation of a reading. A score follows its readings by a fifth of the way, so its own variance is a ninth of
/// theirs, and |value - score| passes 2.5 (a change of 0.5) when 1.054 times this is 1.28 times exceeded: one in five.
const NOISE: f64 = 1.85;
/// Standard deviation of the drift from one reading of an account to its next.
const DRIFT: f64 = 0.05;

/// Where account `id` starts.
pub(super) fn first_score(id: u32) -> f64 {
    f64::from(20 + id % 60)
}

/// A running feeder.
pub(super) struct Feeder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), Fault>>>,
}

#[derive(Default)]
struct Shared {
    is_stopped: AtomicBool,
    fed: AtomicU64,
}

impl Feeder {
    /// Starts feeding `rate` records a second.
    pub(super) fn start(log: MemoryLog, clock: Arc<dyn Clock>, status: Arc<Status>, rate: u64) -> Result<Self, Fault> {
        let topic = |name| TopicName::parse(name).map_err(Fault::fatal);
        let (readings, corrections) = (topic("readings")?, topic("corrections")?);
        // A demo that goes on with kept data must not send the same corrections again: they would change nothing.
        let kept = u64::try_from(log.read(&readings).len()).unwrap_or(0);
        let mut stream = Stream::new(readings, corrections, kept);
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let run = move || {
            let (start, mut fed) = (clock.elapsed(), 0_u64);
            while !own.is_stopped.load(Ordering::Acquire) {
                std::thread::sleep(TICK);
                let due = due(clock.elapsed().saturating_sub(start), rate).saturating_sub(fed);
                let room = (status.value(Counter::Records) + WAITING_MAX).saturating_sub(fed);
                let records: Vec<_> = (0..due.min(room).min(TICK_RECORDS)).map(|_| stream.next()).collect();
                let messages: Vec<_> = records.iter().map(Notification::message).collect();
                log.produce_all(&messages, clock.now())?;
                fed += records.len() as u64;
                own.fed.store(fed, Ordering::Release);
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("feeder".into()).spawn(run);
        let thread = thread.map_err(|error| Fault::fatal("thread feeder could not start").because(error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Records produced so far.
    pub(super) fn fed(&self) -> u64 {
        self.shared.fed.load(Ordering::Acquire)
    }

    /// Whether it has ended by itself, which it does on a fault only.
    pub(super) fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Stops feeding.
    ///
    /// # Errors
    /// The fault that had ended it.
    pub(super) fn stop(&mut self) -> Result<(), Fault> {
        self.shared.is_stopped.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(Fault::fatal("thread feeder panicked; see the message above")))
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let _ = self.stop(); // its caller reports a fault of its own
    }
}

/// Records that should have been produced by now.
fn due(elapsed: Duration, rate: u64) -> u64 {
    u64::try_from(elapsed.as_micros() * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX)
}

/// The endless stream of notifications.
struct Stream {
    readings: TopicName,
    corrections: TopicName,
    random: Random,
    levels: Vec<f64>,
    count: u64,
}

impl Stream {
    fn new(readings: TopicName, corrections: TopicName, kept: u64) -> Self {
        let levels = (0..ACCOUNTS).map(first_score).collect();
        Self { readings, corrections, random: Random(20_260 + kept), levels, count: 0 }
    }

    fn next(&mut self) -> Notification {
        self.count += 1;
        let id = self.random.below(u64::from(ACCOUNTS));
        let (drift, noise) = (self.random.normal() * DRIFT, self.random.normal());
        let mut level = 0.0;
        if let Some(own) = usize::try_from(id).ok().and_then(|index| self.levels.get_mut(index)) {
            *own += drift;
            level = *own;
        }
        let (topic, value) = if self.count.is_multiple_of(CORRECTION_EVERY) {
            (&self.corrections, format!(r#"{{"score":{:.6}}}"#, level + noise / 10.0))
        } else {
            (&self.readings, format!(r#"{{"value":{:.6}}}"#, level + noise * NOISE))
        };
        Notification { topic: topic.clone(), key: id.to_string(), value }
    }
}

/// One record to be.
struct Notification {
    topic: TopicName,
    key: String,
    value: String,
}

impl Notification {
    fn message(&self) -> Message<'_> {
        let (key, value) = (Some(self.key.as_bytes()), Some(self.value.as_bytes()));
        Message {
            destination: &self.topic,
            partition: None,
            key,
            value,
            headers: &[],
            timestamp: None,
            is_tracked: false,
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// In (0, 1].
    #[expect(clippy::cast_precision_loss, reason = "53 bits are a float's mantissa")]
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed, variance 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_one_change_in_five_is_large() {
        let topic = |name| TopicName::parse(name).unwrap();
        let mut stream = Stream::new(topic("readings"), topic("corrections"), 0);
        let mut scores: Vec<f64> = (0..ACCOUNTS).map(first_score).collect();
        let mut large = 0;
        let count = 50_000;
        for _ in 0..count {
            let Notification { topic, key, value } = stream.next();
            let id: usize = key.parse().unwrap();
            let value: serde_json::Value = serde_json::from_str(&value).unwrap();
            let before = scores[id];
            scores[id] = match topic.as_str() {
                "corrections" => value["score"].as_f64().unwrap(),
                _ => before + 0.2 * (value["value"].as_f64().unwrap() - before),
            };
            large += i32::from((scores[id] - before).abs() >= 0.5);
        }
        let share = f64::from(large) / f64::from(count);
        assert!((0.17..0.23).contains(&share), "{share}");
    }

    #[test]
    fn the_rate_is_kept_over_any_time() {
        assert_eq!(due(Duration::from_millis(2_500), 500), 1_250);
        assert_eq!(due(Duration::from_millis(1), 500), 0);
        assert_eq!(due(Duration::from_hours(1), 1_000_000), 3_600_000_000);
    }
}
