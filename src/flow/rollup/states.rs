//! How long each state of a metric held.

use crate::flow::rollup::bytes::{Damaged, Reader, write_int, write_unsigned};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long each state held between the first and the last reading of a bucket, and how often it changed.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct States {
    /// Milliseconds by state.
    pub held_ms: BTreeMap<u8, i64>,
    /// Readings of another state than the one before.
    pub changes: u32,
}

impl States {
    pub(super) fn merge(&self, next: &Self, (last, first): (u8, u8), bridged_ms: i64) -> Self {
        let mut all = self.clone();
        for (state, ms) in next.held_ms.iter().map(|(state, ms)| (*state, *ms)).chain([(last, bridged_ms)]) {
            if ms > 0 {
                let held = all.held_ms.entry(state).or_default();
                *held = held.saturating_add(ms);
            }
        }
        all.changes = all.changes.saturating_add(next.changes).saturating_add(u32::from(first != last));
        all
    }

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        write_unsigned(into, self.changes.into());
        write_unsigned(into, self.held_ms.len() as u64);
        for (state, ms) in &self.held_ms {
            into.push(*state);
            write_int(into, *ms);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (changes, count) = (u32::try_from(from.unsigned()?).map_err(|_| Damaged)?, from.unsigned()?);
        let mut held_ms = BTreeMap::new();
        for _ in 0..count {
            held_ms.insert(from.byte()?, from.int()?);
        }
        Ok(Self { held_ms, changes })
    }
}
