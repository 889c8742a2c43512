//! The rules of exactly-once, pure: the order of the steps, what a takeover decides, what K remembers, who owns what, why a task
//! halts and what helps, what follows from a fault, how long is waited.
//!
//! Nothing here has a thread, asks a server or reads a clock.

pub mod order;

pub mod decision;
pub mod metadata;
pub(crate) mod ownership;

pub mod halt;
pub mod remedy;

pub(crate) mod consequence;

pub(crate) mod event_time;
pub(crate) mod patience;

#[cfg(feature = "failpoints")]
pub mod failpoints;
