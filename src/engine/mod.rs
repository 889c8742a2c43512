//! The engine: takes partitions over, runs steps in batches, commits them in the one right order, publishes.
//!
//! ```text
//!  poll thread          thread of a worker                 thread of its relay
//!  ───────────          ──────────────────                 ───────────────────
//!  source ─→ member ─→ worker ─→ (rows + outbox + D) ─→ relay ─→ (messages + K)
//!               ↑          │  takeover, batches             │
//!               └─ start ──┘ ←──────── published K ─────────┘
//! ```
//! Each box is a passive object that is stepped; [`member`] gives it a thread, and the test driver steps all of them in one
//! thread. Nothing here reads a clock, opens a connection or knows Kafka or SQL: that is `ports`.
//!
//! Rooms in reading order; each imports only from those above it:
//! ```text
//!  protocol                     the rules, pure
//!  outbound  status             messages on their way out; the status for people
//!  state                        stores, caches, restores
//!  task                         one partition of one sub-topology
//!  mailbox                      every message between threads
//!  relay  worker  query         publish; decide; read stores from outside
//!  member                       the threads of one instance
//!  repair  audit                commands that an operator runs beside an instance
//! ```

pub mod protocol;

pub mod outbound;
pub mod status;

pub(crate) mod state;
pub(crate) mod task;

pub(crate) mod mailbox;

pub mod relay;
pub mod worker;

pub mod query;

pub mod member;

pub mod audit;
pub mod repair;
