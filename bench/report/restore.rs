//! One job: restores, restarts, and memory by partitions.

use super::Report;
use super::table::{self, Column};
use serde::Serialize;
use std::fmt::Write;

/// A cold restore: an empty store made whole from its changelog.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreRun {
    pub system: &'static str,
    /// From the assignment until every task runs.
    pub seconds: f64,
    pub records_per_s: f64,
    /// Keys and values, uncompressed.
    pub megabytes_per_s: f64,
    /// CPU microseconds per changelog record, in the same time.
    pub own_us: f64,
    pub broker_us: f64,
    pub resident_mib_max: f64,
    pub foreign_share: f64,
}

/// A start after a kill, the store of the killed process being there.
#[derive(Clone, Debug, Serialize)]
pub struct RestartRun {
    /// From the assignment until every task runs.
    pub milliseconds: f64,
    /// From the start of the process.
    pub from_start_ms: f64,
    /// Changelog records read again.
    pub replayed: u64,
    pub foreign_share: f64,
}

/// An idle instance with empty stores.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryRun {
    pub partitions: i32,
    pub resident_mib: f64,
}

impl Report {
    /// The median rate of one system's restores, in records per second.
    pub fn restore_rate(&self, system: &str) -> Option<f64> {
        let runs = self.restores.iter().filter(|run| run.system == system);
        table::spread(runs.map(|run| run.records_per_s)).map(|spread| spread.median)
    }

    /// By how many MiB an instance grows for each partition, between the fewest and the most.
    pub fn mib_per_partition(&self) -> Option<f64> {
        let few = self.memory.iter().min_by_key(|run| run.partitions)?;
        let many = self.memory.iter().max_by_key(|run| run.partitions)?;
        let grown = f64::from(many.partitions - few.partitions);
        (grown > 0.0).then(|| (many.resident_mib - few.resident_mib) / grown)
    }
}

/// The tables of W5.
pub fn write(report: &Report, text: &mut String) {
    let restores: [Column<RestoreRun>; 7] = [
        Column::with_spread("rec/s", 0, |run| Some(run.records_per_s)),
        Column::new("MB/s", 1, |run| Some(run.megabytes_per_s)),
        Column::new("s until all run", 2, |run| Some(run.seconds)),
        Column::new("own CPU µs/rec", 2, |run| Some(run.own_us)),
        Column::new("broker", 2, |run| Some(run.broker_us)),
        Column::new("RSS MiB", 0, |run| Some(run.resident_mib_max)),
        Column::new("foreign CPU %", 1, |run| Some(run.foreign_share * 100.0)),
    ];
    table::write("cold restore", &report.restores, |run| run.system.to_owned(), &restores, text);
    let restarts: [Column<RestartRun>; 4] = [
        Column::with_spread("ms from assignment until all run", 0, |run| Some(run.milliseconds)),
        Column::new("ms from the start", 0, |run| Some(run.from_start_ms)),
        Column::new("records replayed", 0, |run| Some(f64::from(u32::try_from(run.replayed).unwrap_or(u32::MAX)))),
        Column::new("foreign CPU %", 1, |run| Some(run.foreign_share * 100.0)),
    ];
    table::write("restart after kill -9", &report.restarts, |_| "ours".to_owned(), &restarts, text);
    let memory = [Column::new("RSS MiB", 1, |run: &MemoryRun| Some(run.resident_mib))];
    table::write("partitions, stores empty", &report.memory, |run| run.partitions.to_string(), &memory, text);
    if let Some(mib) = report.mib_per_partition() {
        let _ = writeln!(text, "\n{:.0} KiB for each further partition", mib * 1024.0);
    }
}
