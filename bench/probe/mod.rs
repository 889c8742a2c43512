//! One job: the limits that a system is measured against.

pub mod bare;
