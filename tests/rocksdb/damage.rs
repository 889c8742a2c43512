//! Flipped bytes and missing files: a store is whole, or empty, or says that it is damaged; it never holds a wrong value.

use crate::history::{last_whole, scramble, write};
use crate::{Folder, open, settings, store};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use tidegate::adapters::rocksdb::RocksStores;
use tidegate::ports::Fault;

/// Damages tried for each of the six kinds of files.
const SEEDS: u64 = 35;
/// Batches of each store: some 6 MiB each, three times the memtables, so that files of every kind have something.
const BATCHES: i64 = 1_500;
const STORES: [(&str, i32); 2] = [("a", 0), ("ab", 7)];

/// A sound database, written once and copied by the tests that run together; gone with the last of them.
fn sound() -> Arc<Folder> {
    static SOUND: Mutex<Weak<Folder>> = Mutex::new(Weak::new());
    let mut sound = SOUND.lock().unwrap();
    if let Some(folder) = sound.upgrade() {
        return folder;
    }
    let folder = Arc::new(Folder::new());
    let stores = open(&folder.state());
    let mut both = STORES.map(|(name, partition)| store(&stores, name, partition));
    for number in 1..=BATCHES {
        for one in &mut both {
            write(&mut **one, number).unwrap();
        }
    }
    *sound = Arc::downgrade(&folder);
    folder
}

fn copy(sound: &Folder) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.state()).unwrap();
    for file in files(&sound.state(), |_| true) {
        fs::copy(&file, folder.state().join(file.file_name().unwrap())).unwrap();
    }
    folder
}

/// The files whose name fits, in order.
fn files(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| fits(&path.file_name().unwrap().to_string_lossy())).collect();
    files.sort();
    files
}

#[derive(Debug, Default)]
struct Outcomes {
    whole: u32,
    older: u32,
    moved: u32,
    faults: u32,
}

impl Outcomes {
    const fn noticed(&self) -> u32 {
        self.older + self.moved + self.faults
    }

    /// Opens what was damaged, and panics at a value that was never written or does not fit the checkpoint.
    fn note(&mut self, folder: &Folder) {
        let stores = match RocksStores::open(&settings(&folder.state())) {
            Ok(stores) => stores,
            Err(fault) => {
                assert!(fault.to_string().contains(folder.state().to_str().unwrap()), "{fault}");
                self.faults += 1;
                return;
            }
        };
        let found: Result<Vec<i64>, Fault> =
            STORES.iter().map(|(name, partition)| last_whole(&*store(&stores, name, *partition))).collect();
        match found {
            Ok(found) if !folder.aside().is_empty() => {
                assert_eq!(found, [0, 0], "a new database is empty");
                self.moved += 1;
            }
            Ok(found) if found == [BATCHES, BATCHES] => self.whole += 1,
            Ok(_) => self.older += 1,
            Err(Fault::Fatal(cause)) => {
                self.faults += 1;
                let fault = Fault::Fatal(cause).to_string();
                assert!(fault.contains("damaged") && fault.contains("next start"), "{fault}");
                drop(stores);
                let next = open(&folder.state());
                assert_eq!(folder.aside().len(), 1, "the mark is heeded");
                assert_eq!(last_whole(&*store(&next, "a", 0)).unwrap(), 0);
            }
            Err(fault) => panic!("damage is a reason to end the process: {fault}"),
        }
    }
}

/// Flips up to four bytes of one file of the kind, [`SEEDS`] times.
fn flip(fits: impl Fn(&str) -> bool) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let sound = sound();
    for seed in 0..SEEDS {
        let folder = copy(&sound);
        let files = files(&folder.state(), &fits);
        assert!(!files.is_empty(), "there is no file of this kind");
        let file = &files[(scramble(seed) % files.len() as u64) as usize];
        let mut bytes = fs::read(file).unwrap();
        for flip in 0..=seed % 4 {
            let (place, what) = (scramble(seed << 8 | flip) % bytes.len() as u64, scramble(seed << 16 | flip) % 255);
            bytes[place as usize] ^= 1 + what as u8;
        }
        fs::write(file, bytes).unwrap();
        outcomes.note(&folder);
    }
    println!("{outcomes:?}");
    outcomes
}

/// Removes the files of the kind.
fn remove(fits: impl Fn(&str) -> bool) -> Outcomes {
    let folder = copy(&sound());
    let files = files(&folder.state(), fits);
    assert!(!files.is_empty(), "there is no file of this kind");
    for file in files {
        fs::remove_file(file).unwrap();
    }
    let mut outcomes = Outcomes::default();
    outcomes.note(&folder);
    outcomes
}

#[test]
fn an_undamaged_copy_is_whole() {
    let mut outcomes = Outcomes::default();
    outcomes.note(&copy(&sound()));
    assert_eq!(outcomes.whole, 1, "{outcomes:?}");
}

#[test]
fn flipped_bytes_in_sorted_files_are_noticed() {
    let outcomes = flip(|name| name.ends_with(".sst"));
    assert!(outcomes.noticed() > 0, "{outcomes:?}");
}

#[test]
fn flipped_bytes_in_the_manifest_are_noticed() {
    let outcomes = flip(|name| name.starts_with("MANIFEST"));
    assert!(outcomes.noticed() > 0, "{outcomes:?}");
}

#[test]
fn flipped_bytes_in_current_are_noticed() {
    let outcomes = flip(|name| name == "CURRENT");
    assert!(outcomes.moved > 0, "{outcomes:?}");
}

/// The log is read up to the damage: an older state, which fits its checkpoint.
#[test]
fn flipped_bytes_in_the_write_ahead_log_lose_its_tail() {
    let outcomes = flip(|name| name.ends_with(".log"));
    assert!(outcomes.older > 0, "{outcomes:?}");
}

#[test]
fn flipped_bytes_in_the_options_change_nothing() {
    let outcomes = flip(|name| name.starts_with("OPTIONS"));
    assert_eq!(outcomes.whole, SEEDS as u32, "{outcomes:?}");
}

#[test]
fn flipped_bytes_in_the_identity_change_no_value() {
    flip(|name| name == "IDENTITY");
}

#[test]
fn a_missing_file_is_noticed() {
    for kind in ["CURRENT", "MANIFEST", ".sst", ".log"] {
        let outcomes = remove(|name| name.starts_with(kind) || name.ends_with(kind));
        assert_eq!(outcomes.moved, 1, "without {kind}: {outcomes:?}");
    }
}

/// A tail that is cut off at any byte, as a power cut may leave it.
#[test]
fn a_write_ahead_log_that_ends_early_is_an_older_state() {
    let mut outcomes = Outcomes::default();
    let sound = sound();
    for seed in 0..SEEDS {
        let folder = copy(&sound);
        let log = files(&folder.state(), |name| name.ends_with(".log")).pop().unwrap();
        let length = fs::metadata(&log).unwrap().len();
        fs::File::options().write(true).open(&log).unwrap().set_len(scramble(seed) % length).unwrap();
        outcomes.note(&folder);
    }
    assert_eq!(outcomes.older, SEEDS as u32, "{outcomes:?}");
}

#[test]
fn writes_into_a_damaged_database_fail_for_good() {
    let folder = copy(&sound());
    for file in files(&folder.state(), |name| name.ends_with(".sst")) {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2; // opening reads the end and, for the format, the first block
        bytes[middle] ^= 0xff;
        fs::write(file, bytes).unwrap();
    }
    let stores = open(&folder.state());
    assert!(folder.aside().is_empty(), "the damage is not met yet");
    let mut first = store(&stores, "a", 0);
    let met = (BATCHES + 1..BATCHES * 4).find_map(|number| write(&mut *first, number).err());
    let fault = met.expect("compaction meets the damage").to_string();
    assert!(fault.contains("damaged") && fault.contains("next start"), "{fault}");
    drop((first, stores));
    assert_eq!(last_whole(&*store(&open(&folder.state()), "a", 0)).unwrap(), 0);
    assert_eq!(folder.aside().len(), 1);
}
