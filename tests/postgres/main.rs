//! The PostgreSQL adapter on a real server of its own. Skipped, with a line that says so, unless `SYSTEM_TESTS=1`.
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

mod batches;
mod bench;
mod commits;
mod engine;
mod fencing;
mod maintenance;
mod pooler;
mod rights;
mod rollups;
mod schema;
mod server;
mod tables;
mod tls;
