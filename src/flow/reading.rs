//! How the records of a source are read: the format of their values, and what comes of tombstones and of records that cannot
//! be read.

use crate::flow::codec::{Format, why_unfit};
use crate::flow::effect::Reject;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The fate of a record that cannot be read: its key is none of the step's, or its value does not decode
/// ([`Reject::Unreadable`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnUnreadable {
    /// It becomes a dead letter: nothing is lost.
    #[default]
    DeadLetter,
    /// It is skipped and counted, in the metrics `skipped` and `unreadable`; the log names the first and, now and then, later
    /// ones.
    Skip,
    /// Its partition halts in front of it, until the producer or the declaration is mended or a person passes over it.
    Halt,
}

impl fmt::Display for OnUnreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeadLetter => "dead letter",
            Self::Skip => "skipped and counted",
            Self::Halt => "the partition halts",
        })
    }
}

/// The meaning of a stream's record without a value, a tombstone. A table's tombstone always deletes its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tombstones {
    /// It cannot be read (`empty-value`): [`OnUnreadable`] says what comes of it.
    #[default]
    Unreadable,
    /// It is skipped.
    Skip,
    /// It is an event: `None`, where the algorithm's event is an `Option`. An enum or struct of one's own can read it by
    /// `visit_unit`.
    Event,
}

/// How the records of a source are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) format: Format,
    pub(crate) tombstones: Tombstones,
    pub(crate) on_unreadable: OnUnreadable,
}

impl Reading {
    /// The event of a record with this value.
    ///
    /// # Errors
    /// [`Reject::Unreadable`] as [`Format::decode`] says; a skip with the code `tombstone`.
    pub(crate) fn decode<T: DeserializeOwned>(self, value: Option<&[u8]>) -> Result<T, Reject> {
        match (value, self.tombstones) {
            (None, Tombstones::Skip) => Err(Reject::skip("tombstone")),
            (None, Tombstones::Event) => {
                of_nothing().map_err(|error| Reject::unreadable("empty-value", error.to_string()))
            }
            _ => self.format.decode(value),
        }
    }

    /// Why values, or tombstones, can never be read as a `T`: a sentence about the source, without its name.
    pub(crate) fn unfit<T: DeserializeOwned>(self) -> Option<String> {
        let unfit = self.format.unfit::<T>().map(|unfit| why_unfit(self.format, &unfit));
        let of_tombstones = || {
            // A panic is the user's own, and comes again with the first tombstone.
            let found = catch_unwind(AssertUnwindSafe(of_nothing::<T>)).ok()?;
            found.err().filter(|_| self.tombstones == Tombstones::Event).map(|error| {
                format!(
                    "its tombstones are events, which its type cannot be read from ({error}); make it an Option, or declare Tombstones::Skip"
                )
            })
        };
        unfit.or_else(of_tombstones)
    }
}

/// The value that a type reads where there is none.
fn of_nothing<T: DeserializeOwned>() -> Result<T, Error> {
    T::deserialize(().into_deserializer())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(tombstones: Tombstones) -> Reading {
        Reading { tombstones, ..Reading::default() }
    }

    #[test]
    fn a_tombstone_is_what_is_declared() {
        let read = |tombstones| reading(tombstones).decode::<Option<i64>>(None);
        assert_eq!(read(Tombstones::Event), Ok(None));
        assert_eq!(read(Tombstones::Skip), Err(Reject::skip("tombstone")));
        assert_eq!(read(Tombstones::Unreadable).unwrap_err().code(), "empty-value");
        assert_eq!(reading(Tombstones::Event).decode::<Option<i64>>(Some(b"7")), Ok(Some(7)));
        assert_eq!(reading(Tombstones::Event).decode::<i64>(None).unwrap_err().code(), "empty-value");
    }

    #[test]
    fn a_type_that_no_tombstone_can_be_is_found_without_one() {
        assert_eq!(reading(Tombstones::Event).unfit::<Option<i64>>(), None);
        assert_eq!(reading(Tombstones::Skip).unfit::<i64>(), None);
        let why = reading(Tombstones::Event).unfit::<i64>().unwrap();
        assert!(why.contains("make it an Option"), "{why}");
    }
}
