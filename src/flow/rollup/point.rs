//! The value of a meter or sensor at one time.

use crate::flow::rollup::bytes::{Damaged, Reader, write_int, write_number};
use serde::{Deserialize, Serialize};

/// A reading: when, and of what value.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// When it was taken, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// Its value, which is finite.
    pub value: f64,
}

impl Point {
    pub(super) fn write(self, into: &mut Vec<u8>, start_ms: i64) {
        write_int(into, self.at_ms.wrapping_sub(start_ms));
        write_number(into, self.value);
    }

    pub(super) fn read(from: &mut Reader<'_>, start_ms: i64) -> Result<Self, Damaged> {
        Ok(Self { at_ms: from.int()?.wrapping_add(start_ms), value: from.number()? })
    }
}
