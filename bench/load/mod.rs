//! One job: seeded inputs, and what becomes of them. The pure part of the workload, the same for every system.

pub mod events;
pub mod kept;
pub mod pacer;
pub mod readings;

use serde::{Deserialize, Serialize};

/// One input: which notifications lie in which topic.
#[derive(Clone, Debug)]
pub struct Input {
    pub topic: String,
    pub seed: u64,
    pub records: u64,
    pub rows: i64,
}

impl Input {
    /// The topic of what cannot be handled.
    pub fn dead_letters(&self) -> String {
        format!("{}-dlt", self.topic)
    }

    /// The ids in the order they are sent, uniform over all rows.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        (0..self.records).map(|number| self.id(number))
    }

    /// The id of one notification.
    pub fn id(&self, number: u64) -> i64 {
        1 + (mix(self.seed ^ mix(number)) % self.rows.unsigned_abs()).cast_signed()
    }
}

/// A notification's value, about 40 bytes. `at_us`: when it was to be sent, in microseconds since 1970.
pub fn notification(id: i64, at_us: u64) -> String {
    format!("{{\"id\":{id},\"at\":{at_us}}}")
}

/// A notification as its reader sees it.
#[derive(Deserialize)]
pub struct Notification {
    pub id: i64,
    pub at: u64,
}

/// The value of a notice.
#[derive(Serialize, Deserialize)]
pub struct Notice {
    pub id: i64,
    /// Number of earlier changes of the row.
    pub n: i64,
    pub change: f64,
    /// The moment from the notification.
    pub at: u64,
}

/// The row's first value.
#[expect(clippy::cast_precision_loss, reason = "below 1000")]
pub fn first_value(id: i64) -> f64 {
    (id % 1000) as f64
}

/// By how much the row's value grows: uniform in [0, 1), from the old value and the id.
#[expect(clippy::cast_precision_loss, reason = "53 bits")]
pub fn change(id: i64, v: f64) -> f64 {
    (mix(id.cast_unsigned() ^ mix(v.to_bits())) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Smallest change that is published, so that `share` of all changes are.
pub fn threshold(share: f64) -> f64 {
    1.0 - share
}

/// splitmix64's output function.
pub fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
