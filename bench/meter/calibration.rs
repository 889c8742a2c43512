//! One job: say what the machine is and what its disk does, beside every result.

use crate::Outcome;
use crate::rig::tables::Connection;
use crate::rig::{Database, Rig};
use serde::Serialize;
use std::io::{Seek, Write};
use std::time::{Duration, Instant};

/// The machine, the versions, the disk.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    pub cpu: String,
    pub cores: usize,
    pub load_average: String,
    pub kernel: String,
    pub kafka: String,
    /// Where the workload has a database.
    pub postgres: Option<String>,
    pub librdkafka: String,
    pub rustc: String,
    /// Syncs per second after writing 8 KiB.
    pub fdatasync_rate: f64,
    pub fdatasync_p50_ms: f64,
    pub fdatasync_p99_ms: f64,
}

fn word(command: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(command).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

pub fn calibrate(rig: &Rig) -> Outcome<Calibration> {
    let load_average = read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let pom = include_str!("../../tests/servers/pom.xml");
    let kafka =
        pom.split_once("<kafka.version>").and_then(|(_, rest)| rest.split_once('<')).map_or("", |(version, _)| version);
    let mut times = syncs(rig)?;
    times.sort_unstable();
    let total: f64 = times.iter().map(Duration::as_secs_f64).sum();
    let at = |index: usize| times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let count = times.len() as f64;
    Ok(Calibration {
        cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        load_average,
        kernel: word("uname", &["-r"]),
        kafka: kafka.to_owned(),
        postgres: rig.database().ok().map(version).transpose()?,
        librdkafka: rdkafka::util::get_rdkafka_version().1,
        rustc: word("rustc", &["--version"]),
        fdatasync_rate: count / total,
        fdatasync_p50_ms: at(times.len() / 2),
        fdatasync_p99_ms: at(times.len() * 99 / 100),
    })
}

fn version(database: &Database) -> Outcome<String> {
    let connection = Connection::open(&database.url)?;
    Ok(connection.wait(connection.client.query_one("SHOW server_version", &[]))?.get(0))
}

/// One second of writing 8 KiB and syncing, in a file of 8 MiB as a database's log has it.
fn syncs(rig: &Rig) -> Outcome<Vec<Duration>> {
    let path = rig.folder().join("fdatasync");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&vec![1; 8 << 20])?;
    file.sync_all()?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(1) {
        if times.len() % 1024 == 0 {
            file.rewind()?;
        }
        let start = Instant::now();
        file.write_all(&[2; 8 << 10])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(times)
}
