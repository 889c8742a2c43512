//! Numbers in few bytes.

use std::fmt;

/// Bytes that do not hold what they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a bucket are damaged")
    }
}

impl std::error::Error for Damaged {}

/// Writes seven bits a byte, the last ones first.
pub(crate) fn write_unsigned(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    into.push(value.to_le_bytes()[0]);
}

/// Writes a number with a sign: small ones in few bytes, whichever sign they have.
pub(crate) fn write_int(into: &mut Vec<u8>, value: i64) {
    write_unsigned(into, (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
}

/// The most decimal places of a number that is written as a decimal one.
const PLACES: u32 = 6;
/// Stands where the eight bytes of a number follow.
const WHOLE: u64 = 7;
/// Decimal numbers below this are written exactly.
const DECIMAL_MAX: f64 = 9_007_199_254_740_992.0;

/// Writes a number: one of few decimal places as such, every other one in nine bytes. What is read again has the same bits.
pub(crate) fn write_number(into: &mut Vec<u8>, value: f64) {
    for places in 0..=PLACES {
        let scale = 10_f64.powi(places.cast_signed());
        let scaled = (value * scale).round();
        if scaled.abs() >= DECIMAL_MAX {
            break;
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is a whole number, and small enough")]
        let whole = scaled as i64;
        if (decimal(whole, places)).to_bits() == value.to_bits() {
            let zigzag = (whole.cast_unsigned() << 1) ^ (whole >> 63).cast_unsigned();
            return write_unsigned(into, (zigzag << 3) | u64::from(places));
        }
    }
    write_unsigned(into, WHOLE);
    into.extend_from_slice(&value.to_le_bytes());
}

/// The number that so many of a decimal place are.
fn decimal(whole: i64, places: u32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "what was written is below 2^53")]
    let whole = whole as f64;
    whole / 10_f64.powi(places.cast_signed())
}

/// Reads what was written, from the front.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.rest.split_first().ok_or(Damaged)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, Damaged> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Damaged);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    pub(crate) fn int(&mut self) -> Result<i64, Damaged> {
        self.unsigned().map(unzigzag)
    }

    pub(crate) fn number(&mut self) -> Result<f64, Damaged> {
        let head = self.unsigned()?;
        let places = u32::try_from(head & 7).map_err(|_| Damaged)?;
        if head == WHOLE {
            let (bytes, rest) = self.rest.split_first_chunk().ok_or(Damaged)?;
            self.rest = rest;
            return Ok(f64::from_le_bytes(*bytes));
        }
        if places > PLACES {
            return Err(Damaged);
        }
        Ok(decimal(unzigzag(head >> 3), places))
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (first, rest) = self.rest.split_at_checked(length).ok_or(Damaged)?;
        self.rest = rest;
        Ok(first)
    }

    /// What was read between here and `later`, a copy of this reader that has read on.
    pub(crate) fn until(&self, later: &Self) -> &'a [u8] {
        self.rest.get(..self.rest.len().saturating_sub(later.rest.len())).unwrap_or_default()
    }
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(
            value in prop_oneof![
                any::<f64>(),
                (-1_000_000_i64..1_000_000, 0_i32..8).prop_map(|(whole, places)| whole as f64 / 10_f64.powi(places)),
                Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(9e15), Just(1e16),
            ],
            int in any::<i64>(),
            unsigned in any::<u64>(),
        ) {
            let mut bytes = Vec::new();
            write_number(&mut bytes, value);
            write_int(&mut bytes, int);
            write_unsigned(&mut bytes, unsigned);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number().unwrap().to_bits(), value.to_bits());
            prop_assert_eq!(reader.int(), Ok(int));
            prop_assert_eq!(reader.unsigned(), Ok(unsigned));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = Reader::new(&bytes).number();
            let _ = Reader::new(&bytes).int();
        }
    }

    #[test]
    fn a_number_of_few_places_takes_few_bytes() {
        let length = |value| {
            let mut bytes = Vec::new();
            write_number(&mut bytes, value);
            bytes.len()
        };
        assert_eq!((length(0.0), length(7.0), length(21.5), length(234.56), length(0.1 + 0.2)), (1, 1, 2, 3, 9));
    }
}
