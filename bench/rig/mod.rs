//! One job: private servers for one run of the benchmark, gone when it ends: Kafka, and PostgreSQL where it is asked for.

pub mod filling;
pub mod gathering;
pub mod reading;
pub mod stores;
pub mod tables;
pub mod tiers;
pub mod topics;

use crate::Outcome;
use crate::meter::cpu::Processes;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The servers.
pub struct Rig {
    folder: PathBuf,
    pub brokers: String,
    /// The broker's process.
    pub broker: u32,
    /// The port at which the broker reports its counters (JMX).
    counters_port: u16,
    database: Option<Database>,
}

/// A PostgreSQL server.
pub struct Database {
    pub url: String,
    /// The parent of all its processes.
    pub postmaster: u32,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name)
}

fn start(name: &str, folder: &Path, environment: &[(&str, String)]) -> Outcome<String> {
    let mut command = Command::new(script(name));
    command.arg("start").arg(folder).env("TIDEGATE_PARENT_PID", std::process::id().to_string()).stdin(Stdio::null());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
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

/// The environment of the broker's JVM: how it compiles, and where its counters can be read.
fn of_the_broker(is_quick: bool, counters_port: u16) -> Vec<(&'static str, String)> {
    let counters = format!(
        "-Dcom.sun.management.jmxremote.port={counters_port} -Dcom.sun.management.jmxremote.rmi.port={counters_port} \
         -Dcom.sun.management.jmxremote.host=127.0.0.1 -Djava.rmi.server.hostname=127.0.0.1 \
         -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false"
    );
    let mut environment = vec![("KAFKA_JVM_MORE", counters)];
    if !is_quick {
        environment.push(("KAFKA_JVM", "-Xmx512m".into())); // the second compiler: a run lasts minutes
    }
    environment
}

impl Rig {
    /// Starts the servers. `is_quick`: a broker that starts fast rather than one that runs fast.
    pub fn start(is_quick: bool, wants_database: bool) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        let (kafka, postgres) = (folder.join("kafka"), folder.join("postgres"));
        let counters_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut rig = Self { folder, brokers: String::new(), broker: 0, counters_port, database: None };
        let environment = of_the_broker(is_quick, counters_port);
        let (brokers, url) = std::thread::scope(|scope| {
            let brokers = scope.spawn(|| start("kafka.sh", &kafka, &environment));
            let url = wants_database.then(|| start("postgres.sh", &postgres, &[])).transpose();
            (brokers.join().unwrap_or_else(|_| Err("kafka.sh: its thread panicked".into())), url)
        });
        rig.brokers = brokers?;
        rig.broker = pid(&kafka.join("broker-1/pid"))?;
        if let Some(url) = url? {
            rig.database = Some(Database { url, postmaster: pid(&postgres.join("pid"))? });
        }
        Ok(rig)
    }

    /// The database.
    ///
    /// # Errors
    /// Where none was asked for.
    pub fn database(&self) -> Outcome<&Database> {
        self.database.as_ref().ok_or_else(|| "the workload was started without a database".into())
    }

    /// The processes to sample beside the broker while `own` is under test.
    pub fn processes(&self, own: u32) -> Processes {
        let postmaster = self.database.as_ref().map(|database| database.postmaster);
        Processes { own, broker: self.broker, postmaster }
    }

    /// One of Kafka's own tools; answers what it printed.
    pub fn tool(class: &str, arguments: &[&str]) -> Outcome<String> {
        let output = Command::new(script("kafka.sh")).args(["tool", class]).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The address of the broker's counters.
    pub fn counters(&self) -> String {
        format!("service:jmx:rmi:///jndi/rmi://127.0.0.1:{}/jmxrmi", self.counters_port)
    }

    /// A folder on the servers' disk.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for (name, folder) in [("kafka.sh", "kafka"), ("postgres.sh", "postgres")] {
            let folder = self.folder.join(folder);
            if folder.exists() {
                let _ = Command::new(script(name)).arg("remove").arg(folder).status();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
