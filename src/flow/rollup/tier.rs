//! A tier of a roll-up: a row for each metric of a device and span, which holds the buckets of that span in few bytes.

use crate::flow::rollup::bytes::{Damaged, Reader, write_unsigned};
use crate::flow::rollup::{Bucket, Metric, Unmergeable};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The buckets of a row, by their number within the row's span.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Packed(Vec<u8>);

/// One bucket of a row.
#[derive(Clone, PartialEq, Debug)]
pub struct Slot {
    /// How often it has been told otherwise: 1 is the first time.
    pub revision: u32,
    /// What was told of it as a whole, last.
    pub base: Option<Bucket>,
    /// What was told on top of that: readings that came when their neighbours were forgotten.
    pub late: Option<Bucket>,
}

impl Slot {
    /// Both together.
    ///
    /// # Errors
    /// If they are of different metrics.
    pub fn whole(&self, metric: &Metric) -> Result<Option<Bucket>, Unmergeable> {
        match (&self.base, &self.late) {
            (Some(base), Some(late)) => metric.overlay(base, late).map(Some),
            (base, late) => Ok(base.clone().or_else(|| late.clone())),
        }
    }
}

impl Packed {
    /// The buckets of a row whose span begins at `start_ms` and whose buckets are so long, by their numbers.
    ///
    /// # Errors
    /// If the bytes are none of ours.
    pub(super) fn slots(&self, start_ms: i64, bucket_ms: i64) -> Result<BTreeMap<u16, Slot>, Damaged> {
        let (mut from, mut slots, mut next) = (Reader::new(&self.0), BTreeMap::new(), 0_u64);
        while !from.is_empty() {
            let number = next.checked_add(from.unsigned()?).ok_or(Damaged)?;
            let head = from.unsigned()?;
            let start_ms = start_ms + bucket_ms * i64::try_from(number).map_err(|_| Damaged)?;
            let mut bucket = |bit: u64| (head & bit != 0).then(|| Bucket::read(&mut from, start_ms)).transpose();
            let (base, late) = (bucket(1)?, bucket(2)?);
            let revision = u32::try_from(head >> 2).map_err(|_| Damaged)?;
            slots.insert(u16::try_from(number).map_err(|_| Damaged)?, Slot { revision, base, late });
            next = number + 1;
        }
        Ok(slots)
    }

    /// Packs buckets.
    pub(super) fn of(slots: &BTreeMap<u16, Slot>, start_ms: i64, bucket_ms: i64) -> Self {
        let (mut into, mut next) = (Vec::new(), 0_u64);
        for (number, Slot { revision, base, late }) in slots {
            let start_ms = start_ms + bucket_ms * i64::from(*number);
            write_unsigned(&mut into, u64::from(*number) - next);
            write_unsigned(&mut into, u64::from(*revision) << 2 | u64::from(base.is_some()) | u64::from(late.is_some()) << 1);
            for bucket in [base, late].into_iter().flatten() {
                bucket.write(&mut into, start_ms);
            }
            next = u64::from(*number) + 1;
        }
        Self(into)
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Packed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Packed, E> {
                Ok(Packed(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Packed, E> {
                Ok(Packed(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Bytes)
    }
}
