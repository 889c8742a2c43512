//! One job: Tidegate itself, through the parts that its binary is made of.

pub mod keyed;
pub mod rolled;
pub mod rows;
