//! What lies beside the process, and how much memory it may take.

use crate::settings::millis;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of the stores. All but `dir` are without effect in a pipeline that has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateSettings {
    /// The folder of the stores; each pipeline has one of its name below it, which one process uses at a time. Default:
    /// `state`, below where the process was started: seen by whoever looks there, and not in `/tmp`, which is emptied at
    /// a restart and would cost a restore. In any pipeline the note of the records in hand lies here too, a few KiB a
    /// process; a folder that cannot be written costs that note alone.
    #[serde(rename = "state.dir")]
    pub dir: String,
    /// Memory of `RocksDB`, in MiB, shared by all stores of the process whatever their number. Default: 128: half of it at
    /// most for the buffers of writes, the rest for blocks.
    #[serde(rename = "state.memory_mib")]
    pub memory_mib: u32,
    /// How often what is committed is written into the stores. After a kill as much is read again from the changelogs.
    /// Default: 5 s: half a million records at 100,000 a second, restored in seconds.
    #[serde(rename = "state.flush_ms", with = "millis")]
    pub flush: Duration,
    /// Memory of the values kept in front of the stores, in MiB for each worker; what is not yet committed
    /// may exceed it. Default: 64.
    #[serde(rename = "state.cache_mib")]
    pub cache_mib: u32,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self { dir: "state".into(), memory_mib: 128, flush: Duration::from_secs(5), cache_mib: 64 }
    }
}

impl StateSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new(
            "state",
            "dir",
            Allowed::Text {
                what: "the path of a folder",
                fits: |text| !text.trim().is_empty() && !text.contains('\0'),
            },
        ),
        Rule::new("state", "memory_mib", Allowed::Whole { min: 8, max: 1_048_576 }),
        Rule::new("state", "flush_ms", Allowed::Whole { min: 0, max: 3_600_000 }),
        Rule::new("state", "cache_mib", Allowed::Whole { min: 1, max: 1_048_576 }),
    ];
}
