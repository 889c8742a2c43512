//! The step that one event asks for, once it is no longer borrowed.

use crate::adapters::kafka::ffi::{Event, Failure};
use crate::adapters::kafka::log_line;
use crate::adapters::kafka::statistics::Statistics;

/// The action that one event asks for, once the event is no longer borrowed.
pub(super) enum Step {
    Told,
    Nothing,
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
    Failed(Failure),
    Measured(Statistics),
}

impl Step {
    /// The step of an event that is no record.
    pub(super) fn of(event: Event<'_>) -> Self {
        match event {
            Event::Assign(partitions) => Self::Assign(partitions),
            Event::Revoke(partitions) => Self::Revoke(partitions),
            Event::Failure(failure) => Self::Failed(failure),
            Event::Statistics(json) => Self::Measured(Statistics::read(json)),
            Event::Line(level, facility, line) => {
                log_line(level, facility, line);
                Self::Nothing
            }
            Event::Record(_) | Event::Committed(..) | Event::Other => Self::Nothing,
        }
    }
}
