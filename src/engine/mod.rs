//! The engine: takes partitions over, runs steps in batches, commits them in the one right order, publishes.
//!
//! ```text
//!  poll thread            worker: database stage           worker: Kafka stage
//!  ───────────            ──────────────────────           ───────────────────
//!  source ─→ supervisor ─→ stage ─→ (rows + outbox + D) ─→ relay ─→ (messages + K)
//!                 ↑          │  takeover, batches             │
//!                 └─ start ──┘ ←──────── published K ─────────┘
//! ```
//! Each box is a passive object that is stepped; [`supervisor`] gives it a thread, and the test driver steps all of them
//! in one thread. Nothing here reads a clock, opens a connection or knows Kafka or SQL: that is `ports`.

pub mod assignment;
pub mod audit;
pub mod batch;
pub(crate) mod cache;
pub mod commit;
pub mod comparison;
pub mod decision;
mod draw;
mod event_time;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod in_hand;
mod keyed;
pub mod message;
pub mod metadata;
mod outbox;
mod outgoing;
mod patience;
mod pieces;
pub mod query;
mod refusal;
pub mod relay;
pub mod remedy;
pub mod repair;
pub mod repair_plan;
mod restore;
pub mod settings;
mod slots;
pub mod stage;
pub mod status;
pub mod supervisor;
mod tables;
pub mod takeover;
pub mod task;
mod through_database;
mod through_log;
pub(crate) mod traces;
mod trouble;
