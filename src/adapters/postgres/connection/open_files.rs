//! The number of files and connections that this process may have open. Looked up while one more can be opened: later it is
//! too late to ask.

use std::sync::OnceLock;

static FILES_MAX: OnceLock<Option<u64>> = OnceLock::new();

/// Looks the number up, once for the process.
pub(super) fn look() {
    FILES_MAX.get_or_init(|| limit(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()));
}

/// The soft limit in the text of `/proc/self/limits`.
fn limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether no more files can be opened, by this process or by the whole system.
pub(super) fn is_meant(error: &std::io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// What happened, and the way out.
pub(super) fn sentence() -> String {
    let count = FILES_MAX.get().copied().flatten();
    let count = count.map(|count| format!(" ({count}, RLIMIT_NOFILE)")).unwrap_or_default();
    format!(
        "this process may open no more files and connections than it has{count}: raise it with `ulimit -n` or LimitNOFILE of its \
         unit, or lower engine.workers"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_told_from_other_errors() {
        let found = [23, 24, 111].map(|code| is_meant(&std::io::Error::from_raw_os_error(code)));
        assert_eq!(found, [true, true, false]);
    }

    #[test]
    fn the_limit_is_read_from_the_line_of_open_files() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max processes             63431                63431                processes\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(limit(text), Some(1_024));
        assert_eq!(limit("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(limit(""), None);
    }
}
