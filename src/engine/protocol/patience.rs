//! Warns when something has been waited for too long: K, which a pending transaction keeps unreadable until its
//! timeout, and a hanging one for ever; or any other step of a takeover.

use crate::flow::record::TopicPartition;
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::time::Duration;

/// The time between two warnings: longer than any transaction of ours and the coordinator's rounds together.
const EVERY: Duration = Duration::from_secs(30);

/// The time after which the owner of a pending commit is taken for dead: longer than the commit of a living one takes.
const COMMIT_MAX: Duration = Duration::from_secs(1);

/// The history of one operation that keeps failing.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Duration>,
    warnings: u32,
}

impl Patience {
    /// The operation has succeeded.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// Whether the failure has lasted so long that the owner of the transaction which keeps K pending is to be taken
    /// for dead.
    pub(crate) fn is_at_an_end(&self, now: Duration) -> bool {
        self.since.is_some_and(|since| now.saturating_sub(since) >= COMMIT_MAX)
    }

    /// Whether it has failed since it last succeeded.
    pub(crate) const fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// The operation failed once more. Answers how long it has kept failing, where a warning is due.
    fn is_due(&mut self, now: Duration) -> Option<Duration> {
        let waited = now.saturating_sub(*self.since.get_or_insert(now));
        if waited < EVERY * (self.warnings + 1) {
            return None;
        }
        self.warnings += 1;
        Some(waited)
    }

    /// Notes that a step of the task `id` failed once more; warns twice a minute. True when it did.
    pub(crate) fn note_failed_step(&mut self, now: Duration, id: TaskId, state: &str, fault: &Fault) -> bool {
        let waited = self.is_due(now);
        if let Some(waited) = waited {
            tracing::warn!(
                task = ?id,
                state,
                waited_s = waited.as_secs(),
                error = %fault,
                "the partition does not come further; it is tried again"
            );
        }
        waited.is_some()
    }

    /// Notes that K could not be read once more; warns twice a minute. True when it did.
    pub(crate) fn note_unread_offsets(&mut self, now: Duration, sources: &[TopicPartition], fault: &Fault) -> bool {
        let waited = self.is_due(now);
        if let Some(waited) = waited {
            let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
            tracing::warn!(
                partitions = sources.join(" "),
                waited_s = waited.as_secs(),
                error = %fault,
                "the committed offsets cannot be read and nothing moves on; where the brokers are well, a transaction hangs \
                 (KAFKA-20734): `kafka-transactions.sh find-hanging` names it, `abort` ends it"
            );
        }
        waited.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_warns_every_thirty_seconds_until_k_is_read() {
        let fault = Fault::retry("timed out");
        let mut patience = Patience::default();
        let mut warned = |seconds: u64| patience.note_unread_offsets(Duration::from_secs(seconds), &[], &fault);
        assert_eq!([5, 34, 35, 36, 64, 65].map(&mut warned), [false, false, true, false, false, true]);
        patience.end();
        assert!(!patience.note_unread_offsets(Duration::from_secs(100), &[], &fault));
    }

    #[test]
    fn it_is_at_an_end_a_second_after_k_could_first_not_be_read() {
        let mut patience = Patience::default();
        let at = Duration::from_millis;
        assert!(!patience.is_at_an_end(at(9_000)), "K was never asked for in vain");
        patience.note_unread_offsets(at(5_000), &[], &Fault::retry("timed out"));
        assert_eq!([5_000, 5_999, 6_000].map(|now| patience.is_at_an_end(at(now))), [false, false, true]);
        patience.end();
        assert!(!patience.is_at_an_end(at(9_000)));
    }
}
