//! One job: what readings cost while they come, how long graphs take meanwhile, and how large tables are.

use super::Report;
use super::table::{self, Column};
use crate::meter::latency::Latency;
use serde::Serialize;

/// CPU of a stretch at a steady rate of records.
#[derive(Clone, Debug, Serialize)]
pub struct LiveRun {
    pub part: &'static str,
    pub seconds: f64,
    /// Shares of all cores, from 0 to 1.
    pub own: f64,
    pub broker: f64,
    pub postgres: f64,
    pub foreign_share: f64,
    pub resident_mib_max: Option<f64>,
    /// Bytes of record batches that the broker took, as they lie in the log, for each record of the input.
    pub input_in: Option<f64>,
    pub changelog_in: Option<f64>,
}

impl LiveRun {
    /// Own, broker's and database's together.
    pub fn all(&self) -> f64 {
        self.own + self.broker + self.postgres
    }
}

/// Graphs that were asked for.
#[derive(Clone, Debug, Serialize)]
pub struct GraphRun {
    pub name: &'static str,
    /// From the question to the last byte of the answer, a connection for each, over loopback.
    pub asked: Latency,
    /// From the moment at which the question was due.
    pub due: Latency,
    /// Bytes of an answer on average.
    pub bytes: f64,
    /// CPU beyond what readings alone cost, in milliseconds for each graph.
    pub own_ms: f64,
    pub postgres_ms: f64,
    pub foreign_share: f64,
}

/// The size of a tier's table.
#[derive(Clone, Debug, Serialize)]
pub struct StorageRun {
    pub tier: &'static str,
    pub rows: i64,
    pub buckets: u64,
    pub packed_bytes: i64,
    pub disk_bytes: i64,
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(number: i64) -> f64 {
    number as f64
}

impl StorageRun {
    /// Of so many bytes, those of one bucket.
    pub fn each(&self, bytes: i64) -> f64 {
        float(bytes) / float(self.buckets.cast_signed())
    }
}

/// The tables of W3's second half.
pub fn write(report: &Report, text: &mut String) {
    let live: [Column<LiveRun>; 9] = [
        Column::new("seconds", 0, |run| Some(run.seconds)),
        Column::new("own % of all cores", 2, |run| Some(run.own * 100.0)),
        Column::new("broker %", 2, |run| Some(run.broker * 100.0)),
        Column::new("postgres %", 2, |run| Some(run.postgres * 100.0)),
        Column::new("sum %", 2, |run| Some(run.all() * 100.0)),
        Column::new("RSS MiB", 0, |run| run.resident_mib_max),
        Column::new("input in B/rec", 1, |run| run.input_in),
        Column::new("changelog in B/rec", 1, |run| run.changelog_in),
        Column::new("foreign CPU %", 1, |run| Some(run.foreign_share * 100.0)),
    ];
    table::write("live", &report.live, |run| run.part.to_owned(), &live, text);
    let graphs: [Column<GraphRun>; 11] = [
        Column::new("graphs", 0, |run| Some(float(i64::try_from(run.asked.samples).unwrap_or(i64::MAX)))),
        Column::new("p50 ms", 2, |run| Some(run.asked.p50)),
        Column::new("p90", 2, |run| Some(run.asked.p90)),
        Column::new("p99", 2, |run| Some(run.asked.p99)),
        Column::new("p99.9", 2, |run| Some(run.asked.p999)),
        Column::new("max", 2, |run| Some(run.asked.max)),
        Column::new("p99 from when it was due", 2, |run| Some(run.due.p99)),
        Column::new("KB an answer", 1, |run| Some(run.bytes / 1e3)),
        Column::new("own CPU ms", 2, |run| Some(run.own_ms)),
        Column::new("postgres", 2, |run| Some(run.postgres_ms)),
        Column::new("foreign CPU %", 1, |run| Some(run.foreign_share * 100.0)),
    ];
    table::write("graphs", &report.graphs, |run| run.name.to_owned(), &graphs, text);
    let storage: [Column<StorageRun>; 5] = [
        Column::new("rows", 0, |run| Some(float(run.rows))),
        Column::new("buckets", 0, |run| Some(float(run.buckets.cast_signed()))),
        Column::new("packed B/bucket", 1, |run| Some(run.each(run.packed_bytes))),
        Column::new("on disk B/bucket", 1, |run| Some(run.each(run.disk_bytes))),
        Column::new("on disk MB", 1, |run| Some(float(run.disk_bytes) / 1e6)),
    ];
    table::write("tables as filled", &report.storage, |run| run.tier.to_owned(), &storage, text);
}
