//! What needs more than one module and no network: one binary, fast.
#![allow(missing_docs)]

mod cli;
mod settings;
mod topics;
