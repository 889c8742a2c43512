//! The vocabulary of a pipeline: records, keys, rows, algorithms, effects, topologies.
//!
//! Everything here is pure: no clock, no network, no database, no thread. A user's file imports this module and serde,
//! nothing else. The engine carries the effects out (transactions, retries, fencing).

pub mod algorithm;
pub mod change;
pub mod codec;
pub mod column;
pub mod effect;
pub mod events;
mod every;
mod example;
pub mod identity;
pub mod join;
pub mod key;
mod keyed;
mod map_keys;
pub(crate) mod nearest;
pub(crate) mod net;
pub mod notice;
pub mod pairing;
pub mod partitioning;
pub mod reading;
pub mod record;
pub mod rollup;
pub mod route;
pub mod row;
pub mod step;
pub mod store;
pub mod table;
pub mod table_join;
pub mod threshold;
pub mod timer;
pub mod topology;
pub mod window;

pub use algorithm::{Algorithm, Context};
pub use change::{Change, Column, Operation};
pub use codec::Format;
pub use effect::Reject;
pub use every::EVERY;
pub use example::ExampleStores;
pub use join::TableTopic;
pub use key::{Key, KeyType};
pub use notice::Notice;
pub use partitioning::{Declared, KeyHash, OnViolation};
pub use reading::{OnUnreadable, Tombstones};
pub use store::Store;
pub use table::Table;
pub use table_join::TableJoin;
pub use timer::At;
pub use topology::Topology;
