//! A record that kills the process: the algorithm that runs over it ends its instance in the middle.

use crate::flow::net::Death;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Called in an algorithm: ends the instance that runs it there and then, as a call of `abort` would end its process. No net
/// is around it, nothing is said to anybody, and its disk stays. A driver starts the instance again.
///
/// Elsewhere than in a driver or a simulation it ends the thread.
pub fn die() -> ! {
    resume_unwind(Box::new(Death))
}

/// Lets an instance do something; `None` where it died on the way.
pub(super) fn survived<T>(act: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(act)).map_err(let_through).ok()
}

/// Whether a step was ended by [`die`].
pub(super) fn is_death(panic: &(dyn std::any::Any + Send)) -> bool {
    panic.is::<Death>()
}

fn let_through(panic: Box<dyn std::any::Any + Send>) {
    if !is_death(&*panic) {
        resume_unwind(panic);
    }
}
