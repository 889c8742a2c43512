//! Notices that say more than their value: a key, a time and headers of their own, or that a key is gone.

use crate::flow::identity::is_ours;
use crate::flow::record::{Header, Timestamp};
use serde::Serialize;
use std::fmt;

/// What an algorithm may publish: any value that serde writes, under the key and with the time of its record, or a
/// [`Notice`], which may have its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no notice",
    label = "this cannot be published",
    note = "derive `serde::Serialize` for it, or wrap a value that serde writes in `tidegate::flow::Notice`"
)]
pub trait Announce: Sized {
    /// The type of the message's value.
    type Value: Serialize;

    /// Whether a notice of this type may have a key of its own.
    const MAY_HAVE_KEY: bool = false;

    /// The value; `None` for a tombstone.
    fn value(&self) -> Option<&Self::Value>;

    /// What the notice says beside its value; `None` where all of that is the record's.
    fn into_envelope(self) -> Option<Box<Envelope>> {
        None
    }
}

impl<T: Serialize> Announce for T {
    type Value = T;

    fn value(&self) -> Option<&T> {
        Some(self)
    }
}

/// The most bytes of what decides a notice's partition: they are kept with each notice until it is published.
const PARTITION_BY_BYTES: usize = 1_024;

/// What a notice says beside its value. What is missing is the record's: its key and its time; of its headers none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Envelope {
    pub(crate) key: Option<Vec<u8>>,
    /// What decides the partition in place of the key.
    pub(crate) partition_by: Option<Vec<u8>>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) headers: Vec<Header>,
}

/// A notice with a key, a time or headers of its own, or without a value.
///
/// The key decides the partition, by Kafka's murmur2, as that of any other message of the pipeline, unless
/// [`partition_by`](Self::partition_by) says otherwise. Notices of one partition of the source stay in the order of their records
/// within each partition that they go to; those that come from several partitions have no order among each other.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate::flow::{Algorithm, Context, Notice, Reject, Topology};
///
/// #[derive(Deserialize)] struct Order { customer: String, cents: i64, placed_ms: i64 }
/// #[derive(Serialize)]   struct Spent { cents: i64 }
///
/// /// Tells each customer's orders under the customer; an order of nothing takes the customer's last one back.
/// struct Spending;
///
/// impl Algorithm for Spending {
///     type Event = Order;
///     type Row = ();
///     type Notices = Option<Notice<Spent>>;
///
///     fn apply(&self, order: Order, (): &mut (), context: &mut Context<'_>) -> Result<Option<Notice<Spent>>, Reject> {
///         let notice = match order.cents {
///             0 => Notice::tombstone(),
///             cents => Notice::new(Spent { cents }),
///         };
///         Ok(Some(notice.key(order.customer).at(order.placed_ms).headers(context.headers()).header("unit", "cent")))
///     }
/// }
///
/// let mut topology = Topology::new("spending");
/// topology.source("orders").process(Spending).to("spent");
/// assert_eq!(topology.validate(), Ok(()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a notice is published once the algorithm returns it"]
pub struct Notice<V> {
    value: Option<V>,
    envelope: Option<Box<Envelope>>,
}

impl<V> Notice<V> {
    /// A notice of `value`, so far with the key and the time of the record.
    pub const fn new(value: V) -> Self {
        Self { value: Some(value), envelope: None }
    }

    /// A message without a value: in a topic that is compacted, and for those who read a topic as a table, its key is gone.
    pub const fn tombstone() -> Self {
        Self { value: None, envelope: None }
    }

    /// Publishes it under this key instead of the record's, spelt as text, as `key_by` does: a number in decimal digits, a
    /// UUID in lower case with hyphens.
    pub fn key(self, key: impl fmt::Display) -> Self {
        self.key_bytes(key.to_string())
    }

    /// The same with a key that is no text, such as `7_i64.to_be_bytes()` for readers of Java's `LongSerializer`.
    pub fn key_bytes(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.envelope().key = Some(key.into());
        self
    }

    /// Publishes it in the partition that a message with this key would lie in, spelt as text as by [`key`](Self::key), and under
    /// the key that it has: orders under their own numbers, all of a customer's in the customer's partition.
    ///
    /// The keys of such a topic do not decide its partitions, so it cannot be declared with them: a source with
    /// [`declared`](crate::flow::topology::Source::declared) halts in front of the first record that lies elsewhere, and a join
    /// by its key meets only what lies in the partition of the stream's record. In a compacted topic the last message of a key
    /// counts within each partition: let equal keys have equal texts.
    pub fn partition_by(self, text: impl fmt::Display) -> Self {
        self.partition_by_bytes(text.to_string())
    }

    /// The same for keys that are no text, such as `7_i64.to_be_bytes()`. One of more than 1,024 bytes makes the record a dead letter
    /// (`bad-notice`).
    pub fn partition_by_bytes(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.envelope().partition_by = Some(key.into());
        self
    }

    /// Publishes it with this time, in milliseconds since 1970, UTC, instead of the record's. A negative one makes the record a
    /// dead letter (`bad-notice`).
    pub fn at(mut self, event_time_ms: i64) -> Self {
        self.envelope().timestamp = Some(Timestamp(event_time_ms));
        self
    }

    /// Adds a header behind those that it has. A name that Tidegate's own headers have makes the record a dead letter
    /// (`bad-notice`): `tg_*`, `kafka_dlt-*`, `content-type`, `ce_id`, `ce_source`, `ce_specversion`, `ce_time`, `ce_type`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.envelope().headers.push(Header::new(name, value));
        self
    }

    /// Adds headers as they came, for instance [`Context::headers`](crate::flow::Context::headers), but for those that have
    /// the names of Tidegate's own: they speak of the message that they came with.
    pub fn headers(mut self, headers: &[Header]) -> Self {
        let theirs = headers.iter().filter(|header| !is_ours(&header.name)).cloned();
        self.envelope().headers.extend(theirs);
        self
    }

    /// The value, for filters and routes; `None` for a tombstone.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    fn envelope(&mut self) -> &mut Envelope {
        self.envelope.get_or_insert_default()
    }
}

impl<V> From<V> for Notice<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl<V: Serialize> Announce for Notice<V> {
    type Value = V;

    const MAY_HAVE_KEY: bool = true;

    fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    fn into_envelope(self) -> Option<Box<Envelope>> {
        self.envelope
    }
}

impl Envelope {
    /// Why no message can have this envelope.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Some(at) = self.timestamp.filter(|at| at.0 < 0) {
            return Some(format!("its time is {}, before 1970: a message cannot have it", at.0));
        }
        if let Some(text) = self.partition_by.as_ref().filter(|text| text.len() > PARTITION_BY_BYTES) {
            let length = text.len();
            return Some(format!("what decides its partition has {length} bytes, and at most {PARTITION_BY_BYTES}"));
        }
        let header = self.headers.iter().find(|header| is_ours(&header.name) || header.name.contains('\0'))?;
        let Header { name, .. } = header;
        Some(if name.contains('\0') {
            format!("header {name:?}: a name has no zero byte")
        } else {
            format!("header {name}: the name is one of Tidegate's own; choose another")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_that_says_nothing_of_its_own_has_no_envelope() {
        assert_eq!(Announce::into_envelope("plain"), None);
        assert_eq!(Notice::new(7).into_envelope(), None);
        assert_eq!(Notice::from(7), Notice::new(7));
        assert_eq!(Notice::<i64>::tombstone().value(), None);
    }

    #[test]
    fn what_decides_a_partition_has_a_bound() {
        let fault = |length| Notice::new(7).partition_by("x".repeat(length)).into_envelope().unwrap().fault();
        assert_eq!(fault(1_024), None);
        assert!(fault(1_025).unwrap().contains("has 1025 bytes, and at most 1024"));
    }

    #[test]
    fn headers_that_came_with_a_record_lose_those_of_ours_and_a_header_of_our_name_is_a_fault() {
        let came = ["trace", "tg_id", "ce_id", "ce_subject", "kafka_dlt-exception-fqcn", "content-type", "Tg_id"];
        let came = came.map(|name| Header::new(name, *b"x"));
        let envelope = Notice::new(7).headers(&came).into_envelope().unwrap();
        let names: Vec<&str> = envelope.headers.iter().map(|header| &*header.name).collect();
        assert_eq!((names, envelope.fault()), (vec!["trace", "ce_subject", "Tg_id"], None));
        for name in ["tg_x", "kafka_dlt-x", "content-type", "ce_time", "a\0b"] {
            let fault = Notice::new(7).header(name, *b"x").into_envelope().unwrap().fault();
            assert!(fault.is_some_and(|fault| fault.contains("header")), "{name}");
        }
        assert!(Notice::new(7).at(-1).into_envelope().unwrap().fault().is_some());
        assert_eq!(Notice::new(7).at(0).key(7).into_envelope().unwrap().fault(), None);
    }
}
