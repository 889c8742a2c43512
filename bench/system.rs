//! One job: run a system under test in a process of its own, so that its CPU is its own, and talk with it by lines.
//!
//! The child prints `assigned` (it knows its partitions; keyed state only), `ready <records>` (it reads its input, after
//! restoring so many records), `first <records>` (some are published, so many handled), `done <records>` (all published
//! and their offsets committed), and ends when its standard input does.

use crate::child::Child;
use crate::{Failure, Outcome};
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest silence of a child: some times what the naive peer takes on a busy machine.
const LINE_WAIT: Duration = Duration::from_mins(10);

/// A running child, seen from the runner.
pub struct System {
    process: process::Child,
    input: Option<ChildStdin>,
    /// Lines that the child prints.
    lines: Receiver<String>,
    pub started: Instant,
}

impl System {
    pub fn start(child: &Child) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.args(child.words()?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let started = Instant::now();
        let output = process.stdout.take().ok_or("no standard output")?;
        let (say, lines) = unbounded();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = say.send(line); // the asker may have given up
            }
        });
        Ok(Self { input: process.stdin.take(), lines, process, started })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line that begins with `word`, answers the number after it.
    pub fn expect(&mut self, word: &str) -> Outcome<u64> {
        loop {
            let line = self.lines.recv_timeout(LINE_WAIT).map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("the system under test did not say {word:?} within ten minutes"),
                RecvTimeoutError::Disconnected => {
                    format!("the system under test ended before it said {word:?}; see its messages above")
                }
            })?;
            let mut words = line.split_whitespace();
            if words.next() == Some(word) {
                return Ok(words.next().and_then(|number| number.parse().ok()).unwrap_or(0));
            }
        }
    }

    /// Ends it as a power cut would: SIGKILL.
    pub fn kill(mut self) -> Outcome {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Ends its input and waits until it has ended.
    pub fn finish(mut self) -> Outcome {
        drop(self.input.take());
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                return if status.success() { Ok(()) } else { Err(format!("the system under test: {status}").into()) };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the system under test did not end within 30 s".into())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The counters of a child, and whether it is to stop.
#[derive(Default)]
pub struct Progress {
    /// Records handled: committed to the database.
    pub handled: AtomicU64,
    /// Records whose outputs and offsets are committed.
    pub published: AtomicU64,
    pub is_stopping: AtomicBool,
}

/// After so long without a record the run has failed: whatever hangs would keep the runner waiting.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Says a line to the runner.
pub fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl Progress {
    /// Counts both at once, for systems that make no difference.
    pub fn add(&self, records: u64) {
        self.handled.fetch_add(records, Ordering::AcqRel);
        self.published.fetch_add(records, Ordering::AcqRel);
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Prints `first` and `done` in this thread, then waits for the end of standard input.
    pub fn tell(self: &Arc<Self>, total: u64, mut refresh: impl FnMut(&Self) -> Outcome) -> Outcome {
        let progress = Arc::clone(self);
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            progress.is_stopping.store(true, Ordering::Release);
        });
        let (mut has_begun, mut has_ended) = (false, total == 0);
        let (mut last, mut last_at) = ((0, 0), Instant::now());
        while !self.is_stopping() {
            refresh(self)?;
            let (handled, published) = (self.handled.load(Ordering::Acquire), self.published.load(Ordering::Acquire));
            if has_ended || last != (handled, published) {
                (last, last_at) = ((handled, published), Instant::now());
            } else if last_at.elapsed() > SILENCE_MAX {
                return Err(format!("{handled} records handled, {published} of {total} published, then silence").into());
            }
            if !has_begun && published > 0 {
                has_begun = true;
                say(&format!("first {handled}"));
            }
            if !has_ended && published >= total {
                has_ended = true;
                say(&format!("done {published}"));
            }
            std::thread::sleep(Duration::from_millis(5)); // a wake-up costs some 20 µs
        }
        Ok(())
    }
}

/// Runs a worker's body; a failure ends the process, since a worker that is missing would look like slowness.
pub fn worker(
    name: &str,
    body: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Outcome<std::thread::JoinHandle<()>> {
    let label = name.to_owned();
    Ok(std::thread::Builder::new().name(name.into()).spawn(move || {
        if let Err(error) = body() {
            eprintln!("{label}: {error}");
            process::exit(1);
        }
    })?)
}
