//! The owner of a folder, known by a locked file beside it.
//!
//! RocksDB locks the folder too, but from within; a process that moves a damaged folder aside has to be its only user
//! before. The lock is the file descriptor's, so it goes with the process however that ends.

use crate::ports::Fault;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Held as long as the folder is used.
#[derive(Debug)]
pub(super) struct Owner {
    _file: File,
}

impl Owner {
    /// Takes the folder, whose parent exists.
    ///
    /// # Errors
    /// `Fatal` when it is taken, or when the file cannot be written.
    pub(super) fn take(folder: &Path) -> Result<Self, Fault> {
        let path = path_of(folder);
        let failed = |error| Fault::fatal(format!("state: cannot use {}", path.display())).because(error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut who = String::new();
                file.read_to_string(&mut who).ok();
                return Err(taken(folder, &who));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for the sentence above: a full disk, which truncates and cannot write, does no harm.
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        write!(file, "{}", this_process()).ok();
        Ok(Self { _file: file })
    }
}

/// The folder is used by somebody else; `who` as far as known.
pub(super) fn taken(folder: &Path, who: &str) -> Fault {
    let who = if who.is_empty() { "another process" } else { who };
    Fault::fatal(format!(
        "state: the folder {} is in use by {who}: end that one first, or give each process a state.dir of its own",
        folder.display()
    ))
}

fn path_of(folder: &Path) -> PathBuf {
    super::folder::beside(folder, ".owner")
}

fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => format!("process {}", std::process::id()),
        host => format!("process {} on {host}", std::process::id()),
    }
}
