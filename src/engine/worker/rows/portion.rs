//! The portion: the bound on the records of a batch, lower after a failure, higher after each commit.

/// The factor by which a batch is smaller than one that failed. Each attempt may cost a timeout, so there must be few.
const SHRINK: usize = 4;

/// The bound on the records of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portion {
    most: usize,
    /// Below this number the bound doubles with each commit; above it, where a batch has failed, it grows by a
    /// sixteenth.
    doubles_below: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self { most: usize::MAX, doubles_below: usize::MAX }
    }
}

impl Portion {
    /// The bound, but at most `max`, the bound of the settings.
    pub(crate) fn most(self, max: usize) -> usize {
        self.most.min(max).max(1)
    }

    /// Lowers the bound after a failed batch of `records`.
    pub(crate) fn failed(&mut self, records: usize) {
        self.most = (records / SHRINK).max(1);
        self.doubles_below = (records / 2).max(1);
    }

    /// Lowers the bound to `records`, with which a batch had enough, so that the inputs share the next one fairly.
    pub(crate) fn had_enough(&mut self, records: usize) {
        self.most = records.max(1);
        self.doubles_below = self.most;
    }

    /// Raises the bound after a batch that was committed whole.
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
