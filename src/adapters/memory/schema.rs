//! Work on the database model's schema: nothing to create, and the same upkeep.

use super::database::{MemoryDatabase, State};
use crate::flow::record::Timestamp;
use crate::flow::table::Table;
use crate::ports::schema::{Maintained, Schema};
use crate::ports::{Clock, Fault};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Work on the schema for one pipeline.
pub struct MemorySchema {
    database: MemoryDatabase,
    pipeline: String,
    clock: Arc<dyn Clock>,
    retention: Duration,
}

impl MemorySchema {
    pub(super) fn new(database: MemoryDatabase, pipeline: &str, clock: Arc<dyn Clock>, retention: Duration) -> Self {
        Self { database, pipeline: pipeline.into(), clock, retention }
    }

    fn after(&self, term: Duration) -> Timestamp {
        Timestamp(self.clock.now().0.saturating_add(millis(term)))
    }

    /// Whether `slot` may be taken by `owner`: free, expired, or theirs already.
    fn is_free(&self, state: &State, slot: u32, owner: &str) -> bool {
        let lease = state.contents.slots.get(&(self.pipeline.clone(), slot));
        lease.is_none_or(|(holder, until)| holder == owner || *until <= self.clock.now())
    }
}

impl MemoryDatabase {
    /// Work on the schema for one pipeline. Outbox rows are kept for `retention` at least.
    #[must_use]
    pub fn schema(&self, pipeline: &str, clock: Arc<dyn Clock>, retention: Duration) -> MemorySchema {
        MemorySchema::new(self.clone(), pipeline, clock, retention)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The sum of a table's row versions; `None` without such a table or column.
pub(super) fn version_sum(state: &State, table: &Table) -> Option<i64> {
    table.version_column.as_ref()?;
    let stored = state.contents.tables.get(&table.name).filter(|stored| stored.has_version)?;
    Some(stored.rows.values().map(|row| row.version).sum())
}

impl Schema for MemorySchema {
    fn migrate(&mut self) -> Result<Vec<String>, Fault> {
        let mut state = self.database.up()?;
        let is_new = !std::mem::replace(&mut state.contents.is_migrated, true);
        Ok(if is_new { vec!["0001_model".into()] } else { Vec::new() })
    }

    fn verify(&mut self) -> Result<(), Fault> {
        let is_migrated = self.database.up()?.contents.is_migrated;
        if is_migrated { Ok(()) } else { Err(Fault::fatal("Tidegate's tables are missing; run: tidegate migrate")) }
    }

    fn note_baseline(&mut self, table: &Table) -> Result<(), Fault> {
        let mut state = self.database.up()?;
        if let Some(sum) = version_sum(&state, table) {
            let key = (self.pipeline.clone(), table.name.clone());
            state.contents.baselines.entry(key).or_insert(sum);
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<Maintained, Fault> {
        let mut state = self.database.up()?;
        let kept_from = self.clock.now().0.saturating_sub(millis(self.retention));
        let contents = &mut state.contents;
        let mut ranges = BTreeSet::new();
        contents.outbox.retain(|(pipeline, source, offset, _, created_at), _| {
            let place = (pipeline.clone(), source.clone());
            let published = contents.positions.get(&place).map(|stored| stored.position.published);
            let is_published = published.is_some_and(|published| !published.is_before(*offset));
            let is_dropped = *pipeline == self.pipeline && created_at.0 < kept_from && is_published;
            if is_dropped {
                ranges.insert(place);
            }
            !is_dropped
        });
        Ok(Maintained { created: 0, dropped: ranges.len() })
    }

    fn lease_slot(&mut self, owner: &str, preferred: Option<u32>, term: Duration) -> Result<u32, Fault> {
        let mut state = self.database.up()?;
        let mine = || {
            let slots = state.contents.slots.iter();
            slots
                .filter(|((pipeline, _), (holder, _))| *pipeline == self.pipeline && holder == owner)
                .map(|((_, slot), _)| *slot)
                .next()
        };
        let slot = preferred.or_else(mine).or_else(|| (0..=u32::MAX).find(|slot| self.is_free(&state, *slot, owner)));
        let slot = slot.filter(|slot| self.is_free(&state, *slot, owner));
        let slot = slot.ok_or_else(|| Fault::retry(format!("slot {preferred:?} is leased by somebody else")))?;
        state.contents.slots.insert((self.pipeline.clone(), slot), (owner.into(), self.after(term)));
        Ok(slot)
    }

    fn renew_slot(&mut self, slot: u32, owner: &str, term: Duration) -> Result<bool, Fault> {
        let mut state = self.database.up()?;
        let until = self.after(term);
        let lease = state.contents.slots.get_mut(&(self.pipeline.clone(), slot)).filter(|(holder, _)| holder == owner);
        Ok(lease.map(|lease| lease.1 = until).is_some())
    }

    fn release_slot(&mut self, slot: u32, owner: &str) {
        let mut state = self.database.lock();
        let key = (self.pipeline.clone(), slot);
        if state.contents.slots.get(&key).is_some_and(|(holder, _)| holder == owner) {
            state.contents.slots.remove(&key);
        }
    }
}
