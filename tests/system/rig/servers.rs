//! One Kafka and one PostgreSQL, started by the scripts in tests/servers; they go when this process goes.

use std::path::{Path, PathBuf};
use std::process::Command;

fn script(name: &str, arguments: &[&str]) -> String {
    script_with(name, arguments, &[])
}

fn script_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name);
    let output = Command::new("timeout")
        .arg("120")
        .arg(path)
        .args(arguments)
        .env("TIDEGATE_PARENT_PID", std::process::id().to_string())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {stdout}{stderr}");
    stdout
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

/// One broker, or three.
pub struct Kafka {
    folder: PathBuf,
    pub bootstrap: String,
}

impl Kafka {
    pub fn start(folder: &Path, brokers: &str) -> Self {
        let bootstrap = last_line(&script("kafka.sh", &["start", folder.to_str().unwrap(), brokers]));
        Self { folder: folder.into(), bootstrap }
    }

    /// Each broker with a second listener, whose clients are sent to where a proxy is to listen.
    #[cfg(feature = "failpoints")]
    pub fn start_proxied(folder: &Path, brokers: &str) -> Self {
        let arguments = ["start", folder.to_str().unwrap(), brokers];
        let bootstrap = last_line(&script_with("kafka.sh", &arguments, &[("KAFKA_PROXIED", "1")]));
        Self { folder: folder.into(), bootstrap }
    }

    /// One broker, with variables of the script.
    pub fn start_with(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let bootstrap = last_line(&script_with("kafka.sh", &["start", folder.to_str().unwrap(), "1"], variables));
        Self { folder: folder.into(), bootstrap }
    }

    /// The bootstrap servers of the listener with access lists; needs `KAFKA_SECURED`.
    pub fn secured(&self) -> String {
        self.listener("secured")
    }

    /// The bootstrap servers of the listener with TLS; needs `KAFKA_ENCRYPTED`.
    pub fn encrypted(&self) -> String {
        self.listener("encrypted")
    }

    /// The bootstrap servers of the listener that sends its clients on to a host that does not resolve; needs `KAFKA_ASTRAY`.
    pub fn astray(&self) -> String {
        self.listener("astray")
    }

    fn listener(&self, kind: &str) -> String {
        last_line(&script("kafka.sh", &[kind, self.folder.to_str().unwrap()]))
    }

    /// The file of a CA beside the listener with TLS: `ca`, which has signed its certificate, or `other-ca`.
    pub fn authority(&self, name: &str) -> String {
        self.folder.join(format!("{name}.pem")).display().to_string()
    }

    /// For each broker where its proxy is to listen, and where that has to lead.
    #[cfg(feature = "failpoints")]
    pub fn proxies(&self) -> Vec<(String, String)> {
        let text = script("kafka.sh", &["proxies", self.folder.to_str().unwrap()]);
        let pair = |line: &str| line.split_once(' ').map(|(at, to)| (at.to_owned(), to.to_owned())).unwrap();
        text.lines().map(pair).collect()
    }

    pub fn kill(&self, broker: &str) {
        self.act("kill", broker);
    }

    pub fn restart(&self, broker: &str) {
        self.act("restart", broker);
    }

    /// `kill`, `end` (SIGTERM), `restart`, `pause`, `resume`.
    pub fn act(&self, command: &str, broker: &str) {
        script("kafka.sh", &[command, self.folder.to_str().unwrap(), broker]);
    }

    /// One of Kafka's own tools on this broker, as an operator would use it.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let mut all = vec!["tool", class, "--bootstrap-server", &self.bootstrap];
        all.extend(arguments);
        script("kafka.sh", &all)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        script("kafka.sh", &["remove", self.folder.to_str().unwrap()]);
    }
}

/// One database server.
pub struct Postgres {
    folder: PathBuf,
    pub url: String,
}

impl Postgres {
    pub fn start(folder: &Path) -> Self {
        let url = last_line(&script("postgres.sh", &["start", folder.to_str().unwrap()]));
        Self { folder: folder.into(), url }
    }

    fn command(&self, name: &str) {
        script("postgres.sh", &[name, self.folder.to_str().unwrap()]);
    }

    pub fn kill(&self) {
        self.command("kill");
    }

    /// The shutdown that an operator asks for: sessions are ended, the disk is left as it should be.
    #[cfg(feature = "failpoints")]
    pub fn stop(&self) {
        self.command("stop");
    }

    /// The shutdown that leaves recovery to the next start.
    #[cfg(feature = "failpoints")]
    pub fn stop_at_once(&self) {
        self.command("abort");
    }

    /// The log that it has written.
    #[cfg(feature = "failpoints")]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// SIGSTOP to all its processes.
    #[cfg(feature = "failpoints")]
    pub fn freeze(&self) {
        self.command("freeze");
    }

    /// SIGCONT to all its processes.
    #[cfg(feature = "failpoints")]
    pub fn thaw(&self) {
        self.command("thaw");
    }

    pub fn restart(&self) {
        self.command("restart");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        script("postgres.sh", &["remove", self.folder.to_str().unwrap()]);
    }
}
