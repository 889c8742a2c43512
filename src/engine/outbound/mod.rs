//! What is on its way out: messages, the outbox rows that they are made of, and what one Kafka transaction takes of them.

pub mod message;
pub(crate) mod outgoing;

pub(crate) mod outbox;

pub(crate) mod publication;
pub(crate) mod size;

pub(crate) mod outstanding;
pub(crate) mod pieces;
