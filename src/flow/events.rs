//! Reads the event of a step from a record: as it is, by its topic, or joined with the value that a table holds.

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::reading::Reading;
use crate::flow::record::{Record, TopicName};
use crate::flow::store::Store;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The code of a record that an inner join finds no partner for: it is skipped.
const NO_MATCH: &str = "no-match";

/// Reads the event of a step from a record and, for a join, from the step's stores. Chosen by the builder:
/// [`Plain`], [`AnyOf`], [`Joined`], [`LeftJoined`].
pub trait ReadEvent<E>: Send + Sync + 'static {
    /// The event.
    ///
    /// # Errors
    /// A dead letter where the record cannot be read; a skip where it has no partner.
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<E, Reject>;

    /// Why no record, or no tombstone, can ever be read: a sentence about the source, without its name.
    fn unfit(&self) -> Option<String> {
        None
    }
}

/// The event is the record's value, from any topic.
#[derive(Clone, Copy, Default, Debug)]
pub struct Plain {
    pub(crate) reading: Reading,
}

impl<E: DeserializeOwned> ReadEvent<E> for Plain {
    fn read(&self, record: &Record<'_>, _: &mut Context<'_>) -> Result<E, Reject> {
        self.reading.decode(record.value)
    }

    fn unfit(&self) -> Option<String> {
        self.reading.unfit::<E>()
    }
}

/// The event of one topic.
type ReadValue<E> = Box<dyn Fn(Option<&[u8]>) -> Result<E, Reject> + Send + Sync>;

/// One type for the events of several topics, each read as its topic's own type first.
pub struct AnyOf<E> {
    /// Reads records of the lead topic, and those of its records that were sent on through a repartition topic.
    lead: ReadValue<E>,
    companions: Vec<(TopicName, ReadValue<E>)>,
    reading: Reading,
    unfit: Option<String>,
}

impl<E: 'static> AnyOf<E> {
    pub(crate) fn new<P: DeserializeOwned>(reading: Reading, wrap: impl Fn(P) -> E + Send + Sync + 'static) -> Self {
        Self { lead: reads(reading, wrap), companions: Vec::new(), reading, unfit: reading.unfit::<P>() }
    }

    pub(crate) fn and<P: DeserializeOwned>(&mut self, topic: TopicName, wrap: impl Fn(P) -> E + Send + Sync + 'static) {
        self.companions.push((topic, reads(self.reading, wrap)));
        self.unfit = self.unfit.take().or_else(|| self.reading.unfit::<P>());
    }
}

fn reads<P: DeserializeOwned, E>(reading: Reading, wrap: impl Fn(P) -> E + Send + Sync + 'static) -> ReadValue<E> {
    Box::new(move |value| reading.decode(value).map(&wrap))
}

impl<E> fmt::Debug for AnyOf<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.companions.iter().map(|(topic, _)| topic)).finish()
    }
}

impl<E: 'static> ReadEvent<E> for AnyOf<E> {
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<E, Reject> {
        let companion = self.companions.iter().find(|(topic, _)| topic == context.topic);
        companion.map_or(&self.lead, |(_, read)| read)(record.value)
    }

    fn unfit(&self) -> Option<String> {
        self.unfit.clone()
    }
}

/// A stream's event with the value that a table has for its key; a record without one is skipped.
#[derive(Debug)]
pub struct Joined<S, V> {
    pub(crate) stream: S,
    pub(crate) table: Store<V>,
}

impl<E, S, V> ReadEvent<(E, V)> for Joined<S, V>
where
    S: ReadEvent<E>,
    V: Serialize + DeserializeOwned + 'static,
{
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(E, V), Reject> {
        let event = self.stream.read(record, context)?;
        let value = context.store(&self.table)?.get(record.key.unwrap_or_default())?;
        Ok((event, value.ok_or_else(|| Reject::skip(NO_MATCH))?))
    }

    fn unfit(&self) -> Option<String> {
        self.stream.unfit()
    }
}

/// A stream's event with the value that a table has for its key, if it has one.
#[derive(Debug)]
pub struct LeftJoined<S, V> {
    pub(crate) stream: S,
    pub(crate) table: Store<V>,
}

impl<E, S, V> ReadEvent<(E, Option<V>)> for LeftJoined<S, V>
where
    S: ReadEvent<E>,
    V: Serialize + DeserializeOwned + 'static,
{
    fn read(&self, record: &Record<'_>, context: &mut Context<'_>) -> Result<(E, Option<V>), Reject> {
        let event = self.stream.read(record, context)?;
        let value = context.store(&self.table)?.get(record.key.unwrap_or_default())?;
        Ok((event, value))
    }

    fn unfit(&self) -> Option<String> {
        self.stream.unfit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::key::Key;
    use crate::flow::record::{Offset, Timestamp};
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Order {
        units: i64,
    }

    #[derive(Deserialize)]
    struct Payment {
        cents: i64,
    }

    #[derive(PartialEq, Debug)]
    enum Movement {
        Ordered(i64),
        Paid(i64),
    }

    #[test]
    fn each_topics_records_are_read_as_its_own_type() {
        let name = |name: &str| TopicName::parse(name).unwrap();
        let mut events = AnyOf::new(Reading::default(), |order: Order| Movement::Ordered(order.units));
        events.and(name("payments"), |payment: Payment| Movement::Paid(payment.cents));
        let read = |topic: &str, value: &'static [u8]| {
            let (topic, key) = (name(topic), Key::from("ada"));
            let record = Record {
                offset: Offset(0),
                timestamp: Timestamp(0),
                key: Some(b"ada"),
                value: Some(value),
                headers: &[],
            };
            events.read(&record, &mut Context::example(&topic, &key))
        };
        assert_eq!(read("orders", br#"{"units": 3}"#), Ok(Movement::Ordered(3)));
        assert_eq!(read("payments", br#"{"cents": 5}"#), Ok(Movement::Paid(5)));
        assert_eq!(read("p-orders-repartition", br#"{"units": 4}"#), Ok(Movement::Ordered(4)), "sent on from the lead");
        assert_eq!(read("payments", br#"{"units": 3}"#).unwrap_err().code(), "bad-json");
    }
}
