//! Shipped examples, one file each: proof that a user needs `flow` and serde, nothing else.

pub mod attribution;
pub mod charges;
pub mod home;
pub mod limits;
pub mod orders;
pub mod parcels;
pub mod payments;
pub mod scoring;
pub mod sessions;
pub mod usage;
pub mod views;
