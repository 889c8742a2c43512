//! The net under the code of a pipeline: what panics there is one record's dead letter.

use crate::flow::effect::Reject;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs what the user of this crate wrote, whatever part of a step it is: a panic there is the record's dead letter with
/// the code `panic`, and the process goes on.
///
/// # Errors
/// What `run` answers, or the panic.
pub(crate) fn in_net<T>(run: impl FnOnce() -> Result<T, Reject>) -> Result<T, Reject> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        if panic.is::<Death>() {
            resume_unwind(panic);
        }
        Err(Reject::dead_letter("panic", panic_message(&*panic)))
    })
}

/// What unwinds where a test has its instance die in the middle of an algorithm, as an abort ends a process: no panic, so
/// that the net lets it through.
#[derive(Debug)]
pub(crate) struct Death;

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the pipeline's code panicked: {}", text.unwrap_or("no message"))
}
