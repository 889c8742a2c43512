//! One job: after each run, compare what lies there with what the seed says. A run that fails is no result.

pub mod offsets;
pub mod rolled;
pub mod rows;
pub mod usage;
pub mod windows;
