//! Another process: this binary again, which runs one of the tests below and nothing else.

use crate::history;
use crate::{open, settings, store};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tidegate::adapters::rocksdb::{RocksSettings, RocksStores, WriteAhead};
use tidegate::ports::store::KeyedStore;

const FOLDER: &str = "TIDEGATE_TEST_FOLDER";

/// A running child. Killed at the end of the test.
pub struct Process {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the child that `role` names, on `folder`.
    pub fn start(role: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("child::{role}"), "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next number that the child says; `None` when it is gone.
    pub fn next(&mut self) -> Option<i64> {
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The test harness writes lines of its own, and its first may stand before ours without an end.
            if let Some((_, number)) = line.split_once("says ")
                && line.ends_with('\n')
            {
                return Some(number.trim().parse().unwrap());
            }
        }
    }

    /// Ends it on the spot, as `kill -9` does. Answers the last number it said.
    pub fn kill(mut self) -> Option<i64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next()).last()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn say(number: i64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "says {number}").unwrap();
    out.flush().unwrap();
}

/// `None` when nobody started this as a child.
fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

// === Roles ===

/// Writes the history from where it ends, saying each batch once it is written, until killed.
#[test]
#[ignore = "a child of other tests"]
fn writes_for_ever() {
    let Some(folder) = folder() else { return };
    write_on(&open(&folder));
}

/// The same without a write-ahead log.
#[test]
#[ignore = "a child of other tests"]
fn writes_for_ever_unlogged() {
    let Some(folder) = folder() else { return };
    let settings = RocksSettings { write_ahead: WriteAhead::Off, ..settings(&folder) };
    write_on(&RocksStores::open(&settings).unwrap());
}

fn write_on(stores: &RocksStores) {
    let mut store = store(stores, "a", 0);
    let last = store.checkpoint().unwrap().map_or(0, |checkpoint| checkpoint.next_offset.0);
    for number in last + 1.. {
        history::write(&mut *store, number).unwrap();
        say(number);
    }
}

/// Opens the folder and holds it until killed.
#[test]
#[ignore = "a child of other tests"]
fn holds() {
    let Some(folder) = folder() else { return };
    let _stores = open(&folder);
    say(1);
    std::thread::park();
}

/// Says its memory in KiB: with one partition that was written to until the budget is used up, and with a thousand more.
#[test]
#[ignore = "a child of other tests"]
fn measures() {
    let Some(folder) = folder() else { return };
    let stores = open(&folder);
    let mut first = store(&stores, "a", 0);
    for number in 1..=4_000 {
        history::write(&mut *first, number).unwrap();
    }
    history::last_whole(&*first).unwrap();
    say(resident_kib());
    let mut others: Vec<Box<dyn KeyedStore>> = (1..=1_000).map(|partition| store(&stores, "a", partition)).collect();
    for number in 1..=4 {
        for other in &mut others {
            history::write(&mut **other, number).unwrap();
        }
    }
    for other in &others {
        assert_eq!(history::last_whole(&**other).unwrap(), 4);
    }
    say(resident_kib());
    say(stores.memory_bytes().try_into().unwrap());
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
