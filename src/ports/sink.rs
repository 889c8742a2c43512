//! The log as a transactional producer writes it: messages, and the group's offsets last, in one transaction.
//!
//! Fencing: a producer that starts with a transactional id ends the open transaction of its predecessor and refuses
//! everything the predecessor still sends. A transaction with an unknown outcome is therefore settled by [`Sink::renew`] and
//! a stable read of K, never by trying again on the same producer.

use crate::flow::record::{Header, NextOffset, Partition, Timestamp, TopicName, TopicPartition, header_bytes};
use crate::ports::fault::Fault;
use crate::ports::obstacle::Reason;
use crate::ports::source::{Committed, Membership};

/// A message to be produced.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The topic.
    pub destination: &'a TopicName,
    /// The partition; `None` lets it follow from the key by murmur2 (without a key it is then the client's choice).
    pub partition: Option<Partition>,
    /// The key; absent differs from empty.
    pub key: Option<&'a [u8]>,
    /// The value; absent is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in their order.
    pub headers: &'a [Header],
    /// The record's timestamp; `None` for the moment it is produced. 0 is kept as 1: Kafka's client takes 0 for `None`.
    pub timestamp: Option<Timestamp>,
    /// Whether its offset is asked for by [`Sink::ends`]; such a message names its partition.
    pub is_tracked: bool,
}

impl Message<'_> {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + header_bytes(self.headers)
    }

    /// The timestamp that its topic keeps, where it has one.
    #[must_use]
    pub fn kept_timestamp(&self) -> Option<Timestamp> {
        self.timestamp.map(|timestamp| if timestamp.0 == 0 { Timestamp(1) } else { timestamp })
    }
}

/// One transactional producer. Owned by one thread; calls block.
///
/// The order within a transaction is `begin`, `send` …, `flush`, `send_offsets`, `commit`. After any error the producer
/// is tainted and only [`Sink::renew`] and [`Sink::close`] make sense.
pub trait Sink: Send {
    /// Opens a transaction.
    ///
    /// # Errors
    /// `Retry`: renew and publish again. `Fatal`: the log will never accept this producer (for instance not authorised).
    fn begin(&mut self) -> Result<(), Fault>;

    /// Queues one message; waits when the client's queue is full.
    ///
    /// # Errors
    /// The same as [`Sink::begin`]; `Corrupt` when this message can never be accepted (too large), which the caller was to
    /// rule out.
    fn send(&mut self, message: &Message<'_>) -> Result<(), Fault>;

    /// Waits until every message has been acknowledged.
    ///
    /// # Errors
    /// The same as [`Sink::begin`]; one failed delivery fails the call.
    fn flush(&mut self) -> Result<(), Fault>;

    /// For each partition that tracked messages of this transaction went to, one past the last of their offsets. Known
    /// once [`Sink::flush`] has answered Ok, until the next [`Sink::begin`].
    fn ends(&self) -> Vec<(TopicPartition, NextOffset)>;

    /// Adds the group's offsets to the transaction.
    ///
    /// # Errors
    /// `Fenced` when the membership's generation is over; otherwise as [`Sink::begin`].
    fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], membership: &Membership) -> Result<(), Fault>;

    /// Commits. Ok means committed; any error leaves the outcome open until K has been read after [`Sink::renew`].
    ///
    /// # Errors
    /// The same as [`Sink::send_offsets`].
    fn commit(&mut self) -> Result<(), Fault>;

    /// Why this producer must not be used again although its last call answered Ok
    /// (docs/protocol.md#the-late-request), if so.
    fn taint(&self) -> Option<String>;

    /// Whether the last error was that another producer with this transactional id took over, or the transaction's timeout.
    /// A lost membership (`Fenced` of [`Sink::send_offsets`]) is none of that.
    fn is_fenced(&self) -> bool;

    /// Destroys the producer and starts one with the same transactional id: the start ends an open transaction and fences
    /// late copies.
    ///
    /// # Errors
    /// `Retry`: call it again. `Fatal`: never.
    fn renew(&mut self) -> Result<(), Fault>;

    /// Aborts an open transaction, so that readers need not wait for a timeout, and closes.
    fn close(&mut self);

    /// The transactional id.
    fn transactional_id(&self) -> &str;

    /// The quota by which the brokers slow this producer down, if one does.
    fn throttled(&self) -> Option<Reason> {
        None
    }

    /// The number of partitions of `destination`, for a message whose partition does not follow from its key: as this
    /// producer knew it at most a minute ago, which is also how late it hears of further partitions where keys decide.
    ///
    /// # Errors
    /// The same as [`Sink::send`].
    fn partition_count(&mut self, destination: &TopicName) -> Result<i32, Fault>;

    /// The limit on one message that `destination` accepts, asked for anew; larger ones are dead letters
    /// before the database commit, because afterwards they would block their partition
    /// (docs/traps.md#a-broker-refuses-whole-batches).
    ///
    /// # Errors
    /// `Retry` when the log did not answer.
    fn message_bytes_max(&mut self, destination: &TopicName) -> Result<SizeLimit, Fault>;
}

/// The limit on the messages of one topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeLimit {
    /// The value of the setting that makes it, in bytes.
    pub value: usize,
    /// The bytes that are kept free of it for a batch and a record around a message.
    pub framing: usize,
    /// Whether the setting is the producers' own `message.max.bytes` instead of the topic's `max.message.bytes`.
    pub is_own: bool,
}

impl SizeLimit {
    /// The largest message in bytes: key, value and headers.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.value.saturating_sub(self.framing)
    }

    /// The setting with its value, and the least one that takes a message of `bytes` for `destination`, as a sentence.
    #[must_use]
    pub fn told(&self, destination: &TopicName, bytes: usize) -> String {
        let (value, least) = (self.value, bytes.saturating_add(self.framing));
        let setting = if self.is_own {
            "message.max.bytes of the producers".into()
        } else {
            format!("max.message.bytes of {destination}")
        };
        format!("{setting} is {value}: raise it to at least {least}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_large_as_its_key_its_value_and_its_headers() {
        let destination = &TopicName::parse("out").unwrap();
        let headers = &[Header::new("name", *b"value")];
        let (key, value) = (Some(&b"key"[..]), Some(&b"1234567"[..]));
        let message = Message { destination, partition: None, key, value, headers, timestamp: None, is_tracked: false };
        assert_eq!(message.bytes(), 3 + 7 + 9);
        assert_eq!(Message { key: None, value: None, headers: &[], ..message }.bytes(), 0);
    }
}
