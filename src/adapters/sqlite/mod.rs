//! SQLite through sqlx: rows for the embedded edition, and the journal of the in-process log.
//!
//! Each object owns one connection and drives it on the calling thread; calls block. A transaction that will write begins
//! with `BEGIN IMMEDIATE`: one that turns from reading to writing would fail with `SQLITE_BUSY` at once, despite the busy
//! timeout (docs/traps.md#sqlite-turns-busy-at-once). The journal mode is WAL with `synchronous = FULL`: committed data
//! survive a power cut.
//!
//! Where it differs from Postgres: the lock is the whole database's, so transactions run one after the other; the outbox
//! has no partitions, so upkeep deletes; column types are those *declared*, since a value carries none.

mod columns;
mod connection;
mod history;
mod journal;
mod outbox;
mod rollups;
mod rows;
mod schema;
mod statements;
mod tables;

pub use connection::SqliteSettings;
pub use history::SqliteHistory;
pub use journal::SqliteJournal;
pub use rollups::SqliteRollUps;
pub use rows::SqliteRows;
pub use schema::SqliteSchema;
pub use tables::SqliteTables;
