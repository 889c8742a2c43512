//! Samples of a pipeline under load, once a second.

use super::database::Database;
use super::topics::Topics;
use super::{Servers, sample};
use crate::laws::Sample;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A watcher in a thread of its own. While a server does not answer there are no samples.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Watch {
    pub fn start(servers: &Servers) -> Result<Self, String> {
        let (mut topics, mut database) = (Topics::connect(&servers.bootstrap)?, Database::new(&servers.database_url)?);
        let is_over = Arc::new(AtomicBool::new(false));
        let is_over_too = Arc::clone(&is_over);
        let bootstrap = servers.bootstrap.clone();
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !is_over_too.load(Ordering::Acquire) {
                match sample(&topics, &mut database) {
                    Ok(sample) => samples.push(sample),
                    // A client that has lost a broker may ask it again and again.
                    Err(_) => topics = Topics::connect(&bootstrap).unwrap_or(topics),
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            samples
        });
        Ok(Self { is_over, thread })
    }

    pub fn end(self) -> Result<Vec<Sample>, String> {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().map_err(|_| "the watcher panicked".into())
    }
}
