//! One job: what a run's figures come to for more devices, by multiplication alone.

use super::table::{self, Column};
use serde::Serialize;

/// Readings each five seconds of so many devices.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleRun {
    pub devices: u64,
    pub records_per_s: f64,
    /// Cores that are busy on average over a quarter of an hour.
    pub own_cores: f64,
    pub broker_cores: f64,
    pub postgres_cores: f64,
    /// Input, changelogs and the topics of the tiers, each once: a replica more is as much again.
    pub kafka_mb_s: f64,
    /// Writes of rows, of all tiers.
    pub rows_per_s: f64,
    /// Buckets of the rows that these writes replace, packed.
    pub rewritten_mb_s: f64,
    /// On the disk, kept as long as by default.
    pub quarters_gb: f64,
    pub hours_gb: f64,
    /// On the disk, for each year: days are kept for good.
    pub days_gb_year: f64,
    /// On the disk: an hour and a day are told through the outbox, which keeps them as long as by default.
    pub outbox_gb: f64,
}

/// The table.
pub fn write(runs: &[ScaleRun], text: &mut String) {
    let columns: [Column<ScaleRun>; 11] = [
        Column::new("rec/s", 0, |run| Some(run.records_per_s)),
        Column::new("own cores", 2, |run| Some(run.own_cores)),
        Column::new("broker cores", 2, |run| Some(run.broker_cores)),
        Column::new("postgres cores", 2, |run| Some(run.postgres_cores)),
        Column::new("Kafka in MB/s, a copy", 2, |run| Some(run.kafka_mb_s)),
        Column::new("rows written/s", 0, |run| Some(run.rows_per_s)),
        Column::new("rewritten MB/s", 1, |run| Some(run.rewritten_mb_s)),
        Column::new("quarters GB", 1, |run| Some(run.quarters_gb)),
        Column::new("hours GB", 1, |run| Some(run.hours_gb)),
        Column::new("days GB a year", 2, |run| Some(run.days_gb_year)),
        Column::new("outbox GB", 1, |run| Some(run.outbox_gb)),
    ];
    table::write("by multiplication: devices", runs, |run| run.devices.to_string(), &columns, text);
}
