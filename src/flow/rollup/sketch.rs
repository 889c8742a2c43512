//! Counts of values by their size, of which quantiles are told.
//!
//! A value's bin is its sign, its exponent and the first bits of its mantissa: 64 bins between a power of two and the next one. Finding it takes integer arithmetic alone, so it is the same on every machine; and counts are added up, so a sketch of parts,
//! merged in any order, is the sketch of the whole, byte for byte.

use crate::flow::rollup::bytes::{Damaged, Reader, write_int, write_number, write_unsigned};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The bits of a mantissa that tell bins apart. A value is told by the middle of its bin: wrong by 1 in 128 at most, 0.8 %.
const BITS: u32 = 6;
/// Bits of a mantissa that say nothing.
const REST: u32 = f64::MANTISSA_DIGITS - 1 - BITS;
const SIGN: u64 = 1 << 63;

/// How often values of which size were met.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct Sketch {
    around: f64,
    /// By bin: 0 is the value 0, and bins of negative values are negative.
    counts: BTreeMap<i32, u64>,
}

/// Sketches around different values, which have no bins in common.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mismatch {
    into: f64,
    from: f64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { into, from } = self;
        write!(f, "a sketch around {into} cannot take one around {from}: one metric is told the same value always")
    }
}

impl std::error::Error for Mismatch {}

impl Sketch {
    /// A sketch of distances from a value, which must be finite: where values lie close to it, as a voltage at 240, its quantiles
    /// are wrong by 0.8 % of their distance from it and not of themselves.
    #[must_use]
    pub const fn around(around: f64) -> Self {
        Self { around, counts: BTreeMap::new() }
    }

    /// Counts a value, which is finite.
    pub fn add(&mut self, value: f64) {
        let count = self.counts.entry(bin(value - self.around)).or_default();
        *count = count.saturating_add(1);
    }

    /// Adds the counts of another sketch.
    ///
    /// # Errors
    /// If it is one around another value.
    pub fn merge(&mut self, other: &Self) -> Result<(), Mismatch> {
        if self.around.to_bits() != other.around.to_bits() {
            return Err(Mismatch { into: self.around, from: other.around });
        }
        for (bin, more) in &other.counts {
            let count = self.counts.entry(*bin).or_default();
            *count = count.saturating_add(*more);
        }
        Ok(())
    }

    /// The value below or at which that part of the values lies, from 0 to 1. `None` where there is no value.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.counts.values().sum::<u64>();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a rank"
        )]
        let rank = ((part.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let found = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map(|(bin, _)| self.around + middle(*bin))
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Writes its bytes: the value that it lies around, the number of bins, and each with its distance from the one before.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        write_number(into, self.around);
        write_unsigned(into, self.counts.len() as u64);
        let mut before = 0;
        for (bin, count) in &self.counts {
            write_int(into, i64::from(*bin) - before);
            write_unsigned(into, *count);
            before = i64::from(*bin);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let around = from.number()?;
        let (mut counts, mut before) = (BTreeMap::new(), 0_i64);
        for _ in 0..from.unsigned()? {
            before = before.checked_add(from.int()?).ok_or(Damaged)?;
            counts.insert(i32::try_from(before).map_err(|_| Damaged)?, from.unsigned()?);
        }
        Ok(Self { around, counts })
    }
}

/// The bin of a value.
fn bin(value: f64) -> i32 {
    if value == 0.0 {
        return 0;
    }
    let size = i32::try_from((value.to_bits() & !SIGN) >> REST).unwrap_or(i32::MAX - 1) + 1;
    if value < 0.0 { -size } else { size }
}

/// The value in the middle of a bin.
fn middle(bin: i32) -> f64 {
    let Some(size) = bin.unsigned_abs().checked_sub(1) else { return 0.0 };
    let middle = f64::from_bits((u64::from(size) << REST) | (1 << (REST - 1)));
    if bin < 0 { -middle } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64], around: f64) -> Sketch {
        let mut sketch = Sketch::around(around);
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    fn bytes(sketch: &Sketch) -> Vec<u8> {
        let mut bytes = Vec::new();
        sketch.write(&mut bytes);
        bytes
    }

    /// The smallest value at or below which that part lies.
    fn exact(values: &[f64], part: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a rank"
        )]
        let rank = ((part * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1]
    }

    proptest! {
        #[test]
        fn parts_in_any_order_are_the_whole_byte_for_byte(
            parts in prop::collection::vec(prop::collection::vec(-1e6_f64..1e6, 0..20), 1..8),
            seed in any::<u64>(),
        ) {
            let whole = of(&parts.concat(), 0.0);
            let mut order: Vec<usize> = (0..parts.len()).collect();
            order.sort_by_key(|n| (*n as u64 + 1).wrapping_mul(seed | 1));
            let mut merged = Sketch::default();
            for part in order {
                merged.merge(&of(&parts[part], 0.0)).unwrap();
            }
            prop_assert_eq!(bytes(&merged), bytes(&whole));
            prop_assert_eq!(Sketch::read(&mut Reader::new(&bytes(&merged))), Ok(merged));
        }

        #[test]
        fn a_quantile_is_wrong_by_less_than_a_hundredth(
            values in prop::collection::vec(prop_oneof![Just(0.0), -1e9_f64..1e9, 1e-9_f64..1e-3, -50.0_f64..50.0], 1..200),
            part in 0.0_f64..=1.0,
        ) {
            let (told, right) = (of(&values, 0.0).quantile(part).unwrap(), exact(&values, part));
            prop_assert!((told - right).abs() <= 0.008 * right.abs(), "{} instead of {}", told, right);
        }

        #[test]
        fn a_voltage_is_told_to_a_tenth_of_a_volt(values in prop::collection::vec(229.0_f64..251.0, 1..200), part in 0.0_f64..=1.0) {
            let (told, right) = (of(&values, 240.0).quantile(part).unwrap(), exact(&values, part));
            prop_assert!((told - right).abs() <= 0.1, "{} instead of {}", told, right);
        }
    }

    #[test]
    fn the_ends_of_the_numbers_have_bins() {
        for value in [f64::MAX, -f64::MAX, f64::MIN_POSITIVE, 5e-324, -5e-324, 1.0, 0.0, -0.0] {
            let told = of(&[value], 0.0).quantile(0.5).unwrap();
            assert!(told.is_finite(), "{value}: {told}");
            assert!((told - value).abs() <= 0.008 * value.abs() || value.abs() < f64::MIN_POSITIVE, "{value}: {told}");
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn sketches_around_different_values_are_not_merged() {
        let fault = of(&[1.0], 0.0).merge(&of(&[1.0], 240.0)).unwrap_err();
        assert!(fault.to_string().contains("around 240"), "{fault}");
    }
}
