//! The flush: every proved value that the store lacks is written, and with the last of them the checkpoint.

use crate::engine::state::cache::WriteBack;
use crate::engine::state::cache::entry::{Entry, Touched};
use crate::engine::state::cache::value::Value;
use crate::engine::state::slots::Slots;
use crate::flow::record::NextOffset;
use crate::ports::Fault;
use crate::ports::store::{Checkpoint, Write};
use hashbrown::HashMap;

/// Bytes after which a flush goes on in another write: the store holds each write whole in memory beside the cache.
pub(super) const WRITE_BYTES: usize = 8 << 20;

impl WriteBack {
    /// Writes every proved value that the store lacks, and with the last of them the checkpoint. Values written before
    /// that lie beyond the checkpoint that the store has, and an owner that begins there reads them once more.
    ///
    /// # Errors
    /// The store cannot be written; it has then some of the values, or none.
    pub(crate) fn flush(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let Self { store, entries, open, in_flight, flushed, .. } = self;
        let unwritten = unwritten(entries, in_flight.iter().chain([&*open]), *flushed).into_iter();
        let mut writes: Vec<Write<'_>> =
            unwritten.filter_map(|(number, value)| Some((entries.key(number)?, value.kept()))).collect();
        writes.sort_unstable_by_key(|(key, _)| *key);
        let mut rest = &writes[..];
        while let Some((some, more)) = cut(rest) {
            let nothing = || Checkpoint { next_offset: NextOffset(0), inputs: Vec::new(), ..checkpoint.clone() };
            store.write(some, &store.checkpoint()?.unwrap_or_else(nothing))?;
            rest = more;
        }
        store.write(rest, checkpoint)?;
        self.flushed = self.batch - 1 - self.in_flight.len() as u64;
        self.is_dirty = false;
        if !std::mem::take(&mut self.is_ranged) {
            self.unflushed = None;
        }
        let (entries, flushed) = (&self.entries, self.flushed);
        if let Some(index) = &mut self.unflushed {
            index.retain(|_, number| entries.get(*number).is_some_and(|entry| entry.batch > flushed));
        }
        Ok(())
    }
}

/// Splits off as many writes as one write to the store may hold; `None` where none are left.
pub(super) fn cut<'a, 'b>(writes: &'a [Write<'b>]) -> Option<(&'a [Write<'b>], &'a [Write<'b>])> {
    let mut bytes = 0;
    let count = writes.iter().position(|(key, value)| {
        let is_full = bytes >= WRITE_BYTES;
        bytes += key.len() + value.map_or(0, <[u8]>::len);
        is_full
    })?;
    writes.split_at_checked(count)
}

/// The values that are proved, but were written after the batch `flushed`; `unproved`: the batches that are not proved,
/// oldest first.
fn unwritten<'a>(
    entries: &'a Slots<Entry>,
    unproved: impl DoubleEndedIterator<Item = &'a Vec<Touched>>,
    flushed: u64,
) -> HashMap<usize, &'a Value> {
    let written = entries.iter().filter(|(_, entry)| entry.batch > flushed);
    let mut unwritten: HashMap<usize, &Value> = written.map(|(number, entry)| (number, &entry.value)).collect();
    // The value before the first batch that is not proved decides, so it comes last.
    for touched in unproved.rev().flatten() {
        if touched.batch > flushed {
            unwritten.insert(touched.number, &touched.value);
        } else {
            unwritten.remove(&touched.number);
        }
    }
    unwritten
}
