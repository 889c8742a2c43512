//! The trait that users implement: one pure, synchronous function over an event and a row.

use crate::flow::effect::{Parts, Reject};
use crate::flow::key::Key;
use crate::flow::notice::Announce;
use crate::flow::record::{Header, Offset, Partition, Timestamp, TopicName};
use crate::flow::store::{Opened, StateAccess, Store, open};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The code that a pipeline runs for each notification: it changes the row and returns notices of the change.
///
/// The function is pure and synchronous: no clock, no network, no database. It may be run again with the same arguments
/// until its effects are committed, and never after that. A panic in the function, in its notices, or in serde's code for
/// its types is caught and becomes the record's dead letter: row and state stay as they were.
///
/// Unit-test it as it stands, with [`Context::example`]; test it with crashes and rebalances through
/// [`TestDriver`](crate::testing::TestDriver).
pub trait Algorithm: Send + Sync + 'static {
    /// The notification: any type that is decoded from the record's value, JSON unless the source says
    /// otherwise by [`Source::format`](crate::flow::topology::Source::format). Behind a join a pair of that and the
    /// table's value, and where a step reads several topics a type that has room for each; see
    /// [`Source`](crate::flow::topology::Source).
    type Event;

    /// The value that the engine reads, lets [`apply`](Algorithm::apply) change in place, and writes back.
    ///
    /// In an `update` step a table's row: a plain serde struct whose fields are named like the columns; neither the key
    /// column nor the version column is among them. In an `aggregate` step the value that a store keeps under the
    /// record's key: any serde type with a default, which stands for a key not seen yet; where it is written as JSON's
    /// null (an `Option` that is `None`) the key is deleted. In a `process` step nothing: `()`.
    type Row: Serialize + DeserializeOwned;

    /// The notices for the next topic: an `Option` for none or one, a `Vec` for several. Of any type that serde writes,
    /// under the record's key and with its time, or of [`Notice`](crate::flow::Notice), which may have their own.
    type Notices: IntoIterator<Item: Announce>;

    /// Applies `event` to `row` in place and returns the notices.
    ///
    /// # Errors
    /// [`Reject`]: the row stays as it was and nothing is published; its variants decide the record's fate.
    fn apply(
        &self,
        event: Self::Event,
        row: &mut Self::Row,
        context: &mut Context<'_>,
    ) -> Result<Self::Notices, Reject>;

    /// Handles a timer that [`Context::set_timer`] has set, once the task's clock has come to it: over the value under its
    /// key, as [`Algorithm::apply`] over the value of a record. [`Context::event_time_ms`] is the time that it was set for,
    /// and there are no headers; offset and topic are those of the record that moved the clock. By default nothing is changed
    /// and nothing published.
    ///
    /// # Errors
    /// [`Reject`]: the value stays as it was, nothing is published, and the timer is over. A dead letter tells of it, unless
    /// it is a skip; a retry is a dead letter, too, as no record waits for it. The record that moved the clock has no part in it.
    fn timer(&self, _name: &str, _row: &mut Self::Row, _context: &mut Context<'_>) -> Result<Self::Notices, Reject> {
        Err(Reject::skip("no-timer"))
    }

    /// The parts of the notices that stand or fall each by itself: all of them are one, but for windows.
    #[doc(hidden)]
    fn parts(notices: Self::Notices) -> Parts<Self::Notices> {
        Parts::Whole(notices)
    }

    /// Whether the event is too late for all windows that it would fall into: asked where such records have a topic of their own.
    #[doc(hidden)]
    fn is_too_late(&self, _event: &Self::Event, _row: &Self::Row, _context: &Context<'_>) -> bool {
        false
    }
}

/// The origin, the time and the headers of a record, and the stores that its step names.
pub struct Context<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: &'a [Header],
    pub(crate) now: Timestamp,
    /// The latest event time that is taken: beyond it lies the future.
    pub(crate) latest: Timestamp,
    pub(crate) key: &'a Key,
    /// The key's bytes; none where the record has no key.
    pub(crate) record_key: Option<&'a [u8]>,
    pub(crate) state: Option<&'a mut dyn StateAccess>,
    /// The timer that is run, where one is: whether it goes by the wall clock, and the time that it was set for.
    pub(crate) timer: Option<(bool, i64)>,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{}-{}@{}", self.topic, self.partition, self.offset);
        f.debug_struct("Context").field("record", &place).field("key", self.key).finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    /// A context for a unit test that calls an algorithm directly: the first record of partition 0, in 1970, without headers and
    /// without stores, which [`Context::with_stores`] lends it.
    #[must_use]
    pub const fn example(topic: &'a TopicName, key: &'a Key) -> Self {
        let (epoch, latest) = (Timestamp(0), Timestamp(i64::MAX));
        let (partition, offset, headers) = (Partition(0), Offset(0), &[]);
        Self {
            topic,
            partition,
            offset,
            timestamp: epoch,
            headers,
            now: epoch,
            latest,
            key,
            record_key: None,
            state: None,
            timer: None,
        }
    }

    /// The same with the time of a record, in milliseconds since 1970, UTC.
    #[must_use]
    pub const fn at(mut self, event_time_ms: i64) -> Self {
        self.timestamp = Timestamp(event_time_ms);
        self
    }

    /// The same with what [`Context::now_ms`] tells, in milliseconds since 1970, UTC.
    #[must_use]
    pub const fn with_now(mut self, now_ms: i64) -> Self {
        self.now = Timestamp(now_ms);
        self
    }

    /// The same with the headers of a record.
    #[must_use]
    pub const fn with_headers(mut self, headers: &'a [Header]) -> Self {
        self.headers = headers;
        self
    }
}

impl Context<'_> {
    /// The topic: the lead topic or one of its companions.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic.as_str()
    }

    /// The partition number, equal for the lead topic and its companions.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition.0
    }

    /// The record's offset in its partition.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.offset.0
    }

    /// The row's id, or the key of the aggregate's value. In a `process` step the record's key as text, empty where it has
    /// none.
    #[must_use]
    pub const fn key(&self) -> &Key {
        self.key
    }

    /// The record's own timestamp in milliseconds since 1970, UTC: the same on every attempt.
    #[must_use]
    pub const fn event_time_ms(&self) -> i64 {
        self.timestamp.0
    }

    /// The record's headers in their order, as its producer wrote them. A record that was re-keyed has those of the record that
    /// it was, but for the ones named `tg_*` and `kafka_dlt-*`.
    #[must_use]
    pub const fn headers(&self) -> &[Header] {
        self.headers
    }

    /// The value of the last header of a name, as Kafka's clients read it: `None` where there is none, or it has no value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|header| header.name == name)?.value.as_deref()
    }

    /// The engine's clock in milliseconds since 1970, UTC, read once a batch: it may differ between attempts, of which
    /// exactly one is committed.
    #[must_use]
    pub const fn now_ms(&self) -> i64 {
        self.now.0
    }

    /// The task's clock, in milliseconds since 1970, UTC: the highest timestamp of the records that its streams have decided;
    /// none in a unit test.
    pub(crate) fn task_clock_ms(&self) -> Option<i64> {
        self.state.as_ref().map(|state| state.clock())
    }

    /// Refuses an event's time that must not move a clock.
    ///
    /// # Errors
    /// A dead letter: `event-time-missing` where it is negative, `event-time-ahead` where it lies too far ahead.
    pub(crate) fn check_event_time(&self, at: Timestamp) -> Result<(), Reject> {
        if at.0 < 0 {
            return Err(Reject::dead_letter("event-time-missing", format!("its event time is {}, before 1970", at.0)));
        }
        if at.0 > self.latest.0 {
            let (ahead, limit) = (at.0.saturating_sub(self.now.0), self.latest.0.saturating_sub(self.now.0));
            let message = format!(
                "its event time {} lies {ahead} ms ahead, more than engine.event_time_ahead_ms = {limit}",
                at.to_rfc3339()
            );
            return Err(Reject::dead_letter("event-time-ahead", message));
        }
        Ok(())
    }

    /// Opens one of the stores that the step was given by `with_store`.
    ///
    /// # Errors
    /// If the step was not given it, the partition halts in front of the record, with this reason. In a unit test whose
    /// [`Context::example`] has no stores, a dead letter with the code `unknown-store`.
    pub fn store<'s, V>(&'s mut self, store: &'s Store<V>) -> Result<Opened<'s, V>, Reject> {
        let Some(state) = self.state.as_deref_mut() else {
            let message = format!("there is no store {} here", store.spec().name);
            return Err(Reject::dead_letter("unknown-store", message));
        };
        open(state, store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_header_of_a_name_is_told_and_one_without_a_value_tells_nothing() {
        let (topic, key) = (TopicName::derived("in"), Key::from("7"));
        let bare = Header { name: "bare".into(), value: None };
        let headers = [Header::new("trace", *b"1"), bare, Header::new("trace", *b"2")];
        let context = Context::example(&topic, &key).at(5).with_headers(&headers);
        assert_eq!(context.header("trace"), Some(&b"2"[..]));
        assert_eq!((context.header("bare"), context.header("other")), (None, None));
        assert_eq!((context.headers().len(), context.event_time_ms()), (3, 5));
    }
}
