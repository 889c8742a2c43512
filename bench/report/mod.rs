//! One job: the numbers of a run as a table for people and as JSON, losing claims first.

use crate::Outcome;
use crate::meter::calibration::Calibration;
use crate::meter::latency::Latency;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// One timed run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub system: &'static str,
    /// Between the first published records and the last.
    pub records_per_s: f64,
    /// CPU microseconds per record, in the same time.
    pub own_us: f64,
    pub broker_us: f64,
    pub postgres_us: f64,
    pub resident_mib_max: f64,
    /// From the start of the process to its first committed output.
    pub first_output_ms: f64,
    /// Share of the machine that processes outside the run took: above a few percent, repeat it.
    pub foreign_share: f64,
    /// Messages that the judge found, all as they must be.
    pub messages: usize,
}

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

/// A number that was promised.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    pub what: String,
    pub found: f64,
    pub bound: f64,
    /// Whether `found` must reach the bound rather than stay below it.
    pub is_floor: bool,
}

impl Claim {
    pub fn holds(&self) -> bool {
        if self.is_floor { self.found >= self.bound } else { self.found <= self.bound }
    }
}

/// Everything that one command found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub workload: &'static str,
    pub commit: String,
    pub date: String,
    pub parameters: serde_json::Value,
    pub calibration: Calibration,
    pub runs: Vec<Run>,
    pub latencies: Vec<LatencyRun>,
    pub claims: Vec<Claim>,
}

/// Least, middle and greatest.
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// `None` without values.
pub fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let median = f64::midpoint(*values.get(values.len().checked_sub(1)? / 2)?, *values.get(values.len() / 2)?);
    Some(Spread { min: *values.first()?, median, max: *values.last()? })
}

impl Report {
    fn of(&self, system: &str, number: impl Fn(&Run) -> f64) -> Option<Spread> {
        spread(self.runs.iter().filter(|run| run.system == system).map(number))
    }

    /// Ratios of `number`, ours to a peer's: pair by pair where they ran in pairs, else of the medians.
    pub fn ratio(&self, peer: &str, number: impl Fn(&Run) -> f64) -> Option<Spread> {
        let all =
            |system: &str| -> Vec<f64> { self.runs.iter().filter(|run| run.system == system).map(&number).collect() };
        let (ours, theirs) = (all("ours"), all(peer));
        if ours.len() == theirs.len() {
            return spread(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs));
        }
        let ratio = spread(ours.into_iter())?.median / spread(theirs.into_iter())?.median;
        Some(Spread { min: ratio, median: ratio, max: ratio })
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let Calibration { cpu, cores, load_average, kernel, kafka, postgres, librdkafka, rustc, .. } =
            &self.calibration;
        let Calibration { fdatasync_rate, fdatasync_p50_ms, fdatasync_p99_ms, .. } = &self.calibration;
        let _ = writeln!(text, "# {} · {} · {}\n", self.workload.to_uppercase(), self.date, self.commit);
        let _ = writeln!(text, "- {cores} cores, {cpu}, Linux {kernel}, load average {load_average} at the start");
        let _ = writeln!(text, "- Kafka {kafka}, PostgreSQL {postgres}, librdkafka {librdkafka}, {rustc}");
        let _ = writeln!(
            text,
            "- fdatasync after 8 KiB: {fdatasync_rate:.0}/s, p50 {fdatasync_p50_ms:.2} ms, p99 {fdatasync_p99_ms:.2} ms"
        );
        let _ = writeln!(text, "- {}\n", self.parameters);
        let mut claims = self.claims.clone();
        claims.sort_by_key(Claim::holds);
        if !claims.is_empty() {
            let _ = writeln!(text, "| claim | found | bound | |\n|---|---|---|---|");
        }
        for claim in &claims {
            let Claim { what, found, bound, is_floor } = claim;
            let sign = if *is_floor { '≥' } else { '≤' };
            let verdict = if claim.holds() { "holds" } else { "**missed**" };
            let _ = writeln!(text, "| {what} | {found:.2} | {sign} {bound} | {verdict} |");
        }
        self.backlog(&mut text);
        self.delays(&mut text);
        text
    }

    fn backlog(&self, text: &mut String) {
        if self.runs.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n| backlog | runs | rec/s (min–max) | own CPU µs/rec | broker | postgres | RSS MiB | first output ms | foreign CPU | messages |\n|---|---|---|---|---|---|---|---|---|---|"
        );
        for system in ["ours", "bare", "naive"] {
            let Some(rate) = self.of(system, |run| run.records_per_s) else { continue };
            let median = |number: fn(&Run) -> f64| self.of(system, number).map_or(f64::NAN, |spread| spread.median);
            let runs: Vec<&Run> = self.runs.iter().filter(|run| run.system == system).collect();
            let _ = writeln!(
                text,
                "| {system} | {} | {:.0} ({:.0}–{:.0}) | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.1} % | {} |",
                runs.len(),
                rate.median,
                rate.min,
                rate.max,
                median(|run| run.own_us),
                median(|run| run.broker_us),
                median(|run| run.postgres_us),
                median(|run| run.resident_mib_max),
                median(|run| run.first_output_ms),
                median(|run| run.foreign_share) * 100.0,
                runs.first().map_or(0, |run| run.messages),
            );
        }
        for peer in ["bare", "naive"] {
            if let (Some(rate), Some(own)) =
                (self.ratio(peer, |run| run.records_per_s), self.ratio(peer, |run| run.own_us))
            {
                let _ = writeln!(
                    text,
                    "\nours/{peer}: {:.2}x rec/s ({:.2}–{:.2}), {:.2}x own CPU",
                    rate.median, rate.min, rate.max, own.median
                );
            }
        }
    }

    fn delays(&self, text: &mut String) {
        if self.latencies.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n| latency, ms | rate/s | share | p50 | p90 | p99 | p99.9 | max | samples | own CPU µs/rec | broker | postgres | foreign CPU |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for run in &self.latencies {
            let LatencyRun { system, rate, share, own_us, broker_us, postgres_us, foreign_share, latency } = run;
            let Latency { samples, p50, p90, p99, p999, max } = latency;
            let _ = writeln!(
                text,
                "| {system} | {rate} | {share} | {p50:.1} | {p90:.1} | {p99:.1} | {p999:.1} | {max:.1} | {samples} | {own_us:.0} | {broker_us:.0} | {postgres_us:.0} | {:.1} % |",
                foreign_share * 100.0
            );
        }
    }

    /// Writes bench/results/<date>-<commit>.json and .md.
    pub fn save(&self) -> Outcome {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
        std::fs::create_dir_all(&folder)?;
        let name = format!("{}-{}", self.date, self.commit);
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(self)? + "\n")?;
        std::fs::write(folder.join(format!("{name}.md")), self.markdown())?;
        eprintln!("saved as bench/results/{name}.json and .md");
        Ok(())
    }
}
