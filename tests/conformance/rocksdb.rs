//! RocksDB under the suite of stores.

use crate::store::StoreBench;
use crate::suite::store_suite;
use crate::unique;
use std::path::PathBuf;
use std::sync::Arc;
use tidegate::adapters::rocksdb::{RocksSettings, RocksStores, WriteAhead};
use tidegate::ports::store::Stores;

store_suite!(rocksdb_stores, Some(super::Bench::new(super::WriteAhead::Unsynced)));
store_suite!(rocksdb_stores_synced, Some(super::Bench::new(super::WriteAhead::Synced)));
store_suite!(rocksdb_stores_without_write_ahead, Some(super::Bench::new(super::WriteAhead::Off)));

/// A folder that is gone at the end of the test.
struct Bench {
    folder: PathBuf,
    write_ahead: WriteAhead,
}

impl Bench {
    fn new(write_ahead: WriteAhead) -> Self {
        Self { folder: std::env::temp_dir().join(unique("tidegate-rocksdb")), write_ahead }
    }
}

impl StoreBench for Bench {
    fn start(&self) -> Arc<dyn Stores> {
        let settings =
            RocksSettings { write_ahead: self.write_ahead, ..RocksSettings::new(&self.folder.join("state")) };
        Arc::new(RocksStores::open(&settings).unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
