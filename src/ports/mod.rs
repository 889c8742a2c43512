//! The traits that the engine needs from a log, a database and a clock: small, synchronous, each with a model in memory and
//! a real adapter. They import `flow` and nothing else.
//!
//! Calls block. A worker is an OS thread that owns its partitions, its producer and its database connection, so nothing
//! that is half-way can be cancelled (docs/traps.md#cancelled-transactions) and no runtime is needed to drive the
//! engine in a test.

pub mod changelog;
pub mod clock;
pub mod counts;
pub mod factories;
pub(crate) mod failpoint;
pub mod fault;
pub mod fencer;
pub(crate) mod guard;
pub mod history;
pub mod journal;
pub mod note;
pub mod obstacle;
pub mod repair;
pub mod rollups;
pub mod rows;
pub mod schema;
pub mod sink;
pub mod source;
pub mod store;
pub mod topics;

pub use clock::Clock;
pub use fault::Fault;
