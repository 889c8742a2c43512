//! Keyed state on a disk: one RocksDB database a process, which all stores and partitions share.
//!
//! The guarantee is that of the port: data and checkpoint of a store are written in one batch to one column family, so a
//! store is the changelog up to its checkpoint, whenever the process or the machine stops. The modes differ in the records
//! lost at the end, and the changelog gives those back:
//!
//! | what happens | [`WriteAhead::Unsynced`] (default) | [`WriteAhead::Synced`] | [`WriteAhead::Off`] |
//! |---|---|---|---|
//! | the process is killed | nothing | nothing | all since the last flush of a memtable |
//! | the power fails | what the system had not written yet, some 30 s | nothing | all since the last flush |
//!
//! A damaged file costs the whole database, since all stores share its files: it is moved aside, never deleted and never
//! repaired, and every store is made again from its changelog. Damage met while opening is dealt with on the spot; damage
//! met later leaves a mark for the next start and ends the process.
//!
//! It never decides what a store holds, never reads a changelog, and never removes a folder.

mod checkpoint;
mod failure;
mod folder;
mod keys;
mod options;
mod owner;
mod store;

pub use options::{RocksSettings, WriteAhead};
pub use store::RocksStores;
