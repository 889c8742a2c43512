//! One job: private Kafka and PostgreSQL servers for one run of the benchmark, gone when it ends.

pub mod tables;
pub mod topics;

use crate::Outcome;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The servers.
pub struct Rig {
    folder: PathBuf,
    pub brokers: String,
    pub database: String,
    /// The broker's process.
    pub broker: u32,
    /// The parent of all PostgreSQL processes.
    pub postmaster: u32,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name)
}

fn start(name: &str, folder: &Path, is_quick: bool) -> Outcome<String> {
    let mut command = Command::new(script(name));
    command.arg("start").arg(folder).env("TIDEGATE_PARENT_PID", std::process::id().to_string()).stdin(Stdio::null());
    if !is_quick {
        command.env("KAFKA_JVM", "-Xmx512m"); // the second compiler: a run lasts minutes
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{name} start: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().last().ok_or("a server script printed no address")?.to_owned())
}

fn pid(file: &Path) -> Outcome<u32> {
    Ok(std::fs::read_to_string(file)?.trim().parse()?)
}

impl Rig {
    /// Starts both servers. `is_quick`: a broker that starts fast rather than one that runs fast.
    pub fn start(is_quick: bool) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        let (kafka, postgres) = (folder.join("kafka"), folder.join("postgres"));
        let mut rig = Self { folder, brokers: String::new(), database: String::new(), broker: 0, postmaster: 0 };
        let (brokers, database) = std::thread::scope(|scope| {
            let brokers = scope.spawn(|| start("kafka.sh", &kafka, is_quick));
            let database = start("postgres.sh", &postgres, is_quick);
            (brokers.join().unwrap_or_else(|_| Err("kafka.sh: its thread panicked".into())), database)
        });
        (rig.brokers, rig.database) = (brokers?, database?);
        rig.broker = pid(&kafka.join("broker-1/pid"))?;
        rig.postmaster = pid(&postgres.join("pid"))?;
        Ok(rig)
    }

    /// A folder on the servers' disk.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for (name, folder) in [("kafka.sh", "kafka"), ("postgres.sh", "postgres")] {
            let _ = Command::new(script(name)).arg("remove").arg(self.folder.join(folder)).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
