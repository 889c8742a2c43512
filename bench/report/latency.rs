//! One job: delays at a fixed rate.

use crate::meter::latency::Latency;
use serde::Serialize;
use std::fmt::Write;

/// Delays of one system at a fixed rate.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRun {
    pub system: &'static str,
    pub rate: u64,
    pub share: f64,
    #[serde(flatten)]
    pub latency: Latency,
    pub own_us: f64,
    pub broker_us: f64,
    pub postgres_us: f64,
    pub foreign_share: f64,
}

/// The table of delays.
pub fn write(runs: &[LatencyRun], text: &mut String) {
    if runs.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n| latency, ms | rate/s | share | p50 | p90 | p99 | p99.9 | max | samples | own CPU µs/rec | broker | postgres | foreign CPU |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for run in runs {
        let LatencyRun { system, rate, share, own_us, broker_us, postgres_us, foreign_share, latency } = run;
        let Latency { samples, p50, p90, p99, p999, max } = latency;
        let _ = writeln!(
            text,
            "| {system} | {rate} | {share} | {p50:.1} | {p90:.1} | {p99:.1} | {p999:.1} | {max:.1} | {samples} | {own_us:.0} | {broker_us:.0} | {postgres_us:.0} | {:.1} % |",
            foreign_share * 100.0
        );
    }
}
