//! What the page looks at.

use crate::engine::query::{Reading, Refusal, Wanted};
use crate::engine::status::Status;
use crate::flow::rollup::RollUp;
use crate::http::refused::Refused;
use crate::ports::fault::Fault;
use crate::ports::rollups::RollUpTables;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the page looks at: one process, whatever runs in it.
pub trait View: Send + Sync {
    /// The numbers and the tasks.
    fn status(&self) -> &Status;

    /// What runs, for the page's head.
    fn about(&self) -> About;

    /// The names under which it may be asked for, beside addresses and `localhost`.
    fn hosts(&self) -> Vec<String> {
        Vec::new()
    }

    /// The names of the stores that can be read.
    fn stores(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads a store. May block for seconds; gives up where `is_gone` says that nobody waits any more.
    ///
    /// # Errors
    /// Why nothing is told.
    fn read(&self, store: &str, wanted: &Wanted, is_gone: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        let _ = (store, wanted, is_gone);
        Err(Refusal::UnknownStore { known: self.stores() })
    }

    /// Where the owners of these partitions of a store said that they can be asked. May block for seconds.
    fn owners(&self, store: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        let _ = (store, partitions);
        BTreeMap::new()
    }

    /// An owner was asked in vain.
    fn doubt_owners(&self) {}

    /// The roll-ups of the pipeline.
    fn roll_ups(&self) -> &[RollUp] {
        &[]
    }

    /// Works with the tables of roll-ups. May block for seconds.
    ///
    /// # Errors
    /// Why nothing was done.
    fn roll_up_tables(&self, work: &mut dyn FnMut(&mut dyn RollUpTables) -> Result<(), Fault>) -> Result<(), String> {
        let _ = work;
        Err("there are no roll-ups".into())
    }

    /// Whether whoever asks for roll-ups needs a token.
    fn wants_tokens(&self) -> bool {
        true
    }

    /// Writes records into the topic of a roll-up, keys and values, and waits until they are acknowledged.
    ///
    /// # Errors
    /// [`Untaken`]: nothing is known to be written.
    fn ingest(&self, rollup: &RollUp, records: Vec<(String, Vec<u8>)>) -> Result<(), Untaken> {
        let _ = (rollup, records);
        Err(Untaken::Failed("this instance takes no readings".into()))
    }

    /// What the last crash came to, where this process has seen one.
    fn last_recovery(&self) -> Option<Recovery> {
        None
    }
}

/// Works with the tables of roll-ups.
pub(super) fn with_tables<T>(
    view: &dyn View,
    work: impl FnOnce(&mut dyn RollUpTables) -> Result<T, Fault>,
) -> Result<T, Refused> {
    let (mut work, mut done) = (Some(work), None);
    let worked = view.roll_up_tables(&mut |tables| {
        if let Some(work) = work.take() {
            done = Some(work(tables)?);
        }
        Ok(())
    });
    worked.map_err(Refused::unavailable)?;
    done.ok_or_else(|| Refused::unavailable("the tables were not asked"))
}

/// Why readings were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// Too much is under way.
    Full,
    /// They were not acknowledged.
    Failed(String),
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where it runs, in one line.
    pub place: String,
}

/// What a crash came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Which one it was, counted from 1.
    pub number: usize,
    /// From the crash until every partition took records again.
    pub took_ms: u64,
    /// Notifications published from the outbox.
    pub published: u64,
    /// Algorithm runs repeated.
    pub repeated: u64,
}
