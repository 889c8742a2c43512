//! Feeds the devices' readings: a month of them, which each device uploads day by day, and from then on as they are measured.

use super::devices::Device;
use super::meters::READINGS;
use super::readings::{Sent, parse};
use crate::adapters::memory::MemoryLog;
use crate::app::demo::pipeline::Pipeline;
use crate::flow::record::{Timestamp, TopicName};
use crate::flow::rollup::Measured;
use crate::ports::Fault;
use crate::ports::sink::Message;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;
/// What is filled.
const MONTH_MS: i64 = 30 * DAY_MS;
/// The time over which the last uploads of all devices are spread: what they lead to fires behind the records that follow.
const LAST_UPLOADS_MS: i64 = 120_000;
/// Records that may wait on their way through the tiers; then the feeder waits, so that a stop has little to work off.
const WAITING_MAX: i64 = 2_000;
/// Uploads that are produced at once.
const UPLOADS: usize = 32;
/// Interval at which it looks whether there is room.
const LOOK: Duration = Duration::from_millis(5);
/// Interval at which devices send, once the month is there.
const TICK: Duration = Duration::from_secs(1);
/// A busy device sends at one tick in so many.
const BUSY_TICKS: u64 = 5;
/// Others that send at a tick, in turn.
const AT_A_TICK: usize = 20;
/// One record in so many is sent twice, as by a hub that announces everything once more.
const TWICE_EVERY: u64 = 10;

/// A running feeder.
pub(in crate::app::demo) struct Feeder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), Fault>>>,
}

#[derive(Default)]
struct Shared {
    is_stopped: AtomicBool,
    is_filled: AtomicBool,
    /// Uploads of the month, and how many are made.
    uploads: AtomicU64,
    uploaded: AtomicU64,
}

impl Feeder {
    /// Starts feeding what so many devices measure.
    pub(in crate::app::demo) fn start(pipeline: &Pipeline, devices: u32) -> Result<Self, Fault> {
        let shared = Arc::new(Shared::default());
        let (own, pipeline) = (Arc::clone(&shared), pipeline.clone());
        let topic = TopicName::parse(READINGS).map_err(Fault::fatal)?;
        let run = move || {
            let Pipeline { log, clock, .. } = &pipeline;
            let mut homes = Homes::new(topic, Device::all(devices), log, clock.now().0);
            homes.fill(&pipeline, &own)?;
            own.is_filled.store(true, Ordering::Release);
            let (mut next, mut tick) = (clock.elapsed() + TICK, 0);
            while !own.is_stopped.load(Ordering::Acquire) {
                std::thread::sleep(LOOK);
                if clock.elapsed() >= next {
                    (next, tick) = (next + TICK, tick + 1);
                    homes.send(log, tick, clock.now().0)?;
                }
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("devices".into()).spawn(run);
        let thread = thread.map_err(|error| Fault::fatal("thread devices could not start").because(error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether the whole month is produced.
    pub(in crate::app::demo) fn is_filled(&self) -> bool {
        self.shared.is_filled.load(Ordering::Acquire)
    }

    /// The part of the month that is produced, in per cent.
    pub(in crate::app::demo) fn filled_percent(&self) -> u64 {
        let Shared { uploads, uploaded, .. } = &*self.shared;
        (uploaded.load(Ordering::Acquire) * 100).checked_div(uploads.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Whether it has ended by itself, which it does on a fault only.
    pub(in crate::app::demo) fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Stops feeding.
    ///
    /// # Errors
    /// The fault that had ended it.
    pub(in crate::app::demo) fn stop(&mut self) -> Result<(), Fault> {
        self.shared.is_stopped.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(Fault::fatal("thread devices panicked; see the message above")))
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let _ = self.stop(); // its caller reports a fault of its own
    }
}

/// A device's upload: everything that it has measured before a time.
struct Upload {
    at_ms: i64,
    device: usize,
    before_ms: i64,
}

/// The devices, and from when on each has not sent yet what it measured.
struct Homes {
    topic: TopicName,
    devices: Vec<Device>,
    since_ms: Vec<i64>,
    now_ms: i64,
    turn: usize,
    sent: u64,
}

impl Homes {
    /// A demo that goes on with kept data goes on behind the last reading of each device.
    fn new(topic: TopicName, devices: Vec<Device>, log: &MemoryLog, now_ms: i64) -> Self {
        let mut last: HashMap<String, i64> = HashMap::new();
        log.each_record(&topic, &mut |_, record| {
            let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) else { return };
            for Sent { at_ms, .. } in parse(record.value).into_iter().flatten() {
                let last = last.entry(key.to_owned()).or_insert(at_ms);
                *last = at_ms.max(*last);
            }
        });
        let begins = (now_ms - MONTH_MS).div_euclid(DAY_MS) * DAY_MS;
        let since = |device: &Device| last.get(&device.name).map_or(begins, |last| last + 1);
        let since_ms = devices.iter().map(since).collect();
        Self { topic, devices, since_ms, now_ms, turn: 0, sent: 0 }
    }

    /// The uploads of the month, in the order of time: of each day in the course of the next one, and what is left at last.
    fn uploads(&self) -> Vec<Upload> {
        let count = i64::try_from(self.devices.len()).unwrap_or(i64::MAX).max(1);
        let last_from = self.now_ms - LAST_UPLOADS_MS;
        let mut uploads = Vec::new();
        for (device, number) in (0..self.devices.len()).zip(0..) {
            let first = self.since_ms.get(device).map_or(0, |since| since.div_euclid(DAY_MS) + 1);
            let days = (first..).map(|day| day * DAY_MS);
            let daily = days.map(|end_ms| (end_ms + DAY_MS * number / count, end_ms));
            let daily = daily.take_while(|(at_ms, _)| *at_ms < last_from);
            uploads.extend(daily.map(|(at_ms, before_ms)| Upload { at_ms, device, before_ms }));
            let at_ms = last_from + LAST_UPLOADS_MS * number / count;
            uploads.push(Upload { at_ms, device, before_ms: at_ms });
        }
        uploads.sort_by_key(|upload| upload.at_ms);
        uploads
    }

    /// Produces the month.
    fn fill(&mut self, pipeline: &Pipeline, shared: &Shared) -> Result<(), Fault> {
        let uploads = self.uploads();
        shared.uploads.store(uploads.len() as u64, Ordering::Release);
        for some in uploads.chunks(UPLOADS) {
            while pipeline.backlog() > WAITING_MAX && !shared.is_stopped.load(Ordering::Acquire) {
                std::thread::sleep(LOOK);
            }
            if shared.is_stopped.load(Ordering::Acquire) {
                return Ok(());
            }
            let records = some.iter().filter_map(|upload| self.upload(upload)).collect::<Vec<_>>();
            self.produce(&pipeline.log, &records)?;
            shared.uploaded.fetch_add(some.len() as u64, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The record of an upload; none where nothing was measured.
    fn upload(&mut self, Upload { at_ms, device, before_ms }: &Upload) -> Option<Reported> {
        let (own, since_ms) = (self.devices.get(*device)?, self.since_ms.get_mut(*device)?);
        let span = (*since_ms, *before_ms);
        *since_ms = (*before_ms).max(*since_ms);
        Reported::of(own, *at_ms, own.times(span))
    }

    /// What some of the devices measure now.
    fn send(&mut self, log: &MemoryLog, tick: u64, now_ms: i64) -> Result<(), Fault> {
        let mut records = Vec::new();
        let busy = self.devices.iter().filter(|device| device.is_busy() && tick.is_multiple_of(BUSY_TICKS));
        let others: Vec<&Device> = self.devices.iter().filter(|device| !device.is_busy()).collect();
        let in_turn = others.iter().copied().cycle().skip(self.turn).take(AT_A_TICK.min(others.len()));
        for device in busy.chain(in_turn) {
            self.sent += 1;
            let copies = if self.sent.is_multiple_of(TWICE_EVERY) { 2 } else { 1 };
            records.extend((0..copies).filter_map(|_| Reported::of(device, now_ms, [now_ms].into_iter())));
        }
        self.turn = (self.turn + AT_A_TICK).checked_rem(others.len()).unwrap_or(0);
        self.produce(log, &records)
    }

    fn produce(&self, log: &MemoryLog, records: &[Reported]) -> Result<(), Fault> {
        let messages: Vec<Message<'_>> = records.iter().map(|record| record.message(&self.topic)).collect();
        log.produce_all(&messages, Timestamp(self.now_ms))
    }
}

/// What a device tells in one record.
struct Reported {
    key: String,
    value: String,
    at_ms: i64,
}

impl Reported {
    fn of(device: &Device, at_ms: i64, times: impl Iterator<Item = i64>) -> Option<Self> {
        let measured = |at_ms| {
            let metrics = device.measure(at_ms).into_iter().map(|(metric, value)| (metric.to_owned(), value)).collect();
            Measured { at_ms, metrics }
        };
        let measured: Vec<Measured> = times.map(measured).collect();
        let value = serde_json::to_string(&measured).ok().filter(|_| !measured.is_empty())?; // numbers are finite
        Some(Self { key: device.name.clone(), value, at_ms })
    }

    fn message<'a>(&'a self, destination: &'a TopicName) -> Message<'a> {
        Message {
            destination,
            partition: None,
            key: Some(self.key.as_bytes()),
            value: Some(self.value.as_bytes()),
            headers: &[],
            timestamp: Some(Timestamp(self.at_ms)),
            is_tracked: false,
        }
    }
}
