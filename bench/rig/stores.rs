//! One job: the stores that a system under test keeps its state in.

use crate::Outcome;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use tidegate::adapters::memory::MemoryStores;
use tidegate::ports::store::Stores;

/// Where keyed state lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum StoreKind {
    /// In the process, gone with it
    Memory,
    /// On the disk; needs the feature rocksdb
    Rocksdb,
}

impl StoreKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Rocksdb => "rocksdb",
        }
    }

    /// Whether what was written is there after a kill.
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::Rocksdb)
    }

    /// Opens the stores of one process.
    pub fn open(self, folder: &Path) -> Outcome<Arc<dyn Stores>> {
        match self {
            Self::Memory => Ok(Arc::new(MemoryStores::default())),
            Self::Rocksdb => on_disk(folder),
        }
    }
}

#[cfg(feature = "rocksdb")]
fn on_disk(folder: &Path) -> Outcome<Arc<dyn Stores>> {
    use tidegate::adapters::rocksdb::{RocksSettings, RocksStores};
    Ok(Arc::new(RocksStores::open(&RocksSettings::new(folder))?))
}

#[cfg(not(feature = "rocksdb"))]
fn on_disk(_: &Path) -> Outcome<Arc<dyn Stores>> {
    Err("stores on disk need the feature rocksdb: make bench FEATURES=rocksdb".into())
}
