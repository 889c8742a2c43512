//! The meaning of an error of RocksDB. It comes as text: the kind first, the system's words within.

use crate::ports::Fault;
use rocksdb::{Error, ErrorKind};
use std::path::Path;

/// An error, named by its meaning for the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// The files differ from the data that were written.
    Damaged,
    /// It is not ours: another format, another comparator, column families that we never made.
    Foreign,
    /// The disk is full.
    NoSpace,
    /// Another database object holds the folder.
    Taken,
    /// The system refused something; the files may be sound.
    Refused,
    /// It may go better the next time.
    Passing,
}

/// The system's words for a full disk, or for its owner's full share of it.
const NO_SPACE: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
/// The words of errors that say nothing about the files.
const REFUSED: [&str; 7] = [
    "Permission denied",
    "Operation not permitted",
    "Read-only file system",
    "Too many open files",
    "Input/output error",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
];

impl Failure {
    /// Sorts an error.
    pub(super) fn of(error: &Error) -> Self {
        Self::of_text(&error.kind(), error.as_ref())
    }

    fn of_text(kind: &ErrorKind, text: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match kind {
            ErrorKind::IOError if says(&NO_SPACE) => Self::NoSpace,
            ErrorKind::IOError if says(&["lock hold by current process", "While lock file"]) => Self::Taken,
            ErrorKind::IOError if says(&REFUSED) => Self::Refused,
            // Any other `IOError` means a file that is missing, or is not what it was.
            ErrorKind::IOError | ErrorKind::Corruption => Self::Damaged,
            ErrorKind::InvalidArgument | ErrorKind::NotSupported => Self::Foreign,
            _ => Self::Passing,
        }
    }
}

/// The fault of a full disk. RocksDB looks every 5 s whether there is room again, and then takes writes.
pub(super) fn no_space(folder: &Path, error: Error) -> Fault {
    Fault::retry(format!(
        "state: no space left for {}: nothing was written; make room, and writes go on after some seconds \
         (restart the process if they do not)",
        folder.display()
    ))
    .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of RocksDB 11.8.1.
    #[test]
    fn errors_are_sorted_by_their_words() {
        let cases = [
            (
                ErrorKind::IOError,
                "IO error: No space left on device: While appending to file: s/000009.log: No space left on device",
                Failure::NoSpace,
            ),
            (ErrorKind::IOError, "IO error: While lock file: s/LOCK: Resource temporarily unavailable", Failure::Taken),
            (
                ErrorKind::IOError,
                "IO error: lock hold by current process, acquire time 1 acquiring thread 2: s/LOCK: No locks available",
                Failure::Taken,
            ),
            (
                ErrorKind::IOError,
                "IO error: Permission denied: While open a file for appending: s/LOG: Permission denied",
                Failure::Refused,
            ),
            (
                ErrorKind::IOError,
                "IO error: No such file or directory: While open a file for random read: s/000008.sst: No such file or directory",
                Failure::Damaged,
            ),
            (ErrorKind::Corruption, "Corruption: block checksum mismatch: stored = 1, computed = 2", Failure::Damaged),
            (ErrorKind::InvalidArgument, "Invalid argument: Column families not opened: x", Failure::Foreign),
            (ErrorKind::TryAgain, "Operation failed. Try again.", Failure::Passing),
        ];
        for (kind, text, wanted) in cases {
            assert_eq!(Failure::of_text(&kind, text), wanted, "{text}");
        }
    }
}
