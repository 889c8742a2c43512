//! A file in memory, as whole words. The only file of this adapter with unsafe code.
#![expect(
    unsafe_code,
    reason = "a store into a mapped file costs no call of the system; the block says why it is sound"
)]

use memmap2::MmapRaw;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

/// The words of a file. A stored word is in the file even where the process is killed at once: the kernel has the page.
pub(super) struct Words {
    map: MmapRaw,
}

impl Words {
    /// Maps a file, whose blocks must be there: a store into one that the disk has no room for would end the process.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        Ok(Self { map: MmapRaw::map_raw(file)? })
    }

    /// One word; `None` behind the end.
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    pub(super) fn word(&self, number: usize) -> Option<&AtomicU64> {
        if number >= self.map.len() / size_of::<u64>() {
            return None;
        }
        // SAFETY: the word lies within the mapping, which is readable, writable, as long as the file, aligned to pages and
        // there as long as `self`. It is only ever accessed through atomics: no reference to its bytes is made elsewhere,
        // and other processes read the file once this one is dead.
        Some(unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(number)) })
    }
}
