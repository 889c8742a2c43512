//! One job: what a run costs and how long it takes, seen from outside the system under test.

pub mod calibration;
pub mod cpu;
pub mod latency;
pub mod stretch;
pub mod traffic;
