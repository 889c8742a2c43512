//! What lies beside the process, and how much memory it may take.

use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};

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
}

impl Default for StateSettings {
    fn default() -> Self {
        Self { dir: "state".into(), memory_mib: 128 }
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
    ];
}
