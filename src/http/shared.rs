//! What all handlers of requests share: what is told, and how many may be under way.

use super::health::Pulse;
use super::view::View;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// So many reads of one kind at a time; of those that look at many keys, which share the processors with the pipeline, fewer.
pub(super) const READS_MAX: usize = 32;

const LONG_READS_MAX: usize = 2;

/// How long a read waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Which reads are under way. What other instances ask has places of its own: these reads ask nobody else, so that two
/// instances that ask each other never wait for each other's places.
#[derive(Clone)]
pub(super) struct Reads {
    keys: Arc<Semaphore>,
    long: Arc<Semaphore>,
    forwarded_keys: Arc<Semaphore>,
    forwarded_long: Arc<Semaphore>,
}

impl Default for Reads {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            keys: places(READS_MAX),
            long: places(LONG_READS_MAX),
            forwarded_keys: places(READS_MAX),
            forwarded_long: places(LONG_READS_MAX),
        }
    }
}

impl Reads {
    /// Waits for a place; `None` where none was free for too long.
    pub(super) async fn turn(&self, is_long: bool, is_forwarded: bool) -> Option<OwnedSemaphorePermit> {
        let places = match (is_long, is_forwarded) {
            (false, false) => &self.keys,
            (true, false) => &self.long,
            (false, true) => &self.forwarded_keys,
            (true, true) => &self.forwarded_long,
        };
        tokio::time::timeout(TURN, Arc::clone(places).acquire_owned()).await.ok()?.ok()
    }
}

/// What a handler gets.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) view: Arc<dyn View>,
    pub(super) reads: Reads,
    pub(super) reports: watch::Receiver<Arc<str>>,
    pub(super) streams: Arc<Semaphore>,
    pub(super) pulse: Arc<Pulse>,
}
