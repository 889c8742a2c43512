//! The limit of this process's file descriptors, and what workers need of them.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most descriptors that a worker was seen to have open, on a cluster of three brokers: a connection to each for every
/// client, what each client wakes its threads with, and one to the database.
const PER_WORKER: u64 = 21;
/// Descriptors of the rest: the clients of the group and of the watch, the page, the log, the stores' files.
const REST: u64 = 100;
/// `EMFILE` of Linux.
const NO_MORE: i32 = 24;

/// The soft limit (`RLIMIT_NOFILE`); `None` where there is none, or the system does not tell.
fn limit() -> Option<u64> {
    of_limits(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

/// `Max open files            1024                 524288               files`
fn of_limits(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// A client has gone without a connection for want of a descriptor: by the time that one asks why, its end has set others free.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// Hears what the library says of a connection that it cannot make.
pub(super) fn hear(line: &str) {
    if is_want(line) {
        HAS_FAILED.store(true, Ordering::Relaxed);
    }
}

/// `Failed to create socket: Too many open files`, in the words of the C library.
fn is_want(line: &str) -> bool {
    line.contains("Too many open files")
}

/// The limit, where no descriptor is left below it, or was not for a client before.
pub(super) fn reached() -> Option<u64> {
    let is_refused = || File::open("/dev/null").is_err_and(|error| error.raw_os_error() == Some(NO_MORE));
    (HAS_FAILED.load(Ordering::Relaxed) || is_refused()).then(|| limit().unwrap_or(0))
}

/// A sentence where so many workers may need more descriptors than the process has.
#[must_use]
pub fn too_few_descriptors(workers: usize) -> Option<String> {
    warning(workers, limit()?)
}

fn warning(workers: usize, limit: u64) -> Option<String> {
    let needed = PER_WORKER.saturating_mul(u64::try_from(workers).unwrap_or(u64::MAX)).saturating_add(REST);
    (needed > limit).then(|| {
        format!(
            "engine.workers is {workers}, for which about {needed} open files are needed, and this process may have {limit}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_need_more_than_the_limit_are_told_with_both_numbers() {
        assert_eq!(warning(4, 1024), None);
        let told = warning(64, 1024).unwrap();
        assert!(
            told.contains("engine.workers is 64") && told.contains("about 1444") && told.contains("may have 1024"),
            "{told}"
        );
    }

    #[test]
    fn the_limit_is_the_soft_one() {
        let text = "Limit      Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(of_limits(text), Some(1024));
        assert_eq!(of_limits("Max open files  unlimited  unlimited  files"), None);
        assert!(limit().is_some_and(|limit| limit > 0));
        assert_eq!(reached(), None);
        assert!(is_want(
            "[thrd:a]: a/bootstrap: Failed to create socket: Too many open files (after 0ms in state CONNECT)"
        ));
    }
}
