//! The ground of the tests: servers, instances, a feed that computes the expected results, and a judge.

#[cfg(feature = "failpoints")]
mod database_proxy;
#[cfg(feature = "rocksdb")]
mod disk;
mod feed;
#[cfg(feature = "failpoints")]
mod frame;
mod instance;
mod judge;
mod lines;
mod load;
#[cfg(feature = "failpoints")]
mod message;
mod obstacle;
#[cfg(feature = "failpoints")]
mod proof;
#[cfg(feature = "failpoints")]
mod proxy;
mod random;
mod reference;
mod servers;
mod sql;
#[cfg(feature = "failpoints")]
mod statement;
mod world;

#[cfg(feature = "failpoints")]
pub use database_proxy::{Action as DatabaseAction, DatabaseProxy, Forged};
#[cfg(feature = "rocksdb")]
pub use disk::Disk;
pub use feed::Feed;
#[cfg(feature = "failpoints")]
pub use frame::Request;
pub use instance::Instance;
pub use judge::Audit;
pub use lines::worst_line;
pub use load::Load;
#[cfg(feature = "failpoints")]
pub use message::Exchange;
pub use obstacle::{OpenTransaction, Quota, Stranger, Telling, assert_tells};
#[cfg(feature = "failpoints")]
pub use proof::Proof;
#[cfg(feature = "failpoints")]
pub use proxy::{Action, Fate, Held, Line, Proxy};
pub use random::Random;
pub use reference::{Account, Reference};
pub use sql::{Session, number, sql};
#[cfg(feature = "failpoints")]
pub use statement::Statement;
pub use world::{Permit, World, accounts, binary as tidegate, is_wanted};

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Writes past the test harness, which would keep it to itself until a test fails.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Does something `count` times, evenly over `during`.
pub fn evenly(count: u64, during: Duration, mut each: impl FnMut()) {
    let began = Instant::now();
    for number in 0..count {
        let due = during.mul_f64(number as f64 / count as f64);
        if let Some(early) = due.checked_sub(began.elapsed()).filter(|early| *early > Duration::from_millis(5)) {
            std::thread::sleep(early);
        }
        each();
    }
}

/// Does `again` over and over in a thread of its own until `act` has come to its end, or has failed.
pub fn beside(mut again: impl FnMut() + Send, act: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                again();
            }
        });
        // Also where it fails: the thread would run for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        is_over.store(true, Ordering::Release);
        beside.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Asks every 100 ms until there is an answer.
pub fn until<T>(what: &str, within: Duration, ask: impl FnMut() -> Result<T, String>) -> T {
    in_time(within, ask).unwrap_or_else(|so_far| panic!("{what}: not within {within:?}: {so_far}"))
}

/// Asks like [`until`]; where there is no answer in time, returns the last error instead. That is from the end of that
/// time at least: asking may itself take long, as an audit does, and speaks of the moment when it began.
pub fn in_time<T>(within: Duration, mut ask: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let end = Instant::now() + within;
    loop {
        let asked = Instant::now();
        match ask() {
            Err(_) if asked < end => std::thread::sleep(Duration::from_millis(100)),
            answer => return answer,
        }
    }
}
