//! The Kafka adapter against a real, private Kafka. Needs SYSTEM_TESTS=1; each test prints that it was skipped otherwise.
#![cfg(feature = "kafka")]
#![allow(clippy::disallowed_methods)]

mod administration;
mod cluster;
mod membership;
mod reading;
mod speed;
mod taint;
mod transactions;
