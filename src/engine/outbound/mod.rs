//! Everything on its way out: messages, the outbox rows that they are made from, and the division into Kafka
//! transactions.

pub mod limits;
pub mod message;
pub(crate) mod outgoing;

pub(crate) mod outbox;

pub(crate) mod publication;
pub(crate) mod size;

pub(crate) mod outstanding;
pub(crate) mod pieces;
