//! A tier of a roll-up: a row for each metric of a device and span, which holds the buckets of that span in few bytes.
//!
//! A bucket that changes makes the one of the tier above anew, of all of the row's buckets that lie in it, in the order of time: what is
//! told of an hour depends on its quarters alone, and not on the order in which they came.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::effect::Reject;
use crate::flow::notice::Notice;
use crate::flow::rollup::bytes::{Damaged, Reader, write_unsigned};
use crate::flow::rollup::minute::{DAY_MS, HOUR_MS, QUARTER_MS, start_of};
use crate::flow::rollup::{Bucket, Metered, Metric, SeriesKey, Told, Unmergeable};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The tiers of a roll-up that lie in tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// Quarters of an hour: those of a day in a row.
    Quarters,
    /// Hours: those of 32 days in a row.
    Hours,
    /// Days of UTC: those of 384 days in a row.
    Days,
}

impl Tier {
    /// All of them, the finest first.
    pub const ALL: [Self; 3] = [Self::Quarters, Self::Hours, Self::Days];

    /// What its topic and its table are called behind the roll-up's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Quarters => "quarters",
            Self::Hours => "hours",
            Self::Days => "days",
        }
    }

    /// The table of a roll-up of this name.
    #[must_use]
    pub fn table(self, rollup: &str) -> String {
        format!("{rollup}_{}", self.word())
    }

    /// The length of a bucket, in milliseconds.
    #[must_use]
    pub const fn bucket_ms(self) -> i64 {
        match self {
            Self::Quarters => QUARTER_MS,
            Self::Hours => HOUR_MS,
            Self::Days => DAY_MS,
        }
    }

    /// The length of a row, in milliseconds: rows begin at its multiples since 1970, UTC.
    #[must_use]
    pub const fn row_ms(self) -> i64 {
        match self {
            Self::Quarters => DAY_MS,
            Self::Hours => 32 * DAY_MS,
            Self::Days => 384 * DAY_MS,
        }
    }

    /// The tier that is made of this one's buckets.
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Quarters => Some(Self::Hours),
            Self::Hours => Some(Self::Days),
            Self::Days => None,
        }
    }
}

/// The row of a tier: its one column `buckets`, of the type `bytea`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct TierRow {
    /// The buckets.
    pub buckets: Packed,
}

/// [`Algorithm`]: writes a tier's rows, and tells the tier above.
pub(crate) struct Write<M> {
    pub(crate) metered: Arc<M>,
    pub(crate) tier: Tier,
}

impl<M: Metered> Algorithm for Write<M> {
    type Event = Told;
    type Row = TierRow;
    type Notices = Option<Notice<Told>>;

    fn apply(&self, told: Told, row: &mut TierRow, context: &mut Context<'_>) -> Result<Self::Notices, Reject> {
        let key: SeriesKey = context.key().read()?;
        let unknown = || Reject::dead_letter("unknown-metric", format!("there is no metric {}", key.metric));
        let metric = self.metered.metric(&key.metric).ok_or_else(unknown)?;
        let damaged = |error: Damaged| Reject::dead_letter("bad-bucket", error.to_string());
        let unfit = |error: Unmergeable| Reject::dead_letter("bad-bucket", error.to_string());
        let (tier, bucket_ms) = (self.tier, self.tier.bucket_ms());
        let mut slots = row.buckets.slots(key.start_ms, bucket_ms).map_err(damaged)?;
        let Told { start_ms, bucket, is_addition } = told;
        let number = u16::try_from((start_ms - key.start_ms) / bucket_ms).ok();
        let is_here = start_ms >= key.start_ms && start_ms - key.start_ms < tier.row_ms();
        let number = number.filter(|_| is_here).ok_or_else(|| {
            Reject::dead_letter(
                "bad-bucket",
                format!("a bucket from {start_ms} on is none of the row's from {}", key.start_ms),
            )
        })?;
        let slot = slots.entry(number).or_default();
        let before = slot.clone();
        if is_addition {
            // What was told of another kind under this name is over.
            let late = slot.late.take().filter(|late| metric.is_of(late));
            slot.late = Some(match late {
                Some(late) => metric.overlay(&late, &bucket).map_err(unfit)?,
                None => bucket,
            });
        } else {
            slot.base = Some(bucket);
        }
        if *slot == before {
            return Ok(None);
        }
        slot.revision = slot.revision.saturating_add(1);
        row.buckets = Packed::of(&slots, key.start_ms, bucket_ms);
        let Some(parent) = tier.parent() else { return Ok(None) };
        let start_ms = start_of(start_ms, parent.bucket_ms());
        let first = u16::try_from((start_ms - key.start_ms) / bucket_ms).unwrap_or_default();
        let count = u16::try_from(parent.bucket_ms() / bucket_ms).unwrap_or_default();
        let mut whole: Option<Bucket> = None;
        for (_, slot) in slots.range(first..first + count) {
            let Some(next) = slot.whole(&metric).map_err(unfit)? else { continue };
            whole = Some(match whole {
                Some(one) => metric.overlay(&one, &next).map_err(unfit)?,
                None => next,
            });
        }
        let start_of_row = start_of(start_ms, parent.row_ms());
        let key = SeriesKey { start_ms: start_of_row, ..key };
        whole.map(|bucket| key.tell(Told { start_ms, bucket, is_addition: false })).transpose()
    }
}

/// The buckets of a row, by their number within the row's span.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Packed(Vec<u8>);

/// One bucket of a row.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Slot {
    /// How often it has been told otherwise: 1 is the first time.
    pub revision: u32,
    /// What was told of it as a whole, last.
    pub base: Option<Bucket>,
    /// What was told on top of that: readings that came when their neighbours were forgotten.
    pub late: Option<Bucket>,
}

impl Slot {
    /// Both together, as far as they are of the metric's kind.
    ///
    /// # Errors
    /// If their sketches lie around different values.
    pub fn whole(&self, metric: &Metric) -> Result<Option<Bucket>, Unmergeable> {
        let [base, late] = [&self.base, &self.late].map(|bucket| bucket.as_ref().filter(|bucket| metric.is_of(bucket)));
        match (base, late) {
            (Some(base), Some(late)) => metric.overlay(base, late).map(Some),
            (base, late) => Ok(base.or(late).cloned()),
        }
    }
}

impl Packed {
    /// The buckets of a row whose span begins at `start_ms` and whose buckets are so long, by their numbers.
    ///
    /// # Errors
    /// If the bytes are none of ours.
    pub fn slots(&self, start_ms: i64, bucket_ms: i64) -> Result<BTreeMap<u16, Slot>, Damaged> {
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

    /// Packs the buckets of a row whose span begins at `start_ms` and whose buckets are so long, by their numbers: for programs that
    /// fill tables, as with what another system has kept.
    #[must_use]
    pub fn of(slots: &BTreeMap<u16, Slot>, start_ms: i64, bucket_ms: i64) -> Self {
        let (mut into, mut next) = (Vec::new(), 0_u64);
        for (number, Slot { revision, base, late }) in slots {
            let start_ms = start_ms + bucket_ms * i64::from(*number);
            write_unsigned(&mut into, u64::from(*number) - next);
            write_unsigned(
                &mut into,
                u64::from(*revision) << 2 | u64::from(base.is_some()) | u64::from(late.is_some()) << 1,
            );
            for bucket in [base, late].into_iter().flatten() {
                bucket.write(&mut into, start_ms);
            }
            next = u64::from(*number) + 1;
        }
        Self(into)
    }
}

impl From<Vec<u8>> for Packed {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Packed> for Vec<u8> {
    fn from(Packed(bytes): Packed) -> Self {
        bytes
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
