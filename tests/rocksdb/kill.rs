//! A killed process loses no write that was acknowledged.

use crate::child::Process;
use crate::history::{last_whole, scramble};
use crate::{Folder, open, settings, store};
use std::fs;
use tidegate::adapters::rocksdb::RocksStores;

#[test]
fn what_was_acknowledged_survives_kill_9_with_its_checkpoint() {
    let folder = Folder::new();
    let mut said = 0;
    for round in 0..8 {
        let mut process = Process::start("writes_for_ever", &folder.state());
        for _ in 0..1 + scramble(round) % 700 {
            said = process.next().expect("the child writes");
        }
        said = process.kill().unwrap_or(said);
        let found = last_whole(&*store(&open(&folder.state()), "a", 0)).unwrap();
        assert!(found == said || found == said + 1, "round {round}: {said} was acknowledged, {found} is there");
        said = found;
    }
    assert!(folder.aside().is_empty(), "a killed process damages nothing");
}

/// Data and checkpoint are one batch of one column family, so they are lost together.
#[test]
fn without_a_write_ahead_log_kill_9_leaves_an_older_state_that_is_whole() {
    let folder = Folder::new();
    let (mut reached, mut found) = (0, 0);
    for round in 0..4 {
        let mut process = Process::start("writes_for_ever_unlogged", &folder.state());
        for _ in 0..2_000 + scramble(round) % 700 {
            reached = process.next().expect("the child writes");
        }
        process.kill();
        // Logged or not may change from start to start.
        let last = last_whole(&*store(&open(&folder.state()), "a", 0)).unwrap();
        assert!(last > found && last <= reached + 1, "round {round}: {found}, then {last} of {reached}");
        found = last;
    }
    assert!(folder.aside().is_empty(), "a killed process damages nothing");
}

/// A power cut keeps some files older than others; so does a copy of a database that is being written.
#[test]
fn a_copy_taken_at_any_moment_holds_no_wrong_value() {
    let folder = Folder::new();
    let mut process = Process::start("writes_for_ever", &folder.state());
    let (mut whole, mut refused) = (0, 0);
    for round in 0..30 {
        for _ in 0..1 + scramble(round) % 300 {
            process.next().expect("the child writes");
        }
        let copy = Folder::new();
        fs::create_dir(copy.state()).unwrap();
        let mut files: Vec<_> = fs::read_dir(folder.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|path| scramble(round << 32 | name_number(path)));
        for file in files {
            fs::copy(&file, copy.state().join(file.file_name().unwrap())).ok(); // it may be gone by now
        }
        match RocksStores::open(&settings(&copy.state())) {
            Ok(stores) if last_whole(&*store(&stores, "a", 0)).is_ok_and(|last| last > 0) => whole += 1,
            Ok(_) | Err(_) => refused += 1,
        }
    }
    println!("{whole} copies were usable, {refused} were not");
    assert!(whole > 0, "none of {refused} copies could be used, so none was looked at");
}

fn name_number(path: &std::path::Path) -> u64 {
    path.as_os_str().as_encoded_bytes().iter().fold(0, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte))
}
