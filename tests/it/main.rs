//! Tests that need more than one module and no network: one binary, fast.
#![allow(missing_docs)]

mod cli;
#[cfg(feature = "sqlite")]
mod demo;
mod docs;
mod failpoints;
#[cfg(feature = "http")]
mod http;
mod lines;
mod mistakes;
mod outputs;
#[cfg(feature = "http")]
mod page;
mod settings;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod setups;
mod signals;
#[cfg(feature = "http")]
mod stores;
#[cfg(feature = "http")]
mod tokens;
mod topics;
#[cfg(all(feature = "kafka", feature = "postgres"))]
#[path = "../setups/mod.rs"]
#[allow(dead_code, reason = "what rows with servers need")]
mod wrong;
