//! One suite over all adapters of a port: the same sentences hold for the model and for the real thing.
//!
//! - [`log`] states what a log does, over a [`log::LogBench`]; [`rows`] what rows, schema and row history do, over a
//!   [`rows::RowsBench`]; [`rollups`] what the tables of roll-ups do, over a [`rollups::RollUpsBench`]; [`store`] what stores do, over a
//!   [`store::StoreBench`].
//! - One module an adapter below opens its bench and instantiates a suite. Benches of servers (Apache Kafka, Postgres) run
//!   with `SYSTEM_TESTS=1`, which `make test` sets, and print a line when they are skipped.
//! - What only a model can be made to do (time in hand, lost answers) is in `memory`.
//!
//! A server acts when it likes, so a sentence waits with [`eventually`] for what must come, within [`PATIENCE`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::missing_panics_doc)]

#[cfg(feature = "kafka")]
mod kafka;
mod log;
mod member;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod rollups;
mod rows;
#[cfg(any(feature = "kafka", feature = "postgres"))]
mod servers;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod suite;

use std::time::Duration;
use tidegate::ports::Clock;
use tidegate::ports::clock::SystemClock;

/// Longest wait of a test for an answer that must come. A broker's rebalance may take two session heartbeats and a join.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `check` until it answers, and gives up with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::default();
    loop {
        if let Some(answer) = check() {
            return answer;
        }
        assert!(clock.elapsed() < PATIENCE, "waited {PATIENCE:?} for this in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A name that no other test and no earlier run uses.
pub fn unique(word: &str) -> String {
    format!("{word}-{}", &uuid::Uuid::new_v4().simple().to_string()[..10])
}
