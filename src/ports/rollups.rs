//! The tables of roll-ups: buckets for graphs, devices as people describe them, and tokens of those who may see and write them.

use crate::ports::fault::Fault;
use serde::{Deserialize, Serialize};

/// A row of a tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketRow {
    /// The start of its span, in milliseconds since 1970, UTC.
    pub start_ms: i64,
    /// How often it was written.
    pub version: i64,
    /// Its buckets, packed.
    pub buckets: Vec<u8>,
}

/// What people say of a device; nothing of it is needed.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// What it is called.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it is.
    #[serde(default)]
    pub room: Option<String>,
    /// Whose it is.
    #[serde(default)]
    pub home: Option<String>,
    /// What it is: `meter`, `thermostat`.
    #[serde(default)]
    pub kind: Option<String>,
    /// The time zone of its home, as `Europe/Berlin`.
    #[serde(default)]
    pub zone: Option<String>,
    /// The devices that it has replaced: their curves are the beginning of its own.
    #[serde(default)]
    pub formerly: Vec<String>,
}

/// A device: one that has readings, or that somebody has described.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Its name in records.
    pub device: String,
    /// What people say of it.
    pub described: Described,
}

/// The newest row of the quarters of a device's metric.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewestRow {
    /// The device.
    pub device: String,
    /// The metric.
    pub metric: String,
    /// The row; `None` where quarters are not kept of it any more.
    pub row: Option<BucketRow>,
}

/// Which devices are wanted: those for which everything that is given holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WantedDevices {
    /// A part of the device's name, or of what people call it, in whatever case.
    pub search: Option<String>,
    /// The room.
    pub room: Option<String>,
    /// The home.
    pub home: Option<String>,
    /// The kind.
    pub kind: Option<String>,
    /// Those of this list alone.
    pub only: Option<Vec<String>>,
    /// Those behind this one, by name.
    pub after: Option<String>,
    /// So many at most.
    pub limit: u32,
}

/// What the holder of a token may.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// Who holds it.
    pub name: String,
    /// The devices of this home alone.
    pub home: Option<String>,
    /// These devices alone.
    pub devices: Option<Vec<String>>,
    /// Whether readings may be written, and devices described and deleted.
    pub may_write: bool,
}

/// How long the rows of a tier are kept behind their end; `None` for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// Of quarters, in days.
    pub quarters_days: Option<u32>,
    /// Of hours, in days.
    pub hours_days: Option<u32>,
}

/// The tables of roll-ups. Calls block. `rollup` is the name of one.
pub trait RollUpTables: Send {
    /// The rows of a tier's table, of a device's metric, that begin from the first time on and before the second one, in the order of
    /// their starts.
    ///
    /// # Errors
    /// `Retry` when the database did not answer; `Fatal` when there is no such table.
    fn rows(
        &mut self,
        table: &str,
        device_and_metric: (&str, &str),
        span_ms: (i64, i64),
    ) -> Result<Vec<BucketRow>, Fault>;

    /// Devices in the order of their names.
    ///
    /// # Errors
    /// The same.
    fn devices(&mut self, rollup: &str, wanted: &WantedDevices) -> Result<Vec<Device>, Fault>;

    /// The metrics of devices, each with its newest row.
    ///
    /// # Errors
    /// The same.
    fn newest(&mut self, rollup: &str, devices: &[String]) -> Result<Vec<NewestRow>, Fault>;

    /// Keeps what people say of a device.
    ///
    /// # Errors
    /// The same.
    fn describe(&mut self, rollup: &str, device: &Device) -> Result<(), Fault>;

    /// Deletes a device from all tables at once, and answers how many rows it had.
    ///
    /// # Errors
    /// The same; nothing is deleted then, or, where the answer to the COMMIT is lost, everything.
    fn delete(&mut self, rollup: &str, device: &str) -> Result<u64, Fault>;

    /// What the holder of a token may, by the token's SHA-256; `None` where there is none.
    ///
    /// # Errors
    /// The same.
    fn grant(&mut self, rollup: &str, hash: &[u8]) -> Result<Option<Grant>, Fault>;

    /// Makes a token, in the place of one that its holder had.
    ///
    /// # Errors
    /// The same.
    fn make_token(&mut self, rollup: &str, hash: &[u8], grant: &Grant) -> Result<(), Fault>;

    /// All tokens, by the names of their holders.
    ///
    /// # Errors
    /// The same.
    fn tokens(&mut self, rollup: &str) -> Result<Vec<Grant>, Fault>;

    /// Takes a token back; answers whether there was one.
    ///
    /// # Errors
    /// The same.
    fn revoke(&mut self, rollup: &str, holder: &str) -> Result<bool, Fault>;

    /// Makes the tables that are missing, and answers their names.
    ///
    /// # Errors
    /// The same; `Fatal` with the statement where the role may not.
    fn create(&mut self, rollup: &str) -> Result<Vec<String>, Fault>;

    /// Makes partitions of the tiers ahead of time and drops those whose rows are no longer kept. Answers the number of both.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    fn maintain(&mut self, rollup: &str, keep: Keep, now_ms: i64) -> Result<(usize, usize), Fault>;
}
