//! The database of a process, and one partition of one store in it.

use super::checkpoint::{decode, encode};
use super::failure::{Failure, no_space};
use super::folder;
use super::keys::{FORMAT, FORMAT_KEY, Place};
use super::options::RocksSettings;
use super::owner::{Owner, taken};
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::store::{Checkpoint, KeyedStore, StoreId, StoreSize, Stores, Write};
use rocksdb::properties::ESTIMATE_NUM_KEYS;
use rocksdb::{Cache, DB, DBRawIterator, Error, Range, ReadOptions, WriteBatch};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "failpoints")]
use std::time::Duration;

/// Keys that are counted one by one before a size is estimated: less than a millisecond.
const COUNTED: u64 = 1_000;

/// The stores of one process, in one database. Clones share it; it is closed with the last of them and of its stores.
#[derive(Clone)]
pub struct RocksStores {
    shared: Arc<Shared>,
}

impl fmt::Debug for RocksStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStores").field("folder", &self.shared.settings.folder).finish_non_exhaustive()
    }
}

impl RocksStores {
    /// Opens the database, and makes it where it was never there. A damaged one is moved aside, with an error in the log,
    /// and an empty one takes its place. It takes as long as the write-ahead log needs to be read: below a second.
    ///
    /// # Errors
    /// - `Fatal`: another process uses the folder, or the folder cannot be used.
    /// - `Retry`: the disk is full.
    pub fn open(settings: &RocksSettings) -> Result<Self, Fault> {
        let folder = &settings.folder;
        folder::create_parent(folder)?;
        let owner = Owner::take(folder)?;
        folder::create(folder)?;
        let found = match folder::damage(folder)? {
            Some(why) => Err(Opening::Damaged(why)),
            None => open_database(settings),
        };
        let (db, cache) = match found {
            Ok(opened) => opened,
            Err(Opening::Fault(fault)) => return Err(fault),
            Err(Opening::Damaged(why)) => {
                folder::move_aside(folder, &why)?;
                folder::create(folder)?;
                open_database(settings).map_err(|again| again.into_fault(folder))?
            }
        };
        let shared = Shared { db, cache, open: Mutex::default(), settings: settings.clone(), _owner: owner };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Bytes that blocks, indexes, filters and memtables take; `memory_bytes` bounds it but for moments.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.shared.cache.get_usage() as u64 // memtables are charged to it
    }

    /// The folder of the database.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.shared.settings.folder.clone()
    }
}

impl Stores for RocksStores {
    fn open(&self, id: &StoreId) -> Result<Box<dyn KeyedStore>, Fault> {
        let place = Place::new(id)?;
        if !self.shared.open_ids().insert(id.clone()) {
            return Err(Fault::retry(format!("store {id}: is open elsewhere in this process")));
        }
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(RocksStore { shared, id: id.clone(), place, key: RefCell::default() }))
    }
}

// === Opening ===

/// Why the database could not be opened.
enum Opening {
    /// Its files cannot be used, for this reason.
    Damaged(String),
    Fault(Fault),
}

impl Opening {
    /// The fault of a database that was empty a moment ago.
    fn into_fault(self, folder: &Path) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Damaged(why) => {
                Fault::fatal(format!("state: an empty database cannot be made in {}: {why}", folder.display()))
            }
        }
    }
}

fn open_database(settings: &RocksSettings) -> Result<(DB, Cache), Opening> {
    let folder = &settings.folder;
    let failed = |error: Error| match Failure::of(&error) {
        Failure::Damaged | Failure::Foreign => Opening::Damaged(error.into_string()),
        Failure::Taken => Opening::Fault(taken(folder, "").because(error)),
        Failure::NoSpace => Opening::Fault(no_space(folder, error)),
        Failure::Refused | Failure::Passing => {
            let message = format!("state: the database in {} cannot be opened", folder.display());
            Opening::Fault(Fault::fatal(message).because(error))
        }
    };
    let cache = settings.cache();
    let options = settings
        .options(&cache)
        .map_err(|error| Opening::Fault(Fault::fatal("state: this RocksDB lacks an option").because(error)))?;
    let db = DB::open(&options, folder).map_err(failed)?;
    match db.get_pinned(FORMAT_KEY).map_err(failed)?.as_deref() {
        Some(&[FORMAT]) => {}
        Some(other) => return Err(Opening::Damaged(format!("its format is {other:?}, this release knows {FORMAT}"))),
        None => {
            let mut first = db.raw_iterator();
            first.seek_to_first();
            let is_empty = !first.valid();
            first.status().map_err(failed)?;
            if !is_empty {
                return Err(Opening::Damaged("it does not say in which format it is".into()));
            }
            drop(first);
            db.put_opt(FORMAT_KEY, [FORMAT], &settings.write_options()).map_err(failed)?;
        }
    }
    Ok((db, cache))
}

// === The database ===

struct Shared {
    // Closed first, while the folder is still ours.
    db: DB,
    cache: Cache,
    open: Mutex<HashSet<StoreId>>,
    settings: RocksSettings,
    _owner: Owner,
}

impl Shared {
    fn open_ids(&self) -> MutexGuard<'_, HashSet<StoreId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, id: &StoreId, batch: WriteBatch) -> Result<(), Fault> {
        failpoint!(K22, after Duration::ZERO);
        let written = self.db.write_opt(batch, &self.settings.write_options());
        failpoint!(K25, if self.is_in_background());
        written.map_err(|error| match Failure::of(&error) {
            // It takes no more writes once one has failed like this, and after a restart it does.
            Failure::Refused => {
                Fault::fatal(format!("store {id}: the disk refuses writes; the process has to be started again"))
                    .because(error)
            }
            _ => self.fault(id, error),
        })
    }

    /// Whether RocksDB flushes or compacts at this moment.
    #[cfg(feature = "failpoints")]
    fn is_in_background(&self) -> bool {
        use rocksdb::properties::{NUM_RUNNING_COMPACTIONS, NUM_RUNNING_FLUSHES};
        let running = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        running(NUM_RUNNING_FLUSHES) + running(NUM_RUNNING_COMPACTIONS) > 0
    }

    fn fault(&self, id: &StoreId, error: Error) -> Fault {
        match Failure::of(&error) {
            Failure::Damaged => self.damaged(id, error),
            Failure::NoSpace => no_space(&self.settings.folder, error),
            Failure::Foreign => Fault::fatal(format!("store {id}: RocksDB does not take a request")).because(error),
            Failure::Taken | Failure::Refused | Failure::Passing => {
                Fault::retry(format!("store {id}: the disk did not answer")).because(error)
            }
        }
    }

    /// Every store shares the files, so none can be trusted: the process has to end, and the next one begins again.
    fn damaged(&self, id: &StoreId, error: Error) -> Fault {
        let folder = &self.settings.folder;
        let next = match folder::mark(folder, error.as_ref()) {
            Ok(()) => "the next start moves it aside and makes every store again from its changelog".to_owned(),
            Err(by_hand) => by_hand,
        };
        Fault::fatal(format!("store {id}: the database in {} is damaged; {next}", folder.display())).because(error)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // An orderly end leaves nothing to a power cut. A failure here loses only data that a power cut would take.
        self.db.flush_wal(true).ok();
    }
}

// === One partition of one store ===

struct RocksStore {
    shared: Arc<Shared>,
    id: StoreId,
    place: Place,
    /// The key being looked up, to spare an allocation each time.
    key: RefCell<Vec<u8>>,
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.shared.open_ids().remove(&self.id);
    }
}

impl RocksStore {
    fn fault(&self, error: Error) -> Fault {
        self.shared.fault(&self.id, error)
    }

    /// A cursor over the values from `from` on, before `to`, each with its whole key.
    fn cursor(&self, from: &[u8], to: Option<&[u8]>) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        let from = self.place.value(from);
        options.set_iterate_upper_bound(to.map_or_else(|| self.place.end(), |to| self.place.value(to)));
        let mut cursor = self.shared.db.raw_iterator_opt(options);
        cursor.seek(&from);
        cursor
    }

    /// Counts the first [`COUNTED`] keys and their bytes; true when these are all.
    fn count(&self) -> Result<(StoreSize, bool), Fault> {
        let mut size = StoreSize::default();
        self.scan(&[], None, &mut |key, value| {
            size.keys += 1;
            size.bytes += (key.len() + value.len()) as u64;
            size.keys < COUNTED
        })?;
        Ok((size, size.keys < COUNTED))
    }

    /// The store's share of all keys: by its share of the files, or of the open stores while there are no files.
    fn share_of(&self, keys: u64) -> u64 {
        let (first, end) = (self.place.checkpoint(), self.place.end());
        let ranges = [Range::new(&first, &end), Range::new(&[], &[0xff; 8])];
        match self.shared.db.get_approximate_sizes(&ranges).as_slice() {
            [own, all] if *all > 0 => {
                let share = u128::from(keys) * u128::from(*own.min(all)) / u128::from(*all);
                u64::try_from(share).unwrap_or(keys)
            }
            _ => keys / (self.shared.open_ids().len() as u64).max(1),
        }
    }
}

impl KeyedStore for RocksStore {
    fn get(&self, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Fault> {
        let mut whole = self.key.take();
        self.place.value_into(key, &mut whole);
        let found = self.shared.db.get_pinned(&whole);
        self.key.replace(whole);
        visit(found.map_err(|error| self.fault(error))?.as_deref());
        Ok(())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let mut cursor = self.cursor(from, to);
        while let Some((whole, value)) = cursor.item() {
            let Some(key) = self.place.user_key(whole) else {
                return Err(Fault::corrupt(format!("store {}: a key of another store lies in it", self.id)));
            };
            if !visit(key, value) {
                return Ok(());
            }
            cursor.next();
        }
        cursor.status().map_err(|error| self.fault(error))
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, Fault> {
        let found = self.shared.db.get_pinned(self.place.checkpoint()).map_err(|error| self.fault(error))?;
        let decoded = found.map(|bytes| decode(&bytes)).transpose();
        decoded.map_err(|why| Fault::corrupt(format!("store {}: {why}", self.id)))
    }

    fn write(&mut self, writes: &[Write<'_>], checkpoint: &Checkpoint) -> Result<(), Fault> {
        let encoded = encode(checkpoint).map_err(|why| Fault::fatal(format!("store {}: {why}", self.id)))?;
        let mut batch = WriteBatch::default();
        let whole = self.key.get_mut();
        for (key, value) in writes {
            self.place.value_into(key, whole);
            match value {
                Some(value) => batch.put(&whole, value),
                None => batch.delete(&whole),
            }
        }
        batch.put(self.place.checkpoint(), encoded);
        self.shared.write(&self.id, batch)
    }

    /// Frees the disk when the files are next compacted.
    fn clear(&mut self) -> Result<(), Fault> {
        let mut batch = WriteBatch::default();
        batch.delete_range(self.place.checkpoint(), self.place.end());
        self.shared.write(&self.id, batch)
    }

    fn size(&self) -> Result<StoreSize, Fault> {
        let (counted, is_all) = self.count()?;
        if is_all {
            return Ok(counted);
        }
        let all = self.shared.db.property_int_value(ESTIMATE_NUM_KEYS).map_err(|error| self.fault(error))?;
        let keys = self.share_of(all.unwrap_or(0)).max(counted.keys);
        let bytes = u128::from(counted.bytes) * u128::from(keys) / u128::from(counted.keys.max(1));
        Ok(StoreSize { keys, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;
    use rocksdb::Options;

    struct Scene(PathBuf);

    impl Scene {
        /// A folder with a database that `fill` has filled.
        fn new(fill: impl FnOnce(&mut DB)) -> Self {
            let scene = Self(std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4().simple())));
            std::fs::create_dir_all(&scene.0).unwrap();
            let mut options = Options::default();
            options.create_if_missing(true);
            fill(&mut DB::open(&options, scene.settings().folder).unwrap());
            scene
        }

        fn settings(&self) -> RocksSettings {
            RocksSettings::new(&self.0.join("state"))
        }

        fn was_moved(&self) -> bool {
            RocksStores::open(&self.settings()).unwrap();
            self.0.join("state.corrupt-1").exists()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_database_of_another_format_is_moved_aside() {
        assert!(!Scene::new(|_| {}).was_moved(), "an empty one is made ours");
        assert!(!Scene::new(|db| db.put(FORMAT_KEY, [FORMAT]).unwrap()).was_moved());
        assert!(Scene::new(|db| db.put(FORMAT_KEY, [FORMAT + 1]).unwrap()).was_moved());
        assert!(Scene::new(|db| db.put(b"somebody's", b"data").unwrap()).was_moved());
        assert!(Scene::new(|db| db.create_cf("more", &Options::default()).unwrap()).was_moved());
    }

    #[test]
    fn a_checkpoint_of_another_version_is_corrupt() {
        let scene = Scene::new(|_| {});
        let stores = RocksStores::open(&scene.settings()).unwrap();
        let id = StoreId { name: "a".into(), partition: Partition(3) };
        let store = stores.open(&id).unwrap();
        stores.shared.db.put(Place::new(&id).unwrap().checkpoint(), [2, 0, 0]).unwrap();
        let fault = store.checkpoint().unwrap_err();
        assert!(matches!(fault, Fault::Corrupt(_)), "{fault}");
        assert!(fault.to_string().contains("a-3") && fault.to_string().contains("version 2"), "{fault}");
    }
}
