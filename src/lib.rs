//! Tidegate: a notification changes its row once, and a change that passes the filter is published once, after the row is
//! committed, by any number of instances of one consumer group.
//!
//! The path of a record: [`adapters::kafka`] polls it, the [`engine::member`] routes it to its task's worker, the
//! [`engine::worker`] decides it by the user's [`flow::Algorithm`] and commits row, outbox and position in one database
//! transaction, and the [`engine::relay`] publishes the outbox rows and the group's offset in one Kafka transaction.
//!
//! Modules in reading order, an arrow meaning "imports":
//! ```text
//! main ─→ app ─→ all below: the one place where engine, adapters, http and settings meet
//!
//!   pipelines ─→ flow ←──── ports ←──── adapters/{kafka,rocksdb,postgres,sqlite,note,memory}
//!                  ↑          ↑           (never the engine, never another adapter)
//!                  └─ engine ─┘
//!                       ↑
//!                       ├── http     (reads engine::query and engine::status only)
//!                       └── testing  (with adapters/memory)
//!
//!   settings ─→ flow     engine and adapters import from settings the struct of their own, no other
//! ```
#![deny(unsafe_code, missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![warn(clippy::pedantic)]
#![allow(clippy::module_name_repetitions, clippy::similar_names)]

pub mod flow;
pub mod ports;

pub mod engine;

pub mod adapters;
#[cfg(feature = "http")]
pub mod http;
pub mod testing;

pub mod pipelines;
pub mod settings;
pub mod topics;

mod app;

pub use app::{Exit, run};

/// Runs the examples of the pages.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../docs/algorithm.md")]
    struct Algorithm;

    #[doc = include_str!("../docs/state.md")]
    struct State;

    #[doc = include_str!("../docs/pairs.md")]
    struct Pairs;

    #[doc = include_str!("../docs/windows.md")]
    struct Windows;

    #[doc = include_str!("../docs/from-kafka-streams.md")]
    struct FromKafkaStreams;
}
