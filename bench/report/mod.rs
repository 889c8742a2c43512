//! One job: the numbers of a run as tables for people and as JSON, losing claims first.

pub mod claim;
pub mod latency;
pub mod live;
pub mod restore;
pub mod run;
pub mod scale;
mod table;

use crate::Outcome;
use crate::meter::calibration::Calibration;
use claim::Claim;
use latency::LatencyRun;
use live::{GraphRun, LiveRun, StorageRun};
use restore::{MemoryRun, RestartRun, RestoreRun};
use run::Run;
use scale::ScaleRun;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

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
    pub restores: Vec<RestoreRun>,
    pub restarts: Vec<RestartRun>,
    pub memory: Vec<MemoryRun>,
    pub live: Vec<LiveRun>,
    pub graphs: Vec<GraphRun>,
    pub storage: Vec<StorageRun>,
    pub scale: Vec<ScaleRun>,
    pub claims: Vec<Claim>,
    /// Parts that were left out, and why.
    pub notes: Vec<String>,
}

fn word(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

impl Report {
    /// Nothing measured yet.
    pub fn new(workload: &'static str, calibration: Calibration, parameters: serde_json::Value) -> Self {
        Self {
            workload,
            commit: word("git", &["rev-parse", "--short", "HEAD"]),
            date: word("date", &["+%F"]),
            parameters,
            calibration,
            runs: Vec::new(),
            latencies: Vec::new(),
            restores: Vec::new(),
            restarts: Vec::new(),
            memory: Vec::new(),
            live: Vec::new(),
            graphs: Vec::new(),
            storage: Vec::new(),
            scale: Vec::new(),
            claims: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a claim, as far as its number was measured.
    pub fn claim(&mut self, what: &str, found: Option<f64>, bound: f64, is_floor: bool) {
        self.claims.extend(found.map(|found| Claim { what: what.into(), found, bound, is_floor }));
    }

    /// Prints the tables, and saves them where that is asked for.
    pub fn end(&self, is_saved: bool) -> Outcome {
        println!("{}", self.markdown());
        if is_saved { self.save() } else { Ok(()) }
    }

    /// The tables.
    fn markdown(&self) -> String {
        let mut text = String::new();
        let Calibration { cpu, cores, load_average, kernel, kafka, postgres, librdkafka, rustc, .. } =
            &self.calibration;
        let Calibration { fdatasync_rate, fdatasync_p50_ms, fdatasync_p99_ms, .. } = &self.calibration;
        let postgres = postgres.as_ref().map_or_else(String::new, |version| format!(" PostgreSQL {version},"));
        let _ = writeln!(text, "# {} · {} · {}\n", self.workload.to_uppercase(), self.date, self.commit);
        let _ = writeln!(text, "- {cores} cores, {cpu}, Linux {kernel}, load average {load_average} at the start");
        let _ = writeln!(text, "- Kafka {kafka},{postgres} librdkafka {librdkafka}, {rustc}");
        let _ = writeln!(
            text,
            "- fdatasync after 8 KiB: {fdatasync_rate:.0}/s, p50 {fdatasync_p50_ms:.2} ms, p99 {fdatasync_p99_ms:.2} ms"
        );
        let _ = writeln!(text, "- {}", self.parameters);
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        claim::write(&self.claims, &mut text);
        run::write(self, &mut text);
        latency::write(&self.latencies, &mut text);
        restore::write(self, &mut text);
        live::write(self, &mut text);
        scale::write(&self.scale, &mut text);
        text
    }

    /// Writes bench/results/<date>-<commit>-<workload>.json and .md.
    fn save(&self) -> Outcome {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
        std::fs::create_dir_all(&folder)?;
        let name = format!("{}-{}-{}", self.date, self.commit, self.workload);
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(self)? + "\n")?;
        std::fs::write(folder.join(format!("{name}.md")), self.markdown())?;
        eprintln!("saved as bench/results/{name}.json and .md");
        Ok(())
    }
}
