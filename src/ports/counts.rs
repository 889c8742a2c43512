//! Counts of decided records, as an advance of a position adds them.

/// The counts of a batch, per source partition: the audit adds these up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records decided.
    pub records: i64,
    /// The sum by which the versions of rows have risen, one for each change; a row that is deleted takes its own out of it.
    pub row_changes: i64,
    /// Notices put into the outbox, dead letters not among them.
    pub announced: i64,
    /// Dead letters put into the outbox.
    pub dead_letters: i64,
    /// Records skipped.
    pub skipped: i64,
    /// Records that came too late for all of their windows, whatever became of them. Not kept with a position.
    pub late: i64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.row_changes += other.row_changes;
        self.announced += other.announced;
        self.dead_letters += other.dead_letters;
        self.skipped += other.skipped;
        self.late += other.late;
    }
}
