//! Arrays as bind parameters, in Postgres' binary form.
//!
//! A batch is a handful of arrays of some thousand elements, so these are written by straight loops into one buffer each.
//! sqlx's own encoding takes a `Vec` a column and a detour per element.

use crate::flow::record::Timestamp;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, Postgres};

/// An element type: its own oid and that of its array (`pg_type.dat`; oids of built-in types never change).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Element {
    pub(super) oid: u32,
    pub(super) array_oid: u32,
}

pub(super) const BYTEA: Element = Element { oid: 17, array_oid: 1001 };
pub(super) const INT8: Element = Element { oid: 20, array_oid: 1016 };
pub(super) const INT4: Element = Element { oid: 23, array_oid: 1007 };
pub(super) const TEXT: Element = Element { oid: 25, array_oid: 1009 };
pub(super) const FLOAT8: Element = Element { oid: 701, array_oid: 1022 };
pub(super) const TIMESTAMPTZ: Element = Element { oid: 1184, array_oid: 1185 };

/// Milliseconds from 1970 to 2000-01-01T00:00:00Z, where Postgres counts from.
const MILLIS_TO_2000: i64 = 946_684_800_000;

/// A one-dimensional array under construction.
#[derive(Debug)]
pub(super) struct Array {
    element: Element,
    length: i32,
    bytes: Vec<u8>,
}

impl Array {
    /// An empty array with room for `length` elements of `bytes` bytes each.
    pub(super) fn new(element: Element, length: usize, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(20 + length * (4 + bytes));
        // Dimensions, "has nulls" (ignored by array_recv, which looks for itself), element type, length, lower bound.
        for word in [1, 0, element.oid.cast_signed(), 0, 1] {
            buffer.extend_from_slice(&i32::to_be_bytes(word));
        }
        Self { element, length: 0, bytes: buffer }
    }

    /// Appends one element in its binary form, or a null.
    #[inline]
    pub(super) fn push(&mut self, element: Option<&[u8]>) {
        self.length += 1;
        match element {
            None => self.bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(element) => {
                // A batch is bounded far below 2 GiB (see `bytes`), so the length fits.
                let length = i32::try_from(element.len()).unwrap_or(i32::MAX);
                self.bytes.extend_from_slice(&length.to_be_bytes());
                self.bytes.extend_from_slice(element);
            }
        }
    }

    /// Size in bytes so far.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn of_i32(items: impl ExactSizeIterator<Item = i32>) -> Self {
        Self::of(INT4, 4, items, |array, item| array.push(Some(&item.to_be_bytes())))
    }

    pub(super) fn of_i64(items: impl ExactSizeIterator<Item = i64>) -> Self {
        Self::of(INT8, 8, items, |array, item| array.push(Some(&item.to_be_bytes())))
    }

    pub(super) fn of_optional_i64(items: impl ExactSizeIterator<Item = Option<i64>>) -> Self {
        Self::of(INT8, 8, items, |array, item| match item {
            Some(item) => array.push(Some(&item.to_be_bytes())),
            None => array.push(None),
        })
    }

    pub(super) fn of_f64(items: impl ExactSizeIterator<Item = Option<f64>>) -> Self {
        Self::of(FLOAT8, 8, items, |array, item| match item {
            Some(item) => array.push(Some(&item.to_be_bytes())),
            None => array.push(None),
        })
    }

    pub(super) fn of_text<'a>(items: impl ExactSizeIterator<Item = Option<&'a str>>) -> Self {
        Self::of(TEXT, 16, items, |array, item| array.push(item.map(str::as_bytes)))
    }

    pub(super) fn of_bytes<'a>(items: impl ExactSizeIterator<Item = Option<&'a [u8]>>) -> Self {
        Self::of(BYTEA, 64, items, Self::push)
    }

    pub(super) fn of_timestamp(items: impl ExactSizeIterator<Item = Timestamp>) -> Self {
        Self::of(TIMESTAMPTZ, 8, items, |array, item| array.push(Some(&micros_since_2000(item).to_be_bytes())))
    }

    fn of<T>(
        element: Element,
        bytes: usize,
        items: impl ExactSizeIterator<Item = T>,
        push: impl Fn(&mut Self, T),
    ) -> Self {
        let mut array = Self::new(element, items.len(), bytes);
        for item in items {
            push(&mut array, item);
        }
        array
    }
}

/// The elements of a one-dimensional array that the server sent, each `None` where it is null.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Reads the head; `None` when the bytes are no such array.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(i32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        match word(0)? {
            0 => Some(Self { left: 0, rest: &[] }),
            1 => Some(Self { left: usize::try_from(word(12)?).ok()?, rest: bytes.get(20..)? }),
            _ => None,
        }
    }

    /// The number of elements left.
    pub(super) const fn len(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (length, rest) = self.rest.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None); // -1 is null
        };
        let (element, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(element))
    }
}

/// An instant as `timestamptz` counts it.
pub(super) const fn micros_since_2000(at: Timestamp) -> i64 {
    at.0.saturating_sub(MILLIS_TO_2000).saturating_mul(1000)
}

/// The inverse of [`micros_since_2000`], microseconds rounded down.
pub(super) const fn timestamp_of(micros_since_2000: i64) -> Timestamp {
    Timestamp(micros_since_2000.div_euclid(1000).saturating_add(MILLIS_TO_2000))
}

impl sqlx::Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(TEXT.array_oid)) // never asked for: `produces` answers first
    }
}

impl Encode<'_, Postgres> for Array {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let (head, tail) = self.bytes.split_at(12.min(self.bytes.len()));
        buffer.extend_from_slice(head);
        buffer.extend_from_slice(&self.length.to_be_bytes());
        buffer.extend_from_slice(tail.get(4..).unwrap_or_default());
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.element.array_oid)))
    }

    fn size_hint(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_read_back_and_damage_ends_them() {
        let mut array = Array::new(INT8, 2, 8);
        array.push(Some(&7_i64.to_be_bytes()));
        array.push(None);
        let mut bytes = array.bytes.clone();
        bytes[12..16].copy_from_slice(&array.length.to_be_bytes());
        let read: Vec<_> = Elements::of(&bytes).unwrap().collect();
        assert_eq!(read, [Some(&7_i64.to_be_bytes()[..]), None]);
        assert_eq!(Elements::of(&bytes[..30]).unwrap().count(), 0);
        assert!(Elements::of(&bytes[..10]).is_none());
        assert_eq!(Elements::of(&[0; 12]).unwrap().count(), 0);
    }

    #[test]
    fn an_instant_survives_the_count_from_2000() {
        for millis in [0, 946_684_800_000, 1_769_860_800_250, -1] {
            assert_eq!(timestamp_of(micros_since_2000(Timestamp(millis))), Timestamp(millis));
        }
        assert_eq!(micros_since_2000(Timestamp(946_684_800_001)), 1000);
    }
}
