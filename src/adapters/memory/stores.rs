//! Stores in memory: written data are there for the next owner that opens the store, as on a disk.

use crate::ports::fault::Fault;
use crate::ports::note::{InHand, Suspect};
use crate::ports::store::{Checkpoint, KeyedStore, StoreId, StoreSize, Stores, Write};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Contents {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    checkpoint: Option<Checkpoint>,
    is_garbled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    stores: HashMap<StoreId, Contents>,
    open: HashSet<StoreId>,
    pub(super) notes: Notes,
    is_full: bool,
    is_unreadable: bool,
    reads: u64,
}

/// Which records are in hand, noted on the disk beside the stores.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) suspects: Vec<Suspect>,
    pub(super) in_hand: BTreeMap<usize, InHand>, // by worker
}

/// The stores of one process. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryStores {
    disk: Arc<Mutex<Disk>>,
}

impl fmt::Debug for MemoryStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStores").finish_non_exhaustive()
    }
}

impl MemoryStores {
    pub(super) fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that a store holds, in key order.
    #[must_use]
    pub fn contents(&self, id: &StoreId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let disk = self.lock();
        let entries = disk.stores.get(id).into_iter().flat_map(|contents| &contents.entries);
        entries.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Deletes everything, as a lost volume does.
    pub fn lose(&self) {
        let mut disk = self.lock();
        disk.stores.clear();
        disk.notes = Notes::default();
    }

    /// Refuses writes, as a full disk does, until a call with `false`.
    pub fn fill(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// Refuses reads, as a failing disk does, until a call with `false`.
    pub fn block(&self, is_unreadable: bool) {
        self.lock().is_unreadable = is_unreadable;
    }

    /// Makes a store's checkpoint one that cannot be understood, as a later release's is.
    pub fn garble_checkpoint(&self, id: &StoreId) {
        if let Some(contents) = self.lock().stores.get_mut(id) {
            contents.is_garbled = true;
        }
    }

    /// The number of times that a value was asked for.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// The checkpoint of a store.
    #[must_use]
    pub fn checkpoint(&self, id: &StoreId) -> Option<Checkpoint> {
        self.lock().stores.get(id).and_then(|contents| contents.checkpoint.clone())
    }

    /// Puts a value where it lies, behind everybody's back.
    pub fn corrupt(&self, id: &StoreId, key: &[u8], value: &[u8]) {
        if let Some(contents) = self.lock().stores.get_mut(id) {
            contents.entries.insert(key.to_vec(), value.to_vec());
        }
    }
}

impl Stores for MemoryStores {
    fn open(&self, id: &StoreId) -> Result<Box<dyn KeyedStore>, Fault> {
        if !self.lock().open.insert(id.clone()) {
            return Err(Fault::retry(format!("store {id}: is open elsewhere in this process")));
        }
        Ok(Box::new(MemoryStore { stores: self.clone(), id: id.clone() }))
    }
}

struct MemoryStore {
    stores: MemoryStores,
    id: StoreId,
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.stores.lock().open.remove(&self.id);
    }
}

impl MemoryStore {
    /// The disk, where it can be read.
    fn read(&self) -> Result<MutexGuard<'_, Disk>, Fault> {
        let disk = self.stores.lock();
        if disk.is_unreadable {
            return Err(Fault::retry(format!("store {}: input/output error", self.id)));
        }
        Ok(disk)
    }
}

impl KeyedStore for MemoryStore {
    fn get(&self, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Fault> {
        let mut disk = self.read()?;
        disk.reads += 1;
        visit(disk.stores.get(&self.id).and_then(|contents| contents.entries.get(key)).map(Vec::as_slice));
        Ok(())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        let disk = self.read()?;
        let Some(contents) = disk.stores.get(&self.id) else { return Ok(()) };
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in contents.entries.range::<[u8], _>((Bound::Included(from), end)) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, Fault> {
        let disk = self.stores.lock();
        let Some(contents) = disk.stores.get(&self.id) else { return Ok(None) };
        if contents.is_garbled {
            return Err(Fault::corrupt(format!("store {}: its checkpoint is of a later release", self.id)));
        }
        Ok(contents.checkpoint.clone())
    }

    fn write(&mut self, writes: &[Write<'_>], checkpoint: &Checkpoint) -> Result<(), Fault> {
        let mut disk = self.stores.lock();
        if disk.is_full {
            return Err(Fault::retry(format!("store {}: no space left on the device", self.id)));
        }
        let contents = disk.stores.entry(self.id.clone()).or_default();
        for (key, value) in writes {
            match value {
                Some(value) => contents.entries.insert(key.to_vec(), value.to_vec()),
                None => contents.entries.remove(*key),
            };
        }
        contents.checkpoint = Some(checkpoint.clone());
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Fault> {
        self.stores.lock().stores.remove(&self.id);
        Ok(())
    }

    fn size(&self) -> Result<StoreSize, Fault> {
        let disk = self.stores.lock();
        let Some(contents) = disk.stores.get(&self.id) else { return Ok(StoreSize::default()) };
        let bytes = contents.entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        Ok(StoreSize { keys: contents.entries.len() as u64, bytes: bytes as u64 })
    }
}
