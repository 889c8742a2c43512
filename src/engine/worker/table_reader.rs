//! The reader of table topics of a worker, and how far it has come with one.

use crate::flow::record::NextOffset;
use crate::ports::changelog::ChangelogReader;
use crate::ports::source::TaskId;

/// The reader of table topics, while a task of the worker catches up. It serves one at a time.
pub(crate) struct TableReader {
    pub(crate) reader: Box<dyn ChangelogReader>,
    pub(crate) under_way: Option<UnderWay>,
}

#[derive(Clone, Copy)]
pub(crate) struct UnderWay {
    pub(crate) task: TaskId,
    /// Which of the task's inputs.
    pub(crate) input: usize,
    /// Whether the reader stands at `position`: not at first, and not after a fault.
    pub(crate) is_placed: bool,
    /// Everything before it is queued or decided.
    pub(crate) position: NextOffset,
    /// Where a committed reader came to the end when it began.
    pub(crate) end: NextOffset,
}
