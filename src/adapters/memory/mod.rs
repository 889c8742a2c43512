//! The ports in memory: a model, and it says so.
//!
//! [`MemoryLog`] models the features of Kafka that Tidegate relies on: partitions with murmur2, transactions with fencing,
//! the last stable offset, markers that take offsets, groups with cooperative moves, sessions, stable committed offsets.
//! [`MemoryDatabase`] models rows, positions and outbox with row locks and one commit. Both run in one thread without an
//! async runtime: with a wait of zero nothing blocks, and time is a [`ManualClock`] where a test wants it.
//!
//! A model cannot show isolation and fencing of the real servers, silent retries of a client and late frames
//! (docs/protocol.md#the-late-request), replication, durability, speed. The conformance suite (`tests/conformance`) runs the
//! same sentences over the model and over Apache Kafka, Postgres and `SQLite`, and keeps it honest where they overlap.

mod assignment;
pub mod changelog;
pub mod clock;
pub mod database;
pub mod faults;
mod group;
pub mod history;
pub mod log;
mod members;
mod note;
mod partition;
mod producing;
pub mod repair;
pub mod rows;
pub mod schema;
pub mod sink;
pub mod source;
mod state;
pub mod stores;
mod tables;
mod topics;
mod transactions;

pub use changelog::MemoryChangelog;
pub use clock::ManualClock;
pub use database::{MemoryDatabase, Snapshot};
pub use faults::SinkFault;
pub use history::{MemoryHistory, MemoryRowHistory};
pub use log::MemoryLog;
pub use repair::{MemoryOffsets, MemoryPositions};
pub use rows::MemoryRows;
pub use schema::MemorySchema;
pub use sink::MemorySink;
pub use source::{MemoryGroup, MemorySource};
pub use state::{LogSettings, TopicIds};
pub use stores::MemoryStores;
