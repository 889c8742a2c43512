//! Tests that need more than one module and no network: one binary, fast.
#![allow(missing_docs)]

mod cli;
#[cfg(feature = "sqlite")]
mod demo;
mod docs;
mod failpoints;
#[cfg(feature = "http")]
mod http;
mod outputs;
#[cfg(feature = "http")]
mod page;
mod settings;
mod signals;
#[cfg(feature = "http")]
mod stores;
mod topics;
