//! Runs the suites with one mutant on, until one of them finds it.

use crate::tree::Programs;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tidegate::ports::Clock;
use tidegate::ports::clock::SystemClock;

/// The test targets that are built.
pub const TESTS: [&str; 5] = ["--lib", "--test=engine", "--test=conformance", "--test=draw", "--test=it"];

/// Longest time of a suite: a multiple of its time without a mutant, and at least the second number.
const PATIENCE: (u32, Duration) = (5, Duration::from_secs(40));

/// The suites run for a mutant, one after the other: the one that finds most in the least time comes first.
pub struct Suite {
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<&'static str>,
    /// Its time without a mutant.
    pub clean: Duration,
    /// The mutants whose places it comes to.
    pub reached: BTreeSet<u32>,
}

impl Suite {
    pub fn all(programs: &Programs) -> io::Result<Vec<Self>> {
        let suite = |name, program: &str, arguments: &[&'static str]| {
            let path =
                programs.get(program).cloned().ok_or_else(|| io::Error::other(format!("{program} is not built")));
            let (clean, reached) = (Duration::ZERO, BTreeSet::new());
            Ok::<_, io::Error>(Self { name, program: path?, arguments: arguments.to_vec(), clean, reached })
        };
        Ok(vec![
            suite("seeds 0 to 99", "seeds", &["until", "100"])?,
            suite("lib", "tidegate", &[])?,
            suite("engine", "engine", &[])?,
            suite("seeds 100 to 1,999", "seeds", &["until", "1900", "100"])?,
            suite("draw", "draw", &["--skip", "the_first_seeds_lead"])?,
            suite("conformance", "conformance", &[])?,
            // The first test distinguishes the editions; those of the demo fail on a busy machine.
            suite("it", "it", &["--skip", "exit_codes_tell_usage", "--skip", "demo::"])?,
        ])
    }
}

/// The end of a run of a suite.
pub enum End {
    Passed,
    /// With the line that says what failed.
    Failed(String),
    TimedOut,
}

/// Where a suite is run.
pub struct Bench<'a> {
    pub copy: &'a Path,
    /// The core that it is given.
    pub core: usize,
}

impl Bench<'_> {
    /// Runs a suite without a mutant, and notes what it reaches and how long it takes.
    pub fn measure(&self, suite: &mut Suite, folder: &Path) -> io::Result<()> {
        let path = folder.join("reached");
        drop(std::fs::remove_file(&path));
        let clock = SystemClock::default();
        let end = self.run(suite, ("TIDEGATE_MUTANTS_REACHED", &path.to_string_lossy()), Duration::from_secs(900))?;
        if !matches!(end, End::Passed) {
            let said = if let End::Failed(line) = end { line } else { String::new() };
            return Err(io::Error::other(format!("{} fails without any mutant: {said}", suite.name)));
        }
        suite.clean = clock.elapsed();
        let ids = std::fs::read_to_string(&path).unwrap_or_default();
        suite.reached = ids.lines().filter_map(|id| id.parse().ok()).collect();
        Ok(())
    }

    /// Suites that go by the real clock are run again when they fail: they have to fail twice.
    pub fn with_mutant(&self, suite: &Suite, id: u32) -> io::Result<End> {
        let id = id.to_string();
        let run = || self.run(suite, ("TIDEGATE_MUTANT", &id), PATIENCE.1.max(suite.clean * PATIENCE.0));
        match run()? {
            End::Failed(_) if ["conformance", "it"].contains(&suite.name) => run(),
            end => Ok(end),
        }
    }

    fn run(&self, suite: &Suite, (name, value): (&str, &str), patience: Duration) -> io::Result<End> {
        use std::os::unix::process::CommandExt;
        // A mutant may take memory for ever.
        let mut child = Command::new("prlimit")
            .args(["--as=12000000000", "taskset", "-c", &self.core.to_string(), "nice"])
            .arg(&suite.program)
            .args(&suite.arguments)
            .current_dir(self.copy)
            .env("CARGO_MANIFEST_DIR", self.copy)
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
            .env_remove("RUST_BACKTRACE")
            .env(name, value)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let lines = lines_of(&mut child);
        let end = watch(&mut child, &lines, patience);
        drop(Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status());
        child.wait()?;
        end
    }
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Waits until the program ends, says that a test failed, or has taken too long.
fn watch(child: &mut Child, lines: &Receiver<String>, patience: Duration) -> io::Result<End> {
    let clock = SystemClock::default();
    loop {
        match lines.recv_timeout(Duration::from_millis(500)) {
            Ok(line) if is_failure(&line) => return Ok(End::Failed(line)),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_none() => {}
            Err(_) => break, // a process that it started may hold its output open
        }
        if clock.elapsed() > patience {
            return Ok(End::TimedOut);
        }
    }
    while clock.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { End::Passed } else { End::Failed(format!("ends with {status}")) });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(End::TimedOut)
}

/// A line of the test harness or of `draw until`.
fn is_failure(line: &str) -> bool {
    (line.starts_with("test ") && line.ends_with("FAILED")) || line.starts_with("seed ")
}
