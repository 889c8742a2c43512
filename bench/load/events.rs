//! One job: events of users, seeded, for the workloads over keyed state; and what a user's events come to.
//!
//! A value is `{"user":"u000042","units":7,"pad":"000000001234…"}`: what is variable has a fixed width, so that a
//! hand-written program finds the user by its place and the judge finds the event's number.

use crate::child::WINDOW_MS;
use crate::load::mix;
use crate::rig::topics::PARTITIONS;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::ops::Range;
use tidegate::flow::key::partition_for;

/// Where the user lies in a value: the bytes that its record is keyed by.
pub const KEY: Range<usize> = 9..16;
/// Where its units lie in a value: one digit.
pub const UNITS: usize = 26;
/// Where the event's number lies in a value.
const NUMBER: Range<usize> = 35..47;
/// No event used so much.
pub const KEEP_ALL: u64 = 10;
/// Bytes of a value without its filling.
pub const BYTES_MIN: usize = 49;
/// More users would not fit their width.
pub const USERS_MAX: u64 = 1_000_000;
/// The timestamp of event 0, in milliseconds since 1970: 2026-01-01. Each event is a millisecond later than the one before.
const FIRST_MS: i64 = 1_767_225_600_000;
/// Fillings are cut from so many bytes: more than a compressor looks back, so that they do not shrink.
const POOL_BYTES: usize = 1 << 20;

/// One input: which events lie in which topic.
#[derive(Clone, Debug)]
pub struct Events {
    pub topic: String,
    pub seed: u64,
    pub records: u64,
    pub users: u64,
    /// Bytes of each value.
    pub bytes: usize,
    /// Whether a record carries its user as key, in the partition that a Java producer would choose; else it has no key.
    pub is_keyed: bool,
    pool: Vec<u8>,
}

impl Events {
    pub fn new(topic: &str, seed: u64, records: u64, users: u64, bytes: usize, is_keyed: bool) -> Self {
        let letter = |place: u64| {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(mix(seed ^ place) % 64) as usize]
        };
        let pool = (0..POOL_BYTES as u64).map(letter).collect();
        Self { topic: topic.into(), seed, records, users, bytes, is_keyed, pool }
    }

    /// The user of an event, uniform over all.
    pub fn user(&self, number: u64) -> u64 {
        mix(self.seed ^ mix(number)) % self.users
    }

    /// Units that the event used, from 0 to 9, each as often.
    pub fn units(&self, number: u64) -> u64 {
        mix(self.seed ^ mix(number)) / self.users % KEEP_ALL
    }

    /// Number of events that used less than `kept`.
    pub fn count_below(&self, kept: u64) -> u64 {
        if kept >= KEEP_ALL {
            self.records
        } else {
            (0..self.records).filter(|number| self.units(*number) < kept).count() as u64
        }
    }

    pub const fn at_ms(number: u64) -> i64 {
        FIRST_MS + number.cast_signed()
    }

    /// Where its record lies.
    pub fn partition(&self, number: u64) -> i32 {
        if self.is_keyed {
            partition_for(key(self.user(number)).as_bytes(), PARTITIONS)
        } else {
            i32::try_from(number % u64::from(PARTITIONS.unsigned_abs())).unwrap_or(0)
        }
    }

    /// Writes an event's value, in place of what `out` holds.
    pub fn value(&self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        let (user, units) = (key(self.user(number)), self.units(number));
        let _ = write!(out, "{{\"user\":\"{user}\",\"units\":{units},\"pad\":\"{number:012}"); // memory takes all
        let filling = self.bytes.saturating_sub(BYTES_MIN).min(POOL_BYTES);
        let from = usize::try_from(mix(number)).unwrap_or(0) % (POOL_BYTES - filling + 1);
        out.extend_from_slice(&self.pool[from..from + filling]);
        out.extend_from_slice(b"\"}");
    }

    /// The number of the event whose value this is; `None` where it is none of ours, to the last byte.
    pub fn number(&self, value: &[u8], scratch: &mut Vec<u8>) -> Option<u64> {
        let number = std::str::from_utf8(value.get(NUMBER)?).ok()?.parse().ok()?;
        self.value(number, scratch);
        (number < self.records && scratch == value).then_some(number)
    }
}

/// A user's key.
pub fn key(user: u64) -> String {
    format!("u{user:06}")
}

/// The user of a key.
pub fn user_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key.strip_prefix(b"u")?).ok()?.parse().ok()
}

/// An event as its reader sees it.
#[derive(Deserialize)]
pub struct Event {
    pub user: String,
    pub units: u64,
}

/// The value kept for each user.
#[derive(Serialize, Deserialize, Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub count: u64,
    pub units: u64,
    /// The earliest and the latest event, in milliseconds since 1970.
    #[serde(default)]
    pub first_ms: i64,
    #[serde(default)]
    pub last_ms: i64,
}

impl Usage {
    /// Adds one event.
    pub fn add(&mut self, units: u64, at_ms: i64) {
        self.first_ms = if self.count == 0 { at_ms } else { self.first_ms.min(at_ms) };
        self.last_ms = if self.count == 0 { at_ms } else { self.last_ms.max(at_ms) };
        self.count += 1;
        self.units += units;
    }
}

/// The value of a notice of one window.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    pub user: String,
    pub start_ms: i64,
    pub count: u64,
    pub units: u64,
}

impl Closed {
    /// Whether the window that begins then is told: one in `every`.
    pub fn is_told(start_ms: i64, every: u64) -> bool {
        (start_ms / WINDOW_MS).unsigned_abs().is_multiple_of(every)
    }
}

/// The value of a notice.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Update {
    pub user: String,
    pub count: u64,
    pub units: u64,
}
