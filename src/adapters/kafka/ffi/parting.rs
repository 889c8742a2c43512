//! A client that is not waited for beyond a second when it goes.
//!
//! librdkafka ends a client by joining its threads, and one of them may be within the system's resolver: 10 s for a name that no
//! server answers for. A command that had its answer was held up by each of its clients in turn (`adopt` 35 s), so that a
//! supervisor's bound ended it before it could say what was wrong.

use crossbeam_channel::bounded;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::time::Duration;

/// The time for a client to end, which mostly takes some milliseconds.
const WAIT: Duration = Duration::from_secs(1);

/// A client that ends on a thread of its own. That thread is left behind when it takes longer than a second.
pub(in crate::adapters::kafka) struct Parting<C: Send + 'static>(ManuallyDrop<C>);

impl<C: Send + 'static> Parting<C> {
    pub(in crate::adapters::kafka) const fn new(client: C) -> Self {
        Self(ManuallyDrop::new(client))
    }
}

impl<C: Send + 'static> Deref for Parting<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Send + 'static> Drop for Parting<C> {
    fn drop(&mut self) {
        // SAFETY: taken once, and nothing looks at it afterwards.
        let client = unsafe { ManuallyDrop::take(&mut self.0) };
        let (end, ended) = bounded::<()>(0);
        let leave = move || {
            drop(client);
            drop(end);
        };
        // Where the system has no thread to give, the closure is dropped here, and the client with it.
        if std::thread::Builder::new().name("parting".into()).spawn(leave).is_ok() {
            let _ = ended.recv_timeout(WAIT); // disconnected when it has ended
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Slow(Duration, Arc<AtomicBool>);

    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(self.0);
            self.1.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_client_that_ends_soon_is_waited_for_and_one_that_hangs_is_left_behind() {
        for (takes, is_waited_for) in [(Duration::from_millis(50), true), (Duration::from_mins(10), false)] {
            let has_ended = Arc::new(AtomicBool::new(false));
            let client = Parting::new(Slow(takes, Arc::clone(&has_ended)));
            drop(client);
            assert_eq!(has_ended.load(Ordering::SeqCst), is_waited_for, "{takes:?}");
        }
    }
}
