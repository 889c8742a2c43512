//! A small file system of its own, in memory, to be filled up.

use super::say;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Unmounted when dropped: processes that use it must be gone by then.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounted at `folder`, which is made. `None`, with a line that says so, where the environment says by
    /// `TIDEGATE_WITHOUT_MOUNT=1` that mounting is not allowed.
    pub fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let size = format!("size={mebibytes}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(folder.into()));
        }
        let is_left_out = std::env::var("TIDEGATE_WITHOUT_MOUNT").is_ok_and(|value| value == "1");
        assert!(
            is_left_out,
            "a full disk needs the right to mount one; TIDEGATE_WITHOUT_MOUNT=1 leaves these tests out"
        );
        say("SKIPPED: a full disk needs the right to mount one");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        for bytes in [1 << 20, 4096] {
            while file.write_all(&vec![1; bytes]).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        if !done.is_ok_and(|status| status.success()) {
            say(&format!("{} is still mounted", self.0.display()));
        }
    }
}
