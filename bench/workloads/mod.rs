//! One job: the workloads, a file each: their cells, and what is claimed of them.

pub mod w1;
