//! One job: the limits that a system is measured against.

pub mod bare;
pub mod null;
pub mod restore;
