//! The progress of one slice of a long step.

/// The progress of one slice of a restore or of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing new lay in the log, or another task has its turn.
    Nowhere,
    Further,
    /// All of the task's stores, or of its tables, are read.
    Whole,
}

impl Progress {
    /// The progress of a slice that found something new, or did not.
    pub(crate) const fn of(has_come_further: bool) -> Self {
        if has_come_further { Self::Further } else { Self::Nowhere }
    }
}
