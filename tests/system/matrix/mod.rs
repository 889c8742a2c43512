//! The matrix of kills and pauses (docs/protocol.md#crashes): three instances on three brokers and PostgreSQL, under
//! load. One cell after the other does its worst, and each world is judged as a whole. `TIDEGATE_MATRIX_SEED` repeats a
//! run's choices; the record of each cell: `rig::Proof`.

mod arena;
mod brokers;
mod cluster;
mod doubles;
mod leaving;
mod migrations;
mod mix;
mod obstacles;
mod points;
mod stable;
mod standing;
