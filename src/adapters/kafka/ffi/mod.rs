//! The calls of librdkafka that rdkafka hides or spoils, each behind a safe function. The only folder with unsafe code beside
//! `adapters/note/words.rs`.
//!
//! Why not rdkafka's own: its consumer poll drops the partition of an error and gives a rebalance to a callback in the
//! middle of a poll; its `flush` waits in steps of 100 ms; its group metadata is opaque; its log lines arrive on the thread
//! that polls, so that a commit could be answered before its tainting line was read; it drops the error of each resource of
//! `AlterConfigs` and `DescribeConfigs`, and the broker's sentence of each topic; and `DescribeTopics`, `IncrementalAlterConfigs`
//! and a commit with a deadline are missing; and a client's end waits for
//! threads that may be within the resolver.
#![expect(unsafe_code, reason = "C calls that rdkafka 0.39 does not offer; every block says why it is sound")]

#[cfg(test)]
mod codes;
mod configs;
mod describe;
mod errors;
mod event;
mod membership;
mod offsets;
mod parting;
mod properties;
mod queue;
mod record;
mod request;
mod texts;
mod topics;
mod transaction;
mod version;

#[cfg(test)]
pub(super) use codes::known_codes;
pub(super) use configs::{Entry, Owner, describe_config, set_config};
pub(super) use describe::{await_metadata, describe_group, describe_topic, look_at_topic};
pub(super) use errors::CallError;
pub(super) use event::{Event, Failure};
pub(super) use membership::membership;
pub(super) use offsets::{ask_unstable, commit, commit_nowhere, states};
pub(super) use parting::Parting;
pub(super) use properties::property_table;
pub(super) use queue::Queue;
pub(super) use record::Fetched;
pub(super) use request::Coordinators;
pub(super) use topics::{create_partitions, create_topic, delete_topic};
pub(super) use transaction::{commit_transaction, flush, send_offsets};
pub(super) use version::version_at_least;
