//! A call into the client library that may never return, given up when its time is over.
//!
//! librdkafka 2.12.1 looks at no clock while `rd_kafka_send_offsets_to_transaction` waits for the group's coordinator
//! (librdkafka #5456), and a coordinator that has vanished from the metadata is waited for until some other broker changes
//! its state (#5511): a killed broker left a worker waiting for minutes. So the call is made on a thread of its own, which
//! can be left behind; it ends when the library returns after all.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::time::Duration;

type Job<R> = Box<dyn FnOnce() -> R + Send>;

/// A thread that makes one call at a time.
pub(super) struct Bounded<R> {
    jobs: Sender<Job<R>>,
    answers: Receiver<R>,
}

impl<R: Send + 'static> Bounded<R> {
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, inbox) = bounded::<Job<R>>(1);
        let (answer, answers) = bounded(1);
        let run = move || {
            while let Ok(job) = inbox.recv() {
                if answer.send(job()).is_err() {
                    return; // given up
                }
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { jobs, answers })
    }

    /// Makes the call. `None`: it was not back within `wait`, or it panicked. Its captured values are lost then, and this
    /// thread is of no use any more.
    pub(super) fn call(&self, wait: Duration, job: impl FnOnce() -> R + Send + 'static) -> Option<R> {
        if self.jobs.send(Box::new(job)).is_err() {
            return None;
        }
        self.answers.recv_timeout(wait).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_and_a_call_that_hangs_is_left_behind() {
        let calls = Bounded::start("calls").unwrap();
        assert_eq!(calls.call(Duration::from_secs(10), || 7), Some(7));
        let (release, released) = bounded::<()>(0);
        let hangs = move || {
            let _ = released.recv();
            8
        };
        assert_eq!(calls.call(Duration::from_millis(50), hangs), None);
        drop(calls);
        drop(release);
    }
}
