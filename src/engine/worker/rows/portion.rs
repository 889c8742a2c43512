//! How many records a batch may take: fewer after a failure, more after each commit.

/// By how much a batch is smaller than one that failed. Each attempt may cost a timeout, so there are to be few.
const SHRINK: usize = 4;

/// How many records a batch may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portion {
    most: usize,
    /// Up to here it doubles with each commit; beyond, where it failed before, it grows by a sixteenth.
    doubles_below: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self { most: usize::MAX, doubles_below: usize::MAX }
    }
}

impl Portion {
    /// At most `max`, as the settings have it.
    pub(crate) fn most(self, max: usize) -> usize {
        self.most.min(max).max(1)
    }

    /// A batch of so many failed.
    pub(crate) fn failed(&mut self, records: usize) {
        self.most = (records / SHRINK).max(1);
        self.doubles_below = (records / 2).max(1);
    }

    /// A batch had enough after so many: the next one takes no more, shared fairly by its inputs.
    pub(crate) fn had_enough(&mut self, records: usize) {
        self.most = records.max(1);
        self.doubles_below = self.most;
    }

    /// A batch was committed whole.
    pub(crate) fn committed(&mut self, max: usize) {
        if self.most < max {
            let more = if self.most < self.doubles_below { self.most } else { self.most / 16 + 1 };
            self.most = self.most.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_shrinks_to_one_record_and_grows_to_the_settings_again() {
        let mut portion = Portion::default();
        assert_eq!(portion.most(1_000), 1_000);
        let mut failures = 0;
        while portion.most(1_000) > 1 {
            portion.failed(portion.most(1_000));
            failures += 1;
        }
        assert_eq!(failures, 5);
        let mut commits = 0;
        while portion.most(1_000) < 1_000 {
            portion.committed(1_000);
            commits += 1;
        }
        assert!(commits < 120, "{commits}");
        portion.failed(1_000);
        portion.committed(1_000);
        assert_eq!(portion.most(1_000), 500, "far below what failed it doubles");
        portion.committed(1_000);
        assert_eq!(portion.most(1_000), 532, "and is careful where it failed before");
        portion.had_enough(40);
        assert_eq!(portion.most(1_000), 40);
    }
}
