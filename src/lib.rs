//! Tidegate: a notification changes its row once, and a change that passes the filter is announced once, after the row
//! is committed, by any number of instances of one consumer group.
#![deny(unsafe_code, missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![warn(clippy::pedantic)]
#![allow(clippy::module_name_repetitions, clippy::similar_names)]

pub mod adapters;
pub mod engine;
pub mod flow;
pub mod ports;
pub mod testing;
