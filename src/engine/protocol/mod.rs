//! The rules of exactly-once, pure: the order of the steps, the decision of a takeover, the marks of K, the ownership
//! of tasks, the reasons of halts and their remedies, the consequences of faults, and the bounds on waiting.
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
