//! One job: the workloads, a file each: their cells, and what is claimed of them. [`usage`] is what W2, W4 and W6
//! share, [`live`] the second part of W3.

mod live;
mod usage;
pub mod w1;
pub mod w2;
pub mod w3;
pub mod w4;
pub mod w5;
pub mod w6;
