//! The net under the code of a pipeline: a panic there makes a dead letter of one record.

use crate::flow::effect::Reject;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs code that the user of this crate wrote, in any part of a step: a panic becomes the record's dead letter with the
/// code `panic`, and the process goes on.
///
/// # Errors
/// The error of `run`, or a dead letter for its panic.
pub(crate) fn in_net<T>(run: impl FnOnce() -> Result<T, Reject>) -> Result<T, Reject> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        if panic.is::<Death>() {
            resume_unwind(panic);
        }
        let reject = Reject::dead_letter("panic", panic_message(&*panic));
        // The payload is the user's, too, and so is the code that drops it.
        if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(panic))) {
            std::mem::forget(second);
        }
        Err(reject)
    })
}

/// The payload of an unwind by which a test ends its instance in the middle of an algorithm, as an abort ends a process. It
/// stands for no panic, so the net lets it through.
#[derive(Debug)]
pub(crate) struct Death;

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the pipeline's code panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload that panics once more while it is dropped.
    struct Payload;

    impl Drop for Payload {
        fn drop(&mut self) {
            std::panic::panic_any(0);
        }
    }

    #[test]
    fn a_panic_whose_payload_panics_while_it_is_dropped_is_one_dead_letter_too() {
        let result: Result<(), Reject> = in_net(|| std::panic::panic_any(Payload));
        assert_eq!(result.map_err(|reject| reject.code().to_owned()), Err("panic".into()));
    }
}
