//! SIGINT, SIGTERM and SIGHUP. Every command answers them itself, since a process that is pid 1 of a container has no default
//! for them: at first they end it at once, with 128 and the signal's number as shells count; a service asks to hear of them
//! instead, once it has something to bring to an end.

use crate::app::failure::Failure;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown, register_usize};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Added to the number of a signal that ended a process, in its exit code.
const ENDED_BY: i32 = 128;

/// The answer of this process to signals; copies are of one answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// A signal ends the process on the spot.
    is_at_once: Arc<AtomicBool>,
    /// A signal has come since [`Signals::hold`].
    is_stopping: Arc<AtomicBool>,
    /// The number of the last one; 0 before.
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Lets every signal end the process at once.
    pub(super) fn answered() -> Result<Self, Failure> {
        let signals = Self::default();
        signals.is_at_once.store(true, Ordering::Release);
        signals
            .register(is_ignored(SIGHUP))
            .map_err(|error| Failure::message(format!("signals cannot be handled: {error}")))?;
        Ok(signals)
    }

    fn register(&self, is_detached: bool) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_detached {
                continue; // by nohup: it is to outlive its terminal
            }
            register_conditional_shutdown(signal, ENDED_BY + signal, Arc::clone(&self.is_at_once))?;
            if signal == SIGINT {
                // The second Ctrl-C. A supervisor may well repeat SIGTERM, and means nothing more by it.
                register_conditional_shutdown(signal, ENDED_BY + signal, Arc::clone(&self.is_stopping))?;
            }
            register_usize(signal, Arc::clone(&self.last), usize::try_from(signal).unwrap_or(0))?;
            register(signal, Arc::clone(&self.is_stopping))?;
        }
        Ok(())
    }

    /// From now on a signal asks for a stop, and only a Ctrl-C after it ends the process at once.
    #[cfg(any(feature = "sqlite", all(feature = "kafka", feature = "postgres")))]
    pub(super) fn hold(&self) {
        self.is_at_once.store(false, Ordering::Release);
    }

    /// Whether the process is asked to stop.
    #[cfg(any(feature = "sqlite", all(feature = "kafka", feature = "postgres")))]
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Ends the process as the signal would have, had it not been held.
    #[cfg(all(feature = "kafka", feature = "postgres"))]
    pub(super) fn end_process(&self) -> ! {
        signal_hook::low_level::exit(ENDED_BY + i32::try_from(self.last.load(Ordering::Acquire)).unwrap_or(0))
    }
}

/// Whether the process was started with a signal ignored, by proc(5): a mask in hexadecimal digits.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_in_mask(&status, signal)
}

fn is_in_mask(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_found_in_the_mask_of_the_process() {
        let status =
            "Name:\ttidegate\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert_eq!([SIGHUP, SIGINT, SIGTERM].map(|signal| is_in_mask(status, signal)), [true, false, false]);
        assert!(!is_in_mask("", SIGHUP));
    }
}
