//! RocksDB where it hurts: damaged files, killed processes, two processes, a full disk, many partitions.
//!
//! Every test writes the same history, batch by batch, and knows what a store must hold at each checkpoint. So whatever
//! happened, one question is left: does the store hold exactly what its checkpoint says?
#![cfg(feature = "rocksdb")]
#![allow(clippy::disallowed_methods)]

mod child;
mod damage;
mod disk;
mod history;
mod kill;
mod memory;
mod owner;

use std::path::{Path, PathBuf};
use tidegate::adapters::rocksdb::{RocksSettings, RocksStores};
use tidegate::flow::record::Partition;
use tidegate::ports::store::{KeyedStore, StoreId, Stores};

/// A folder that is gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-rocksdb-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where the database lies.
    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Every database that was moved aside.
    fn aside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().contains(".corrupt-")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Little memory, so that a few MiB of history go through every kind of file.
fn settings(folder: &Path) -> RocksSettings {
    RocksSettings { memory_bytes: 8 << 20, ..RocksSettings::new(folder) }
}

fn open(folder: &Path) -> RocksStores {
    RocksStores::open(&settings(folder)).unwrap()
}

fn store(stores: &RocksStores, name: &str, partition: i32) -> Box<dyn KeyedStore> {
    stores.open(&StoreId { name: name.into(), partition: Partition(partition) }).unwrap()
}
