//! The time for which a source partition stands still: the database is asked twenty times a second where each one is.

use crate::rig::until;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(50);
/// The longest that all partitions may take to move on, whatever has happened.
const MOVE_MAX: Duration = Duration::from_secs(30);

/// A watcher in a thread of its own. The feed gives each partition some 25 records a second, so that one which stands for
/// half a second is kept from moving.
pub struct Standing {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// The position of each partition, and the time since when.
    partitions: HashMap<(String, i32), (i64, Instant)>,
    /// The longest that one of them had stood when it moved.
    longest: Duration,
}

impl Seen {
    fn see(&mut self, place: (String, i32), next_offset: i64) {
        let now = Instant::now();
        let (at, since) = self.partitions.entry(place).or_insert((next_offset, now));
        if next_offset > *at {
            self.longest = self.longest.max(now - *since);
            (*at, *since) = (next_offset, now);
        }
    }
}

impl Standing {
    pub fn start(database_url: &str) -> Self {
        let (seen, is_over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (url, seen_too, is_over_too) = (database_url.to_owned(), Arc::clone(&seen), Arc::clone(&is_over));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || {
            while !is_over_too.load(Ordering::Acquire) {
                // An error is the database's absence: asked again on a new connection.
                let _ = runtime.block_on(watch(&url, &seen_too, &is_over_too));
                std::thread::sleep(EVERY);
            }
        });
        Self { seen, is_over, thread: Some(thread) }
    }

    /// Whether so many partitions have been claimed.
    pub fn sees(&self, count: usize) -> Result<(), String> {
        let seen = self.seen.lock().unwrap().partitions.len();
        if seen == count { Ok(()) } else { Err(format!("{seen} of {count}")) }
    }

    /// From now on only partitions that stand now or later count.
    pub fn forget(&self) {
        self.seen.lock().unwrap().longest = Duration::ZERO;
    }

    /// The longest that any partition has stood, also one that still does.
    pub fn longest(&self) -> Duration {
        let seen = self.seen.lock().unwrap();
        let still = seen.partitions.values().map(|(_, since)| since.elapsed()).max();
        seen.longest.max(still.unwrap_or_default())
    }

    /// Waits until every partition has moved from now on; how long that took.
    pub fn wait_all_move(&self) -> Duration {
        let began = Instant::now();
        until("every partition moves", MOVE_MAX, || {
            let seen = self.seen.lock().unwrap();
            let still = seen.partitions.values().filter(|(_, since)| *since <= began).count();
            if still == 0 { Ok(()) } else { Err(format!("{still} of {} stand", seen.partitions.len())) }
        });
        began.elapsed()
    }
}

async fn watch(url: &str, seen: &Mutex<Seen>, is_over: &AtomicBool) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    while !is_over.load(Ordering::Acquire) {
        let rows = sqlx::query("SELECT topic, partition, next_offset FROM tidegate.position");
        for row in rows.fetch_all(&mut connection).await? {
            let place = (row.try_get_unchecked(0)?, row.try_get_unchecked(1)?);
            seen.lock().unwrap().see(place, row.try_get_unchecked(2)?);
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.thread.take().unwrap().join(); // its own panic was reported
    }
}
