//! A note in memory: it outlives an instance that dies, as a mapped file does, and goes with its disk.

use super::stores::MemoryStores;
use crate::ports::note::{InHand, Mark, Note, Suspect, blame};
use std::sync::Arc;

impl MemoryStores {
    /// Takes over the records that the instance before this one had in hand when it died, and begins an empty note.
    #[must_use]
    pub fn note(&self) -> Arc<dyn Note> {
        let notes = &mut self.lock().notes;
        for at in std::mem::take(&mut notes.in_hand).into_values() {
            blame(&mut notes.suspects, at, 1);
        }
        Arc::new(self.clone())
    }
}

impl Note for MemoryStores {
    fn suspects(&self) -> Vec<Suspect> {
        self.lock().notes.suspects.clone()
    }

    fn mark(&self, worker: usize) -> Box<dyn Mark> {
        Box::new(MemoryMark { stores: self.clone(), worker })
    }

    fn forget(&self, at: InHand) {
        self.lock().notes.suspects.retain(|suspect| suspect.at != at);
    }

    fn end(&self) {
        self.lock().notes.in_hand.clear();
    }
}

struct MemoryMark {
    stores: MemoryStores,
    worker: usize,
}

impl Mark for MemoryMark {
    fn take_up(&self, at: InHand) {
        self.stores.lock().notes.in_hand.insert(self.worker, at);
    }

    fn put_down(&self) {
        self.stores.lock().notes.in_hand.remove(&self.worker);
    }
}
