//! The sweep: frees the memory of entries that the store has too.

use crate::engine::state::cache::WriteBack;
use crate::engine::state::cache::entry::{ENTRY_BYTES, Entry, Undo};
use std::collections::BTreeMap;

impl WriteBack {
    /// Whether enough was added since the last sweep for another one.
    pub(crate) const fn is_over(&self, bytes_max: usize) -> bool {
        self.bytes > bytes_max && self.bytes > self.swept + bytes_max / 4
    }

    /// Frees memory until at most `bytes_max` are taken, as far as entries are in the store: first those not used since
    /// the last sweep.
    pub(crate) fn sweep(&mut self, bytes_max: usize) {
        for _ in 0..2 {
            if self.bytes <= bytes_max {
                break;
            }
            let (mut freed, flushed) = (0, self.flushed);
            let keep = |key: &[u8], entry: &mut Entry| {
                let is_kept = entry.is_used || entry.batch > flushed;
                entry.is_used = false;
                if !is_kept {
                    freed += ENTRY_BYTES + key.len() + entry.value.bytes();
                }
                is_kept
            };
            self.entries.retain(keep, Entry::empty);
            self.bytes = self.bytes.saturating_sub(freed);
        }
        self.swept = self.bytes;
        let Some(moved) = self.entries.shrink(Entry::empty) else { return };
        let follow = |number: &mut usize| *number = moved.get(*number).copied().unwrap_or(usize::MAX);
        let touched = self.in_flight.iter_mut().flatten().chain(&mut self.open);
        touched.for_each(|touched| follow(&mut touched.number));
        let undone = self.record.iter_mut().filter_map(|undo| match undo {
            Undo::First => None,
            Undo::Again(number, _) => Some(number),
        });
        undone.for_each(follow);
        self.unflushed.iter_mut().flat_map(BTreeMap::values_mut).for_each(follow);
    }
}
