//! Postgres through sqlx: rows, outbox and positions in one transaction, Tidegate's own tables, and the audit's reading of
//! them.
//!
//! A [`PostgresRows`] owns one connection and a runtime of its own on the calling worker's thread. There is no pool and no
//! other task, so nothing cancels a batch half-way (docs/traps.md#cancelled-transactions) and nothing wakes another
//! thread. A call that outlives its
//! deadline drops the connection instead of using it again. Reconnecting is lazy: a call without a connection makes one,
//! and answers `Retry` when it cannot; how long to wait is the caller's decision.
//!
//! Call it from plain threads: within an async runtime `block_on` panics.

mod arrays;
mod catalog;
mod classify;
mod connection;
mod elsewhere;
mod history;
mod keys;
mod lent;
mod outbox;
mod partitions;
mod repair;
mod rights;
mod rollups;
mod rows;
mod schema;
mod statements;
mod unique;
mod values;

pub use crate::settings::outbox::OutboxSettings;
pub use crate::settings::postgres::PostgresSettings;
pub use history::PostgresHistory;
pub use lent::refuse_lent_connections;
pub use repair::PostgresPositions;
pub use rollups::PostgresRollUps;
pub use rows::PostgresRows;
pub use schema::PostgresSchema;

/// The target of the log lines into which the driver makes what a server sends along with an answer.
pub const NOTICES: &str = "sqlx::postgres::notice";
