//! A record whose step takes longer than the database lets a transaction idle.

use crate::adapters::memory::database::MemoryDatabase;
use crate::adapters::memory::{ManualClock, MemoryLog};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// Longest time that a simulation's database lets a transaction idle.
const IDLE_MAX: Duration = Duration::from_millis(400);

thread_local! {
    static HAS_STALLED: Cell<bool> = const { Cell::new(false) };
}

/// Called in an algorithm: its step takes longer than the database lets a transaction idle, so that the transaction of a
/// step with a row is ended. Nothing that the step returns is kept then; each further offer ends in the same way. A step
/// without a row only takes the time.
///
/// Elsewhere than in a simulation it does nothing.
pub fn stall() {
    HAS_STALLED.set(true);
}

/// Whether a step on this thread has called [`stall`] since it was last asked.
pub(super) fn has_stalled() -> bool {
    HAS_STALLED.take()
}

/// The time that steps take, and the database that ends their transactions.
#[derive(Debug)]
pub(super) struct Idle {
    clock: Arc<ManualClock>,
    log: MemoryLog,
    database: MemoryDatabase,
}

impl Idle {
    pub(super) fn new(clock: Arc<ManualClock>, log: MemoryLog, database: MemoryDatabase) -> Self {
        database.limit_idle(Some(IDLE_MAX));
        Self { clock, log, database }
    }

    /// Lets enough time pass for the database to end an open transaction. Sessions go on: the thread that polls is not the one
    /// whose step takes long, although a simulation runs both in one.
    pub(super) fn outlast(&self) {
        let time = IDLE_MAX + Duration::from_millis(1);
        self.log.keep_sessions(time);
        self.clock.advance(time);
        self.database.set_down(true);
        self.database.set_down(false);
    }
}
