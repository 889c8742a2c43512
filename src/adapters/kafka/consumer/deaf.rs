//! A listener that hears nothing.

use crate::flow::record::Record;
use crate::ports::source::{Listener, Membership, TaskId};

/// Ignores every event: at the end nobody is left to report to.
pub(super) struct Deaf;

impl Listener for Deaf {
    fn assigned(&mut self, _: &[TaskId], _: Membership) {}
    fn revoked(&mut self, _: &[TaskId]) {}
    fn lost(&mut self, _: &[TaskId]) {}
    fn record(&mut self, _: TaskId, _: usize, _: Record<'_>) {}
    fn out_of_range(&mut self, _: TaskId, _: usize, _: &str) {}
}
