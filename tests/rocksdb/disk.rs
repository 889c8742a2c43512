//! A full disk: nothing is written by halves, and writes go on when there is room again.

use crate::history::{last_whole, write};
use crate::{Folder, open, settings, store};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tidegate::adapters::rocksdb::RocksStores;

/// A file system of its own, in memory. Unmounted at the end of the test.
struct Disk(PathBuf);

impl Disk {
    /// `None`, with a line that says so, where the environment says by `TIDEGATE_WITHOUT_MOUNT=1` that mounting is not
    /// allowed.
    fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        let path = folder.join("disk");
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={mebibytes}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        if !done.is_ok_and(|status| status.success()) {
            let is_left_out = std::env::var("TIDEGATE_WITHOUT_MOUNT").is_ok_and(|value| value == "1");
            assert!(
                is_left_out,
                "a full disk needs the right to mount one; TIDEGATE_WITHOUT_MOUNT=1 leaves these tests out"
            );
            println!("skipped: a full disk needs the right to mount one");
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_refuses_whole_batches_until_there_is_room() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(&folder.0, 24) else { return };
    let (state, ballast) = (disk.0.join("state"), disk.0.join("ballast"));
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let stores = open(&state);
    let mut first = store(&stores, "a", 0);
    let mut number = 0;
    let refused = loop {
        number += 1;
        match write(&mut *first, number) {
            Ok(()) => assert!(number < 100_000, "the disk never fills"),
            Err(fault) => break fault,
        }
    };
    println!("batch {number}: {refused}");
    assert!(refused.is_retry(), "{refused}");
    assert!(refused.to_string().contains("no space"), "{refused}");
    assert!(write(&mut *first, number).unwrap_err().is_retry(), "the same batch, while the disk is full");
    assert_eq!(
        last_whole(&*first).unwrap(),
        number - 1,
        "what was written can be read, the refused batch is not there"
    );

    std::fs::remove_file(&ballast).unwrap();
    let since = Instant::now();
    while let Err(fault) = write(&mut *first, number) {
        assert!(fault.is_retry(), "{fault}");
        assert!(since.elapsed() < Duration::from_secs(60), "no write for a minute: {fault}");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("writes went on after {:?}", since.elapsed());
    write(&mut *first, number + 1).unwrap();
    drop((first, stores));
    assert_eq!(last_whole(&*store(&open(&state), "a", 0)).unwrap(), number + 1);
    assert!(!disk.0.join("state.corrupt-1").exists(), "a full disk damages nothing");
}

#[test]
fn a_process_that_ends_on_a_full_disk_has_lost_nothing_when_there_is_room() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(&folder.0, 24) else { return };
    let (state, ballast) = (disk.0.join("state"), disk.0.join("ballast"));
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let mut number = 0;
    {
        let stores = open(&state);
        let mut first = store(&stores, "a", 0);
        while write(&mut *first, number + 1).is_ok() {
            number += 1;
        }
    }
    match RocksStores::open(&settings(&state)) {
        Ok(stores) => assert_eq!(last_whole(&*store(&stores, "a", 0)).unwrap(), number),
        Err(fault) => assert!(fault.is_retry() && fault.to_string().contains("no space"), "{fault}"),
    }
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(last_whole(&*store(&open(&state), "a", 0)).unwrap(), number);
    assert!(!disk.0.join("state.corrupt-1").exists(), "a full disk damages nothing");
}
