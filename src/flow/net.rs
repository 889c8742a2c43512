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
        Err(Reject::dead_letter("panic", panic_message(&*panic)))
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
