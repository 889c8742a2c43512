//! How far one slice of a long step came.

/// How far a slice of a restore or of a table came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing new lay in the log, or another task has its turn.
    Nowhere,
    Further,
    /// All of the task's stores, or of its tables, are read.
    Whole,
}

impl Progress {
    /// Whether there was something new.
    pub(crate) const fn of(has_come_further: bool) -> Self {
        if has_come_further { Self::Further } else { Self::Nowhere }
    }
}
