//! One job: run a system over a backlog and measure the cost of the stretch from its first published records to its last.

use crate::Outcome;
use crate::child::Child;
use crate::meter::cpu::{Sample, resident_mib_max};
use crate::report::run::{Flow, Run};
use crate::rig::Rig;
use crate::system::System;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The measurements of a stretch.
pub struct Stretch {
    /// Input records.
    records: f64,
    seconds: f64,
    used: Sample,
    resident_mib_max: f64,
    first_output_ms: f64,
    foreign_share: f64,
}

impl Stretch {
    /// Runs a system to its end. It counts each input record `hops` times, on average. `perf`: a file for 8 s of samples.
    pub fn run(rig: &Rig, child: &Child, hops: f64, perf: Option<&Path>) -> Outcome<Self> {
        let mut system = System::start(child)?;
        let processes = rig.processes(system.pid());
        let begun = system.expect("first")?;
        let (begun_at, before) = (Instant::now(), processes.sample());
        let first_output_ms = system.started.elapsed().as_secs_f64() * 1e3;
        let perf = perf.map(|file| record(system.pid(), file)).transpose()?;
        let counted = system.expect("done")? - begun;
        let (seconds, used) = (begun_at.elapsed().as_secs_f64(), processes.sample() - before);
        if let Some(mut perf) = perf {
            perf.wait()?;
        }
        let resident_mib_max = resident_mib_max(system.pid())?;
        system.finish()?;
        let foreign_share = used.foreign_share(seconds)?;
        if counted == 0 {
            return Err("the input is too short: all of it was published at once".into());
        }
        let records = f64::from(u32::try_from(counted)?) / hops;
        Ok(Self { records, seconds, used, resident_mib_max, first_output_ms, foreign_share })
    }

    /// Without the time for which the system waited at its end to see that nothing more came.
    pub fn without(mut self, rest: Duration) -> Self {
        self.seconds -= rest.as_secs_f64();
        self
    }

    /// Turns it into a judged run of the report.
    pub fn judged(&self, system: &'static str, has_database: bool, messages: usize) -> Run {
        let per_record = |seconds: f64| seconds / self.records * 1e6;
        let run = Run {
            system,
            bytes: None,
            records_per_s: self.records / self.seconds,
            own_us: per_record(self.used.own),
            broker_us: per_record(self.used.broker),
            postgres_us: has_database.then(|| per_record(self.used.postgres)),
            resident_mib_max: self.resident_mib_max,
            first_output_ms: self.first_output_ms,
            foreign_share: self.foreign_share,
            messages,
            flow: None::<Flow>,
        };
        let postgres = run.postgres_us.map_or_else(String::new, |us| format!(", postgres {us:.2}"));
        eprintln!(
            "{system}: {:.0} rec/s; CPU µs/rec: own {:.2}, broker {:.2}{postgres}; foreign CPU {:.1} %; {messages} messages, judged",
            run.records_per_s,
            run.own_us,
            run.broker_us,
            run.foreign_share * 100.0,
        );
        run
    }
}

/// Where samples of a run go: `None` unless they are asked for.
pub fn perf_file(folder: Option<&Path>, name: &str) -> Outcome<Option<PathBuf>> {
    let Some(folder) = folder else { return Ok(None) };
    std::fs::create_dir_all(folder)?;
    Ok(Some(folder.join(format!("{name}.data"))))
}

/// Samples a process for a few seconds.
fn record(pid: u32, file: &Path) -> Outcome<std::process::Child> {
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-F", "499", "-g", "-p", &pid.to_string(), "-o"]).arg(file).args(["--", "sleep", "8"]);
    Ok(perf.spawn()?)
}
