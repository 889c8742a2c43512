//! One process `tidegate run`.

use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running instance; killed when dropped.
pub struct Instance {
    pub name: String,
    child: Child,
    log: PathBuf,
    /// The length of the log when it was started.
    #[cfg(all(feature = "rocksdb", feature = "failpoints"))]
    silent_until: u64,
}

impl Instance {
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file: File = OpenOptions::new().create(true).append(true).open(log).unwrap();
        #[cfg(all(feature = "rocksdb", feature = "failpoints"))]
        let silent_until = file.metadata().unwrap().len();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            name: name.into(),
            child,
            log: log.into(),
            #[cfg(all(feature = "rocksdb", feature = "failpoints"))]
            silent_until,
        }
    }

    /// Whether it has written a line.
    #[cfg(all(feature = "rocksdb", feature = "failpoints"))]
    pub fn has_spoken(&self) -> bool {
        std::fs::metadata(&self.log).unwrap().len() > self.silent_until
    }

    #[cfg(feature = "failpoints")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "kill -{signal} {}", self.name);
    }

    /// SIGTERM, then its end.
    pub fn terminate(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal("TERM");
        (self.end(within), began.elapsed())
    }

    /// Waits until it says that all of its partitions, so many, are halted.
    pub fn stand_still(&self, partitions: usize, within: Duration) {
        let said = format!("all {partitions} partitions of this instance are halted");
        super::until(&format!("{} stands still", self.name), within, || {
            if self.log().contains(&said) { Ok(()) } else { Err(tail(&self.log)) }
        });
    }

    /// Waits until it has ended by itself.
    pub fn end(&mut self, within: Duration) -> ExitStatus {
        super::until(&format!("{} ends", self.name), within, || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(format!("it runs; the log ends with\n{}", tail(&self.log))),
        })
    }

    /// Waits until it has killed itself at its crash point.
    #[cfg(feature = "failpoints")]
    pub fn wait_killed(&mut self, within: Duration) {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.end(within);
        assert_eq!(status.signal(), Some(9), "{} ended by itself: {status}\n{}", self.name, tail(&self.log));
    }

    /// Waits until it has stopped itself at its crash point.
    #[cfg(feature = "failpoints")]
    pub fn wait_paused(&mut self, within: Duration) {
        super::until(&format!("{} stops", self.name), within, || self.is_paused());
    }

    /// Whether it has stopped itself; an error says in which state it is instead.
    #[cfg(feature = "failpoints")]
    pub fn is_paused(&self) -> Result<(), String> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.map_err(|error| error.to_string())?;
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        if state == Some('T') { Ok(()) } else { Err(format!("its state is {state:?}")) }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Everything it has written, and its predecessors of the same name.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The address of its page, printed when it has started.
    pub fn page(&self) -> Result<String, String> {
        let log = self.log();
        let page = log.lines().rev().find_map(|line| line.trim().strip_prefix("page  http://"));
        page.map(str::to_owned).ok_or_else(|| "no page yet".into())
    }

    /// Its answer at `/status`, up to a second old.
    pub fn status(&self) -> Result<Value, String> {
        self.json("/status")
    }

    /// Its answer at a path, which is JSON.
    pub fn json(&self, path: &str) -> Result<Value, String> {
        let answer = self.get(path)?;
        let body = answer.split_once("\r\n\r\n").ok_or(&*answer).map(|(_, body)| body)?;
        serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))
    }

    /// Its answer at `/readyz`, with its head.
    pub fn readiness(&self) -> Result<String, String> {
        self.get("/readyz")
    }

    /// Its answer to a body, with its head.
    pub fn post(&self, path: &str, body: &str) -> Result<String, String> {
        self.exchange(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Its answer to a request to delete something, with its head.
    #[cfg(all(feature = "rocksdb", feature = "failpoints"))]
    pub fn delete(&self, path: &str) -> Result<String, String> {
        self.exchange(&format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn get(&self, path: &str) -> Result<String, String> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn exchange(&self, request: &str) -> Result<String, String> {
        let mut answer = String::new();
        let ask = |answer: &mut String| {
            let mut stream = TcpStream::connect(self.page().map_err(std::io::Error::other)?)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(answer)
        };
        ask(&mut answer).map_err(|error| error.to_string())?;
        Ok(answer)
    }

    /// Waits for words in the log.
    pub fn wait_log(&mut self, words: &str, within: Duration) {
        let (name, log) = (self.name.clone(), self.log.clone());
        super::until(&format!("{name} logs {words:?}"), within, || {
            if self.log().contains(words) { Ok(()) } else { Err(format!("the log ends with\n{}", tail(&log))) }
        });
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
